"""The sentences that tables of rates become, and that README and conclusion hold those of the committed ones."""

import subprocess
import sys
from pathlib import Path

import pandas as pd

from ssmbook.study.summary import summary

ROOT = Path(__file__).resolve().parents[2]


def row(model, scale, carry, rate, ap, seed=0, mode="sliding"):
    return {
        "model": model,
        "mode": mode,
        "step_scale": scale,
        "carry": carry,
        "rate_hz": rate,
        "seed": seed,
        "AP": ap,
    }


def test_each_thing_that_a_table_can_say():
    rates = pd.DataFrame(
        [
            row("s5-selective", "1/k", "exact", 20.0, 0.5),
            row("s5-selective", "1/k", "exact", 20.0, 0.4, seed=1),
            row("s5-selective", "1/k", "exact", 200.0, 0.46),
            row("s5-selective", "1", "exact", 200.0, 0.2),
            row("s5-selective", "1/k", "published", 20.0, 0.35),
            row("convlstm", "1", "exact", 20.0, 0.4),
            row("convlstm", "1", "exact", 200.0, 0.3),
            row("s5", "1/k", "exact", 20.0, 0.42, mode="traces"),
            row("s5", "1/k", "exact", 200.0, 0.41, mode="traces"),
            row("s5", "1", "exact", 200.0, 0.2, mode="traces"),
            row("s5-selective-2000", "1/k", "exact", 20.0, 0.6),
            row("s5-selective-2000", "1/k", "exact", 200.0, 0.59),
            row("s5-selective-2000", "1", "exact", 200.0, 0.4),
            # A question at its side, with more seeds, of which the sentences say nothing.
            *(
                row("mamba", "1", "exact", rate, 0.9, seed=seed)
                for rate in (20.0, 200.0)
                for seed in range(3)
            ),
        ]
    )
    rest = pd.DataFrame(
        [
            {**row("s5-selective", "1/k", "exact", 20.0, 0.3), "from": 0.5, "AP_50": 0.87},
            {**row("s5-selective", "1/k", "published", 20.0, 0.0), "from": 0.5, "AP_50": 0.01},
        ]
    )
    assert summary(rates, rest) == (
        "Trained at 20 Hz (means and ranges of up to 2 seeds), selective S5 has AP 45.0 (40 to 50) at 20 Hz and 46.0 "
        "at 200 Hz with its time scale following the rate (20.0 without); a ConvLSTM has AP 40.0 at 20 Hz and 30.0 at "
        "200 Hz. On traces instead of windows (one seed) S5 has 42.0 and 41.0. With every chunk from zero instead of "
        "the carried state, selective S5 has 35.0, and of objects at rest for 0.5 to 1 s it has an AP_50 of 1 instead "
        "of 87. Trained for 2,000 steps (one seed) selective S5 has 60.0 and 59.0."
    )


def test_the_fastest_rate_is_told_where_all_seeds_were_run_at_it():
    rows = [
        row("s5", "1/k", "exact", rate, ap, seed)
        for seed in (0, 1)
        for rate, ap in ((20.0, 0.5), (200.0, 0.4))
    ]
    rows += [row("s5", "1", "exact", 1000.0, 0.1), row("s5", "1/k", "exact", 1000.0, 0.51)]
    assert "Hz" in summary(pd.DataFrame(rows))
    assert "1,000" not in summary(pd.DataFrame(rows))
    rows += [row("s5", "1/k", "exact", 1000.0, 0.53, seed=1)]
    assert summary(pd.DataFrame(rows)) == (
        "Trained at 20 Hz (means and ranges of 2 seeds), S5 has AP 50.0 (50 to 50) at 20 Hz and 40.0 at 200 Hz with "
        "its time scale following the rate, 52.0 at 1,000 Hz."
    )


def test_a_table_that_says_nothing():
    """One rate alone; a rate that is higher, but not that of training; one that was run without following alone."""
    slow, fast = row("s5", "1/k", "exact", 20.0, 0.5), row("s5", "1/k", "exact", 40.0, 0.5)
    for rows in ([slow], [fast], [slow, row("s5", "1", "exact", 40.0, 0.5)]):
        assert summary(pd.DataFrame(rows)) == ""


def test_readme_and_conclusion_say_what_the_committed_tables_do():
    check = subprocess.run(
        [sys.executable, "theme/answer.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr

"""What a table of rates says, in a few sentences: for the terminal, the README and the conclusion."""

from __future__ import annotations

import pandas as pd

from ssmbook.dataset.grid import BASE_HZ
from ssmbook.study.arms import LONGER, VARIANTS

# The models that the sentences are about.
NAMES = {"s5-selective": "selective S5", "s5": "S5", "convlstm": "a ConvLSTM"}
# What follows the rate in them.
FOLLOWING = {"convlstm": "its forget gates following"}


def summary(rates: pd.DataFrame, rest: pd.DataFrame | None = None, metric: str = "AP") -> str:
    """The answer of a profile's tables, one sentence for each thing that they can say; empty where they say none.

    Args:
        rates, rest: of ``run_arms``. Means over the seeds, AP × 100; at the rate of training with their range, for a
            mean may hide a seed that did not learn.
    """
    sliding = rates[rates["mode"] == "sliding"]
    sentences = []
    for model in (name for name in NAMES if name in set(sliding["model"])):
        own = sliding[sliding["model"] == model]
        follows = (own["step_scale"] == "1/k").any()
        scale = "1/k" if follows else "1"
        same = own[(own["carry"] == "exact") & (own["step_scale"] == scale)]
        fast = same.loc[same["rate_hz"] > BASE_HZ, "rate_hz"]
        if fast.empty or BASE_HZ not in set(same["rate_hz"]):
            continue
        rate = 200.0 if 200.0 in set(fast) else fast.max()
        base, there = _with_range(own, scale, metric), _mean(own, scale, "exact", rate, metric)
        without = _mean(own, "1", "exact", rate, metric) if follows else None
        words = f"{NAMES[model]} has AP {base} at {BASE_HZ:g} Hz and {there:.1f} at {rate:g} Hz"
        if follows:
            words += f" with {FOLLOWING.get(model, 'its time scale following the rate')}"
            words += "" if without is None else f" ({without:.1f} without)"
            words += _fastest(own, rate, metric)
        sentences.append(words)
    if not sentences:
        return ""
    text = f"Trained at {BASE_HZ:g} Hz ({_seeds(sliding)}), " + "; ".join(sentences) + "."
    traces = _traces(rates[rates["mode"] == "traces"], metric)
    return text + traces + _carry(sliding, rest, metric) + _longer(sliding, metric)


def _fastest(own: pd.DataFrame, than_hz: float, metric: str) -> str:
    """AP at the fastest rate that was run with all seeds, where that is faster; its time scale follows."""
    following = own[(own["step_scale"] == "1/k") & (own["carry"] == "exact")]
    seeds = following.groupby("rate_hz")["seed"].nunique()
    rate = seeds[seeds == seeds.max()].index.max()
    return f", {_mean(own, '1/k', 'exact', rate, metric):.1f} at {rate:,g} Hz" if rate > than_hz else ""


def _seeds(table: pd.DataFrame) -> str:
    seeds = table[table["model"].isin(NAMES)].groupby("model")["seed"].nunique()
    if seeds.max() == 1:
        return "one seed"
    return f"means and ranges of {'up to ' * (seeds.nunique() > 1)}{seeds.max()} seeds"


def _both_rates(table: pd.DataFrame, metric: str) -> str:
    """Each model at the rate of training and at ten times it, following where it can; empty where none was run so."""
    words = []
    for model in NAMES:
        own = table[table["model"] == model]
        scale = "1/k" if (own["step_scale"] == "1/k").any() else "1"
        base, there = (_mean(own, scale, "exact", rate, metric) for rate in (BASE_HZ, 10 * BASE_HZ))
        if base is not None and there is not None:
            words.append(f"{NAMES[model]} has {_with_range(own, scale, metric)} and {there:.1f}")
    return ", ".join(words)


def _traces(table: pd.DataFrame, metric: str) -> str:
    words = _both_rates(table, metric)
    return f" On traces instead of windows ({_seeds(table)}) {words}." if words else ""


def _longer(sliding: pd.DataFrame, metric: str) -> str:
    """After the fewest steps of the longer trainings. One of the ConvLSTM's got stuck, so that their mean says little
    (chapter 10)."""
    steps = min(VARIANTS[name].training["steps"] for name in LONGER)
    own = sliding[sliding["model"].str.endswith(f"-{steps}")]
    own = own.assign(model=own["model"].str.removesuffix(f"-{steps}"))
    own = own[own["model"] != "convlstm"]
    words = _both_rates(own, metric)
    return f" Trained for {steps:,} steps ({_seeds(own)}) {words}." if words else ""


def _carry(sliding: pd.DataFrame, rest: pd.DataFrame | None, metric: str) -> str:
    """What the carried state is worth to the first model that was run without it."""
    for model in NAMES:
        own = sliding[sliding["model"] == model]
        scale = "1/k" if (own["step_scale"] == "1/k").any() else "1"
        base, zero = (_mean(own, scale, carry, BASE_HZ, metric) for carry in ("exact", "published"))
        if base is None or zero is None:
            continue
        text = f" With every chunk from zero instead of the carried state, {NAMES[model]} has {zero:.1f}"
        if rest is not None:
            part = rest[(rest["from"] == 0.5) & (rest["mode"] == "sliding") & (rest["model"] == model)]
            exact, published = (
                _mean(part, scale, carry, BASE_HZ, "AP_50") for carry in ("exact", "published")
            )
            if exact is not None and published is not None:
                text += ", and of objects at rest for 0.5 to 1 s it has an AP_50 of "
                text += f"{published:.0f} instead of {exact:.0f}"
        return text + "."
    return ""


def _with_range(own: pd.DataFrame, scale: str, metric: str) -> str:
    """AP at the rate of training, with the range of the seeds where there are several."""
    values = _values(own, scale, "exact", BASE_HZ, metric)
    return f"{values.mean():.1f}" + (
        f" ({values.min():.0f} to {values.max():.0f})" if len(values) > 1 else ""
    )


def _mean(table: pd.DataFrame, scale: str, carry: str, rate_hz: float, metric: str) -> float | None:
    values = _values(table, scale, carry, rate_hz, metric)
    return None if values.empty else float(values.mean())


def _values(table: pd.DataFrame, scale: str, carry: str, rate_hz: float, metric: str) -> pd.Series:
    chosen = (table["step_scale"] == scale) & (table["carry"] == carry) & (table["rate_hz"] == rate_hz)
    return 100 * table.loc[chosen, metric].dropna()

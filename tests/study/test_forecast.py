"""What a real set's study takes: from its files where they are there, else from its published length."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from training_set import SENSOR, TRAINING, make_set

from ssmbook.cli import main
from ssmbook.detector import PRESETS, Detector
from ssmbook.errors import InputError
from ssmbook.study import Profile, Workspace
from ssmbook.study.arms import Arm, Variant
from ssmbook.study.forecast import (
    PUBLISHED_HOURS,
    Nodes,
    activation_bytes,
    evaluation_windows,
    forecast,
    makespan,
    size_of,
)
from ssmbook.study.rates import models_of

ARMS = (
    Arm("s5", "sliding", follow=True, rates_hz=(20.0, 200.0)),
    Arm("s5", "true", follow=True, rates_hz=(20.0, 200.0)),
    Arm("none", "sliding", rates_hz=(20.0,)),
)
TINY = Profile("tiny", SENSOR, "sim-smoke", replace(TRAINING, steps=1000), ARMS, seeds=(0, 1))


def test_published_lengths_serve_where_no_file_is(capsys):
    assert main(["sweep", "gen1-small", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["models"] == found["missing"] == 2
    assert sum(found["size"]["hours"].values()) == pytest.approx(PUBLISHED_HOURS["gen1"])
    assert found["windows"]["train"] == round(0.75 * 39.32 * 3600 * 20)
    assert [row["nodes"] for row in found["table"]] == [1, 8, 64]
    assert {row["models at a time"] for row in found["table"]} == {2}  # a model has one GPU
    flop = 3 * 400_000 * 8 * 21  # windows, forward and backward; a frame has more than a GFLOP
    assert found["table"][0]["GPU-hours"] > flop * 1e9 / (19.5e12 * 0.3) / 3600
    with pytest.raises(InputError, match="no published size of this set is known"):
        forecast(Workspace(TINY))


def test_training_at_another_rate_needs_sets_of_it():
    usual, fast = (
        Profile(
            "tiny",
            "gen1",
            "gen1-small",
            TRAINING,
            (Arm("own", "sliding", rates_hz=(20.0,)),),
            own_variants={"own": Variant("s5", rate_hz=rate_hz)},
        )
        for rate_hz in (20.0, 40.0)
    )
    each = [forecast(Workspace(profile)) for profile in (usual, fast)]
    learnt = 0.875 * 39.32 * 3600 * 40  # of training and validation
    assert each[1].disk_gb - each[0].disk_gb == pytest.approx(learnt * each[0].size.bytes_a_window / 1e9)


def test_files_are_read_where_they_are(tmp_path):
    make_set(tmp_path)
    place = Workspace(TINY, tmp_path)
    from_raw = size_of(place)
    assert from_raw.source == f"read from {tmp_path / 'raw'}"
    assert from_raw.hours["train"] == pytest.approx((0.65 + 0.7) / 3600, rel=0.05)  # up to the last labels
    assert from_raw.raw_gb == sum(p.stat().st_size for p in (tmp_path / "raw").rglob("*.dat")) / 1e9
    (tmp_path / "raw").rename(tmp_path / "other")
    from_set = size_of(Workspace(TINY, tmp_path / "set"))
    assert from_set.made
    assert from_set.hours == pytest.approx(from_raw.hours, rel=0.1)
    # A file of a few windows is HDF5's own bytes to a good part; the sample of the raw set is of the frames alone.
    assert 0.3 * from_set.bytes_a_window < from_raw.bytes_a_window < from_set.bytes_a_window
    found = forecast(Workspace(TINY, tmp_path / "set"), (1, 2), Nodes(gpus=1, cores=1))
    assert (found.models, found.missing) == (4, 4)
    assert found.table["hours of models"].iloc[0] == pytest.approx(found.table["GPU-hours"].iloc[0])
    assert found.table["hours of models"].iloc[1] < found.table["hours of models"].iloc[0]


def test_equal_passes_are_counted_once():
    s5, none = models_of(Workspace(TINY))[:2]
    # 20 Hz is the same pass in both modes; 200 Hz is not
    assert evaluation_windows(s5, 1 / 3600) == 20 + 200 + 200
    assert evaluation_windows(none, 1 / 3600) == 20


def test_the_last_is_done_when_no_better_order_of_the_longest_first_would_be():
    rng = np.random.default_rng(0)
    for workers in (1, 2, 3):
        durations = rng.integers(1, 9, 6).tolist()
        best = min(
            max(sum(d for d, w in zip(durations, lanes, strict=True) if w == k) for k in range(workers))
            for lanes in itertools.product(range(workers), repeat=len(durations))
        )
        assert best <= makespan(durations, workers) <= (4 / 3 - 1 / (3 * workers)) * best + 1e-9
    assert makespan([], 4) == 0


def test_activations_grow_with_the_window_and_not_with_the_weights():
    small, wide = (Detector(**{**PRESETS["sim-smoke"], "embed_dim": d}) for d in (8, 16))
    assert activation_bytes(small) > 4 * np.prod(small.input_hw) * small.in_channels  # the input alone
    assert 1.5 < activation_bytes(wide) / activation_bytes(small) < 2.5

"""Speeds from labels, and AP by them."""

import numpy as np
import pytest
from moving import SENSOR, moving, perfect

from ssmbook.errors import InputError
from ssmbook.evaluation import ap_by_speed, speeds, streaming_evaluation, time_at_rest

TIMES = np.arange(505_000, 1_505_000, 5_000)


def test_speeds_are_those_of_the_centres():
    frames = [
        np.concatenate([moving([t], 40), moving([t], -80, x0=180, track_id=1), *alone])
        for t, alone in ((505_000, []), (510_000, [moving([510_000], track_id=7)]), (530_000, []))
    ]
    found = speeds([*frames, *frames], ["a"] * 3 + ["b"] * 3)
    assert [len(s) for s in found] == [2, 3, 2] * 2
    for s in found:
        assert s[:2].tolist() == pytest.approx([40, 80], rel=1e-3)
    assert np.isnan(found[1][2])
    assert speeds([], []) == []


def test_fast_objects_lose_more_to_a_slow_detector():
    truth = {"s": np.concatenate([moving(TIMES, 10), moving(TIMES, 100, x0=-20, track_id=1)])}
    tables = [
        ap_by_speed(
            streaming_evaluation(truth, {"s": perfect(truth["s"], TIMES[::every])}, SENSOR), [0, 50, 150]
        )
        for every in (20, 1)
    ]
    slow, fast = (table["AP"].tolist() for table in tables)
    assert tables[0]["boxes"].tolist() == [200, 200]
    assert fast == pytest.approx([1, 1])
    assert slow[0] > slow[1] + 0.2


def test_labels_without_tracks_have_no_speed_and_no_rest():
    frames = [np.concatenate([moving([t], 40), moving([t], 40, x0=100)]) for t in (505_000, 510_000)]
    for measure in (speeds, time_at_rest):
        with pytest.raises(InputError, match=r"a: several boxes .* no track ids .* ap_by_size"):
            measure(frames, ["a", "a"])


def test_a_track_id_of_two_classes_is_two_objects():
    frames = [np.concatenate([moving([t], 40), moving([t], 80, class_id=1)]) for t in (500_000, 550_000)]
    assert np.concatenate(speeds(frames, ["a", "a"])) == pytest.approx([40, 80, 40, 80])
    still = [np.concatenate([moving([t], 0), moving([t], 80, class_id=1)]) for t in (500_000, 550_000)]
    assert np.concatenate(time_at_rest(still, ["a", "a"])) == pytest.approx([0, 0, 0.05, 0])

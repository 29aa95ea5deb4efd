"""Streaming AP against a slow loop and against cases worked out by hand."""

import numpy as np
import pytest
from moving import SENSOR, moving, perfect

from ssmbook.dataset import Sensor
from ssmbook.errors import InputError
from ssmbook.evaluation import evaluate_boxes, streaming_ap, streaming_evaluation
from ssmbook.evaluation.moments import boxes_at, known_us, newest, read_truth
from ssmbook.evaluation.streaming import Steps
from ssmbook.events import BOX_DTYPE, write_boxes


def slow_loop(truth, steps, latency_ms, compute_ms, times):
    """Moment by moment, step by step: what is known."""
    all_truth, all_found = [], []
    for name in sorted(truth):
        free, known = 0.0, []
        for k, end in enumerate(steps[name].times_us.tolist()):
            free = max(end, free) + 1000 * compute_ms
            latency = latency_ms[name][k] if isinstance(latency_ms, dict) else latency_ms
            known.append(free + 1000 * latency)
        for t in times[name]:
            all_truth.append(truth[name][truth[name]["t"] == t])
            last = None
            for k, moment in enumerate(known):
                if moment <= t:
                    last = k
            found = np.zeros(0, BOX_DTYPE) if last is None else steps[name].boxes[last].copy()
            found["t"] = t
            all_found.append(found)
    return evaluate_boxes(all_truth, all_found, SENSOR)


def random_case(seed):
    """Two sequences, labels every 5 ms, a detector whose boxes are near those of then."""
    rng = np.random.default_rng(seed)
    truth, steps = {}, {}
    for name in ("one", "two"):
        times = np.arange(400_000, 1_200_001, 5_000)
        tracks = [
            moving(times[rng.integers(0, 60) :], rng.uniform(-60, 120), rng.uniform(15, 40), 60, i % 2, i)
            for i in range(3)
        ]
        truth[name] = np.concatenate(tracks)
        ends = np.sort(rng.choice(np.arange(300_000, 1_200_000, 1_000), 30, replace=False))
        found = boxes_at(truth[name], ends)
        for boxes in found:
            boxes["x"] += rng.normal(0, 2, len(boxes))
            boxes["class_confidence"] = rng.uniform(0, 1, len(boxes))
        steps[name] = Steps(ends, found)
    return truth, steps


@pytest.mark.parametrize("seed", range(4))
def test_random_cases_equal_the_slow_loop(seed):
    truth, steps = random_case(seed)
    rng = np.random.default_rng(seed)
    measured = {name: rng.uniform(0, 60, len(s.times_us)) for name, s in steps.items()}
    times = {name: np.unique(boxes["t"]) for name, boxes in truth.items()}
    for latency, compute in ((0.0, 0.0), (25.0, 0.0), (0.0, 40.0), (10.0, 20.0), (measured, 0.0)):
        wanted = slow_loop(truth, steps, latency, compute, times)
        found = streaming_ap(truth, steps, SENSOR, latency_ms=latency, compute_ms=compute)
        assert found == pytest.approx(wanted, nan_ok=True, rel=0, abs=0)
        assert 0 < wanted["AP"] < 1


def test_at_the_steps_without_latency_it_is_the_plain_ap():
    truth, steps = random_case(5)
    ends = {name: s.times_us for name, s in steps.items()}
    dense = {name: np.concatenate(boxes_at(truth[name], ends[name])) for name in truth}
    frames = [boxes for name in sorted(truth) for boxes in boxes_at(truth[name], ends[name])]
    found = [boxes for name in sorted(steps) for boxes in steps[name].boxes]
    assert streaming_ap(dense, steps, SENSOR) == pytest.approx(
        evaluate_boxes(frames, found, SENSOR), nan_ok=True
    )


def test_the_error_of_a_moving_box_grows_with_its_age():
    """100 px/s and a box of 20 px: at age a ms the overlap is (20 − a/10) / (20 + a/10); below ½ from 67 ms on."""
    times = np.arange(505_000, 1_505_000, 5_000)
    truth = {"s": moving(times)}
    steps = {"s": perfect(truth["s"], times[::10])}  # every 50 ms

    def ap(latency):
        return streaming_ap(truth, steps, SENSOR, latency_ms=latency)

    ages = [ap(latency)["AP"] for latency in (0, 10, 20, 40, 80)]
    assert (np.diff(ages) < 0).all()
    # Without latency ages are 0 to 45 ms, all overlaps (20 − 4.5) / (20 + 4.5) = 0.63 or more.
    assert ap(0)["AP_50"] == pytest.approx(1)
    assert ap(0)["AP_75"] < 1  # 0.75 at 28 ms
    assert ap(70)["AP_50"] == 0
    fast = {"s": perfect(truth["s"], times)}
    assert streaming_ap(truth, fast, SENSOR)["AP"] == pytest.approx(1)
    assert streaming_ap(truth, fast, SENSOR, latency_ms=20)["AP_75"] == pytest.approx(1, abs=0.03)
    assert streaming_ap(truth, fast, SENSOR, latency_ms=35)["AP_75"] == 0


def test_a_machine_that_cannot_keep_up_falls_back():
    """Steps every 5 ms that take 8: each is 3 ms later than the one before; with 4 ms none waits."""
    ends = np.arange(5_000, 55_000, 5_000)
    assert (known_us(ends, compute_ms=8) - ends).tolist() == [8_000 + 3_000 * k for k in range(10)]
    assert (known_us(ends, latency_ms=20, compute_ms=4) - ends).tolist() == [24_000] * 10
    each = np.array([1, 20, 1, 1, 1, 1, 1, 1, 1, 1])
    assert (known_us(ends, compute_ms=each) - ends).tolist() == [
        *(1_000, 20_000, 16_000, 12_000, 8_000, 4_000, 1_000, 1_000, 1_000, 1_000)
    ]
    with pytest.raises(InputError, match="at least 0"):
        known_us(ends, -1)


def test_a_step_that_is_known_after_a_later_one_is_never_the_newest():
    steps = perfect(moving(np.arange(0, 30_001, 5_000)), [10_000, 20_000, 30_000])
    known = np.array([50_000.0, 25_000.0, 60_000.0])
    found = newest(steps, known, np.array([24_999, 25_000, 50_000, 60_000]))
    assert [boxes["x"].tolist() for boxes in found] == [[], [12.0], [12.0], [13.0]]
    assert [boxes["t"].tolist() for boxes in found] == [[], [25_000], [50_000], [60_000]]


def test_boxes_between_labels_are_interpolated_and_gaps_are_not():
    boxes = np.concatenate(
        [moving(np.array([100_000, 110_000, 200_000, 205_000])), moving([108_000], track_id=1)]
    )
    found = boxes_at(boxes, np.array([99_999, 100_000, 104_000, 108_000, 150_000, 204_000, 205_001]))
    assert [b["track_id"].tolist() for b in found] == [[], [0], [0], [0, 1], [], [0], []]
    assert found[2]["x"][0] == pytest.approx(10 + 10.4)
    assert found[5]["x"][0] == pytest.approx(10 + 20.4)
    assert [int(b["t"][0]) for b in found if len(b)] == [100_000, 104_000, 108_000, 204_000]
    assert [len(b) for b in boxes_at(boxes[:0], np.array([5]))] == [0]


def test_moments_are_those_asked_for():
    times = np.arange(505_000, 1_505_000, 5_000)
    truth = {"s": moving(times), "t": moving(times)}
    steps = {"s": perfect(truth["s"], times)}
    result = streaming_evaluation(truth, steps, SENSOR, every_ms=7)
    moments = [
        int(boxes["t"][0])
        for boxes, name in zip(result.ground_truth, result.sequences, strict=True)
        if name == "s"
    ]
    assert moments == list(range(505_000, 1_500_001, 7_000))
    assert all(
        len(found) == (name == "s") for found, name in zip(result.detections, result.sequences, strict=True)
    )
    assert result.scores.recall[0, 0, 0] == pytest.approx(0.5), "a sequence without detections is missed"
    with pytest.raises(InputError, match="detections of s, but no boxes"):
        streaming_ap({}, steps, SENSOR)
    with pytest.raises(InputError, match="every_ms is 0"):
        streaming_ap(truth, steps, SENSOR, every_ms=0)


def test_the_truth_is_read_with_all_its_times(tmp_path):
    """Labels off the sensor's grid of 50 ms too; small boxes are left out, and halved frames halve boxes."""
    (tmp_path / "test").mkdir()
    boxes = np.concatenate([moving(np.arange(5_000, 300_000, 5_000)), moving([7_000], size=2, track_id=9)])
    write_boxes(tmp_path / "test" / "a_bbox.npy", boxes.astype(BOX_DTYPE))
    sensor = Sensor("test", 200, 150, ("a", "b"), label_interval_ms=50, min_side=5)
    truth = read_truth(tmp_path, sensor)
    assert truth["a"]["t"].tolist() == list(range(5_000, 300_000, 5_000))
    halved = Sensor("test", 200, 150, ("a", "b"), label_interval_ms=50, min_side=5, downsample=True)
    np.testing.assert_allclose(read_truth(tmp_path, halved)["a"]["w"], truth["a"]["w"] / 2)


def untracked(times):
    """Two objects of a class, and none has a track id."""
    return np.concatenate([moving(times, 20), moving(times, 20, x0=100)])


def test_labels_without_tracks_keep_all_boxes_at_their_times_and_are_not_interpolated():
    times = np.arange(505_000, 1_505_000, 5_000)
    truth = {"s": untracked(times)}
    steps = {"s": perfect(truth["s"][: len(times)], times)}  # the left one alone
    result = streaming_evaluation(truth, steps, SENSOR)
    assert [len(boxes) for boxes in result.ground_truth] == [2] * len(times)
    assert result.scores.recall[0, 0, 0] == pytest.approx(0.5)
    with pytest.raises(InputError, match="s: several boxes of class id 0 have track_id 0 at 505000 µs"):
        streaming_ap(truth, steps, SENSOR, every_ms=7)
    with pytest.raises(InputError, match="no track ids"):
        boxes_at(truth["s"], times)


def test_a_sequence_without_steps_needs_no_latency_and_one_with_steps_does():
    times = np.arange(505_000, 1_505_000, 5_000)
    truth = {name: moving(times, 20) for name in "ab"}
    steps = {"a": perfect(truth["a"], times)}
    zeros = {"a": np.zeros(len(times))}
    assert streaming_ap(truth, steps, SENSOR, latency_ms=zeros) == pytest.approx(
        streaming_ap(truth, steps, SENSOR), nan_ok=True
    )
    with pytest.raises(InputError, match="no times of b, which has 200 steps"):
        streaming_ap(truth, {**steps, "b": steps["a"]}, SENSOR, compute_ms=zeros)

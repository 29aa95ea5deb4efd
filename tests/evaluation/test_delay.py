"""How long until an object is known: cases worked out by hand, and a loop over labels and steps."""

import numpy as np
import pytest
from moving import SENSOR, moving, perfect

from ssmbook.errors import InputError
from ssmbook.evaluation import Evaluation, delay_table, delays, operating_point
from ssmbook.evaluation.moments import boxes_at
from ssmbook.evaluation.protocol import score_boxes
from ssmbook.evaluation.streaming import Steps
from ssmbook.events import BOX_DTYPE

LABELS = np.arange(5_000, 3_000_001, 5_000)


def stopping(times_us, stop_us=1_000_000, rest_us=1_000_000, speed=40.0, track_id=0):
    """Drives, rests and drives on."""
    t = np.asarray(times_us)
    driven = t - np.clip(t - stop_us, 0, rest_us)
    boxes = moving(driven, speed, track_id=track_id)
    boxes["t"] = t
    return boxes


def test_an_entry_is_known_with_the_first_step_after_it():
    """It enters at 1,000 ms; steps end every 50 ms, 20 ms after the full second."""
    truth = {"s": moving(LABELS[LABELS >= 1_000_000], speed=20)}
    steps = {"s": perfect(truth["s"], np.arange(20_000, 3_000_000, 50_000))}
    for latency, compute, wanted in ((0, 0, 20), (25, 0, 45), (10, 8, 38)):
        table = delays(truth, steps, SENSOR, 0.5, latency_ms=latency, compute_ms=compute)
        assert table.loc[0].tolist() == ["s", "a", 0, "entry", 1_000_000, 2000.0, wanted]
        assert len(table) == 1


def test_objects_that_were_there_from_the_beginning_do_not_enter_but_return():
    own = LABELS[(LABELS < 800_000) | (LABELS >= 1_000_000)]
    truth = {
        "s": np.concatenate(
            [moving(own, speed=20), moving(LABELS[LABELS >= 600_000], 20, track_id=1, x0=100)]
        )
    }
    steps = {"s": perfect(truth["s"], np.arange(10_000, 3_000_000, 10_000))}
    table = delays(truth, steps, SENSOR, 0.5)
    assert table[["track_id", "kind", "t_us", "delay_ms"]].values.tolist() == [
        [0, "return", 1_000_000, 0.0],
        [1, "entry", 600_000, 0.0],
    ]


def test_a_start_after_rest():
    """A detector that sees only what moves has nothing at the start; one that remembers has it at once."""
    truth = {"s": stopping(LABELS)}
    ends = np.arange(30_000, 3_000_000, 50_000)
    remembers = {"s": perfect(truth["s"], ends)}
    moves = (ends <= 1_000_000) | (ends > 2_000_000)
    nothing = np.zeros(0, BOX_DTYPE)
    forgets = {
        "s": Steps(ends, [b if m else nothing for b, m in zip(remembers["s"].boxes, moves, strict=True)])
    }
    for steps, wanted in ((remembers, 0.0), (forgets, 2_030 - 2_005)):
        table = delays(truth, steps, SENSOR, 0.5)
        assert table[["kind", "t_us", "delay_ms"]].values.tolist() == [["start", 2_005_000, wanted]]
    assert len(delays(truth, remembers, SENSOR, 0.5, rest_s=1.5)) == 0


def test_what_is_not_correct_does_not_count():
    truth = {"s": moving(LABELS[LABELS >= 1_000_000], speed=20)}
    ends = np.arange(20_000, 3_000_000, 50_000)

    def delay(change):
        steps = perfect(truth["s"], ends)
        for boxes, end in zip(steps.boxes, ends, strict=True):
            if end < 1_500_000:
                change(boxes)
        return delays(truth, {"s": steps}, SENSOR, 0.5)["delay_ms"][0]

    def low(boxes):
        boxes["class_confidence"] = 0.49

    def other(boxes):
        boxes["class_id"] = 1

    def far(boxes):
        boxes["x"] += 8  # 7 after 50 ms: IoU 13 / 27

    def near(boxes):
        boxes["x"] += 6  # IoU 14 / 26

    assert [delay(change) for change in (low, other, far, near)] == [520, 520, 520, 20]


@pytest.mark.parametrize("seed", range(3))
def test_random_cases_equal_a_loop_over_moments(seed):
    rng = np.random.default_rng(seed)
    truth = {
        "s": np.concatenate(
            [
                moving(LABELS[rng.integers(6, 20) * 100_000 <= LABELS], 20, x0=30 * i, track_id=i)
                for i in range(4)
            ]
        )
    }
    ends = np.sort(rng.choice(LABELS, 60, replace=False))
    found = [b[rng.random(len(b)) < 0.3] for b in boxes_at(truth["s"], ends)]
    for boxes in found:
        boxes["x"] += rng.normal(0, 5, len(boxes))
    steps = {"s": Steps(ends, found)}
    table = delays(truth, steps, SENSOR, 0.5, latency_ms=7)
    assert len(table) == 4
    for row in table.itertuples():
        wanted = np.nan
        for t in np.union1d(LABELS, ends + 7_000).tolist():
            if not row.t_us <= t <= 3_000_000:
                continue
            known = np.flatnonzero(ends + 7_000 <= t)
            own = boxes_at(truth["s"][truth["s"]["track_id"] == row.track_id], np.array([t]))[0]
            boxes = found[known[-1]] if len(known) else found[0][:0]
            width = np.minimum(boxes["x"], own["x"][0]) + 20 - np.maximum(boxes["x"], own["x"][0])
            if len(boxes) and (20 * width / (800 - 20 * width)).max() >= 0.5:
                wanted = (t - row.t_us) / 1000
                break
        assert row.delay_ms == pytest.approx(wanted, nan_ok=True)


def test_the_table_counts_what_is_never_detected_as_late():
    truth = {name: moving(LABELS[LABELS >= 1_000_000], speed=20) for name in "abc"}
    ends = np.arange(20_000, 3_000_000, 50_000)
    seen = perfect(truth["a"], ends)
    table = delay_table(delays(truth, {"a": seen, "b": seen}, SENSOR, 0.5))
    assert table.loc["entry"].tolist() == pytest.approx([3, 2 / 3, 20, 20])
    assert np.isnan(delay_table(delays(truth, {"a": seen}, SENSOR, 0.5)).loc["entry", "median_ms"])


def test_the_operating_point_has_the_highest_f1():
    rng = np.random.default_rng(0)
    truth = [moving([600_000 + 50_000 * k], 20) for k in range(40)]
    found = []
    for boxes in truth:
        near, far = boxes.copy(), boxes.copy()
        near["class_confidence"] = np.round(rng.uniform(0.2, 1), 1)
        far["x"] += 100
        far["class_confidence"] = np.round(rng.uniform(0, 0.7), 1)
        found.append(np.concatenate([near, far]))
    result = Evaluation(score_boxes(truth, found, SENSOR), truth, found, ["s"] * 40, 150, 200, SENSOR)

    def f1(threshold):
        kept = [boxes["class_confidence"] >= threshold for boxes in found]
        right, wrong = (sum(k[i] for k in kept) for i in (0, 1))
        return 2 * right / (40 + right + wrong)

    scores = np.unique(np.concatenate(found)["class_confidence"].astype(float))
    assert operating_point(result) == max(scores, key=lambda s: (f1(s), s))
    empty = [boxes[:0] for boxes in truth]
    with pytest.raises(InputError, match="no operating point"):
        operating_point(
            Evaluation(score_boxes(truth, empty, SENSOR), truth, empty, ["s"] * 40, 150, 200, SENSOR)
        )


def test_labels_without_tracks_have_no_onsets():
    own = LABELS[LABELS >= 1_000_000]
    truth = {"s": np.concatenate([moving(own, 20), moving(own, 20, x0=100)])}
    with pytest.raises(InputError, match=r"s: several boxes .* no track ids"):
        delays(truth, {}, SENSOR, 0.5)
    truth["s"]["class_id"][len(own) :] = 1
    assert delays(truth, {}, SENSOR, 0.5)["class"].tolist() == ["a", "b"]

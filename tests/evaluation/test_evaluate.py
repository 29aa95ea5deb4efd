"""Properties of the evaluation: filters, ranking, and streams that carry their state."""

import numpy as np
import pytest
import torch

from ssmbook.dataset import get_sensor
from ssmbook.errors import InputError
from ssmbook.evaluation import evaluate_boxes, to_boxes
from ssmbook.evaluation.protocol import METRICS, prophesee_filter
from ssmbook.events import BOX_DTYPE


def boxes(*rows: tuple, t: int = 1_000_000) -> np.ndarray:
    """(x, y, w, h, class, score) rows as BOX_DTYPE."""
    out = np.zeros(len(rows), BOX_DTYPE)
    out["t"] = t
    for name, column in zip(
        ("x", "y", "w", "h", "class_id", "class_confidence"), zip(*rows, strict=True), strict=True
    ):
        out[name] = column
    return out


def random_frames(rng: np.random.Generator, count: int, size: float) -> list[np.ndarray]:
    def frame() -> np.ndarray:
        n = rng.integers(1, 5)
        xy, wh = rng.uniform(0, 100, (n, 2)), rng.uniform(size, 3 * size, (n, 2))
        return boxes(*np.column_stack([xy, wh, rng.integers(0, 2, n), rng.uniform(0.1, 1, n)]))

    return [frame() for _ in range(count)]


@pytest.mark.parametrize(("sensor", "size"), [("gen1", 30.0), ("gen4", 70.0)])
def test_ground_truth_against_itself_is_perfect(sensor, size):
    truth = random_frames(np.random.default_rng(0), 20, size)
    metrics = evaluate_boxes(truth, truth, sensor)
    assert metrics["AP"] == metrics["AP_50"] == metrics["AP_75"] == pytest.approx(1.0)


def test_nothing_found_is_zero_and_nothing_to_find_is_nan():
    truth = random_frames(np.random.default_rng(1), 3, 30.0)
    empty = [frame[:0] for frame in truth]
    assert evaluate_boxes(truth, empty)["AP"] == 0.0
    assert evaluate_boxes(empty, truth) == pytest.approx(dict.fromkeys(METRICS, np.nan), nan_ok=True)


def test_a_frame_without_ground_truth_is_not_counted():
    truth = random_frames(np.random.default_rng(2), 4, 30.0)
    noise = boxes((5, 5, 40, 40, 0, 1.0))
    assert evaluate_boxes([*truth, noise[:0]], [*truth, noise])["AP"] == pytest.approx(1.0)


def test_detections_on_another_clock_are_refused_and_late_ones_within_a_window_are_not():
    truth = [boxes((5, 5, 40, 40, 0, 1.0), t=t) for t in (1_000_000, 2_000_000)]
    seconds = [frame.copy() for frame in truth]
    for frame in seconds:
        frame["t"] //= 1_000_000
    with pytest.raises(InputError, match=r"1000000 to 2000000 µs.*1 to 2 µs.*same clock"):
        evaluate_boxes(truth, seconds)
    for frame in (late := [frame.copy() for frame in truth]):
        frame["t"] += 50_000
    assert evaluate_boxes(truth, late)["AP"] == pytest.approx(1.0)
    assert (
        evaluate_boxes([truth[0], truth[1][:0]], [truth[0][:0], seconds[1]])["AP"] == 0.0
    )  # no frame in common


def test_the_filter_keeps_late_and_large_boxes():
    sensor = get_sensor("gen1")
    sizes = boxes((0, 0, 9, 40, 0, 1), (0, 0, 10, 28, 0, 1), (0, 0, 10, 29, 0, 1), (0, 0, 40, 9, 0, 1))
    assert prophesee_filter(sizes, sensor)["h"].tolist() == [29]  # 10² + 28² < 30² ≤ 10² + 29²
    assert len(prophesee_filter(boxes((0, 0, 50, 50, 0, 1), t=500_000), sensor)) == 0
    assert len(prophesee_filter(boxes((0, 0, 50, 50, 0, 1), t=500_001), sensor)) == 1


def test_half_size_frames_halve_the_filter():
    sensor = get_sensor("gen4")
    small = boxes((0, 0, 29, 29, 0, 1))
    assert len(prophesee_filter(small, sensor, downsampled=True)) == 1
    assert len(prophesee_filter(small, sensor)) == 0


def test_detections_become_boxes_ranked_as_asked():
    rows = torch.tensor([[1.0, 2.0, 11.0, 22.0, 0.5, 0.8, 1.0]])
    product, by_class = (to_boxes([rows], [70_000], score)[0] for score in ("product", "class"))
    assert product.dtype == BOX_DTYPE
    assert [product[0][name] for name in ("t", "x", "y", "w", "h", "class_id")] == [70_000, 1, 2, 10, 20, 1]
    assert product["class_confidence"][0] == pytest.approx(0.4)
    assert by_class["class_confidence"][0] == pytest.approx(0.8)


def test_an_empty_frame_has_no_boxes():
    assert len(to_boxes([torch.zeros(0, 7)], [1])[0]) == 0


def test_wrong_arguments_are_named():
    with pytest.raises(InputError, match="'best'"):
        to_boxes([], [], score="best")
    with pytest.raises(InputError, match="1 frames of detections, but 2"):
        to_boxes([torch.zeros(0, 7)], [1, 2])
    with pytest.raises(InputError, match="0 frames of ground truth, but 1"):
        evaluate_boxes([], [boxes((0, 0, 50, 50, 0, 1))])


def test_frames_that_are_no_boxes_are_named():
    truth = [boxes((10, 10, 40, 40, 0, 1))] * 2
    assert evaluate_boxes(truth, [truth[0], []])["AP"] == pytest.approx(0.5, abs=0.01)
    other = np.zeros(1, [("ts", "<i8"), ("x", "<f4")])
    for frame in (other, np.zeros((1, 7))):
        with pytest.raises(InputError, match="frame 1 of the detections has no field class_confidence"):
            evaluate_boxes(truth, [truth[0], frame])


def test_detections_of_any_tensor_become_boxes():
    rows = torch.tensor([[1.0, 2.0, 5.0, 7.0, 0.5, 0.5, 1.0]])
    expected = to_boxes([rows], [5])[0]
    for other in (rows.clone().requires_grad_(), rows.bfloat16(), rows.double(), rows.numpy(), rows.tolist()):
        assert np.array_equal(to_boxes([other], [5])[0], expected)
    with pytest.raises(InputError, match=r"\[K, 7\], not \[1, 6\]"):
        to_boxes([rows[:, :6]], [5])


def test_downsampled_in_the_place_of_the_height_is_refused():
    frame = boxes((0, 0, 29, 29, 0, 1))
    assert evaluate_boxes([frame], [frame], "gen4", downsampled=True)["AP"] == pytest.approx(1)
    with pytest.raises(InputError, match="height is True; give downsampled by its name: downsampled=True"):
        evaluate_boxes([frame], [frame], "gen4", True)

"""Which boxes count, at which times they make label frames, and where the windows end.

All functions are pure. Boxes are structured arrays of ``BOX_DTYPE`` (t in µs; x, y, w, h in pixels), times
are int64 µs. The rules are those of the published preprocessing of Gen1 and 1 Mpx; the exact grid is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssmbook.dataset.sensor import Sensor
from ssmbook.errors import InputError
from ssmbook.events import read_boxes, read_coco, read_yolo

FIRST_LABEL_US = 100_000  # label frames start here, so that there is something to see
JITTER_US = 2_000  # how far a label frame may lie from its grid
GRIDS = ("exact", "published")
BOX_FILES = (
    "_bbox.npy",
    "_bbox.json",
    "_bbox",
)  # Prophesee's, COCO's, a folder of YOLO's; the first one counts
MOST_WINDOWS_BEFORE = 2_000_000  # before the first label frame: 28 hours at 50 ms


@dataclass(frozen=True)
class LabelPlan:
    """The labels of one sequence, and the windows that lead to them.

    F label frames, T windows, N boxes:
        boxes [N]: the boxes at label frames, ordered by time.
        first_box [F]: index of each label frame's first box.
        frame_times_us [F]: times of the label frames.
        window_ends_us [T]: last instant of each window, increasing.
        window_of_frame [F]: the window that ends at each label frame.
    """

    boxes: np.ndarray
    first_box: np.ndarray
    frame_times_us: np.ndarray
    window_ends_us: np.ndarray
    window_of_frame: np.ndarray


def read_labels(path: Path, sensor: Sensor) -> np.ndarray:
    """The boxes of a recording as BOX_DTYPE [N], from a file whose name ends as one of ``BOX_FILES``.

    Raises:
        InputError: as ``read_boxes``, ``read_coco`` and ``read_yolo`` do.
    """
    if path.suffix == ".json":
        return read_coco(path, sensor.classes)
    if path.is_dir():
        interval = sensor.label_interval_ms
        return read_yolo(
            path, sensor.width, sensor.height, None if interval is None else round(1000 * interval)
        )
    return read_boxes(path)


def plan_labels(
    boxes: np.ndarray, sensor: Sensor, stride_us: int, grid: str = "exact", training: bool = False
) -> LabelPlan | None:
    """Filter the boxes of one recording and place its label frames and windows.

    Args:
        boxes: as read from the label file.
        stride_us: time between the ends of successive windows.
        grid: ``"exact"`` or ``"published"``, see ``window_ends``.
        training: drop very wide boxes too, as the published training split does.

    Returns:
        None if no box at or after 100 ms is left: the sequence counts as without labels.
    """
    boxes = filter_boxes(boxes, sensor, training)
    boxes = boxes[np.argsort(boxes["t"], kind="stable")]
    times = np.unique(boxes["t"])
    if len(times) == 0 or times[-1] < FIRST_LABEL_US:
        return None
    frame_times, intervals = find_label_frames(times, label_interval_us(times, sensor))
    ends, window_of_frame = window_ends(frame_times, intervals, stride_us, grid)
    boxes = boxes[np.isin(boxes["t"], frame_times)]
    first_box = np.searchsorted(boxes["t"], frame_times, side="left").astype(np.int64)
    return LabelPlan(boxes, first_box, frame_times, ends, window_of_frame)


def filter_boxes(boxes: np.ndarray, sensor: Sensor, training: bool = False) -> np.ndarray:
    """The boxes that count, cropped to the sensor, in the order that they came in.

    1. Class: one of the sensor's. 2. Crop: x, y, x + w, y + h each clipped to [0, size − 1]; empty boxes
    are dropped. 3. Size: w² + h² ≥ diagonal², w ≥ side and h ≥ side. 4. In training: w ≤ ⌊9 · width / 10⌋.
    """
    known = boxes["class_id"] < len(sensor.classes)
    if not known.all() and not sensor.drop_other_classes:
        other = int(boxes["class_id"][~known][0])
        raise InputError(
            f"class id {other} is not one of {', '.join(sensor.classes)}; set drop_other_classes"
        )
    boxes = crop_boxes(boxes[known], sensor.height, sensor.width)
    w, h = boxes["w"], boxes["h"]
    keep = (w**2 + h**2 >= sensor.min_diagonal**2) & (w >= sensor.min_side) & (h >= sensor.min_side)
    if training:
        keep &= w <= 9 * sensor.width // 10
    return boxes[keep]


def crop_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes with x, y, x + w, y + h each clipped to [0, size − 1]; those left empty are dropped."""
    x0, x1 = np.clip(boxes["x"], 0, width - 1), np.clip(boxes["x"] + boxes["w"], 0, width - 1)
    y0, y1 = np.clip(boxes["y"], 0, height - 1), np.clip(boxes["y"] + boxes["h"], 0, height - 1)
    cropped = boxes.copy()
    cropped["x"], cropped["y"], cropped["w"], cropped["h"] = x0, y0, x1 - x0, y1 - y0
    return cropped[(cropped["w"] > 0) & (cropped["h"] > 0)]


def label_interval_us(times: np.ndarray, sensor: Sensor) -> int:
    """The base interval between label frames.

    The sensor's, if it has one; else int(3m) or int(6m), where m is the median difference of the distinct
    box times [N] and must round to 30 or 60 Hz; 100 ms for a single time.
    """
    if sensor.label_interval_ms is not None:
        return round(1000 * sensor.label_interval_ms)
    if len(times) == 1:
        return 100_000
    median = float(np.median(np.diff(times)))
    every = {30: 3, 60: 6}.get(round(1e6 / median))
    if every is None:
        raise InputError(
            f"box times come at {1e6 / median:.1f} Hz, not 30 or 60; give the sensor's label interval"
        )
    return int(every * median)


def find_label_frames(times: np.ndarray, interval_us: int) -> tuple[np.ndarray, np.ndarray]:
    """Label frames among the distinct box times (increasing [N], the last at or after 100 ms).

    The first is the first time ≥ 100 ms. A later time is a label frame if its distance to the previous one
    is within 2,000 µs of n · interval, n = round(distance / interval) ≥ 1.

    Returns:
        The times of the label frames [F], and n between consecutive ones [F − 1].
    """
    candidates = times[times >= FIRST_LABEL_US].tolist()
    frames, intervals = [candidates[0]], []
    for t in candidates[1:]:
        distance = t - frames[-1]
        n = round(distance / interval_us)
        if n >= 1 and abs(distance - n * interval_us) <= JITTER_US:
            frames.append(t)
            intervals.append(n)
    return np.array(frames, dtype=np.int64), np.array(intervals, dtype=np.int64)


def window_ends(
    frame_times: np.ndarray, intervals: np.ndarray, stride_us: int, grid: str = "exact"
) -> tuple[np.ndarray, np.ndarray]:
    """Where windows end, so that one ends at each label frame.

    From the first label frame backwards in steps of the stride while > 0, the earliest of them dropped;
    then k equal steps between consecutive label frames. Exact grid: k = round(distance / stride), at least
    1. Published grid: k = n · ⌊100 ms / stride⌋; where a label interval is not 100 ms, as on Gen1, its
    windows are therefore not a stride apart.

    Args:
        frame_times [F], intervals [F − 1]: as ``find_label_frames`` gives them.

    Returns:
        window ends [T], and the index among them of each label frame [F]; both int64.
    """
    if grid == "published":
        steps = intervals * (100_000 // stride_us)
    else:
        steps = np.array(
            [max(1, round(d / stride_us)) for d in np.diff(frame_times).tolist()], dtype=np.int64
        )
    first = int(frame_times[0])
    if first > MOST_WINDOWS_BEFORE * stride_us:
        raise InputError(
            f"the first label is {first / 3.6e9:.0f} hours after 0 µs, and windows are laid from 0 on; count the "
            "times of events and boxes from the start of the recording: subtract its first stamp, which ssmbook info "
            "prints, from both"
        )
    before = list(range(first, 0, -stride_us))[1:-1][::-1]
    # Truncating linspace rather than exact division: the published grid is made so.
    between = [
        np.linspace(a, b, k + 1)[1:].astype(np.int64)
        for a, b, k in zip(frame_times[:-1], frame_times[1:], steps, strict=True)
    ]
    ends = np.concatenate([np.array([*before, first], dtype=np.int64), *between])
    return ends, len(before) + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)

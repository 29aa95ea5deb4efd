"""The Prophesee protocol: which boxes count, and how detections of them are scored.

Source: the evaluation of the Gen1 and 1 Mpx automotive detection sets, as detectors for event cameras report it. Only
labelled frames count, boxes of the first half second and small boxes do not; the rest is COCO's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssmbook.dataset import Sensor, get_sensor
from ssmbook.dataset import Sequence as Recorded
from ssmbook.errors import InputError
from ssmbook.evaluation.average_precision import IOU, Boxes, outside_areas, precision_table
from ssmbook.events import BOX_DTYPE

METRICS = ("AP", "AP_50", "AP_75", "AP_S", "AP_M", "AP_L")
MAX_APART_US = 100_000  # between a frame's ground truth and its detections, on the same clock


def prophesee_filter(boxes: np.ndarray, sensor: Sensor, downsampled: bool = False) -> np.ndarray:
    """The boxes that count: later than the first half second, and not too small.

    ``t > sensor.eval_skip_us``, ``w² + h² ≥ diagonal²``, ``w ≥ side`` and ``h ≥ side``; the lengths are halved
    when the frames are the sensor's at half size.
    """
    return boxes[_counts(boxes, sensor, downsampled)]


def _counts(boxes: np.ndarray, sensor: Sensor, downsampled: bool) -> np.ndarray:
    scale = 0.5 if downsampled else 1.0
    diagonal, side = scale * sensor.eval_min_diagonal, scale * sensor.eval_min_side
    w, h = boxes["w"], boxes["h"]
    return (boxes["t"] > sensor.eval_skip_us) & (w**2 + h**2 >= diagonal**2) & (w >= side) & (h >= side)


def check_counted(sequences: Sequence[Recorded], split: Path, sensor: Sensor) -> None:
    """Say so where no box of a split counts, for then there is no AP.

    Raises:
        InputError: none does.
    """
    for sequence in sequences:
        labels = (sequence.labels_at(i) for i in range(len(sequence.label_frames)))
        some = any(len(prophesee_filter(boxes, sensor, sensor.downsample)) for boxes in labels)
        sequence.close()
        if some:
            return
    skip, diagonal, side = sensor.eval_skip_us, sensor.eval_min_diagonal, sensor.eval_min_side
    raise InputError(
        f"{split}: no box counts in evaluation; for sensor {sensor.name!r} those count that are later than "
        f"eval_skip_us = {skip}, with eval_min_diagonal {diagonal:g} and eval_min_side {side:g}: change its YAML file"
    )


@dataclass(frozen=True)
class Scores:
    """Average precision of one set of detections, and what it is the mean of.

    precision [10, 101, C, 4]: at IoU 0.50:0.05:0.95, recall 0:0.01:1, for each class and for boxes of all, small,
        medium and large size; −1, as COCO has it, where there is no such box to find.
    recall [10, C, 4]: the highest that is reached.
    classes: C names.
    """

    precision: np.ndarray
    recall: np.ndarray
    classes: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """``METRICS`` in 0..1, NaN where there is nothing to find."""
        p = self.precision
        parts = [p[..., 0], p[0, ..., 0], p[5, ..., 0], p[..., 1], p[..., 2], p[..., 3]]
        return {name: mean_of_known(part) for name, part in zip(METRICS, parts, strict=True)}

    @property
    def per_class(self) -> dict[str, float]:
        """AP of each class; NaN where there is nothing to find."""
        return {name: mean_of_known(self.precision[:, :, c, 0]) for c, name in enumerate(self.classes)}

    def curve(self, class_id: int, iou: float = 0.5) -> np.ndarray:
        """Precision of one class at the 101 recalls ``average_precision.RECALL``, at one of the thresholds.

        NaN where there is nothing to find.
        """
        row = np.flatnonzero(np.isclose(IOU, iou))
        if len(row) == 0:
            raise InputError(f"iou is {iou}; it can be {', '.join(f'{value:.2f}' for value in IOU)}")
        curve = self.precision[row[0], :, class_id, 0]
        return np.where(curve > -1, curve, np.nan)


def mean_of_known(values: np.ndarray) -> float:
    """The mean of a part of ``precision_table``, whose −1 stand for nothing to find; NaN where all are."""
    known = values[values > -1]
    return float(known.mean()) if len(known) else math.nan


def evaluate_boxes(
    ground_truth: Sequence[np.ndarray],
    detections: Sequence[np.ndarray],
    sensor: str | Sensor = "gen1",
    height: int = 240,
    width: int = 304,
    downsampled: bool = False,
    ignored: Sequence[np.ndarray] | None = None,
) -> dict[str, float]:
    """Average precision of detections by the Prophesee protocol.

    Args:
        ground_truth, detections: one array of ``BOX_DTYPE`` per labelled frame, in the same order;
            detections are ranked by ``class_confidence``, and no more than the 100 best of a class count.
        sensor: its classes and evaluation filters.
        height, width: of the evaluated frame in pixels; a record of what was evaluated, the score does not
            depend on them.
        downsampled: the frame is the sensor's at half size, so the filters are halved.
        ignored: one array of bool per frame: boxes of the ground truth that are regions to ignore (COCO's iscrowd): to
            miss one costs nothing, and a detection of its class is neither right nor wrong where the share of it that
            lies in the region is at least the IoU threshold.

    Returns:
        ``AP`` (over IoU 0.50:0.05:0.95), ``AP_50``, ``AP_75`` and ``AP_S``, ``AP_M``, ``AP_L`` (COCO's size
        classes) in 0..1; NaN where no ground truth is left to score.

    Raises:
        InputError: lists of different length, a class that the sensor does not have, a value that is not
            finite, detections on another clock than the ground truth, a bool in the place of the height.
    """
    if isinstance(height, bool | np.bool_):
        raise InputError(f"height is {height}; give downsampled by its name: downsampled={height}")
    return score_boxes(ground_truth, detections, sensor, downsampled, ignored).metrics


def score_boxes(
    ground_truth: Sequence[np.ndarray],
    detections: Sequence[np.ndarray],
    sensor: str | Sensor = "gen1",
    downsampled: bool = False,
    ignored: Sequence[np.ndarray] | None = None,
) -> Scores:
    """As ``evaluate_boxes``, with precision and recall of each class."""
    sensor = get_sensor(sensor)
    truth, detected, counts = counted(ground_truth, detections, sensor, downsampled, ignored)
    region = None if ignored is None else np.concatenate([np.zeros(0, bool), *ignored])[counts]
    views = outside_areas(truth), outside_areas(detected)
    return Scores(*precision_table(truth, detected, *views, len(sensor.classes), region), sensor.classes)


def counted(
    ground_truth: Sequence[np.ndarray],
    detections: Sequence[np.ndarray],
    sensor: Sensor,
    downsampled: bool = False,
    ignored: Sequence[np.ndarray] | None = None,
) -> tuple[Boxes, Boxes, np.ndarray]:
    """The boxes and detections that count, and which of all boxes of ``ground_truth``, one after another, do.

    A frame without a box to find, which an ignored one is not, is not counted, whatever is detected in it.
    """
    if len(ground_truth) != len(detections):
        raise InputError(f"{len(ground_truth)} frames of ground truth, but {len(detections)} of detections")
    if ignored is not None and [np.shape(i) for i in ignored] != [(len(boxes),) for boxes in ground_truth]:
        raise InputError("ignored must be one array of bool for each frame of ground truth, one bool a box")
    (truth, truth_frame), (detected, detected_frame) = (
        _flat(frames, sensor, what)
        for frames, what in ((ground_truth, "ground truth"), (detections, "detections"))
    )
    _check_clocks(truth, truth_frame, detected, detected_frame)
    truth_counts = _counts(truth, sensor, downsampled)
    seen = np.zeros(len(ground_truth), bool)
    wanted = (
        truth_counts if ignored is None else truth_counts & ~np.concatenate([np.zeros(0, bool), *ignored])
    )
    seen[truth_frame[wanted]] = True
    truth_counts &= seen[truth_frame]
    detected_counts = _counts(detected, sensor, downsampled) & seen[detected_frame]
    return (
        _boxes(truth[truth_counts], truth_frame[truth_counts]),
        _boxes(detected[detected_counts], detected_frame[detected_counts]),
        truth_counts,
    )


def _check_clocks(
    truth: np.ndarray, truth_frame: np.ndarray, detected: np.ndarray, detected_frame: np.ndarray
) -> None:
    """Refuse detections on another clock: then the filters take them for early ones, and AP would be 0."""
    shared, at, other = np.intersect1d(truth_frame, detected_frame, return_indices=True)
    if len(shared) == 0:
        return
    apart = np.abs(truth["t"][at].astype(np.float64) - detected["t"][other].astype(np.float64))
    if apart.min() <= MAX_APART_US:
        return
    ranges = (f"{boxes['t'].min()} to {boxes['t'].max()} µs" for boxes in (truth, detected))
    raise InputError(
        "ground truth lies at {}, but detections at {}: give both on the same clock".format(*ranges)
    )


def _flat(frames: Sequence[np.ndarray], sensor: Sensor, what: str) -> tuple[np.ndarray, np.ndarray]:
    """All frames' boxes in one array, and the frame of each; checked."""
    parts = [_as_boxes(i, rows, what) for i, rows in enumerate(map(np.asarray, frames)) if len(rows)]
    # As plain bytes: numpy joins structured arrays field by field, and works out their common type array by array.
    plain = np.dtype((np.void, BOX_DTYPE.itemsize))
    boxes = np.concatenate([np.zeros(0, plain), *(rows.view(plain) for rows in parts)]).view(BOX_DTYPE)
    frame = np.repeat(np.arange(len(frames)), [len(rows) for rows in frames])
    values = np.stack([boxes[name] for name in ("x", "y", "w", "h", "class_confidence")])
    bad = ~np.isfinite(values).all(0) | (boxes["class_id"] >= len(sensor.classes))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"frame {frame[i]} of the {what} holds {boxes[i]}, with a value that is not finite or a class that is"
            f" not one of {', '.join(sensor.classes)}"
        )
    return boxes, frame


def _as_boxes(i: int, rows: np.ndarray, what: str) -> np.ndarray:
    """The rows of frame i as BOX_DTYPE, contiguous."""
    if rows.dtype == BOX_DTYPE:
        return np.ascontiguousarray(rows)
    if missing := set(BOX_DTYPE.names or ()) - set(rows.dtype.names or ()):
        raise InputError(f"frame {i} of the {what} has no field {min(missing)}; give arrays of BOX_DTYPE")
    boxes = np.zeros(len(rows), BOX_DTYPE)
    for name in BOX_DTYPE.names or ():
        boxes[name] = rows[name]
    return boxes


def _boxes(boxes: np.ndarray, frame: np.ndarray) -> Boxes:
    xywh = np.stack([boxes[name].astype(np.float64) for name in "xywh"], axis=1)
    score = boxes["class_confidence"].astype(np.float64)
    return Boxes(frame, boxes["class_id"].astype(np.int64), xywh, score)

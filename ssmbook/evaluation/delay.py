"""How long it takes until an object is known: from its entry, and from its start after rest, to the first correct box.

A box is correct at a moment if it has the object's class, overlaps where the object is then by IoU ≥ 0.5, and has a
score at or above an operating point. What a detector knows at a moment, latency included, is as in streaming AP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from ssmbook.dataset import Sensor, get_sensor
from ssmbook.errors import InputError
from ssmbook.evaluation.average_precision import RIGHT, WRONG, match_detections, overlaps
from ssmbook.evaluation.breakdown import time_at_rest
from ssmbook.evaluation.moments import (
    GAP_US,
    Latency,
    boxes_at,
    check_tracks,
    known_us,
    labels_of,
    newest,
    of_sequence,
)
from ssmbook.evaluation.protocol import counted, prophesee_filter
from ssmbook.evaluation.streaming import Evaluation, Steps

IOU_CORRECT = 0.5
STARTED_PX = (
    0.02  # how far a centre goes before its object has started; labels of a simulation are as exact as that
)
ENTRY, RETURN, START = "entry", "return", "start"


def operating_point(result: Evaluation) -> float:
    """The score at which F1 at IoU 0.5 is highest, over all classes; choose it on the validation split.

    Where several have the same F1, the highest score.

    Raises:
        InputError: no detection is right.
    """
    truth, detected, _ = counted(
        result.ground_truth, result.detections, result.sensor, result.sensor.downsample
    )
    ignored, outside = (np.zeros((1, len(boxes.frame)), bool) for boxes in (truth, detected))
    kind, order = match_detections(truth, detected, ignored, outside, np.array([IOU_CORRECT]))
    scores = detected.score[order]
    ranked = np.argsort(-scores, kind="stable")
    scores, kind = scores[ranked], kind[0, 0, ranked]
    right, wrong = np.cumsum(kind == RIGHT), np.cumsum(kind == WRONG)
    if len(right) == 0 or right[-1] == 0:
        raise InputError(
            "no detection is right at IoU 0.5: there is no operating point; train the model longer"
        )
    f1 = 2 * right / (len(truth.frame) + right + wrong)
    f1[:-1][scores[:-1] == scores[1:]] = 0  # of equal scores, all are taken or none
    return float(scores[f1.argmax()])


def delays(
    truth: Mapping[str, np.ndarray],
    steps: Mapping[str, Steps],
    sensor: str | Sensor,
    threshold: float,
    *,
    latency_ms: Latency = 0.0,
    compute_ms: Latency = 0.0,
    rest_s: float = 0.5,
    started_px: float = STARTED_PX,
) -> pd.DataFrame:
    """For each onset, the time until the newest known detections hold a correct box of the object.

    An object enters at its first label that counts, unless that lies in the first ``eval_skip_us``; it returns after
    a gap of more than 60 ms in its labels; it starts when it moves after a rest. Labels must be dense: 5 ms apart,
    the start is known to 5 ms.

    Args:
        truth, steps, latency_ms, compute_ms: see ``streaming_evaluation``.
        threshold: the score of the operating point, see ``operating_point``.
        rest_s: minimum time at rest before a start.
        started_px: how far the centre moves before it has started; for labels with noise, more than that.

    Returns:
        One row per onset: sequence, class, track_id, kind ("entry", "return" or "start"), t_us of the onset,
        seen_ms from there to the object's last label before a gap, and delay_ms, NaN where no box was correct until
        then. A detector that has a correct box at the onset itself, as of an object that it remembers, has 0.

    Raises:
        InputError: labels without tracks, see ``check_tracks``; steps without a time of their own.
    """
    sensor = get_sensor(sensor)
    nothing = Steps(np.zeros(0, np.int64), [])
    rows = []
    for name in sorted(truth):
        check_tracks(truth[name], name)
        own = steps.get(name, nothing)
        known = known_us(own.times_us, *(of_sequence(v, name, own) for v in (latency_ms, compute_ms)))
        known = np.ceil(known).astype(np.int64)
        for kind, onset, boxes in onsets(truth[name], sensor, rest_s, started_px):
            end = int(boxes["t"][-1])
            row = {
                "sequence": name,
                "class": sensor.classes[boxes["class_id"][0]],
                "track_id": int(boxes["track_id"][0]),
                "kind": kind,
                "t_us": onset,
                "seen_ms": (end - onset) / 1000,
            }
            rows.append(row | {"delay_ms": _delay_us(boxes, own, known, onset, threshold) / 1000})
    columns = ["sequence", "class", "track_id", "kind", "t_us", "seen_ms", "delay_ms"]
    return pd.DataFrame(rows, columns=columns)


def delay_table(table: pd.DataFrame) -> pd.DataFrame:
    """By kind of onset: how many, the share that was ever detected, and the median and mean of delay_ms.

    The median is of all, those never detected counting as later than any; NaN where they are half or more. The mean is
    of the detected.
    """
    late = table.assign(late=table["delay_ms"].fillna(np.inf)).groupby("kind", sort=False)
    rows = pd.DataFrame(
        {
            "onsets": late.size(),
            "detected": late["delay_ms"].count() / late.size(),
            "median_ms": late["late"].median(),
            "mean_ms": late["delay_ms"].mean(),
        }
    )
    return rows.where(np.isfinite(rows))


def onsets(
    boxes: np.ndarray, sensor: Sensor, rest_s: float, started_px: float
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Kind and time of each onset in one sequence, and the object's labels [N] until it is out of sight."""
    counts = prophesee_filter(boxes, sensor, sensor.downsample)
    seen = boxes[boxes["t"] <= sensor.eval_skip_us]
    for track in np.unique(counts[["class_id", "track_id"]]):
        own = labels_of(counts, track)
        cuts = np.flatnonzero(np.diff(own["t"]) > GAP_US) + 1
        before = labels_of(seen, track)["t"]
        for i, stretch in enumerate(np.split(own, cuts)):
            first = int(stretch["t"][0])
            if i:
                yield RETURN, first, stretch
            elif len(before) == 0 or first - int(before.max()) > GAP_US:
                yield (RETURN if len(before) else ENTRY), first, stretch
            rest = np.concatenate(
                time_at_rest(np.split(stretch, len(stretch)), [""] * len(stretch), started_px)
            )
            for k in np.flatnonzero((rest[1:] == 0) & (rest[:-1] >= rest_s)) + 1:
                yield START, int(stretch["t"][k]), stretch


def _delay_us(boxes: np.ndarray, steps: Steps, known: np.ndarray, onset: int, threshold: float) -> float:
    """µs from the onset to the first moment at which the newest detections hold a correct box; NaN: never."""
    moments = np.union1d(known, boxes["t"])  # the object may move to where a box is
    moments = moments[(moments >= onset) & (moments <= boxes["t"][-1])]
    detected = newest(steps, known, moments)
    for t, there, rows in zip(moments.tolist(), boxes_at(boxes, moments), detected, strict=True):
        rows = rows[(rows["class_id"] == boxes["class_id"][0]) & (rows["class_confidence"] >= threshold)]
        if len(rows) and overlaps(_xywh(there), _xywh(rows), np.zeros(1, bool)).max() >= IOU_CORRECT:
            return float(t - onset)
    return float("nan")


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.stack([boxes[name].astype(np.float64) for name in "xywh"], axis=1)

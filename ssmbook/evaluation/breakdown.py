"""Average precision by kinds of boxes: by their size, by how fast they move, by how long ago the object last moved.

The AP of some boxes ignores all others: they cost nothing when missed, and who finds them neither gains nor
loses. Detections that match no box at all count as wrong in every kind, unless the kind is one of size and they
have another. So kinds that are rare have more wrong detections for each of their boxes, and a lower AP for that
reason alone: compare models within a kind rather than kinds with each other, and see recall beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from ssmbook.evaluation.average_precision import Boxes, precision_table
from ssmbook.evaluation.moments import check_tracks
from ssmbook.evaluation.protocol import counted, mean_of_known
from ssmbook.evaluation.streaming import Evaluation
from ssmbook.events import BOX_DTYPE

MOVED_PX = 1.0  # how far a centre goes before the object has moved


def ap_by_size(result: Evaluation, edges_px: Sequence[float]) -> pd.DataFrame:
    """AP of boxes whose diagonal in pixels lies in [edge, next edge), and so on.

    Returns:
        One row per interval: from, to, boxes, AP, AP_50, recall_50 (the highest that is reached); NaN where
        there is no box.
    """
    truth, detected, _ = counted(
        result.ground_truth, result.detections, result.sensor, result.sensor.downsample
    )
    sizes = (np.hypot(boxes.xywh[:, 2], boxes.xywh[:, 3]) for boxes in (truth, detected))
    ignored, outside = (~_within(size, edges_px) for size in sizes)
    return _table(result, truth, detected, edges_px, ignored, outside)


def ap_by_rest(result: Evaluation, edges_s: Sequence[float], moved_px: float = MOVED_PX) -> pd.DataFrame:
    """AP of boxes whose object has been at rest for a time in [edge, next edge) seconds, and so on.

    Returns:
        As ``ap_by_size``.
    """
    truth, detected, counts = counted(
        result.ground_truth, result.detections, result.sensor, result.sensor.downsample
    )
    rest = np.concatenate([np.zeros(0), *time_at_rest(result.ground_truth, result.sequences, moved_px)])
    ignored = ~_within(rest[counts], edges_s)
    outside = np.zeros((len(ignored), len(detected.frame)), bool)
    return _table(result, truth, detected, edges_s, ignored, outside)


def ap_by_speed(result: Evaluation, edges_px_s: Sequence[float]) -> pd.DataFrame:
    """AP of boxes whose centre moves at a speed in [edge, next edge) pixels a second, and so on; see ``speeds``.

    Returns:
        As ``ap_by_size``.
    """
    truth, detected, counts = counted(
        result.ground_truth, result.detections, result.sensor, result.sensor.downsample
    )
    speed = np.concatenate([np.zeros(0), *speeds(result.ground_truth, result.sequences)])
    ignored = ~_within(speed[counts], edges_px_s)
    outside = np.zeros((len(ignored), len(detected.frame)), bool)
    return _table(result, truth, detected, edges_px_s, ignored, outside)


def _within(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Which values lie in which interval: [len(edges) − 1, N]."""
    low, high = np.asarray(edges[:-1])[:, None], np.asarray(edges[1:])[:, None]
    return (values >= low) & (values < high)


def _table(
    result: Evaluation,
    truth: Boxes,
    detected: Boxes,
    edges: Sequence[float],
    ignored: np.ndarray,
    outside: np.ndarray,
) -> pd.DataFrame:
    precision, recall = precision_table(truth, detected, ignored, outside, len(result.sensor.classes))
    rows = []
    for v, (low, high) in enumerate(pairwise(edges)):
        parts = {"AP": precision[..., v], "AP_50": precision[0, ..., v], "recall_50": recall[0, :, v]}
        means = {name: mean_of_known(part) for name, part in parts.items()}
        rows.append({"from": low, "to": high, "boxes": int((~ignored[v]).sum()), **means})
    return pd.DataFrame(rows)


def time_at_rest(
    frames: Sequence[np.ndarray], sequences: Sequence[str], moved_px: float = MOVED_PX
) -> list[np.ndarray]:
    """Seconds since each box's object last moved, from the labels alone.

    An object is a ``track_id`` of a class in a sequence. It has moved when the centre of its box lies ``moved_px``
    pixels or more from where it was when it last moved, so that a slow creep adds up; when it is first seen it counts
    as moving. The time is that since the label at which it last moved: 0 while it moves. What counts is movement in
    the picture, whoever moves, for that is what makes events.

    Args:
        frames: one array of ``BOX_DTYPE`` per labelled frame, in order of time within a sequence.
        sequences: the name of each frame's sequence.

    Returns:
        One array per frame.

    Raises:
        InputError: labels without tracks, see ``moments.check_tracks``.
    """
    last: dict[tuple[str, int, int], tuple[float, float, int]] = {}  # centre and time when it last moved
    rest = []
    for boxes, sequence in zip(frames, sequences, strict=True):
        check_tracks(boxes, sequence)
        seconds = np.zeros(len(boxes))
        for i, box in enumerate(boxes):
            key = sequence, int(box["class_id"]), int(box["track_id"])
            x, y, t = float(box["x"] + box["w"] / 2), float(box["y"] + box["h"] / 2), int(box["t"])
            if key not in last or np.hypot(x - last[key][0], y - last[key][1]) >= moved_px:
                last[key] = x, y, t
            seconds[i] = (t - last[key][2]) / 1e6
        rest.append(seconds)
    return rest


def speeds(frames: Sequence[np.ndarray], sequences: Sequence[str]) -> list[np.ndarray]:
    """How fast the centre of each box moves, in px/s, from the labels alone.

    From its label before to the one after, or the one that there is; NaN for an object with a single label. At the edge
    of the frame, where boxes are clipped, a centre moves at half the speed of the object.

    Args, returns, raises: as ``time_at_rest``.
    """
    for boxes, sequence in zip(frames, sequences, strict=True):
        check_tracks(boxes, sequence)
    joined = np.concatenate([np.zeros(0, BOX_DTYPE), *frames])
    _, name = np.unique(np.repeat(np.array(sequences, str), [len(f) for f in frames]), return_inverse=True)
    order = np.lexsort((joined["t"], joined["track_id"], joined["class_id"], name))
    rows, object_name = joined[order], name[order]
    track = rows[["class_id", "track_id"]]
    same = (track[1:] == track[:-1]) & (object_name[1:] == object_name[:-1])
    index = np.arange(len(rows))
    before, after = index - np.append(False, same)[: len(rows)], index + np.append(same, False)[: len(rows)]
    t, x, y = rows["t"] / 1e6, rows["x"] + rows["w"] / 2, rows["y"] + rows["h"] / 2
    way = np.hypot(x[after] - x[before], y[after] - y[before])
    speed = np.empty(len(rows))
    with np.errstate(invalid="ignore"):
        speed[order] = way / (t[after] - t[before])
    return np.split(speed, np.cumsum([len(f) for f in frames])[:-1]) if len(frames) else []

"""Detections of one object in consecutive windows get one id, by the overlap of their boxes.

Association is greedy: of all pairs of a track and a detection of one class with IoU ≥ the threshold, the pair with the
largest IoU is matched first. There is no motion model: windows come 20 times a second or more, and a box then moves by
a fraction of its size. A track without a match is kept for a while, since an object that stops fires no events.
"""

from __future__ import annotations

import numpy as np
import torch

from ssmbook.detector.boxes import box_iou
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE


class Tracker:
    """Ids for the detections of a stream; its memory is the tracks of the last ``patience_us``.

    Args:
        iou: minimum overlap of a detection with a track's last box, in (0, 1].
        patience_us: how long a track without a match is kept.

    Raises:
        InputError: iou or patience_us is out of range.
    """

    def __init__(self, iou: float = 0.3, patience_us: int = 500_000) -> None:
        if not 0 < iou <= 1 or patience_us < 0:
            raise InputError(
                f"a tracker with iou {iou} and patience {patience_us} µs; give 0 < iou ≤ 1 and 0 µs or more"
            )
        self.iou, self.patience_us = iou, patience_us
        self._tracks = np.zeros(0, BOX_DTYPE)  # the last box of each
        self.count = 0  # of tracks so far; their ids are 1 to count, 0 is no track

    def update(self, boxes: np.ndarray, t_us: int) -> np.ndarray:
        """The detections of the next window, BOX_DTYPE [N], with ``track_id`` set: from 1 on, each object's own.

        Args:
            boxes: of one window; not changed.
            t_us: the end of the window.
        """
        boxes, tracks = boxes.copy(), self._tracks
        overlap = pairwise_iou(tracks, boxes)
        overlap[tracks["class_id"][:, None] != boxes["class_id"]] = 0
        boxes["track_id"] = 0
        matched = np.zeros(len(tracks), bool)
        pairs = np.argwhere(overlap >= self.iou)
        for i, j in pairs[np.argsort(-overlap[tuple(pairs.T)], kind="stable")].tolist():
            if not matched[i] and boxes["track_id"][j] == 0:
                matched[i], boxes["track_id"][j] = True, tracks["track_id"][i]
        new = np.flatnonzero(boxes["track_id"] == 0)
        boxes["track_id"][new] = self.count + 1 + np.arange(len(new))
        self.count += len(new)
        kept = tracks[~matched & (tracks["t"] >= t_us - self.patience_us)]
        self._tracks = np.concatenate([kept, boxes]).astype(BOX_DTYPE)
        return boxes


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes BOX_DTYPE [N] and [M] as float64 [N, M]."""
    return box_iou(_centred(a)[:, None], _centred(b)[None]).nan_to_num(0.0).numpy()


def _centred(boxes: np.ndarray) -> torch.Tensor:
    x, y, w, h = (boxes[name].astype(np.float64) for name in "xywh")
    return torch.from_numpy(np.stack([x + w / 2, y + h / 2, w, h], 1))

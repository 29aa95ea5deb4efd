"""Boxes: anchors, decoding, overlap, and non-maximum suppression.

A box is (cx, cy, w, h) in pixels unless said otherwise. An anchor is one cell of a feature map: its column,
its row, and the map's stride. Source: YOLOX (arXiv 2107.08430), section 2.1.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ssmbook.compiled import njit
from ssmbook.errors import InputError


def anchor_grid(input_hw: tuple[int, int], strides: Sequence[int]) -> Tensor:
    """The anchors of all levels, level by level and row by row: [A, 3] of column, row, stride."""
    levels = []
    for stride in strides:
        rows, columns = torch.meshgrid(
            torch.arange(input_hw[0] // stride), torch.arange(input_hw[1] // stride), indexing="ij"
        )
        levels.append(torch.stack([columns, rows, torch.full_like(rows, stride)], -1).flatten(0, 1))
    return torch.cat(levels).float()


def decode(raw: Tensor, anchors: Tensor) -> Tensor:
    """Raw output [..., A, 4], anchors [A, 3] → boxes [..., A, 4].

    (cx, cy) = (raw + (column, row)) · stride,   (w, h) = exp(raw) · stride.
    """
    cells, stride = anchors[:, :2], anchors[:, 2:]
    return torch.cat([(raw[..., :2] + cells) * stride, raw[..., 2:4].exp() * stride], -1)


def corners(boxes: Tensor) -> Tensor:
    """cx, cy, w, h → x1, y1, x2, y2, on the last axis."""
    centre, half = boxes[..., :2], boxes[..., 2:4] / 2
    return torch.cat([centre - half, centre + half], -1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes [..., 4] with boxes [..., 4] that broadcast against each other."""
    (a_low, a_high), (b_low, b_high) = corners(a).split(2, -1), corners(b).split(2, -1)
    overlap = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0)
    intersection = overlap[..., 0] * overlap[..., 1]
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - intersection
    return intersection / (union + 1e-16)  # two empty boxes: 0


def nms(predictions: Tensor, confidence: float = 0.001, iou: float = 0.45) -> list[Tensor]:
    """Detections out of dense predictions, by non-maximum suppression class by class.

    The class is the best one; kept are boxes with objectness · class ≥ ``confidence``; in falling order of
    that product, each box removes those of its class that overlap it by more than ``iou``. Boxes with a side beyond
    float32, which a network may give that has not learnt yet, are left out.

    Args:
        predictions: [..., A, 5 + classes], as ``Detector.predict`` returns them.
        confidence: minimum of objectness · class.
        iou: largest overlap that is let stand.

    Returns:
        A flat list in the order of the leading axes (of one item if there are none), of [K, 7], best first:
        x1, y1, x2, y2, objectness, class score, class.

    Raises:
        InputError: predictions of another shape, or that hold NaN, of which no box would be found without a word.
    """
    if predictions.ndim < 2 or predictions.shape[-1] < 6:
        raise InputError(f"predictions must be [..., A, 5 + classes], not {list(predictions.shape)}")
    *lead, A, D = predictions.shape
    frames = predictions.detach().float().reshape(math.prod(lead), A, D)  # [M, A, 5 + classes]
    if bool((broken := frames.isnan().any(-1).any(-1)).any()):
        raise InputError(
            f"predictions hold NaN in {int(broken.sum())} of {len(frames)} frames, first in frame "
            f"{int(broken.nonzero()[0, 0])}: a frame or a state held NaN, or the weights have diverged; "
            "look at the input, and load an earlier checkpoint"
        )
    class_score, label = frames[..., 5:].max(-1)
    product = frames[..., 4] * class_score
    frame, anchor = (product >= confidence).nonzero(as_tuple=True)
    ranked = product[frame, anchor].argsort(descending=True, stable=True)
    ranked = ranked[frame[ranked].argsort(stable=True)]  # frame by frame, best first
    frame, anchor = frame[ranked], anchor[ranked]

    chosen = frames[frame, anchor]
    scores = torch.stack([chosen[:, 4], class_score[frame, anchor], label[frame, anchor].float()], -1)
    rows = torch.cat([corners(chosen[:, :4]), scores], -1)  # [K of all frames, 7]
    finite = rows.isfinite().all(-1)
    rows, frame = rows[finite], frame[finite]
    counts = torch.bincount(frame, minlength=len(frames)).cpu()
    keep = torch.from_numpy(_suppress(rows.cpu().numpy(), counts.numpy(), iou))
    kept = [int(k.sum()) for k in keep.split(counts.tolist())]
    return list(rows[keep.to(rows.device)].split(kept))


@njit()
def _suppress(rows: np.ndarray, counts: np.ndarray, iou: float) -> np.ndarray:  # pragma: no cover
    """Which of the rows (x1, y1, x2, y2, …, class), frame after frame and best first, are kept."""
    keep = np.ones(len(rows), np.bool_)
    area = (rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1])
    start = 0
    for count in counts:
        end = start + count
        for i in range(start, end):
            if not keep[i]:
                continue
            for j in range(i + 1, end):
                if keep[j] and rows[j, 6] == rows[i, 6]:
                    width = min(rows[i, 2], rows[j, 2]) - max(rows[i, 0], rows[j, 0])
                    height = min(rows[i, 3], rows[j, 3]) - max(rows[i, 1], rows[j, 1])
                    if width > 0 and height > 0:
                        shared = width * height
                        keep[j] = shared / (area[i] + area[j] - shared) <= iou
        start = end
    return keep

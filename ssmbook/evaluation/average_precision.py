"""Average precision as COCO computes it, over all frames at once.

Source: the COCO detection challenge (Lin et al. 2014) and its evaluation, pycocotools, whose numbers these are
to the last digit that matters. A group is one class in one frame. In each, detections in falling order of
score take the free box that they overlap most, at each of ten IoU thresholds; then all frames' detections
of a class, in falling order of score, give precision against recall.

What is to be ignored is neither right nor wrong: an ignored box that is missed costs nothing, and a detection that
matches one, or that matches none and lies outside of what is scored, does not count. COCO's size classes
are four such views of the same boxes. A region (COCO's crowd) is ignored in all of them and takes any number of
detections; in place of the IoU counts the share of a detection that lies in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssmbook.compiled import njit

IOU = np.linspace(0.5, 0.95, 10)
RECALL = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # detections of a class in a frame that count
# COCO's size classes: all, small, medium, large; areas in px², both ends included.
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]], dtype=np.float64)


@dataclass(frozen=True)
class Boxes:
    """N boxes of many frames, one array for each quantity, in any order.

    frame [N], class_id [N]: int64; xywh [N, 4]: float64 pixels; score [N]: float64, of detections.
    """

    frame: np.ndarray
    class_id: np.ndarray
    xywh: np.ndarray
    score: np.ndarray

    @property
    def area(self) -> np.ndarray:
        return self.xywh[:, 2] * self.xywh[:, 3]


def outside_areas(boxes: Boxes) -> np.ndarray:
    """Which boxes lie outside of each of COCO's size classes: bool [4, N]."""
    area = boxes.area
    return (area < AREAS[:, :1]) | (area > AREAS[:, 1:])


def precision_table(
    truth: Boxes,
    detected: Boxes,
    ignored: np.ndarray,
    outside: np.ndarray,
    classes: int,
    region: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision at 101 recalls, for each IoU threshold, class and view.

    Args:
        truth: boxes to find.
        detected: detections; of equal scores the one that comes first counts as the better.
        ignored: bool [V, N]: boxes that do not count, in each of V views.
        outside: bool [V, D]: detections that do not count where they match nothing.
        classes: C.
        region: bool [N]: boxes that are regions to ignore, in every view; None: none is.

    Returns:
        precision [10, 101, C, V], and the highest recall [10, C, V]; −1 where a class has no box to find.
    """
    if region is not None:
        ignored = ignored | region
    views = len(ignored)
    precision = np.full((len(IOU), len(RECALL), classes, views), -1.0)
    recall = np.full((len(IOU), classes, views), -1.0)
    kind, order = match_detections(truth, detected, ignored, outside, IOU, region)
    detected_class, score = detected.class_id[order], detected.score[order]
    for c in range(classes):
        chosen = np.flatnonzero(detected_class == c)
        chosen = chosen[np.argsort(-score[chosen], kind="stable")]
        for v in range(views):
            count = int((~ignored[v, truth.class_id == c]).sum())
            if count:
                precision[:, :, c, v], recall[:, c, v] = _curve(kind[v][:, chosen], count, RECALL)
    return precision, recall


def match_detections(
    truth: Boxes,
    detected: Boxes,
    ignored: np.ndarray,
    outside: np.ndarray,
    thresholds: np.ndarray,
    region: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What each detection is, RIGHT, WRONG or NEITHER.

    Args:
        truth, detected, ignored, outside, region: see ``precision_table``.
        thresholds [T]: of the IoU.

    Returns:
        kind [V, T, K], and the K detections that it is of, as indices; the 100 best of each class in each frame.
    """
    truth_order = np.lexsort((truth.frame, truth.class_id))
    detected_order = np.lexsort((-detected.score, detected.frame, detected.class_id))
    key = np.int64(max(truth.frame.max(initial=0), detected.frame.max(initial=0)) + 1)
    truth_key = (truth.class_id * key + truth.frame)[truth_order]
    detected_key = (detected.class_id * key + detected.frame)[detected_order]
    keep = _rank_in_group(detected_key) < MAX_DETECTIONS
    detected_order, detected_key = detected_order[keep], detected_key[keep]
    groups = np.unique(np.concatenate([truth_key, detected_key]))
    truth_span = np.searchsorted(truth_key, np.append(groups, np.iinfo(np.int64).max))
    detected_span = np.searchsorted(detected_key, np.append(groups, np.iinfo(np.int64).max))
    ignored, outside = ignored[:, truth_order], outside[:, detected_order]
    region = np.zeros(len(truth_order), bool) if region is None else region[truth_order]
    truth_xywh, detected_xywh = truth.xywh[truth_order], detected.xywh[detected_order]
    kind = _match(truth_xywh, detected_xywh, truth_span, detected_span, ignored, outside, region, thresholds)
    return kind, detected_order


def _rank_in_group(keys: np.ndarray) -> np.ndarray:
    """The position of each entry within its run of equal keys (sorted)."""
    index = np.arange(len(keys))
    starts = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    return index - np.maximum.accumulate(np.where(starts, index, 0))


RIGHT, WRONG, NEITHER = 1, 2, 0


@njit()
def _match(
    truth, detected, truth_span, detected_span, ignored, outside, region, thresholds
):  # pragma: no cover
    """What each detection is, RIGHT, WRONG or NEITHER, at each view and threshold: [V, T, D]."""
    views, T = len(ignored), len(thresholds)
    kind = np.full((views, T, len(detected)), NEITHER, np.uint8)
    for group in range(len(truth_span) - 1):
        g0, g1 = truth_span[group], truth_span[group + 1]
        d0, d1 = detected_span[group], detected_span[group + 1]
        n = g1 - g0
        iou = overlaps(truth[g0:g1], detected[d0:d1], region[g0:g1])
        order = np.empty(n, np.int64)
        for v in range(views):
            place = 0  # those that count come first
            for wanted in (False, True):
                for g in range(n):
                    if ignored[v, g0 + g] == wanted:
                        order[place] = g
                        place += 1
            for t in range(T):
                taken = np.zeros(n, np.bool_)
                for d in range(d1 - d0):
                    best, match = min(thresholds[t], 1 - 1e-10), -1
                    for g in order:
                        if taken[g] and not region[g0 + g]:
                            continue
                        if match > -1 and not ignored[v, g0 + match] and ignored[v, g0 + g]:
                            break
                        if iou[d, g] < best:
                            continue
                        best, match = iou[d, g], g
                    if match > -1:
                        taken[match] = True
                        if not ignored[v, g0 + match]:
                            kind[v, t, d0 + d] = RIGHT
                    elif not outside[v, d0 + d]:
                        kind[v, t, d0 + d] = WRONG
    return kind


@njit()
def overlaps(truth, detected, region):  # pragma: no cover
    """IoU of boxes x, y, w, h: [D, G]; with a region, the share of the detection that lies in it."""
    iou = np.zeros((len(detected), len(truth)))
    for d in range(len(detected)):
        for g in range(len(truth)):
            a, b = detected[d], truth[g]
            w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
            h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
            if w > 0 and h > 0:
                shared = w * h
                other = 0.0 if region[g] else b[2] * b[3] - shared
                iou[d, g] = shared / (a[2] * a[3] + other)
    return iou


@njit()
def _curve(kind, count, recalls):  # pragma: no cover
    """Detections in falling order of score [T, D] → precision at the recalls [T, R], highest recall [T]."""
    T, D = kind.shape
    precision, highest = np.zeros((T, len(recalls))), np.zeros(T)
    at, reached = np.empty(D), np.empty(D)
    for t in range(T):
        right = wrong = 0.0
        for d in range(D):
            right += kind[t, d] == 1
            wrong += kind[t, d] == 2
            reached[d] = right / count
            at[d] = right / (wrong + right + 2.220446049250313e-16)
        for d in range(D - 1, 0, -1):  # the best precision at this recall or a higher one
            at[d - 1] = max(at[d - 1], at[d])
        highest[t] = reached[-1] if D else 0.0
        d = 0
        for r in range(len(recalls)):
            while d < D and reached[d] < recalls[r]:
                d += 1
            if d == D:
                break
            precision[t, r] = at[d]
    return precision, highest

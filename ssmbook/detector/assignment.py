"""SimOTA: which anchors answer for which box, chosen anew at every step from what the network predicts.

Source: YOLOX (arXiv 2107.08430), section 2.1, a simplification of OTA (arXiv 2103.14259).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmbook.detector.boxes import box_iou

RADIUS = 1.5  # strides between an anchor's centre and a box's, in x and y, below which it is a candidate
FAR = 1e6  # cost of an anchor that is a candidate only for another box
MAX_ANCHORS = 10  # anchors that one box can take


def is_real(targets: Tensor) -> Tensor:
    """Which rows of targets [..., 5] are boxes; padding sums to 0."""
    return targets.sum(-1) != 0


@torch.no_grad()
def simota(
    boxes: Tensor, objectness: Tensor, classes: Tensor, targets: Tensor, anchors: Tensor
) -> tuple[Tensor, Tensor]:
    """Assign anchors to boxes, for all frames at once.

    Candidates of a frame are anchors whose centre (column + ½, row + ½) · stride lies strictly within 1.5
    strides of some box's centre, in x and in y. Box g and candidate a cost

        Σ_c BCE(√(σ(class) σ(objectness)), onehot) − 3 log(IoU + 1e-8)  (+ 1e6 if a is not near g itself).

    Box g takes its k_g cheapest, k_g = max(1, ⌊sum of its 10 largest IoUs⌋); an anchor taken by several goes
    to the cheapest of all boxes.

    Args:
        boxes: decoded predictions [M, A, 4].
        objectness, classes: logits [M, A] and [M, A, C].
        targets: [M, G, 5], G ≥ 1: class, cx, cy, w, h; rows that sum to 0 are padding.
        anchors: [A, 3], see ``anchor_grid``.

    Returns:
        The row of targets that each anchor answers for, [M, A], −1 where none; and its IoU with it (0).
    """
    boxes, objectness, classes, targets = (t.float() for t in (boxes, objectness, classes, targets))
    centres = (anchors[:, :2] + 0.5) * anchors[:, 2:]  # [A, 2]
    distance = (targets[:, :, None, 1:3] - centres).abs() / anchors[:, 2:]  # [M, G, A, 2]
    real = is_real(targets)[..., None]  # [M, G, 1]
    near = (distance < RADIUS).all(-1) & real  # [M, G, A]
    candidate = near.any(1, keepdim=True) & real

    iou = box_iou(targets[:, :, None, 1:], boxes[:, None]).masked_fill(~candidate, 0)  # [M, G, A]
    cost = class_cost(objectness, classes, targets[..., 0].long()) - 3 * torch.log(iou + 1e-8) + FAR * ~near
    cost = cost.masked_fill(~candidate, torch.inf)

    taken = take_cheapest(cost, iou)
    row = torch.where(taken.sum(1) > 1, cost.argmin(1), taken.int().argmax(1))  # [M, A]
    assigned = taken.any(1)
    iou = iou.gather(1, row[:, None]).squeeze(1)
    return row.masked_fill(~assigned, -1), iou.masked_fill(~assigned, 0)


def class_cost(objectness: Tensor, classes: Tensor, wanted: Tensor) -> Tensor:
    """Σ_c BCE(√(σ(classes) σ(objectness)), onehot(wanted)): [M, A], [M, A, C], [M, G] → [M, G, A]."""
    p = (classes.sigmoid() * objectness.sigmoid()[..., None]).sqrt()
    p = p.nan_to_num()  # the loss of such logits says NaN; BCE would raise before it is known
    if_wanted = F.binary_cross_entropy(p, torch.ones_like(p), reduction="none")  # [M, A, C]
    if_not = F.binary_cross_entropy(p, torch.zeros_like(p), reduction="none")
    change = (if_wanted - if_not).transpose(1, 2)  # [M, C, A]
    wanted = wanted[..., None].expand(-1, -1, change.shape[-1])
    return if_not.sum(-1)[:, None] + change.gather(1, wanted)


def take_cheapest(cost: Tensor, iou: Tensor) -> Tensor:
    """Each box's k_g cheapest candidates (finite cost), as a mask [M, G, A]; cost, iou [M, G, A]."""
    limit = min(MAX_ANCHORS, cost.shape[-1])
    k = iou.topk(limit).values.sum(-1, keepdim=True).int().clamp(min=1)  # [M, G, 1]
    cheap, anchor = cost.topk(limit, largest=False)  # [M, G, limit]
    chosen = (torch.arange(limit, device=cost.device) < k) & cheap.isfinite()
    return torch.zeros_like(cost, dtype=torch.bool).scatter(-1, anchor, chosen)

"""YOLOX's assignment and loss (arXiv 2107.08430, section 2.1) image by image and box by box, for a reader.

`ssmbook.detector.assignment` and `detection_loss` do the same for all images at once, and are tested against it.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmbook.detector.plain import anchors, decode, raw_output


def loss(
    maps: Mapping[int, Tensor],
    targets: Tensor,
    p: Mapping[str, Any],
    config: Mapping[str, Any],
    training: bool = True,
) -> dict[str, Tensor]:
    """5 · (1 − IoU²) + objectness + class, each summed and divided by the number of foreground anchors.

    Args:
        maps: {2, 3, 4: [M, C, h, w]}, of labelled frames.
        targets: [M, G, 5]: class, cx, cy, w, h in pixels; rows that sum to 0 are padding.
        p, config: see `ssmbook.detector.plain`.
        training: BatchNorm with the batch's own statistics, or the running ones.
    """
    raw = raw_output(maps, p, training)  # [M, A, 5 + classes]
    cells = anchors(config["input_hw"]).to(raw)
    overlaps, classes, wanted = [], [], []
    foreground = torch.zeros_like(raw[..., 4])
    count = boxes = 0
    for m in range(len(raw)):
        real = targets[m][targets[m].sum(-1) != 0]
        boxes += len(real)
        if len(real) == 0:
            continue
        anchor, row, matched = assign(raw[m].float(), cells, real)
        foreground[m, anchor] = 1
        count += len(anchor)
        overlaps.append(iou(decode(raw[m, anchor, :4], cells[anchor]), real[row, 1:]))
        classes.append(raw[m, anchor, 5:])
        wanted.append(F.one_hot(real[row, 0].long(), raw.shape[-1] - 5) * matched[:, None])
    bce = F.binary_cross_entropy_with_logits
    divisor = max(1, count)
    zero = raw.sum() * 0
    box = 5 * (1 - torch.cat(overlaps) ** 2).sum() / divisor if overlaps else zero
    cls = bce(torch.cat(classes), torch.cat(wanted), reduction="sum") / divisor if classes else zero
    conf = bce(raw[..., 4], foreground, reduction="sum") / divisor
    return {
        "loss": box + conf + cls,
        "iou_loss": box,
        "conf_loss": conf,
        "cls_loss": cls,
        "num_fg": torch.tensor(count / max(1, boxes)),
    }


@torch.no_grad()
def assign(raw: Tensor, cells: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SimOTA for one image, raw [A, 5 + classes], targets [G, 5] → foreground anchors [F], the rows of targets that
    they answer for [F], and their IoU with them [F]."""
    centre = (cells[:, :2] + 0.5) * cells[:, 2:]
    near = ((targets[:, None, 1:3] - centre).abs() < 1.5 * cells[:, 2:]).all(-1)  # [G, A]
    candidates = near.any(0).nonzero().squeeze(1)  # [K]
    raw, near = raw[candidates], near[:, candidates]
    overlap = iou(targets[:, None, 1:], decode(raw[:, :4], cells[candidates]))  # [G, K]
    p = (raw[:, 5:].sigmoid() * raw[:, 4:5].sigmoid()).sqrt()  # [K, classes]
    onehot = F.one_hot(targets[:, 0].long(), p.shape[-1]).to(p)
    p, onehot = torch.broadcast_tensors(p, onehot[:, None])  # [G, K, classes]
    cost = F.binary_cross_entropy(p, onehot, reduction="none").sum(-1)
    cost = cost - 3 * (overlap + 1e-8).log() + 1e6 * ~near  # [G, K]
    taken = torch.zeros_like(near)
    for g in range(len(targets)):
        count = min(10, overlap.shape[1])
        k = max(1, int(overlap[g].topk(count).values.sum()))
        taken[g, cost[g].topk(min(k, count), largest=False).indices] = True
    # An anchor taken by several: the cheapest of all boxes has it.
    for a in (taken.sum(0) > 1).nonzero().squeeze(1).tolist():
        taken[:, a] = False
        taken[cost[:, a].argmin(), a] = True
    rows, columns = taken.nonzero(as_tuple=True)
    return candidates[columns], rows, overlap[rows, columns]


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes cx, cy, w, h that broadcast against each other."""
    low = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    shared = (high - low).clamp(min=0).prod(-1)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared + 1e-16)

"""The head and its loss: YOLOX (arXiv 2107.08430), decoupled, without anchor boxes."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmbook.detector.assignment import is_real, simota
from ssmbook.detector.boxes import box_iou, decode
from ssmbook.detector.neck import ConvBlock

PRIOR = 0.01  # objectness and class scores at the start


class YOLOXHead(nn.Module):
    """Per level a 1 × 1 convolution, then a class branch and a box branch, of two 3 × 3 convolutions each.

    Args:
        widths: of the levels' feature maps; the head is ⌊256 · last / 1024⌋ wide.
        num_classes: classes.
    """

    def __init__(self, widths: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        h = 256 * widths[-1] // 1024

        def branch() -> nn.Sequential:
            return nn.Sequential(ConvBlock(h, h, 3), ConvBlock(h, h, 3))

        self.stems = nn.ModuleList(ConvBlock(width, h, 1) for width in widths)
        self.class_convs = nn.ModuleList(branch() for _ in widths)
        self.box_convs = nn.ModuleList(branch() for _ in widths)
        self.class_out = nn.ModuleList(nn.Conv2d(h, num_classes, 1) for _ in widths)
        self.box_out = nn.ModuleList(nn.Conv2d(h, 4, 1) for _ in widths)
        self.objectness_out = nn.ModuleList(nn.Conv2d(h, 1, 1) for _ in widths)
        for layer in (*self.class_out, *self.objectness_out):
            nn.init.constant_(layer.get_parameter("bias"), math.log(PRIOR / (1 - PRIOR)))

    def forward(self, levels: tuple[Tensor, ...]) -> Tensor:
        """Maps [M, C, h, w], finest first → raw [M, A, 5 + classes]: box 4, objectness, classes (logits)."""
        raw = []
        for i, x in enumerate(levels):
            x = self.stems[i](x)
            of_class, of_box = self.class_convs[i](x), self.box_convs[i](x)
            out = [self.box_out[i](of_box), self.objectness_out[i](of_box), self.class_out[i](of_class)]
            raw.append(torch.cat(out, 1).permute(0, 2, 3, 1).flatten(1, 2))  # [M, h·w, 5 + classes]
        joined = torch.cat(raw, 1)
        return joined.to(torch.promote_types(joined.dtype, torch.float32))  # half precision ends here


def scores_and_boxes(raw: Tensor, anchors: Tensor) -> Tensor:
    """Raw output [M, A, 5 + classes] → cx, cy, w, h in pixels, then σ of the rest."""
    return torch.cat([decode(raw[..., :4], anchors), raw[..., 4:].sigmoid()], -1)


def detection_loss(
    raw: Tensor,
    anchors: Tensor,
    targets: Tensor,
    reduce_count: Callable[[int], float | Tensor] | None = None,
) -> dict[str, Tensor]:
    """The loss of a batch of labelled frames, 5 · box + objectness + class.

    Over the foreground anchors of SimOTA, box: 1 − IoU², class: BCE against onehot · IoU; over all anchors,
    objectness: BCE. Each is summed over the batch and divided by its number of foreground anchors (at least
    1).

    Args:
        raw: [M, A, 5 + classes], logits.
        anchors: [A, 3].
        targets: [M, G, 5]: class, cx, cy, w, h in pixels; rows that sum to 0 are padding.
        reduce_count: turns this batch's number of foreground anchors into what the sums are divided by,
            where a batch is spread over processes; by default it is at least 1.

    Returns:
        loss, iou_loss (with its factor 5), conf_loss, cls_loss, l1_loss (0), num_fg (foreground anchors per
        box).
    """
    if targets.shape[1] == 0:
        targets = targets.new_zeros(len(targets), 1, 5)
    boxes, objectness, classes = decode(raw[..., :4], anchors), raw[..., 4], raw[..., 5:]
    row, iou = simota(boxes, objectness, classes, targets, anchors)
    foreground = row >= 0  # [M, A]
    frame, anchor = foreground.nonzero(as_tuple=True)
    matched = targets[frame, row[frame, anchor]]  # [F, 5]
    onehot = F.one_hot(matched[:, 0].long(), classes.shape[-1])

    count = max(1, len(frame)) if reduce_count is None else reduce_count(len(frame))
    overlap = box_iou(boxes[frame, anchor], matched[:, 1:])
    iou_loss = 5 * (1 - overlap.square()).sum() / count
    wanted = onehot * iou[frame, anchor, None].to(raw)
    cls_loss = F.binary_cross_entropy_with_logits(classes[frame, anchor], wanted, reduction="sum") / count
    conf_loss = F.binary_cross_entropy_with_logits(objectness, foreground.to(raw), reduction="sum") / count
    return {
        "loss": iou_loss + conf_loss + cls_loss,
        "iou_loss": iou_loss,
        "conf_loss": conf_loss,
        "cls_loss": cls_loss,
        "l1_loss": raw.new_zeros(()),
        "num_fg": foreground.sum() / is_real(targets).sum().clamp(min=1),
    }

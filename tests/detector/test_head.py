import math

import pytest
import torch
import torch.nn.functional as F

from ssmbook.detector.assignment import simota
from ssmbook.detector.boxes import anchor_grid, box_iou, decode
from ssmbook.detector.head import YOLOXHead, detection_loss, scores_and_boxes

STRIDES = (8, 16, 32)
ANCHORS = anchor_grid((32, 64), STRIDES)


def test_width_follows_the_last_level():
    assert YOLOXHead((96, 192, 384), 2).class_out[0].in_channels == 96
    assert YOLOXHead((128, 256, 512), 2).class_out[0].in_channels == 128


def test_output_follows_the_anchors():
    """Box 4, objectness, classes; at each anchor what the branches give at its level, row and column."""
    torch.manual_seed(0)
    head = YOLOXHead((8, 16, 32), 3).double().eval()
    maps = [torch.randn(2, 8 << i, 4 >> i, 8 >> i, dtype=torch.float64) for i in range(3)]
    raw = head(maps)
    assert raw.shape == (2, len(ANCHORS), 8)
    for a, (column, row, stride) in enumerate(ANCHORS.int().tolist()):
        i = STRIDES.index(stride)
        x = head.stems[i](maps[i])
        of_box, of_class = head.box_convs[i](x), head.class_convs[i](x)
        parts = head.box_out[i](of_box), head.objectness_out[i](of_box), head.class_out[i](of_class)
        expected = torch.cat([part[:, :, row, column] for part in parts], 1)
        torch.testing.assert_close(raw[:, a], expected, rtol=0, atol=1e-12)


def test_scores_start_at_one_in_a_hundred():
    head = YOLOXHead((8, 16, 32), 2)
    for layer in (*head.class_out, *head.objectness_out):
        torch.testing.assert_close(layer.bias.detach(), torch.full_like(layer.bias, -math.log(99)))
    raw = torch.zeros(1, len(ANCHORS), 7)
    decoded = scores_and_boxes(raw - math.log(99), ANCHORS)
    torch.testing.assert_close(decoded[..., 4:], torch.full((1, len(ANCHORS), 3), 0.01))
    assert torch.equal(scores_and_boxes(raw, ANCHORS)[..., :4], decode(raw[..., :4], ANCHORS))


def random_case(seed=0, frames=3, classes=2):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(frames, len(ANCHORS), 5 + classes, generator=generator, dtype=torch.float64) * 0.5
    targets = torch.zeros(frames, 4, 5, dtype=torch.float64)
    for m in range(frames):
        for g in range(m + 1):  # 1, 2, 3 boxes
            centre = torch.rand(2, generator=generator) * torch.tensor([64.0, 32.0])
            size = 6 + torch.rand(2, generator=generator) * 20
            targets[m, g] = torch.tensor([g % classes, *centre, *size])
    return raw, targets


def slow_loss(raw, targets):
    """Anchor by anchor, from the assignment."""
    boxes = decode(raw[..., :4], ANCHORS.double())
    row, iou = simota(boxes, raw[..., 4], raw[..., 5:], targets, ANCHORS)
    box = objectness = classes = foreground = 0
    for m in range(len(raw)):
        for a in range(raw.shape[1]):
            fg = bool(row[m, a] >= 0)
            objectness += F.binary_cross_entropy(raw[m, a, 4].sigmoid(), torch.tensor(float(fg)).double())
            if not fg:
                continue
            foreground += 1
            target = targets[m, row[m, a]]
            box += 1 - box_iou(boxes[m, a], target[1:]) ** 2
            for c in range(raw.shape[2] - 5):
                wanted = float(iou[m, a]) if c == target[0] else 0.0
                p = raw[m, a, 5 + c].sigmoid()
                classes -= wanted * p.log() + (1 - wanted) * (1 - p).log()
    return {
        "iou_loss": 5 * box / foreground,
        "conf_loss": objectness / foreground,
        "cls_loss": classes / foreground,
        "loss": (5 * box + objectness + classes) / foreground,
        "num_fg": torch.tensor(foreground / 6),
        "l1_loss": torch.tensor(0.0),
    }


@pytest.mark.parametrize("seed", range(3))
def test_loss_equals_the_slow_one(seed):
    raw, targets = random_case(seed)
    losses, expected = detection_loss(raw, ANCHORS.double(), targets), slow_loss(raw, targets)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(float(value), rel=1e-6), name


def test_loss_has_the_gradient_of_its_differences():
    raw, targets = random_case(1)
    anchors = ANCHORS.double()
    iou = simota(decode(raw[..., :4], anchors), raw[..., 4], raw[..., 5:], targets, anchors)

    def loss(raw):
        # The assignment and its IoU take no gradient, so they stay as they are.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ssmbook.detector.head.simota", lambda *_: iou)
            return detection_loss(raw, anchors, targets)["loss"]

    assert torch.autograd.gradcheck(loss, raw.requires_grad_(), fast_mode=True)


def test_padding_does_not_count():
    raw, targets = random_case()
    padded = torch.cat([torch.zeros(3, 2, 5, dtype=torch.float64), targets], 1)
    a, b = (detection_loss(raw, ANCHORS.double(), t) for t in (targets, padded))
    assert all(float(a[name]) == pytest.approx(float(b[name])) for name in a)


@pytest.mark.parametrize("rows", [0, 2])
def test_frames_without_a_box_push_objectness_down_only(rows):
    raw, _ = random_case()
    raw.requires_grad_()
    losses = detection_loss(raw, ANCHORS.double(), torch.zeros(3, rows, 5, dtype=torch.float64))
    assert losses["iou_loss"] == losses["cls_loss"] == losses["num_fg"] == 0
    losses["loss"].backward()
    expected = F.softplus(raw.detach()[..., 4]).sum()
    torch.testing.assert_close(losses["conf_loss"].detach(), expected)
    assert (raw.grad[..., 4] > 0).all()
    assert not raw.grad[..., :4].any()

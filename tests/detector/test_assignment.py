import numpy as np
import pytest
import torch

from ssmbook.detector.assignment import simota
from ssmbook.detector.boxes import anchor_grid, corners

ANCHORS = anchor_grid((32, 64), (8, 16, 32))  # 42 anchors


def slow_simota(boxes, objectness, classes, targets, anchors):
    """One frame by the sentences of the method, anchor by anchor, in numpy."""
    targets = [(g, t) for g, t in enumerate(targets.numpy()) if t.sum() != 0]
    A = len(anchors)
    row, matched_iou = np.full(A, -1), np.zeros(A, np.float32)
    centre = (anchors[:, :2].numpy() + 0.5) * anchors[:, 2:].numpy()
    near = {
        (g, a): bool((np.abs(centre[a] - t[1:3]) < 1.5 * anchors[a, 2].item()).all())
        for g, t in targets
        for a in range(A)
    }
    candidates = [a for a in range(A) if any(near[g, a] for g, _ in targets)]
    if not candidates:
        return row, matched_iou
    p = np.sqrt(classes.sigmoid().numpy() * objectness.sigmoid().numpy()[:, None])
    iou, cost = {}, {}
    for g, t in targets:
        for a in candidates:
            x, y = corners(boxes[a]).numpy(), corners(torch.from_numpy(t[1:])).numpy()
            width, height = np.minimum(x[2:], y[2:]) - np.maximum(x[:2], y[:2])
            shared = max(width, 0) * max(height, 0)
            iou[g, a] = shared / (np.prod(x[2:] - x[:2]) + np.prod(y[2:] - y[:2]) - shared)
            bce = sum(-np.log(p[a, c]) if c == t[0] else -np.log(1 - p[a, c]) for c in range(p.shape[1]))
            cost[g, a] = bce - 3 * np.log(iou[g, a] + 1e-8) + (0 if near[g, a] else 1e6)
    taken = {a: [] for a in candidates}
    for g, _ in targets:
        k = max(1, int(sum(sorted((iou[g, a] for a in candidates), reverse=True)[:10])))
        for a in sorted(candidates, key=lambda a: cost[g, a])[:k]:
            taken[a].append(g)
    for a, by in taken.items():
        if by:
            row[a] = by[0] if len(by) == 1 else min((g for g, _ in targets), key=lambda g: cost[g, a])
            matched_iou[a] = iou[row[a], a]
    return row, matched_iou


def random_case(seed, frames=4, boxes=5, classes=3):
    """Predictions near the targets, targets that crowd each other, some of them padding."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    targets = torch.cat(
        [
            torch.randint(classes, (frames, boxes, 1), generator=generator).float(),
            rand(frames, boxes, 2) * torch.tensor([64.0, 32.0]),
            4 + rand(frames, boxes, 2) * 40,
        ],
        -1,
    )
    targets[rand(frames, boxes) < 0.3] = 0
    predicted = targets[:, torch.randint(boxes, (len(ANCHORS),), generator=generator), 1:]
    predicted = predicted * (0.8 + 0.4 * rand(*predicted.shape)) + 2 * rand(*predicted.shape)
    logits = rand(frames, len(ANCHORS), 1 + classes) * 6 - 3
    return predicted, logits[..., 0], logits[..., 1:], targets, ANCHORS


@pytest.mark.parametrize("seed", range(8))
def test_batched_assignment_equals_the_slow_one(seed):
    case = random_case(seed)
    row, iou = simota(*case)
    assert (row >= 0).any()
    for m in range(len(row)):
        expected_row, expected_iou = slow_simota(*(x[m] for x in case[:4]), ANCHORS)
        assert row[m].tolist() == expected_row.tolist()
        np.testing.assert_allclose(iou[m], expected_iou, rtol=0, atol=1e-6)


def test_the_cases_hold_conflicts():
    conflicts = 0
    for seed in range(8):
        boxes, objectness, classes, targets, anchors = random_case(seed)
        together, _ = simota(boxes, objectness, classes, targets, anchors)
        for m, g in (targets.sum(-1) != 0).nonzero().tolist():
            alone = torch.zeros_like(targets[m : m + 1])
            alone[0, g] = targets[m, g]
            row, _ = simota(boxes[m : m + 1], objectness[m : m + 1], classes[m : m + 1], alone, anchors)
            conflicts += int(((row[0] == g) & (together[m] != g)).sum())
    assert conflicts > 10  # anchors that a box alone would take and that go to another


def test_a_box_out_of_reach_takes_candidates_of_others_or_nothing():
    boxes, objectness, classes, _, anchors = random_case(0, frames=1)
    far = torch.tensor([[[0.0, 500.0, 500.0, 9.0, 9.0]]])
    row, _ = simota(boxes, objectness, classes, far, anchors)
    assert (row == -1).all()  # no anchor is a candidate
    near = torch.tensor([[[1.0, 20.0, 12.0, 9.0, 9.0]]])
    row, iou = simota(boxes, objectness, classes, torch.cat([near, far], 1), anchors)
    centres = (anchors[:, :2] + 0.5) * anchors[:, 2:]
    reach = ((centres - near[0, 0, 1:3]).abs() < 1.5 * anchors[:, 2:]).all(-1)
    assert (row[0] == 1).sum() == 1  # k is at least 1
    assert reach[row[0] >= 0].all()
    assert (iou[row == 1] == 0).all()


def test_padding_and_order_of_the_boxes_do_not_matter():
    boxes, objectness, classes, targets, anchors = random_case(3)
    row, iou = simota(boxes, objectness, classes, targets, anchors)
    order = [4, 2, 0, 3, 1]
    shuffled = torch.cat([torch.zeros(4, 2, 5), targets[:, order]], 1)
    other_row, other_iou = simota(boxes, objectness, classes, shuffled, anchors)
    where = torch.tensor([-1, -1, *order, -1])  # a row of shuffled → the row of targets; −1 stays
    assert torch.equal(where[other_row], row)
    assert torch.equal(other_iou, iou)


def test_no_box_no_foreground():
    boxes, objectness, classes, targets, anchors = random_case(0)
    row, iou = simota(boxes, objectness, classes, torch.zeros_like(targets), anchors)
    assert (row == -1).all()
    assert (iou == 0).all()


def test_no_gradient_and_float32():
    boxes, objectness, classes, targets, anchors = random_case(0)
    row, iou = simota(
        boxes.double().requires_grad_(), objectness, classes, targets.double(), anchors.double()
    )
    assert not iou.requires_grad
    assert iou.dtype == torch.float32
    assert torch.equal(row, simota(boxes, objectness, classes, targets, anchors)[0])

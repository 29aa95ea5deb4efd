import math

import numpy as np
import pytest
import torch

from ssmbook.detector import nms
from ssmbook.detector.boxes import anchor_grid, box_iou, corners, decode
from ssmbook.errors import InputError


def test_anchors_go_level_by_level_and_row_by_row():
    anchors = anchor_grid((16, 24), (8, 16)).tolist()
    fine = [[column, row, 8] for row in range(2) for column in range(3)]
    assert anchors == [*fine, [0, 0, 16]]


def test_decode_scales_by_the_stride():
    anchors = torch.tensor([[2.0, 1.0, 8.0], [0.0, 3.0, 16.0]])
    raw = torch.tensor([[0.5, 0.25, 0.0, math.log(2)], [0.0, -1.0, 1.0, 0.0]])
    expected = [[20.0, 10.0, 8.0, 16.0], [0.0, 32.0, 16 * math.e, 16.0]]
    torch.testing.assert_close(decode(raw, anchors), torch.tensor(expected))
    torch.testing.assert_close(decode(raw.expand(3, 5, 2, 4), anchors)[2, 4], torch.tensor(expected))


def test_corners():
    assert corners(torch.tensor([10.0, 20.0, 4.0, 6.0])).tolist() == [8, 17, 12, 23]


def random_boxes(n, generator):
    return torch.cat(
        [torch.rand(n, 2, generator=generator) * 60, torch.rand(n, 2, generator=generator) * 30 + 1], -1
    )


def slow_iou(a, b):
    """Of two boxes x1, y1, x2, y2, as numpy scalars."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_iou_equals_the_slow_one_and_its_bounds():
    generator = torch.Generator().manual_seed(0)
    a, b = random_boxes(20, generator).double(), random_boxes(30, generator).double()
    iou = box_iou(a[:, None], b)
    expected = [[slow_iou(x, y) for y in corners(b).numpy()] for x in corners(a).numpy()]
    np.testing.assert_allclose(iou, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(box_iou(a, a), torch.ones(20, dtype=torch.float64))
    assert 0 < (iou == 0).sum() < iou.numel()
    assert box_iou(torch.zeros(4), torch.zeros(4)) == 0


def slow_nms(prediction, confidence, iou):
    """One frame [A, 5 + classes], box by box."""
    rows = []
    for p, box in zip(prediction.numpy(), corners(prediction).numpy(), strict=True):
        label = int(np.argmax(p[5:]))
        if p[4] * p[5 + label] >= np.float32(confidence):
            rows.append(np.array([*box, p[4], p[5 + label], label], np.float32))
    rows.sort(key=lambda r: -(r[4] * r[5]))
    kept = []
    for row in rows:
        if all(row[6] != k[6] or slow_iou(row[:4], k[:4]) <= iou for k in kept):
            kept.append(row)
    return np.array(kept, np.float32).reshape(-1, 7)


@pytest.mark.parametrize(("A", "classes"), [(1, 1), (40, 2), (150, 3)])
@pytest.mark.parametrize(("confidence", "iou"), [(0.001, 0.45), (0.2, 0.65), (0.5, 0.0)])
def test_nms_equals_the_slow_one(A, classes, confidence, iou):
    generator = torch.Generator().manual_seed(A)
    scores = torch.rand(4, A, 1 + classes, generator=generator)
    predictions = torch.cat([random_boxes(4 * A, generator).view(4, A, 4), scores], -1)
    got = nms(predictions, confidence, iou)
    assert len(got) == 4
    for frame, detections in zip(predictions, got, strict=True):
        np.testing.assert_array_equal(detections, slow_nms(frame, confidence, iou))


def test_nms_keeps_the_order_of_the_leading_axes():
    predictions = torch.rand(2, 3, 10, 7)
    nested = nms(predictions, 0.1)
    flat = [nms(frame, 0.1)[0] for frame in predictions.flatten(0, 1)]
    assert len(nested) == 6
    assert all(torch.equal(a, b) for a, b in zip(nested, flat, strict=True))


def test_nms_of_nothing():
    assert [d.shape for d in nms(torch.zeros(2, 5, 7))] == [(0, 7), (0, 7)]
    assert [d.shape for d in nms(torch.zeros(1, 5, 7))] == [(0, 7)]
    assert nms(torch.zeros(0, 5, 7)) == []


def test_nms_of_equal_scores_keeps_the_first():
    box = torch.tensor([10.0, 10, 8, 8, 1, 0.5])
    predictions = torch.stack([box, box + torch.tensor([1.0, 0, 0, 0, 0, 0]), box])
    assert nms(predictions)[0][:, 0].tolist() == [6.0]


@pytest.mark.parametrize("column", [0, 3, 4, 6])
def test_nan_is_an_error_and_not_no_boxes(column):
    predictions = torch.rand(3, 2, 10, 7)
    predictions[1, 0, 4, column] = float("nan")
    with pytest.raises(InputError, match=r"NaN in 1 of 6 frames, first in frame 2: .*weights have diverged"):
        nms(predictions)


def test_a_box_beyond_float32_is_no_detection():
    good = torch.tensor([10.0, 10, 8, 8, 1, 0.5])
    wide, far = good.clone(), good.clone()
    wide[2], far[1], wide[4], far[4] = float("inf"), float("-inf"), 2, 2
    detections = nms(torch.stack([torch.stack([wide, good, far]), torch.stack([wide] * 3)]))
    assert [d.tolist() for d in detections] == [[[6, 6, 14, 14, 1, 0.5, 0]], []]


def test_nms_of_other_shapes():
    assert [d.shape for d in nms(torch.zeros(2, 0, 7))] == [(0, 7), (0, 7)]
    for bad in (torch.zeros(7), torch.zeros(2, 3, 5)):
        with pytest.raises(InputError, match=r"predictions must be \[..., A, 5 \+ classes\], not"):
            nms(bad)

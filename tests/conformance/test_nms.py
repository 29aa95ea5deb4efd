"""Non-maximum suppression equals the released post-processing, row by row."""

import numpy as np
import pytest
import torch

from ssmbook.detector import nms


@pytest.mark.parametrize("index", range(4))
def test_postprocess(conformance, index):
    with np.load(conformance("postprocess.npz")) as data:
        predictions = torch.from_numpy(data[f"pred{index}"])
        _, confidence, iou = data[f"args{index}"].tolist()
        expected = [data[f"out{index}_{image}"] for image in range(len(predictions))]
    detections = nms(predictions, confidence, iou)
    assert len(detections) == len(expected)
    for ours, theirs in zip(detections, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)

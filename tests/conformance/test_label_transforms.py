"""Label transforms equal the published ones."""

import numpy as np
import pytest

from ssmbook.dataset.augment import Flip, Rotate, ZoomIn, ZoomOut
from ssmbook.events import BOX_DTYPE

HEIGHT, WIDTH = 240, 304
COLUMNS = ("t", "x", "y", "w", "h", "class_id", "class_confidence")


@pytest.fixture(scope="module")
def cases(conformance):
    return np.load(conformance("label_transforms.npz"))


def _boxes(rows):
    boxes = np.zeros(len(rows), BOX_DTYPE)
    for key, values in zip(COLUMNS, rows.T, strict=True):
        boxes[key] = values
    return boxes


def _transform(name, args):
    args = np.atleast_1d(args).tolist()
    if name == "flip":
        return Flip()
    if name == "rotate":
        return Rotate(*args)
    return (ZoomIn if name == "zoom_in" else ZoomOut)(int(args[0]), int(args[1]), args[2])


@pytest.mark.parametrize("name", ["flip", "zoom_in", "zoom_out", "rotate"])
def test_boxes_equal_the_published_ones(name, cases):
    count = sum(key.startswith("in") for key in cases)
    assert count > 0
    for i in range(count):
        transform = _transform(name, cases.get(f"{name}_args{i}", ()))
        moved = transform.boxes(_boxes(cases[f"in{i}"]), HEIGHT, WIDTH)
        wanted = cases[f"{name}{i}"]
        assert len(moved) == len(wanted)
        for key, values in zip(COLUMNS, wanted.T, strict=True):
            np.testing.assert_allclose(moved[key], values, rtol=1e-6, atol=5e-5, err_msg=f"{name} {i} {key}")

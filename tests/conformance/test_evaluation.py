"""The Prophesee protocol gives the numbers of the published evaluation."""

import numpy as np
import pytest

from ssmbook.evaluation import evaluate_boxes
from ssmbook.evaluation.protocol import METRICS
from ssmbook.events import BOX_DTYPE


def frames(boxes: np.ndarray, frame: np.ndarray, count: int) -> list[np.ndarray]:
    return [boxes[frame == i].astype(BOX_DTYPE) for i in range(count)]


@pytest.mark.parametrize("sensor", ["gen1", "gen4"])
def test_metrics_equal_the_published(conformance, sensor):
    case = np.load(conformance(f"evaluation_{sensor}.npz"))
    count = int(case["num_frames"])
    metrics = evaluate_boxes(
        frames(case["gt"], case["gt_frame"], count),
        frames(case["dt"], case["dt_frame"], count),
        sensor=sensor,
        height=int(case["height"]),
        width=int(case["width"]),
        downsampled=bool(case["downsampled_by_2"]),
    )
    assert metrics == pytest.approx({name: float(case[name]) for name in METRICS}, abs=1e-6)

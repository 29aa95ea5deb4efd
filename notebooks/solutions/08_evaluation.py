# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %%
import numpy as np

from ssmbook.dataset import Sensor
from ssmbook.evaluation import evaluate_boxes
from ssmbook.events import BOX_DTYPE

sensor = Sensor.simulated(width=320, height=240)


def boxes_of(corners: list[tuple[float, float, float, float]], scores: list[float]) -> np.ndarray:
    boxes = np.zeros(len(corners), BOX_DTYPE)
    boxes["t"] = 1_000_000
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = np.array(corners).T
    boxes["class_confidence"] = scores
    return boxes


def ap(truth: np.ndarray, found: np.ndarray, metric: str = "AP_50") -> float:
    return evaluate_boxes([truth], [found], sensor, 240, 320)[metric]


# %% ex-off
# IoU = (1 − d)/(1 + d) with d = shift/40, so the shift is 40 (1 − IoU)/(1 + IoU).
shifts = [40 * (1 - t) / (1 + t) for t in (0.5, 0.75, 0.95)]
assert np.allclose(shifts, [13.33, 5.71, 1.03], atol=0.01)
# 44 × 22 around the same centre has IoU 800/968 = 0.83: below 0.95 without any shift. Shifted by s ≥ 2 pixels, the overlap is
# (42 − s) · 20 of 800 + 968 − overlap.


def iou(s: float) -> float:
    overlap = min(40.0, 42 - s) * 20
    return overlap / (800 + 968 - overlap)


assert abs(iou(0) - 0.826) < 0.001
assert iou(4.1) > 0.75 > iou(4.2)
assert iou(12.5) > 0.5 > iou(12.6)

# %% ex-order
rng = np.random.default_rng(0)
truth = boxes_of([(20 * i, 40, 18, 30) for i in range(12)], [1.0] * 12)
found = boxes_of([(20 * i + rng.normal(0, 3), 40, 18, 30) for i in range(12)] * 2, rng.random(24).tolist())
first = ap(truth, found, "AP")
for increasing in (np.square, np.sqrt, lambda s: 0.5 + s / 4):
    other = found.copy()
    other["class_confidence"] = increasing(found["class_confidence"])
    assert ap(truth, other, "AP") == first
rounded = found.copy()
rounded["class_confidence"] = found["class_confidence"].round(1)
assert ap(truth, rounded, "AP") != first  # ties are broken by position

# %% ex-false
truth = boxes_of([(30 * i, 40, 28, 40) for i in range(10)], [1.0] * 10)
alarm = [(0.0, 150.0, 28.0, 40.0)]
right = [(30.0 * i, 40.0, 28.0, 40.0) for i in range(10)]
low = boxes_of(right + alarm, [0.9] * 10 + [0.5])
high = boxes_of(right + alarm, [0.9] * 10 + [0.95])
assert abs(ap(truth, low) - 1.0) < 1e-9  # all recall is reached before it
assert abs(ap(truth, high) - 10 / 11) < 1e-9  # every precision is at most 10/11

# %% ex-stale
# The shift is v · age, and the IoU falls below t at a shift of 40 (1 − t)/(1 + t).
ages_ms = {t: 1000 * 40 * (1 - t) / (1 + t) / 200 for t in (0.5, 0.75)}
assert abs(ages_ms[0.5] - 66.7) < 0.1
assert abs(ages_ms[0.75] - 28.6) < 0.1
# A box is at most latency + stride old: 10 + stride < 28.6 ms needs more than 53 Hz.
assert abs(1000 / (ages_ms[0.75] - 10) - 53.8) < 0.1

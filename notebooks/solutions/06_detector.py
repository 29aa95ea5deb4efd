# %% [markdown]
# Solutions to the exercises of chapter 6.

# %%
import math

import torch
from torch.utils.flop_counter import bmm_flop

from ssmbook.detector import PRESETS, Detector, input_sizes
from ssmbook.detector.attention import grid_partition, window_partition
from ssmbook.detector.boxes import box_iou

torch.manual_seed(0)

# %% ex-attention-cost
# n = 64 · 80, T = 8 · 10, C = 64: 4 n T C = 105 million each, twice. Global attention: 4 n² C = 6.7 billion each, 64 times as much.
n, T, C = 64 * 80, 80, 64
within, everywhere = 4 * n * T * C, 4 * n * n * C
assert (within, everywhere // within) == (104_857_600, 64)
g, d = (n // T) * 2, 32  # groups times heads; channels of a head
counted = [bmm_flop((g, T, d), (g, d, T)), bmm_flop((g, T, T), (g, T, d))]  # q kᵀ, then its product with v
assert sum(counted) == within

# %% ex-two-blocks
# A token's tile has one token of each grid group if there are as many grid groups as tokens of a tile or fewer: (H/p_h)(W/p_w) ≤ p_h p_w, in each direction.
# 8 × 10: 2 ≤ 4 rows and 2 ≤ 5 columns, true. 32 × 40: 8 > 4, no longer. (At 16 × 20 it still holds: 4 ≤ 4 and 4 ≤ 5.)


def reaches_all(H: int, W: int, size: tuple[int, int]) -> bool:
    numbers = torch.arange(H * W).view(1, H, W, 1)
    linked = []
    for partition in (window_partition, grid_partition):
        groups = partition(numbers, size)[..., 0]  # [groups, T]
        of = torch.empty(H * W, dtype=torch.long)
        of[groups] = torch.arange(len(groups))[:, None].expand_as(groups)
        linked.append((of[:, None] == of[None]).float())
    return bool(((linked[0] @ linked[1]) > 0).all())


assert reaches_all(8, 10, (4, 5))
assert reaches_all(16, 20, (4, 5))
assert not reaches_all(32, 40, (4, 5))

# %% ex-no-overlap
# The loss is 1 and its gradient 0; the class target is one-hot · 0, so all classes are pushed down. Only the other predictions of its box, the shared
# weights, and a new assignment at the next step can move it.
prediction = torch.tensor([10.0, 10, 4, 4], requires_grad=True)
loss = 1 - box_iou(prediction, torch.tensor([30.0, 30, 4, 4])).square()
loss.backward()
assert loss.item() == 1
assert prediction.grad.abs().max() == 0

# %% ex-prior
# With π = 0.01: (1670 · −log 0.99 + 10 · −log 0.01) / 10 = 6.3. With 0: 1680 · log 2 / 10 = 116, nearly all of it from empty positions.
pi = 0.01
started = (1670 * -math.log(1 - pi) + 10 * -math.log(pi)) / 10
assert abs(started - 6.28) < 0.01
assert abs(1680 * math.log(2) / 10 - 116.4) < 0.1

# %% ex-own-camera
# 260 × 346 needs k = 2: an input of 320 × 384 and groups of 5 × 6. The parameters differ by those of one class at three levels: 3 (96 + 1).
sizes = input_sizes(260, 346)
assert sizes == {"input_hw": (320, 384), "partition": (5, 6)}
model = Detector(**{**PRESETS["gen1-small"], **sizes, "num_classes": 1}).eval()
with torch.no_grad():
    features, _ = model.features(torch.zeros(1, 1, 20, 260, 346, dtype=torch.uint8))
    predictions = model.predict(features)
assert predictions.shape[2] == sum((320 // s) * (384 // s) for s in (8, 16, 32)) == 2520
small = Detector(**PRESETS["gen1-small"])
counts = [sum(p.numel() for p in m.parameters()) for m in (small, model)]
assert counts[0] - counts[1] == 3 * (96 + 1)

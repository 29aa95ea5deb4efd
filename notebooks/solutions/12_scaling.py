# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %%
import math

import torch


def makespan(durations: list[float], workers: int) -> float:
    lanes = [0.0] * workers
    for p in sorted(durations, reverse=True):
        lanes[lanes.index(min(lanes))] += p
    return max(lanes)


# %% ex-lpt
# 3, 3, 2, 2, 2: longest first gives {3, 2, 2} and {3, 2}, that is 7; {3, 3} and {2, 2, 2} take 6.
durations = [3.0, 3.0, 2.0, 2.0, 2.0]
assert makespan(durations, 2) == 7.0
best = min(
    max(
        sum(p for i, p in enumerate(durations) if mask >> i & 1),
        sum(p for i, p in enumerate(durations) if not mask >> i & 1),
    )
    for mask in range(32)
)
assert best == 6.0
assert 7 / 6 <= 4 / 3 - 1 / (3 * 2) + 1e-12  # the bound, 7/6, is reached

# %% ex-mean
weight = torch.tensor(2.0, requires_grad=True)
shares = [torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([10.0])]
n = sum(map(len, shares))


def gradient(loss: torch.Tensor) -> float:
    return torch.autograd.grad(loss, weight)[0].item()


whole = gradient((weight * torch.cat(shares)).sum() / n)
means = sum(gradient((weight * share).mean()) for share in shares) / 2
right = sum(gradient(2 * (weight * share).sum() / n) for share in shares) / 2
assert abs(right - whole) < 1e-6
assert abs(means - whole) > 1.0

# %% ex-serial
# 1.28 = 1 / (σ + (1 − σ)/2) gives σ = 2/1.28 − 1 = 0.5625; the limit is 1/σ. (Two processes here share memory and disk.)
serial = 2 / 1.28 - 1
assert abs(1 / (serial + (1 - serial) / 2) - 1.28) < 1e-9
assert abs(1 / serial - 1.78) < 0.01

# %% ex-interval
between_s = 365 * 24 * 3600 / 64
best = math.sqrt(2 * 20 * between_s)
lost = {interval: 20 / interval + interval / (2 * between_s) for interval in (60.0, best)}
assert lost[60.0] > 0.33  # a third of the time goes into saving
assert lost[best] < 0.01  # every 74 minutes: less than one per cent
assert 70 < best / 60 < 80

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %%
import numpy as np
import torch
from torch import nn

_ = torch.manual_seed(0)


def ready(ends: np.ndarray, compute: float) -> np.ndarray:
    done, out = -np.inf, []
    for end in ends:
        done = max(end, done) + compute
        out.append(done)
    return np.array(out)


# %% ex-freshest
# The mean age δ/2 + c falls with δ, and the machine keeps up for δ ≥ c: the best is δ = c = 8 ms, that is 125 Hz.
ages = {rate: 500 / rate + 8 for rate in (50, 100, 125)}
assert min(ages, key=ages.get) == 125
assert ages[125] == 12.0
# A wire adds its 10 ms to every age and keeps nobody busy: the best rate stays, the age is 22 ms.
assert ages[125] + 10 == 22.0

# %% ex-behind
# It falls behind by 2 ms a step, 6,000 steps in a minute: 12 s.
ends = np.arange(1, 6001) * 0.010
assert abs((ready(ends, 0.012) - ends)[-1] - (12.0 + 0.010)) < 0.02
# Without every sixth window 5 steps take 60 ms of every 60: just enough.
kept = ends[np.arange(len(ends)) % 6 != 5]
assert (ready(kept, 0.012) - kept).max() < 0.025

# %% ex-fold
conv, norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8).eval()
for values in (norm.weight, norm.bias, norm.running_mean):
    nn.init.normal_(values)
nn.init.uniform_(norm.running_var, 0.5, 2)
scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
folded = nn.Conv2d(3, 8, 3)
folded.weight.data = conv.weight.data * scale.data[:, None, None, None]
folded.bias.data = (norm.bias - scale * norm.running_mean).data
x = torch.randn(2, 3, 10, 10)
assert torch.allclose(folded(x), norm(conv(x)), atol=1e-5)

# %% ex-planes
pole, gain = torch.polar(torch.tensor([0.9]), torch.tensor([0.7])), torch.randn(1, dtype=torch.complex64)
x, re, im = torch.zeros(1, dtype=torch.complex64), torch.zeros(1), torch.zeros(1)
for u in torch.randn(10):
    x = pole * x + gain * u
    re, im = pole.real * re - pole.imag * im + gain.real * u, pole.imag * re + pole.real * im + gain.imag * u
    assert torch.allclose(torch.stack([re, im]), torch.stack([x.real, x.imag]), atol=1e-6)

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

from ssmbook.ssm import S5, discretize
from ssmbook.ssm.s5 import passes_band

torch.set_default_dtype(torch.float64)
k = 10  # 200 Hz against 20
_ = torch.manual_seed(0)
layer = S5(width=16, state_width=64)
Lambda, Delta = layer.eigenvalues().detach(), layer.log_step.detach().exp()

# %% ex-true-brighter
# Each event now counts k in its one frame: n = k instead of 1. With s = 1/k, ρ = s · k = 1 and a = s · k = 1, as in training.
# A detector may fail all the same: frames are thin, not faint, counts are clamped at 10 before they could be multiplied, and
# the direct path sees frames of a kind that training did not have.
pole, gain = discretize(torch.tensor([-0.5 + 0j]), torch.tensor(0.2 / k))
x, heights = torch.zeros(1, dtype=torch.complex128), []
for step in range(100 * k):
    x = pole * x + gain * (k if step == 0 else 0.0)
    heights.append(float(x.real))
assert abs(heights[0] - 0.2) < 0.01  # a = 1: the height of training, Δ · 1
assert abs(heights[10 * k] / heights[0] - math.exp(-1)) < 0.01  # ρ = 1: e⁻¹ after 10 steps of training

# %% ex-slower
# A mode passes Nyquist's limit where sΔ|Im λ| ≥ π.
too_fast = {s: int((s * Delta * Lambda.imag.abs() >= math.pi).sum()) for s in (1, 4)}
assert too_fast[4] > too_fast[1]
# A held mask takes them out at 5 Hz; one applied once does not follow, and the H2 norm was that of 20 Hz.
assert int((~passes_band(Lambda, 4 * Delta, 1.0)).sum()) == too_fast[4]

# %% ex-mask-rate
# The rule at scale 1/k with α/k reads (Δ/k)|Im λ|/2π < α/2k, which is the rule at scale 1 with α, times 1/k.
for alpha in (0.25, 0.5, 1.0):
    assert torch.equal(passes_band(Lambda, Delta / k, alpha / k), passes_band(Lambda, Delta, alpha))

# %% ex-warp
# Solve 2 arctan(Δ Im λ / 2) = 2π · 4 / 20 for Δ Im λ.
turn = 2 * math.tan(math.pi * 4 / 20)
at_20, _ = discretize(torch.tensor([1j * turn]), torch.tensor(1.0))
assert abs(float(at_20.angle()) * 20 / (2 * math.pi) - 4) < 1e-9
# At 200 Hz with scale 1/10 the warping is nearly gone and the mode shows its own frequency, turn · 20 / 2π = 4.63 Hz:
at_200, _ = discretize(torch.tensor([1j * turn]), torch.tensor(0.1))
assert abs(float(at_200.angle()) * 200 / (2 * math.pi) - turn * 20 / (2 * math.pi)) < 0.05

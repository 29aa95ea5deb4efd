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

from ssmbook.ssm import discretize
from ssmbook.ssm.plain import scan

_ = torch.manual_seed(0)

# %% ex-repair
a = torch.polar(torch.full((4,), 0.95, dtype=torch.float64), torch.linspace(0, 2, 4, dtype=torch.float64))
bu = torch.randn(2, 30, 4, dtype=torch.complex128)
whole = scan(a, bu)
first, second = bu[:, :12], bu[:, 12:].clone()
x_prev = scan(a, first)[:, -1]
second[:, 0] += a * x_prev
assert torch.allclose(scan(a, second), whole[:, 12:], rtol=0, atol=1e-12)

# %% ex-past
# The stream begins 9 windows before the first label, which is thus at place 9; labels follow every second window.
places = (9 + 2 * np.arange(1000)) % 10
past_s = 0.05 * (places + 1)
assert set(places) == {1, 3, 5, 7, 9}
assert abs(past_s.mean() - 0.3) < 1e-9  # 0.1, 0.2, 0.3, 0.4 and 0.5 s in turn

# %% ex-wrap
# 100 swings a second with 8 events each are 0.8 events a ms; a bin has w/10 ms: 0.08 · w ≥ 256 from w = 3.2 s on.
window_ms = 256 / (0.1 * 100 / 1000 * 8)
assert round(window_ms) == 3200
# Windows of 50 ms have 4 events a bin. It takes 51,200 events a second at one pixel to wrap there: a fault, not a lamp.
assert round(256 / 0.005) == 51_200

# %% ex-edge
# (1 + Δr/2)/(1 − Δr/2) ≈ e^{Δr} for a real mode, so 21 Δr < ln 1.01.
largest = np.log(1.01) / (21 * 0.1)
size = discretize(torch.tensor([complex(largest, 0.0)]), torch.tensor(0.1))[0].abs().item()
assert abs(size**21 - 1.01) < 1e-4
assert size ** (20 * 3600) > 1e14  # an hour at 20 Hz

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

from ssmbook.ssm import S5


def kept_share(T: float, n: int, carried: bool) -> float:
    decay = math.exp(-1 / T)
    return 1 - decay**n if carried else 1 - decay ** (n - 1) * (1 + (n - 1) * (1 - decay))


# %% ex-chunk
# Carried, e^{−n/T} = 0.1 gives n = T ln 10; from zero (1 + n/T) e^{−n/T} = 0.1 gives about 3.9 T. Both grow with T.
need = {
    (T, carried): next(n for n in range(1, 5000) if kept_share(T, n, carried) >= 0.9)
    for T in (20, 200)
    for carried in (True, False)
}
assert need[20, True] == math.ceil(20 * math.log(10)) == 47
assert need[200, True] == 461
assert 78 <= need[20, False] <= 80
assert 775 <= need[200, False] <= 782

# %% ex-burn
# e^{−0.005 n} = 0.01 gives n = ln 100 / 0.005 = 921 windows: 46 s at 20 Hz.
n = math.ceil(math.log(100) / 0.005)
assert n == 922
layer = S5(width=1, state_width=1).double()
layer.Lambda.data = torch.tensor([[-0.5, 0.0]], dtype=torch.float64)
layer.log_step.data = torch.tensor([math.log(0.01)], dtype=torch.float64)
u = torch.randn(1, n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
wrong = torch.ones(1, 1, dtype=torch.complex128)
with torch.no_grad():
    left = (layer(u, wrong)[1] - layer(u)[1]).abs().item()
assert abs(left - 0.01) < 1e-3

# %% ex-clip
g = torch.tensor([3.0, 0.5])
by_value, by_norm = g.clamp(-1, 1), g / max(1.0, float(g.norm()))
assert by_value.tolist() == [1.0, 0.5]  # another direction
assert torch.allclose(by_norm / by_norm.norm(), g / g.norm())
# AdamW divides each number by its own spread, so that a constant factor on one of them has no lasting effect; what clipping
# by value does is to limit how far a single outlier moves m and v.

# %% ex-nothing
# d/dq of −[n log q + (A − n) log(1 − q)]/n is zero at q = n/A.
n, A = 20, 5040
q = n / A


def loss(q: float) -> float:
    return -(n * math.log(q) + (A - n) * math.log(1 - q)) / n


assert loss(q) < min(loss(0.9 * q), loss(1.1 * q))
assert abs(loss(q) - 6.53) < 0.01  # a plateau that many runs rest on for a while

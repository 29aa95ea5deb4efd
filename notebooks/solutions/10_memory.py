# %% [markdown]
# # Solutions to chapter 10

# %% ex-hold
import math

decay_per_s = math.log(2) / 0.5  # at g = 1
gate = -math.log(0.9) / (decay_per_s * 3)
assert math.isclose(gate, 0.0253, rel_tol=0.01)

# %% ex-gate-rate
import torch

from ssmbook.ssm import SelectiveS5

torch.manual_seed(0)
layer = SelectiveS5(4, 8, discretization="zoh").double()
torch.nn.init.constant_(layer.gate_bias, -3.0)  # g = 0.095: the state is nearly held
u, state = torch.zeros(1, 1, 4).double(), torch.randn(1, 8, dtype=torch.complex128)
_, once = layer(u, state)
_, half = layer(u, state, step_scale=0.5)
_, twice = layer(u, half, step_scale=0.5)
torch.testing.assert_close(twice, once)
kept = (once.norm() / state.norm()).item()
assert 0.9 < kept < 1.0


# %% ex-from-zero
def filled(windows: int, tau_s: float = 2.0) -> float:
    """Share of its level that a mode reaches from zero under a constant input."""
    return 1 - math.exp(-0.05 * windows / tau_s)


assert math.isclose(filled(10), 0.221, abs_tol=1e-3)
assert math.isclose(filled(21), 0.408, abs_tol=1e-3)
windows = math.log(10) * 2.0 / 0.05  # e^(−n/T) = 0.1
assert math.isclose(windows, 92.1, abs_tol=0.1)  # 4.6 s

# %% ex-capacity
from ssmbook.study import get_profile

sizes = get_profile("demo").long_range
asked = 2 * sizes.delay / sizes.period
held = 2 * (sizes.state_width // 2) * sizes.depth  # state_width / 2 complex numbers in each layer
assert (asked, held) == (10.0, 256)

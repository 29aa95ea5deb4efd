# %% [markdown]
# Solutions to the exercises of chapter 3.

# %%
import math

import numpy as np
import torch

from ssmbook.ssm import S5, discretize

torch.set_default_dtype(torch.float64)

# %% ex-second-order
# With a_i = 2π f_i: ẋ₁ = a₁ (u − x₁), ẋ₂ = a₂ (x₁ − x₂), y = x₂. The matrix is triangular, so its eigenvalues are −a₁ and −a₂. If they are
# equal there is only one eigenvector, (0, 1): a system diagonal in any basis would have to be −a times the identity, which it is not.


def two_filters(a1: float, a2: float) -> np.ndarray:
    return np.array([[-a1, 0.0], [a2, -a2]])


values, vectors = np.linalg.eig(two_filters(3.0, 5.0))
assert sorted(values.tolist()) == [-5.0, -3.0]
assert np.linalg.matrix_rank(vectors) == 2
equal = two_filters(3.0, 3.0)
assert np.linalg.matrix_rank(equal + 3 * np.eye(2)) == 1  # one eigenvector only

# %% ex-hold-exact
# The bilinear rule gets the value right to which a constant input settles: b̄ / (1 − λ̄) = −b/λ for both rules.
lam, b = torch.tensor([-0.7 + 5j]), 1.0
for step in (0.01, 0.3, 2.0):
    found = {}
    for rule in ("zoh", "bilinear"):
        bar, gain = discretize(lam, torch.tensor(step), rule)
        x = torch.zeros(1, dtype=lam.dtype)
        for u in (1.0, -2.0, 0.5):
            x = bar * x + gain * b * u
        found[rule] = x
        assert torch.allclose(gain / (1 - bar), -1 / lam, rtol=0, atol=1e-12)
    exact = torch.zeros(1, dtype=lam.dtype)
    for u in (1.0, -2.0, 0.5):  # ẋ = λ x + u over one step, from the solution
        exact = torch.exp(lam * step) * exact + (torch.exp(lam * step) - 1) / lam * u
    assert torch.allclose(found["zoh"], exact, rtol=0, atol=1e-12)
    assert not torch.allclose(found["bilinear"], exact, rtol=0, atol=1e-6)

# %% ex-zoh-layer
# Two lines change.


def s5_zoh(u, Lambda, B, C, D, log_step, x=None, step_scale=1.0):
    step = step_scale * torch.exp(log_step)
    Lambda_bar = torch.exp(step * Lambda)
    B_bar = ((Lambda_bar - 1) / Lambda)[:, None] * B
    x = torch.zeros_like(Lambda) if x is None else x
    outputs = []
    for u_k in u:
        x = Lambda_bar * x + B_bar @ u_k.to(B.dtype)
        outputs.append((C @ x).real + D * u_k)
    return torch.stack(outputs), x


torch.manual_seed(0)
layer = S5(4, 8, discretization="zoh")
Lambda, B, C = (torch.view_as_complex(getattr(layer, name).detach()) for name in ("Lambda", "B", "C"))
u = torch.randn(30, 4)
with torch.no_grad():
    for scale in (1.0, 0.1):
        ours, _ = s5_zoh(u, Lambda, B, C, layer.D, layer.log_step, step_scale=scale)
        assert torch.allclose(ours, layer(u[None], step_scale=scale)[0][0], rtol=0, atol=1e-10)

# %% ex-stable
# |λ̄| ≈ e^(0.01) per step: a factor of 1.23 over 21 steps, which a chunk hardly notices, and of 5·10⁸ over 2,000. clip_eigs holds
# Re λ ≤ −1e-4, so that the same mode stays bounded.
bar, _ = discretize(torch.tensor([0.1 + 3j]), torch.tensor(0.1))
growth = bar.abs().item()
assert 1.2 < growth**21 < 1.25
assert growth**2000 > 1e8
clipped = S5(1, 2, clip_eigs=True)
with torch.no_grad():
    clipped.Lambda[:, 0] = 0.1
    assert bool((clipped.eigenvalues().real <= -1e-4 + 1e-12).all())

# %% ex-legendre
# With z = e^(−τ), dz = −e^(−τ) dτ: orthonormal over z means orthonormal over the past with the weight e^(−τ), so the recent past counts most.
nodes, weights = np.polynomial.legendre.leggauss(20)
z = (nodes + 1) / 2
L = np.polynomial.legendre.legvander(2 * z - 1, 7) * np.sqrt(2 * np.arange(8) + 1)
assert np.allclose((L.T * weights / 2) @ L, np.eye(8))
tau = np.linspace(0, 40, 400_001)
L = np.polynomial.legendre.legvander(2 * np.exp(-tau) - 1, 2) * np.sqrt(2 * np.arange(3) + 1)
gram = np.trapezoid(L[:, :, None] * L[:, None] * np.exp(-tau)[:, None, None], tau, axis=0)
assert np.allclose(gram, np.eye(3), atol=1e-4)
assert math.isclose(float(np.trapezoid(np.exp(-tau), tau)), 1, abs_tol=1e-6)

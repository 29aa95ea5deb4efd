# %% [markdown]
# Solutions to the exercises of chapter 4.

# %%
import math

import numpy as np
import torch

from ssmbook.ssm.hippo import hippo_legs
from ssmbook.ssm.plain import scan

rng = np.random.default_rng(0)


def tree_scan(items: list, op) -> list:
    """As in the chapter."""
    if len(items) == 1:
        return items
    pairs = [op(items[i], items[i + 1]) for i in range(0, len(items) - 1, 2)]
    odd = tree_scan(pairs, op)
    out = [items[0]]
    for i in range(1, len(items)):
        out.append(odd[i // 2] if i % 2 else op(odd[i // 2 - 1], items[i]))
    return out


# %% ex-affine
# (a) max itself is associative. (b) No: two steps give tanh(a tanh(a x + u₁) + u₂), three a deeper nest; no fixed number of
# coefficients describes them. (c) Yes: x → max(a x + b, c) is described by (a, b, c), and with a₂ > 0
# max(a₂ max(a₁ x + b₁, c₁) + b₂, c₂) = max(a₂ a₁ x + a₂ b₁ + b₂, max(a₂ c₁ + b₂, c₂)).
u = rng.standard_normal(21).tolist()
assert tree_scan(u, max) == np.maximum.accumulate(u).tolist()


def clipped(first, second):
    (a1, b1, c1), (a2, b2, c2) = first, second
    return a2 * a1, a2 * b1 + b2, max(a2 * c1 + b2, c2)


steps = list(zip(rng.uniform(0.5, 1, 21), rng.standard_normal(21), rng.standard_normal(21), strict=True))
x, looped = 0.3, []
for a, b, c in steps:
    x = max(a * x + b, c)
    looped.append(x)
assert np.allclose([max(a * 0.3 + b, c) for a, b, c in tree_scan(steps, clipped)], looped)

# %% ex-lengths
# It works for any length: a last item without a partner is combined when the prefixes come back.
work = 0


def depth(first: int, second: int) -> int:
    global work
    work += 1
    return 1 + max(first, second)


spans, works = {}, {}
for length in (16, 21, 32):
    work = 0
    spans[length], works[length] = max(tree_scan([0] * length, depth)), work
assert (works[16], works[32]) == tuple(2 * n - int(math.log2(n)) - 2 for n in (16, 32))
assert works[16] < works[21] < works[32]
assert spans[16] <= spans[21] <= spans[32]

# %% ex-padding
# An output of the full convolution has L + m − 1 samples; those beyond the transform's length M come back at 0, 1, …. The first
# L outputs are right if M ≥ L + m − 1. With M one less, sample L + m − 2 falls on output 0.
L, m = 50, 12
K, u = torch.randn(m, dtype=torch.float64), torch.randn(L, dtype=torch.float64)
right = torch.tensor(np.convolve(K, u))[:L]
for length, holds in ((L + m - 1, True), (L + m - 2, False)):
    y = torch.fft.irfft(torch.fft.rfft(K, length) * torch.fft.rfft(u, length), length)[:L]
    assert torch.allclose(y, right, rtol=0, atol=1e-9) == holds

# %% ex-carried
# Besides the output, the state at the end of the first chunk: x = Σ_i Λ̄^(n−1−i) u_i, one sum for each mode.
modes = torch.tensor([0.99 * np.exp(0.2j), 0.97 * np.exp(0.05j)])
C = torch.tensor([0.3 + 0.2j, 0.5 - 0.1j])
u = torch.randn(80, dtype=torch.float64)
whole = (scan(modes, u[None, :, None].to(modes.dtype).expand(1, 80, 2))[0] * C).sum(-1).real
n = 40
powers = modes ** torch.arange(n)[:, None]  # [n, P]
K = (C * powers).sum(-1).real


def convolved(u: torch.Tensor) -> torch.Tensor:
    return torch.fft.irfft(torch.fft.rfft(K, 2 * n) * torch.fft.rfft(u, 2 * n), 2 * n)[:n]


state = (powers.flip(0) * u[:n, None]).sum(0)
second = convolved(u[n:]) + (C * powers * modes * state).sum(-1).real
assert torch.allclose(torch.cat([convolved(u[:n]), second]), whole, rtol=0, atol=1e-10)

# %% ex-woodbury
A, p = hippo_legs(8)
S = A + np.outer(p, p)
inverse = np.linalg.inv(S)
update = np.outer(inverse @ p, p @ inverse) / (1 - p @ inverse @ p)
assert np.allclose(inverse + update, np.linalg.inv(A))

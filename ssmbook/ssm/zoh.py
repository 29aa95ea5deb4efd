"""The zero-order hold's gain, (e^z − 1)/z of z = ΔΛ, in real arithmetic: right where z is small, and at z = 0.

B̄ = (e^{ΔΛ} − 1)/Λ ∘ B = Δ φ(ΔΛ) ∘ B. The quotient cancels near 0, and its gradient more so; there φ(z) = Σ zⁿ/(n+1)!.
"""

import torch
from torch import Tensor

NEAR, TERMS = 0.3, 12  # the first term left out is 0.3^13/14! = 2e-18


def zoh_gain(re: Tensor, im: Tensor) -> tuple[Tensor, Tensor]:
    """φ(z) = (e^z − 1)/z of z = re + i im as (Re φ, Im φ); φ(0) = 1. Differentiable, finite wherever e^z is."""
    near = re * re + im * im < NEAR**2
    one, zero = torch.ones_like(re), torch.zeros_like(re)
    # Each branch sees only values that it is meant for: else the unused one would leave NaN in the gradient.
    x, y = torch.where(near, re, zero), torch.where(near, im, zero)
    series = one, zero
    for n in range(TERMS, 0, -1):
        series = 1 + (x * series[0] - y * series[1]) / (n + 1), (x * series[1] + y * series[0]) / (n + 1)
    x, y = torch.where(near, one, re), torch.where(near, zero, im)
    top = torch.expm1(x) * torch.cos(y) - 2 * torch.sin(y / 2) ** 2, torch.exp(x) * torch.sin(y)
    norm = x * x + y * y
    quotient = (top[0] * x + top[1] * y) / norm, (top[1] * x - top[0] * y) / norm
    return torch.where(near, series[0], quotient[0]), torch.where(near, series[1], quotient[1])


def complex_zoh_gain(z: Tensor) -> Tensor:
    """`zoh_gain` of complex z."""
    return torch.complex(*zoh_gain(z.real, z.imag))

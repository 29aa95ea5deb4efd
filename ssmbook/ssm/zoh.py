"""The zero-order hold's gain, (e^z − 1)/z of z = ΔΛ, in real arithmetic: right where z is small, and at z = 0; and
the share of a step's input that a part of the step takes.

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


def share_of_a_step(s: float | Tensor, z: Tensor) -> Tensor:
    """(1 − exp(−s z)) / (1 − exp(−z)): of what enters in a step of decay exp(−z), z ≥ 0, that of a part s of it.

    With this share, steps whose s add up to 1 do, under one input, what one step does: they are exact solutions of the
    equation of which that step is one, whatever rule made its input. Without a difference of nearly equal numbers, and
    by functions that every runtime has: 1 − exp(−2a) = 2 tanh a / (1 + tanh a). Near z = 0, where the gradient of the
    quotient cancels, it is its tangent, s + s (1 − s) z / 2.
    """
    near = torch.finfo(z.dtype).eps ** 0.5 / (s.clamp(min=1) if isinstance(s, Tensor) else max(s, 1))
    beyond, below = z.clamp(min=near), z.clamp(max=near) - near
    part, whole = torch.tanh(0.5 * s * beyond), torch.tanh(0.5 * beyond)
    return part / (1 + part) * ((1 + whole) / whole) + 0.5 * s * (1 - s) * below

"""From dx/dt = Λ x + B u to x_k = Λ̄ x_{k−1} + B̄ u_k, for diagonal layers."""

from typing import Literal

import torch
from torch import Tensor

from ssmbook.ssm.kernels.planes import from_planes, multiply_planes
from ssmbook.ssm.zoh import zoh_gain

Discretization = Literal["bilinear", "zoh"]


def discretize(Lambda: Tensor, step: Tensor, method: Discretization = "bilinear") -> tuple[Tensor, Tensor]:
    """Λ̄ and the factor Δ̄ of B̄ = Δ̄ ∘ B, for modes Λ [P] and steps Δ [..., P] (arXiv 2208.04933, §3).

    bilinear: Λ̄ = (1 + ΔΛ/2) / (1 − ΔΛ/2), Δ̄ = Δ / (1 − ΔΛ/2);  zoh: Λ̄ = exp(ΔΛ), Δ̄ = (Λ̄ − 1) / Λ, which is Δ
    at Λ = 0.
    """
    return tuple(map(from_planes, discretize_planes(Lambda.real, Lambda.imag, step, method)))  # type: ignore[return-value]


def discretize_planes(
    real: Tensor, imag: Tensor, step: Tensor, method: Discretization
) -> tuple[Tensor, Tensor]:
    """`discretize` in real arithmetic, which compiles and exports: Λ̄ and Δ̄ as planes [..., 2P]."""
    re, im = step * real, step * imag  # ΔΛ
    if method == "bilinear":
        norm = (1 - re / 2) ** 2 + (im / 2) ** 2
        inverse = torch.cat([(1 - re / 2) / norm, im / 2 / norm], -1)  # 1 / (1 − ΔΛ/2)
        step = step.expand_as(re)
        return (
            multiply_planes(torch.cat([1 + re / 2, im / 2], -1), inverse),
            torch.cat([step, step], -1) * inverse,
        )
    size = torch.exp(re)
    gain = zoh_gain(re, im)
    return torch.cat([size * torch.cos(im), size * torch.sin(im)], -1), torch.cat(
        [step * gain[0], step * gain[1]], -1
    )

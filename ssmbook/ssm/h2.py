"""How much of a layer's response lies above a frequency: the H2 norm above ω_min, in closed form.

    G(jω) = ½ [C (jω − Λ)⁻¹ B + C̄ (jω − Λ̄)⁻¹ B̄],     ‖G‖² = 1/π ∫ from ω_min to ∞ of ‖G(jω)‖²_F dω

"State Space Models for Event Cameras" (arXiv 2402.15584) penalises this norm against aliasing. Over the poles
μ = (Λ, Λ̄) with residues R_q = c_q b_qᵀ, the integrand is Σ_qr ⟨R_q, R_r⟩ / ((−jω − μ̄_q)(jω − μ_r)), and each
term integrates, with Re μ < 0, to

    I_qr = j/π · (κ̄_q − κ_r) / (μ̄_q + μ_r),     κ = log(ω_min + jμ).
"""

import math

import torch
from torch import Tensor

from ssmbook.errors import InputError


def h2_norm(Lambda: Tensor, B: Tensor, C: Tensor, omega_min: float) -> Tensor:
    """‖G‖ of the real system Re(C (jω − Λ)⁻¹ B) above ω_min, differentiable (where it is 0, with gradient
    0); computed in double precision.

    Args:
        Lambda: poles, complex [..., P], Re λ < 0, in radians per unit of time.
        B: complex [..., P, H].   C: complex [..., K, P].
        omega_min: where the integral starts, in the unit of Λ, at least 0; with Λ' = ΔΛ and B' = ΔB it is in
            radians per step, and a frequency mask at α corresponds to ω_min = πα.

    Leading axes hold systems side by side, whose squares add up.

    Raises:
        InputError: ω_min is negative, or some Re λ ≥ 0, for which it is not defined (hold it, as ``clip_eigs`` does).
    """
    if not omega_min >= 0:
        raise InputError(f"omega_min must be at least 0, not {omega_min}")
    largest = float(Lambda.detach().real.max())
    if not largest < 0:
        raise InputError(f"the H2 norm needs Re λ < 0 for every mode, but the largest is {largest}")
    Lambda, B, C = (x.to(torch.complex128) for x in (Lambda, B, C))
    mu = torch.cat([Lambda, Lambda.conj()], -1)  # [..., 2P]
    b = torch.cat([B, B.conj()], -2)  # [..., 2P, H]
    c = torch.cat([C, C.conj()], -1) / 2  # [..., K, 2P]
    residues = (c.mH @ c) * (b.conj() @ b.mT)  # ⟨R_q, R_r⟩, [..., 2P, 2P]
    kappa = torch.log(omega_min + 1j * mu)
    integrals = 1j / math.pi * (kappa.conj()[..., :, None] - kappa[..., None, :])
    integrals = integrals / (mu.conj()[..., :, None] + mu[..., None, :])
    squared = (residues * integrals).sum().real
    above = squared > 0  # at 0 the root has no derivative
    return torch.where(above, squared.where(above, 1).sqrt(), 0)

"""What a layer does to each frequency: the response of the discretised system, as it runs.

    x_k = Λ̄ x_{k−1} + B̄ u_k,   y_k = Re(C x_k)
    G(ω) = ½ [C (1 − Λ̄ e^{−jω})⁻¹ B̄ + conj(C (1 − Λ̄ e^{jω})⁻¹ B̄)],   ω in radians per step

An input e^{jωk} comes out as G(ω) e^{jωk} once the start is forgotten.
"""

import math

import torch
from torch import Tensor

from ssmbook.errors import InputError
from ssmbook.ssm.discretization import discretize
from ssmbook.ssm.s5 import S5, passes_band


def frequency_response(layer: S5, omega: Tensor, step_scale: float = 1.0) -> Tensor:
    """G(ω) of an S5 layer without D, complex [..., H, H]: output features by input features; differentiable.

    Args:
        layer: the layer; a held bandlimit applies, with the step that ``step_scale`` gives.
        omega: frequencies [...] in radians per step, at most π in size: Nyquist's limit of the steps.
        step_scale: factor on Δ, above 0, as in the call.

    Raises:
        InputError: ω beyond ±π, a step_scale ≤ 0, or a bidirectional layer, which is not causal.
    """
    if layer.bidirectional:
        raise InputError("the frequency response is that of a causal layer, not of a bidirectional one")
    if not step_scale > 0:
        raise InputError(f"step_scale must be above 0, not {step_scale}")
    if not bool((omega.abs() <= math.pi * (1 + 1e-6)).all()):
        raise InputError(f"omega must lie within ±π radians per step, not {float(omega.abs().max())}")
    Lambda, step = layer.eigenvalues(), step_scale * layer.log_step.exp()
    Lambda_bar, gain = discretize(Lambda, step, layer.discretization)
    B_bar = gain[:, None] * torch.view_as_complex(layer.B)  # [P, H]
    C = torch.view_as_complex(layer.C) * (2 if layer.conj_sym else 1)  # [H, P]
    if layer.bandlimit is not None:
        C = C * passes_band(Lambda, step, layer.bandlimit)

    def half(angle: Tensor) -> Tensor:
        """C (1 − Λ̄ e^{−jω})⁻¹ B̄ / 2, [..., H, H]."""
        turn = torch.polar(torch.ones_like(angle), -angle)[..., None]  # [..., 1]
        return (C / (1 - Lambda_bar * turn)[..., None, :]) @ B_bar / 2

    omega = omega.to(layer.D)
    return half(omega) + half(-omega).conj()

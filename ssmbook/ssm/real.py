"""One step of each state-space layer in real arithmetic, for runtimes that have no complex numbers.

    layer(u [N, 1, H], state, step_scale)  →  y [N, 1, H], new state

A state is what the layer's complex one is, in planes: [N, 2, …], real parts and imaginary parts; S5's are flat,
[N, 2P]. The step scale is a number, which an export takes for a constant, or a tensor [], which stays an input.
Parameters are copied, without gradients. The layers import this module, so that here they are of any type.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmbook.ssm.discretization import discretize_planes
from ssmbook.ssm.kernels.planes import multiply_planes
from ssmbook.ssm.zoh import zoh_gain

Scale = float | Tensor
Pair = tuple[Tensor, Tensor]  # real part, imaginary part


class RealS5(nn.Module):
    """One step of an S5 layer in real arithmetic: u [N, 1, H], planes [N, 2P] → y [N, 1, H], planes [N, 2P].

    With hats for what a step Δ makes of it, x ← Λ̂ x + Δ̂ B u and y = Re(C x) + D ∘ u, see `ssmbook.ssm.s5`.
    """

    real: Tensor
    imag: Tensor
    step: Tensor
    B: Tensor
    C: Tensor
    D: Tensor

    def __init__(self, layer: Any) -> None:  # S5
        super().__init__()
        self.discretization, self.bandlimit = layer.discretization, layer.bandlimit
        self.state_shape = (2 * layer.modes,)
        Lambda = layer.eigenvalues().detach()
        (output,) = layer._output_planes()
        parts = {
            "real": Lambda.real,
            "imag": Lambda.imag,
            "step": layer.log_step.exp(),
            "B": torch.cat([layer.B[..., 0], layer.B[..., 1]]),  # [2P, H]
            "C": output,  # [H, 2P]
            "D": layer.D,
        }
        for name, value in parts.items():
            self.register_buffer(name, value.detach().clone())

    def forward(self, u: Tensor, state: Tensor | None, step_scale: Scale) -> tuple[Tensor, Tensor]:
        step = step_scale * self.step
        Lambda_hat, gain = discretize_planes(self.real, self.imag, step, self.discretization)
        x = multiply_planes(gain, F.linear(u[:, 0], self.B))  # [N, 2P]
        if state is not None:
            x = x + multiply_planes(Lambda_hat, state)
        seen = x
        if self.bandlimit is not None:
            keep = (step * self.imag.abs() / (2 * math.pi) < self.bandlimit / 2).to(x)
            seen = x * torch.cat([keep, keep], -1)
        return (F.linear(seen, self.C) + self.D * u[:, 0])[:, None], x


class RealSelectiveS5(RealS5):
    """`RealS5` with the step of each sequence from its input, see `ssmbook.ssm.selective`."""

    gate_weight: Tensor
    gate_bias: Tensor

    def __init__(self, layer: Any) -> None:  # SelectiveS5
        super().__init__(layer)
        for name in ("gate_weight", "gate_bias"):
            self.register_buffer(name, getattr(layer, name).detach().clone())

    def forward(self, u: Tensor, state: Tensor | None, step_scale: Scale) -> tuple[Tensor, Tensor]:
        gate = 2 * torch.sigmoid(F.linear(u[:, 0], self.gate_weight[None]) + self.gate_bias)  # [N, 1]
        return super().forward(u, state, step_scale * gate)


def times(a: Pair, x: Pair) -> Pair:
    """The complex product."""
    return a[0] * x[0] - a[1] * x[1], a[0] * x[1] + a[1] * x[0]


def plus(a: Pair, x: Pair) -> Pair:
    """The complex sum."""
    return a[0] + x[0], a[1] + x[1]


def inverse(a: Pair) -> Pair:
    """1 / a."""
    norm = a[0] ** 2 + a[1] ** 2
    return a[0] / norm, -a[1] / norm


class RealSISO(nn.Module):
    """What the steps of S4D and S4 share, see `ssmbook.ssm.siso`: H systems of M modes, D, and the output layer."""

    step: Tensor
    D: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, layer: Any) -> None:  # S4D or S4
        super().__init__()
        H, M = layer.state_shape
        self.bandlimit: float | None = getattr(layer.kernel, "bandlimit", None)
        self.state_shape = (2, H, M)
        A, B, C, step = layer.kernel.values()
        parts: dict[str, Any] = {"A": A, "B": B, "C": 2 * C, "step": step[:, None], "D": layer.D.reshape(H)}
        parts |= {"weight": layer.linear.weight.flatten(1), "bias": layer.linear.bias}
        if (rank_one := getattr(layer.kernel, "P", None)) is not None:  # of S4's mode "dplr"
            parts["P"] = torch.view_as_complex(rank_one[0].contiguous())
        for name, value in parts.items():
            value = torch.view_as_real(value).movedim(-1, 0) if value.is_complex() else value
            self.register_buffer(name, value.detach().clone())  # complex [H, M] → planes [2, H, M]

    def pair(self, name: str) -> Pair:
        """A complex parameter, each part [H, M]."""
        real, imag = getattr(self, name)
        return real, imag

    def forward(self, u: Tensor, state: Tensor | None, step_scale: Scale) -> tuple[Tensor, Tensor]:
        u = u[:, 0]
        step = self.step * step_scale  # [H, 1]
        x = self.advance(None if state is None else (state[:, 0], state[:, 1]), u[..., None], step)
        C = self.pair("C")
        if self.bandlimit is not None:
            keep = (step * self.pair("A")[1].abs() / (2 * math.pi) < self.bandlimit / 2).to(u)
            C = C[0] * keep, C[1] * keep
        y = (C[0] * x[0] - C[1] * x[1]).sum(-1) + self.D * u  # 2 Re(C x) + D ∘ u
        y = F.glu(F.linear(F.gelu(y), self.weight, self.bias), -1)
        return y[:, None], torch.stack(x, 1)

    def advance(self, x: Pair | None, u: Tensor, step: Tensor) -> Pair:
        """Ā x + B̄ u for x of parts [N, H, M], u [N, H, 1] and Δ [H, 1]; x is None at the start."""
        raise TypeError("a subclass says how the state moves on")


class RealDiagonal(RealSISO):
    """S4D, and S4 of mode "diag": x ← exp(ΔA) x + (exp(ΔA) − 1)/A ∘ B u."""

    def advance(self, x: Pair | None, u: Tensor, step: Tensor) -> Pair:
        A, B = self.pair("A"), self.pair("B")
        size, angle = torch.exp(step * A[0]), step * A[1]
        A_bar = size * torch.cos(angle), size * torch.sin(angle)
        B_bar = times(zoh_gain(step * A[0], angle), B)
        entering = step * B_bar[0] * u, step * B_bar[1] * u
        return entering if x is None else plus(times(A_bar, x), entering)


class RealS4DPLR(RealSISO):
    """S4 of mode "dplr". With A = Λ − P Pᴴ and the bilinear rule the next state z solves

        (I − ΔΛ/2) z = (I + ΔΛ/2) x + ΔB u − ½ΔP Pᴴ(x + z).

    With w = Λ̄ x + B̄ u, the step of Λ alone, and G = (I − ΔΛ/2)⁻¹ ½ΔP, the product of both sides with Pᴴ gives
    Pᴴ(x + z) = Pᴴ(x + w) / (1 + PᴴG), so that z = w − G Pᴴ(x + w) / (1 + PᴴG).
    """

    def advance(self, x: Pair | None, u: Tensor, step: Tensor) -> Pair:
        A, B, P = self.pair("A"), self.pair("B"), self.pair("P")
        half = step / 2
        D = inverse((1 - half * A[0], -half * A[1]))
        B_bar, G = times(D, (step * B[0], step * B[1])), times(D, (half * P[0], half * P[1]))
        gain = 2 / (1 + self._project(P, G))  # Pᴴ x stands for 2 Re(Pᴴ x) over the conjugate pairs
        G = gain * G[0], gain * G[1]
        w = B_bar[0] * u, B_bar[1] * u
        both = w
        if x is not None:
            w = plus(times(times(D, (1 + half * A[0], half * A[1])), x), w)
            both = plus(x, w)
        share = (P[0] * both[0] + P[1] * both[1]).sum(-1, keepdim=True)
        return w[0] - G[0] * share, w[1] - G[1] * share

    @staticmethod
    def _project(P: Pair, v: Pair) -> Tensor:
        return 2 * (P[0] * v[0] + P[1] * v[1]).sum(-1, keepdim=True)

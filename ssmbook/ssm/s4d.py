"""S4D: a diagonal state-space model for each feature (Gu et al. 2022, arXiv 2206.11893).

K_l = 2 Re Σ_n C_n B̄_n exp(ΔA_n)^l,   B̄ = (exp(ΔA) − 1)/A ∘ B             (zoh; B = 1)
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ssmbook.errors import InputError
from ssmbook.ssm.h2 import h2_norm
from ssmbook.ssm.hippo import Start, blocks_spectrum
from ssmbook.ssm.inputs import Arrays, check_bandlimit, check_gain, copy_parameters
from ssmbook.ssm.kernels.planes import conjugate_planes, to_planes
from ssmbook.ssm.real import RealDiagonal
from ssmbook.ssm.s5 import passes_band
from ssmbook.ssm.siso import ChunkMaps, SISOLayer
from ssmbook.ssm.zoh import complex_zoh_gain


class DiagonalSystem(nn.Module):
    """H diagonal systems of M modes, discretised by zoh. A subclass gives `values`; see `siso.System`."""

    modes: int
    bandlimit: float | None = None  # α of a held mask

    def values(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A, B, C, complex [H, M], and Δ [H]."""
        raise TypeError("a subclass gives the values")

    def masked_C(self, scale: Tensor) -> Tensor:
        """C [..., H, M] behind the held mask, for scale [...]."""
        A, _, C, step = self.values()
        if self.bandlimit is None:
            return C
        return C * passes_band(A, (scale[..., None] * step)[..., None], self.bandlimit)

    def maps(self, scale: Tensor, length: int) -> ChunkMaps:
        A, B, _, step = self.values()
        C = self.masked_C(scale)
        log_A_bar = (scale * step)[:, None, None] * A[:, None]  # [H, 1, M]
        k = torch.arange(length + 1, dtype=step.dtype, device=step.device)[:, None]
        powers = torch.exp(log_A_bar * k)  # [H, L + 1, M]
        B_bar = (scale * step)[:, None, None] * complex_zoh_gain(log_A_bar) * B[:, None]
        reach, observe = B_bar * powers[:, :-1], 2 * C[:, None] * powers[:, 1:]
        kernel = 2 * (C[:, None] * reach).sum(-1).real
        return ChunkMaps(kernel, conjugate_planes(to_planes(observe)), to_planes(reach))

    def carry(self, x: Tensor, scale: Tensor, length: int) -> Tensor:
        A, _, _, step = self.values()
        return torch.exp((scale * length * step)[:, None] * A) * x

    def advance(self, x: Tensor, u: Tensor, scale: Tensor) -> Tensor:
        A, B, _, step = self.values()
        step = (scale[..., None] * step)[..., None]  # [H, 1] or [N, H, 1]
        return torch.exp(step * A) * x + step * complex_zoh_gain(step * A) * B * u[..., None]

    def read(self, x: Tensor, scale: Tensor) -> Tensor:
        return 2 * (self.masked_C(scale) * x).sum(-1).real

    def h2_norm(self, omega_min: float) -> Tensor:
        A, B, _, step = self.values()
        C = self.masked_C(torch.ones_like(step[0]))
        step = step[:, None]
        return h2_norm(step * A, (step * B)[..., None], 2 * C[:, None], omega_min)


class S4DKernel(DiagonalSystem):
    """The systems of S4D as stored: C [H, M, 2], log_dt [H], log_A_real [H, M], A_imag [H, M]."""

    def __init__(self, width: int, state_width: int, start: Start):
        super().__init__()
        Lambda = torch.as_tensor(blocks_spectrum(state_width, half=True, start=start)[0])
        self.modes = M = len(Lambda)
        log_dt = torch.empty(width).uniform_(math.log(1e-3), math.log(1e-1))
        dtype = torch.get_default_dtype()
        self.C = nn.Parameter(torch.randn(width, M, 2) * math.sqrt(0.5))  # unit variance as complex numbers
        self.log_dt = nn.Parameter(log_dt)
        self.log_A_real = nn.Parameter((-Lambda.real).log().to(dtype).repeat(width, 1))
        self.A_imag = nn.Parameter((-Lambda.imag).to(dtype).repeat(width, 1))

    def values(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        A = torch.complex(-self.log_A_real.exp(), self.A_imag)
        return A, torch.ones_like(A), torch.view_as_complex(self.C), self.log_dt.exp()


class S4D(SISOLayer):
    """S4D with a carried state: convolution over sequences, recurrence over single steps.

    Args:
        width: H, features of the input and of the output.
        state_width: N, even: N/2 modes and their conjugates for each feature. The state is complex
            [.., H, N/2].
        start: "lin" (A_n = −½ + iπn, as in the published code), "inv", or "legs" (normal part of HiPPO-LegS).
        bandlimit, bandlimit_mode: as in `S5`.
        state_gain: factor on C at the start.

    The parameters carry the names of the published `s4d.py`: D, kernel.C, …, output_linear.0.weight
    [2H, H, 1].
    """

    kernel: S4DKernel
    dynamics = ("kernel.log_dt", "kernel.log_A_real", "kernel.A_imag")

    def __init__(
        self,
        width: int,
        state_width: int,
        *,
        start: Start = "lin",
        bandlimit: float | None = None,
        bandlimit_mode: Literal["held", "once"] = "held",
        state_gain: float = 1.0,
    ):
        check_widths(width, state_width)
        check_gain(state_gain)
        check_bandlimit(bandlimit, bandlimit_mode)
        linear = nn.Conv1d(width, 2 * width, 1)
        super().__init__(width, S4DKernel(width, state_width, start), torch.randn(width), linear)
        with torch.no_grad():
            self.kernel.C.mul_(state_gain)
            if bandlimit is not None and bandlimit_mode == "once":
                A, _, _, step = self.kernel.values()
                self.kernel.C.mul_(passes_band(A, step[:, None], bandlimit)[..., None])
        self.kernel.bandlimit = bandlimit if bandlimit_mode == "held" else None

    def real_step(self) -> nn.Module:
        """The step in real arithmetic, see `ssmbook.ssm.real`."""
        return RealDiagonal(self)

    def load_published(self, arrays: Arrays) -> None:
        """Take the parameters of the published S4D layer, under its names; InputError if one does not fit."""
        copy_parameters(self, arrays)

    def h2_norm(self, omega_min: float) -> Tensor:
        """‖G‖ above ω_min (radians per step) of the H systems together, without D and the output layer."""
        return self.kernel.h2_norm(omega_min)


def check_widths(width: int, state_width: int) -> None:
    """Raise InputError unless there is a feature, and conjugate pairs of modes."""
    if width < 1 or state_width < 2 or state_width % 2:
        raise InputError(f"width must be ≥ 1 and state_width even and ≥ 2, not {width} and {state_width}")

"""S4: a state-space model for each feature with a diagonal-plus-low-rank state matrix (arXiv 2111.00396).

    A = Λ − P Pᴴ over conjugate pairs of modes, discretised by the bilinear rule    (mode "dplr", Theorem 1)
    A = Λ, discretised by zoh                                                       (mode "diag")

A step of the dplr recurrence costs O(M): (I − ΔA/2) is a diagonal matrix plus a rank-one term, so the
Woodbury identity inverts it (appendix C.2). Over conjugate pairs P Pᴴ x means P · 2 Re(Pᴴ x): the rank-one
term is real-linear, and in planes the whole system is a real one of S = 2M states. Its kernel comes from the
powers of that real Ā, by doubling; for chunks of moderate length no Cauchy kernel is needed.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ssmbook.errors import InputError
from ssmbook.ssm.hippo import Start, blocks_spectrum, hippo_legs
from ssmbook.ssm.inputs import Arrays, check_gain, copy_parameters
from ssmbook.ssm.kernels.planes import from_planes, to_planes
from ssmbook.ssm.real import RealDiagonal, RealS4DPLR
from ssmbook.ssm.s4d import DiagonalSystem, check_widths
from ssmbook.ssm.siso import ChunkMaps, SISOLayer


def dplr_step(x: Tensor, u: Tensor, Lambda: Tensor, P: Tensor, B: Tensor, step: Tensor) -> Tensor:
    """Ā x + B̄ u of A = Λ − P Pᴴ by the bilinear rule, without forming Ā.

    (I − ΔA/2) z = (I + ΔA/2) x + ΔB u. x [..., H, M] complex, u [..., H]; Λ, P, B [H, M]; step [..., H].
    """

    def project(v: Tensor) -> Tensor:
        return 2 * (P.conj() * v).sum(-1, keepdim=True).real  # Pᴴ v over the pairs, [..., H, 1]

    half = step[..., None] / 2
    right = x + half * (Lambda * x - P * project(x)) + 2 * half * B * u[..., None]
    D = 1 / (1 - half * Lambda)
    projection = project(D * right) / (1 + half * project(D * P))  # Pᴴ z, by Woodbury
    return D * (right - half * P * projection)


def orbit(v: Tensor, A: Tensor, length: int) -> Tensor:
    """Rows v, vA, vA², … of v [H, S] and A [H, S, S], by doubling: [H, length, S]."""
    rows = v[:, None]
    while rows.shape[1] < length:
        rows, A = torch.cat([rows, rows @ A], 1), A @ A
    return rows[:, :length]


def as_complex(z: Tensor) -> Tensor:
    """A parameter [1, H, M, 2] as complex [H, M]; in channels_last its parts do not lie side by side."""
    return torch.view_as_complex(z[0].contiguous())


class S4Storage(nn.Module):
    """Parameters as the published code stores them: A = −exp(A_real) − i A_imag, Δ = exp(inv_dt), B and C."""

    def __init__(self, width: int, Lambda: np.ndarray, B: np.ndarray):
        super().__init__()
        self.modes = len(Lambda)
        A = torch.as_tensor(Lambda).repeat(width, 1).to(torch.get_default_dtype().to_complex())
        self.A_real = nn.Parameter((-A.real).log())
        self.A_imag = nn.Parameter(-A.imag)
        self.B = self._over_features(B)
        self.C = nn.Parameter(torch.randn(1, width, self.modes, 2) * math.sqrt(0.5))  # unit complex variance
        self.inv_dt = nn.Parameter(torch.empty(width, 1).uniform_(math.log(1e-3), math.log(1e-1)))

    def _over_features(self, z: np.ndarray) -> nn.Parameter:
        """Complex [M] → [1, H, M, 2], the same for all features."""
        pairs = torch.as_tensor(np.stack([z.real, z.imag], -1), dtype=torch.get_default_dtype())
        return nn.Parameter(pairs.repeat(1, len(self.A_real), 1, 1))

    def values(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A, B, C, complex [H, M], and Δ [H]."""
        A = -torch.complex(self.A_real.exp(), self.A_imag)
        B, C = as_complex(self.B), as_complex(self.C)
        return A, B, C, self.inv_dt[:, 0].exp()


class S4Diagonal(S4Storage, DiagonalSystem):
    """Mode "diag"."""

    def __init__(self, width: int, state_width: int, start: Start):
        Lambda, V = blocks_spectrum(state_width, half=True, start=start)
        B = V.conj().T @ np.sqrt(2 * np.arange(state_width) + 1) if start == "legs" else np.ones(len(Lambda))
        super().__init__(width, Lambda, B)


class S4DPLR(S4Storage):
    """Mode "dplr": HiPPO-LegS whole, A = Λ − P Pᴴ with P = Vᴴ p and B = Vᴴ b, b_n = √(2n + 1)."""

    def __init__(self, width: int, state_width: int):
        Lambda, V = blocks_spectrum(state_width, half=True)
        p = hippo_legs(state_width)[1]
        super().__init__(width, Lambda, V.conj().T @ (p * math.sqrt(2)))
        self.P = self._over_features(V.conj().T @ p)

    def advance(self, x: Tensor, u: Tensor, scale: Tensor) -> Tensor:
        A, B, _, step = self.values()
        return dplr_step(x, u, A, as_complex(self.P), B, scale[..., None] * step)

    def read(self, x: Tensor, scale: Tensor) -> Tensor:
        return 2 * (self.values()[2] * x).sum(-1).real

    def _dense(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The real system in planes, Āᵀ [H, S, S] and B̄ [H, S]: one step of each unit state and input."""
        H, S = len(self.A_real), 2 * self.modes
        eye = torch.eye(S, dtype=self.A_real.dtype, device=self.A_real.device)
        units = from_planes(eye)[:, None].expand(S, H, self.modes)
        A_bar_T = to_planes(self.advance(units, eye.new_zeros(S, H), scale))  # [S, H, S]
        B_bar = to_planes(self.advance(torch.zeros_like(units[0]), eye.new_ones(H), scale))
        return A_bar_T.transpose(0, 1), B_bar

    def maps(self, scale: Tensor, length: int) -> ChunkMaps:
        A_bar_T, B_bar = self._dense(scale)
        C = 2 * to_planes(self.values()[2].conj())  # [H, S]: C · planes = 2 Re(C x)
        reach = orbit(B_bar, A_bar_T, length)
        observe = orbit(C, A_bar_T.mT, length + 1)[:, 1:]
        return ChunkMaps((reach * C[:, None]).sum(-1), observe, reach)

    def carry(self, x: Tensor, scale: Tensor, length: int) -> Tensor:
        power = torch.linalg.matrix_power(self._dense(scale)[0], length)
        return from_planes(torch.einsum("nhs,hst->nht", to_planes(x), power))

    def set_truncated_C(self, length: int) -> None:
        """Replace C, which holds C₀ (I − Ā^length) as the published code keeps it, by C₀."""
        with torch.no_grad():
            A_bar_T, _ = self._dense(torch.ones((), dtype=self.A_real.dtype, device=self.A_real.device))
            power = torch.linalg.matrix_power(A_bar_T.double(), length)
            eye = torch.eye(power.shape[-1], dtype=power.dtype, device=power.device)
            stored = to_planes(self.values()[2].conj()).double()  # [H, S]
            C = torch.linalg.solve(eye - power, stored[..., None])[..., 0]
            self.C.copy_(torch.view_as_real(from_planes(C).conj().resolve_conj())[None])


class S4(SISOLayer):
    """S4 with a carried state: convolution over sequences, recurrence over single steps.

    Args:
        width: H, features of the input and of the output.
        state_width: N, even: N/2 modes and their conjugates for each feature. The state is complex
            [.., H, N/2].
        mode: "dplr" (HiPPO-LegS with its low-rank term) or "diag".
        start: of mode "diag": "legs" (normal part of HiPPO-LegS), "inv" or "lin"; dplr starts from "legs".
        state_gain: factor on C at the start.

    The parameters carry the names of the published `s4.py` without its prefix "layer.": D [1, H], kernel.C,
    …, output_linear.0.weight [2H, H]. C is the C of the system, not C (I − Ā^L).
    """

    kernel: S4Diagonal | S4DPLR
    dynamics = ("kernel.A_real", "kernel.A_imag", "kernel.B", "kernel.P", "kernel.inv_dt")

    def __init__(
        self,
        width: int,
        state_width: int,
        *,
        mode: Literal["dplr", "diag"] = "dplr",
        start: Start = "legs",
        state_gain: float = 1.0,
    ):
        check_widths(width, state_width)
        check_gain(state_gain)
        if mode not in ("dplr", "diag"):
            raise InputError(f'mode must be "dplr" or "diag", not {mode!r}')
        if mode == "dplr" and start != "legs":
            raise InputError(f'mode "dplr" starts from "legs" only, not {start!r}')
        kernel = S4DPLR(width, state_width) if mode == "dplr" else S4Diagonal(width, state_width, start)
        super().__init__(width, kernel, torch.randn(1, width), nn.Linear(width, 2 * width))
        with torch.no_grad():
            self.kernel.C.mul_(state_gain)

    def real_step(self) -> nn.Module:
        """The step in real arithmetic, see `ssmbook.ssm.real`."""
        return RealS4DPLR(self) if isinstance(self.kernel, S4DPLR) else RealDiagonal(self)

    def step_flops(self) -> int:
        """As in `S4D`; the rank-one term of mode "dplr" takes 10 H M more (see `ssmbook.ssm.real.RealS4DPLR`)."""
        H, M = self.state_shape
        return super().step_flops() + (10 * H * M if isinstance(self.kernel, S4DPLR) else 0)

    def load_published(self, arrays: Arrays) -> None:
        """Take the parameters of a published S4 block, under its names, with or without "layer.".

        With kernel.l_kernel = L > 0 (dplr) C is stored as C (I − Ā^L) and is converted.

        Raises:
            InputError: a name is missing or unknown, or a shape differs.
        """
        arrays = {name.removeprefix("layer."): array for name, array in arrays.items()}
        length = int(arrays.pop("kernel.l_kernel", torch.tensor(0)))
        copy_parameters(self, arrays)
        if length and isinstance(self.kernel, S4DPLR):
            self.kernel.set_truncated_C(length)

    def h2_norm(self, omega_min: float) -> Tensor:
        """‖G‖ above ω_min (radians per step) of the H systems together; only mode "diag" has the poles."""
        if not isinstance(self.kernel, S4Diagonal):
            raise InputError('the H2 norm in closed form needs the poles: use S4(mode="diag")')
        return self.kernel.h2_norm(omega_min)

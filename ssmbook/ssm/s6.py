"""S6: Mamba's selective state-space layer, whose step, input and output matrices depend on the input.

    Δ_k = softplus(W_Δ V u_k + b),   B_k = W_B u_k,   C_k = W_C u_k
    x_k = exp(Δ_k A) x_{k−1} + Δ_k u_k B_k,   y_k = C_k x_k + D ∘ u_k           (arXiv 2312.00752, Algorithm 2)

Each feature is a system of N real modes, A < 0. A is discretised by zoh and B by Euler's rule, as in the published
code. By Euler's rule a constant input would settle at another level in steps of another length; with a step s times
as long (``step_scale``) the layer is the exact solution of the equation of which a step of training is one,

    x_k = exp(s Δ_k A) x_{k−1} + (1 − exp(s Δ_k A)) / (1 − exp(Δ_k A)) · Δ_k u_k B_k .

Here is the layer alone, without the convolution before it and the gate beside it in a Mamba block, so that
what selection does can be seen.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssmbook.errors import InputError
from ssmbook.ssm.inputs import check_gain
from ssmbook.ssm.kernels.dispatch import selective_scan
from ssmbook.ssm.layer import StateSpaceLayer


class S6(StateSpaceLayer):
    """Mamba's selective layer with a carried state.

    Args:
        width: H, features of the input and of the output.
        state_width: N, real modes of each feature.
        state_gain: factor on C at the start.

    Parameters, under the names of the published code: A_log [H, N] (A = −exp A_log), D [H], x_proj.weight
    [R + 2N, H] (V, W_B, W_C), dt_proj.weight [H, R] and dt_proj.bias [H], with R = ⌈H/16⌉. The start is the published
    one: A_n = −n, D = 1, softplus(b) between 1e-3 and 1e-1.
    """

    is_complex = False
    dynamics = ("A_log", "D", "dt_proj.bias")  # without decay in the published code, too

    def __init__(self, width: int, state_width: int = 16, *, state_gain: float = 1.0) -> None:
        super().__init__()
        if width < 1 or state_width < 1:
            raise InputError(f"width and state_width must be at least 1, not {width} and {state_width}")
        check_gain(state_gain)
        self.width, self.state_width, self.rank = width, state_width, math.ceil(width / 16)
        self.A_log = nn.Parameter(torch.arange(1.0, state_width + 1).log().repeat(width, 1))
        self.D = nn.Parameter(torch.ones(width))
        self.x_proj = nn.Linear(width, self.rank + 2 * state_width, bias=False)
        self.dt_proj = nn.Linear(self.rank, width)
        with torch.no_grad():
            self.x_proj.weight[-state_width:] *= state_gain
            self.dt_proj.weight.uniform_(-(self.rank**-0.5), self.rank**-0.5)
            step = torch.empty(width).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of the real state of one sequence: features, modes."""
        return self.width, self.state_width

    def extra_repr(self) -> str:
        return f"width={self.width}, state_width={self.state_width}"

    def selected(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Δ [..., H] at step_scale 1, B and C [..., N] of u [..., H]."""
        low, B, C = self.x_proj(u).split([self.rank, self.state_width, self.state_width], -1)
        return F.softplus(self.dt_proj(low)), B, C

    def _run(self, u: Tensor, x0: Tensor | None, scale: float | Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(scale, Tensor) and scale.ndim == 1:
            scale = scale[:, None]
        step, B, C = self.selected(u)
        y, last = selective_scan(u, step, -self.A_log.exp(), B, C, x0, scale)
        return y + self.D * u, last

    def real_step(self) -> nn.Module:
        """The layer itself, whose arithmetic is real."""
        return self

    def step_flops(self) -> int:
        """Operations of one step of one sequence: the projections H → R + 2N and R → H with its bias take
        2 H (R + 2N) + 2 R H + H; x = exp(Δ A) x + Δ u B takes 4 H N + H,
        y = C x + D ∘ u takes 2 H N + 2 H."""
        H, N, R = self.width, self.state_width, self.rank
        return 2 * H * (R + 2 * N) + 2 * R * H + 6 * H * N + 4 * H

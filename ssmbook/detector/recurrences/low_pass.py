"""A filter for what goes past a state-space layer, which the time scale would else not reach."""

import math

import torch
from torch import Tensor, nn

from ssmbook.detector.recurrences.base import Scale


class LowPass(nn.Module):
    """The mean of each feature over the last time τ, which follows the rate:

        τ dm/dt = a − m,   m_k = r_k m_{k−1} + (1 − r_k) a_k,   r_k = exp(−step_scale_k / τ),

    the exact solution for an input that is constant over a step; m is 0 at the start.

    Args:
        channels: C.

    Parameter: log_tau [C], τ in steps of training. It starts at τ = ½, where 86 % of a step of training is new.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_tau = nn.Parameter(torch.full((channels,), math.log(0.5)))

    def forward(self, a: Tensor, mean: Tensor | None, step_scale: Scale) -> tuple[Tensor, Tensor]:
        """a [L, N, C], m [N, C] or None, step_scale a number, [], [N], [N, 1] or [N, L] → all m [L, N, C], the last
        one."""
        steps = torch.as_tensor(step_scale, dtype=a.dtype, device=a.device)
        if steps.ndim == 1:
            steps = steps[:, None]
        if steps.ndim == 2:
            steps = steps.T[..., None]  # [L, N, 1] or [1, N, 1]
        kept = torch.exp(-steps * torch.exp(-self.log_tau)).expand(len(a), *[-1] * max(steps.ndim - 1, 1))
        mean = torch.zeros_like(a[0]) if mean is None else mean
        means = []
        for new, r in zip(a, kept, strict=True):
            mean = new + r * (mean - new)
            means.append(mean)
        return torch.stack(means), mean

"""The ConvLSTM of RVT, and how its cell follows a rate."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssmbook.detector.recurrences.base import Recurrence, Scale, State
from ssmbook.errors import InputError
from ssmbook.products import linear
from ssmbook.ssm.inputs import check_axes, check_positive
from ssmbook.ssm.zoh import share_of_a_step


class ConvLSTM(Recurrence):
    """RVT's recurrence (arXiv 2212.05598): an LSTM cell at every pixel, its convolutions 1 × 1.

        m = W [x; h] + bias;   f, i, o = σ of m's first three quarters,  g = tanh of the last;
        c ← f c + i g,   h ← o tanh c;   output h.

    As published it has no time scale. But a forget gate is a decay over one step, as after a time of which a step may
    be any part (arXiv 1804.11188 derives gates so): with the step s times as long as in training (``step_scale``), the
    cell is the exact solution, under the same gates, of the equation that it solves in training,

        c ← f^s c + (1 − f^s) / (1 − f) · i g,

    so that steps whose s add up to 1 do what one step of training does. The gates still read h of the step before. In
    half precision c is float32 from the first step with s ≠ 1 on: what short steps add to it would be rounded away.
    """

    has_time_scale = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = nn.Linear(2 * channels, 4 * channels)

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        """x [L, N, C] → h [L, N, C]; state the pair (h, c), each [N, C]."""
        check_positive(step_scale)
        L, N, C = x.shape
        w_x, w_h = self.gates.weight.split(C, dim=1)  # [4C, C] each
        m = linear(x, w_x, self.gates.bias)  # [L, N, 4C], the input's share of all steps
        if state is not None and not isinstance(state, tuple):
            raise InputError(f"the state of a ConvLSTM is a pair (h, c), not a {type(state).__name__}")
        h, c = state or (x.new_zeros(N, C), x.new_zeros(N, C))
        scales: Sequence[float | Tensor] = [step_scale] * L
        if isinstance(step_scale, Tensor) and step_scale.ndim:  # [N], [N, 1] or [N, L] → L times [N, 1]
            check_axes(tuple(step_scale.shape), N, L, f"[{N}, 1] for each pixel or [1, {L}] for each step")
            step_scale = step_scale[:, None] if step_scale.ndim == 1 else step_scale
            scales = step_scale.to(at_least_float32(x)).expand(-1, L)[..., None].unbind(1)
        outputs = []
        for m_t, scale in zip(m.unbind(0), scales, strict=True):
            gates, candidate = torch.addmm(m_t, h, w_h.T).split([3 * C, C], -1)
            enter, leave = gates[:, C:].sigmoid().chunk(2, -1)  # [N, C] each
            new = enter * candidate.tanh()
            c = advance(c, gates[:, :C], new, scale)
            h = (leave * c.tanh()).to(x.dtype)
            outputs.append(h)
        return torch.stack(outputs), (h, c)

    def state_widths(self) -> dict[str, int]:
        return {"_h": self.channels, "_c": self.channels}


def advance(c: Tensor, forget: Tensor, new: Tensor, scale: float | Tensor) -> Tensor:
    """f^s c + (1 − f^s) / (1 − f) · new for f = σ(forget); all [N, C], s a number or [N, 1].

    For gates from shut to open, and by functions that every runtime has: log(1 + e) = 2 artanh(e / (2 + e)).
    """
    if not isinstance(scale, Tensor) and scale == 1:
        return forget.sigmoid() * c + new
    forget = forget.to(at_least_float32(forget))
    e = (-forget.abs()).exp()
    log_f = forget.clamp(max=0) - 2 * torch.atanh(e / (2 + e))
    return (scale * log_f).exp() * c + share_of_a_step(scale, -log_f) * new


def at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)

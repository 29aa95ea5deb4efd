"""The ConvLSTM of RVT."""

import torch
from torch import Tensor, nn

from ssmbook.detector.recurrences.base import Recurrence, Scale, State
from ssmbook.errors import InputError
from ssmbook.products import linear


class ConvLSTM(Recurrence):
    """RVT's recurrence (arXiv 2212.05598): an LSTM cell at every pixel, its convolutions 1 × 1.

        m = W [x; h] + bias;   f, i, o = σ of m's first three quarters,  g = tanh of the last;
        c ← f c + i g,   h ← o tanh c;   output h.

    It has no time scale; ``step_scale`` is taken and has no effect.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = nn.Linear(2 * channels, 4 * channels)

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        """x [L, N, C] → h [L, N, C]; state the pair (h, c), each [N, C]."""
        _, N, C = x.shape
        w_x, w_h = self.gates.weight.split(C, dim=1)  # [4C, C] each
        m = linear(x, w_x, self.gates.bias)  # [L, N, 4C], the input's share of all steps
        if state is not None and not isinstance(state, tuple):
            raise InputError(f"the state of a ConvLSTM is a pair (h, c), not a {type(state).__name__}")
        h, c = state or (x.new_zeros(N, C), x.new_zeros(N, C))
        outputs = []
        for m_t in m.unbind(0):
            gates, candidate = torch.addmm(m_t, h, w_h.T).split([3 * C, C], -1)
            forget, enter, leave = gates.sigmoid().chunk(3, -1)  # [N, C] each
            c = forget * c + enter * candidate.tanh()
            h = leave * c.tanh()
            outputs.append(h)
        return torch.stack(outputs), (h, c)

    def state_widths(self) -> dict[str, int]:
        return {"_h": self.channels, "_c": self.channels}

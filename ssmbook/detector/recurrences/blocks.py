"""The recurrence of a stage: S5, S4D, S4, ConvLSTM or none, run over time at every pixel by itself.

A block takes u [N, L, C] (N pixels, L steps) and the state it left off with, and returns the outputs and the
new state. In memory time comes first, [L, N, C]: the tokens of a chunk are handed over as a view.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmbook.detector.attention import add_to
from ssmbook.errors import InputError
from ssmbook.ssm import S4, S4D, S5, SelectiveS5

#: What a stage can remember with, in the order of the tables. The state-space layers fit the same block.
STATE_SPACE = ("s5", "s5-selective", "s4d", "s4")
RECURRENCES = (*STATE_SPACE, "convlstm", "none")

S4_STATE_WIDTH = 64  # of each feature's own system; what the published S4 and S4D start with

Scale = float | Tensor
State = Any  # of a block: a tensor [N, ·], a tuple of them, or None (nothing to remember, or the start)


class SSMBlock(nn.Module):
    """A state-space layer between two normalisations, with the gated MLP of S5-ViT (arXiv 2402.15584).

        a = LN₁(x),   z = GELU(SSM(a)) + a,   b = LN₂(z),   out = W_dec (u · GELU(g)) + b,   (u, g) = W_enc b.

    The skips start at the normalised values.

    Args:
        layer: the state-space layer, with ``layer(u, state, step_scale) -> (y, state)`` and ``state_shape``.
        channels: C, its width.
    """

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.layer = layer
        self.norm2 = nn.LayerNorm(channels)
        self.encode = nn.Linear(channels, 2 * channels, bias=False)
        self.decode = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        """x [N, L, C] → [N, L, C]; state the layer's, flat: [N, ·]; step_scale a number, [N] or [N, L]."""
        a = self.norm1(x.transpose(0, 1)).transpose(0, 1)  # [N, L, C], time first in memory
        if state is not None:
            state = state.unflatten(-1, self.layer.state_shape)
        y, state = self.layer(a, state, step_scale)
        state = None if state is None else state.flatten(1)
        z = add_to(F.gelu(y), a)
        b = self.norm2(z.transpose(0, 1))  # [L, N, C]
        # Two products in place of one and its halves: the gradients need not be joined.
        value, gate = (F.linear(b, half) for half in self.encode.weight.chunk(2))
        return add_to(self.decode(value * F.gelu(gate)), b).transpose(0, 1), state


class ConvLSTM(nn.Module):
    """RVT's recurrence (arXiv 2212.05598): an LSTM cell at every pixel, its convolutions 1 × 1.

        m = W [x; h] + bias;   f, i, o = σ of m's first three quarters,  g = tanh of the last;
        c ← f c + i g,   h ← o tanh c;   output h.

    It has no time scale; ``step_scale`` is taken and has no effect.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Linear(2 * channels, 4 * channels)

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        """x [N, L, C] → h [N, L, C]; state the pair (h, c), each [N, C]."""
        N, _, C = x.shape
        w_x, w_h = self.gates.weight.split(C, dim=1)  # [4C, C] each
        m = F.linear(x.transpose(0, 1), w_x, self.gates.bias)  # [L, N, 4C], the input's share of all steps
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
        return torch.stack(outputs).transpose(0, 1), (h, c)


class NoRecurrence(nn.Module):
    """Every frame by itself: the output is the input, and there is no state."""

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        return x, None


def make_recurrence(name: str, channels: int, **ssm_options: Any) -> nn.Module:
    """The block of that name, one of ``RECURRENCES``; options go to S5.

    The state-space layers are exchanged within the same block, so that a comparison changes the layer alone.
    """
    match name:
        case "s5":
            return SSMBlock(S5(channels, channels, **ssm_options), channels)
        case "s5-selective":
            return SSMBlock(SelectiveS5(channels, channels, **ssm_options), channels)
        case "s4d":
            return SSMBlock(
                S4D(channels, S4_STATE_WIDTH, state_gain=ssm_options.get("state_gain", 1.0)), channels
            )
        case "s4":
            return SSMBlock(
                S4(channels, S4_STATE_WIDTH, state_gain=ssm_options.get("state_gain", 1.0)), channels
            )
        case "convlstm":
            return ConvLSTM(channels)
        case "none":
            return NoRecurrence()
    raise InputError(f"recurrence is {name!r}; it must be one of {', '.join(RECURRENCES)}")


def over_pixels(block: nn.Module, tokens: Tensor, state: State, step_scale: Scale) -> tuple[Tensor, State]:
    """Run a block over time at every pixel.

    Args:
        block: takes [N, L, C], see above.
        tokens: [L, B, h, w, C].
        state: None, or what the last call returned: tensors [B, ·, h, w].
        step_scale: a number, [B], or [L, B]; every pixel of a frame has the frame's.

    Returns:
        tokens [L, B, h, w, C] and the new state.
    """
    L, B, h, w, C = tokens.shape
    if isinstance(step_scale, Tensor) and step_scale.ndim:
        step_scale = step_scale.to(tokens.device)
        if step_scale.ndim == 2:
            step_scale = step_scale.T  # [B, L]
        step_scale = step_scale.repeat_interleave(h * w, dim=0)  # [N] or [N, L], N = B·h·w

    def to_pixels(s: Tensor) -> Tensor:
        if s.ndim != 4 or (s.shape[0], *s.shape[2:]) != (B, h, w):
            raise InputError(f"a state of {list(s.shape)} does not fit a chunk of [{B}, ·, {h}, {w}]")
        return s.permute(0, 2, 3, 1).flatten(0, 2)

    state = map_states(to_pixels, state)  # [N, ·]
    y, state = block(tokens.flatten(1, 3).transpose(0, 1), state, step_scale)  # u [N, L, C], a view
    state = map_states(lambda s: s.unflatten(0, (B, h, w)).permute(0, 3, 1, 2), state)  # [B, ·, h, w]
    return y.transpose(0, 1).reshape(L, B, h, w, C), state


def map_states(change: Callable[[Tensor], Tensor], states: Any) -> Any:
    """``change`` applied to every tensor of states (tensors, None, and lists or tuples of them)."""
    if states is None:
        return None
    if isinstance(states, Tensor):
        return change(states)
    return type(states)(map_states(change, s) for s in states)


def reset_states(states: Any, first: Tensor | Sequence[bool]) -> Any:
    """The states with zeros, the start, in the batch slots where ``first`` is true.

    Args:
        states: as ``Detector.features`` returns them (tensors [B, ·, h, w]), or None.
        first: [B], true where the next chunk begins a new sequence.
    """
    start = torch.as_tensor(first, dtype=torch.bool)

    def reset(state: Tensor) -> Tensor:
        if start.shape != state.shape[:1]:
            raise InputError(f"first must be [{len(state)}] to go with the states, not {list(start.shape)}")
        return state.masked_fill(start.to(state.device)[:, None, None, None], 0)

    return map_states(reset, states)


def detach_states(states: Any) -> Any:
    """The states, cut off from the graph that made them (truncated backpropagation through time)."""
    return map_states(Tensor.detach, states)

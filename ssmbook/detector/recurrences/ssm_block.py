"""The block of S5-ViT around a state-space layer; only the layer differs between the state-space recurrences."""

import copy
import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ssmbook.detector.attention import add_to
from ssmbook.detector.recurrences.base import Recurrence, Scale, State
from ssmbook.errors import InputError
from ssmbook.products import Linear, linear


class StateSpaceBlock(Recurrence):
    """A state-space layer between two normalisations, with the gated MLP of S5-ViT (arXiv 2402.15584).

        a = LN₁(x),   z = GELU(SSM(a)) + a,   b = LN₂(z),   out = W_dec (u · GELU(g)) + b,   (u, g) = W_enc b.

    The skips start at the normalised values.

    Args:
        layer: the state-space layer, with ``layer(u, state, step_scale) -> (y, state)`` and ``state_shape``.
        channels: C, its width.
    """

    has_time_scale = True
    layer: Any

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.norm1 = nn.LayerNorm(channels)
        self.layer = layer
        self.norm2 = nn.LayerNorm(channels)
        self.encode = Linear(channels, 2 * channels, bias=False)
        self.decode = Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        """x [L, N, C] → [L, N, C]; state the layer's, flat: [N, ·]; step_scale a number, [N], [N, 1] or [N, L], as in
        the layer."""
        y, direct, state = self.over_time(self.norm1(x), state, step_scale)
        b = self.norm2(add_to(F.gelu(y), direct))  # [L, N, C]
        # Two products in place of one and its halves: the gradients need not be joined.
        value, gate = (linear(b, half) for half in self.encode.weight.chunk(2))
        return add_to(self.decode(value * F.gelu(gate)), b), state

    def over_time(self, a: Tensor, state: State, step_scale: Scale) -> tuple[Tensor, Tensor, State]:
        """What the layer makes of a [L, N, C], what goes past it, both [L, N, C], and the state."""
        if state is not None:
            if not isinstance(state, Tensor):
                raise InputError(f"the state must be a tensor, not a {type(state).__name__}")
            state = state.unflatten(-1, self.layer.state_shape)
        y, state = self.layer(a.transpose(0, 1), state, step_scale)  # [N, L, C], a view
        return y.transpose(0, 1), a, None if state is None else state.flatten(1)

    def state_widths(self) -> dict[str, int]:
        return {"": math.prod(self.layer.state_shape)}

    def real_step(self) -> "StateSpaceBlock":
        block = copy.copy(self)
        block._modules = {**self._modules, "layer": self.layer.real_step()}
        return block

    def freeze(self) -> None:
        if hasattr(self.layer, "freeze"):
            self.layer.freeze()

    def step_flops(self) -> int:
        """The layer's by its equations, and C → 2C and C → C."""
        return self.layer.step_flops() + 6 * self.channels**2


class SSMBlock(StateSpaceBlock):
    """The block outside a detector, sequences first as in the layers themselves: x [N, L, C] → [N, L, C]."""

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        y, state = super().forward(x.transpose(0, 1), state, step_scale)
        return y.transpose(0, 1), state

"""What a recurrence says of itself: all that the rest of the library needs to know of it."""

import copy
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

Scale = float | Tensor
State = Any  # of a block: a tensor [N, ·], a tuple of them, or None (nothing to remember, or the start)


class Recurrence(nn.Module):
    """What runs over time at every pixel of a stage by itself.

    A subclass is made as ``cls(channels, **options)``; its options are its keyword-only arguments, each with a default.
    """

    has_time_scale: ClassVar[bool] = False  # whether step_scale has an effect
    has_h2_norm: ClassVar[bool] = False  # whether h2_norm is defined
    channels: int

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        """x [L, N, C] (N pixels) → [L, N, C] and the state after the last step.

        The state is None, a tensor [N, ·] or a tuple of them; step_scale is a number, [N, 1] or [N, L]; the library's
        own take [N], too, as the layers do.
        """
        raise TypeError("a subclass says how it runs")

    def state_widths(self) -> dict[str, int]:
        """Width of each tensor of the state, by the end of its name in an exported step; empty where there is none."""
        return {}

    def real_step(self) -> Self:
        """A copy that runs single steps in real arithmetic, for an export; where all is real, the recurrence itself."""
        return self

    def h2_norm(self, omega_min: float) -> Tensor:
        """The H2 norm of its linear part above ω_min, in radians per step, see `ssmbook.ssm.h2`; differentiable."""
        raise TypeError(f"{type(self).__name__} has no H2 norm")

    def freeze(self) -> None:
        """Prepare for running only; the parameters no longer change."""

    @torch.no_grad()
    def step_flops(self) -> int:
        """Operations of one step at one pixel, twice the multiply-adds; PyTorch's counter sees matrix products."""
        from torch.utils.flop_counter import FlopCounterMode  # which loads Triton, where it is, 70 MB

        with FlopCounterMode(display=False) as counter:
            copy.deepcopy(self).to("meta")(torch.zeros(1, 1, self.channels, device="meta"))
        return counter.get_total_flops()

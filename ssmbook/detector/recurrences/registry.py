"""What a recurrence is to the detector, and the list of them.

A recurrence of one's own is a subclass of ``Recurrence`` in a file of its own, with ``@register("its-name")`` above it.
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssmbook.errors import InputError

Scale = float | Tensor
State = Any  # of a block: a tensor [N, ·], a tuple of them, or None (nothing to remember, or the start)

REGISTRY: dict[str, type["Recurrence"]] = {}


class Recurrence(nn.Module):
    """What runs over time at every pixel of a stage by itself.

    A subclass is made as ``cls(channels, **options)``; its options are its keyword-only arguments, each with a default.
    """

    has_time_scale: ClassVar[bool] = False  # whether step_scale has an effect
    channels: int

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        """x [L, N, C] (N pixels) → [L, N, C] and the state after the last step.

        The state is None, a tensor [N, ·] or a tuple of them; step_scale is a number, [N, 1] or [N, L].
        """
        raise TypeError("a subclass says how it runs")

    def state_widths(self) -> dict[str, int]:
        """Width of each tensor of the state, by the end of its name in an exported step; empty where there is none."""
        return {}

    def real_step(self) -> Self:
        """A copy that runs single steps in real arithmetic, for an export; where all is real, the recurrence itself."""
        return self

    def freeze(self) -> None:
        """Prepare for running only; the parameters no longer change."""

    @torch.no_grad()
    def step_flops(self) -> int:
        """Operations of one step at one pixel, twice the multiply-adds; PyTorch's counter sees matrix products."""
        with FlopCounterMode(display=False) as counter:
            copy.deepcopy(self).to("meta")(torch.zeros(1, 1, self.channels, device="meta"))
        return counter.get_total_flops()


def register(name: str) -> Callable[[type[Recurrence]], type[Recurrence]]:
    """Class decorator: the recurrence is made by this name."""

    def add(cls: type[Recurrence]) -> type[Recurrence]:
        REGISTRY[name] = cls
        return cls

    return add


def get_recurrence(name: str) -> type[Recurrence]:
    """The class of that name; an InputError that lists the names if there is none."""
    if name not in REGISTRY:
        raise InputError(f"recurrence is {name!r}; it must be one of {', '.join(REGISTRY)}")
    return REGISTRY[name]


def options_of(name: str) -> dict[str, Any]:
    """The options of a recurrence and their defaults."""
    parameters = inspect.signature(get_recurrence(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def make_recurrence(name: str, channels: int, **options: Any) -> Recurrence:
    """The recurrence of that name with ``channels`` features.

    Raises:
        InputError: no such recurrence, or an option that it does not have.
    """
    has = options_of(name)
    if unknown := sorted(options.keys() - has.keys()):
        raise InputError(
            f"recurrence {name!r} has no option {unknown[0]!r}; "
            + (f"its options are {', '.join(has)}" if has else "it has no options")
        )
    return get_recurrence(name)(channels, **options)

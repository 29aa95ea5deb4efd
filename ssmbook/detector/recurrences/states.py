"""The states of a detector's recurrences, and how a recurrence runs at every pixel."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ssmbook.detector.recurrences.base import Recurrence, Scale, State
from ssmbook.errors import InputError, shown


def over_pixels(block: Recurrence, tokens: Tensor, state: State, step_scale: Scale) -> tuple[Tensor, State]:
    """Run a block over time at every pixel.

    Args:
        block: takes [L, N, C], see ``Recurrence``.
        tokens: [L, B, h, w, C].
        state: None, or what the last call returned: tensors [B, ·, h, w].
        step_scale: a number, [B], [L, B], [1, B] or [L, 1]; every pixel of a frame has the frame's.

    Returns:
        tokens [L, B, h, w, C] and the new state.
    """
    L, B, h, w, C = tokens.shape
    if isinstance(step_scale, Tensor) and step_scale.ndim:
        step_scale = step_scale.to(tokens.device)
        step_scale = step_scale.T if step_scale.ndim == 2 else step_scale[:, None]  # [B, L] or [B, 1]
        step_scale = step_scale.expand(B, -1).repeat_interleave(h * w, dim=0)  # [N, L] or [N, 1], N = B·h·w

    def to_pixels(s: Tensor) -> Tensor:
        if s.ndim != 4 or (s.shape[0], *s.shape[2:]) != (B, h, w):
            raise InputError(f"a state of {list(s.shape)} does not fit a chunk of [{B}, ·, {h}, {w}]")
        return s.permute(0, 2, 3, 1).flatten(0, 2)

    state = map_states(to_pixels, state)  # [N, ·]
    y, state = block(tokens.flatten(1, 3), state, step_scale)  # [L, N, C]
    state = map_states(lambda s: s.unflatten(0, (B, h, w)).permute(0, 3, 1, 2), state)  # [B, ·, h, w]
    return y.reshape(L, B, h, w, C), state


def check_state(block: Recurrence, state: State) -> None:
    """InputError unless a state is None or of tensors [B, ·, h, w] of the block's widths, where it names any."""
    widths, tensors = list(block.state_widths().values()), tensors_of(state)
    fits = all(isinstance(s, Tensor) and s.ndim == 4 for s in tensors)
    if state is None or not widths or (fits and [s.shape[1] for s in tensors] == widths):
        return
    has = [list(s.shape) if isinstance(s, Tensor) else shown(s) for s in tensors]
    raise InputError(
        f"the state of {type(block).__name__} must be tensors [B, ·, h, w] of widths {widths}, not {has}; "
        "give what a model of this kind and these sizes returned"
    )


def tensors_of(states: Any) -> list[Any]:
    """The tensors of states (None, and lists or tuples of them, too) one after another, or whatever else they hold."""
    if isinstance(states, tuple | list):
        return [tensor for each in states for tensor in tensors_of(each)]
    return [] if states is None else [states]


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

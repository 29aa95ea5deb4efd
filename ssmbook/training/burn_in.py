"""Burn-in: random chunks that start from the state after some of their sequence's past, not from zero."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from ssmbook.dataset import Batch
from ssmbook.detector import Detector
from ssmbook.detector.precision import autocast
from ssmbook.detector.recurrences import map_states


@torch.no_grad()
def run_past(
    model: Detector, batch: Batch, states: Any, precision: str = "fp32", base_us: float | None = None
) -> Any:
    """The states that a batch's chunks start from.

    Args:
        model: only its backbone runs; no token is masked.
        batch: on the model's device; without ``past``, or for a model without memory, the states are returned as
            they are.
        states: of all B slots, or None: zero.
        precision: of the forward pass, as in ``Training``.
        base_us: the time scale follows the time between windows in units of this; None: it is 1.

    Returns:
        The states, those of the slots with a past replaced by the states after it, each past from zero.
    """
    if batch.past is None or model.config["recurrence"] == "none":
        return states
    backbone = model.backbone
    # In eval mode, as at inference: a BatchNorm in a recurrence that a user registers would otherwise move its
    # running statistics by windows that no gradient sees. The book's own backbones behave the same in both modes.
    mode = backbone.training
    backbone.eval()
    try:
        with autocast(batch.past.x.device, precision):
            scale = None if base_us is None else batch.past.step_scale(base_us)
            after = _run(model, batch.past.x, batch.past.lengths, scale, limit=len(batch.x))
    finally:
        backbone.train(mode)
    if states is None:
        states = map_states(lambda s: s.new_zeros(batch.x.shape[1], *s.shape[1:]), after)
    slots = torch.tensor(batch.past.slots, device=batch.past.x.device)
    return [_put(state, new, slots) for state, new in zip(states, after, strict=True)]


def _run(model: Detector, x: Tensor, lengths: list[int], scale: Tensor | None, limit: int) -> Any:
    """The states after x [P, S, C, H, W], scale [P, S], whose columns begin P − length in, the longest first.

    A column joins where its past begins, so that no padding is computed; at most ``limit`` windows run at a time.
    """
    begins = [len(x) - length for length in lengths]  # increasing
    cuts = sorted({*begins, *range(0, len(x), limit), len(x)})
    states: Any = None
    for start, stop in itertools.pairwise(cuts):
        count = sum(begin <= start for begin in begins)
        own = 1.0 if scale is None else scale[start:stop, :count]
        _, states = model.features(x[start:stop, :count], _grown(states, count), own)
    return states


def _grown(states: Any, count: int) -> Any:
    """States of fewer slots → of ``count``; the added ones are zero, the start."""
    return map_states(lambda s: torch.cat([s, s.new_zeros(count - len(s), *s.shape[1:])]), states)


def _put(state: Any, new: Any, slots: Tensor) -> Any:
    """A stage's state with ``new`` [S, …] in some of its slots."""
    if new is None or isinstance(new, Tensor):
        return None if new is None else state.index_copy(0, slots, new)
    return type(new)(_put(*pair, slots) for pair in zip(state, new, strict=True))

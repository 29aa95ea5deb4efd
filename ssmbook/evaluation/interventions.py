"""What a detector is given in place of its own input or state, to see what each of them contributes.

An intervention runs one step of the detector, ``intervention(advance, step) -> (features, states)``: it may change what
the step is given, ``advance`` it, once or more, and change what is carried on. Several are nested, the first one
outermost:

    evaluate(model, streams, sensor, trained_us=50_000, intervene=[HoldInput(50_000)])

At 200 Hz this is an input of 20 Hz under a state that steps at 200 Hz; ``HoldState(50_000)`` is the opposite, a state
of 20 Hz under the fast input. A slow clock ticks at the multiples of its period, for the first window that ends there
or later; labels may lie between its ticks, so score such runs at all moments (``streaming_ap``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssmbook.dataset import Batch
from ssmbook.detector import Detector
from ssmbook.detector.model import Features
from ssmbook.detector.recurrences import map_states
from ssmbook.errors import InputError

States = list[Any] | None


class Step(NamedTuple):
    """What a step is given, of B sequences side by side.

    x [B, C, H, W]: the frames.
    states: before it, as ``Detector.features`` takes them.
    scale: step_scale, a number or [B].
    t_us, elapsed_us [B]: where the windows end, and since the end of the windows before.
    first [B]: a sequence starts.
    chunk: a chunk starts.
    """

    x: Tensor
    states: States
    scale: float | Tensor
    t_us: Tensor
    elapsed_us: Tensor
    first: Tensor
    chunk: bool

    def ticks(self, period_us: int) -> Tensor:
        """[B]: whether a clock of that period has ticked since the window before; at a sequence's start it has not."""
        before = self.t_us - self.elapsed_us
        return (self.t_us // period_us > before // period_us).to(self.x.device)


Advance = Callable[[Step], tuple[Features, list[Any]]]
Intervention = Callable[[Advance, Step], tuple[Features, list[Any]]]


class HoldInput:
    """The frame of the last tick of a slow clock is the input until the next one: [1, 1, 1, 2, 2, 2, …]."""

    def __init__(self, period_us: int) -> None:
        self.period_us = period_us
        self._held: Tensor | None = None

    def __call__(self, advance: Advance, step: Step) -> tuple[Features, list[Any]]:
        new = step.ticks(self.period_us) | step.first.to(step.x.device)
        if self._held is None or bool(step.first.all()):
            self._held = step.x
        self._held = torch.where(new[:, None, None, None], step.x, self._held)
        return advance(step._replace(x=self._held))


class NoEvents:
    """Frames without events: zeros. With a period, the frames at the ticks of that clock stay as they are."""

    def __init__(self, period_us: int | None = None) -> None:
        self.period_us = period_us

    def __call__(self, advance: Advance, step: Step) -> tuple[Features, list[Any]]:
        x = torch.zeros_like(step.x)
        if self.period_us is not None:
            x = torch.where(step.ticks(self.period_us)[:, None, None, None], step.x, x)
        return advance(step._replace(x=x))


class HoldState:
    """The state is carried on at the ticks of a slow clock only; the steps between read it with their own input.

    Each step is as long as all since the last tick together, so that the steps at the ticks are those of a detector
    that runs at the slow rate.
    """

    def __init__(self, period_us: int) -> None:
        self.period_us = period_us
        self._since: Tensor | None = None  # [B], since the last tick, in units of step_scale

    def __call__(self, advance: Advance, step: Step) -> tuple[Features, list[Any]]:
        first, tick = step.first.to(step.x.device), step.ticks(self.period_us)
        if self._since is None or bool(step.first.all()):
            self._since = torch.zeros(len(first), device=step.x.device)
        scale = self._since.masked_fill(first, 0) + step.scale
        features, new = advance(step._replace(scale=scale))
        self._since = scale.masked_fill(tick, 0)
        before = map_states(torch.zeros_like, new) if step.states is None else step.states
        return features, _where(tick, new, before)


class CutState:
    """The states of some stages start from zero at each chunk, or at each step; the others are carried.

    Args:
        stages: of 1 to 4.
        every: ``"chunk"`` or ``"step"``.
    """

    def __init__(self, stages: Sequence[int], every: str = "chunk") -> None:
        if not set(stages) <= {1, 2, 3, 4} or every not in ("chunk", "step"):
            raise InputError(f"stages {stages} every {every!r}: give stages of 1 to 4, and 'chunk' or 'step'")
        self.stages, self.every = frozenset(stages), every

    def __call__(self, advance: Advance, step: Step) -> tuple[Features, list[Any]]:
        if step.states is None or not (step.chunk or self.every == "step"):
            return advance(step)
        states = [
            map_states(torch.zeros_like, state) if i in self.stages else state
            for i, state in enumerate(step.states, 1)
        ]
        return advance(step._replace(states=states))


class OtherState:
    """Every step reads the state of the sequence in the next slot, at the same number of steps; its own is carried on.

    It takes two passes. A slot that has run out of sequences has a state of empty frames to offer: give as many
    sequences of like length to each slot.
    """

    def __call__(self, advance: Advance, step: Step) -> tuple[Features, list[Any]]:
        if len(step.x) < 2:
            raise InputError("there is no other sequence beside this one; give a batch_size of 2 or more")
        other = map_states(lambda state: state.roll(-1, 0), step.states)
        features, _ = advance(step._replace(states=other))
        return features, advance(step)[1]


def run_steps(
    model: Detector,
    batch: Batch,
    states: States,
    scale: float | Tensor,
    interventions: Sequence[Intervention],
) -> tuple[Features, list[Any]]:
    """``model.features(batch.x, states, scale, frames=batch.frames)``, step by step under interventions.

    Args:
        batch: of ``every_window``, which says when each window ends.

    Raises:
        InputError: a model of published carry, which takes no state; a batch with the labelled frames alone.
    """
    if model.carry == "published":
        raise InputError("carry is 'published', which takes no state; give carry='exact' and CutState")
    L, B = batch.x.shape[:2]
    t_us = torch.full((L, B), -1, dtype=torch.int64)
    frames = batch.frames.cpu()
    t_us[frames[:, 0], frames[:, 1]] = batch.times_us
    if any(name and t < 0 for name, t in zip(batch.sequences, t_us[0].tolist(), strict=True)):
        raise InputError("interventions need the time of each window: give the batches of every_window")

    def run(step: Step) -> tuple[Features, list[Any]]:
        return model.features(step.x[None], step.states, step.scale)

    advance: Advance = run
    for intervention in reversed(interventions):
        advance = partial(intervention, advance)
    chosen, nowhere = [], torch.zeros(B, dtype=torch.bool)
    for i, x in enumerate(batch.x):
        step_scale = scale[i] if isinstance(scale, Tensor) and scale.ndim == 2 else scale
        first = nowhere if i else batch.first
        step = Step(x, states, step_scale, t_us[i], batch.elapsed_us[i], first, chunk=i == 0)
        features, states = advance(step)
        slots = frames[frames[:, 0] == i, 1].to(x.device)
        chosen.append({stage: f[0, slots] for stage, f in features.items()})
    assert states is not None
    return {stage: torch.cat([f[stage] for f in chosen]) for stage in chosen[0]}, states


def _where(mask: Tensor, a: Any, b: Any) -> Any:
    """Slots of states a where the mask [B] is true, else of states b."""
    if a is None:
        return None
    if isinstance(a, Tensor):
        return torch.where(mask[:, None, None, None], a, b)
    return type(a)(_where(mask, x, y) for x, y in zip(a, b, strict=True))

"""From the blocks of a recording, each read once, to the windows of one grid or of several.

A block stays in memory while a window to come has events of it; windows are slices of blocks, so no event is
copied. The oracle, which the tests keep, is the definition: choose a window's events from the whole recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ssmbook.events import Events
from ssmbook.events.representation import Representation


class Windows:
    """Cuts blocks into windows.

    Args:
        ends_us [T]: where windows end, increasing.
        window_us: a window holds the events with end − window ≤ t ≤ end; or
        window_events: the last so many with t ≤ end, fewer where there are no more.
    """

    def __init__(
        self, ends_us: np.ndarray, window_us: int | None = None, window_events: int | None = None
    ) -> None:
        self._ends = ends_us.tolist()
        self._window_us, self._window_events = window_us, window_events
        self._blocks: list[Events] = []
        self._next = 0  # the first window that is not whole yet

    @property
    def done(self) -> bool:
        """No window is left."""
        return self._next == len(self._ends)

    def push(self, block: Events) -> Iterator[list[Events]]:
        """The windows that are whole with the next block, each as parts in order, empty ones without any."""
        if len(block) and not self.done:
            self._blocks.append(block)
            # An event at the very end may have equals in the next block.
            while not self.done and block.t[-1] > self._ends[self._next]:
                yield self._parts(self._ends[self._next])
                self._next += 1
            self._forget()

    def finish(self) -> Iterator[list[Events]]:
        """The windows that the last block left open."""
        for end in self._ends[self._next :]:
            yield self._parts(end)
        self._next = len(self._ends)
        self._blocks.clear()

    def _parts(self, end: int) -> list[Events]:
        if self._window_us is not None:
            begin = end - self._window_us
            spans = [(int(b.t.searchsorted(begin)), _until(b, end)) for b in self._blocks]
            return [b[i:j] for b, (i, j) in zip(self._blocks, spans, strict=True) if i < j]
        parts, missing = [], self._window_events or 0
        for block in reversed(self._blocks):
            stop = _until(block, end)
            parts.append(block[max(stop - missing, 0) : stop])
            missing -= len(parts[-1])
            if missing == 0:
                break
        return parts[::-1]

    def _forget(self) -> None:
        """Let go of the first blocks that no window to come begins in."""
        if self.done:
            self._blocks.clear()
            return
        end, first = self._ends[self._next], 0
        if self._window_us is not None:
            while first < len(self._blocks) and self._blocks[first].t[-1] < end - self._window_us:
                first += 1
        else:
            behind = sum(_until(block, end) for block in self._blocks)
            while first < len(self._blocks):
                behind -= _until(self._blocks[first], end)
                if behind < (self._window_events or 0):
                    break
                first += 1
        del self._blocks[:first]


def _until(block: Events, end: int) -> int:
    """How many events of a block have t ≤ end."""
    return int(block.t.searchsorted(end, side="right"))


@dataclass(frozen=True)
class FrameSink:
    """The frames of one set: from which windows, as what, and where they go."""

    windows: Windows
    represent: Representation
    halve: bool
    frame: np.ndarray  # used again and again: fresh memory would cost more than the events
    write: Callable[[np.ndarray], None]

    def take(self, windows: Iterator[list[Events]]) -> None:
        """Fill the frame from each of the windows and pass it on."""
        for parts in windows:
            self.represent.fill_parts(parts, self.frame, self.halve)
            self.write(self.frame)


def write_frames(blocks: Iterable[Events], sinks: list[FrameSink]) -> int:
    """Fill the frames of all sinks from one pass over the blocks; returns the number of events.

    Args:
        blocks: in order of time and inside the sensor, as a ``Recording`` with its size gives them. All are
            read, also those after the last window, so that damage there is noticed.
    """
    events = 0
    for block in blocks:
        events += len(block)
        for sink in sinks:
            sink.take(sink.windows.push(block))
    for sink in sinks:
        sink.take(sink.windows.finish())
    return events

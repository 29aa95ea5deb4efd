"""From the blocks of a recording, each read once, to the windows of one grid or of several.

A block stays in memory while a window to come has events of it; windows are slices of blocks, so no event is
copied. The oracle, which the tests keep, is the definition: choose a window's events from the whole recording.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import NamedTuple, Self

import numpy as np

from ssmbook.dataset.compression import Chunk, compress
from ssmbook.events import Events
from ssmbook.events.representations import Representation


class Windows:
    """Cuts blocks into windows.

    Args:
        ends_us [T]: where windows end, increasing.
        window_us: a window holds the events with end − window ≤ t ≤ end, a number or [T]; or
        window_events: as many events, the last with t ≤ end; fewer at the start.
    """

    def __init__(
        self,
        ends_us: np.ndarray,
        window_us: int | np.ndarray | None = None,
        window_events: int | None = None,
    ) -> None:
        self._ends = ends_us.tolist()
        self._begins, self._window_events = None if window_us is None else ends_us - window_us, window_events
        # From when on events of a window or of any later one count.
        self._from = None if self._begins is None else np.minimum.accumulate(self._begins[::-1])[::-1]
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
                yield self._parts(self._next)
                self._next += 1
            self._forget()

    def finish(self) -> Iterator[list[Events]]:
        """The windows that the last block left open."""
        for i in range(self._next, len(self._ends)):
            yield self._parts(i)
        self._next = len(self._ends)
        self._blocks.clear()

    def _parts(self, i: int) -> list[Events]:
        end = self._ends[i]
        if self._begins is not None:
            begin = int(self._begins[i])
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
        if self._from is not None:
            begin = self._from[self._next]
            while first < len(self._blocks) and self._blocks[first].t[-1] < begin:
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


class Readings:
    """The frames of a representation without windows, read while the events are pushed; no event is held.

    Args:
        ends_us [T]: when it is read, increasing.
        represent: at its start.
    """

    def __init__(self, ends_us: np.ndarray, represent: Representation) -> None:
        self._ends, self._represent = ends_us.tolist(), represent
        self._next = 0  # the first time that is still to come

    @property
    def done(self) -> bool:
        """No reading is left."""
        return self._next == len(self._ends)

    def push(self, block: Events) -> Iterator[np.ndarray]:
        """The frames at the times that the next block goes beyond."""
        while not self.done and len(block):
            end = self._ends[self._next]
            stop = _until(block, end)
            self._represent.advance([block[:stop]])
            if stop == len(block):  # its last event may have equals in the next block
                return
            block = block[stop:]
            yield self._read()

    def finish(self) -> Iterator[np.ndarray]:
        """The frames at the times after the last event."""
        while not self.done:
            yield self._read()

    def _read(self) -> np.ndarray:
        frame = np.empty(self._represent.shape, self._represent.dtype)
        self._represent.write_frame([], self._ends[self._next], frame)
        self._next += 1
        return frame


@dataclass(frozen=True)
class FrameSink:
    """One output set: its windows (or readings), representation, and what writes its chunks."""

    windows: Windows | Readings
    represent: Representation
    write: Callable[[Chunk], None]
    _used: SimpleQueue[np.ndarray] = field(default_factory=SimpleQueue)

    @classmethod
    def of(
        cls,
        represent: Representation,
        ends_us: np.ndarray,
        window_us: int | np.ndarray | None,
        window_events: int | None,
        write: Callable[[Chunk], None],
    ) -> Self:
        """Cuts the events into windows where the representation has any, else reads it at their ends."""
        if represent.windowed:
            return cls(Windows(ends_us, window_us, window_events), represent, write)
        return cls(Readings(ends_us, represent), represent, write)

    def frame_of(self, window: list[Events] | np.ndarray) -> Chunk:
        """The frame of a window, or one that was read, compressed. Threads may call it at once."""
        if isinstance(window, np.ndarray):
            return compress(window)
        try:  # frames are used again: fresh memory would cost more than the events
            frame = self._used.get_nowait()
        except Empty:
            frame = np.empty(self.represent.shape, self.represent.dtype)
        self.represent.write_frame(window, 0, frame)
        chunk = compress(frame)
        self._used.put(frame)
        return chunk


class Frames:
    """Makes frames of windows and writes them in order, in a ``with`` block.

    Args:
        threads: that make frames while another reads ahead; with 1 a single thread does both.
    """

    # What may wait for a thread: the windows of two blocks, so that none is idle while the next one is read.
    _MOST_EVENTS = 2 << 20
    _EACH = 1 << 14  # events that an empty window counts as, since it needs memory too

    def __init__(self, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._threads, self._events = threads, 0
        self._waiting: deque[tuple[FrameSink, int, Future[Chunk]]] = deque()

    def take(self, sink: FrameSink, windows: Iterable[list[Events] | np.ndarray]) -> None:
        """Have the frames of the next windows of a set written, by the end of the block at the latest."""
        for window in windows:
            if self._pool is None:
                sink.write(sink.frame_of(window))
                continue
            held = window.nbytes // 8 if isinstance(window, np.ndarray) else sum(map(len, window))
            events = self._EACH + held
            self._waiting.append((sink, events, self._pool.submit(sink.frame_of, window)))
            self._events += events
            while len(self._waiting) > self._threads and self._events > self._MOST_EVENTS:
                self._write_next()

    def _write_next(self) -> None:
        sink, events, chunk = self._waiting.popleft()
        self._events -= events
        sink.write(chunk.result())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            while self._waiting and kind is None:
                self._write_next()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)


class Read(NamedTuple):
    """What a pass over a recording met: the number of events, and the stamps of the first and the last one."""

    events: int = 0
    first_us: int = 0
    last_us: int = 0


def write_frames(
    blocks: Iterable[Events],
    sinks: list[FrameSink],
    threads: int = 1,
    at_end: Callable[[Read], None] = lambda read: None,
) -> Read:
    """Write the frames of all sinks from one pass over the blocks.

    Args:
        blocks: in order of time and inside the sensor, as a ``Recording`` with its size gives them. All are
            read, also those after the last window, so that damage there is noticed.
        threads: that make frames, see ``Frames``.
        at_end: is told what was read before the windows after the last event are written.
    """
    read = Read()
    with Frames(threads) as frames:
        for block in blocks:
            if len(block):
                first = read.first_us if read.events else int(block.t[0])
                read = Read(read.events + len(block), first, int(block.t[-1]))
            for sink in sinks:
                frames.take(sink, sink.windows.push(block))
        at_end(read)
        for sink in sinks:
            frames.take(sink, sink.windows.finish())
    return read

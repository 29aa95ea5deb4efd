"""What every format offers: the events of a file by time, in bounded memory.

A format decodes blocks of about a million events, each from a cursor that the block before it gave.
Everything else is here: stamps become a running maximum over the whole file, so that they are sorted; the
cursors and running maxima met so far make a coarse index, which grows as reading goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit

from ssmbook.errors import InputError
from ssmbook.events.events import Events

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class _Mark(NamedTuple):
    """The start of a block: where to decode from, and what the events before it add up to."""

    cursor: Any
    stamp: int  # running maximum before the block
    events: int  # before the block


class Recording(ABC):
    """The events of one file, sorted by time. Use it in a ``with`` block; ``open_events`` makes it.

    Stamps are int64 µs and a running maximum: an event that the camera delivered late has the stamp of the
    one before it. Polarity is 0/1. One recording serves one thread.

    Attributes:
        path: the file.
        width, height: the sensor in px; None where the file does not say and the caller did not.

    Raises:
        InputError: while reading, when the file is damaged, an event lies outside the sensor (the message
            has its index), or the first stamp is below 0.
    """

    #: events in one block
    block_events = 1 << 20

    def __init__(self, path: Path, width: int | None, height: int | None, start: Any) -> None:
        self.path = path
        self.width = width
        self.height = height
        self._marks = [_Mark(start, 0, 0)]
        self._kept: tuple[int, Events] | None = None
        self._closed = False

    @abstractmethod
    def _decode(self, cursor: Any) -> tuple[Columns, Any]:
        """Columns t, x, y, p of the block at the cursor, as stored, and the next cursor; empty at the end.

        The arrays are the caller's to change.
        """

    def close(self) -> None:
        """Let go of the file."""
        self._closed = True
        self._kept = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of events; where the file does not say, it is read to its end once."""
        return self._last_mark().events

    @property
    def start_us(self) -> int:
        """The first event's stamp; 0 without events."""
        block = self._block(0, keep=True)
        return int(block.t[0]) if len(block) else 0

    @property
    def end_us(self) -> int:
        """The last event's stamp; 0 without events. The file is read to its end once."""
        return self._last_mark().stamp

    def blocks(self) -> Iterator[Events]:
        """The whole file once, in its order, about a million events at a time."""
        k = 0
        while len(block := self._block(k)):
            yield block
            k += 1

    def read(self, t0_us: int, t1_us: int) -> Events:
        """The events with t0_us ≤ t < t1_us, read from the last block known to start before t0_us."""
        if t1_us < t0_us:
            raise InputError(
                f"{self.path}: cannot read from {t0_us} to {t1_us} µs; give the earlier time first"
            )
        k = max(bisect_left(self._marks, t0_us, key=lambda mark: mark.stamp) - 1, 0)
        parts = []
        # Asked of the mark, so that the block behind the last one needed is not decoded.
        while self._marks[k].stamp < t1_us and len(block := self._block(k, keep=True)):
            i, j = np.searchsorted(block.t, [t0_us, t1_us])
            parts.append(block[i:j])
            k += 1
        return Events.concatenate(parts)

    def windows(self, dt_us: int) -> Iterator[Events]:
        """Consecutive windows [start_us + k·dt_us, start_us + (k + 1)·dt_us), empty ones too.

        Every event is in exactly one window, and the last window holds the last event.
        """
        if dt_us != int(dt_us) or dt_us < 1:
            raise InputError(f"{self.path}: windows of {dt_us} µs; give a whole number of at least 1")
        dt_us = int(dt_us)
        end = None
        parts: list[Events] = []
        for block in self.blocks():
            end = int(block.t[0]) + dt_us if end is None else end
            i = 0
            while end <= block.t[-1]:
                j = int(np.searchsorted(block.t, end))
                yield Events.concatenate([*parts, block[i:j]])
                parts, i, end = [], j, end + dt_us
            parts.append(block[i:])
        if parts:
            yield Events.concatenate(parts)

    def _last_mark(self) -> _Mark:
        while len(self._block(len(self._marks) - 1)):
            pass
        return self._marks[-1]

    def _block(self, k: int, keep: bool = False) -> Events:
        """Block k, whose mark must be known; notes the mark of block k + 1. No events at the end.

        ``keep`` remembers the block for the next call: short reads one after another decode it once. Without
        it the block is the caller's alone.
        """
        if self._closed:
            raise InputError(f"{self.path}: the recording is closed; read it inside its with block")
        mark = self._marks[k]
        if self._kept is not None and self._kept[0] == k:
            block = self._kept[1]
        else:
            columns, cursor = self._decode(mark.cursor)
            block = self._checked(columns, mark)
            if len(block) and k + 1 == len(self._marks):
                self._marks.append(_Mark(cursor, int(block.t[-1]), mark.events + len(block)))
        self._kept = (k, block) if keep else None
        return block

    def _checked(self, columns: Columns, mark: _Mark) -> Events:
        """The block with its stamps as a running maximum, checked against the sensor."""
        try:
            block = Events(*columns)
        except InputError as error:
            raise InputError(f"{self.path}: counted from event {mark.events}: {error}") from None
        if len(block) == 0:
            return block
        if mark.events == 0 and block.t[0] < 0:
            raise InputError(
                f"{self.path}: the first stamp is {block.t[0]} µs, and none may be below 0; subtract it from "
                "the times of events and boxes"
            )
        for values, size, name in ((block.x, self.width, "x"), (block.y, self.height, "y")):
            if size is not None and values.max() >= size:
                i = int(np.argmax(values >= size))
                raise InputError(
                    f"{self.path}: event {mark.events + i} has {name} = {values[i]}, outside the sensor's "
                    f"{size} px; give the size it was recorded with"
                )
        running_maximum(block.t, mark.stamp)
        np.minimum(block.p, 1, out=block.p)  # some files mark growing light by 255
        return block


@njit(nogil=True, cache=True)
def running_maximum(t, floor):
    """Lift each stamp to the largest of ``floor`` and the stamps up to it, in place."""
    for i in range(len(t)):
        if t[i] < floor:
            t[i] = floor
        else:
            floor = t[i]


def sensor_size(path: Path, said: int | None, given: int | None, name: str) -> int | None:
    """The width or height that the file says or else the caller gives; an InputError where they differ."""
    for value in (said, given):
        if value is not None and value < 1:
            raise InputError(f"{path}: {name} {value}; it must be at least 1 px")
    if said is not None and given is not None and said != given:
        raise InputError(
            f"{path}: the file says {name} {said}, not {given}; leave it out or give another file"
        )
    return given if said is None else said


@njit(nogil=True, cache=True)
def laps(value, last, lap, period):
    """The lap of a counter of ``period`` values that reads ``value`` after ``last`` in lap ``lap``.

    A drop of more than half the period is a new lap; smaller ones are events that came late. So is a rise
    by nearly the whole period: an event from before the lap that just began.
    """
    if last - value > period // 2:
        return lap + 1
    if value - last > period - period // 16 and lap > 0:
        return lap - 1
    return lap

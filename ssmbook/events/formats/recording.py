"""What every format offers: the events of a file by time, in bounded memory.

A format decodes blocks of about a million events, each from a cursor that the block before it gave.
Everything else is here: stamps become a running maximum over the whole file, so that they are sorted, and single
events outside the sensor are dropped (``checks``); the cursors and running maxima met so far make a coarse index,
which grows as reading goes on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.events import Events, binary_polarity
from ssmbook.events.formats.checks import LARGEST_STAMP_US, Faults, check_stamps, inside

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class _Mark(NamedTuple):
    """The start of a block: where to decode from, and what the events before it add up to."""

    cursor: Any
    stamp: int  # running maximum before the block
    faults: Faults  # met before the block, with the number of events before it


class Recording(ABC):
    """The events of one file, sorted by time. Use it in a ``with`` block; ``open_events`` makes it.

    Stamps are int64 µs and a running maximum: an event that the camera delivered late has the stamp of the
    one before it. Polarity is 0/1. Up to one event in a thousand may lie outside the sensor, and is dropped.
    One recording serves one thread.

    Attributes:
        path: the file.
        format: what it is, as "EVT3".
        width, height: the sensor in px; None where the file does not say and the caller did not.

    Raises:
        InputError: while reading, when the file is damaged, its clock goes back by more than 0.1 s, more than
            1 % of the events are late, more lie outside the sensor (messages have the index of one), the first
            stamp is below 0, or polarity takes values that are none.
    """

    format: ClassVar[str]
    #: events in one block
    block_events = 1 << 20
    _file: Any = None  # what ``close`` closes
    _closed = False

    @classmethod
    def open(cls, path: Path, width: int | None = None, height: int | None = None) -> Self:
        """The recording in a file of this format; one that cannot be read is closed again."""
        recording = cls.__new__(cls)
        try:
            recording.__init__(path, width, height)  # type: ignore[misc, call-arg]
        except BaseException:
            recording.close()
            raise
        return recording

    def __init__(self, path: Path, width: int | None, height: int | None, start: Any) -> None:
        self.path = path
        self.width = width
        self.height = height
        self._marks = [_Mark(start, 0, Faults())]
        self._start_us = 0
        self._whole = False  # all of it has been met
        self._polarities: set[int] = set()
        self._kept: tuple[int, Events] | None = None

    @abstractmethod
    def _decode(self, cursor: Any) -> tuple[Columns, Any]:
        """Columns t, x, y, p of the block at the cursor, as stored, and the next cursor; empty at the end.

        The arrays are the caller's to change.
        """

    def close(self) -> None:
        """Let go of the file."""
        self._closed = True
        self._kept = None
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of events in the file; where it does not say, it is read to its end once."""
        return self._last_mark().faults.events

    @property
    def faults(self) -> Faults:
        """What was mended in the part of the file that has been read; as text, one line for people."""
        return self._marks[-1].faults

    @property
    def start_us(self) -> int:
        """The first event's stamp; 0 without events. The file's first events are read once."""
        if len(self._marks) == 1 and not self._whole:
            self._block(0, keep=True)
        return self._start_us

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

    def smallest_size(self) -> tuple[int, int]:
        """The smallest (width, height) that holds all events, at least (1, 1); the file is read to its end."""
        width, height = 1, 1
        for block in self.blocks():
            width, height = max(width, int(block.x.max()) + 1), max(height, int(block.y.max()) + 1)
        return width, height

    def between(self, start_us: int | None, stop_us: int | None) -> Iterator[Events]:
        """The events with start_us ≤ t < stop_us as blocks, which may be empty; None: no limit. Reads no further."""
        for block in self.blocks():
            first = 0 if start_us is None else int(np.searchsorted(block.t, start_us))
            last = len(block) if stop_us is None else int(np.searchsorted(block.t, stop_us))
            yield block[first : max(first, last)]
            if last < len(block):
                return

    def read(self, t0_us: int, t1_us: int) -> Events:
        """The events with t0_us ≤ t < t1_us, read from the last block known to start before t0_us."""
        t0, t1 = self._time(t0_us), self._time(t1_us)
        if t0 > t1:
            raise InputError(
                f"{self.path}: cannot read from {t0_us} to {t1_us} µs; give the earlier time first"
            )
        k = max(bisect_left(self._marks, t0, key=lambda mark: mark.stamp) - 1, 0)
        parts = []
        # Asked of the mark, so that the block behind the last one needed is not decoded.
        while self._marks[k].stamp < t1 and len(block := self._block(k, keep=True)):
            i, j = np.searchsorted(block.t, [t0, t1])
            parts.append(block[i:j])
            k += 1
        return Events.concatenate(parts)

    def _time(self, t_us: float) -> int:
        """A caller's time as the first whole µs from it on, within what stamps can be."""
        try:
            return math.ceil(min(max(t_us, -LARGEST_STAMP_US), 2 * LARGEST_STAMP_US))
        except (TypeError, ValueError):  # no number, or none that is one
            raise InputError(f"{self.path}: a time of {t_us!r}; give numbers, in µs") from None

    def windows(self, dt_us: int) -> Iterator[Events]:
        """Consecutive windows [start_us + k·dt_us, start_us + (k + 1)·dt_us), empty ones too.

        Every event is in exactly one window, and the last window holds the last event.
        """
        if not isinstance(dt_us, int | float | np.number) or not 1 <= dt_us < math.inf or dt_us != int(dt_us):
            raise InputError(f"{self.path}: windows of {dt_us} µs; give a whole number of at least 1")
        dt_us = int(dt_us)
        end = None
        parts: list[Events] = []
        for block in self.blocks():
            end = int(block.t[0]) + dt_us if end is None else end
            i = 0
            while end <= int(block.t[-1]):
                j = int(np.searchsorted(block.t, end))
                yield Events.concatenate([*parts, block[i:j]])
                parts, i, end = [], j, end + dt_us
            parts.append(block[i:])
        if parts:
            yield Events.concatenate(parts)

    def _last_mark(self) -> _Mark:
        while not self._whole:
            self._block(len(self._marks) - 1)
        return self._marks[-1]

    def _block(self, k: int, keep: bool = False) -> Events:
        """Block k, whose mark must be known; notes the mark of block k + 1. No events at the end.

        ``keep`` remembers the block for the next call: short reads one after another decode it once. Without
        it the block is the caller's alone.
        """
        if self._closed:
            raise InputError(f"{self.path}: the recording is closed; read it inside its with block")
        kept, self._kept = self._kept, None
        block = kept[1] if kept is not None and kept[0] == k else self._decoded(k)
        if keep:
            self._kept = k, block
        return block

    def _decoded(self, k: int) -> Events:
        cursor, stamp, faults = self._marks[k]
        block = Events.empty()
        while len(block) == 0:  # a block of which no event is inside the sensor
            columns, cursor = self._decode(cursor)
            if len(columns[0]) == 0:
                self._whole = self._whole or k + 1 == len(self._marks)
                return block
            block, faults = self._checked(columns, stamp, faults)
        if k + 1 == len(self._marks):
            self._marks.append(_Mark(cursor, int(block.t[-1]), faults))
            if k == 0:
                self._start_us = int(block.t[0])
        return block

    def _checked(self, columns: Columns, stamp: int, faults: Faults) -> tuple[Events, Faults]:
        """A block with its stamps as a running maximum and without the events outside the sensor."""
        t, x, y, p = columns
        try:
            if len({len(column) for column in columns}) > 1:
                Events(t, x, y, p)  # says what is wrong
            for name, column in (("t", t), ("x", x), ("y", y)):
                if column.dtype.kind not in "ui":
                    raise InputError(f"column {name} holds {column.dtype}; give integers")
            keep, after = inside(x, y, self.width, self.height, faults)
            after = replace(after, events=faults.events + len(t))
            if keep is not None:
                t, x, y, p = t[keep], x[keep], y[keep], p[keep]
            if len(t) == 0:
                return Events.empty(), after
            p = binary_polarity(p, self._polarities)
            t = _stamps(t)
            after = check_stamps(t, stamp, faults, after, keep)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None
        return Events.trusted(t, np.asarray(x, np.uint16), np.asarray(y, np.uint16), p), after


def _stamps(t: np.ndarray) -> np.ndarray:
    """Stamps of any integer type as int64."""
    if t.dtype == np.uint64 and len(t) and int(t.max()) > LARGEST_STAMP_US:
        raise InputError(f"a stamp of {t.max()} µs; stamps are µs and at most 2⁶¹")
    return np.ascontiguousarray(t, np.int64)


def sensor_size(path: Path, said: int | None, given: int | None, name: str) -> int | None:
    """The width or height that the file says or else the caller gives; an InputError where they differ."""
    for value in (said, given):
        if value is not None and not 1 <= value <= 1 << 16:
            raise InputError(f"{path}: {name} {value}; it must be 1 to 65536 px")
    if said is not None and given is not None and said != given:
        raise InputError(
            f"{path}: the file says {name} {said}, not {given}; give the size (or the sensor) that it was recorded with"
        )
    return given if said is None else said

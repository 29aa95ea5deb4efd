"""What is checked of every block of events, whatever its format: order of the stamps, place, polarity.

Cameras deliver some events late by micro- or milliseconds, and a transmission error now and then gives one an
address outside the sensor. The first are lifted to the stamp before them, the second are dropped; both are
counted, and beyond the limits below the file is refused: its clock went back, or its size is another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ssmbook.compiled import njit
from ssmbook.errors import InputError

LATE_US = 100_000  # an event that is later than this comes from a clock that went back
LATE_SHARE = 0.01  # of late events
FEW = 10  # late events are never too many
OUTSIDE_SHARE = 0.001  # of events outside the sensor
LONGEST_GAP_US = 24 * 3_600_000_000  # between two events of one recording
LARGEST_STAMP_US = 1 << 61


@dataclass(frozen=True)
class Faults:
    """What was mended in the events read so far."""

    events: int = 0  # read, those dropped included
    late: int = 0  # lifted to the stamp before them
    latest_us: int = 0  # by how much the latest of them
    outside: int = 0  # dropped, for they lie outside the sensor
    first_outside: tuple[int, int, int] | None = None  # index, x, y of the first of them

    def __str__(self) -> str:
        """One line for people; empty where nothing was mended."""
        words = []
        if self.first_outside is not None:
            i, x, y = self.first_outside
            words.append(
                f"{self.outside:,} of {self.events:,} events lie outside the sensor and were dropped (the first "
                f"is event {i} at x = {x}, y = {y})"
            )
        if self.late:
            words.append(
                f"{self.late:,} of {self.events:,} events are late, by up to {self.latest_us:,} µs, and count at the "
                "stamp before them"
            )
        return "; ".join(words)


@njit(nogil=True)
def running_maximum(t, floor):
    """Lift each stamp to the largest of ``floor`` and the stamps up to it, in place.

    Returns the number of stamps that were lifted, by how much at most, and the first index of that.
    """
    late, largest, index = 0, 0, -1
    for i in range(len(t)):
        if t[i] < floor:
            late += 1
            if floor - t[i] > largest:
                largest, index = floor - t[i], i
            t[i] = floor
        else:
            floor = t[i]
    return late, largest, index


@njit(nogil=True)
def laps(value, last, lap, period):
    """The lap of a counter of ``period`` values that reads ``value`` after ``last`` in lap ``lap``.

    A drop is a new lap where little time passes by it: up to an eighth of the period. Other drops are events
    that came late, or a clock that was set back. A rise by nearly the whole period is an event from before the
    lap that just began.
    """
    if value + period - last <= period // 8:
        return lap + 1
    if value - last > period - period // 16 and lap > 0:
        return lap - 1
    return lap


def check_stamps(
    t: np.ndarray, floor: int, before: Faults, after: Faults, kept: np.ndarray | None = None
) -> Faults:
    """Make stamps [N] a running maximum from ``floor``, in place; ``after`` plus what was late.

    Args:
        t: int64 µs; not empty.
        floor: the last stamp before these; 0 at the start of a recording.
        before, after: what was met before these events and with them, but for lateness.
        kept: a mask with N true values: which of the events these are, for the index in a message.

    Raises:
        InputError: the clock went back, or it jumped ahead by more than a day.
    """
    if before.events == 0 and t[0] < 0:
        raise InputError(
            f"the first stamp is {t[0]} µs, and none may be below 0; subtract it from the times of events and boxes"
        )
    late, largest, i = running_maximum(t, floor)
    if largest > LATE_US:
        raise InputError(
            f"the clock goes back: event {_index(i, before, kept)} is at {t[i] - largest} µs, after {t[i]} µs; cut the "
            "recording there or sort its events by time"
        )
    if t[-1] > LARGEST_STAMP_US:
        raise InputError(f"a stamp of {t[-1]} µs; stamps are µs and at most 2⁶¹")
    if t[-1] - floor > LONGEST_GAP_US:
        gaps = np.diff(t, prepend=t[0] if before.events == 0 else floor)
        if gaps.max() > LONGEST_GAP_US:
            i = int(np.argmax(gaps > LONGEST_GAP_US))
            raise InputError(
                f"the clock jumps ahead by more than a day, to {t[i]} µs at event {_index(i, before, kept)}; the "
                "stamp is damaged"
            )
    total, events = before.late + late, after.events
    if total > max(FEW, LATE_SHARE * events):
        raise InputError(
            f"{total:,} of {events:,} events are earlier than one before them (the latest is event "
            f"{_index(i, before, kept)}, at {t[i] - largest} µs after {t[i]} µs); sort the events by time"
        )
    return replace(after, late=total, latest_us=max(before.latest_us, int(largest)))


def _index(i: int, before: Faults, kept: np.ndarray | None) -> int:
    return before.events + (i if kept is None else int(np.flatnonzero(kept)[i]))


def inside(
    x: np.ndarray, y: np.ndarray, width: int | None, height: int | None, before: Faults
) -> tuple[np.ndarray | None, Faults]:
    """Which events [N] lie within the sensor, None for all of them; ``before`` plus the others.

    Args:
        x, y: integers of any kind.
        width, height: of the sensor in px; None where they are not known.

    Raises:
        InputError: more than one event in a thousand lies outside.
    """
    keep = None
    for values, size in ((x, width or 1 << 16), (y, height or 1 << 16)):
        if values.dtype == np.uint16 and size == 1 << 16:
            continue
        if int(values.max()) >= size or (values.dtype.kind == "i" and int(values.min()) < 0):
            mine = (values >= 0) & (values < size)
            keep = mine if keep is None else keep & mine
    if keep is None:
        return None, before
    i = int(np.argmin(keep))
    first = before.first_outside or (before.events + i, int(x[i]), int(y[i]))
    outside, events = before.outside + int(np.sum(~keep)), before.events + len(keep)
    if outside > OUTSIDE_SHARE * events:
        raise InputError(_outside(first, outside, events, width, height))
    return keep, replace(before, outside=outside, first_outside=first)


def _outside(
    first: tuple[int, int, int], outside: int, events: int, width: int | None, height: int | None
) -> str:
    i, x, y = first
    name, value, size = ("x", x, width) if not 0 <= x < (width or 1 << 16) else ("y", y, height)
    share = f"{outside:,} of {events:,} events are"
    if size is None:
        return f"event {i} has {name} = {value}; give 0 to 65535 ({share} beyond that)"
    outside_px = f"event {i} has {name} = {value}, outside the sensor's {size} px, as {share}"
    return f"{outside_px}; give the size it was recorded with"

"""Windows cut from events as they arrive.

A window of the events from end − window to end, both included, is complete once an event after its end has
come, or the clock says so. What the next windows still need of the events is kept, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events import Events
from ssmbook.events.formats.checks import LATE_US, running_maximum

LONGEST_GAP_US = 60_000_000  # a live jump of the stamps by more is taken for a fault, not for a quiet minute
MAX_HELD = 1 << 25  # events, about 450 MB: more in a window come from a clock that stands still


class EventWindows:
    """Cuts events that arrive in pieces of any size into windows.

    Args:
        window_us: a window holds the events with end − window_us ≤ t ≤ end; None: those since the window before.
        stride_us: between ends; need not be whole: the k-th end is first + round(k · stride_us).
        first_end_us: the end of the first window; None: one window (or one stride, where there is none) after the
            first event.
    """

    def __init__(self, window_us: int | None, stride_us: float, first_end_us: int | None = None) -> None:
        if (window_us is not None and window_us < 1) or stride_us < 1:
            raise InputError(f"window {window_us} µs, stride {stride_us} µs; give at least 1 µs")
        self.window_us, self.stride_us = window_us, stride_us
        self._first, self._count = first_end_us, 0
        self._clock: int | None = None  # the latest stamp so far
        self._kept: list[Events] = []
        self.stale = 0  # events that came too late to count, and were dropped
        self.longest_gap_us = LONGEST_GAP_US

    @property
    def next_end_us(self) -> int | None:
        """The end of the next window; None before the first event of a stream without ``first_end_us``."""
        return None if self._first is None else self._end(self._first)

    def _end(self, first_us: int) -> int:
        return first_us + round(self._count * self.stride_us)

    @property
    def held(self) -> int:
        """How many events are held."""
        return sum(map(len, self._kept))

    def push(
        self, events: Events, now_us: int | None = None, whole: Events | None = None
    ) -> Iterator[tuple[int, Events]]:
        """Take events, and give the windows that are complete then: (end, events).

        Args:
            events: in the order of their arrival; late ones have their stamps lifted to the latest so far, or are
                dropped and counted in ``stale`` where they are late by more than 0.1 s.
            now_us: the time up to which all events have been delivered: windows that end by then are
                complete too, events or none.
            whole: those that these were taken from, at the first of which the first window begins; None: these.

        Raises:
            InputError: the first stamp is below 0, the clock went back (the last event is late by more than 0.1 s),
                jumped ahead by more than a minute, or stands still while events come; nothing was taken.
        """
        if self.held + len(events) > MAX_HELD:
            raise InputError(
                f"{self.held + len(events):,} events wait for the clock to pass {self.next_end_us} µs; give shorter "
                "windows, or reset the stream if the clock stands still"
            )
        count = len(events)
        events = self._sorted(events)
        latest = [int(events.t[-1])] if len(events) else []
        latest += [] if now_us is None else [int(now_us)]
        first, whole = self._first, events if whole is None else whole
        if first is None and len(whole):
            begin = max(int(whole.t[0]), self._clock or 0)
            first = begin + (self.window_us or round(self.stride_us))
        seen = first if self._clock is None else self._clock
        if seen is not None and latest and max(latest) - seen > self.longest_gap_us:
            self._check_gaps(np.array([seen, *events.t, *latest]))
        self.stale += count - len(events)
        self._first = first
        if latest:
            self._clock = max([*latest, self._clock or 0])
        self._hold(events)
        return self._complete(-1 if now_us is None else int(now_us))

    def _check_gaps(self, stamps: np.ndarray) -> None:
        """Refuse a jump between two stamps [N]; many events may cover a long time without one."""
        i = int(np.argmax(np.diff(stamps)))
        if stamps[i + 1] - stamps[i] > self.longest_gap_us:
            raise InputError(
                f"the stamps jump from {stamps[i]} to {stamps[i + 1]} µs; reset the stream where a recording begins"
            )

    def _sorted(self, events: Events) -> Events:
        if len(events) == 0:
            return events
        if self._clock is None and events.t[0] < 0:
            raise InputError(f"the first stamp is {events.t[0]} µs; stamps must not start below 0")
        t = events.t.copy()
        largest = running_maximum(t, self._clock or 0)[1]
        if t[-1] - events.t[-1] > LATE_US:
            raise InputError(
                f"the clock goes back from {t[-1]} to {events.t[-1]} µs; reset the stream where a recording begins"
            )
        return _without_stale(t, events) if largest > LATE_US else Events(t, events.x, events.y, events.p)

    def _hold(self, events: Events) -> None:
        """Keep a copy of the events that the next window can still need."""
        end = self.next_end_us
        if end is not None and self.window_us is not None:
            events = events[int(np.searchsorted(events.t, end - self.window_us)) :]
        if len(events):
            self._kept.append(Events.concatenate([events]))

    def _complete(self, now_us: int) -> Iterator[tuple[int, Events]]:
        first, clock = self._first, self._clock
        if first is None or clock is None:
            return
        held = None
        # A window that ends at the latest stamp may get more events of that stamp.
        while clock > (end := self._end(first)) or now_us >= end:
            held = Events.concatenate(self._kept) if held is None else held
            stop = int(np.searchsorted(held.t, end, "right"))
            self._count += 1
            if self.window_us is None:
                window, held = held[:stop], held[stop:]
            else:
                window = held[int(np.searchsorted(held.t, end - self.window_us)) : stop]
            yield end, window
        if held is not None:
            self._kept.clear()
            self._hold(held)


def _without_stale(lifted: np.ndarray, events: Events) -> Events:
    """The events [N] that came in time, at their lifted stamps [N]."""
    fresh = lifted - events.t <= LATE_US
    return Events(lifted[fresh], events.x[fresh], events.y[fresh], events.p[fresh])

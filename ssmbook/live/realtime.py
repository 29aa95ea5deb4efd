"""Detection in events as they come, in a memory that does not grow.

One thread takes messages, cuts windows and makes their frames; the caller's runs the network. Between them wait at most
a few frames: where the network is slower than the windows come, the oldest are dropped and counted. The next step of a
stream whose time scale follows is then as long as the time that has passed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events import Events
from ssmbook.events.formats.checks import LATE_US
from ssmbook.live.stream import Detections, StreamingDetector
from ssmbook.live.tracks import Tracker
from ssmbook.live.wire import Message

BACKLOG = 3  # windows that wait for the network
SILENCE_S = 2.0  # without a message, until it is told
STILL_S = 1.0  # of events at one stamp, until it is told
OUTSIDE_SHARE = 0.1  # of events outside the sensor: with more, the size is wrong
FEW = 10_000  # events, before a share is judged


@dataclass
class LiveStats:
    """What has come and what became of it."""

    events: int = 0
    messages: int = 0
    lost: int = 0  # messages, by their numbers
    outside: int = 0  # events outside the sensor, dropped
    windows: int = 0  # that went through the network
    dropped: int = 0  # windows, for the network was busy
    boxes: int = 0
    restarts: int = 0  # the clock went back, jumped or stood still, and the stream began anew
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    _recent: deque[tuple[float, int]] = field(default_factory=deque)  # messages of the last second

    def count(self, events: int) -> None:
        """Note events that have just come."""
        self.events += events
        self.messages += 1
        now = time.monotonic()
        self._recent.append((now, events))
        while self._recent[0][0] <= now - 1:
            self._recent.popleft()

    def events_per_s(self) -> float:
        """Over the last second."""
        now = time.monotonic()
        return float(sum(count for at, count in list(self._recent) if at > now - 1))

    def facts(self) -> dict[str, float]:
        """All of it as plain numbers; latencies are those of the last 1,000 windows."""
        ms = np.array(self.latencies_ms) if self.latencies_ms else np.zeros(1)
        names = ("events", "messages", "lost", "outside", "windows", "dropped", "boxes", "restarts")
        return {
            **{name: getattr(self, name) for name in names},
            "latency_ms_median": round(float(np.median(ms)), 3),
            "latency_ms_p95": round(float(np.quantile(ms, 0.95)), 3),
        }

    def __str__(self) -> str:
        facts = self.facts()
        words = f"{self.boxes} boxes in {self.windows} windows; {self.events:,} events in {self.messages:,} messages"
        for count, what in (
            (self.dropped, "windows dropped, for the network was busy"),
            (self.lost, "messages lost on the way"),
            (self.outside, "events outside the sensor dropped"),
            (self.restarts, "restarts of the stream"),
        ):
            words += f"; {count:,} {what}" if count else ""
        return (
            f"{words}; latency {facts['latency_ms_median']:.1f} ms (95 %: {facts['latency_ms_p95']:.1f} ms)"
        )


class LiveWindow(NamedTuple):
    """One window as it went through the network."""

    frame: np.ndarray
    found: Detections
    latency_s: float  # from the arrival of the message that completed it until its boxes were there


class _Waiting(NamedTuple):
    frame: np.ndarray
    end_us: int
    arrived: float
    life: int  # how often the stream had begun anew


class _Feed(threading.Thread):
    """Takes messages and makes frames; ``take`` waits for the next one."""

    def __init__(
        self,
        stream: StreamingDetector,
        messages: Iterator[Message],
        stats: LiveStats,
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(daemon=True, name="events")
        self.stream, self.messages, self.stats, self.tell = stream, messages, stats, tell
        self.waiting: deque[_Waiting] = deque()
        self.changed = threading.Condition()
        self.ended = False
        self.error: BaseException | None = None
        self.arrived = self.moved = time.monotonic()  # the last message; the last one that moved the clock
        self.idle_since: float | None = None  # since when the next message is waited for
        self.clock, self.life, self.told_still = -1, 0, False
        self.number: int | None = None
        self.odd = 0, 0  # where the last event outside the sensor was

    def run(self) -> None:
        try:
            for message in self.messages:
                now = time.monotonic()
                if now - (self.idle_since or now) > SILENCE_S and self.stats.messages:
                    self.tell(f"events again, after {now - (self.idle_since or now):.1f} s")
                self.idle_since = None
                self._take(message, now)
                if message.is_end:
                    break
                self.idle_since = time.monotonic()
            if self.clock >= 0:
                self._frames(Events.empty(), self.clock)
            self._check_size(0)
        except BaseException as error:
            self.error = error
        with self.changed:
            self.ended = True
            self.changed.notify()

    def next(self, timeout_s: float) -> _Waiting | None:
        """The next frame; None if there is none by then."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.ended, timeout_s)
            return self.waiting.popleft() if self.waiting else None

    def _take(self, message: Message, now: float) -> None:
        self.arrived = now
        self._note_number(message.number)
        self.stats.count(len(message.events))
        events = self._inside(message.events)
        while len(before := _before_a_jump(events)) < len(events):
            self._push(before, None, now)
            events = events[len(before) :]
        self._push(events, None if message.is_end else message.now_us, now)

    def _push(self, events: Events, now_us: int | None, now: float) -> None:
        self._note_clock(events, now)
        try:
            self._frames(events, now_us)
        except InputError as error:  # the clock went back, jumped or stands still
            self.stats.restarts += 1
            self.life += 1
            self.tell(f"{error}: the stream begins anew")
            self.stream.reset_events()
            self.clock = -1
            self._note_clock(events, now)
            with suppress(InputError):  # what jumps in itself is lost
                self._frames(events, now_us)

    def _note_number(self, number: int | None) -> None:
        if number is not None:
            if self.number is not None and 1 < (gap := (number - self.number) & 0xFFFFFFFF) < 1 << 31:
                self.stats.lost += gap - 1
            self.number = number

    def _note_clock(self, events: Events, now: float) -> None:
        latest = int(events.t[-1]) if len(events) else -1
        if latest > self.clock:
            self.clock, self.moved, self.told_still = latest, now, False
        elif len(events) == 0:
            self.moved = now
        elif now - self.moved > STILL_S and not self.told_still:
            self.told_still = True
            self.tell(f"the clock stands at {self.clock} µs while events come; windows wait for it to go on")

    def _inside(self, events: Events) -> Events:
        """The events within the sensor; the others are counted.

        Raises:
            InputError: they are many.
        """
        sensor = self.stream.camera
        inside = (events.x < sensor.width) & (events.y < sensor.height)
        if inside.all():
            return events
        i = int(np.argmin(inside))
        self.odd = int(events.x[i]), int(events.y[i])
        self.stats.outside += int((~inside).sum())
        self._check_size(FEW)
        return events[inside]

    def _check_size(self, few: int) -> None:
        """Refuse a stream of more events than few, many of which lie outside the sensor."""
        sensor, stats = self.stream.camera, self.stats
        if stats.events > few and stats.outside > OUTSIDE_SHARE * stats.events:
            raise InputError(
                f"{stats.outside:,} of {stats.events:,} events lie outside {sensor.width} × {sensor.height} px, as x = "
                f"{self.odd[0]}, y = {self.odd[1]}; give the camera's --size"
            )

    def _frames(self, events: Events, now_us: int | None) -> None:
        for end, frame in self.stream.frames(events, now_us):
            with self.changed:
                while len(self.waiting) >= BACKLOG:
                    self.waiting.popleft()
                    self.stats.dropped += 1
                self.waiting.append(_Waiting(frame, end, self.arrived, self.life))
                self.changed.notify()


def _before_a_jump(events: Events) -> Events:
    """The events before the clock goes back among them; all of them where it does not."""
    latest = len(events) - int(np.argmax(events.t[::-1])) if len(events) else 0
    return events[:latest] if latest and events.t[latest - 1] - events.t[-1] > LATE_US else events


def detect_live(
    stream: StreamingDetector,
    messages: Iterator[Message],
    stats: LiveStats,
    tell: Callable[[str], None],
    tracker: Tracker | None = None,
) -> Iterator[LiveWindow]:
    """Detect in events as they come: each window that was not dropped, until the messages end.

    Args:
        stream: at its start; the caller must not use it meanwhile.
        messages: from a camera, see ``open_source``.
        stats: is kept up to date.
        tell: is told of silence, of a clock that stands still or goes back, and of windows that were dropped: one line
            each, from either thread.
        tracker: gives the boxes their ``track_id``.

    Raises:
        InputError: the messages are damaged, or many events lie outside the sensor.
    """
    feed = _Feed(stream, messages, stats, tell)
    feed.start()
    life, told_drops, told_silence = 0, 0, False
    while True:
        waiting = feed.next(0.25)
        silent = time.monotonic() - (feed.idle_since or time.monotonic()) > SILENCE_S
        if silent and not told_silence and not feed.ended:
            tell(f"no events for {SILENCE_S:g} s")
        told_silence = silent
        if stats.dropped >= max(1, 2 * told_drops):  # the 1st, 2nd, 4th, … of them
            told_drops = stats.dropped
            tell(f"{stats.dropped} windows dropped so far, for the network is slower than they come")
        if waiting is not None:
            if waiting.life != life:
                life = waiting.life
                stream.reset_state()
            found = stream.push_frame(waiting.frame, waiting.end_us)
            if tracker is not None:
                found = Detections(found.t_us, tracker.update(found.boxes, found.t_us))
            latency = time.monotonic() - waiting.arrived
            stats.windows, stats.boxes = stats.windows + 1, stats.boxes + len(found.boxes)
            stats.latencies_ms.append(1e3 * latency)
            yield LiveWindow(waiting.frame, found, latency)
        elif feed.ended:
            break
    if feed.error is not None:
        raise feed.error

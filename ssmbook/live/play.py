"""A recording sent in real time, as a camera would send it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ssmbook.errors import InputError
from ssmbook.events import Events, Recording
from ssmbook.live.wire import MAX_EVENTS, Message

PACKET_US = 5_000  # of the recording in a message; cameras deliver every 1 to 10 ms
MAX_SLEEP_S = 1.0  # so that an interruption is seen soon


class Played(NamedTuple):
    """What was sent."""

    events: int
    seconds: float
    behind_s: float  # how late the latest message was


def play(
    recording: Recording,
    send: Callable[[Message], None],
    speed: float = 1.0,
    start_us: int | None = None,
    stop_us: int | None = None,
) -> Played:
    """Send a recording, or a part of it, at the pace of its stamps.

    A message is sent for each 5 ms of the recording, with or without events, once that time has passed; a receiver
    that blocks delays it, and what is late follows at once.

    Args:
        recording: sizes go along where it states them.
        send: takes each message.
        speed: 2 sends twice as fast as recorded.
        start_us, stop_us: only the events with start_us ≤ t < stop_us; None: no limit.

    Raises:
        InputError: speed is not above 0.
    """
    if not speed > 0:
        raise InputError(f"speed is {speed}; it must be above 0")
    size = (
        None if recording.width is None or recording.height is None else (recording.width, recording.height)
    )
    began, zero, events, behind = time.monotonic(), None, 0, 0.0
    for end_us, packet in _packets(recording.between(start_us, stop_us)):
        zero = end_us - PACKET_US if zero is None else zero
        due = began + (end_us - zero) / 1e6 / speed
        while (wait := due - time.monotonic()) > 0:
            time.sleep(min(wait, MAX_SLEEP_S))
        behind, events = max(behind, -wait), events + len(packet)
        for k in range(0, max(len(packet), 1), MAX_EVENTS):
            last = k + MAX_EVENTS >= len(packet)
            send(Message(packet[k : k + MAX_EVENTS], end_us - 1 if last else None, None, size))
    return Played(events, time.monotonic() - began, behind)


def _packets(blocks: Iterator[Events]) -> Iterator[tuple[int, Events]]:
    """Blocks as packets of 5 ms from the first event on: (end, events with end − 5 ms ≤ t < end), empty ones too."""
    end, held = None, Events.empty()
    for block in blocks:
        if len(block) == 0:
            continue
        held = Events.concatenate([held, block])
        end = int(held.t[0]) + PACKET_US if end is None else end
        while end <= held.t[-1]:
            stop = int(held.t.searchsorted(end))
            yield end, held[:stop]
            held, end = held[stop:], end + PACKET_US
    if end is not None:
        yield end, held

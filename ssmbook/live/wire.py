"""Events on a wire: what ``ssmbook play`` sends, and ``ssmbook detect --live`` takes, through pipes and over UDP.

**Binary.** A stream is messages one after another; a UDP datagram is one message. All numbers are little-endian.

======  ========  ====================================================================================
offset  type      what
======  ========  ====================================================================================
0       4 bytes   ``EVS1``
4       uint16    width of the sensor in px; 0: not known
6       uint16    height
8       uint32    number of the message, from 0, modulo 2³²: a gap is lost datagrams
12      uint32    n, the number of events that follow, at most 2²⁰
16      int64     time in µs up to which every event has been sent, so that windows that end by then
                  are complete without waiting for a later event; −1: not known; 2⁶³ − 1: the end
24 …    n × 13    events: t int64 µs, x uint16, y uint16, p uint8 (1: ON, 0: OFF)
======  ========  ====================================================================================

**Text.** A line for each event, ``t x y p`` in whole numbers (t in µs), separated by spaces, tabs or commas. Empty
lines, lines that begin with ``#`` and a first line of names are skipped. The end of the stream is the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ssmbook.errors import InputError, shown
from ssmbook.events import Events

EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
MAGIC = b"EVS1"
HEADER = struct.Struct("<4sHHIIq")
END_US = (1 << 63) - 1
MAX_EVENTS = 1 << 20  # of a message
DATAGRAM_EVENTS = 2048  # of a datagram: 27 kB, which the limit of 65,507 bytes holds
MAX_LINE = 1000  # characters of a line of text
CHUNK = 1 << 16  # bytes that are read at once


class Message(NamedTuple):
    """Some events, in the order of their arrival."""

    events: Events
    now_us: int | None = None  # every event up to this time has been sent
    number: int | None = None
    size: tuple[int, int] | None = None  # width, height

    @property
    def is_end(self) -> bool:
        """Nothing follows."""
        return self.now_us == END_US


def encode(message: Message) -> bytes:
    """A message in the binary form above."""
    events = message.events
    array = np.empty(len(events), EVENT)
    for name in "txyp":
        array[name] = getattr(events, name)
    now = -1 if message.now_us is None else message.now_us
    width, height = message.size or (0, 0)
    return HEADER.pack(MAGIC, width, height, message.number or 0, len(events), now) + array.tobytes()


def encode_text(message: Message) -> bytes:
    """The events of a message as lines of text."""
    events = message.events
    rows = zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True)
    return "".join(f"{t} {x} {y} {p}\n" for t, x, y, p in rows).encode()


def decode(data: bytes) -> Message:
    """One binary message, such as a datagram.

    Raises:
        InputError: it is none, or its length does not fit its number of events.
    """
    message, used = _decode(data)
    if message is None or used != len(data):
        raise InputError(f"a message of {len(data)} bytes, {used} by its header; see ssmbook.live.wire")
    return message


def _decode(data: bytes | bytearray) -> tuple[Message | None, int]:
    """The message at the start of some bytes, None if they are too few, and its length in bytes."""
    if len(data) < HEADER.size:
        return None, HEADER.size
    magic, width, height, number, count, now = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise InputError(
            f"{shown(bytes(magic))}, where a message begins with {MAGIC!r}: the stream is damaged"
        )
    if count > MAX_EVENTS:
        raise InputError(f"a message of {count:,} events; it holds at most {MAX_EVENTS:,}")
    used = HEADER.size + count * EVENT.itemsize
    if len(data) < used:
        return None, used
    array = np.frombuffer(data, EVENT, count, HEADER.size)
    events = Events(*(np.array(array[name]) for name in "txyp"))
    size = (width, height) if width and height else None
    return Message(events, None if now < 0 else now, number, size), used


def read_messages(read: Callable[[int], bytes]) -> Iterator[Message]:
    """The messages of a stream of bytes, binary or text by its first bytes.

    Args:
        read: gives up to n bytes as soon as there are some, and none at the end.

    Raises:
        InputError: the stream is damaged; the message has the byte or the line.
    """
    start = b""
    while len(start) < len(MAGIC) and (chunk := read(CHUNK)):
        start += chunk
    yield from (_binary if start.startswith(MAGIC) else _text)(start, read)


def _binary(start: bytes, read: Callable[[int], bytes]) -> Iterator[Message]:
    buffer, offset = bytearray(start), 0
    while True:
        try:
            message, used = _decode(buffer)
        except InputError as error:
            raise InputError(f"byte {offset}: {error}") from None
        if message is not None:
            del buffer[:used]
            offset += used
            yield message
        elif chunk := read(CHUNK):
            buffer += chunk
        elif buffer:
            raise InputError(
                f"byte {offset}: the stream ends {used - len(buffer)} bytes before its message does"
            )
        else:
            return


def _text(start: bytes, read: Callable[[int], bytes]) -> Iterator[Message]:
    rest, number = start, 1
    while True:
        whole, newline, rest = rest.rpartition(b"\n")
        if newline:
            lines = whole.split(b"\n")
            yield Message(_parse(lines, number))
            number += len(lines)
        elif len(rest) > MAX_LINE:
            raise InputError(f"line {number}: is longer than {MAX_LINE} characters; give lines of t x y p")
        if not (chunk := read(CHUNK)):
            break
        rest += chunk
    if rest.strip():
        yield Message(_parse([rest], number))


def _parse(lines: list[bytes], number: int) -> Events:
    """Lines of text as events; the first has this number."""
    rows = []
    for i, line in enumerate(lines, number):
        words = line.replace(b",", b" ").split()
        names = i == 1 and len(words) == 4 and words[0].isalpha()
        if not words or words[0].startswith(b"#") or names:
            continue
        try:
            t, x, y, p = map(int, words)
        except ValueError:
            raise InputError(f"line {i}: {shown(line)} is no event; write t x y p in whole numbers") from None
        rows.append((t, x, y, p))
    try:
        columns = np.array(rows, np.int64).reshape(-1, 4).T
        return Events(*columns)
    except (InputError, OverflowError) as error:
        raise InputError(f"lines {number} to {number + len(lines) - 1}: {error}") from None

"""Event Stream (.es), version 2: three bytes of version, one of the type, the size, then events of up to 5 bytes.

DVS events: a byte with polarity in bit 0 and the time since the event before in bits 1–7, then x and y in two bytes
each. 0xFF is 127 µs without an event, 0xFE a reset of the byte counter. ATIS events: bit 0 says whether it is a change
(0) or a measure of light, bit 1 polarity, bits 2–7 the time; 0xFD to 0xFF are 63, 126 and 189 µs without an event,
0xFC a reset. Rows count from the bottom.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssmbook.compiled import njit
from ssmbook.errors import InputError
from ssmbook.events.formats.recording import Columns, Recording, sensor_size

_DVS, _ATIS = 1, 2
_HEADER = 20
_BYTES_AT_ONCE = 1 << 22


@njit(nogil=True)
def decode_es(data, atis, clock, t, x, y, p, n, wanted):
    """Append events of bytes [N] behind the n that are there, up to ``wanted``; n, the bytes taken, the clock."""
    i = 0
    while i < len(data) and n < wanted:
        first = np.int64(data[i])
        if first >= (0xFC if atis else 0xFE):
            clock += 63 * (first & 3) if atis else 127 * (first & 1)
            i += 1
            continue
        if i + 5 > len(data):
            break
        clock += first >> 2 if atis else first >> 1
        if not atis or first & 1 == 0:
            t[n] = clock
            x[n] = np.int64(data[i + 1]) | np.int64(data[i + 2]) << 8
            y[n] = np.int64(data[i + 3]) | np.int64(data[i + 4]) << 8
            p[n] = (first >> 1) & 1 if atis else first & 1
            n += 1
        i += 5
    return n, i, clock


class EventStreamRecording(Recording):
    """Events of an Event Stream file of DVS or ATIS events."""

    format = "Event Stream"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        with open(path, "rb") as file:
            header = file.read(_HEADER)
        if len(header) < 16 or header[12] != 2:
            version = ".".join(map(str, header[12:15])) or "none"
            raise InputError(f"{path}: Event Stream of version {version}; convert it to version 2")
        if header[15] not in (_DVS, _ATIS) or len(header) < _HEADER:
            raise InputError(
                f"{path}: Event Stream of type {header[15]}; types 1 (DVS) and 2 (ATIS) are read"
            )
        self._atis = header[15] == _ATIS
        sizes = np.frombuffer(header, "<u2", 2, 16).tolist()
        width = sensor_size(path, sizes[0], width, "width")
        height = sensor_size(path, sizes[1], height, "height")
        super().__init__(path, width, height, start=(_HEADER, 0))
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)

    def _decode(self, cursor: tuple[int, int]) -> tuple[Columns, tuple[int, int]]:
        offset, clock = cursor
        n, room = 0, self.block_events
        t, x, y = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
        p = np.empty(room, np.uint8)
        while n < room:
            self._file.seek(offset)
            data = np.fromfile(self._file, np.uint8, _BYTES_AT_ONCE)
            n, taken, clock = decode_es(data, self._atis, clock, t, x, y, p, n, room)
            offset += taken
            if taken == 0 and len(data):
                raise InputError(f"{self.path}: the event at byte {offset} is cut; fetch it again")
            if len(data) == 0:
                break
        assert self.height is not None
        return (t[:n], x[:n], self.height - 1 - y[:n], p[:n]), (offset, clock)

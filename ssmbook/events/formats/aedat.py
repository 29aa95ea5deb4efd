"""AEDAT 2.0 (jAER) and 3.1 (cAER), the formats of iniVation's cameras before AEDAT4.

2.0: lines that begin with ``#``, down to ``#End Of ASCII Header`` where jAER wrote it, then per event two
big-endian 32-bit words, address and stamp in µs. DVS128 has polarity in bit 0 (0 is ON), x in bits 1–7 counted from the
right, y in bits 8–14; a DAVIS polarity in bit 11, x in bits 12–21, y in bits 22–30, and other data where bit 31 is 1 or
bit 10 is 1. Rows count from the bottom.

3.1: packets of a 28-byte header (type, source, event size, where its stamp is, overflows of the stamp, capacity,
number, valid), little-endian. Type 1 is polarity: valid in bit 0, polarity in bit 1, y in bits 2–16, x in bits
17–31; then the stamp.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ssmbook.compiled import njit
from ssmbook.errors import InputError, one_line
from ssmbook.events.formats.checks import laps
from ssmbook.events.formats.recording import Columns, Recording, sensor_size

_LONGEST_HEADER = 1 << 20
_ENDS = ("end-header", "end of ascii header")
_STAMPS = 1 << 32
_PACKET = struct.Struct("<HHIIIIII")
_POLARITY = 1
_LARGEST_PACKET = 1 << 26  # bytes
#: width and height by a word of the header, most special first
_SENSORS = {
    "davis346": (346, 260),
    "davis240": (240, 180),
    "davis208": (208, 192),
    "davis128": (128, 128),
    "davis640": (640, 480),
    "dvs128": (128, 128),
    "edvs": (128, 128),
}


def read_lines(path: Path) -> tuple[list[str], int]:
    """The header's lines, and where the data behind them begin."""
    lines = []
    with open(path, "rb") as file:
        start = 0
        while start < _LONGEST_HEADER:
            line = file.readline(4096)
            # An event can begin with the byte of "#" (rows 140 to 143 of a DAVIS), and hold no text.
            if not line.startswith(b"#") or not line.endswith(b"\n") or not _is_printable(line):
                break
            lines.append(line.decode("latin-1").strip())
            start = file.tell()
            if lines[-1].lstrip("#! ").lower() in _ENDS:
                break
    return lines, start


def _is_printable(line: bytes) -> bool:
    return all(byte in b"\t\r\n" or byte >= 32 for byte in line)


def _sensor(lines: list[str]) -> tuple[str, int, int] | None:
    text = " ".join(lines).lower()
    return next(((name, *size) for name, size in _SENSORS.items() if name in text), None)


class Aedat2Recording(Recording):
    """Events of an AEDAT 2.0 file of a DVS128 or a DAVIS. Stamps of 32 bits that went round (after 71.6 min) go on."""

    format = "AEDAT 2.0"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        lines, self._data = read_lines(path)
        sensor = _sensor(lines)
        if sensor is None and (width, height) in _SENSORS.values():
            sensor = next((name, *size) for name, size in _SENSORS.items() if size == (width, height))
        if sensor is None:
            raise InputError(
                f"{path}: AEDAT 2.0 of a camera that is not read; give width and height if it is a DVS128 or a DAVIS, "
                "or export it from jAER as AEDAT 3.1 or text"
            )
        self._davis = "davis" in sensor[0]
        self._count, rest = divmod(path.stat().st_size - self._data, 8)
        if rest:
            at = self._data + 8 * self._count
            raise InputError(f"{path}: the event at byte {at} is cut; the file is incomplete, fetch it again")
        width = sensor_size(path, sensor[1], width, "width")
        height = sensor_size(path, sensor[2], height, "height")
        super().__init__(path, width, height, start=(0, 0, 0))
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)

    def _decode(self, cursor: tuple[int, int, int]) -> tuple[Columns, tuple[int, int, int]]:
        i, last, lap = cursor
        while i < self._count:
            n = min(self.block_events, self._count - i)
            self._file.seek(self._data + 8 * i)
            words = np.fromfile(self._file, ">u4", 2 * n).reshape(-1, 2).astype(np.int64)
            if len(words) < n:
                raise InputError(
                    f"{self.path}: ends before event {i + len(words)}; it changed while it was read"
                )
            i += n
            last, lap = _go_on(words[:, 1], last, lap)
            columns = self._events(words[:, 0], words[:, 1])
            if len(columns[0]):
                return columns, (i, last, lap)
        return self._events(np.empty(0, np.int64), np.empty(0, np.int64)), (i, last, lap)

    def _events(self, address: np.ndarray, t: np.ndarray) -> Columns:
        assert self.width is not None
        assert self.height is not None
        if self._davis:
            events = (address >> 31 == 0) & (address >> 10 & 1 == 0)
            address, t = address[events], t[events]
            x, y, p = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1
        else:
            events = address >> 15 & 1 == 0  # bit 15 marks triggers
            address, t = address[events], t[events]
            x, y, p = address >> 1 & 0x7F, address >> 8 & 0x7F, 1 - (address & 1)
        return t, self.width - 1 - x, self.height - 1 - y, p.astype(np.uint8)


@njit(nogil=True)
def _go_on(t, last, lap):
    """Stamps as they are stored become those that do not go round, in place; returns the last as stored and its lap."""
    for i in range(len(t)):
        stamp = t[i]
        lap = laps(stamp, last, lap, _STAMPS)
        last = stamp
        t[i] = lap * _STAMPS + stamp
    return last, lap


class Aedat31Recording(Recording):
    """Events of an AEDAT 3.1 file; packets of other types are passed over."""

    format = "AEDAT 3.1"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        lines, self._data = read_lines(path)
        said = next((line for line in lines if line.lower().startswith("#format:")), "#Format: RAW")
        if "raw" not in said.lower():
            raise InputError(f"{path}: AEDAT 3.1 in {one_line(said[1:], 80)}; export it uncompressed (RAW)")
        sensor = _sensor(lines)
        width = sensor_size(path, sensor and sensor[1], width, "width")
        height = sensor_size(path, sensor and sensor[2], height, "height")
        self._size = path.stat().st_size
        super().__init__(path, width, height, start=self._data)
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)

    def _decode(self, cursor: int) -> tuple[Columns, int]:
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        n = 0
        while n < self.block_events and cursor < self._size:
            address, t, cursor = self._packet(cursor)
            parts.append((address, t))
            n += len(t)
        address, t = (np.concatenate([part[k] for part in parts] or [np.empty(0, np.int64)]) for k in (0, 1))
        return (t, address >> 17 & 0x7FFF, address >> 2 & 0x7FFF, address >> 1 & 1), cursor

    def _packet(self, cursor: int) -> tuple[np.ndarray, np.ndarray, int]:
        self._file.seek(cursor)
        head = self._file.read(_PACKET.size)
        if len(head) < _PACKET.size:
            raise InputError(f"{self.path}: the packet at byte {cursor} is cut; fetch it again")
        kind, _, size, stamp_at, overflows, capacity, number, _ = _PACKET.unpack(head)
        stored = size * (capacity if cursor + _PACKET.size + size * capacity <= self._size else number)
        end = cursor + _PACKET.size + stored
        if not 4 <= size <= 1 << 24 or number > capacity or stored > _LARGEST_PACKET or end > self._size:
            raise InputError(f"{self.path}: the packet at byte {cursor} is damaged or cut; fetch it again")
        if kind != _POLARITY:
            return np.empty(0, np.int64), np.empty(0, np.int64), end
        if (size, stamp_at) != (8, 4):
            raise InputError(
                f"{self.path}: events of {size} bytes in the packet at byte {cursor}; they must have 8"
            )
        words = np.frombuffer(self._file.read(number * size), "<u4").reshape(-1, 2).astype(np.int64)
        words = words[words[:, 0] & 1 == 1]
        return words[:, 0], (overflows << 31) + words[:, 1], end

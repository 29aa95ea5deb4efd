"""Prophesee's DAT, in which Gen1 is distributed: 8 bytes an event, and our writer for it.

Text header, one byte event type (0 or 0x0c), one byte event size (8), then per event two little-endian 32-bit
words: the stamp in µs, and x in bits 0–13, y in bits 14–27, polarity in bits 28–31.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from ssmbook.compiled import njit
from ssmbook.errors import InputError, one_line
from ssmbook.events.events import Events
from ssmbook.events.formats.checks import laps
from ssmbook.events.formats.header import read_header
from ssmbook.events.formats.recording import Columns, Recording, sensor_size
from ssmbook.files import atomic_write

_CD_TYPES = (0x00, 0x0C)
_EVENT_BYTES = 8
_STAMPS = 1 << 32
_LARGEST_SIDE = 1 << 14


class DatRecording(Recording):
    """Events of a DAT file. Stamps of 32 bits that went round (after 71.6 min) go on."""

    format = "DAT"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        with open(path, "rb") as file:
            header = read_header(file)
            file.seek(header.size)
            kind = file.read(2)
        _check_kind(path, header.fields.get("version", "2"), kind, header.size)
        self._data = header.size + 2
        self._count, rest = divmod(path.stat().st_size - self._data, _EVENT_BYTES)
        if rest:
            cut = self._data + self._count * _EVENT_BYTES
            raise InputError(
                f"{path}: the event at byte {cut} is cut; the file is incomplete, fetch it again"
            )
        width = sensor_size(path, header.length("width"), width, "width")
        height = sensor_size(path, header.length("height"), height, "height")
        super().__init__(path, width, height, start=(0, 0, 0))
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)

    def __len__(self) -> int:
        return self._count

    def _decode(self, cursor: tuple[int, int, int]) -> tuple[Columns, tuple[int, int, int]]:
        i, last, lap = cursor
        n = min(self.block_events, self._count - i)
        self._file.seek(self._data + i * _EVENT_BYTES)
        words = np.fromfile(self._file, "<u4", 2 * n).reshape(-1, 2)
        columns = np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint16), np.empty(n, np.uint8)
        if len(words) < n:
            raise InputError(f"{self.path}: ends before event {i + len(words)}; it changed while it was read")
        last, lap = _decode_words(words, last, lap, *columns)
        return columns, (i + n, last, lap)


def _check_kind(path: Path, version: str, kind: bytes, offset: int) -> None:
    if version != "2":
        raise InputError(f"{path}: DAT of version {one_line(version, 20)}; convert it to version 2")
    if len(kind) < 2:
        raise InputError(f"{path}: ends at byte {offset}, behind its header; fetch it again")
    if kind[0] not in _CD_TYPES or kind[1] != _EVENT_BYTES:
        raise InputError(
            f"{path}: event type {kind[0]} of {kind[1]} bytes at byte {offset} is no DAT of camera events "
            "(type 0 or 12, 8 bytes); give a recording"
        )


@njit(nogil=True)
def _decode_words(words, last, lap, t, x, y, p):
    """Unpack [n, 2] words into the columns; returns the last stamp as stored and its lap."""
    for i in range(len(words)):
        stamp, place = np.int64(words[i, 0]), words[i, 1]
        lap = laps(stamp, last, lap, _STAMPS)
        last = stamp
        t[i] = lap * _STAMPS + stamp
        x[i] = place & 0x3FFF
        y[i] = (place >> 14) & 0x3FFF
        p[i] = place >> 28
    return last, lap


class DatWriter:
    """Write a DAT file (version 2, event type 0x0c) piece by piece, in a ``with`` block.

    The file appears when the block ends, and not at all when it raises. The same events give the same
    bytes.

    Args:
        path: the file; Gen1 names them ``*_td.dat``.
        width, height: the sensor in px, at most 16,384 each.

    Raises:
        InputError: the size is out of range or the path cannot be written; from ``write``: an event lies
            outside the sensor or its stamp outside 0 to 2³² − 1 µs.
    """

    def __init__(self, path: str | Path, width: int, height: int) -> None:
        if not (1 <= width <= _LARGEST_SIDE and 1 <= height <= _LARGEST_SIDE):
            raise InputError(
                f"{path}: a sensor of {width} × {height} px; DAT holds 1 to {_LARGEST_SIDE} a side"
            )
        self.path = Path(path)
        self.width = width
        self.height = height
        self._context = atomic_write(path)

    def __enter__(self) -> Self:
        self._file = self._context.__enter__()
        header = (
            f"% Data file containing CD events.\n% Version 2\n% Height {self.height}\n% Width {self.width}\n"
        )
        self._file.write(header.encode() + bytes([0x0C, _EVENT_BYTES]))
        return self

    def __exit__(self, *exception: object) -> None:
        self._context.__exit__(*exception)  # type: ignore[arg-type]

    def write(self, events: Events) -> None:
        """Append the events."""
        if len(events) == 0:
            return
        ranges = ((events.t, _STAMPS, "t"), (events.x, self.width, "x"), (events.y, self.height, "y"))
        for values, end, name in ranges:
            if values.min() < 0 or values.max() >= end:
                i = int(np.argmax((values < 0) | (values >= end)))
                raise InputError(
                    f"{self.path}: event {i} of this piece has {name} = {values[i]}; give 0 to {end - 1}"
                )
        words = np.empty((len(events), 2), "<u4")
        words[:, 0] = events.t
        words[:, 1] = events.x | (events.y.astype(np.uint32) << 14) | ((events.p > 0).astype(np.uint32) << 28)
        self._file.write(words.tobytes())

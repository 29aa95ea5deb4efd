"""iniVation's AEDAT4: compressed packets of several streams, read by the ``aedat`` package."""

from __future__ import annotations

import struct
from pathlib import Path

import aedat
import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.formats.recording import Columns, Recording, sensor_size
from ssmbook.files import as_input_error

_SIZE_AT = 14  # behind the line #!AER-DAT4.0
_LARGEST_HEADER = 1 << 24  # bytes
_PACKET = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])


class Aedat4Recording(Recording):
    """Events of the first event stream of an AEDAT4 file; other streams are passed over."""

    format = "AEDAT4"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        self.path = path
        self._first, self._end = _check_header(path)
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)
        self._reopen()
        streams = self._decoder.id_to_stream()
        events = [number for number, stream in sorted(streams.items()) if stream["type"] == "events"]
        if not events:
            kinds = ", ".join(stream["type"] for stream in streams.values()) or "none"
            raise InputError(
                f"{path}: no event stream among its streams ({kinds}); give a recording with events"
            )
        self._stream = events[0]
        stream = streams[self._stream]
        width = sensor_size(path, stream["width"], width, "width")
        height = sensor_size(path, stream["height"], height, "height")
        super().__init__(path, width, height, start=0)

    def _reopen(self) -> None:
        self._at = self._first
        with as_input_error(f"{self.path}: not a readable AEDAT4 file"):
            self._decoder = aedat.Decoder(str(self.path))
        self._packets = 0  # taken from the decoder

    def _decode(self, cursor: int) -> tuple[Columns, int]:
        # The decoder only goes forward: a cursor is a number of packets, and going back starts again.
        if cursor < self._packets:
            self._reopen()
        while self._packets < cursor and self._next_packet() is not None:
            pass
        parts: list[np.ndarray] = []
        n = 0
        while n < self.block_events and (packet := self._next_packet()) is not None:
            if packet["stream_id"] == self._stream:
                parts.append(packet["events"])
                n += len(packet["events"])
        events = np.concatenate(parts) if parts else np.empty(0, _PACKET)
        return (events["t"], events["x"], events["y"], events["on"].astype(np.uint8)), self._packets

    def _next_packet(self) -> dict | None:
        self._check_length()
        with as_input_error(f"{self.path}: packet {self._packets} is damaged"):
            packet = next(self._decoder, None)
        self._packets += packet is not None
        return packet

    def _check_length(self) -> None:
        """A packet that says to be longer than the file: the package would ask for that much memory."""
        if self._at >= self._end:  # the table of packets, or nothing
            return
        self._file.seek(self._at)
        head = self._file.read(8)
        if len(head) == 8:
            (length,) = struct.unpack_from("<I", head, 4)
            self._at += 8 + length
            if self._at > self._end:
                raise InputError(
                    f"{self.path}: packet {self._packets} is damaged or cut; fetch or write it again"
                )


def _check_header(path: Path) -> tuple[int, int]:
    """Where the packets begin and end.

    The header's description of the streams must be text: over other bytes the package ends the process. The header
    is a FlatBuffers table; its second field is where a table of the packets lies, its third the description.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(_SIZE_AT)
        length = int.from_bytes(file.read(4), "little")
        if _SIZE_AT + 4 + length > size:
            raise InputError(
                f"{path}: not a readable AEDAT4 file: its header is cut; fetch or write it again"
            )
        header = file.read(min(length, _LARGEST_HEADER))
    with as_input_error(f"{path}: its header is damaged"):
        (table,) = struct.unpack_from("<I", header)
        (back,) = struct.unpack_from("<i", header, table)
        position, field = struct.unpack_from("<HH", header, table - back + 6)
        end = struct.unpack_from("<q", header, table + position)[0] if position else -1
        (ahead,) = struct.unpack_from("<I", header, table + field)
        start = table + field + ahead
        (count,) = struct.unpack_from("<I", header, start)
        header[start + 4 : start + 4 + count].decode()
    return _SIZE_AT + 4 + length, end if 0 < end < size else size

"""N-MNIST's and N-Caltech101's .bin: five bytes an event, without a header.

x, y, polarity in bit 7 of the third byte, and a stamp of 23 bits in the rest, big-endian. An event at y = 240 is
none: the counter went on by 2¹³ µs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.formats.recording import Columns, Recording, sensor_size

_BYTES = 5
_OVERFLOW_ROW, _OVERFLOW_US = 240, 1 << 13


class NMnistRecording(Recording):
    """Events of an N-MNIST file. It says no sensor size; N-MNIST's is 34 × 34."""

    format = "N-MNIST"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        self._count, rest = divmod(path.stat().st_size, _BYTES)
        if rest:
            raise InputError(f"{path}: the event at byte {_BYTES * self._count} is cut; fetch it again")
        width = sensor_size(path, None, width, "width")
        super().__init__(path, width, sensor_size(path, None, height, "height"), start=(0, 0))
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)

    def _decode(self, cursor: tuple[int, int]) -> tuple[Columns, tuple[int, int]]:
        i, overflows = cursor
        while i < self._count:
            n = min(self.block_events, self._count - i)
            self._file.seek(_BYTES * i)
            data = np.fromfile(self._file, np.uint8, _BYTES * n).reshape(-1, _BYTES).astype(np.int64)
            i += n
            wraps = data[:, 1] == _OVERFLOW_ROW
            t = ((data[:, 2] & 0x7F) << 16) + (data[:, 3] << 8) + data[:, 4]
            t += _OVERFLOW_US * (overflows + np.cumsum(wraps))
            overflows += int(wraps.sum())
            keep = ~wraps
            if keep.any():
                data = data[keep]
                return (t[keep], data[:, 0], data[:, 1], data[:, 2] >> 7), (i, overflows)
        nothing = np.empty(0, np.int64)
        return (nothing, nothing, nothing, nothing), (i, overflows)

"""Events in a numpy file: structured, with fields t, x, y, p, or integers [N, 4] so ordered (PEDRo)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.formats.recording import Columns, Recording, sensor_size
from ssmbook.files import as_input_error


class NpyRecording(Recording):
    """Events of an npy file, mapped into memory. It says no sensor size."""

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        with as_input_error(f"{path}: not a readable npy file"):
            self._array = np.load(path, mmap_mode="r", allow_pickle=False)
        fields = set(self._array.dtype.names or ())
        rows = not fields and self._array.ndim == 2 and self._array.shape[1] == 4
        if not rows and not (fields >= set("txyp") and self._array.ndim == 1):
            raise InputError(
                f"{path}: an array {self._array.shape} of {self._array.dtype}; "
                "give one with fields t, x, y, p or integer columns t, x, y, p"
            )
        width = sensor_size(path, None, width, "width")
        super().__init__(path, width, sensor_size(path, None, height, "height"), start=0)

    def __len__(self) -> int:
        return len(self._array)

    def close(self) -> None:
        super().close()
        del self._array

    def _decode(self, cursor: int) -> tuple[Columns, int]:
        end = min(cursor + self.block_events, len(self._array))
        block = self._array[cursor:end]
        if block.dtype.names:
            t, x, y, p = (np.array(block[name]) for name in "txyp")
        else:
            t, x, y, p = np.array(block.T, order="C")
            # The only sign of columns in another order: stamps where a polarity or a place should be.
            if len(p) and not (p.min() >= -1 and p.max() <= 1):
                raise InputError(
                    f"{self.path}: the last column goes to {p.max()}; order the columns t, x, y, p"
                )
        return (t, x, y, p), end

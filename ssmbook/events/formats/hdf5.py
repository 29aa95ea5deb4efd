"""Events in HDF5: the published layout of Gen1 and 1 Mpx, and DSEC's.

Published: columns ``events/x``, ``y``, ``p``, ``t`` in µs; in some, scalars ``events/width``, ``height``.
DSEC: the same columns, t counted from the scalar ``t_offset``.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 (registers Blosc and the other filters that the columns may use)
import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.formats.recording import Columns, Recording, sensor_size
from ssmbook.files import as_input_error

_LEAST_CACHE = 1 << 20  # bytes


class Hdf5Recording(Recording):
    """Events of an HDF5 file, read a block of each column at a time."""

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        with as_input_error(f"{path}: not a readable HDF5 file"), ExitStack() as stack:
            self._file = stack.enter_context(h5py.File(path, "r"))
            self._columns = [_column(path, self._file, name) for name in "txyp"]
            lengths = [len(column) for column in self._columns]
            if len(set(lengths)) > 1:
                raise InputError(f"{path}: events/t, x, y, p have {lengths} values; the file is incomplete")
            self._count = lengths[0]
            self._offset = _scalar(path, self._file, "t_offset") or 0
            width = sensor_size(path, _scalar(path, self._file, "events/width"), width, "width")
            height = sensor_size(path, _scalar(path, self._file, "events/height"), height, "height")
            stack.pop_all()  # all is well: the file stays open until close
        super().__init__(path, width, height, start=0)

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        super().close()
        self._file.close()

    def _decode(self, cursor: int) -> tuple[Columns, int]:
        end = min(cursor + self.block_events, self._count)
        with as_input_error(f"{self.path}: events {cursor} to {end} cannot be read"):
            t, x, y, p = (column[cursor:end] for column in self._columns)
        if self._offset:
            t = t.astype(np.int64) + self._offset
        return (t, x, y, p), end


def _column(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    name = f"events/{name}"
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.ndim != 1 or found.dtype.kind not in "bui":
        raise InputError(f"{path}: no column {name} of integers; give a file with events/x, y, p, t")
    if found.chunks is None:
        return found
    # Chunks need not end where blocks do, nor those of one column where another's do. A cache that holds one
    # chunk lets each be decompressed once; it must be asked for when the column is opened.
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(521, max(found.chunks[0] * found.dtype.itemsize, _LEAST_CACHE), 1.0)
    del found
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))


def _scalar(path: Path, file: h5py.File, name: str) -> int | None:
    if name not in file:
        return None
    values = np.asarray(file[name]).ravel()
    if len(values) != 1 or values.dtype.kind not in "ui":
        raise InputError(
            f"{path}: {name} is {values.dtype} with {len(values)} values; it must be one integer"
        )
    return int(values[0])

"""Events in numpy's files: npy and npz, as fields, as separate columns, or as rows of four (PEDRo)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from ssmbook.errors import InputError, one_line
from ssmbook.events.arrays import check_header, check_members, read_header
from ssmbook.events.formats.columns import Table, as_events, find_columns, find_scale, stated_scale
from ssmbook.events.formats.recording import Columns, Recording, sensor_size
from ssmbook.files import as_input_error

_SAMPLE = 10_000
_MAX_MEMBERS = 1000


class NpyRecording(Recording):
    """Events of an npy file, mapped into memory. It says no sensor size."""

    format = "npy"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        with as_input_error(f"{path}: not a readable npy file"):
            with open(path, "rb") as file:
                check_header(file, path.stat().st_size)
            self._array = np.load(path, mmap_mode="r", allow_pickle=False)
        sample = self._array[:_SAMPLE] if self._array.ndim else self._array
        self._count = len(self._array) if self._array.ndim else 0
        self._table = _table(path, self._array.dtype, self._array.shape, sample)
        width = sensor_size(path, None, width, "width")
        super().__init__(path, width, sensor_size(path, None, height, "height"), start=0)

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        super().close()
        self._array = np.empty(0)

    def _decode(self, cursor: int) -> tuple[Columns, int]:
        end = min(cursor + self.block_events, self._count)
        try:
            return self._table.columns(self._array[cursor:end]), end
        except InputError as error:
            raise InputError(f"{self.path}: events {cursor} to {end}: {error}") from None


def _table(path: Path, dtype: np.dtype, shape: tuple[int, ...], sample: np.ndarray) -> Table:
    try:
        return Table(dtype, shape, sample)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


class _Member:
    """One array of an npz file, read in pieces: compressed ones from their start on."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.name = name.removesuffix(".npy")
        self._file = archive.open(name)
        size = archive.getinfo(name).file_size
        self.shape, fortran, self.dtype = read_header(self._file, size)
        self._start = self._file.tell()
        stored = size - self._start
        self._row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))
        if fortran and len(self.shape) > 1:
            raise ValueError(f"{name} is in Fortran's order")
        if self.dtype.hasobject or self._row < 1 or not self.shape or self.shape[0] * self._row != stored:
            raise ValueError(f"{name} holds no plain array of its size")

    def read(self, start: int, stop: int) -> np.ndarray:
        self._file.seek(self._start + start * self._row)
        data = self._file.read((stop - start) * self._row)
        return np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])


class NpzRecording(Recording):
    """Events of an npz file: four arrays t, x, y, p, or one as in an npy file. It says no sensor size."""

    format = "npz"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        with as_input_error(f"{path}: not a readable npz file"):
            self._file = zipfile.ZipFile(path)
            check_members(self._file.infolist()[:_MAX_MEMBERS], path.stat().st_size)
            self._find(path)
        width = sensor_size(path, None, width, "width")
        super().__init__(path, width, sensor_size(path, None, height, "height"), start=0)

    def _find(self, path: Path) -> None:
        names = [name for name in self._file.namelist()[:_MAX_MEMBERS] if name.endswith(".npy")]
        found = find_columns(name.removesuffix(".npy") for name in names)
        self._table: Table | None = None
        if found is not None:
            self._members = [_Member(self._file, f"{found[name]}.npy") for name in "txyp"]
            shapes = [member.shape for member in self._members]
            if len(set(shapes)) > 1 or len(shapes[0]) != 1:
                raise InputError(
                    f"{path}: its arrays t, x, y, p have shapes {shapes}; give flat ones of one length"
                )
            sample = self._members[0].read(0, min(_SAMPLE, shapes[0][0]))
            self._scale = stated_scale(found["t"]) or find_scale(sample)
        elif len(names) == 1 or "events.npy" in names:
            member = _Member(self._file, "events.npy" if "events.npy" in names else names[0])
            self._members = [member]
            sample = member.read(0, min(_SAMPLE, member.shape[0]))
            self._table = _table(path, member.dtype, member.shape, sample)
        else:
            held = ", ".join(names[:12]) or "no arrays"
            raise InputError(
                f"{path}: holds {one_line(held)}; give an npz with arrays t, x, y, p or one of events"
            )
        self._count = self._members[0].shape[0]

    def __len__(self) -> int:
        return self._count

    def _decode(self, cursor: int) -> tuple[Columns, int]:
        end = min(cursor + self.block_events, self._count)
        with as_input_error(f"{self.path}: events {cursor} to {end} cannot be read"):
            parts = [member.read(cursor, end) for member in self._members]
        try:
            if self._table is not None:
                return self._table.columns(parts[0]), end
            return as_events((np.array(part) for part in parts), self._scale), end
        except InputError as error:
            raise InputError(f"{self.path}: events {cursor} to {end}: {error}") from None

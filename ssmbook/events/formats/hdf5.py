"""Events in HDF5, in the layouts that data sets and tools use.

Columns t, x, y, p (or ts, xs, ys, ps, …) in a group, as in the published layout of Gen1 and 1 Mpx, DSEC and
M3ED; one structured data set; or one of four columns [N, 4], as in MVSEC and v2e. Stamps are µs or seconds. DSEC
counts t from the scalar ``t_offset``.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from ssmbook.errors import InputError, one_line
from ssmbook.events.formats.checks import LARGEST_STAMP_US
from ssmbook.events.formats.columns import Table, as_events, find_columns, find_scale, stated_scale
from ssmbook.events.formats.hdf5_columns import Column, find
from ssmbook.events.formats.recording import Columns, Recording, sensor_size
from ssmbook.files import as_input_error
from ssmbook.hdf5 import Hdf5File

#: Where events may lie: ours and DSEC's, Metavision's, MVSEC's, M3ED's, and loose in the file.
_PLACES = (
    "events",
    "CD/events",
    "davis/left/events",
    "prophesee/left",
    "dvs/events",
    "data/events",
    "event",
    "",
)
_SAMPLE = 10_000
_LISTED = 12


class Hdf5Recording(Recording):
    """Events of an HDF5 file, read a block of each column at a time."""

    format = "HDF5"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        self.path = path
        self._file = _opened(path)
        with as_input_error(f"{path}: not a readable HDF5 file"):
            self._place = self._find_events()
            self._count = len(self._columns[0])
            self._offset = self._scalar("t_offset") or 0
            sizes = self._scalar(f"{self._place}/width"), self._scalar(f"{self._place}/height")
        if abs(self._offset) > LARGEST_STAMP_US:
            raise InputError(f"{path}: t_offset is {self._offset} µs; it may be at most 2⁶¹")
        width = sensor_size(path, sizes[0], width, "width")
        height = sensor_size(path, sizes[1], height, "height")
        super().__init__(path, width, height, start=0)

    def __len__(self) -> int:
        return self._count

    def _decode(self, cursor: int) -> tuple[Columns, int]:
        end = min(cursor + self.block_events, self._count)
        with as_input_error(f"{self.path}: events {cursor} to {end} cannot be read"):
            parts = [column.read(cursor, end) for column in self._columns]
        try:
            if self._table is not None:
                t, x, y, p = self._table.columns(parts[0])
            else:
                t, x, y, p = as_events(parts, self._scale)
            if self._offset and len(t):
                if int(t.max()) > LARGEST_STAMP_US:
                    raise InputError(f"a stamp of {t.max()} µs; stamps are µs and at most 2⁶¹")
                t = t.astype(np.int64) + self._offset
        except InputError as error:
            raise InputError(f"{self.path}: events {cursor} to {end}: {error}") from None
        return (t, x, y, p), end

    def _find_events(self) -> str:
        """Set what the columns are; returns where they lie."""
        self._table: Table | None = None
        for place in _PLACES:
            found = find(self.path, self._file, place)
            if isinstance(found, h5py.Group) and self._take_group(place, found):
                return place
            if isinstance(found, h5py.Dataset) and self._take_dataset(found):
                return place
        raise InputError(
            f"{self.path}: no column of events; it holds {_contents(self._file)}; give a file with events/t, x, y, p"
        )

    def _take_group(self, place: str, group: h5py.Group) -> bool:
        names = find_columns(list(group)[:1000])
        if names is None:
            missing = [n for n in "txyp" if n not in group]
            if place == "events" and len(missing) < 4:
                raise InputError(
                    f"{self.path}: no column events/{missing[0]}; it holds {_contents(self._file)}; give a file with "
                    "events/x, y, p, t"
                )
            return False
        columns = []
        for name in (names[n] for n in "txyp"):
            dataset = find(self.path, self._file, f"{place}/{name}")
            if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1:
                raise InputError(
                    f"{self.path}: {place}/{name} is no flat column; give a file with events/t, x, y, p"
                )
            columns.append(Column(self.path, dataset))
        lengths = [len(column) for column in columns]
        if len(set(lengths)) > 1:
            raise InputError(f"{self.path}: {place}/t, x, y, p have {lengths} values; the file is incomplete")
        self._columns = columns
        sample = columns[0].read(0, min(_SAMPLE, lengths[0]))
        self._scale = stated_scale(names["t"]) or find_scale(sample)
        return True

    def _take_dataset(self, dataset: h5py.Dataset) -> bool:
        four = dataset.dtype.names is None and dataset.ndim == 2 and dataset.shape[1] == 4
        if not four and find_columns(dataset.dtype.names or ()) is None:
            return False
        column = Column(self.path, dataset)
        self._columns = [column]
        sample = column.read(0, min(_SAMPLE, len(column)))
        try:
            self._table = Table(column.dtype, column.shape, sample)
        except InputError as error:
            raise InputError(f"{column.name}: {error}") from None
        return True

    def _scalar(self, name: str) -> int | None:
        found = find(self.path, self._file, name)
        if found is None:
            return None
        if not isinstance(found, h5py.Dataset) or found.size != 1 or found.dtype.kind not in "ui":
            kind = f"{found.dtype} with {found.size} values" if isinstance(found, h5py.Dataset) else "a group"
            raise InputError(f"{self.path}: {name.lstrip('/')} is {kind}; it must be one integer")
        properties = found.id.get_create_plist()
        if properties.get_external_count() or properties.get_layout() == h5py.h5d.VIRTUAL:
            raise InputError(
                f"{self.path}: {name} is stored in other files; repack it into one with h5repack"
            )
        return int(np.asarray(found[()]).ravel()[0])


def _opened(path: Path) -> h5py.File:
    try:
        return Hdf5File(path)
    except OSError as error:
        if isinstance(error, BlockingIOError) or "already open for write" in str(error):
            raise InputError(
                f"{path}: another process is writing it; read it once that one has closed it (after a crash of it: "
                "h5clear -s FILE)"
            ) from None
        words = one_line((str(error) or "OSError").splitlines()[0], 200)
        raise InputError(f"{path}: not a readable HDF5 file ({words}); fetch or write it again") from None


def _contents(file: h5py.File) -> str:
    """The names of some of its data sets, with their shapes."""
    names: list[str] = []

    def note(name: str, what: object) -> bool | None:
        if isinstance(what, h5py.Dataset):
            names.append(f"{one_line(name, 60)} {what.shape}")
        return True if len(names) > _LISTED else None

    file.visititems(note)
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "") or "no data sets"

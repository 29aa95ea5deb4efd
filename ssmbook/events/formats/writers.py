"""Writers of recordings: DAT, EVT2, EVT3, HDF5 in the published layout, npy and CSV, each piece by piece."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import h5py
import hdf5plugin
import numpy as np

from ssmbook.compiled import njit
from ssmbook.errors import InputError
from ssmbook.events.events import Events
from ssmbook.events.formats.dat import DatWriter
from ssmbook.files import atomic_write
from ssmbook.hdf5 import DiskUnderHdf5

_FIELDS = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
_CHUNK = 1 << 17  # events in a chunk of HDF5
_EVT_SIDE = 1 << 11
#: The largest first stamp that a format's clock holds, and bits of the stamp in its high part.
_EVT2_CLOCK, _EVT3_CLOCK = 1 << 34, 1 << 24

ENDINGS = {".dat": "dat", ".raw": "evt3", ".h5": "hdf5", ".hdf5": "hdf5", ".npy": "npy", ".csv": "csv"}


def write_events(
    path: str | os.PathLike[str],
    blocks: Iterable[Events],
    width: int | None,
    height: int | None,
    format: str | None = None,
) -> int:
    """Write a recording; the file appears when all of it is written. Returns the number of events.

    Args:
        path: the file.
        blocks: events in order of time.
        width, height: the sensor in px; npy and CSV do not hold it.
        format: "dat", "evt2", "evt3", "hdf5", "npy" or "csv"; None: by the ending, .raw is EVT3.

    Raises:
        InputError: the ending says no format, the size is missing or too large for it, an event lies outside
            it, or its stamp does not fit.
    """
    path = Path(path)
    format = format or ENDINGS.get(path.suffix.lower())
    if format not in _WRITERS:
        endings = ", ".join(ENDINGS)
        raise InputError(
            f"{path}: its ending says no format that is written; give one of {endings}, or one of {', '.join(_WRITERS)}"
        )
    if width is None or height is None:
        if format not in ("npy", "csv"):
            raise InputError(
                f"{path}: {format} holds the sensor's size, and the recording does not say it; give it, as 640x480"
            )
        width = height = 1 << 16
    counted = _Counted(path, blocks, width, height)
    _WRITERS[format](path, counted, width, height)
    return counted.events


class _Counted:
    """Blocks, checked against the size and counted on their way."""

    def __init__(self, path: Path, blocks: Iterable[Events], width: int, height: int) -> None:
        self.path, self.blocks, self.width, self.height, self.events = path, blocks, width, height, 0

    def __iter__(self):
        for block in self.blocks:
            for values, size, name in ((block.x, self.width, "x"), (block.y, self.height, "y")):
                if len(block) and int(values.max()) >= size:
                    i = int(np.argmax(values >= size))
                    raise InputError(
                        f"{self.path}: event {self.events + i} has {name} = {values[i]}, outside {size} px; give the "
                        "size it was recorded with"
                    )
            self.events += len(block)
            if len(block):
                yield block


def _write_dat(path: Path, blocks: Iterable[Events], width: int, height: int) -> None:
    with DatWriter(path, width, height) as writer:
        for block in blocks:
            _check_clock(path, block, 1 << 32, "DAT")
            writer.write(block)


def _check_clock(path: Path, block: Events, end: int, format: str) -> None:
    if int(block.t[-1]) >= end or block.t[0] < 0:
        raise InputError(
            f"{path}: a stamp of {block.t[-1]} µs; {format} holds 0 to {end - 1} µs: let the clock begin at 0 "
            "(--from-zero) or write HDF5"
        )


def _write_evt(path: Path, blocks: Iterable[Events], width: int, height: int, version: int) -> None:
    if width > _EVT_SIDE or height > _EVT_SIDE:
        raise InputError(
            f"{path}: a sensor of {width} × {height} px; EVT{version} holds up to {_EVT_SIDE} a side"
        )
    header = f"% evt {version}.0\n% format EVT{version};height={height};width={width}\n"
    header += f"% geometry {width}x{height}\n% end\n"
    encode, clock = (encode_evt2, _EVT2_CLOCK) if version == 2 else (encode_evt3, _EVT3_CLOCK)
    state = np.full(3, -1, np.int64)
    with atomic_write(path) as file:
        file.write(header.encode())
        for block in blocks:
            if state[0] < 0:  # later stamps go round, and readers count the laps
                _check_clock(path, block[:1], clock, f"the clock of EVT{version} at its start")
            file.write(encode(block.t, block.x, block.y, block.p, state))


def encode_evt2(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, state: np.ndarray) -> bytes:
    """EVT2 words of events [N]; the state is the last high part, changed in place."""
    high = t >> 6
    first = np.diff(high, prepend=state[0]) != 0
    at = np.arange(len(t)) + np.cumsum(first)
    words = np.empty(len(t) + int(first.sum()), "<u4")
    words[at - first] = (0x8 << 28) | (high & 0xFFFFFFF).astype(np.uint32)
    place = (x.astype(np.uint32) << 11) | y
    words[at] = (p.astype(np.uint32) << 28) | ((t & 0x3F).astype(np.uint32) << 22) | place
    state[0] = high[-1]
    return words.tobytes()


def encode_evt3(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, state: np.ndarray) -> bytes:
    """EVT3 words of events [N]; the state is the last high part, low part and row, changed in place."""
    # In a silence a high part comes every 1/16 of a lap, so that no lap is missed.
    silences = int((t[-1] - (t[0] if state[0] < 0 else state[0] << 12)) >> 20) + 1
    words = np.empty(4 * len(t) + silences, "<u2")
    return words[: _encode_evt3(t, x, y, p, state, words)].tobytes()


@njit(nogil=True)
def _encode_evt3(t, x, y, p, state, words):
    high, low, row = state
    n = 0
    for i in range(len(t)):
        new = t[i] >> 12
        while high >= 0 and new - high > 256:
            high += 256
            words[n] = 0x8000 | (high & 0xFFF)
            n += 1
        if new != high:
            words[n] = 0x8000 | (new & 0xFFF)
            high, low = new, -1
            n += 1
        if (t[i] & 0xFFF) != low:
            low = t[i] & 0xFFF
            words[n] = 0x6000 | low
            n += 1
        if y[i] != row:
            row = np.int64(y[i])
            words[n] = row
            n += 1
        words[n] = 0x2000 | (np.int64(p[i]) << 11) | x[i]
        n += 1
    state[0], state[1], state[2] = high, low, row
    return n


def _write_hdf5(path: Path, blocks: Iterable[Events], width: int, height: int) -> None:
    filters = hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.SHUFFLE)
    with atomic_write(path) as raw, DiskUnderHdf5(raw.name) as disk, h5py.File(disk, "w") as file:
        for name, dtype in (("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")):
            file.create_dataset(
                f"events/{name}",
                (0,),
                dtype,
                maxshape=(None,),
                chunks=(_CHUNK,),
                track_times=False,
                **filters,
            )
        file["events/width"], file["events/height"] = width, height
        n = 0
        for block in blocks:
            for name in "txyp":
                column = file[f"events/{name}"]
                column.resize(n + len(block), 0)
                column[n:] = getattr(block, name)
            disk.check()
            n += len(block)
        file.flush()
        disk.check()


def _write_npy(path: Path, blocks: Iterable[Events], width: int, height: int) -> None:
    with atomic_write(path) as file:
        _npy_header(file, 0)
        n = 0
        for block in blocks:
            array = np.empty(len(block), _FIELDS)
            for name in "txyp":
                array[name] = getattr(block, name)
            file.write(array.tobytes())
            n += len(block)
        file.seek(0)
        _npy_header(file, n)  # numpy leaves room in it for any length


def _npy_header(file: BinaryIO, n: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(_FIELDS), "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(file, header)


def _write_csv(path: Path, blocks: Iterable[Events], width: int, height: int) -> None:
    with atomic_write(path) as file:
        file.write(b"t,x,y,p\n")
        for block in blocks:
            for k in range(0, len(block), 1 << 16):
                part = block[k : k + (1 << 16)]
                rows = np.stack([part.t, part.x, part.y, part.p], 1)
                np.savetxt(file, rows, "%d", ",")


_WRITERS: dict[str, Callable[[Path, Iterable[Events], int, int], None]] = {
    "dat": _write_dat,
    "evt2": partial(_write_evt, version=2),
    "evt3": partial(_write_evt, version=3),
    "hdf5": _write_hdf5,
    "npy": _write_npy,
    "csv": _write_csv,
}
#: Names of the formats that ``write_events`` writes.
WRITTEN = tuple(_WRITERS)

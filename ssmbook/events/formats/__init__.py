"""One reader for DAT, EVT2, EVT3, AEDAT4, HDF5 and npy: the content says which, not the name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ssmbook.errors import InputError
from ssmbook.events.formats.aedat4 import Aedat4Recording
from ssmbook.events.formats.dat import DatRecording, DatWriter
from ssmbook.events.formats.evt2 import Evt2Recording
from ssmbook.events.formats.evt3 import Evt3Recording
from ssmbook.events.formats.hdf5 import Hdf5Recording
from ssmbook.events.formats.header import read_header
from ssmbook.events.formats.npy import NpyRecording
from ssmbook.events.formats.recording import Recording
from ssmbook.files import existing_file

__all__ = ["DatWriter", "Recording", "open_events"]

_WANTED = "a recording: DAT, EVT2 or EVT3 (.raw), AEDAT4, HDF5 or npy"
_Reader = Callable[[Path, int | None, int | None], Recording]
_MAGIC: dict[bytes, _Reader] = {
    b"\x89HDF\r\n\x1a\n": Hdf5Recording,
    b"\x93NUMPY": NpyRecording,
    b"#!AER-DAT4": Aedat4Recording,
}
_ENCODINGS: dict[str | None, _Reader] = {None: DatRecording, "EVT2": Evt2Recording, "EVT3": Evt3Recording}


def open_events(
    path: str | os.PathLike[str], width: int | None = None, height: int | None = None
) -> Recording:
    """Open a recording of events, of any size, in any of the formats.

    Args:
        path: DAT, EVT2 or EVT3 ``.raw``, AEDAT4, HDF5 (published layout or DSEC's) or npy.
        width, height: the sensor in px, for files that do not say.

    Returns:
        The recording, for a ``with`` block: ``read(t0_us, t1_us)``, ``windows(dt_us)``, ``blocks()``.

    Raises:
        InputError: the file is missing, empty, cut, damaged, in none of these formats, or says another
            size.
    """
    path = existing_file(path, _WANTED)
    with open(path, "rb") as file:
        start = file.read(16)
        for magic, reader in _MAGIC.items():
            if start.startswith(magic):
                return reader(path, width, height)
        if not start.startswith(b"% "):
            raise InputError(f"{path}: begins with {start!r}, in no known format; give {_WANTED}")
        encoding = read_header(file).encoding
    if encoding not in _ENCODINGS:
        raise InputError(f"{path}: encoded as {encoding}; convert it to EVT2, EVT3, DAT or HDF5")
    return _ENCODINGS[encoding](path, width, height)

"""One reader for all formats of recordings: the content says which it is, not the name."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from ssmbook.errors import InputError, one_line
from ssmbook.events.formats.columns import SEPARATOR, find_columns
from ssmbook.events.formats.dat import DatWriter
from ssmbook.events.formats.header import read_header
from ssmbook.events.formats.recording import Recording
from ssmbook.files import existing_file

__all__ = ["FORMATS", "DatWriter", "Recording", "open_events"]

FORMATS = (
    "DAT, EVT2, EVT2.1 or EVT3 (.raw), AEDAT 2.0, 3.1 or 4, HDF5, npy, npz, text or CSV, Event Stream (.es), "
    "N-MNIST (.bin), or a ROS bag"
)
_WANTED = f"a recording: {FORMATS}"
_Reader = Callable[[Path, int | None, int | None], Recording]
# Modules are imported when a file needs them: HDF5, AEDAT4 and ROS bags bring libraries along.
_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5.Hdf5Recording",
    b"\x93NUMPY": "npy.NpyRecording",
    b"PK\x03\x04": "npy.NpzRecording",
    b"PK\x05\x06": "npy.NpzRecording",
    b"#!AER-DAT4": "aedat4.Aedat4Recording",
    b"#!AER-DAT3.1": "aedat.Aedat31Recording",
    b"#!AER-DAT2.0": "aedat.Aedat2Recording",
    b"Event Stream": "event_stream.EventStreamRecording",
    b"#ROSBAG V2.0": "rosbag.RosbagRecording",
    b"\x89MCAP0\r\n": "rosbag.RosbagRecording",
    b"SQLite format 3\x00": "rosbag.RosbagRecording",
}
_ENCODINGS = {
    None: "dat.DatRecording",
    "EVT2": "evt2.Evt2Recording",
    "EVT21": "evt21.Evt21Recording",
    "EVT3": "evt3.Evt3Recording",
}
#: What is not read, and how it becomes what is.
_FOREIGN = {
    b"#!AER-DAT": "AEDAT of another version than 2.0, 3.1 and 4; export it as AEDAT 3.1 from jAER or DV",
    b"#!ROS": "a ROS bag of version 1; convert it to 2: rosbag reindex FILE",
    b"#ROSBAG V1": "a ROS bag of version 1.x; convert it to 2.0: rosbag fix IN OUT",
    b"\x1f\x8b": "compressed by gzip; unpack it: gunzip FILE",
    b"BZh": "compressed by bzip2; unpack it: bunzip2 FILE",
    b"\xfd7zXZ": "compressed by xz; unpack it: unxz FILE",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it: unzstd FILE",
    b"7z\xbc\xaf": "a 7z archive; unpack it: 7z x FILE",
    b"MATLAB 5.0": "a MATLAB file; in MATLAB: writematrix([t x y p], 'events.csv')",
    b"MATLAB 7.3": "a MATLAB file; in MATLAB: writematrix([t x y p], 'events.csv')",
    b"PAR1": "a Parquet file; in Python: pandas.read_parquet(FILE).to_csv('events.csv', index=False)",
    b"ARROW1": "an Arrow file; in Python: pandas.read_feather(FILE).to_csv('events.csv', index=False)",
}
_SNIFFED = 4096  # bytes


def open_events(
    path: str | os.PathLike[str], width: int | None = None, height: int | None = None
) -> Recording:
    """Open a recording of events, of any size, in any of the formats.

    Args:
        path: DAT, EVT2, EVT2.1 or EVT3 ``.raw``, AEDAT 2.0, 3.1 or 4, HDF5 (columns, a structured data set or rows of
            four; published layout, DSEC, MVSEC, M3ED), npy, npz, text or CSV, Event Stream, N-MNIST or a ROS bag.
        width, height: the sensor in px, for files that do not say.

    Returns:
        The recording, for a ``with`` block: ``read(t0_us, t1_us)``, ``windows(dt_us)``, ``blocks()``.

    Raises:
        InputError: the file is missing, empty, cut, damaged, in none of these formats, or says another
            size.
    """
    if os.path.isfile(os.path.join(path, "metadata.yaml")):  # a bag of ROS 2 is a folder
        return _reader("rosbag.RosbagRecording")(Path(path), width, height)
    path = existing_file(path, _WANTED)
    with open(path, "rb") as file:
        start = file.read(_SNIFFED)
        for magic, name in _MAGIC.items():
            if start.startswith(magic):
                return _reader(name)(path, width, height)
        for magic, words in _FOREIGN.items():
            if start.startswith(magic):
                raise InputError(f"{path}: {words}")
        if path.suffix.lower() == ".bin" and not start.startswith(b"% "):
            return _reader("nmnist.NMnistRecording")(path, width, height)
        header = read_header(file) if start.startswith(b"% ") else None
    if _is_text(start) and (
        header is None or not header.fields.keys() & {"version", "evt", "format", "system_id"}
    ):
        return _reader("text.TextRecording")(path, width, height)
    if header is None:
        raise InputError(f"{path}: begins with {start[:16]!r}, in no known format; give {_WANTED}")
    if header.encoding == "unknown":
        raise InputError(
            f"{path}: its header names a camera that is not known, and no encoding; add a line '% evt 2.0' or "
            "'% evt 3.0' to it"
        )
    if header.encoding not in _ENCODINGS:
        raise InputError(
            f"{path}: encoded as {one_line(header.encoding or '', 40)}; convert it to EVT2, EVT3, DAT or HDF5"
        )
    return _reader(_ENCODINGS[header.encoding])(path, width, height)


def _reader(name: str) -> _Reader:
    module, cls = name.split(".")
    return getattr(import_module(f"ssmbook.events.formats.{module}"), cls).open


def _is_text(start: bytes) -> bool:
    """Whether bytes are lines of numbers, of names and numbers, or of the names of columns alone."""
    whole = start if len(start) < _SNIFFED else start[: start.rfind(b"\n") + 1]
    try:
        text = whole.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "%"))]
    return (
        bool(lines)
        and text.replace("\t", " ").replace("\r", "").replace("\n", "").isprintable()
        and (any(map(str.isdigit, lines[-1])) or find_columns(SEPARATOR.split(lines[-1])) is not None)
    )

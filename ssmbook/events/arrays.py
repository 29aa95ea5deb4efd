"""Arrays of npy and npz files that may be damaged or not what they say: checked before room is made for them."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

LARGEST = 1 << 30  # bytes of an array, and of a file
LONGEST_HEADER = 10_000  # bytes
_HEADERS: dict[tuple[int, int], tuple[int, Any]] = {  # version: bytes of the header's length, what reads it
    (1, 0): (2, np.lib.format.read_array_header_1_0),
    (2, 0): (4, np.lib.format.read_array_header_2_0),
}


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a npz file by name, or that of a npy file under the name ``""``.

    Raises:
        Exception: nearly any, over a file that is missing, damaged, larger than 1 GiB, or needs unpickling.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block
        raise ValueError("no ordinary file")
    with open(path, "rb") as file:
        if file.read(4) == b"PK\x03\x04":
            return _members(file)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return {"": _array(file, size)}


def _members(file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        arrays = {}
        for member in members:
            content = archive.read(member)
            arrays[member.filename.removesuffix(".npy")] = _array(io.BytesIO(content), len(content))
        return arrays


def _array(file: BinaryIO, size: int) -> np.ndarray:
    """The array in a npy file of a size."""
    if size > LARGEST:
        raise ValueError(f"{size} bytes")
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"npy of version {version}")
    length, read_header = _HEADERS[version]
    start = file.tell()
    if (told := int.from_bytes(file.read(length), "little")) > min(size, LONGEST_HEADER):
        raise ValueError(f"a header of {told} bytes")
    file.seek(start)
    shape, _, dtype = read_header(file)
    count = 1
    for length in shape:
        count *= length
    if dtype.hasobject or min(shape, default=0) < 0 or count * dtype.itemsize != size - file.tell():
        raise ValueError(f"{dtype} {shape} in {size} bytes")
    file.seek(0)
    return np.load(file, allow_pickle=False)

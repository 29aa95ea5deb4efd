"""Arrays of npy and npz files that may be damaged or not what they say: checked before room is made for them."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

LARGEST = 1 << 30  # bytes of an array, and of a file
LONGEST_HEADER = 10_000  # bytes
DEFLATE_RATIO = 1032  # a byte becomes that many at most
_HEADERS: dict[tuple[int, int], Any] = {  # by version, what reads it
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
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


def check_members(members: Iterable[zipfile.ZipInfo], size: int) -> None:
    """ValueError for a member that says to be longer than its archive of a size, or than it can have been packed."""
    for member in members:
        if member.compress_size > size or member.file_size > DEFLATE_RATIO * member.compress_size:
            raise ValueError(
                f"{member.filename} says to have {member.compress_size} bytes and to hold {member.file_size}"
            )


def _members(file: BinaryIO) -> dict[str, np.ndarray]:
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        check_members(members, size)
        if sum(member.file_size for member in members) > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        arrays = {}
        for member in members:
            content = archive.read(member)
            arrays[member.filename.removesuffix(".npy")] = _array(io.BytesIO(content), len(content))
        return arrays


def check_header(file: Any, size: int) -> tuple[int, int]:
    """The version of the npy file of a size that begins here; the header's length comes next.

    Raises:
        Exception: nearly any, over a header that is longer than the file or 10,000 bytes, or no npy file.
    """
    version = np.lib.format.read_magic(file)
    start = file.tell()
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if length > min(size, LONGEST_HEADER):
        raise ValueError(f"a header of {length} bytes")
    file.seek(start)
    return version


def read_header(file: Any, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and dtype of the array in a npy file of a size; the array comes next.

    Raises:
        Exception: as `check_header`, over one that is damaged, and over a version for names beyond Latin-1.
    """
    version = check_header(file, size)
    if version not in _HEADERS:
        raise ValueError(f"npy of version {version}")
    return _HEADERS[version](file)


def _array(file: BinaryIO, size: int) -> np.ndarray:
    """The array in a npy file of a size."""
    if size > LARGEST:
        raise ValueError(f"{size} bytes")
    shape, _, dtype = read_header(file, size)
    count = 1
    for length in shape:
        count *= length
    if dtype.hasobject or min(shape, default=0) < 0 or count * dtype.itemsize != size - file.tell():
        raise ValueError(f"{dtype} {shape} in {size} bytes")
    file.seek(0)
    return np.load(file, allow_pickle=False)

"""Arrays of npy and npz files that may be damaged or not what they say: checked before room is made for them."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ssmbook.errors import InputError, one_line

LARGEST = 1 << 30  # bytes of an array, and of a file


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a npz file by name, or that of a npy file under the name ``""``.

    Raises:
        InputError: the file is missing, damaged, larger than 1 GiB, or needs unpickling.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("no ordinary file")
        with open(path, "rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return _members(file)
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return {"": _array(file, size)}
    except FileNotFoundError:
        raise InputError(f"{path}: is missing; the sequence is not whole, make or fetch it again") from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # damaged bytes make numpy and zipfile raise nearly anything
        words = one_line(str(error) or type(error).__name__, 100)
        raise InputError(f"{path}: cannot be read ({words}); make or fetch it again") from None


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
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"npy of version {version}")
    shape, _, dtype = read_header(file)
    count = 1
    for length in shape:
        count *= length
    if dtype.hasobject or min(shape, default=0) < 0 or count * dtype.itemsize != size - file.tell():
        raise ValueError(f"{dtype} {shape} in {size} bytes")
    file.seek(0)
    return np.load(file, allow_pickle=False)

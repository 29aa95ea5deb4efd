"""Blosc compression of frames as HDF5 would do it, but outside HDF5, whose global lock serialises threads.

Blosc is the filter of the published sets. Called directly, it runs in several threads at once, and saves HDF5's copies,
which take a quarter of its time to write a frame and half of that to read one.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import hdf5plugin
import numpy as np
from numcodecs import blosc

LEVEL = 1
COMPRESSION = hdf5plugin.Blosc(cname="zstd", clevel=LEVEL, shuffle=hdf5plugin.Blosc.SHUFFLE)
_HEADER = struct.Struct(
    "<4B3I"
)  # of a chunk: versions, flags, item size; bytes whole, of a block, compressed

# A call is the work of the thread that makes it. Blosc's own threads would be so many more for each process, and
# the order of a chunk's blocks would be theirs.
blosc.use_threads = False


class Chunk(NamedTuple):
    """What a frame is in the file; ``skipped`` has bit 0 set if it is stored as it was."""

    data: bytes
    skipped: int


def compress(frame: np.ndarray) -> Chunk:
    """A contiguous frame of bytes, of any shape, as the chunk that HDF5 would make of it."""
    packed = blosc.compress(frame, b"zstd", LEVEL, blosc.SHUFFLE)
    return Chunk(packed, 0) if len(packed) < frame.nbytes else Chunk(frame.tobytes(), 1)


def decompress(chunk: bytes, out: np.ndarray) -> None:
    """A chunk that was compressed into ``out``, contiguous; a ValueError if it is damaged."""
    try:
        *_, size, _, compressed = _HEADER.unpack_from(chunk)
        if (size, compressed) != (out.nbytes, len(chunk)):
            raise ValueError(f"{size} bytes in {compressed}, not {out.nbytes} in {len(chunk)}")
        blosc.decompress(chunk, out)
    except (RuntimeError, struct.error) as error:
        raise ValueError(str(error)) from error

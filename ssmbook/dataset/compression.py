"""Frames compressed as HDF5 would, but by threads of ours: HDF5 does one thing at a time in a process.

Blosc, the filter of the published sets, is called where hdf5plugin keeps it, so that the bytes are those that HDF5
itself would write. That also spares HDF5's copies, which take a quarter of its time to write a frame.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, NamedTuple

import h5py
import hdf5plugin
import numpy as np

LEVEL = 1
COMPRESSION = hdf5plugin.Blosc(cname="zstd", clevel=LEVEL, shuffle=hdf5plugin.Blosc.SHUFFLE)


class Chunk(NamedTuple):
    """What a frame is in the file; ``skipped`` has bit 0 set if it is stored as it was."""

    data: bytes
    skipped: int


def compress(frame: np.ndarray) -> Chunk:
    """A contiguous frame of bytes, of any shape, as the chunk that HDF5 would make of it."""
    blosc = _blosc()
    if blosc is None:
        return compress_by_hdf5(frame)
    packed = np.empty(frame.nbytes, np.uint8)
    # Level, shuffle, bytes of a value, source, destination, compressor, size of blocks (0: its choice), threads.
    size = blosc(
        LEVEL,
        hdf5plugin.Blosc.SHUFFLE,
        frame.itemsize,
        frame.nbytes,
        frame.ctypes.data_as(ctypes.c_void_p),
        packed.ctypes.data_as(ctypes.c_void_p),
        packed.nbytes,
        b"zstd",
        0,
        1,
    )
    return Chunk(packed[:size].tobytes(), 0) if size > 0 else Chunk(frame.tobytes(), 1)


def compress_by_hdf5(frame: np.ndarray) -> Chunk:
    """The same by HDF5, in a file in memory: for a library that does not show its functions."""
    with h5py.File("chunk", "w", driver="core", backing_store=False) as file:
        data = file.create_dataset("data", data=frame, chunks=frame.shape, **COMPRESSION)
        file.flush()
        skipped, packed = data.id.read_direct_chunk((0,) * frame.ndim)
    return Chunk(packed, skipped)


@cache
def _blosc() -> Any:
    """``blosc_compress_ctx`` of C-Blosc, which threads may call at once; None where it cannot be found."""
    try:
        library = hdf5plugin.get_config().registered_filters["blosc"]
        function = ctypes.CDLL(library).blosc_compress_ctx
    except (AttributeError, KeyError, OSError, TypeError):
        return None
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    function.argtypes = [ctypes.c_int, ctypes.c_int, size, size, pointer, pointer, size, ctypes.c_char_p]
    function.argtypes += [size, ctypes.c_int]
    function.restype = ctypes.c_int
    return function

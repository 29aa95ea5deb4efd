"""Frames of an HDF5 dataset [T, C, H, W], decompressed straight into the memory that wants them.

HDF5 decompresses a frame into memory of its own and copies it from there. Where a chunk is a frame and Blosc its only
filter, as in the published sets and in ours, the copy is saved: HDF5 gives the chunk as it lies in the file, and
Blosc fills the frame. Anything else is read by HDF5.
"""

from __future__ import annotations

import math

import h5py
import numpy as np

from ssmbook.dataset.compression import decompress
from ssmbook.events.formats.hdf5_columns import stored_chunk

BLOSC_FILTER = 32001  # its number in HDF5's registry
HDF5_FILTERS = (1, 2, 3, 32000, BLOSC_FILTER, 32026)  # deflate, shuffle, checksums, LZF, Blosc, Blosc2


LARGEST_HEADER = 64  # bytes by which a chunk may be larger than its frame


class FrameReader:
    """Reads frames of a dataset [T, C, H, W].

    Attributes:
        direct: each frame is a chunk that Blosc alone compressed, and HDF5's copy is saved.

    Raises:
        ValueError: the frames are not all in this file, or packed by a filter that is not read.
    """

    def __init__(self, data: h5py.Dataset) -> None:
        self.data = data
        self.shape: tuple[int, ...] = data.shape[1:]
        self.dtype: np.dtype = data.dtype
        properties = data.id.get_create_plist()
        filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        self.direct = data.chunks == (1, *self.shape) and filters == [BLOSC_FILTER] and self.dtype.isnative
        if not self.direct:
            _check_storage(data, filters)

    def __len__(self) -> int:
        return len(self.data)

    def read(self, i: int, out: np.ndarray) -> None:
        """Frame i into ``out`` [C, H, W], contiguous and of the dataset's type.

        Raises:
            OSError, RuntimeError, ValueError: it cannot be read.
        """
        if not self.direct or out.dtype != self.dtype:
            self.data.read_direct(out, np.s_[i])
            return
        place = (i, 0, 0, 0)
        stored = self.data.id.get_chunk_info_by_coord(place)
        if stored.byte_offset is None:
            raise ValueError(f"the chunk of frame {i} is missing")
        if stored.size > out.nbytes + LARGEST_HEADER:  # before room is made for it
            raise ValueError(f"the chunk of frame {i} is damaged: {stored.size} bytes for {out.nbytes}")
        chunk = stored_chunk(self.data, place, stored.size)
        try:
            if not stored.filter_mask:
                decompress(chunk, out)
            elif len(chunk) == out.nbytes:  # stored as it was
                out.reshape(-1).view(np.uint8)[:] = np.frombuffer(chunk, np.uint8)
            else:
                raise ValueError(f"{len(chunk)} bytes, not {out.nbytes}")
        except ValueError as error:
            raise ValueError(f"the chunk of frame {i} is damaged: {error}") from error


def _check_storage(data: h5py.Dataset, filters: list[int]) -> None:
    """A ValueError unless HDF5 finds all frames in this file and reads them by filters that check what they read."""
    if data.is_virtual or data.external:
        raise ValueError("its frames lie in other files")
    unknown = [f for f in filters if f not in HDF5_FILTERS]
    if unknown:
        raise ValueError(f"its frames are packed by filter {unknown[0]} in chunks {data.chunks}")
    if data.chunks is None:
        whole = data.id.get_storage_size() == data.nbytes
    else:
        chunks = math.prod(-(-n // size) for n, size in zip(data.shape, data.chunks, strict=True))
        whole = data.id.get_num_chunks() == chunks
    if not whole:
        raise ValueError("frames are missing")

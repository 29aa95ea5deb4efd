"""Frames of an HDF5 dataset [T, C, H, W], decompressed straight into the memory that wants them.

HDF5 decompresses a frame into memory of its own and copies it from there. Where a chunk is a frame and Blosc its only
filter, as in the published sets and in ours, the copy is saved: HDF5 gives the chunk as it lies in the file, and
Blosc fills the frame. Anything else is read by HDF5.
"""

from __future__ import annotations

import h5py
import numpy as np

from ssmbook.dataset.compression import decompress

BLOSC_FILTER = 32001  # its number in HDF5's registry


class FrameReader:
    """Reads frames of a dataset [T, C, H, W].

    Attributes:
        direct: each frame is a chunk that Blosc alone compressed, and HDF5's copy is saved.
    """

    def __init__(self, data: h5py.Dataset) -> None:
        self.data = data
        self.shape: tuple[int, ...] = data.shape[1:]
        self.dtype: np.dtype = data.dtype
        filters = data.id.get_create_plist()
        self.direct = (
            data.chunks == (1, *self.shape)
            and filters.get_nfilters() == 1
            and filters.get_filter(0)[0] == BLOSC_FILTER
            and self.dtype.isnative
        )

    def __len__(self) -> int:
        return len(self.data)

    def read(self, i: int, out: np.ndarray) -> None:
        """Frame i into ``out`` [C, H, W], contiguous and of the dataset's type.

        Raises:
            OSError, ValueError: it cannot be read.
        """
        chunk = self._chunk(i) if self.direct and out.dtype == self.dtype else None
        if chunk is None:
            self.data.read_direct(out, np.s_[i])
            return
        try:
            decompress(chunk, out)
        except ValueError as error:
            raise ValueError(f"the chunk of frame {i} is damaged: {error}") from error

    def _chunk(self, i: int) -> bytes | None:
        """The chunk of a frame as it is stored; None where there is none, or one that was not compressed."""
        try:
            skipped, chunk = self.data.id.read_direct_chunk((i, 0, 0, 0))
        except (OSError, RuntimeError):
            return None
        return None if skipped else chunk

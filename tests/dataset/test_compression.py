from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from ssmbook.dataset.compression import COMPRESSION, compress, decompress


def sparse(rng, shape):
    """Mostly zeros, as frames are; the last of three is noise, which does not compress."""
    frames = rng.integers(0, 11, size=shape, dtype=np.uint8)
    frames[:2] *= rng.random((2, *shape[1:])) < 0.05
    frames[2:] = rng.integers(0, 256, size=(1, *shape[1:]))
    return frames


@pytest.mark.parametrize("shape", [(3, 1, 1, 1), (3, 20, 7, 5), (3, 20, 24, 32), (3, 10, 120, 160)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_equals_what_hdf5_makes_of_a_chunk(shape, dtype, tmp_path):
    frames = sparse(np.random.default_rng(shape[2]), shape).astype(dtype)
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        data = file.create_dataset("data", data=frames, chunks=(1, *shape[1:]), **COMPRESSION)
        file.flush()
        chunks = [data.id.read_direct_chunk((i, 0, 0, 0)) for i in range(len(frames))]
    for frame, (skipped, stored) in zip(frames, chunks, strict=True):
        assert compress(frame) == (stored, skipped)
        if not skipped:
            again = np.empty_like(frame)
            decompress(stored, again)
            np.testing.assert_array_equal(again, frame)
    assert chunks[2][0] == 1


def test_threads_compress_at_once():
    frames = np.concatenate([sparse(np.random.default_rng(i), (3, 20, 48, 64)) for i in range(20)])
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(compress, frames)) == [compress(frame) for frame in frames]

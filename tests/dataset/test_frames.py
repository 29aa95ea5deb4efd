"""Frames that are decompressed into place equal what HDF5 reads, whoever wrote them and however."""

import h5py
import hdf5plugin
import numpy as np
import pytest
from numcodecs import blosc

from ssmbook.dataset.frames import FrameReader
from ssmbook.dataset.layout import COMPRESSION

T, C, H, W = 5, 3, 17, 30
FRAME = (1, C, H, W)
WAYS = {
    "ours": dict(chunks=FRAME, **COMPRESSION),
    "lz4": dict(chunks=FRAME, **hdf5plugin.Blosc("lz4", 5, hdf5plugin.Blosc.BITSHUFFLE)),
    "zlib": dict(chunks=FRAME, **hdf5plugin.Blosc("zlib", 9, hdf5plugin.Blosc.NOSHUFFLE)),
}
OTHERS = {
    "checksums too": dict(chunks=FRAME, fletcher32=True, **COMPRESSION),
    "Blosc2": dict(chunks=FRAME, **hdf5plugin.Blosc2()),
    "gzip": {"chunks": FRAME, "compression": "gzip"},
    "no filter": {"chunks": FRAME},
    "several frames": dict(chunks=(2, C, H, W), **COMPRESSION),
    "parts of frames": dict(chunks=(1, C, 4, W), **COMPRESSION),
    "no chunks": {},
}


def random_frames(rng, dtype="u1"):
    """Mostly zeros, as frames are."""
    return (rng.integers(0, 100, (T, C, H, W)) * (rng.random((T, C, H, W)) < 0.1)).astype(dtype)


def read_all(path):
    with h5py.File(path) as file:
        reader = FrameReader(file["data"])
        out = np.full((T, *reader.shape), 77, reader.dtype)
        for i in range(T):
            reader.read(i, out[i])
        return out, reader.direct, file["data"][:]


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "f4"])
@pytest.mark.parametrize("way", WAYS)
def test_frames_equal_those_of_hdf5(tmp_path, way, dtype, monkeypatch):
    frames = random_frames(np.random.default_rng(0), dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=frames, **WAYS[way])
    monkeypatch.setattr(h5py.Dataset, "read_direct", None)  # nothing of HDF5's own reading is needed
    out, direct, slow = read_all(tmp_path / "a.h5")
    assert direct
    np.testing.assert_array_equal(out, frames)
    np.testing.assert_array_equal(out, slow)


@pytest.mark.parametrize("way", OTHERS)
def test_files_of_other_writers_are_read(tmp_path, way):
    frames = random_frames(np.random.default_rng(1))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=frames, **OTHERS[way])
    out, direct, _ = read_all(tmp_path / "a.h5")
    assert not direct
    np.testing.assert_array_equal(out, frames)


def test_bytes_in_the_other_order_are_turned(tmp_path):
    frames = random_frames(np.random.default_rng(2), ">i2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=frames, **COMPRESSION, chunks=FRAME)
    np.testing.assert_array_equal(read_all(tmp_path / "a.h5")[0], frames)


def test_chunks_that_do_not_compress_are_stored_as_they_are(tmp_path):
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (T, C, H, W), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", frames.shape, "u1", chunks=FRAME, **COMPRESSION)
        data[:] = frames
        data.id.write_direct_chunk((1, 0, 0, 0), frames[1].tobytes(), filter_mask=1)
        assert data.id.get_chunk_info(1).filter_mask == 1
    out, direct, _ = read_all(tmp_path / "a.h5")
    assert direct
    np.testing.assert_array_equal(out, frames)


@pytest.mark.parametrize("way", [*WAYS, "gzip", "several frames", "no chunks"])
def test_a_frame_that_was_never_written_is_an_error_and_not_zeros(tmp_path, way):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", (T, C, H, W), "u1", **{**WAYS, **OTHERS}[way])
        if way != "no chunks":
            data[: T - 1] = 1
            data[2 : T - 1] = 2
    if way == "several frames":  # whose last chunk holds frame T − 1 alone
        assert T % 2 == 1
    with pytest.raises(ValueError, match="missing"):
        read_all(tmp_path / "a.h5")


@pytest.mark.parametrize("kind", ["virtual", "external", "other filter"])
def test_frames_elsewhere_are_refused(tmp_path, kind):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = np.ones((T, C, H, W), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if kind == "virtual":
            layout = h5py.VirtualLayout((T, C, H, W), "u1")
            layout[:] = h5py.VirtualSource(tmp_path / "b.h5", "data", (T, C, H, W))
            file.create_virtual_dataset("data", layout)
        elif kind == "external":
            place = [(str(tmp_path / "b.h5"), 0, T * C * H * W)]
            file.create_dataset("data", (T, C, H, W), "u1", external=place)
        else:
            file.create_dataset("data", (T, C, H, W), "u1", chunks=FRAME, scaleoffset=0)
    with pytest.raises(
        ValueError, match="lie in other files" if kind != "other filter" else "packed by filter"
    ):
        read_all(tmp_path / "a.h5")


def shorter(frame):
    return blosc.compress(frame[:-1].copy(), b"zstd", 1)


def cut(frame):
    return blosc.compress(frame, b"zstd", 1)[:-9]


def scribbled(frame):
    whole = bytearray(blosc.compress(np.zeros_like(frame), b"zstd", 1))
    whole[20:] = b"\xff" * len(whole[20:])
    return bytes(whole)


@pytest.mark.parametrize(
    "damage", [shorter, cut, scribbled, lambda frame: b"\x02", lambda frame: b"\x02" * 20]
)
def test_a_damaged_chunk_is_an_error_and_not_another_frame(tmp_path, damage):
    frames = random_frames(np.random.default_rng(4))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", data=frames, chunks=FRAME, **COMPRESSION)
        data.id.write_direct_chunk((1, 0, 0, 0), damage(frames[1]))
    with h5py.File(tmp_path / "a.h5") as file:
        reader = FrameReader(file["data"])
        out = np.empty((C, H, W), np.uint8)
        reader.read(0, out)
        np.testing.assert_array_equal(out, frames[0])
        with pytest.raises(ValueError, match="frame 1 is damaged"):
            reader.read(1, out)

"""HDF5 as people and tools write it is read; what is forged or lies elsewhere is refused by name."""

import os
import resource
import struct
import subprocess
import sys
from contextlib import contextmanager

import h5py
import hdf5plugin
import numpy as np
import psutil
import pytest

from ssmbook.errors import InputError
from ssmbook.events import open_events
from ssmbook.events.formats.hdf5_columns import unpack_lzf

N = 500
T = np.arange(N) * 1000 + 7


def columns(**options):
    rng = np.random.default_rng(0)
    x, y, p = (rng.integers(0, high, N) for high in (64, 48, 2))
    return {"t": T, "x": x.astype("u2"), "y": y.astype("i4"), "p": p.astype("u1")}


def write(path, place="events", **options):
    with h5py.File(path, "w") as file:
        for name, values in columns().items():
            file.create_dataset(f"{place}/{name}", data=values, **options)
    return path


def assert_read(path):
    want = columns()
    with open_events(path) as recording:
        events = recording.read(0, 1 << 40)
    for name, values in want.items():
        assert getattr(events, name).tolist() == values.tolist(), name


def refused(path, message):
    with pytest.raises(InputError, match=message) as caught, open_events(path) as recording:
        list(recording.blocks())
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


def events_or_refusal(path):
    """The number of events, or what the message begins with."""
    try:
        with open_events(path) as recording:
            return sum(map(len, recording.blocks()))
    except InputError as error:
        return str(error)[: len(str(path))]


BLOSC = hdf5plugin.Blosc
FILTERS = {
    "none": {},
    "chunked": {"chunks": (64,)},
    "gzip": {"chunks": (64,), "compression": "gzip", "compression_opts": 9},
    "gzip, shuffle, fletcher32": {
        "chunks": (77,),
        "compression": "gzip",
        "shuffle": True,
        "fletcher32": True,
    },
    "lzf": {"chunks": (500,), "compression": "lzf"},
    "lzf, shuffle": {"chunks": (64,), "compression": "lzf", "shuffle": True},
    "zstd": {"chunks": (64,), **hdf5plugin.Zstd(clevel=3)},
    **{
        f"blosc {codec} {shuffle}": {"chunks": (64,), **BLOSC(cname=codec, clevel=level, shuffle=shuffle)}
        for codec in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle, level in ((0, 9), (1, 5), (2, 0))
    },
}


@pytest.mark.parametrize("place", ["events", "CD/events", "prophesee/left", ""])
@pytest.mark.parametrize("case", FILTERS)
def test_filters_are_undone(case, place, tmp_path):
    assert_read(write(tmp_path / "a.h5", place, **FILTERS[case]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (hdf5plugin.Bitshuffle(), r"/events/t is stored with filter 32008.*h5repack -f GZIP=1"),
        (hdf5plugin.LZ4(), "filter 32004"),
        (hdf5plugin.Blosc2(), "filter 32026"),
        ({"scaleoffset": 0}, "filter 6"),
    ],
)
def test_other_filters_are_named(options, message, tmp_path):
    refused(write(tmp_path / "a.h5", chunks=(64,), **options), message)


def test_ecf_is_named_with_its_conversion(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((64,))
        properties.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
        group = file.create_group("CD")
        space = h5py.h5s.create_simple((N,))
        h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(kind), space, properties)
    refused(tmp_path / "a.h5", "ECF, which is not read; convert it with .*metavision_file_to_dat")


def test_links_inside_the_file_are_followed(tmp_path):
    write(tmp_path / "a.h5", "elsewhere")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["deep"] = h5py.SoftLink("/elsewhere")
        file["events"] = h5py.SoftLink("deep")
    assert_read(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["events"]
        file["events"] = h5py.SoftLink("/events")
    refused(tmp_path / "a.h5", "in a circle")


def test_other_files_are_not_read(tmp_path):
    secret = write(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file["events"] = h5py.ExternalLink(str(secret), "/events")
    refused(tmp_path / "group.h5", "events is a link into another file, .*secret")

    write(tmp_path / "column.h5")
    with h5py.File(tmp_path / "column.h5", "r+") as file:
        del file["events/p"]
        file["events/p"] = h5py.ExternalLink(str(secret), "/events/p")
    refused(tmp_path / "column.h5", "events/p is a link into another file")

    write(tmp_path / "offset.h5")
    with h5py.File(tmp_path / "offset.h5", "r+") as file:
        file["t_offset"] = h5py.ExternalLink(str(secret), "/events/t")
    refused(tmp_path / "offset.h5", "t_offset is a link into another file")

    (tmp_path / "raw").write_bytes(bytes(8 * N))
    write(tmp_path / "storage.h5")
    with h5py.File(tmp_path / "storage.h5", "r+") as file:
        del file["events/t"]
        file.create_dataset("events/t", (N,), "i8", external=[(str(tmp_path / "raw"), 0, 8 * N)])
    refused(tmp_path / "storage.h5", "/events/t is stored in other files")

    write(tmp_path / "virtual.h5")
    with h5py.File(tmp_path / "virtual.h5", "r+") as file:
        del file["events/t"]
        layout = h5py.VirtualLayout((N,), "i8")
        layout[:] = h5py.VirtualSource(str(secret), "events/t", (N,))
        file.create_virtual_dataset("events/t", layout)
    refused(tmp_path / "virtual.h5", "/events/t is put together from other files")


@pytest.mark.parametrize("length", [N, 1 << 33, 1 << 60])
@pytest.mark.parametrize("chunks", [None, (64,), (1 << 20,)])
def test_values_that_are_not_in_the_file(length, chunks, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "txyp":
            if chunks is None and length > N:
                continue
            maximum = None if chunks is None else (None,)
            file.create_dataset(f"events/{name}", (length,), "u2", chunks=chunks, maxshape=maximum)
    refused(tmp_path / "a.h5", "not (is )?all.* in the file|no column|is not all in the file|not all are in")


def test_a_length_beyond_the_chunks(tmp_path):
    write(tmp_path / "a.h5", chunks=(64,), maxshape=(None,), compression=1)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for name in "txyp":
            file[f"events/{name}"].resize((1 << 40,))
    refused(tmp_path / "a.h5", "/events/t has 1,099,511,627,776 values, and not all are in the file")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.int64(2**62), "t_offset is 4611686018427387904"),
        (np.int64(-(2**63)), "t_offset is -9223372036854775808"),
        (np.zeros(5, "i8"), "t_offset is int64 with 5 values"),
        (np.float64(3), "it must be one integer"),
        ("text", "it must be one integer"),
    ],
)
def test_forged_offsets(value, message, tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["t_offset"] = value
    refused(tmp_path / "a.h5", message)


def test_a_forged_size_of_the_sensor(tmp_path):
    for width in (0, -5, 10**9):
        write(tmp_path / "a.h5")
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            file["events/width"] = width
        refused(tmp_path / "a.h5", f"width {width}")


@pytest.mark.parametrize("case", [case for case in FILTERS if case != "none"])
def test_damaged_chunks_and_filter_masks(case, tmp_path):
    """Each byte of a chunk, and each filter of it, may be wrong: the events, or an InputError."""
    path = write(tmp_path / "a.h5", **FILTERS[case])
    with h5py.File(path) as file:
        info = file["events/t"].id.get_chunk_info(0)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    at = [*range(min(24, info.size)), *rng.integers(0, info.size, 30).tolist()]
    for k, value in zip(at, rng.integers(0, 256, len(at)).tolist(), strict=True):
        damaged = bytearray(content)
        damaged[info.byte_offset + k] = value
        path.write_bytes(damaged)
        assert events_or_refusal(path) in (N, str(path))
    for mask in (1, 2, 4, 7, 1 << 31):
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            _, data = file["events/t"].id.read_direct_chunk((0,))
            file["events/t"].id.write_direct_chunk((0,), data, mask)
        assert events_or_refusal(path) in (N, str(path))


def test_a_shuffle_by_another_size(tmp_path):
    path = write(tmp_path / "a.h5", chunks=(64,), shuffle=True)
    with h5py.File(path) as file:
        assert file["events/t"].id.get_create_plist().get_filter(0)[2] == (8,)
    content = path.read_bytes()
    at = content.find(b"shuffle\0")
    assert at > 0
    position = content.index(b"\x08\0\0\0", at)
    path.write_bytes(content[:position] + b"\x63\0\0\0" + content[position + 4 :])
    refused(path, "shuffled by another size")


def test_what_the_file_holds_is_listed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = np.zeros((3, 4, 5))
        file["imu/gyro"] = np.zeros(7)
    refused(tmp_path / "a.h5", r"it holds images \(3, 4, 5\), imu/gyro \(7,\)")


@pytest.mark.parametrize(
    "values",
    [
        np.array([b"a"] * N),
        np.zeros(N, "c16"),
        np.zeros((N, 2)),
        np.zeros(N, [("a", "i4")]),
    ],
)
def test_columns_of_other_things(values, tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["events/x"]
        file["events/x"] = values
    refused(tmp_path / "a.h5", "events/x|column x")


def test_a_file_that_another_process_writes(tmp_path):
    path = write(tmp_path / "a.h5")
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE"}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout.readline() == b"open\n"
        refused(path, "another process is writing it")
        process.communicate()


@pytest.mark.parametrize("word", [4, 8], ids="{} bytes".format)
def test_a_heap_whose_free_blocks_go_round_takes_no_memory(word, tmp_path):
    """HDF5 2.0 follows the list of them without counting."""
    path = tmp_path / "a.h5"
    new, access = h5py.h5p.create(h5py.h5p.FILE_CREATE), h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    new.set_sizes(word, word)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    with h5py.File(h5py.h5f.create(bytes(path), h5py.h5f.ACC_TRUNC, new, access)) as file:
        for name, values in columns().items():
            file[f"events/{name}"] = values
    assert_read(path)
    content = path.read_bytes()
    heaps = [i for i in range(len(content)) if content.startswith(b"HEAP", i)]
    assert len(heaps) == 2  # the file's, and the group's
    for heap in heaps:
        places = range(heap + 8, heap + 8 + 3 * word, word)
        size, free, at = (int.from_bytes(content[i : i + word], "little") for i in places)
        for following in (free, size, size - word, 1 << (8 * word - 1)):
            damaged = bytearray(content)
            damaged[at + free : at + free + word] = following.to_bytes(word, "little")
            path.write_bytes(damaged)
            with limited_memory():
                refused(path, "heap of a group's names at byte .* is damaged")


@contextmanager
def limited_memory():
    """At most 500 MB more than now, so that what fails here fails alone."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = psutil.Process().memory_info().vms + 500_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_lzf_agrees_with_the_library(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(50):
        values = np.repeat(rng.integers(0, 4, 300), rng.integers(1, 40, 300))[:2000].astype("u1")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("a", data=values, chunks=values.shape, compression="lzf")
            mask, data = file["a"].id.read_direct_chunk((0,))
        if mask:
            continue
        packed = np.frombuffer(data, np.uint8)
        out = np.empty(len(values), np.uint8)
        assert unpack_lzf(packed, out) == len(values)
        assert out.tolist() == values.tolist(), k
        assert unpack_lzf(packed, out[: len(values) - 1]) == -1
        assert unpack_lzf(packed[:-1], out) != len(values)


@pytest.mark.parametrize("size", [9000, 3])
def test_a_chunk_of_another_size_than_the_layout_says(size, tmp_path):
    """Without filters the library makes room by the one and reads by the other."""
    path = write(tmp_path / "a.h5", chunks=(N,))
    with h5py.File(path) as file:
        info = file["events/t"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes() + bytes(8000))
    entry = struct.pack(
        "<IIQQQ", info.size, 0, 0, 0, info.byte_offset
    )  # of the index: size, mask, place, address
    assert content.count(entry) == 1
    at = content.index(entry)
    content[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    refused(path, "/events/t from 0 on")

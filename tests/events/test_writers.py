"""What is written is read back as it was, by us and by other decoders."""

import resource

import evt3
import faery
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmbook.errors import InputError
from ssmbook.events import Events, open_events
from ssmbook.events.formats.writers import WRITTEN, write_events

WIDTH, HEIGHT = 320, 240
ENDING = {"dat": ".dat", "evt2": ".raw", "evt3": ".raw", "hdf5": ".h5", "npy": ".npy", "csv": ".csv"}


def events_of(steps, seed=0, start=1_000_000):
    rng = np.random.default_rng(seed)
    t = start + np.cumsum(np.asarray(steps, np.int64))
    x, y, p = (rng.integers(0, high, len(t)) for high in (WIDTH, HEIGHT, 2))
    return Events(t, x, y, p)


def rows(events):
    return [getattr(events, name).tolist() for name in "txyp"]


def steps_of(n, seed=0):
    return np.random.default_rng(seed).choice([0, 0, 0, 1, 60, 5000], n)


@pytest.mark.parametrize("format", WRITTEN)
@pytest.mark.parametrize("piece", [1, 97, 10_000])
def test_round_trip(format, piece, tmp_path):
    events = events_of(steps_of(900))
    path = tmp_path / f"a{ENDING[format]}"
    pieces = [events[i : i + piece] for i in range(0, len(events), piece)]
    assert write_events(path, [*pieces, Events.empty()], WIDTH, HEIGHT, format) == len(events)
    with open_events(path) as recording:
        size = (None, None) if format in ("npy", "csv") else (WIDTH, HEIGHT)
        assert (recording.width, recording.height) == size
        assert rows(Events.concatenate(list(recording.blocks()))) == rows(events)
    again = tmp_path / f"b{ENDING[format]}"
    write_events(again, [events], WIDTH, HEIGHT, format)
    assert format == "hdf5" or again.read_bytes() == path.read_bytes()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.sampled_from([0, 1, 63, 64, 4095, 4096, 70_000, 3_000_000, 40_000_000]), min_size=1, max_size=40
    )
)
def test_silences_and_laps_of_the_raw_clocks(tmp_path_factory, steps):
    events = events_of([0, *steps], start=5)
    path = tmp_path_factory.mktemp("raw") / "a.raw"
    for format in ("evt2", "evt3"):
        write_events(path, [events[:3], events[3:]], WIDTH, HEIGHT, format)
        with open_events(path) as recording:
            assert rows(recording.read(0, 1 << 60)) == rows(events)


@pytest.mark.parametrize("format", ["evt2", "evt3", "dat"])
def test_other_decoders_read_what_we_write(format, tmp_path):
    events = events_of(steps_of(5000, 3), start=0)
    path = tmp_path / f"a{ENDING[format]}"
    write_events(path, [events], WIDTH, HEIGHT, format)
    got = np.concatenate(list(faery.events_stream_from_file(str(path))))
    assert [got[name].astype(int).tolist() for name in ("t", "x", "y", "p")] == rows(events)
    if format == "evt3":
        other = evt3.decode_file(str(path))
        assert np.asarray(other.t).tolist() == events.t.tolist()


@pytest.mark.parametrize("format", WRITTEN)
def test_nothing_is_left_where_it_fails(format, tmp_path):
    bad = Events([5, 6], [1, WIDTH], [1, 1], [0, 1])
    with pytest.raises(InputError, match=rf"event 3 has x = {WIDTH}"):
        write_events(tmp_path / "a", [events_of([0, 0]), bad], WIDTH, HEIGHT, format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", WRITTEN)
def test_a_full_disk_is_named(format, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # met by a write as a full disk is
    try:
        with pytest.raises(InputError, match=r"out: cannot be written \(File too large\); make room"):
            write_events(tmp_path / "out", [events_of(steps_of(20_000))], WIDTH, HEIGHT, format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "start", "message"),
    [
        ("dat", 1 << 32, "DAT holds 0 to 4294967295 µs"),
        ("evt3", 1 << 24, r"clock of EVT3 at its start holds 0 to 16777215 µs.*--from-zero"),
        ("evt2", 1 << 34, "clock of EVT2"),
    ],
)
def test_clocks_that_do_not_fit(format, start, message, tmp_path):
    with pytest.raises(InputError, match=message):
        write_events(tmp_path / "a", [events_of([0], start=start)], WIDTH, HEIGHT, format)


def test_refused(tmp_path):
    for path, size, format, message in (
        ("a.xyz", (1, 1), None, r"one of \.dat, \.raw"),
        ("a.dat", (None, None), None, "holds the sensor's size"),
        ("a.raw", (3000, 100), None, "up to 2048 a side"),
        ("a.dat", (20_000, 100), None, "1 to 16384"),
        ("nowhere/a.csv", (9, 9), None, "cannot be written"),
    ):
        with pytest.raises(InputError, match=message):
            write_events(tmp_path / path, [], *size, format)


def test_hdf5_is_the_published_layout(tmp_path):
    events = events_of(steps_of(300))
    write_events(tmp_path / "a.h5", [events], WIDTH, HEIGHT)
    with h5py.File(tmp_path / "a.h5") as file:
        assert [file[f"events/{name}"][:].tolist() for name in "txyp"] == rows(events)
        assert (file["events/width"][()], file["events/height"][()]) == (WIDTH, HEIGHT)

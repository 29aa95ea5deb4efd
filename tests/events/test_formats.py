"""Every format gives the same events back: whole, by window, by time, after late events and clock laps."""

import gc
import io
import os
import struct
import tracemalloc
import warnings
from pathlib import Path

import evt3
import faery
import h5py
import numpy as np
import pytest
from event_files import (
    FIRST_KINDS,
    HEIGHT,
    KINDS,
    SAY_SIZE,
    SORTED_ONLY,
    WIDTH,
    aedat2_bytes,
    aedat4_bytes,
    aedat31_bytes,
    dat_bytes,
    es_bytes,
    evt2_bytes,
    evt3_bytes,
    evt21_bytes,
    nmnist_bytes,
    text_of,
    write,
    write_hdf5,
)

from ssmbook.errors import InputError
from ssmbook.events import DatWriter, Events, open_events
from ssmbook.events.formats import Recording
from ssmbook.events.formats.hdf5 import Hdf5Recording


def random_events(rng, n=400, start=1_000_000):
    """Stamps with bursts, silences and late events; the same as lists."""
    steps = rng.choice([0, 0, 0, 1, 2, 50, 3000], n)
    late = np.where(np.arange(n) % 150 == 149, rng.choice([3, 70], n), 0)  # 2 in 400: at most 1 % may be
    t = start + np.cumsum(steps) - late
    x, y, p = rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n), rng.integers(0, 2, n)
    return [column.tolist() for column in (t, x, y, p)]


def expected(events):
    t, x, y, p = (np.array(column) for column in events)
    return Events(np.maximum.accumulate(t), x, y, p)


def assert_same(got, want):
    for name in ("t", "x", "y", "p"):
        assert getattr(got, name).tolist() == getattr(want, name).tolist(), name
    assert (got.t.dtype, got.x.dtype, got.y.dtype, got.p.dtype) == ("int64", "uint16", "uint16", "uint8")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_events", [7, 64, 1 << 20])
def test_blocks_windows_and_reads_agree(kind, block_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", block_events)
    rng = np.random.default_rng(block_events)
    events = random_events(rng)
    want = expected(events)
    if kind in SORTED_ONLY:
        events = [getattr(want, name).tolist() for name in "txyp"]
    with open_events(write(tmp_path / "events.raw", kind, events)) as recording:
        assert (recording.width, recording.height) == ((WIDTH, HEIGHT) if kind in SAY_SIZE else (None, None))
        times = rng.integers(want.t[0] - 10, want.t[-1] + 10, (20, 2))
        for t0, t1 in np.sort(times, axis=1).tolist():  # in no order: forward and back
            assert_same(recording.read(t0, t1), want[(want.t >= t0) & (want.t < t1)])
        assert (recording.start_us, recording.end_us, len(recording)) == (want.t[0], want.t[-1], len(want))
        assert_same(Events.concatenate(list(recording.blocks())), want)
        for dt_us in (1_000, 100_000):
            windows = list(recording.windows(dt_us))
            assert_same(Events.concatenate(windows), want)
            assert len(windows) == (want.t[-1] - want.t[0]) // dt_us + 1
            for k, window in enumerate(windows):
                assert np.all((window.t - want.t[0]) // dt_us == k)


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_let_go_of_once_and_also_where_they_are_refused(kind, tmp_path):
    path = write(tmp_path / "a", kind, random_events(np.random.default_rng(0), 20))
    with open_events(path) as recording:
        recording.close()
    with pytest.raises(InputError, match="is closed"):
        list(recording.blocks())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(InputError, match="width 70000"):
            open_events(path, 70000, 48)
        del recording
        gc.collect()
    assert [str(w.message) for w in caught if str(tmp_path) in str(w.message)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_the_callers_to_change(kind, tmp_path):
    events = random_events(np.random.default_rng(0))
    events[0] = np.maximum.accumulate(events[0]).tolist()
    with open_events(write(tmp_path / "a", kind, events)) as recording:
        before = recording.read(recording.start_us, recording.end_us + 1)
        for block in [*recording.blocks(), *recording.windows(1 << 30), recording.read(0, 1 << 40)]:
            for column in (block.t, block.x, block.y, block.p):
                column[:] = 0
        assert_same(recording.read(before.t[0], before.t[-1] + 1), before)


@pytest.mark.parametrize("kind", ["dat", "evt2", "evt3", "aedat2"])
@pytest.mark.parametrize("block_events", [3, 1 << 20])
def test_clocks_go_round_and_late_events_do_not(kind, block_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", block_events)
    lap = {"dat": 2**32, "evt2": 2**34, "evt3": 2**24, "aedat2": 2**32}[kind]
    # Late by little inside a lap; late across its end; and two laps in all, in steps of a ninth of one.
    t = [lap - 9000, lap - 8000, lap - 8100, lap - 5, lap + 3, lap - 2, lap + 4, lap + 5000]
    t += [t[-1] + lap // 9 * k for k in range(1, 13)]
    events = [t, list(range(20)), [1] * 20, [0, 1] * 10]
    if kind == "aedat2":
        (tmp_path / "laps").write_bytes(aedat2_bytes(events))
    else:
        write(tmp_path / "laps", kind, events)
    with open_events(tmp_path / "laps") as recording:
        assert_same(Events.concatenate(list(recording.blocks())), expected(events))


def test_evt3_high_stamp_that_is_repeated_keeps_the_low_one(tmp_path):
    words = [0x8001, 0x6064, 0x0003, 0x2804, 0x8001, 0x2805, 0x6078, 0x2806]
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n" + struct.pack("<8H", *words))
    with open_events(tmp_path / "a.raw") as recording:
        t = recording.read(0, 1 << 40).t
        assert not str(recording.faults)
    assert t.tolist() == [4196, 4196, 4216]


def test_evt3_vectors_agree_with_another_decoder(tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", 50)
    rng = np.random.default_rng(0)
    words = [0x8000, 0x6000, 0x0000, 0x3000]
    for k in range(400):
        kind = rng.choice([0x2, 0x3, 0x4, 0x5, 0x0, 0x6])
        value = {
            0x2: rng.integers(2) << 11 | rng.integers(600),
            0x3: rng.integers(2) << 11 | rng.integers(100),
            0x4: rng.integers(4096),
            0x5: rng.integers(256),
            0x0: rng.integers(HEIGHT),
            0x6: 10 * k,
        }[kind]
        words.append(int(kind << 12 | value))
    body = struct.pack(f"<{len(words)}H", *words)
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n" + body)
    other = evt3.decode_bytes(body, 2048, 2048)
    with open_events(tmp_path / "a.raw") as recording:
        got = Events.concatenate(list(recording.blocks()))
    assert len(got) > 500
    assert_same(got, Events(np.asarray(other.t).astype(np.int64), other.x, other.y, other.p))


def test_evt3_low_stamp_steps_back_without_a_lap(tmp_path):
    words = [0x8005, 0x6FF0, 0x0003, 0x2001, 0x6FE0, 0x2002, 0x8004, 0x6FFF, 0x2003, 0x8005, 0x6FF1, 0x2804]
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n" + struct.pack("<12H", *words))
    with open_events(tmp_path / "a.raw") as recording:
        ev = recording.read(0, 1 << 40)
    late = 0x5FF0
    assert_same(
        ev,
        Events(np.array([late, late, late, 0x5FF1]), np.arange(1, 5), np.full(4, 3), np.array([0, 0, 0, 1])),
    )


@pytest.mark.parametrize("kind", [0x00, 0x0C])
@pytest.mark.parametrize("size_lines", [True, False])
def test_dat_types_and_headers(kind, size_lines, tmp_path):
    events = random_events(np.random.default_rng(1), 5, start=0x2520)
    (tmp_path / "a").write_bytes(dat_bytes(events, kind, size_lines))
    with open_events(tmp_path / "a") as recording:
        assert (recording.width, recording.height) == ((WIDTH, HEIGHT) if size_lines else (None, None))
        assert_same(recording.read(0, 1 << 40), expected(events))


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        ("% evt 3.0\n", (None, None)),
        ("% evt 3.0\n% Width 640\n% height 480\n", (640, 480)),
        ("% geometry 640x480\n% evt 3.0\n", (640, 480)),
        ("% evt 3.0\n% format EVT3;height=480;width=640\n% geometry 640x480\n% end\n", (640, 480)),
        ("% format EVT3\n", (None, None)),
    ],
)
def test_sizes_in_headers(lines, size, tmp_path):
    (tmp_path / "a.raw").write_bytes(lines.encode() + struct.pack("<4H", 0x8001, 0x6002, 0x0003, 0x2804))
    with open_events(tmp_path / "a.raw") as recording:
        assert (recording.width, recording.height) == size
        assert_same(recording.read(0, 1 << 30), Events([4098], [4], [3], [1]))


def columns_npy(path, p):
    p = np.array(p)
    array = np.zeros(len(p), [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", p.dtype)])
    array["p"] = p
    np.save(path, array)
    return path


@pytest.mark.parametrize("block_events", [1, 2, 1 << 20])
@pytest.mark.parametrize(
    ("p", "want"),
    [
        (np.array([0, 255, 255], "u1"), [0, 1, 1]),
        (np.array([255, 255], "u1"), [1, 1]),
        (np.array([1, 255, 1], "u1"), [1, 0, 1]),
        (np.array([1, 65535], "u4"), [1, 0]),
        (np.array([1, 2**32 - 1, 1], "u4"), [1, 0, 1]),
        (np.array([1, 2**64 - 1, 1], "u8"), [1, 0, 1]),
        (np.array([-1, 1, -1], "i1"), [0, 1, 0]),
        (np.array([-1, -1], "i8"), [0, 0]),
        (np.array([False, True]), [0, 1]),
        (np.array([0, 0, 1, 1], "i4"), [0, 0, 1, 1]),
    ],
)
def test_polarities(p, want, block_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", block_events)
    with open_events(columns_npy(tmp_path / "a.npy", p)) as recording:
        for _ in range(2):
            assert recording.read(0, 1).p.tolist() == want
    if block_events > 2:
        assert Events([0] * len(p), [0] * len(p), [0] * len(p), p).p.tolist() == want


@pytest.mark.parametrize("block_events", [1, 1 << 20])
@pytest.mark.parametrize(
    "p", [[1, 2], [0, 1, 2, 3], [2], [0, 1, 255], [-1, 0, 1], [0, 127], [1, 254], [255, 0, 1], [-1, 255]]
)
def test_other_polarities_are_refused_with_their_values(p, block_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", block_events)
    refused = pytest.raises(InputError, match=r"a\.npy: polarity takes the values -?\d")
    with refused, open_events(columns_npy(tmp_path / "a.npy", np.array(p, "i4"))) as recording:
        recording.read(0, 1)


def test_dat_polarity_beyond_a_bit_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(dat_bytes([[0, 1], [0, 0], [0, 0], [1, 3]]))
    with pytest.raises(InputError, match="values 1, 3"), open_events(tmp_path / "a") as recording:
        recording.read(0, 1)


def clips(kind, path, *spans, step=1000):
    t = np.concatenate([np.arange(*span, step) for span in spans])
    return write(
        path, kind, [t.tolist(), (t // step % WIDTH).tolist(), [1] * len(t), (t // step % 2).tolist()]
    )


@pytest.mark.parametrize("block_events", [1000, 1 << 20])
@pytest.mark.parametrize("kind", [*FIRST_KINDS, "evt21", "csv", "mvsec", "aedat31"])
@pytest.mark.parametrize("first_s", [1, 5, 10, 14])
def test_a_clock_that_goes_back_is_an_error(kind, first_s, block_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", block_events)
    n = first_s * 1000
    path = clips(kind, tmp_path / "two", (0, n * 1000), (0, 900_000))
    message = rf"two: the clock goes back: event {n}\d* is at \d+ µs, after {n - 1}000 µs"
    with pytest.raises(InputError, match=message), open_events(path) as recording:
        list(recording.blocks())


def test_late_events_are_lifted_and_counted(tmp_path):
    t = np.arange(0, 3_000_000, 1000)
    t[[500, 2000]] -= [99_000, 3]
    array = np.zeros(len(t), [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "u1")])
    array["t"] = t
    np.save(tmp_path / "a.npy", array)
    with open_events(tmp_path / "a.npy") as recording:
        assert recording.read(0, 1 << 40).t[[499, 500, 501, 2000]].tolist() == [
            499_000,
            499_000,
            501_000,
            1999997,
        ]
        assert (recording.faults.late, recording.faults.latest_us) == (1, 98_000)
    array["t"] = np.arange(3000) * 1000 - 50_000 * (np.arange(3000) % 50 == 49)
    array["t"] += 50_000
    np.save(tmp_path / "a.npy", array)
    refused = pytest.raises(InputError, match=r"60 of 3,000 events are earlier than one before them")
    with refused, open_events(tmp_path / "a.npy") as recording:
        recording.read(0, 10)


def test_evt3_low_part_that_wraps_without_a_high_part(tmp_path):
    words = [0x8FFE]
    for low in range(0, 12_000, 1500):
        words += [0x6000 | low & 0xFFF, 0, 0x2001]
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n" + struct.pack(f"<{len(words)}H", *words))
    with open_events(tmp_path / "a.raw") as recording:
        t = recording.read(0, 1 << 40).t - (0xFFE << 12)
    assert t.tolist() == list(range(0, 12_000, 1500))


@pytest.mark.parametrize("block_events", [700, 1 << 20])
@pytest.mark.parametrize("kind", ["dat", "evt2", "hdf5", "rows"])
def test_single_events_outside_are_dropped_and_counted(kind, block_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", block_events)
    events = random_events(np.random.default_rng(3), 5000)
    good = expected(events)
    events[1][1234], events[2][4321] = 1308, 1033
    events[0][1234] = 0  # a damaged event's stamp does not count either
    path = write(tmp_path / "a", kind, events)
    keep = np.delete(np.arange(5000), [1234, 4321])
    with open_events(path, **({} if kind in SAY_SIZE else {"width": WIDTH, "height": HEIGHT})) as recording:
        got = Events.concatenate(list(recording.blocks()))
        assert_same(got, expected([np.delete(c, [1234, 4321]) for c in events]))
        assert got.x.tolist() == good.x[keep].tolist()
        assert recording.faults.outside == 2
        assert recording.faults.first_outside == (1234, 1308, events[2][1234])
        assert "2 of 5,000 events lie outside the sensor" in str(recording.faults)
        assert (len(recording), recording.start_us, recording.end_us) == (5000, got.t[0], got.t[-1])


@pytest.mark.parametrize("t", [0, -(2**63), 2**63, -(10**400), 10**400, float("inf"), 1.5, np.int64(3)])
def test_reading_at_any_time(t, tmp_path):
    with open_events(write(tmp_path / "a", "dat", GOOD)) as recording:
        assert len(recording.read(-(2**70), t)) + len(recording.read(t, 2**70)) == 3
        for bad in (float("nan"), "now", None, [1, 2], 1j):
            with pytest.raises(InputError, match=r"time of|earlier time first"):
                recording.read(0, bad)


@pytest.mark.parametrize(
    ("start", "stop"),
    [(None, None), (6, None), (None, 6), (5, 7), (7, 7), (7, 6), (0, 5), (8, 9), (-(2**62), 2**62)],
)
def test_a_part_in_blocks_is_the_part_that_is_read(start, stop, tmp_path):
    with open_events(write(tmp_path / "a", "dat", GOOD)) as recording:
        parts = Events.concatenate([Events.empty(), *recording.between(start, stop)])
        low, high = (-(2**70) if start is None else start), (2**70 if stop is None else stop)
        assert_same(parts, recording.read(low, max(low, high)))


def test_times_are_known_after_closing(tmp_path):
    with open_events(write(tmp_path / "a", "evt3", GOOD)) as recording:
        list(recording.blocks())
    assert (recording.start_us, recording.end_us, len(recording)) == (5, 7, 3)


@pytest.mark.parametrize(
    ("t", "message"),
    [
        ([0, 1, 90_000_000_000], "jumps ahead by more than a day, to 90000000000 µs at event 2"),
        ([2**61 + 5, 2**61 + 6], "at most 2⁶¹"),
        (np.array([2**64 - 5], "u8"), "at most 2⁶¹"),
    ],
)
def test_stamps_beyond_reason(t, message, tmp_path):
    t = np.array(t)
    array = np.zeros(len(t), [("t", t.dtype), ("x", "u2"), ("y", "u2"), ("p", "u1")])
    array["t"] = t
    np.save(tmp_path / "a.npy", array)
    with (
        pytest.raises(InputError, match=rf"a\.npy: .*{message}"),
        open_events(tmp_path / "a.npy") as recording,
    ):
        list(recording.windows(50_000))


def test_binary_data_that_looks_like_a_header_line(tmp_path):
    # The first word's bytes are "% ", as a header line's; a newline follows later.
    words = [0x80002025, 0x0A0A0A0A & 0x0FFFFFFF]
    (tmp_path / "a.raw").write_bytes(b"% evt 2.0\n" + struct.pack("<2I", *words))
    with open_events(tmp_path / "a.raw") as recording:
        assert recording.start_us == 0x2025 << 6 | (words[1] >> 22) & 63


@pytest.mark.parametrize("kind", ["dat", "evt2", "evt3", "aedat4", "hdf5", "rows"])
def test_a_recording_without_events(kind, tmp_path):
    with open_events(write(tmp_path / "none", kind, [[], [], [], []])) as recording:
        assert (recording.start_us, recording.end_us, len(recording)) == (0, 0, 0)
        assert len(recording.read(0, 10)) == 0
        assert list(recording.windows(10)) == []


@pytest.mark.parametrize(
    "names", ["frame7,x,y,polarity,timestamp", "t,x,y,p", "x y p time", "# by us\nts;\tx;\ty;\tpol"]
)
def test_text_without_events(names, tmp_path):
    (tmp_path / "a.csv").write_text(f"{names}\n")
    with open_events(tmp_path / "a.csv") as recording:
        assert list(recording.blocks()) == []


def test_words_that_name_no_columns_are_no_recording(tmp_path):
    (tmp_path / "a.csv").write_text("t,x,y\n")
    with pytest.raises(InputError, match="in no known format"):
        open_events(tmp_path / "a.csv")


@pytest.mark.parametrize("kind", ["evt2", "rows", "dat", "evt3"])
def test_size_of_the_caller(kind, tmp_path):
    path = write(tmp_path / "a", kind, random_events(np.random.default_rng(0)))
    with open_events(path, width=WIDTH, height=HEIGHT) as recording:
        assert (recording.width, recording.height) == (WIDTH, HEIGHT)
        assert len(list(recording.blocks())) == 1
    if kind in SAY_SIZE:
        with pytest.raises(InputError, match=f"says width {WIDTH}, not 99"):
            open_events(path, width=99)
    else:
        with (
            open_events(path, height=40) as recording,
            pytest.raises(InputError, match=r"event \d+ has y = 4\d, outside the sensor's 40 px"),
        ):
            recording.read(0, 1 << 50)


def test_an_event_outside_is_named_by_its_index_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", 10)
    events = random_events(np.random.default_rng(0), 40)
    events[1][33] = WIDTH
    refused = pytest.raises(InputError, match=rf"a\.dat: event 33 has x = {WIDTH}")
    with refused, open_events(write(tmp_path / "a.dat", "dat", events)) as recording:
        list(recording.windows(1000))


def test_blocks_and_windows_stay_in_bounded_memory(tmp_path, monkeypatch):
    n = 2_000_000
    with DatWriter(tmp_path / "long.dat", 304, 240) as writer:
        for k in range(0, n, 100_000):
            zeros = np.zeros(100_000, np.uint16)
            writer.write(Events(np.arange(k, k + 100_000) // 4, zeros, zeros, zeros))
    assert (tmp_path / "long.dat").stat().st_size > 8 * n
    monkeypatch.setattr(Recording, "block_events", 1 << 15)
    with open_events(tmp_path / "long.dat") as recording:
        recording.read(0, 10)  # compiles outside of what is measured
        tracemalloc.start()
        assert sum(len(window) for window in recording.windows(1000)) == n
        assert len(recording.read(499_000, 499_010)) == 40
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4e6


def test_dat_writer_round_trip_and_bytes(tmp_path):
    events = expected(random_events(np.random.default_rng(2)))
    with DatWriter(tmp_path / "a_td.dat", WIDTH, HEIGHT) as writer:
        writer.write(events[:100])
        writer.write(Events.empty())
        writer.write(events[100:])
        assert not (tmp_path / "a_td.dat").exists()
    with open_events(tmp_path / "a_td.dat") as recording:
        assert (recording.width, recording.height, len(recording)) == (WIDTH, HEIGHT, len(events))
        assert_same(recording.read(0, 1 << 40), events)
    slow = dat_bytes([getattr(events, name).tolist() for name in "txyp"])
    assert (tmp_path / "a_td.dat").read_bytes().split(b"\x0c\x08", 1)[1] == slow.split(b"\x0c\x08", 1)[1]


@pytest.mark.parametrize(("column", "value"), [("t", -1), ("t", 2**32), ("x", WIDTH), ("y", HEIGHT)])
def test_dat_writer_refuses_and_leaves_nothing(column, value, tmp_path):
    columns = {"t": [0, 1], "x": [0, 1], "y": [0, 1], "p": [0, 1]}
    columns[column][1] = value
    refused = pytest.raises(InputError, match=f"event 1 .* {column} = {value}")
    with refused, DatWriter(tmp_path / "a.dat", WIDTH, HEIGHT) as writer:
        writer.write(Events(*(np.array(values) for values in columns.values())))
    assert os.listdir(tmp_path) == []


GOOD = [[5, 6, 7], [1, 2, 3], [1, 2, 3], [0, 1, 0]]


def long_npz():
    """An archive whose directory says that its first array has nearly 4 GiB."""
    np.savez(file := io.BytesIO(), events=np.zeros((2, 4), int))
    content = bytearray(file.getvalue())
    entry = content.index(b"PK\x01\x02")
    content[entry + 20 : entry + 24] = (0xFFFF_FFF0).to_bytes(4, "little")
    return bytes(content)


DAMAGED = {
    "empty": (b"", "is empty"),
    "foreign": (b"hello, this is no recording", "in no known format"),
    "header only": (b"% Version 2\n", "ends at byte 12"),
    "text": (b"% a comment\nand text", "event type 97 of 110 bytes at byte 12"),
    "dat of version 1": (dat_bytes(GOOD).replace(b"Version 2", b"Version 1"), "version 1"),
    "dat cut": (dat_bytes(GOOD)[:-3], f"at byte {len(dat_bytes(GOOD)) - 8} is cut"),
    "evt2 cut": (evt2_bytes(GOOD)[:-1], f"at byte {len(evt2_bytes(GOOD)) - 4} is cut"),
    "evt3 cut": (evt3_bytes(GOOD)[:-1], f"at byte {len(evt3_bytes(GOOD)) - 2} is cut"),
    "evt 4": (b"% format EVT4;height=720;width=1280\n% end\n" + bytes(8), "encoded as EVT4"),
    "aedat4 cut": (aedat4_bytes(GOOD)[:100], "not a readable AEDAT4"),
    "aedat4 no text": (aedat4_bytes(GOOD).replace(b"<dv", b"<d\xcf", 1), "header is damaged.*utf-8"),
    "aedat4 cut later": (aedat4_bytes(GOOD)[:-5], "packet 1 is damaged"),
    "aedat 1": (b"#!AER-DAT1.0\r\n", "AEDAT of another version"),
    "aedat 2": (b"#!AER-DAT2.0\r\n", "of a camera that is not read"),
    "aedat 3.1 cut": (aedat31_bytes(GOOD)[:-3], "packet at byte .* is damaged or cut"),
    "event stream cut": (es_bytes(GOOD)[:-3], "event at byte .* is cut"),
    "event stream of version 1": (es_bytes(GOOD).replace(b"\x02", b"\x01", 1), "version 1.0.0"),
    "gzip": (b"\x1f\x8b" + bytes(30), "gunzip"),
    "unknown camera": (b"% system_ID 99\n" + bytes(8), "camera that is not known"),
    "evt21 cut": (evt21_bytes(GOOD)[:-3], "is cut"),
    "text of three columns": (b"1 2 3\n2 3 4\n", "3 values"),
    "text of words": (b"t,x,y,p\n1,2,a,0\n", "write four numbers"),
    "text with other names": (b"a,b,c,d\n1,2,3,0\n", "name them t, x, y, p"),
    "npz of gigabytes": (long_npz(), "says to have 4294967280 bytes"),
    "npz cut": (b"PK\x03\x04" + bytes(9), "not a readable npz"),
    "hdf5 cut": (b"\x89HDF\r\n\x1a\n" + bytes(40), "not a readable HDF5"),
    "npy cut": (b"\x93NUMPY\x01\x00", "not a readable npy"),
    "npy with a header of gigabytes": (
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(40),
        "a header of 2147483647",
    ),
    "npy with a long header": (b"\x93NUMPY\x01\x00\x20\x4e" + bytes(20_100), "a header of 20000"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files(case, tmp_path):
    content, message = DAMAGED[case]
    (tmp_path / "bad.raw").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught, open_events(tmp_path / "bad.raw") as recording:
        list(recording.blocks())
    assert "bad.raw" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_and_closed(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_events(tmp_path / "missing.dat")
    with pytest.raises(InputError, match="is a folder"):
        open_events(tmp_path)
    for kind in KINDS:
        with open_events(write(tmp_path / kind, kind, GOOD)) as recording:
            pass
        with pytest.raises(InputError, match="is closed"):
            recording.read(0, 1)


def test_wrong_times(tmp_path):
    with open_events(write(tmp_path / "a", "dat", GOOD)) as recording:
        for dt_us in (0, -5, 0.5, 1.5, float("nan"), float("inf")):
            with pytest.raises(InputError, match="whole number"):
                next(recording.windows(dt_us))
        with pytest.raises(InputError, match="earlier time first"):
            recording.read(7, 5)
        with pytest.raises(InputError, match="a time of nan"):
            recording.read(0, float("nan"))


@pytest.mark.parametrize("kind", ["hdf5", "dsec", "rows"])
def test_stamps_that_start_below_zero(kind, tmp_path):
    path = write(tmp_path / "a", kind, [[-4, 3], [0, 1], [0, 1], [0, 1]])
    with pytest.raises(InputError, match="first stamp is -4"), open_events(path) as recording:
        recording.read(0, 10)


def damaged_hdf5(path, case):
    write_hdf5(path, random_events(np.random.default_rng(0), 100))
    replaced = {
        "column missing": ("p", None),
        "columns differ": ("p", np.zeros(2, np.uint8)),
        "no stamps": ("t", np.full(100, np.nan)),
        "negative x": ("x", np.array([1, -1] * 50)),
    }
    with h5py.File(path, "r+") as file:
        chunk = file["events/t"].id.get_chunk_info(0)
        if case in replaced:
            name, values = replaced[case]
            del file[f"events/{name}"]
            if values is not None:
                file[f"events/{name}"] = values
    if case == "chunk damaged":
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("column missing", "no column events/p"),
        ("columns differ", r"have \[100, 100, 100, 2\] values"),
        ("no stamps", "a stamp of nan"),
        ("negative x", "event 1 has x = -1"),
        ("chunk damaged", "/events/t from 0 on"),
    ],
)
def test_damaged_hdf5(case, message, tmp_path):
    damaged_hdf5(tmp_path / "a.h5", case)
    with pytest.raises(InputError, match=rf"a\.h5.*{message}"), open_events(tmp_path / "a.h5") as recording:
        recording.read(0, 10)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 5), int), "give one with fields"),
        (np.zeros(3, [("t", int), ("x", int)]), "give one with fields"),
        (np.array(5), r"an array \(\) of int64; give one with fields"),
        (np.zeros(3, [("t", "i8"), ("x", "u2", (0,)), ("y", "u2"), ("p", "u1")]), "give one with fields"),
        (np.zeros(3, [("t", "i8"), ("x", "u2", (2,)), ("y", "u2"), ("p", "u1")]), "give one with fields"),
        (np.full((3, 4), np.nan), "in no order"),
        (np.array([["1", "2", "3", "1"]]), "columns hold <U1"),
        (np.zeros(3, [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "S4")]), "column p holds"),
        (np.zeros(3, [("t", "U8"), ("x", "u2"), ("y", "u2"), ("p", "u1")]), "column t holds"),
        (np.array([[0, 0, 0, {}]], object), "not a readable npy"),
        (np.array([[9, 2, 4, 900], [1, 2, 5, 50]]), "order the columns"),
        (np.array([[1, 2, 3, 1], [5, 2, 4, 2], [6, 1, 0, 1]]), "polarity takes the values 1, 2"),
    ],
)
def test_foreign_arrays(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=rf"a\.npy.*{message}"), open_events(tmp_path / "a.npy") as recording:
        recording.read(0, 10)


def test_raw_files_of_the_published_layout(conformance):
    path = conformance("raw_gen1/val/seq_val_td.dat.h5")
    with h5py.File(path) as file:
        t, x, y, p = (file[f"events/{name}"][:] for name in "txyp")
    assert np.any(np.diff(t) < 0)
    with open_events(path) as recording:
        assert (recording.width, recording.height, len(recording)) == (304, 240, len(t))
        assert_same(recording.read(0, recording.end_us + 1), Events(np.maximum.accumulate(t), x, y, p))


# name: size, events, first and last stamp, Σx, Σy, Σp, first x
CLIP = (219596, 11718656, 11727457, 159113225, 85638051, 115532, [874, 806, 882])
REAL = {
    "driving_1mpx_gen41_evt3.raw": ((1280, 720), *CLIP),
    "derived/driving_1mpx_gen41_td.dat": ((1280, 720), *CLIP),
    "derived/driving_1mpx_gen41_dsec_style.h5": (None, *CLIP),
    "sparklers_gen3_evt2.raw": (
        *((640, 480), 521252, 913716224, 913812095),
        *(128979953, 216346680, 185861, [35, 36, 74]),
    ),
    "ncars_sample.dat": (None, 2009, 0, 99952, 93457, 40463, 1350, [25, 67, 56]),
    "dvxplorer_lite_person.aedat4": (
        *((320, 240), 111954, 1605537493718345, 1605537494308262),
        *(18342405, 15105898, 55023, [154, 149, 148]),
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_recordings(name, recordings, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", 50_000)
    size, n, start, end, sum_x, sum_y, sum_p, first_x = REAL[name]
    with open_events(recordings(name)) as recording:
        assert (recording.width, recording.height) == (size or (None, None))
        assert (len(recording), recording.start_us, recording.end_us) == (n, start, end)
        for parts in (recording.blocks(), recording.windows(1000), [recording.read(start, end + 1)]):
            ev = Events.concatenate(list(parts))
            assert (len(ev), ev.t[0], ev.t[-1]) == (n, start, end)
            assert [int(column.sum(dtype=np.int64)) for column in (ev.x, ev.y, ev.p)] == [sum_x, sum_y, sum_p]
            assert ev.x[:3].tolist() == first_x


def test_real_clip_in_three_formats_and_another_decoder(recordings):
    path = recordings("driving_1mpx_gen41_evt3.raw")
    other = evt3.decode_file(str(path))
    want = Events(np.maximum.accumulate(np.asarray(other.t).astype(np.int64)), other.x, other.y, other.p)
    for name in ("driving_1mpx_gen41_evt3.raw", "derived/driving_1mpx_gen41_td.dat"):
        with open_events(recordings(name)) as recording:
            assert_same(recording.read(0, 1 << 40), want)
    with open_events(recordings("derived/driving_1mpx_gen41_dsec_style.h5")) as recording:
        assert_same(recording.read(0, 1 << 40), want)


def test_pedro_arrays(recordings):
    path = recordings("pedro/numpy/val/frame0000009.npy")
    t, x, y, p = np.load(path).T
    with open_events(path, width=346, height=260) as recording:
        assert_same(recording.read(int(t[0]), int(t[-1]) + 1), Events(t, x, y, p))


def test_hdf5_chunks_are_read_once(tmp_path, monkeypatch):
    # Chunks longer than a block and of another length in each column, which h5py's cache would not hold.
    rng = np.random.default_rng(0)
    n = 400_000
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, high, dtype, chunk in (
            ("t", 1 << 40, "i8", n),
            ("x", 64, "u2", 70_000),
            ("y", 48, "u2", n),
            ("p", 2, "i1", 90_000),
        ):
            values = np.sort(rng.integers(0, high, n)) if name == "t" else rng.integers(0, high, n)
            file.create_dataset(f"events/{name}", data=values.astype(dtype), chunks=(chunk,), compression=1)
    monkeypatch.setattr(Hdf5Recording, "block_events", 10_000)
    counter = Path("/proc/self/io")
    if not counter.exists():
        pytest.skip("this system does not count the bytes that a process reads")

    def read_bytes():
        return int(counter.read_text(encoding="utf-8").split()[1])

    for _ in range(2):  # the first time also reads code
        before = read_bytes()
        with open_events(tmp_path / "a.h5") as recording:
            assert sum(map(len, recording.blocks())) == n
        read = read_bytes() - before
    assert read < 1.1 * (tmp_path / "a.h5").stat().st_size


def faery_events(path):
    return np.concatenate(list(faery.events_stream_from_file(str(path))))


@pytest.mark.parametrize("kind", ["evt2", "evt3", "es", "dat", "aedat4"])
def test_values_agree_with_a_second_decoder(kind, tmp_path):
    events = random_events(np.random.default_rng(5), 2000)
    want = expected(events)
    events = [getattr(want, name).tolist() for name in "txyp"]
    ending = {"es": ".es", "dat": ".dat", "aedat4": ".aedat4"}.get(kind, ".raw")
    path = write(tmp_path / f"a{ending}", kind, events)
    other = faery_events(path)
    other = other[other["t"] > 0]  # some decoders give events that came before a stamp
    with open_events(path) as recording:
        got = recording.read(0, 1 << 60)
    assert_same(got, want)
    assert [other[name].astype(int).tolist() for name in ("t", "x", "y", "p")] == events


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("said", [False, True])
def test_evt21_in_both_word_orders(legacy, said, tmp_path):
    events = random_events(np.random.default_rng(6), 300)
    (tmp_path / "a.raw").write_bytes(evt21_bytes(events, legacy, said))
    with open_events(tmp_path / "a.raw") as recording:
        assert_same(recording.read(0, 1 << 40), expected(events))


@pytest.mark.parametrize(
    ("sensor", "size"),
    [
        ("DVS128", (128, 128)),
        ("eu.seebetter.ini.chips.davis.DAVIS240C", (240, 180)),
        ("Davis346", (346, 260)),
    ],
)
@pytest.mark.parametrize("block_events", [7, 1 << 20])
def test_aedat2(sensor, size, block_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", block_events)
    events = random_events(np.random.default_rng(7), 300)
    events[1], events[2] = [2 * x for x in events[1]], [2 * y for y in events[2]]
    (tmp_path / "a.aedat").write_bytes(aedat2_bytes(events, sensor, size))
    with open_events(tmp_path / "a.aedat") as recording:
        assert (recording.format, recording.width, recording.height) == ("AEDAT 2.0", *size)
        assert_same(Events.concatenate(list(recording.blocks())), expected(events))


@pytest.mark.parametrize("end", ["", "#End Of ASCII Header\r\n", "# End of ASCII Header\n"])
def test_aedat2_of_rows_that_begin_as_a_comment_does(end, tmp_path):
    """Rows 140 to 143 of a DAVIS: the first byte of their events is that of "#"."""
    rng = np.random.default_rng(3)
    events = [np.sort(rng.integers(0, 1 << 20, 500)), *(rng.integers(0, n, 500) for n in (346, 260, 2))]
    events[2][0] = 259 - 141
    content = aedat2_bytes(events, "Davis346", (346, 260), end)
    (tmp_path / "a.aedat").write_bytes(content[: len(content) - 8 * 1000] + _without_samples(content[-8000:]))
    with open_events(tmp_path / "a.aedat") as recording:
        assert_same(Events.concatenate(list(recording.blocks())), Events(*events))


def _without_samples(body):
    return b"".join(body[i + 8 : i + 16] for i in range(0, len(body), 16))


@pytest.mark.parametrize("block_events", [7, 1 << 20])
def test_nmnist(block_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", block_events)
    events = random_events(np.random.default_rng(8), 300, start=10)
    events[0] = np.maximum.accumulate(events[0]).tolist()
    (tmp_path / "00001.bin").write_bytes(nmnist_bytes(events))
    with open_events(tmp_path / "00001.bin", 64, 48) as recording:
        assert_same(Events.concatenate(list(recording.blocks())), expected(events))


TEXTS = {
    "plain": {},
    "seconds": {"seconds": True},
    "size": {"head": (64, 48)},
    "commas": {"separator": ","},
    "tabs": {"separator": "\t"},
    "semicolons": {"separator": ";"},
    "x y t p": {"columns": "xytp"},
    "x y p t": {"columns": "xypt", "seconds": True},
    "p t x y": {"columns": "ptxy"},
    "named": {"separator": ",", "head": ("p", "y", "x", "t"), "columns": "pyxt"},
    "long names": {"separator": ", ", "head": ("timestamp", "x", "y", "polarity")},
    "nanoseconds": {"separator": ",", "head": ("timestamp_ns", "x", "y", "polarity"), "nanoseconds": True},
    "comment": {"separator": " ", "comment": "# an event camera\n# t x y p\n"},
    "byte order mark": {"separator": ",", "head": ("t", "x", "y", "p"), "mark": "\ufeff"},
    "Windows": {"separator": ",", "windows": True},
}


@pytest.mark.parametrize("block_events", [64, 1 << 20])
@pytest.mark.parametrize("case", TEXTS)
def test_text_as_people_write_it(case, block_events, tmp_path, monkeypatch):
    monkeypatch.setattr(Recording, "block_events", block_events)
    options = dict(TEXTS[case])
    mark, comment = options.pop("mark", ""), options.pop("comment", "")
    nanoseconds, windows = options.pop("nanoseconds", False), options.pop("windows", False)
    events = random_events(np.random.default_rng(9), 400)
    written = [[1000 * t + 400 for t in events[0]], *events[1:]] if nanoseconds else events
    text = (mark + comment).encode() + text_of(written, **options)
    (tmp_path / "a.csv").write_bytes(text.replace(b"\n", b"\r\n") if windows else text)
    with open_events(tmp_path / "a.csv") as recording:
        assert_same(Events.concatenate(list(recording.blocks())), expected(events))
        assert (recording.width, recording.height) == ((64, 48) if case == "size" else (None, None))
        third = recording.read(recording.start_us + 1000, recording.end_us - 1000)
        want = expected(events)
        assert len(third) == np.sum((want.t >= want.t[0] + 1000) & (want.t < want.t[-1] - 1000))


@pytest.mark.parametrize(
    "text",
    [
        "t,x,y,p\n1,5,6,0\n# a remark\n% another, of 1 word\n3,7,8,1\n",
        ",t,x,y,p\n0,1,5,6,0\n1,3,7,8,1\n",  # as pandas writes it with its index
        "1 5 6 0\n3 7 8 1",
    ],
)
def test_remarks_an_index_and_a_last_line_without_an_end(text, tmp_path):
    (tmp_path / "a.txt").write_text(text)
    with open_events(tmp_path / "a.txt") as recording:
        assert_same(recording.read(0, 10), Events([1, 3], [5, 7], [6, 8], [0, 1]))


def test_one_line_without_an_end_is_an_event(tmp_path):
    (tmp_path / "a.txt").write_text("5 1 2 1")
    with open_events(tmp_path / "a.txt") as recording:
        assert_same(recording.read(0, 10), Events([5], [1], [2], [1]))


def test_a_pipe_a_name_with_nul_and_a_long_one_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "is no ordinary file"),
        ("a\0b", "cannot be the name of a file"),
        ("x" * 5000, "cannot be read"),
        ("a\nb", "no such file"),
        ("/dev/zero", "is no ordinary file"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            open_events(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600


def test_event_stream_of_atis(tmp_path):
    rows = [(0, 5, 7, 1), (130, 6, 8, 0), (131, 7, 9, 1)]
    data, last = b"Event Stream\x02\x00\x00\x02" + struct.pack("<HH", WIDTH, HEIGHT), 0
    for t, x, y, p in rows:
        data += (
            b"\xfc"
            + b"\xfd" * ((t - last) // 63)
            + struct.pack("<BHH", (t - last) % 63 << 2 | p << 1, x, 47 - y)
        )
        data += struct.pack("<BHH", 1, 1, 1)  # a measure of light
        last = t
    (tmp_path / "a.es").write_bytes(data)
    with open_events(tmp_path / "a.es") as recording:
        assert_same(recording.read(0, 1000), expected([list(column) for column in zip(*rows, strict=True)]))

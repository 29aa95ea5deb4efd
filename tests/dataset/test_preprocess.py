import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from ssmbook.dataset import Sensor, SequencesFailed, find_sequences, preprocess
from ssmbook.dataset.compression import compress
from ssmbook.dataset.layout import Sequence
from ssmbook.dataset.parameters import recorded_window
from ssmbook.dataset.windows import Frames, FrameSink, Windows, write_frames
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, DatWriter, Events, StackedHistogram, open_events
from ssmbook.files import lock

HEIGHT, WIDTH = 24, 32
SENSOR = Sensor.simulated(WIDTH, HEIGHT, label_interval_ms=50)
END_US = 400_000


def random_events(rng, count=3000, end_us=END_US):
    """Sorted events with many equal stamps."""
    t = np.sort(rng.integers(0, end_us // 100, size=count)) * 100
    x, y, p = (rng.integers(0, size, size=count) for size in (WIDTH, HEIGHT, 2))
    return Events(t, x, y, p)


def boxes_at(*times):
    boxes = np.zeros(len(times), BOX_DTYPE)
    boxes["t"] = times
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 3, 4, 10, 12
    return boxes


def write_raw(split, name, events, boxes):
    split.mkdir(parents=True, exist_ok=True)
    with DatWriter(split / f"{name}_td.dat", WIDTH, HEIGHT) as file:
        file.write(events)
    if boxes is not None:
        np.save(split / f"{name}_bbox.npy", boxes)


@pytest.fixture
def raw(tmp_path):
    """Two training sequences, one to validate on."""
    rng = np.random.default_rng(0)
    times = range(120_000, END_US, 50_000)
    for name in ("train/a", "train/b", "val/c"):
        split, sequence = name.split("/")
        write_raw(tmp_path / "raw" / split, sequence, random_events(rng), boxes_at(*times))
    return tmp_path / "raw"


def run(raw, out, **options):
    return preprocess(raw, out, **{"sensor": SENSOR, "progress": False, **options})


def contents(folder):
    """The bytes of each file of a set."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Windows


def inside(ev, end, window_us=None, window_events=None):
    """The definition: the indices of a window's events among those of the whole recording."""
    if window_us is not None:
        return np.flatnonzero((end - window_us <= ev.t) & (ev.t <= end))
    return np.flatnonzero(ev.t <= end)[-window_events:]


def cut(blocks, ends, **window):
    """All windows, each as one piece."""
    windows = Windows(ends, **window)
    parts = [found for block in blocks for found in windows.push(block)]
    return [Events.concatenate(part) for part in (*parts, *windows.finish())]


@pytest.mark.parametrize("block", [1, 7, 100, 10_000])
@pytest.mark.parametrize("window", [{"window_us": 3_000}, {"window_us": 40}, {"window_events": 25}])
def test_windows_equal_the_definition(block, window):
    rng = np.random.default_rng(block)
    ev = random_events(rng, count=400, end_us=40_000)
    # Ends before the first event, on stamps that several events share, and after the last event.
    ends = np.unique([-50, 0, *rng.choice(ev.t, 30), *rng.integers(0, 40_000, size=10), 39_999, 60_000])
    blocks = [Events.empty(), *(ev[i : i + block] for i in range(0, len(ev), block))]
    found = cut(blocks, ends, **window)
    assert len(found) == len(ends)
    for end, part in zip(ends, found, strict=True):
        for key in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(getattr(part, key), getattr(ev, key)[inside(ev, end, **window)])


def test_events_on_a_shared_edge_belong_to_both_windows():
    ev = Events(*(np.array(v) for v in ([10, 20, 20, 30], [0] * 4, [0] * 4, [1] * 4)))
    assert [len(w) for w in cut([ev], np.array([20, 30]), window_us=10)] == [3, 3]


@pytest.mark.parametrize("window", [{"window_us": 500}, {"window_events": 500}])
def test_windows_keep_no_more_blocks_than_they_need(window):
    windows = Windows(np.array([*range(1000, 50_000, 1000), 90_000]), **window)
    for i in range(100):
        block = Events(np.arange(1000) + 1000 * i, *np.zeros((3, 1000), np.uint8))
        list(windows.push(block))
        assert len(windows._blocks) <= 2
    assert windows._blocks == []


# Sequences


def test_frames_are_the_representation_of_each_window(raw, tmp_path):
    summary = run(raw, tmp_path / "out", window_ms=20, stride_ms=25)
    assert summary.done == ["train/a", "train/b", "val/c"]
    sequence = Sequence(tmp_path / "out" / "val" / "c", "stacked_histogram_dt=20_nbins=10")
    assert sequence.timestamps_us[0] == 45_000
    assert set(np.diff(sequence.timestamps_us)) == {25_000}
    with open_events(raw / "val" / "c_td.dat") as recording:
        for i, end in enumerate(sequence.timestamps_us):
            ev = recording.read(end - 20_000, end + 1)
            expected = StackedHistogram(height=HEIGHT, width=WIDTH)(ev)
            assert expected.sum() > 0
            np.testing.assert_array_equal(sequence.frames(i, i + 1)[0], expected)


def test_halved_frames_keep_the_odd_pixels(raw, tmp_path):
    run(raw, tmp_path / "full")
    half = Sensor("half", WIDTH, HEIGHT, SENSOR.classes, label_interval_ms=50, downsample=True)
    run(raw, tmp_path / "half", sensor=half)
    full, half = (find_sequences(tmp_path / out / "val")[0] for out in ("full", "half"))
    np.testing.assert_array_equal(half.frames(0, 5), full.frames(0, 5)[:, :, 1::2, 1::2])
    assert half.labels_at(0)["w"] * 2 == full.labels_at(0)["w"]


def test_splits_can_come_one_after_another(raw, tmp_path):
    assert run(raw, tmp_path / "out", splits=("val",)).done == ["val/c"]
    assert not (tmp_path / "out" / "train").exists()
    summary = run(raw, tmp_path / "out")
    assert (summary.done, summary.skipped) == (["train/a", "train/b"], ["val/c"])


def test_wide_boxes_are_dropped_from_training_only(raw, tmp_path):
    for split, name in (("train", "a"), ("val", "c")):
        boxes = boxes_at(*range(120_000, END_US, 50_000))
        boxes["x"], boxes["w"] = 0, WIDTH - 2
        np.save(raw / split / f"{name}_bbox.npy", boxes)
    summary = run(raw, tmp_path / "out")
    assert summary.without_labels == ["train/a"]
    assert not (tmp_path / "out" / "train" / "a").exists()
    assert summary.done == ["train/b", "val/c"]


def test_one_recording_in_three_formats_gives_one_set(recordings, tmp_path):
    for name, source in (
        ("evt3_td.raw", "driving_1mpx_gen41_evt3.raw"),
        ("dat_td.dat", "derived/driving_1mpx_gen41_td.dat"),
        ("dsec_td.h5", "derived/driving_1mpx_gen41_dsec_style.h5"),
    ):
        (tmp_path / "raw" / "val").mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / "val" / name).symlink_to(recordings(source))
        boxes = boxes_at(11_722_000, 11_726_000)
        np.save(tmp_path / "raw" / "val" / f"{name.split('_')[0]}_bbox.npy", boxes)
    sensor = Sensor("gen41", 1280, 720, SENSOR.classes, label_interval_ms=4)
    summary = run(tmp_path / "raw", tmp_path / "out", sensor=sensor, window_ms=2, stride_ms=4000)
    assert len(summary.done) == 3
    dat, dsec, evt3 = find_sequences(tmp_path / "out" / "val")
    frames = dat.frames(0, len(dat))
    assert frames[-2:].sum(axis=(1, 2, 3), dtype=np.int64).min() > 10_000
    for other in (dsec, evt3):
        np.testing.assert_array_equal(other.frames(0, len(other)), frames)


def test_two_processes_write_what_one_does(raw, tmp_path):
    summary = run(raw, tmp_path / "one")
    assert run(raw, tmp_path / "two", workers=2) == summary
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_threads_write_what_one_does(raw, tmp_path):
    """Two sequences and six workers: three threads each; one sequence and four: four threads."""
    for splits, workers in ((("train",), 6), (("val",), 4)):
        summary = run(raw, tmp_path / "one", splits=splits, stride_ms=5)
        assert run(raw, tmp_path / "more", splits=splits, stride_ms=5, workers=workers) == summary
    assert contents(tmp_path / "one") == contents(tmp_path / "more")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_frames_come_in_order_and_few_windows_wait(threads, monkeypatch):
    monkeypatch.setattr(Frames, "_MOST_EVENTS", 100_000)
    rng = np.random.default_rng(threads)
    ev = random_events(rng)
    ends = np.arange(1000, END_US, 1000)
    written, waiting = [], []
    sink = FrameSink(
        Windows(ends, window_us=3000),
        StackedHistogram(height=HEIGHT, width=WIDTH),
        written.append,
    )
    with Frames(threads) as frames:
        for i in range(0, len(ev), 100):
            frames.take(sink, sink.windows.push(ev[i : i + 100]))
            waiting.append(len(frames._waiting))
        frames.take(sink, sink.windows.finish())
    expected = [compress(sink.represent(ev[(end - 3000 <= ev.t) & (ev.t <= end)])) for end in ends.tolist()]
    assert written == expected
    assert max(waiting) <= (max(threads, 100_000 // Frames._EACH) if threads > 1 else 0)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_frame_that_fails_ends_the_run_with_its_reason(threads):
    def fail(window):
        raise InputError("no frame")

    sink = SimpleNamespace(
        frame_of=fail, windows=Windows(np.arange(1000, 9000, 10), window_us=20), write=None
    )
    with pytest.raises(InputError, match="no frame"):
        write_frames([random_events(np.random.default_rng(0))], [sink], threads)


# Names


@pytest.mark.parametrize(
    "name",
    [
        "a_td.dat",
        "a.dat",
        "a_cd.dat",
        "a.DAT",
        "a.npy",
        "a_cd.npy",
        "a_td.npy",
        "a.h5",
        "a.hdf5",
        "a_cd.h5",
        "a.csv",
    ],
)
def test_recordings_are_found_under_the_names_that_people_have(tmp_path, name):
    ev = random_events(np.random.default_rng(0))
    split = tmp_path / "raw" / "val"
    write_raw(split, "a", ev, boxes_at(*range(120_000, END_US, 50_000)))
    if name.endswith(".npy"):
        np.save(split / name, np.stack([ev.t, ev.x, ev.y, ev.p], axis=1))
    elif name.endswith(".csv"):
        np.savetxt(
            split / name, np.stack([ev.t, ev.x, ev.y, ev.p], axis=1), "%d", ",", header="t,x,y,p", comments=""
        )
    elif name.lower().endswith(".dat"):
        (split / "a_td.dat").rename(split / name)
    else:
        with h5py.File(split / name, "w") as file:
            for key in ("t", "x", "y", "p"):
                file[f"events/{key}"] = getattr(ev, key)
    if name != "a_td.dat":
        (split / "a_td.dat").unlink(missing_ok=True)
    (split / "README.txt").write_text("no recording")
    summary = run(tmp_path / "raw", tmp_path / "out")
    assert (summary.done, summary.without_labels) == (["val/a"], [])
    sequence = find_sequences(tmp_path / "out" / "val")[0]
    assert sequence.frames(0, len(sequence)).sum() > 2000


def test_without_a_recording_the_message_lists_what_is_there(tmp_path):
    split = tmp_path / "raw" / "val"
    write_raw(split, "seq", random_events(np.random.default_rng(0)), boxes_at(150_000))
    (split / "seq_td.dat").rename(split / "seq-events.dat")
    with pytest.raises(
        InputError, match=r"seq_td\.dat: no such file;.*; the folder has seq-events\.dat"
    ) as error:
        run(tmp_path / "raw", tmp_path / "out")
    assert error.value.summary.without_labels == ["val/seq-events"]
    (split / "seq-events.dat").unlink()
    with pytest.raises(InputError, match="the folder has nothing else"):
        run(tmp_path / "raw", tmp_path / "out")


# Labels


def test_what_became_of_boxes_is_told_for_each_set(raw, tmp_path):
    boxes = boxes_at(*range(120_000, END_US, 50_000), 133_000, 2_000_000, 3_000_000)
    boxes["w"][1] = 1
    np.save(raw / "val" / "c_bbox.npy", boxes)
    with pytest.warns(UserWarning, match="2 of 21 boxes lie after the last event"):
        summary = run(raw, tmp_path / "out")
    ((out, counts),) = summary.labels.items()
    assert out == tmp_path / "out"
    assert str(counts) == "21 boxes read, 17 kept; dropped: 1 too small, 2 without events, 1 off the grid"
    with pytest.warns(UserWarning, match=r"1 of 18 boxes are off the grid of 50 ms"):
        run(raw, tmp_path / "again")
    assert run(raw, tmp_path / "out").labels == {}, "nothing was read"


def test_labels_after_the_last_event_cost_no_windows(raw, tmp_path):
    """The sequence is that of the labels that have events, byte for byte."""
    times = range(120_000, END_US, 50_000)
    for name, more in (("short", ()), ("long", range(620_000, 50_000_000, 50_000))):
        write_raw(raw / "val", name, random_events(np.random.default_rng(0)), boxes_at(*times, *more))
    with pytest.warns(UserWarning, match="lie after the last event"):
        run(raw, tmp_path / "out", workers=2)
    long, short = (contents(tmp_path / "out" / "val" / name) for name in ("long", "short"))
    assert long == short


def test_a_clock_that_begins_late_gives_the_same_frames(raw, tmp_path):
    """DSEC's begin 14 hours in."""
    late = 49_599_300_523
    ev = random_events(np.random.default_rng(0))
    ev.t[0] = 0
    times = np.arange(120_000, END_US, 50_000)
    write_raw(raw / "val", "near", ev, boxes_at(*times))
    with h5py.File(raw / "val" / "late_td.h5", "w") as file:
        for key in ("t", "x", "y", "p"):
            file[f"events/{key}"] = getattr(ev, key) + (late if key == "t" else 0)
    np.save(raw / "val" / "late_bbox.npy", boxes_at(*(times + late)))
    run(raw, tmp_path / "out")
    _, late_made, near_made = find_sequences(tmp_path / "out" / "val")
    np.testing.assert_array_equal(late_made.timestamps_us - late, near_made.timestamps_us)
    np.testing.assert_array_equal(late_made.frames(0, len(late_made)), near_made.frames(0, len(near_made)))


def test_clocks_are_compared_before_any_frame_is_made(raw, tmp_path, monkeypatch):
    ev = random_events(np.random.default_rng(0))
    for path in raw.rglob("*_bbox.npy"):
        path.unlink()
    write_raw(raw / "val", "dsec", ev, boxes_at(49_599_300_523, 49_599_800_523))
    write_raw(raw / "val", "back", Events(ev.t + 3_600_000_000, ev.x, ev.y, ev.p), boxes_at(150_000, 200_000))
    monkeypatch.setattr("ssmbook.dataset.preprocessing.write_frames", None)
    with pytest.raises(SequencesFailed) as error:
        run(raw, tmp_path / "out")
    for reason in error.value.failures.values():
        assert reason.endswith("give both the same clock")


# One run at a time


def test_a_second_run_waits_and_finds_all_made(raw, tmp_path):
    with ThreadPoolExecutor(3) as pool:
        summaries = list(pool.map(lambda _: run(raw, tmp_path / "out", stride_ms=5), range(3)))
    names = ["train/a", "train/b", "val/c"]
    assert sorted((len(s.done), len(s.skipped)) for s in summaries) == [(0, 3), (0, 3), (3, 0)]
    assert all(sorted(s.done + s.skipped) == names for s in summaries)
    run(raw, tmp_path / "alone", stride_ms=5)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_set_that_is_whole_is_not_written_to(raw, tmp_path):
    run(raw, tmp_path / "out")
    with lock(tmp_path / "out", "tests"):  # as in a folder that cannot be written
        assert len(run(raw, tmp_path / "out").skipped) == 3


@pytest.mark.parametrize(
    "record",
    [
        *(b"", b"[]", b"3", b'"text"', b"null", b"\xff", b"[" * 99_999),
        *(b'{"sensor": 3}', b'{"representation": []}', b'{"\x1b[31m": 1}'),
    ],
)
def test_a_damaged_record_is_named_with_what_to_do(raw, tmp_path, record):
    run(raw, tmp_path / "out")
    (tmp_path / "out" / "preprocess.json").write_bytes(record)
    with pytest.raises(
        InputError, match=r"(preprocess\.json|out): .*in another folder|choose another"
    ) as error:
        run(raw, tmp_path / "out")
    assert len(str(error.value).removeprefix(str(tmp_path))) < 700
    assert str(error.value).isprintable()


def test_a_record_from_before_a_field_was_added_is_gone_on_with(raw, tmp_path):
    run(raw, tmp_path / "out")
    path = tmp_path / "out" / "preprocess.json"
    record = json.loads(path.read_text())
    del record["sensor"]["class_map"], record["sensor"]["label_times"]
    path.write_text(json.dumps(record))
    assert len(run(raw, tmp_path / "out").skipped) == 3
    with pytest.raises(InputError, match=r"sensor\.label_times: grid there, own asked"):
        run(raw, tmp_path / "out", sensor=replace(SENSOR, label_times="own"))


# Resuming


def test_a_killed_run_is_taken_up_where_it_was(raw, tmp_path):
    out = tmp_path / "out"
    run(raw, out)
    expected = contents(out)
    # As if killed while b was written: b is not there, but a part of it is.
    (out / "train" / "b").rename(out / "train" / ".b.0123.partial")
    made = (out / "train" / "a").stat().st_mtime_ns
    summary = run(raw, out)
    assert (summary.done, summary.skipped) == (["train/b"], ["train/a", "val/c"])
    assert contents(out) == expected
    assert (out / "train" / "a").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stride_ms": 25}, "stride_ms: 50 there, 25 asked"),
        ({"window_events": 100}, "window_events: None there, 100 asked; window_ms: 50 there, None asked"),
        ({"grid": "published"}, "grid: exact there, published asked"),
        ({"representation": "mixeddensity_stack"}, "representation"),
        ({"sensor": Sensor.simulated(WIDTH, HEIGHT, 100)}, "sensor.label_interval_ms: 50 there, 100 asked"),
    ],
)
def test_other_parameters_are_noticed(raw, tmp_path, change, named):
    run(raw, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=re.escape(named)):
        run(raw, tmp_path / "out", **change)
    assert contents(tmp_path / "out") == before


def test_parameters_of_which_nothing_came_give_way(raw, tmp_path):
    wrong = replace(SENSOR, width=SENSOR.width // 2)
    with pytest.raises(SequencesFailed):
        run(raw, tmp_path / "set", sensor=wrong)
    assert run(raw, tmp_path / "set").done
    with pytest.raises(InputError, match="made with other parameters"):
        run(raw, tmp_path / "set", sensor=wrong)


def test_the_record_says_what_the_set_was_made_with(raw, tmp_path):
    run(raw, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "preprocess.json").read_text())
    assert record["sensor"]["width"] == WIDTH
    assert (record["window_ms"], record["stride_ms"], record["grid"]) == (50, 50, "exact")


@pytest.mark.parametrize(
    ("made_with", "window"),
    [
        ({}, (40, None)),  # no record
        ({"grid": "exact", "window_ms": 30, "window_events": None}, (30, None)),
        ({"grid": "exact", "window_ms": None, "window_events": 100}, (None, 100)),
        ({"grid": "exact", "window_ms": None, "window_events": None}, (None, None)),  # traces
        ({"grid": "mixed", "window_ms": None, "window_events": None}, (40, None)),
        ({"grid": "mixed", "window_ms": 30, "window_events": None}, (30, None)),
        ({"grid": "mixed", "window_ms": None, "window_events": 100}, (None, 100)),
    ],
)
def test_the_window_of_a_set_is_that_of_its_record(tmp_path, made_with, window):
    if made_with:
        (tmp_path / "preprocess.json").write_text(json.dumps(made_with))
    assert recorded_window(tmp_path, 40) == window
    for name in ("window_ms", "window_events"):
        (tmp_path / "preprocess.json").write_text(json.dumps(made_with | {name: "x"}))
        with pytest.raises(InputError, match=f"{name} is 'x'; put the record back"):
            recorded_window(tmp_path, 40)


def test_a_set_of_unknown_making_is_left_alone(raw, tmp_path):
    (tmp_path / "out" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds a set but no preprocess\.json"):
        run(raw, tmp_path / "out")


# Bad input


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_sequence_does_not_stop_the_others(raw, tmp_path, workers):
    good = raw / "train" / "a_td.dat"
    (raw / "val" / "broken_td.dat").write_bytes(good.read_bytes()[:-3])
    np.save(raw / "val" / "broken_bbox.npy", boxes_at(150_000))
    np.save(raw / "val" / "lonely_bbox.npy", boxes_at(150_000))
    write_raw(raw / "val", "objects", random_events(np.random.default_rng(0)), None)
    np.save(raw / "val" / "objects_bbox.npy", np.array([{"t": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SequencesFailed, match="3 of 6 sequences failed") as error:
        run(raw, tmp_path / "out", workers=workers)
    assert set(error.value.failures) == {"val/broken", "val/lonely", "val/objects"}
    for name, reason in error.value.failures.items():
        assert name.split("/")[1] in reason
        assert "\n" not in reason
    assert error.value.summary.done == ["train/a", "train/b", "val/c"]
    assert sorted(p.name for p in (tmp_path / "out" / "val").iterdir()) == ["c"]


def test_an_event_outside_the_sensor_is_named_with_its_index(raw, tmp_path):
    ev = random_events(np.random.default_rng(0))
    with h5py.File(raw / "val" / "big_td.h5", "w") as file:
        x = ev.x.copy()
        x[1234:] = WIDTH  # more than the one in a thousand that is dropped
        for key, values in (("t", ev.t), ("x", x), ("y", ev.y), ("p", ev.p)):
            file[f"events/{key}"] = values
    np.save(raw / "val" / "big_bbox.npy", boxes_at(150_000))
    with pytest.raises(InputError, match=r"big_td\.h5: event 1234 ") as error:
        run(raw, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_events_and_labels_of_different_clocks_are_an_error(raw, tmp_path):
    """An hour apart, all that is labelled would be empty; a minute of silence is a scene."""
    ev = random_events(np.random.default_rng(0))
    late = Events(ev.t + 3_600_000_000, ev.x, ev.y, ev.p)
    write_raw(raw / "val", "late", late, boxes_at(*range(120_000, END_US, 50_000)))
    write_raw(raw / "val", "early", ev, boxes_at(100_000_000, 100_050_000))
    write_raw(raw / "val", "quiet", ev, boxes_at(*range(END_US, END_US + 30_000_000, 1_000_000)))
    with pytest.raises(SequencesFailed) as error:
        run(raw, tmp_path / "out")
    assert set(error.value.failures) == {"val/early", "val/late"}
    for reason in error.value.failures.values():
        assert re.search(
            r"_td\.dat: its events are from \d+ to \d+ µs, its labels from .* the same clock", reason
        )
    assert sorted(p.name for p in (tmp_path / "out" / "val").iterdir()) == ["c", "quiet"]


def test_a_file_of_another_size_is_an_error(raw, tmp_path):
    with pytest.raises(InputError, match=r"a_td\.dat.*width"):
        run(raw, tmp_path / "out", sensor=Sensor.simulated(2 * WIDTH, HEIGHT))


def test_recordings_without_boxes_count_as_without_labels(raw, tmp_path):
    (raw / "train" / "a_bbox.npy").unlink()
    assert run(raw, tmp_path / "out").without_labels == ["train/a"]


def test_a_raw_folder_without_sequences_is_an_error(raw, tmp_path):
    for path in raw.rglob("*_bbox.npy"):
        path.unlink()
    for folder in (tmp_path / "absent", raw, raw / "train"):
        with pytest.raises(InputError, match=re.escape(str(folder))):
            run(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_bad_sequences_of_gen1_are_left_out(raw, tmp_path):
    bad = "17-04-06_09-57-37_6344500000_6404500000"
    write_raw(raw / "val", bad, random_events(np.random.default_rng(0)), boxes_at(150_000))
    assert f"val/{bad}" not in run(raw, tmp_path / "out").done
    assert not (tmp_path / "out" / "val" / bad).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"representation": "histogram"},
        {"grid": "fine"},
        {"window_ms": 0},
        {"window_ms": 50, "window_events": 100},
        {"window_events": 0},
        {"window_events": 2.5},
        {"stride_ms": "50"},
        {"stride_ms": -1},
        {"stride_ms": 30, "grid": "published"},
        {"workers": 0},
        {"splits": ("tests",)},
        {"sensor": "gen3"},
    ],
)
def test_a_wrong_parameter_is_named_and_nothing_is_written(raw, tmp_path, wrong):
    with pytest.raises(InputError) as error:
        run(raw, tmp_path / "out", **wrong)
    assert "window_ms" in str(error.value) or str(next(iter(wrong.values()))).strip("(),") in str(error.value)
    assert not (tmp_path / "out").exists()

"""Traces in preprocessing: read at the ends, each event pushed once, in any blocks and threads."""

import numpy as np
import pytest

from ssmbook.dataset import Sensor, find_sequences, preprocess, preprocess_sets
from ssmbook.dataset.estimation import estimate
from ssmbook.dataset.windows import Readings
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, DatWriter, Events, Traces

W, H = 24, 16


def random_events(rng, count=3000, end_us=400_000):
    """Sorted events with many equal stamps."""
    t = np.sort(rng.integers(0, end_us // 100, size=count)) * 100
    return Events(t, rng.integers(0, W, count), rng.integers(0, H, count), rng.integers(0, 2, count))


def read_at(ev, t_us, **options):
    """The definition: all events up to a time, then a reading."""
    traces = Traces(H, W, **options)
    traces.push(ev[ev.t <= t_us])
    return traces.read(t_us)


@pytest.mark.parametrize("block", [1, 7, 100, 10_000])
def test_readings_equal_the_definition(block):
    ev = random_events(np.random.default_rng(block), 400, 40_000)
    # Before the first event, on stamps that several events share, and after the last one.
    ends = np.unique([-50, 0, *ev.t[::13], 39_999, 60_000, 10**6])
    readings = Readings(ends, Traces(H, W))
    frames = [f for i in range(0, len(ev), block) for f in readings.push(ev[i : i + block])]
    frames += [*readings.push(Events.empty()), *readings.finish()]
    assert readings.done
    assert len(frames) == len(ends)
    for end, frame in zip(ends.tolist(), frames, strict=True):
        assert np.array_equal(frame, read_at(ev, end)), end


@pytest.fixture
def raw(tmp_path):
    ev = random_events(np.random.default_rng(0))
    (tmp_path / "raw" / "test").mkdir(parents=True)
    with DatWriter(tmp_path / "raw" / "test" / "a_td.dat", W, H) as file:
        file.write(ev)
    boxes = np.zeros(5, BOX_DTYPE)
    boxes["t"] = 120_000 + 50_000 * np.arange(5)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 3, 4, 10, 10
    np.save(tmp_path / "raw" / "test" / "a_bbox.npy", boxes)
    return tmp_path / "raw", ev


@pytest.mark.parametrize("downsample", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_set_of_traces(raw, tmp_path, downsample, workers):
    folder, ev = raw
    sensor = Sensor("small", W, H, ("car",), label_interval_ms=50, downsample=downsample)
    sets = {
        tmp_path / "traces": {"representation": "traces", "stride_ms": 10},
        tmp_path / "histogram": {"representation": "stacked_histogram"},
    }
    cost = estimate(folder, sets, sensor)[tmp_path / "traces"]
    assert preprocess_sets(folder, sets, sensor, workers=workers, progress=False).done == ["test/a"]
    (sequence,) = find_sequences(tmp_path / "traces" / "test")
    assert sequence.path.parent.name == "traces_taus=2.5-5-10-20"
    assert (len(sequence), sequence.dtype) == (cost.windows, np.uint8)
    assert cost.bytes_out > 0
    for k, end in enumerate(sequence.timestamps_us.tolist()):
        assert np.array_equal(sequence.frames(k, k + 1)[0], read_at(ev, end, halve=downsample)), k
    sequence.close()


def test_traces_have_no_window(raw, tmp_path):
    for window in ({"window_ms": 50}, {"window_events": 500}):
        with pytest.raises(InputError, match="traces have no window"):
            preprocess(raw[0], tmp_path / "out", representation="traces", **window, progress=False)
    assert not (tmp_path / "out").exists()

"""Live detection equals the evaluation of the same recording, and holds no more than a window."""

import tracemalloc

import numpy as np
import pytest
import torch

from ssmbook.dataset import EvaluationStreams, Sensor, find_sequences, preprocess, window_and_stride
from ssmbook.detector import TrainedOn
from ssmbook.detector.recurrences import tensors_of
from ssmbook.errors import InputError
from ssmbook.evaluation import evaluate
from ssmbook.events import BOX_DTYPE, DatWriter, Events, StackedHistogram, open_events
from ssmbook.live import StreamingDetector, detect_recording
from ssmbook.live.folding import fold
from ssmbook.live.windows import EventWindows
from tests.detector.test_model import make

SIZE, END_US = 64, 400_000
SENSOR = Sensor.simulated(SIZE, SIZE, label_interval_ms=50)


def random_events(count=6000, start_us=0, end_us=END_US, seed=0):
    """Sorted events with equal stamps, and some that lie on the edges of windows."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(start_us // 50, end_us // 50, size=count)) * 50
    x, y, p = (rng.integers(0, size, size=count) for size in (SIZE, SIZE, 2))
    return Events(t, x, y, p)


def model_of(recurrence="s5", **options):
    """In float64, as if trained: statistics of BatchNorm, and scores that count."""
    model = make(recurrence=recurrence, **options).double()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(m.running_mean, std=0.1)
            torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
    for layer in (*model.head.class_out, *model.head.objectness_out):
        torch.nn.init.zeros_(layer.bias)  # scores around a quarter
    return model


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A raw set of one recording, labelled every 50 ms from 120 ms on."""
    folder = tmp_path_factory.mktemp("raw")
    (folder / "test").mkdir()
    with DatWriter(folder / "test" / "a_td.dat", SIZE, SIZE) as file:
        file.write(random_events())
    boxes = np.zeros(6, BOX_DTYPE)
    boxes["t"] = 120_000 + 50_000 * np.arange(6)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 3, 4, 20, 22
    np.save(folder / "test" / "a_bbox.npy", boxes)
    return folder


def pieces(events, size):
    return [events[i : i + size] for i in range(0, len(events), size)]


@pytest.mark.parametrize(
    ("mode", "rate_hz", "follow"),
    [
        ("sliding", 20, False),  # where the modes are one
        ("held", 40, True),
        ("true", 40, True),
        ("sliding", 40, True),
        ("held", 200, False),
        ("true", 200, True),
        ("sliding", 200, False),
    ],
)
def test_streaming_equals_the_evaluation_of_the_recording(raw, tmp_path, mode, rate_hz, follow):
    window_ms, stride_ms = window_and_stride(mode, rate_hz)
    preprocess(
        raw, tmp_path, SENSOR, window_ms=window_ms, stride_ms=stride_ms, splits=["test"], progress=False
    )
    (sequence,) = find_sequences(tmp_path / "test")
    model = model_of()
    batches = EvaluationStreams([sequence], 5, 1)
    begin = max(0, int(sequence.label_frames[0]) - 4)
    expected = evaluate(model, batches, SENSOR, step_scale=20 / rate_hz if follow else 1.0).detections

    stream = StreamingDetector(
        model,
        SENSOR,
        rate_hz=rate_hz,
        mode=mode,
        follow=follow,
        confidence=0.001,
        first_end_us=int(sequence.timestamps_us[begin]),
    )
    found = dict(d for piece in pieces(random_events(), 701) for d in stream.push(piece))
    found |= dict(stream.push(Events.empty(), now_us=END_US))
    assert set(sequence.timestamps_us[begin:].tolist()) <= set(found)
    assert sum(map(len, expected)) > 100
    for boxes in expected:
        mine = found[int(boxes["t"][0])]
        assert len(mine) == len(boxes)
        for name in BOX_DTYPE.names:
            np.testing.assert_allclose(mine[name], boxes[name], rtol=1e-5, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("mode", "rate_hz", "window_ms", "stride_ms"),
    [("sliding", None, 30, 25), ("sliding", 80, 30, 12.5), ("true", 80, 15, 12.5), ("held", 80, 15, 25)],
)
def test_a_rate_is_relative_to_that_of_training(raw, tmp_path, mode, rate_hz, window_ms, stride_ms):
    """Of a network that was trained on windows of 30 ms, one every 25 ms, as its checkpoint says."""
    preprocess(
        raw, tmp_path, SENSOR, window_ms=window_ms, stride_ms=stride_ms, splits=["test"], progress=False
    )
    (sequence,) = find_sequences(tmp_path / "test")
    model = model_of()
    model.trained_on = TrainedOn(window_ms=30, stride_us=25_000)
    batches = EvaluationStreams([sequence], 5, 1)
    begin = max(0, int(sequence.label_frames[0]) - 4)
    expected = evaluate(model, batches, SENSOR, step_scale=1.0 if rate_hz is None else 0.5).detections
    stream = StreamingDetector(
        model,
        SENSOR,
        rate_hz=rate_hz,
        mode=mode,
        confidence=0.001,
        first_end_us=int(sequence.timestamps_us[begin]),
    )
    found = dict(stream.push(random_events()) + stream.push(Events.empty(), now_us=END_US))
    assert sum(map(len, expected)) > 100
    for boxes in expected:
        mine = found[int(boxes["t"][0])]
        assert len(mine) == len(boxes)
        np.testing.assert_allclose(mine["x"], boxes["x"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rate_hz", [20, 100])
@pytest.mark.parametrize("recurrence", ["s5", "s5-selective", "convlstm"])
def test_after_windows_that_were_left_out_a_step_is_as_long_as_the_time_that_passed(recurrence, rate_hz):
    model, strides = model_of(recurrence), np.array([1, 2, 6, 7, 11])
    frames = torch.randint(0, 4, (5, 20, SIZE, SIZE), dtype=torch.uint8)
    scale = torch.tensor([1.0, 1, 4, 1, 4], dtype=torch.float64)[:, None] * 20 / rate_hz
    with torch.no_grad():
        expected = model.predict(model.features(frames[:, None], step_scale=scale)[0])[:, 0]
    for follow in (True, False):
        stream, found = StreamingDetector(model, SENSOR, rate_hz=rate_hz, mode="sliding", follow=follow), []
        run = stream.step.run
        stream.step.run = lambda *given, run=run, found=found: found.append(run(*given)) or found[-1]
        for _ in range(2):  # the second time after a reset
            for frame, k in zip(frames, strides, strict=True):
                stream.push_frame(frame, int(k) * 1_000_000 // rate_hz)
            stream.reset()
        for (got, _), wanted in zip(found, [*expected, *expected], strict=True):
            if follow:
                torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
        if not follow and recurrence != "convlstm":
            assert (found[2][0] - expected[2]).abs().max() > 1e-7


def test_folding_leaves_the_model_and_its_predictions():
    model = model_of().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = fold(model)
    assert model.training
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    x = torch.randint(0, 4, (2, 1, 20, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        expected = model.eval().predict(model.features(x)[0])
        torch.testing.assert_close(folded.predict(folded.features(x)[0]), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [1, 13, 500, 10_000])
@pytest.mark.parametrize(
    ("window_us", "stride_us"), [(3000, 3000), (500, 3000), (5000, 1000), (3000, 2000 / 3)]
)
def test_windows_equal_the_definition(size, window_us, stride_us):
    events = random_events(800, 7_000, 40_000, seed=size)
    cut = EventWindows(window_us, stride_us, first_end_us=7_500)
    found = []
    for piece in pieces(events, size):
        found += cut.push(piece)
        least = cut.next_end_us - window_us
        assert cut.held <= np.count_nonzero(events.t >= least)
    found += cut.push(Events.empty(), now_us=41_000)
    assert [end for end, _ in found] == [7_500 + round(k * stride_us) for k in range(len(found))]
    assert 41_000 - stride_us - 1 < found[-1][0] <= 41_000
    for end, window in found:
        inside = (end - window_us <= events.t) & (events.t <= end)
        for name in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(getattr(window, name), getattr(events, name)[inside])


def test_the_first_window_is_full_and_quiet_ones_are_empty():
    cut = EventWindows(1000, 1000)
    assert list(cut.push(Events.empty(), now_us=5000)) == []
    event = random_events(1, 9000, 9050)
    assert list(cut.push(event)) == []
    assert [(end, len(w)) for end, w in cut.push(Events.empty(), now_us=12_500)] == [
        (10_000, 1),
        (11_000, 0),
        (12_000, 0),
    ]


def test_a_late_event_counts_at_the_latest_time():
    late = Events(*(np.array(v) for v in ([100, 900, 300, 1100], [0, 1, 2, 3], [0] * 4, [1] * 4)))
    (window,) = [w for _, w in EventWindows(1000, 1000, 1000).push(late)]
    assert window.t.tolist() == [100, 900, 900]
    assert window.x.tolist() == [0, 1, 2]

    cut = EventWindows(1000, 1000, 1000)
    found = [*cut.push(late[:2]), *cut.push(late[2:3]), *cut.push(late[3:])]  # the same in pieces
    assert found[0][1].t.tolist() == [100, 900, 900]


def ticks(start_us, end_us):
    t = np.arange(start_us, end_us, 1000)
    return Events(t, t % 7, t % 5, t % 2)


@pytest.mark.parametrize("back_us", [100_001, 5_000_000, 59_000_000])
def test_a_clock_that_goes_back_is_an_error_and_changes_nothing(back_us):
    cut = EventWindows(5000, 5000)
    list(cut.push(ticks(60_000_000, 60_300_000)))
    held, end = cut.held, cut.next_end_us
    start = 60_299_000 - back_us
    for _ in range(3):
        with pytest.raises(InputError, match=rf"goes back from 60299000 to {start} µs; reset the stream"):
            list(cut.push(ticks(start, start + 1)))
        assert (cut.held, cut.next_end_us) == (held, end)
    assert [window[0] for window in cut.push(ticks(60_300_000, 60_306_000))] == [end]


def test_stale_events_among_others_are_dropped_and_counted():
    cut, plain = EventWindows(5000, 5000), EventWindows(5000, 5000)
    got, want = [], []
    for k in range(10):
        piece = ticks(k * 100_000 + 500_000, (k + 1) * 100_000 + 500_000)
        old = ticks(k * 10, k * 10 + 3000)
        mixed = Events.concatenate([piece[:50], old[: 3 if k else 0], piece[50:]])
        got += [len(window) for _, window in cut.push(mixed)]
        want += [len(window) for _, window in plain.push(piece)]
    assert (got, cut.stale) == (want, 27)


def test_a_clock_that_stands_still_is_told(monkeypatch):
    monkeypatch.setattr("ssmbook.live.windows.MAX_HELD", 1000)
    cut = EventWindows(5000, 5000)
    still = Events(np.full(400, 7), np.zeros(400, int), np.zeros(400, int), np.zeros(400, int))
    list(cut.push(still))
    list(cut.push(still))
    with pytest.raises(InputError, match=r"1,200 events wait for the clock to pass 5007 µs"):
        list(cut.push(still))
    assert cut.held == 800


def test_memory_does_not_grow():
    stream = StreamingDetector(model_of().float(), SENSOR, rate_hz=40, mode="sliding", confidence=0.5)
    sizes, held, states = [], [], []
    tracemalloc.start()
    for k in range(30):
        piece = random_events(400, k * 25_000, (k + 1) * 25_000, seed=k)
        stream.push(piece)
        if k >= 10:
            sizes.append(tracemalloc.get_traced_memory()[0])
            held.append(stream.windows.held)
            states.append(sum(s.numel() for s in tensors_of(stream.step.states)))
    tracemalloc.stop()
    assert len(set(states)) == 1
    assert max(held) <= 400 * 3  # a window and a stride
    assert max(sizes[10:]) < max(sizes[:10]) + 20_000


def test_an_empty_window_is_a_frame_of_zeros():
    model = model_of()
    stream = StreamingDetector(model, SENSOR, confidence=0.0, first_end_us=50_000)
    (found,) = stream.push(Events.empty(), now_us=50_000)
    expected = StreamingDetector(model, SENSOR, confidence=0.0).push_frame(
        np.zeros((20, SIZE, SIZE), np.uint8), 0
    )
    assert found.t_us == 50_000
    assert len(found.boxes) == len(expected.boxes) > 0
    np.testing.assert_array_equal(found.boxes["x"], expected.boxes["x"])


class EventStore:
    """In the place of dv-processing's, whose ``numpy()`` has these fields."""

    def __init__(self, events):
        fields = [("timestamp", "<i8"), ("x", "<i2"), ("y", "<i2"), ("polarity", "i1")]
        self.array = np.empty(len(events), fields)
        for name, column in zip(
            self.array.dtype.names, (events.t, events.x, events.y, events.p), strict=True
        ):
            self.array[name] = column

    def numpy(self):
        return self.array


def metavision_array(events):
    """As Metavision's EventsIterator gives it."""
    array = np.empty(len(events), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name in "xypt":
        array[name] = getattr(events, name)
    return array


@pytest.mark.parametrize("form", [EventStore, metavision_array])
def test_arrays_of_the_cameras_libraries_are_taken(form):
    events = random_events()
    stream = StreamingDetector(model_of(), SENSOR, confidence=0.01)
    wanted = stream.push(events)
    stream.reset()
    found = [each for piece in pieces(events, 701) for each in stream.push(form(piece))]
    assert [each.t_us for each in found] == [each.t_us for each in wanted]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
    with pytest.raises(InputError, match="ndarray without fields; give Events, or a structured array"):
        stream.push(np.zeros((5, 4)))


def test_reset_begins_anew():
    stream = StreamingDetector(model_of(), SENSOR, confidence=0.01)
    events = random_events()
    first = stream.push(events)
    stream.reset()
    again = stream.push(events)
    assert len(first) == len(again) > 3
    for a, b in zip(first, again, strict=True):
        assert a.t_us == b.t_us
        np.testing.assert_array_equal(a.boxes, b.boxes)


def test_halved_frames_keep_odd_pixels():
    sensor = Sensor("twice", 2 * SIZE, 2 * SIZE, ("car", "pedestrian"), downsample=True)
    events = Events(*(np.array(v) for v in ([0, 10, 60_000], [3, 4, 0], [5, 5, 0], [1, 1, 1])))
    stream = StreamingDetector(model_of(), sensor, confidence=0.0)
    (found,) = stream.push(events)
    frame = StackedHistogram(height=2 * SIZE, width=2 * SIZE)(events[:2])[:, 1::2, 1::2]
    assert frame.sum() == 1
    expected = StreamingDetector(model_of(), sensor, confidence=0.0).push_frame(frame.copy(), 0)
    np.testing.assert_array_equal(found.boxes["x"], expected.boxes["x"])


def test_bad_input_is_named_and_changes_nothing():
    stream = StreamingDetector(model_of(), SENSOR)
    events = random_events(50, 0, 40_000)
    stream.push(events)
    outside = Events(events.t[-1:] + 50_000, np.array([64]), np.array([0]), np.array([1]))
    with pytest.raises(InputError, match="x = 64, outside the sensor's 64 px"):
        stream.push(outside)
    jump = Events(np.array([10**15]), np.array([0]), np.array([0]), np.array([1]))
    with pytest.raises(InputError, match="jump"):
        stream.push(jump)
    assert stream.windows.held == 50
    with pytest.raises(InputError, match="-5"):
        StreamingDetector(model_of(), SENSOR).push(Events(np.array([-5]), *(np.array([0]),) * 3))
    with pytest.raises(InputError, match="a frame must be"):
        stream.push_frame(np.zeros((20, 8, 8), np.uint8), 0)
    for options, message in (
        ({"rate_hz": 0}, "rate_hz"),
        ({"mode": "fast"}, "'fast'"),
        ({"representation": "voxels"}, "'voxels'"),
        ({"shrink": 1.5}, "1.5 times smaller than 64 × 64 px; give shrink as a whole number from 1 to 32"),
    ):
        with pytest.raises(InputError, match=message):
            StreamingDetector(model_of(), SENSOR, **options)
    with pytest.raises(InputError, match="do not fit"):
        StreamingDetector(model_of(), Sensor.simulated(65, 64))


@pytest.mark.parametrize("shrink", [1, 2])
def test_a_refused_first_push_leaves_the_stream_as_it_was(shrink):
    stream = StreamingDetector(model_of(), SENSOR, shrink=shrink)
    for stamps, message in (
        ([90_000_000, 5], "goes back from 90000000 to 5"),
        ([0, 90_000_000], "jump from"),
        ([-5, 7], "first stamp is -5"),
    ):
        with pytest.raises(InputError, match=message):
            stream.push(Events(np.array(stamps), *(np.ones(2, int),) * 3))
        assert (stream.windows.next_end_us, stream.windows.held) == (None, 0)
    assert stream.push(random_events(50, 0, 40_000)) == []
    assert 50_000 <= stream.windows.next_end_us < 60_000


def test_a_network_trained_on_counted_windows_is_refused():
    model = model_of()
    model.trained_on = TrainedOn(window_events=100, stride_us=25_000)
    with pytest.raises(
        InputError, match=r"windows of 100 events, but .* evaluate it on its preprocessed set"
    ):
        StreamingDetector(model, SENSOR)


def test_a_long_time_of_few_events_is_no_jump():
    windows = EventWindows(50_000, 50_000)

    def at(*stamps):
        return Events(np.array(stamps), *(np.zeros(len(stamps), int),) * 3)

    assert list(windows.push(at(0))) == []
    assert len(list(windows.push(at(*range(0, 180_000_000, 1_000_000))))) == 3579
    with pytest.raises(InputError, match="jump from 180000000 to 250000000 µs"):
        windows.push(at(180_000_000, 250_000_000))


def test_a_recording_may_be_quiet_for_longer_than_a_live_stream(tmp_path):
    t = np.array([0, 10, 120_000_000, 120_000_010])
    with DatWriter(tmp_path / "a.dat", SIZE, SIZE) as file:
        file.write(Events(t, *(np.ones(4, int),) * 3))
    stream = StreamingDetector(model_of(), SENSOR, rate_hz=1)
    with open_events(tmp_path / "a.dat") as recording:
        found = list(detect_recording(stream, recording, progress=False))
    assert len(found) == 120


def test_nan_is_named_with_its_window():
    stream = StreamingDetector(model_of(), SENSOR)
    frame = torch.zeros(stream.step.frame.shape[2:])
    frame[0, 3, 3] = float("nan")
    with pytest.raises(InputError, match="window that ends at 50000 µs holds NaN"):
        stream.push_frame(frame, 50_000)
    assert len(stream.push_frame(frame.nan_to_num(), 50_000).boxes) >= 0  # its state is untouched
    model = model_of()
    with torch.no_grad():
        model.backbone.stages[0].recurrence.layer.Lambda[0, 0] = float("nan")
    stream = StreamingDetector(model, SENSOR)
    with pytest.raises(InputError, match=r"ends at 50000 µs predictions hold NaN .*diverged"):
        stream.push_frame(frame.nan_to_num(), 50_000)

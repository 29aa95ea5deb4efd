"""Each representation goes all the way by its name: preprocessed, trained on, evaluated, run live, timed, exported.

So does one that this file adds: a class and an entry of the registry.
"""

import json
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from training_set import SENSOR, SIZE, TRAINING, make_set

from ssmbook.cli import main
from ssmbook.dataset import find_sequences, preprocess
from ssmbook.detector import PRESETS, Detector, input_sizes, load_checkpoint
from ssmbook.errors import InputError
from ssmbook.events import (
    BOX_DTYPE,
    REPRESENTATIONS,
    Events,
    Representation,
    Traces,
    open_events,
    read_boxes,
)
from ssmbook.events.representations.traces import TAUS_MS
from ssmbook.live import StreamingDetector
from ssmbook.live.export import step_and_arguments
from ssmbook.study.arms import Arm, Profile
from ssmbook.study.workspace import Workspace

THEN = [2.5, 5.0, 10.0, 20.0, 40.0]  # the default before records had options
OTHERS = [*(name for name in REPRESENTATIONS if name != "stacked_histogram"), "signs"]


class Signs(Representation):
    """One where a window has an event of a polarity: uint8 [2, H, W]."""

    name, dtype, windowed = "signs", np.dtype(np.uint8), True
    channels, options = 2, MappingProxyType({})

    def __init__(self, height, width, halve=False):
        self.height, self.width, self.halve = height, width, halve

    def write_frame(self, parts, t_us, out):
        out[:] = 0
        for ev in parts:
            out[ev.p, ev.y, ev.x] = 1

    def advance(self, parts):
        raise TypeError("it has windows")

    def reset(self):
        pass

    def folder_name(self, window_ms=None, window_events=None):
        return f"signs_dt={window_ms:g}"


@pytest.fixture(scope="module", autouse=True)
def signs():
    REPRESENTATIONS["signs"] = Signs
    yield
    del REPRESENTATIONS["signs"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """The workspace of a representation, trained for a step."""
    folder = tmp_path_factory.mktemp("data")
    made = make_set(folder)
    made.rename(folder / "not_it")  # the workspace makes its own
    training = replace(TRAINING, steps=1, validate_every=1, sampling="random", augment=True)
    profile = Profile("tiny", SENSOR, "sim-smoke", training, (Arm("s5", "sliding"),))
    return lambda name: Workspace(profile, folder, workers=1, representation=name)


@pytest.mark.parametrize("name", OTHERS)
def test_all_the_way(workspace, name, tmp_path, capsys):
    book, kind = workspace(name), REPRESENTATIONS[name]
    path = book.train()
    assert name in path.parent.name
    model = load_checkpoint(path).eval()
    record = model.trained_on
    assert (record.representation, record.sensor, record.stride_us) == (name, SENSOR, 50_000)
    assert dict(record.options) == dict(kind.for_sensor(SENSOR).options)
    assert record.window_ms == (50 if kind.windowed else None)
    assert model.in_channels == kind.for_sensor(SENSOR).channels

    data = book.preprocessed()
    assert main(["evaluate", str(path), "--data", str(data), "--split", "val", "--device", "cpu"]) == 0
    recording = next((book.folder / "raw" / "val").glob("*.dat"))
    out, video = tmp_path / "a_bbox.npy", tmp_path / "a.gif"
    shown = ["--video", str(video)] if name == "signs" else []  # what is drawn of each, other tests look at
    assert main(["detect", str(recording), str(path), "--out", str(out), *shown]) == 0
    assert read_boxes(out).dtype == BOX_DTYPE
    assert video.exists() == bool(shown)
    assert (
        main(["time", str(path), "--windows", "1", "--recording", str(recording), "--runtime", "torch"]) == 0
    )
    assert "network" in capsys.readouterr().out
    frame = step_and_arguments(model, (SIZE, SIZE), 1, 1.0)[1][0]  # with which it is exported
    assert (frame.shape[1], frame.numpy().dtype) == (model.in_channels, kind.dtype)

    other = preprocess_other(book, tmp_path / "other")
    assert main(["evaluate", str(path), "--data", str(other), "--split", "val", "--device", "cpu"]) == 1
    assert "trained" in capsys.readouterr().err


def test_options_reach_the_set_the_network_and_the_checkpoint(workspace):
    plain = workspace("traces")
    taus = {"taus_ms": [5.0, 20.0]}
    book = Workspace(replace(plain.profile, representation_options=taus), plain.folder, workers=1)
    path = book.train()
    assert "taus_ms=5-20" in path.parent.name
    assert load_checkpoint(path).in_channels == 4
    assert dict(load_checkpoint(path).trained_on.options) == taus
    assert find_sequences(book.preprocessed() / "val")[0].shape[0] == 4
    assert book.preprocessed() != plain.preprocessed()
    assert book.with_representation("traces") is book
    usual = replace(plain.profile, representation_options={"taus_ms": list(TAUS_MS)})
    assert Workspace(usual, plain.folder).run() == plain.run()
    assert not book.with_representation("stacked_histogram").profile.representation_options
    with pytest.raises(InputError, match=r"options.taus_ms: \[.*\] there, \[5.0, 20.0\] asked"):
        preprocess(book.raw(), plain.preprocessed(), SENSOR, "traces", options=taus, progress=False)


def test_a_record_without_options_is_of_the_time_constants_of_then(workspace, tmp_path):
    book = workspace("traces")
    preprocess(book.raw(), tmp_path / "set", SENSOR, "traces", splits=["val"], progress=False)
    record = tmp_path / "set" / "preprocess.json"
    content = json.loads(record.read_text())
    del content["options"]
    record.write_text(json.dumps(content))
    again = {"splits": ["val"], "progress": False}
    preprocess(book.raw(), tmp_path / "set", SENSOR, "traces", options={"taus_ms": THEN}, **again)
    if list(TAUS_MS) != THEN:
        with pytest.raises(InputError, match="taus_ms"):
            preprocess(book.raw(), tmp_path / "set", SENSOR, "traces", **again)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"taus": [5]}, "traces has no option taus; it has taus_ms"),
        ({"taus_ms": 5}, "traces: options {'taus_ms': 5} are of wrong types"),
        ({"taus_ms": ["fast"]}, "traces: options .* are of wrong types"),
        ({"taus_ms": [5, 2]}, "taus_ms = .* increasing"),
    ],
)
def test_options_that_are_none_are_refused(workspace, options, words):
    plain = workspace("traces")
    with pytest.raises(InputError, match=words):
        Workspace(replace(plain.profile, representation_options=options), plain.folder)


def preprocess_other(book, folder):
    preprocess(book.raw(), folder, SENSOR, "stacked_histogram", splits=["val"], progress=False)
    return folder


@pytest.mark.parametrize("name", OTHERS)
def test_frames_of_a_stream_are_those_of_the_set(workspace, name):
    book = workspace(name)
    model = book.new_model().eval()
    (sequence,) = find_sequences(book.preprocessed() / "test")
    recording = next((book.folder / "raw" / "test").glob("*.dat"))
    first = int(sequence.timestamps_us[0])
    stream = StreamingDetector(model, SENSOR, representation=name, first_end_us=first)
    with open_events(recording) as file:
        events = file.read(0, 10**9)
    for _ in range(2):  # and again after a reset
        frames = {}
        for i in range(0, len(events), 97):
            frames |= dict(stream.frames(events[i : i + 97]))
        frames |= dict(stream.frames(events[:0], now_us=int(sequence.timestamps_us[-1])))
        for k, end in enumerate(sequence.timestamps_us.tolist()):
            assert np.array_equal(frames[end], sequence.frames(k, k + 1)[0]), (k, end)
        stream.reset()
    sequence.close()


def detector(channels):
    sizes = input_sizes(SIZE, SIZE)
    return Detector(**{**PRESETS["sim-smoke"], **sizes, "num_classes": 2, "in_channels": channels})


def test_traces_stream_at_any_rate():
    # At 200 Hz each event is pushed once, and what is read is the same function of the past.
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 400_000, 4_000))
    events = Events(t, *(rng.integers(0, size, 4_000) for size in (SIZE, SIZE, 2)))
    streams = [
        StreamingDetector(
            detector(8), SENSOR, rate_hz=rate, representation="traces", first_end_us=1_000_000 // rate
        )
        for rate in (20, 200)
    ]
    at_20, at_200 = (
        dict(pair for i in range(0, 4_000, 61) for pair in stream.frames(events[i : i + 61]))
        for stream in streams
    )
    assert set(at_20) < set(at_200)
    assert (len(at_20), len(at_200)) == (7, 79)
    for end, frame in at_20.items():
        assert np.array_equal(frame, at_200[end])
    whole = Traces(SIZE, SIZE)
    whole.push(events[events.t <= 200_000])
    assert np.array_equal(at_200[200_000], whole.read(200_000))
    with pytest.raises(InputError, match="traces has 8 channels, but the model takes 20"):
        StreamingDetector(detector(20), SENSOR, representation="traces")

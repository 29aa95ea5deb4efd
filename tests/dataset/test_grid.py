"""The grid of a set is found, reported, and followed by what depends on a rate."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from busy import busy_detector, random_sequence
from sequence_files import NAME, write
from training_set import SENSOR, TRAINING, data_module, make_set

from ssmbook.cli import main
from ssmbook.dataset import EvaluationStreams, describe, find_sequences, stride_of
from ssmbook.detector import PRESETS, Detector, nms, save_checkpoint
from ssmbook.detector.checkpoint import read_checkpoint
from ssmbook.errors import InputError
from ssmbook.evaluation import StreamingEvaluator, evaluate, to_boxes
from ssmbook.study import evaluate_checkpoint
from ssmbook.training import train


def set_ends(folder, number, ends_us):
    np.save(folder / f"seq{number}" / "event_representations_v2" / NAME / "timestamps_us.npy", ends_us)


def test_the_grid_of_a_set_is_reported(tmp_path):
    write(tmp_path, 0, {1: 1, 8: 1}, 9)
    write(tmp_path, 1, {0: 2}, 1)
    set_ends(tmp_path, 0, 125_000 * np.array([1, 2, 3, 4, 5, 6, 7, 9, 10]))
    sequences = find_sequences(tmp_path)
    assert stride_of(sequences) == 125_000
    assert stride_of(sequences[1:]) is None
    assert describe(sequences) == (
        "2 sequences, 10 windows of 50 ms every 125 ms (8 Hz) but for 1 steps of 250 to 250 ms, 3 of them labelled"
    )
    assert describe(sequences[1:]) == "1 sequences, 1 windows of 50 ms, 1 of them labelled"


def test_most_steps_are_the_stride(tmp_path):
    """On the published grid of Gen1, windows are 50 ms apart before the first label and 125 ms after it."""
    for number, before in enumerate((3, 30, 2)):
        write(tmp_path, number, {before: 1}, 40)
        set_ends(tmp_path, number, np.cumsum([50_000] * before + [125_000] * (40 - before)))
    sequences = find_sequences(tmp_path)
    assert [sequence.stride_us for sequence in sequences] == [125_000, 50_000, 125_000]
    assert stride_of(sequences) == 125_000
    assert "120 windows of 50 ms every 125 ms (8 Hz) but for 32 steps of 50 to 50 ms" in describe(sequences)


def test_a_set_without_a_grid_has_no_stride(tmp_path):
    write(tmp_path, 0, {1: 1}, 8)
    set_ends(tmp_path, 0, 1000 * np.cumsum([1, 1, 2, 4, 8, 16, 32, 64]))
    assert stride_of(find_sequences(tmp_path)) is None
    assert "8 windows of 50 ms 1 to 64 ms apart" in describe(find_sequences(tmp_path))


@pytest.mark.parametrize(
    ("name", "words"), [("stacked_histogram_ne=50000_nbins=10", " of 50,000 events"), ("mine", "")]
)
def test_windows_are_as_long_as_their_name_says(tmp_path, name, words):
    write(tmp_path, 0, {1: 1}, 2)
    inside = tmp_path / "seq0" / "event_representations_v2"
    (inside / NAME).rename(inside / name)
    assert f"2 windows{words} every 1 ms (1e+03 Hz)" in describe(find_sequences(tmp_path))


@pytest.fixture(scope="module")
def slow_set(tmp_path_factory):
    """Windows every 125 ms; in one sequence, time is missing within a chunk and between two."""
    folder = tmp_path_factory.mktemp("slow") / "test"
    folder.mkdir()
    steps = np.full(10, 125_000)
    random_sequence(folder, "plain", 500_000 + np.cumsum(steps), 0)
    steps[[4, 8]] = 1_000_000, 250_000
    random_sequence(folder, "gaps", 500_000 + np.cumsum(steps), 1)
    return folder


def detect_step_by_step(model, sequence, length, trained_us):
    """What a loop over single windows finds at the labelled ones, and the states at the end."""
    begin, states, found = max(0, int(sequence.label_frames[0]) - (length - 1)), None, []
    ends = sequence.timestamps_us.tolist()
    for k in range(begin, len(ends)):
        scale = (ends[k] - ends[k - 1] if k else sequence.stride_us) / trained_us
        frame = torch.from_numpy(sequence.frames(k, k + 1))[:, None]
        with torch.no_grad():
            features, states = model.features(frame, states, scale)
            if k in sequence.label_frames:
                found += to_boxes(nms(model.predict(features), 0.001), [ends[k]])
    return found, states


@pytest.mark.parametrize("recurrence", ["s5", "s4d", "s4"])
def test_following_equals_a_loop_with_the_length_of_each_step(slow_set, recurrence):
    model = busy_detector(recurrence)
    sequences = find_sequences(slow_set)  # gaps, plain
    evaluator = StreamingEvaluator(model, SENSOR, trained_us=50_000)
    streams = EvaluationStreams(sequences, 4, 2)
    for batch in streams:
        evaluator.push(batch)
    result = evaluator.result()
    wanted = [boxes for s in sequences for boxes in detect_step_by_step(model, s, 4, 50_000)[0]]
    assert sum(map(len, wanted)) > 50
    for found, boxes in zip(result.detections, wanted, strict=True):
        assert len(found) == len(boxes)
        for name in ("t", "x", "y", "w", "h", "class_id", "class_confidence"):
            np.testing.assert_allclose(found[name], boxes[name], rtol=1e-5, atol=1e-4)
    still = evaluate(model, streams, SENSOR)
    assert any(
        len(a) != len(b) or not np.allclose(a["x"], b["x"], atol=1e-2)
        for a, b in zip(result.detections, still.detections, strict=True)
    )


def test_states_after_a_gap_are_those_of_the_loop(slow_set):
    """In float64, to rounding; chunks of 5 windows end with the sequences."""
    model, sequences = busy_detector(), find_sequences(slow_set)
    evaluator = StreamingEvaluator(model, SENSOR, trained_us=50_000)
    streams = EvaluationStreams(sequences, 5, 2)
    for batch in streams:
        evaluator.push(batch)
    for slot, keys in enumerate(streams.slots):
        _, states = detect_step_by_step(model, sequences[keys[0].sequence], 5, 50_000)
        for found, wanted in zip(evaluator.states, states, strict=True):
            torch.testing.assert_close(found[slot], wanted[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{"trained_us": 50_000}, {"step_scale": 0.5}])
def test_what_has_no_time_scale_says_so(options):
    with pytest.raises(InputError, match="'none' has no time scale"):
        StreamingEvaluator(busy_detector("none"), SENSOR, **options)


# From the command line


def test_a_training_records_its_grid_and_an_evaluation_follows_another(tmp_path, slow_set, capsys):
    data_dir = make_set(tmp_path)
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"])
    training = replace(TRAINING, steps=1, validate_every=1)
    path = train(model, data_module(data_dir), tmp_path / "run", sensor=SENSOR, training=training)
    for name in ("model.ckpt", "best.ckpt", "last.ckpt"):
        assert read_checkpoint(path.with_name(name))["trained_on"]["stride_us"] == 50_000
    arguments = ["evaluate", str(path), "--data", str(slow_set.parent), "--carry", "exact", "--device", "cpu"]
    assert main(arguments) == 0
    plain = capsys.readouterr()
    assert "20 windows of 50 ms every 125 ms (8 Hz) but for 2 steps of 250 to 1000 ms" in plain.err
    assert "each step counts as one of training (a window every 50 ms)" in plain.err
    assert main([*arguments, "--follow"]) == 0
    following = capsys.readouterr()
    assert "steps follow it, relative to 50 ms in training" in following.err


def test_following_needs_what_the_training_windows_were_apart(tmp_path, slow_set, capsys):
    path, data_dir = tmp_path / "a.ckpt", slow_set.parent
    known = {"sensor": asdict(SENSOR), "sequence_length": 4}
    options = {"carry": "exact", "device": "cpu", "progress": False}
    save_checkpoint(path, busy_detector().float(), **known, stride_us=50_000)
    following, *others = (
        evaluate_checkpoint(path, data_dir, follow=follow, **options)["exact"].detections
        for follow in (True, 50.0, 125.0, False)
    )
    assert [all(map(np.array_equal, following, other)) for other in others] == [True, False, False]
    save_checkpoint(path, busy_detector().float(), **known)
    arguments = ["evaluate", str(path), "--data", str(data_dir), "--device", "cpu", "--carry", "exact"]
    assert main([*arguments, "--follow"]) == 1
    assert "a.ckpt does not say how far apart the windows were" in capsys.readouterr().err
    assert main([*arguments, "--follow", "0"]) == 1
    assert "follow is 0" in capsys.readouterr().err
    assert main([*arguments, "--follow", "50"]) == 0

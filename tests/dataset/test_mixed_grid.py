"""Steps of mixed lengths: the grid, the windows cut from it, and what a set on it holds."""

import json
from collections import Counter

import numpy as np
import pytest
from training_set import SENSOR, make_set

from ssmbook.cli import main
from ssmbook.dataset import EventDataModule, find_sequences, preprocess
from ssmbook.dataset.labels import MIXED_LONGEST, MIXED_STEPS, SKIPPED, mixed_ends, plan_labels
from ssmbook.dataset.windows import Windows
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, Events, StackedHistogram, Traces, open_events

STRIDE_US = 50_000


def exact_grid(windows, every=1):
    """Ends a stride apart, and a label frame at each of them, or at every n-th from the last one back."""
    frames = np.arange(windows)[::-1][::every][::-1]
    return 100_000 + STRIDE_US * np.arange(windows), frames


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("every", [1, 3])
def test_steps_are_parts_and_multiples_of_the_stride(seed, every):
    ends, frames = exact_grid(200, every)
    mixed, labelled = mixed_ends(ends, frames, seed)
    lengths = np.diff(mixed) / STRIDE_US
    assert (mixed[0], mixed[-1]) == (ends[0], ends[-1])
    assert {round(x, 3) for x in lengths} <= {*MIXED_STEPS, 3.0}, "3: what was left at the end"
    assert set(mixed[labelled]) == set(ends[frames]) & set(mixed), (
        "each label at which a window ends, and no other"
    )
    assert labelled[-1] == len(mixed) - 1
    # A step is kept for no more than so many strides, and drawn again after it.
    runs = np.split(lengths, np.flatnonzero(np.abs(np.diff(lengths)) > 1e-6) + 1)
    assert max(run.sum() for run in runs if 0.1 <= run[0] < 0.9) <= 4 * MIXED_LONGEST


def test_steps_are_drawn_by_their_probabilities():
    ends, frames = exact_grid(40_000)
    mixed, _ = mixed_ends(ends, frames, 0)
    lengths = np.diff(mixed) / STRIDE_US
    strides = {step: lengths[np.abs(lengths - step) < 1e-6].sum() for step in MIXED_STEPS}
    mean = (
        1 + MIXED_LONGEST
    ) / 2  # strides of a draw; multiples take whole ones of their own, and at least one
    whole = {
        step: np.mean([max(1, n // step) * step for n in range(1, MIXED_LONGEST + 1)]) for step in (2.0, 4.0)
    }
    wanted = {step: p * whole.get(step, mean) for step, p in MIXED_STEPS.items()}
    for step, share in wanted.items():
        assert strides[step] / sum(strides.values()) == pytest.approx(share / sum(wanted.values()), abs=0.02)


def test_same_seed_same_grid_and_another_another():
    ends, frames = exact_grid(100)
    first, again, other = (mixed_ends(ends, frames, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_boxes_inside_a_long_step_are_told_as_such():
    boxes = np.zeros(100, BOX_DTYPE)
    boxes["t"] = 100_000 + STRIDE_US * np.arange(100)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 8, 6, 20, 16
    plan, counts = plan_labels(boxes, SENSOR, STRIDE_US, "mixed", seed=3)
    inside = sorted(set(boxes["t"]) - set(plan.window_ends_us))
    assert counts.dropped[SKIPPED] == len(inside) > 0
    assert +counts.dropped == Counter({SKIPPED: len(inside)})
    assert counts.kept == len(plan.boxes) == 100 - len(inside)
    assert np.array_equal(plan.window_ends_us[plan.window_of_frame], plan.frame_times_us)
    assert np.array_equal(plan.boxes["t"], plan.frame_times_us), "a box at each"


def test_a_stride_too_short_to_be_cut_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"stride_ms is 0\.5; the mixed grid cuts it"):
        preprocess(tmp_path, tmp_path / "out", SENSOR, grid="mixed", stride_ms=0.5)


@pytest.mark.parametrize("block", [1, 7, 100, 10_000])
def test_windows_of_many_lengths_equal_the_definition(block):
    rng = np.random.default_rng(block)
    t = np.sort(rng.integers(0, 400, size=400)) * 100
    ev = Events(t, *(rng.integers(0, 20, size=400) for _ in range(2)), rng.integers(0, 2, size=400))
    ends = np.unique(rng.integers(-50, 45_000, size=30))
    lengths = rng.integers(1, 20_000, size=len(ends))  # later windows may begin before earlier ones
    windows = Windows(ends, lengths)
    parts = [found for i in range(0, len(ev), block) for found in windows.push(ev[i : i + block])]
    found = [Events.concatenate(part) for part in (*parts, *windows.finish())]
    for end, length, part in zip(ends, lengths, found, strict=True):
        inside = (end - length <= ev.t) & (ev.t <= end)
        for key in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(getattr(part, key), getattr(ev, key)[inside])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    make_set(folder)
    return folder


def events_of(folder, name):
    with open_events(folder / "raw" / "train" / f"{name}_td.dat") as recording:
        return Events.concatenate(list(recording.blocks()))


@pytest.mark.parametrize(("window_ms", "name"), [(None, "dt=step"), (50, "dt=50")])
def test_frames_are_the_histograms_of_their_windows(folder, tmp_path, window_ms, name):
    preprocess(
        folder / "raw", tmp_path, SENSOR, grid="mixed", window_ms=window_ms, splits=["train"], progress=False
    )
    different = set()
    for sequence in find_sequences(tmp_path / "train"):
        assert sequence.path.parent.name == f"stacked_histogram_{name}_nbins=10"
        ev, represent = (
            events_of(folder, sequence.name),
            StackedHistogram(height=SENSOR.height, width=SENSOR.width),
        )
        ends = sequence.timestamps_us
        steps = np.diff(ends, prepend=ends[0] - STRIDE_US)
        different |= set(steps.tolist())
        for i, (end, step) in enumerate(zip(ends, steps, strict=True)):
            window = step if window_ms is None else 1000 * window_ms
            own = ev[(end - window <= ev.t) & (ev.t <= end)]
            assert np.array_equal(sequence.frames(i, i + 1)[0], represent(own))
        assert np.array_equal(ends[sequence.label_frames], sequence.label_times_us)
        assert np.array_equal(sequence.elapsed_us(0, len(ends))[1:], steps[1:])
    assert len(different) > 1


def test_traces_are_read_at_the_same_times(folder, tmp_path):
    preprocess(folder / "raw", tmp_path, SENSOR, "traces", grid="mixed", splits=["train"], progress=False)
    (first, *_) = find_sequences(tmp_path / "train")
    ev, frame = events_of(folder, first.name), np.empty(first.shape, first.dtype)
    traces = Traces(height=SENSOR.height, width=SENSOR.width)
    for i, end in enumerate(first.timestamps_us.tolist()):
        traces.reset()
        traces.push(ev[ev.t <= end])
        traces.write_frame([], end, frame)
        assert np.array_equal(first.frames(i, i + 1)[0], frame)


def test_a_loader_knows_the_stride_that_was_cut(folder, tmp_path):
    preprocess(folder / "raw", tmp_path, SENSOR, grid="mixed", splits=["train"], progress=False)
    data = EventDataModule(folder / "set", 3, 2, burn_in=4, augment=False, train_dir=tmp_path)
    batch = next(iter(data.train_dataloader()))
    assert data.stride_us == STRIDE_US
    assert next(iter(data.val_dataloader())).step_scale(STRIDE_US).unique().tolist() == [1.0]
    by_name = {s.name: s for s in find_sequences(tmp_path / "train")}
    scale = batch.past.step_scale(STRIDE_US)
    for s, (slot, length) in enumerate(zip(batch.past.slots, batch.past.lengths, strict=True)):
        sequence = by_name[batch.sequences[slot]]
        (start,) = (
            i
            for i in range(len(sequence) - 2)
            if np.array_equal(sequence.frames(i, i + 3), batch.x[:, slot].numpy())
        )
        steps = np.diff(sequence.timestamps_us, prepend=sequence.timestamps_us[0] - sequence.stride_us)
        wanted = steps[start - length : start] / STRIDE_US
        np.testing.assert_allclose(scale[len(scale) - length :, s].numpy(), wanted, rtol=1e-6)
    record = tmp_path / "preprocess.json"
    record.write_text(json.dumps({"grid": "mixed"}))
    with pytest.raises(InputError, match=r"preprocess\.json: has no stride_ms; put the record back"):
        data.train_dataloader()


def test_the_command_gives_each_step_its_own_window_unless_one_is_asked_for(folder, tmp_path, capsys):
    sensor = tmp_path / "sensor.yaml"
    sensor.write_text(
        f"name: own\nwidth: {SENSOR.width}\nheight: {SENSOR.height}\nclasses: [a, b]\nlabel_interval_ms: 50\n"
        "min_diagonal: 0\nmin_side: 0\n"
    )
    command = [
        "preprocess",
        str(folder / "raw"),
        str(tmp_path / "out"),
        "--sensor",
        str(sensor),
        "--grid",
        "mixed",
    ]
    assert main([*command, "--workers", "1"]) == 0
    (first, *_) = find_sequences(tmp_path / "out" / "train")
    assert first.path.parent.name == "stacked_histogram_dt=step_nbins=10"
    command[2] = str(tmp_path / "several")
    assert main([*command, "--workers", "1", "--representation", "stacked_histogram,traces"]) == 0
    assert {path.name for path in (tmp_path / "several").iterdir()} == {
        "stacked_histogram_window=step_stride=50",
        "traces_stride=50",
    }
    command[2] = str(tmp_path / "fixed")
    assert main([*command, "--workers", "1", "--window-ms", "50"]) == 0
    (first, *_) = find_sequences(tmp_path / "fixed" / "train")
    assert first.path.parent.name == "stacked_histogram_dt=50_nbins=10"
    capsys.readouterr()

import h5py
import numpy as np
import pytest
import torch

from ssmbook.dataset import EvaluationStreams, RandomChunks, find_sequences
from ssmbook.dataset.labels import LabelPlan
from ssmbook.dataset.layout import write_sequence
from ssmbook.dataset.sequences import Chunk, box_targets, make_batch, move_chunk, read_chunk
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE

NAME = "stacked_histogram_dt=50_nbins=1"
C, H, W = 2, 6, 8


def write(folder, number, label_frames, windows):
    """A sequence whose window i is filled with i + 1 and has as many boxes as ``label_frames[i]`` says.

    Boxes carry the number of their sequence as track_id.
    """
    frames = sorted(label_frames)
    boxes = np.zeros(sum(label_frames.values()), BOX_DTYPE)
    counts = [label_frames[i] for i in frames]
    boxes["t"] = np.repeat([1000 * (i + 1) for i in frames], counts)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 1, 2, 3, 2
    boxes["class_id"] = np.arange(len(boxes)) % 2
    boxes["track_id"] = number
    plan = LabelPlan(
        boxes=boxes,
        first_box=np.cumsum([0, *counts])[:-1],
        frame_times_us=np.array([1000 * (i + 1) for i in frames]),
        window_ends_us=1000 * np.arange(1, windows + 1),
        window_of_frame=np.array(frames),
    )
    write_sequence(
        folder / f"seq{number}", NAME, plan, (np.full((C, H, W), i + 1, np.uint8) for i in range(windows))
    )


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """Seven sequences of 3 to 40 windows with label frames here and there, the last window always one."""
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for number, windows in enumerate([12, 40, 3, 25, 7, 18, 33]):
        labelled = {int(i) for i in rng.choice(windows, size=max(1, windows // 4), replace=False)}
        write(folder, number, {i: int(rng.integers(1, 4)) for i in labelled | {windows - 1}}, windows)
    return find_sequences(folder)


def all_label_frames(sequences):
    return sorted((s.name, int(t)) for s in sequences for t in s.label_times_us)


# Chunks and batches


def test_a_chunk_has_its_windows_and_all_labels_inside(sequences):
    sequence = sequences[1]
    chunk = read_chunk(sequence, 10, 8)
    assert chunk.x[:, 0, 0, 0].tolist() == list(range(11, 19))
    inside = [int(i) for i in sequence.label_frames if 10 <= i < 18]
    assert chunk.frames == [i - 10 for i in inside]
    assert chunk.times_us == [1000 * (i + 1) for i in inside]
    assert [set(boxes["t"]) for boxes in chunk.labels] == [{t} for t in chunk.times_us]


def test_a_chunk_beyond_the_end_is_zero_there(sequences):
    chunk = read_chunk(sequences[2], 1, 5)
    assert chunk.x[:, 0, 0, 0].tolist() == [2, 3, 0, 0, 0]
    assert chunk.frames[-1] == 1


def test_targets_are_centres_and_end_in_zeros():
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"], boxes["class_id"] = [1, 4], 2, [4, 5], 3, [1, 0]
    targets = box_targets([boxes, boxes[:1], boxes[:0]])
    assert targets.dtype == torch.float32
    assert targets[0].tolist() == [[1, 3, 3.5, 4, 3], [0, 6.5, 3.5, 5, 3]]
    assert targets[1].tolist() == [[1, 3, 3.5, 4, 3], [0] * 5]
    assert targets[2].tolist() == [[0] * 5, [0] * 5]
    assert box_targets([]).shape == (0, 1, 5)


def test_a_batch_lists_its_labelled_frames_in_order(sequences):
    chunks = [read_chunk(sequences[i], 0, 12) for i in (1, 0, 3)]
    batch = make_batch([chunks[0], None, chunks[1], chunks[2]])
    assert batch.x.shape == (12, 4, C, H, W)
    assert batch.x.dtype == torch.uint8
    assert batch.x[:, 1].sum() == 0
    pairs = batch.frames.tolist()
    assert pairs == sorted(pairs)
    assert len(pairs) == len(batch.targets) == len(batch.labels) == len(batch.times_us)
    assert batch.sequences == ["seq1", "", "seq0", "seq3"]
    for (i, b), boxes, t, targets in zip(pairs, batch.labels, batch.times_us, batch.targets, strict=True):
        assert batch.x[i, b, 0, 0, 0] == i + 1
        assert batch.sequences[b] == f"seq{boxes['track_id'][0]}"
        assert set(boxes["t"]) == {int(t)} == {1000 * (i + 1)}
        assert targets[: len(boxes)].tolist() == box_targets([boxes])[0].tolist()


def test_a_batch_moves_to_a_device(sequences):
    batch = make_batch([read_chunk(sequences[0], 0, 3)]).to("meta")
    assert {v.device.type for v in (batch.x, batch.targets, batch.frames, batch.first)} == {"meta"}
    assert batch.times_us.device.type == "cpu"


def test_chunks_of_other_shapes_are_an_error(sequences):
    a, b = read_chunk(sequences[0], 0, 3), read_chunk(sequences[1], 0, 4)
    with pytest.raises(InputError, match=r"seq0 \(3, 2, 6, 8\), seq1 \(4, 2, 6, 8\)"):
        make_batch([a, b])


# Random chunks


@pytest.mark.parametrize("length", [1, 5, 12])
def test_random_chunks_end_at_each_label_frame_that_has_room(sequences, length):
    chunks = RandomChunks(sequences, length)
    wanted = sorted((s.name, int(i)) for s in sequences for i in s.label_frames if i + 1 >= length)
    found = []
    for chunk in (chunks[i] for i in range(len(chunks))):
        assert chunk.first
        assert chunk.frames[-1] == length - 1
        assert (chunk.x > 0).all()
        found.append((chunk.sequence, int(chunk.x[-1, 0, 0, 0]) - 1))
    assert sorted(found) == wanted


def test_a_seed_decides_the_augmentation(sequences):
    chunks = RandomChunks(sequences, 3)
    plain = chunks[4]
    augmented = [chunks[4, seed] for seed in range(8)]
    assert any(not np.array_equal(a.labels[-1], plain.labels[-1]) for a in augmented)
    for seed, chunk in enumerate(augmented):
        again = chunks[4, seed]
        assert torch.equal(again.x, chunk.x)
        np.testing.assert_array_equal(again.labels[-1], chunk.labels[-1])
        assert chunk.frames[-1] == 2, "the last labelled frame keeps a box"


def test_a_frame_whose_boxes_left_is_unlabelled(sequences):
    class Away:
        def frames(self, x):
            return x

        def boxes(self, boxes, height, width):
            return boxes[boxes["t"] > 1000]

    boxes = np.zeros(1, BOX_DTYPE)
    later = boxes.copy()
    later["t"] = 2000
    chunk = Chunk(torch.zeros(2, C, H, W), [0, 1], [boxes, later], [0, 2000], True, "a")
    moved = move_chunk(chunk, [Away()])
    assert (moved.frames, moved.times_us, len(moved.labels)) == ([1], [2000], 1)


def test_no_room_for_a_chunk_is_an_error(sequences):
    with pytest.raises(InputError, match="has 41 windows up to it"):
        RandomChunks(sequences, 41)


# Evaluation streams


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("length", [1, 5, 21])
def test_every_label_frame_comes_exactly_once(sequences, batch_size, length):
    streams = EvaluationStreams(sequences, length, batch_size)
    found = [
        (batch.sequences[b], int(t))
        for batch in streams
        for (_, b), t in zip(batch.frames.tolist(), batch.times_us, strict=True)
    ]
    assert sorted(found) == all_label_frames(sequences)
    assert len(list(streams)) == len(streams)


@pytest.mark.parametrize("batch_size", [1, 3, 9])
def test_a_slot_runs_through_whole_sequences(sequences, batch_size):
    length = 5
    streamed = {}
    for batch in EvaluationStreams(sequences, length, batch_size):
        assert batch.x.shape == (length, batch_size, C, H, W)
        for b, name in enumerate(batch.sequences):
            windows = batch.x[:, b, 0, 0, 0].tolist()
            if name == "":
                assert batch.first[b]
                assert not any(windows)
                continue
            assert batch.first[b] == (name not in streamed), "first marks the first chunk of a sequence"
            slot, seen = streamed.setdefault(name, (b, []))
            assert slot == b
            seen += windows
    assert set(streamed) == {s.name for s in sequences}
    for sequence in sequences:
        begin = max(0, int(sequence.label_frames[0]) - (length - 1))
        seen = streamed[sequence.name][1]
        expected = list(range(begin + 1, len(sequence) + 1))
        assert seen[: len(expected)] == expected
        assert seen[len(expected) :] == [0] * (len(seen) - len(expected))
        assert len(seen) - len(expected) < length


def test_slots_have_about_equal_work(sequences):
    streams = EvaluationStreams(sequences, 5, 3)
    work = [len(slot) for slot in streams.slots]
    assert max(work) - min(work) <= 2


def open_files():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def test_files_are_closed_again(tmp_path):
    for number in range(40):
        write(tmp_path, number, {1: 1}, 2)
    before = open_files()
    chunks = RandomChunks(find_sequences(tmp_path), 2)
    for i in range(len(chunks)):
        chunks[i]
    assert 0 < open_files() - before <= 32
    chunks.close()
    assert open_files() == before
    streams = EvaluationStreams(find_sequences(tmp_path), 2, 3)
    for _ in streams:
        assert open_files() - before <= 3
    del streams
    assert open_files() == before

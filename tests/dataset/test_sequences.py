import gc

import h5py
import numpy as np
import pytest
import torch
from sequence_files import NAME, C, H, W, write, write_some

from ssmbook.dataset import Chunks, EvaluationStreams, find_sequences
from ssmbook.dataset.labels import LabelPlan
from ssmbook.dataset.layout import write_sequence
from ssmbook.dataset.schedule import random_chunks
from ssmbook.dataset.sequences import (
    Chunk,
    ChunkKey,
    batch_of,
    box_targets,
    draw_for,
    move_boxes,
    read_chunk,
)
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    return write_some(tmp_path_factory.mktemp("set"))


def make_batch(chunks):
    """Chunks side by side; None is padding."""
    padding = torch.zeros_like(next(chunk.x for chunk in chunks if chunk is not None))
    return batch_of(torch.stack([padding if c is None else c.x for c in chunks], 1), chunks)


def move_chunk(chunk, transforms):
    """The chunk after transforms of its frames and boxes."""
    for transform in transforms:
        chunk = chunk._replace(x=transform.frames(chunk.x))
    return move_boxes(chunk, transforms)


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


# Reading by key


def test_batches_of_keys_equal_chunks_side_by_side(sequences):
    """The frames go straight to their place; the slow way reads, moves and stacks chunk by chunk."""
    rng = np.random.default_rng(0)
    reader = Chunks(sequences, 6, limit=2)
    for _ in range(20):
        keys = []
        for stream in rng.random(4) < 0.5:
            i = int(rng.integers(len(sequences)))
            start = int(rng.integers(len(sequences[i])))
            stop = int(rng.integers(start + 1, len(sequences[i]) + 1))
            seed = int(rng.integers(99)) if rng.random() < 0.7 else None
            keys.append(
                ChunkKey(i, start, min(stop, start + 6), bool(rng.random() < 0.5), seed, bool(stream))
            )
        keys[int(rng.integers(4))] = None
        chunks = []
        for key in keys:
            if key is None:
                chunks.append(None)
                continue
            chunk = read_chunk(sequences[key.sequence], key.start, 6, key.first, key.stop)
            chunks.append(move_chunk(chunk, draw_for(key, chunk.labels, H, W)))
        assert_same_batch(reader[keys], make_batch(chunks))


def test_a_past_ends_where_its_chunk_starts_and_is_moved_with_it(sequences):
    """The slow way reads past and chunk as one and moves them by the chunk's transforms."""
    reader = Chunks(sequences, 3)
    for seed in (None, *range(8)):
        ends = [key for key in random_chunks(sequences, 3) if key.sequence == 1 and key.start >= 7][:3]
        chunks = [key._replace(seed=seed, past=past) for key, past in zip(ends, (2, 0, 7), strict=True)]
        keys = [*chunks, None, ChunkKey(3, 4, 7, stream=True)]
        batch = reader[keys]
        assert_same_batch(batch, reader[[key and key._replace(past=0) for key in keys]])
        assert (batch.past.slots, batch.past.lengths) == ([2, 0], [7, 2])
        assert batch.past.x.shape == (7, 2, C, H, W)
        for s, slot in enumerate(batch.past.slots):
            key = keys[slot]
            chunk = read_chunk(sequences[1], key.start, 3)
            whole = read_chunk(sequences[1], key.start - key.past, key.past + 3)
            moved = move_chunk(whole, draw_for(key, chunk.labels, H, W)).x
            assert torch.equal(batch.past.x[7 - key.past :, s], moved[: key.past])
            assert not batch.past.x[: 7 - key.past, s].any()
            assert torch.equal(batch.x[:, slot], moved[key.past :])
    assert reader[[ends[0]]].past is None
    assert batch.to("meta").past.x.device.type == "meta"


def assert_same_batch(one, two):
    for key in ("x", "targets", "frames", "first", "times_us", "elapsed_us"):
        assert torch.equal(getattr(one, key), getattr(two, key)), key
    assert one.sequences == two.sequences
    for a, b in zip(one.labels, two.labels, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_seed_decides_the_augmentation(sequences):
    reader = Chunks(sequences, 3)
    key = random_chunks(sequences, 3)[4]
    plain = reader[[key]]
    augmented = [reader[[key._replace(seed=seed)]] for seed in range(8)]
    assert any(not np.array_equal(a.labels[-1], plain.labels[-1]) for a in augmented)
    for seed, batch in enumerate(augmented):
        assert_same_batch(reader[[key._replace(seed=seed)]], batch)
        assert batch.frames[-1].tolist() == [2, 0], "the last labelled frame keeps a box"


def test_a_frame_whose_boxes_left_is_unlabelled(sequences):
    class Away:
        def frames(self, x):
            return x

        def boxes(self, boxes, height, width):
            return boxes[boxes["t"] > 1000]

    boxes = np.zeros(1, BOX_DTYPE)
    later = boxes.copy()
    later["t"] = 2000
    elapsed = np.zeros(2, np.int64)
    chunk = Chunk(torch.zeros(2, C, H, W), [0, 1], [boxes, later], [0, 2000], elapsed, True, "a")
    moved = move_chunk(chunk, [Away()])
    assert (moved.frames, moved.times_us, len(moved.labels)) == ([1], [2000], 1)


def test_sequences_of_other_shapes_are_an_error(tmp_path, sequences):
    plan = LabelPlan(
        np.zeros(1, BOX_DTYPE), np.zeros(1, int), np.ones(1, int), np.ones(1, int), np.zeros(1, int)
    )
    write_sequence(tmp_path / "small", NAME, plan, [np.zeros((C, H, W - 1), np.uint8)])
    mixed = [*sequences[:1], *find_sequences(tmp_path)]
    with pytest.raises(InputError, match=r"small.* frames are uint8 \(2, 6, 7\)"):
        Chunks(mixed, 1)[[ChunkKey(0, 0, 1), ChunkKey(1, 0, 1)]]


# The grid of a sequence


def test_the_stride_is_found_and_gaps_are_measured(tmp_path):
    write(tmp_path, 0, {1: 1, 8: 1}, 9)
    write(tmp_path, 1, {0: 1}, 1)
    ends = tmp_path / "seq0/event_representations_v2" / NAME / "timestamps_us.npy"
    np.save(ends, 1000 * np.array([1, 2, 3, 4, 9, 10, 11, 13, 14]))
    sequence, single = find_sequences(tmp_path)
    assert (sequence.stride_us, single.stride_us) == (1000, None)
    assert sequence.elapsed_us(0, 5).tolist() == [1000, 1000, 1000, 1000, 5000]
    assert sequence.elapsed_us(4, 11).tolist() == [5000, 1000, 1000, 2000, 1000, 1000, 1000]
    assert single.elapsed_us(0, 2).tolist() == [0, 0]
    batch = Chunks([sequence, single], 4)[[ChunkKey(0, 2, 6), ChunkKey(1, 0, 1), None]]
    assert batch.elapsed_us.T.tolist() == [[1000, 1000, 5000, 1000], [0] * 4, [0] * 4]
    assert batch.step_scale(2000).T.tolist() == [[0.5, 0.5, 2.5, 0.5], [1] * 4, [1] * 4]


# Files


def open_files():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def test_files_are_closed_again(tmp_path):
    for number in range(40):
        write(tmp_path, number, {1: 1}, 2)
    gc.collect()  # files that earlier tests left
    before = open_files()
    sequences = find_sequences(tmp_path)
    chunks = Chunks(sequences, 2, limit=8)
    for key in random_chunks(sequences, 2):
        chunks[[key]]
    assert open_files() - before == 8
    chunks.close()
    assert open_files() == before
    streams = EvaluationStreams(find_sequences(tmp_path), 2, 3)
    for _ in streams:
        assert open_files() - before <= 3
    del streams
    assert open_files() == before

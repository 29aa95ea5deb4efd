import os
import pickle

import h5py
import numpy as np
import pytest

from ssmbook.dataset import Sequence, find_sequences
from ssmbook.dataset.labels import LabelPlan
from ssmbook.dataset.layout import remove_partial, write_sequence
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE

NAME = "stacked_histogram_dt=50_nbins=2"
C, H, W = 4, 6, 8


def make_plan():
    boxes = np.zeros(3, BOX_DTYPE)
    boxes["t"] = [200_000, 200_000, 300_000]
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [0, 2, 4], [0, 1, 2], [3, 4, 11], [2, 3, 9]
    boxes["class_id"], boxes["track_id"], boxes["class_confidence"] = [0, 1, 1], [7, 8, 9], 1
    return LabelPlan(
        boxes=boxes,
        first_box=np.array([0, 2]),
        frame_times_us=np.array([200_000, 300_000]),
        window_ends_us=np.array([100_000, 150_000, 200_000, 250_000, 300_000]),
        window_of_frame=np.array([2, 4]),
    )


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 11, size=(5, C, H, W)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, frames):
    write_sequence(tmp_path / "a", NAME, make_plan(), frames)
    return tmp_path / "a"


def test_what_was_written_is_read(folder, frames):
    sequence, plan = Sequence(folder, NAME), make_plan()
    assert (len(sequence), sequence.shape, sequence.name) == (5, (C, H, W), "a")
    np.testing.assert_array_equal(sequence.frames(0, 5), frames)
    np.testing.assert_array_equal(sequence.frames(1, 3), frames[1:3])
    assert sequence.frames(0, 1).dtype == np.uint8
    assert sequence.label_frames.tolist() == [2, 4]
    assert sequence.label_times_us.tolist() == [200_000, 300_000]
    assert sequence.timestamps_us.tolist() == plan.window_ends_us.tolist()
    np.testing.assert_array_equal(sequence.labels_at(0), plan.boxes[:2])


def test_labels_are_clipped_to_the_frame(folder):
    box = Sequence(folder, NAME).labels_at(1)[0]
    assert [float(box[key]) for key in "xywh"] == [4, 2, W - 1 - 4, H - 1 - 2]


def test_halved_frames_have_halved_boxes(tmp_path, frames):
    plan = make_plan()
    plan.boxes["x"][0] = 1.5
    write_sequence(tmp_path / "b", NAME, plan, frames, halved=True)
    sequence = Sequence(tmp_path / "b", NAME)
    assert sequence.path.name == "event_representations_ds2_nearest.h5"
    boxes = sequence.labels_at(0)
    assert [tuple(float(b[key]) for key in "xywh") for b in boxes] == [(0.75, 0, 1.5, 1), (1, 0.5, 2, 1.5)]
    assert boxes["t"].tolist() == [200_000, 200_000]
    assert plan.boxes["w"][0] == sequence._boxes["w"][0], (
        "the boxes that are kept stay in the sensor's pixels"
    )


def test_frames_are_chunks_with_blosc_zstd(folder):
    with h5py.File(folder / "event_representations_v2" / NAME / "event_representations.h5") as file:
        data = file["data"]
        assert data.chunks == (1, C, H, W)
        (_, _, options, _) = data.id.get_create_plist().get_filter(0)
        assert data.id.get_create_plist().get_nfilters() == 1
        assert options[4:7] == (1, 1, 5)  # level 1, byte shuffle, zstd


def test_an_interrupted_write_leaves_no_sequence(tmp_path, frames):
    def dying():
        yield frames[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sequence(tmp_path / "a", NAME, make_plan(), dying())
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_is_removed_and_not_read(folder, frames):
    left = folder.parent / ".b.1234.partial"
    (left / "labels_v2").mkdir(parents=True)
    assert [sequence.name for sequence in find_sequences(folder.parent)] == ["a"]
    remove_partial(folder.parent)
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_a_sequence_pickles_without_its_file(folder, frames):
    sequence = Sequence(folder, NAME)
    sequence.frames(0, 1)
    copy = pickle.loads(pickle.dumps(sequence))
    np.testing.assert_array_equal(copy.frames(0, 5), frames)
    sequence.close()
    np.testing.assert_array_equal(sequence.frames(0, 5), frames)


@pytest.mark.parametrize("victim", ["labels.npz", "timestamps_us.npy", "objframe_idx_2_repr_idx.npy", "h5"])
@pytest.mark.parametrize("fault", ["missing", "empty", "cut", "foreign"])
def test_a_damaged_sequence_is_an_error_that_names_the_file(folder, victim, fault):
    path = next(p for p in sorted(folder.rglob(f"*{victim}")))
    content = path.read_bytes()
    os.remove(path)
    if fault != "missing":
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "foreign": b"hello" * 99}[fault])
    with pytest.raises(InputError, match=path.name) as error:
        Sequence(folder, NAME).frames(0, 5)
    assert "\n" not in str(error.value)


def test_label_frames_beyond_the_windows_are_an_error(folder):
    np.save(folder / "event_representations_v2" / NAME / "objframe_idx_2_repr_idx.npy", [2, 5])
    with pytest.raises(InputError, match="do not fit its windows"):
        Sequence(folder, NAME)


def test_find_sequences_names_what_is_wrong(tmp_path, folder):
    with pytest.raises(InputError, match="no such folder"):
        find_sequences(tmp_path / "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no sequence"):
        find_sequences(tmp_path / "empty")
    (tmp_path / "empty").rmdir()
    (folder / "event_representations_v2" / "other").mkdir()
    with pytest.raises(InputError, match=f"other, {NAME}"):
        find_sequences(tmp_path)
    assert len(find_sequences(tmp_path, NAME)) == 1

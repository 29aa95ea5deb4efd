import io
import os
import pickle
import struct
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssmbook.dataset import Sequence, find_sequences
from ssmbook.dataset.compression import COMPRESSION
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


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def header(text):
    """A npy file of 100 bytes with some header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(100)


WHOLE = np.array([0, 2])
LABELS = make_plan().boxes
DAMAGE = {
    "labels.npz": [
        npz(labels=LABELS),
        npz(labels=np.zeros((2, 2), BOX_DTYPE), objframe_idx_2_label_idx=WHOLE),
        npz(labels=np.zeros(3), objframe_idx_2_label_idx=WHOLE),
        npz(labels=LABELS, objframe_idx_2_label_idx=np.array([0, 4])),
        npz(labels=LABELS, objframe_idx_2_label_idx=np.array([2, 0])),
        npz(labels=LABELS, objframe_idx_2_label_idx=np.array([-1, 2])),
        npz(labels=LABELS, objframe_idx_2_label_idx=np.array([0.0, 2.0])),
        npz(labels=LABELS, objframe_idx_2_label_idx=WHOLE[None]),
        npy(np.zeros(3)),
        b"PK\x03\x04" + bytes(200),
    ],
    "objframe_idx_2_repr_idx.npy": [
        npy(np.array([2, 5])),
        npy(np.array([-1, 4])),
        npy(np.array([4, 2])),
        npy(np.array([2**63, 4], np.uint64)),
        npy(np.array(["2", "4"])),
        npy(np.array([2.0, 4.0])),
        npy(np.array(3)),
        npy(np.array([{}, {}]), allow_pickle=True),
        header("{'descr': '<i8', 'fortran_order': False, 'shape': (10**15,)}\n"),
        header("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,)}\n"),
        header("{'descr': '<i8', 'fortran_order': False, 'shape': (-12,)}\n"),
        header("{'descr': '<i8', 'fortran_order': False, 'shape': (\n"),
        header("{'descr': '<i8', 'fortran_order': False, 'shape': ('\n"),
        header("(" * 9000),
        header("\x00"),
    ],
    "timestamps_us.npy": [
        npy(np.array([1, 1, 2, 3, 4])),
        npy(np.zeros((5, 2), int)),
        npy(np.zeros(5, "M8[us]")),
    ],
}


@pytest.mark.parametrize(
    ("victim", "content"), [(name, each) for name, all in DAMAGE.items() for each in all]
)
def test_arrays_that_are_not_what_they_should_be_are_named(folder, victim, content):
    next(p for p in sorted(folder.rglob(victim))).write_bytes(content)
    with pytest.raises(InputError, match=victim) as error:
        Sequence(folder, NAME)
    assert str(error.value).endswith("make or fetch it again")


def test_an_archive_that_inflates_is_refused(folder):
    path = folder / "labels_v2" / "labels.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("labels.npy", "w") as member,
    ):
        for _ in range(1100):
            member.write(bytes(1 << 20))
    with pytest.raises(InputError, match=r"labels\.npz: cannot be read \(more than 1073741824 bytes"):
        Sequence(folder, NAME)


@pytest.mark.parametrize("field", [20, 24], ids=["packed", "whole"])
def test_an_archive_that_says_to_be_longer_than_it_is_is_refused(folder, field):
    path = folder / "labels_v2" / "labels.npz"
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + field : entry + field + 4] = (0xFFFF_FFF0).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"labels\.npz: cannot be read \(\S+ says to have \d+ bytes and to hold \d+"
    ):
        Sequence(folder, NAME)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_arrays_is_an_input_error_or_harmless(folder, data):
    path = data.draw(st.sampled_from(sorted(p for p in folder.rglob("*.np?"))))
    whole = path.read_bytes()
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(changed[: data.draw(st.integers(0, len(whole)))])
    message = str(folder)
    try:
        sequence = Sequence(folder, NAME)
        for i in range(len(sequence.label_frames)):
            sequence.labels_at(i)
    except InputError as error:
        message = str(error)
    finally:
        path.write_bytes(whole)
    assert str(folder) in message


def test_labels_are_packed_as_published(folder):
    """36 bytes: the published script joins arrays, which takes the gap out of the raw files' 40."""
    stored = np.load(folder / "labels_v2" / "labels.npz")["labels"]
    raw = np.zeros(1, BOX_DTYPE)
    assert stored.dtype == np.concatenate([raw, raw]).dtype
    assert (stored.dtype.itemsize, BOX_DTYPE.itemsize) == (36, 40)
    assert stored.tolist() == LABELS.tolist()


@pytest.mark.parametrize("chunk", range(5))
def test_a_sequence_whose_chunk_is_missing_is_damaged(folder, frames, chunk):
    path = folder / "event_representations_v2" / NAME / "event_representations.h5"
    path.unlink()
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", frames.shape, "u1", chunks=(1, C, H, W), **COMPRESSION)
        for i in set(range(5)) - {chunk}:
            data[i] = frames[i]
    with pytest.raises(InputError, match=rf"the chunk of frame {chunk} is missing.*make or fetch"):
        Sequence(folder, NAME).frames(0, 5)


@pytest.mark.parametrize("kind", ["link", "huge", "strings", "group"])
def test_other_things_in_the_place_of_frames_are_refused(folder, kind):
    path = folder / "event_representations_v2" / NAME / "event_representations.h5"
    path.unlink()
    with h5py.File(path, "w") as file:
        if kind == "link":
            file["data"] = h5py.ExternalLink("other.h5", "data")
        elif kind == "huge":
            file.create_dataset("data", (5, 1 << 20, 1 << 20, 2), "u1", chunks=(1, 1, 1, 1))
        elif kind == "strings":
            file.create_dataset("data", (5, C, H, W), "S8")
        else:
            file.create_group("data")
    with pytest.raises(InputError, match="has no dataset 'data' of 5 frames"):
        Sequence(folder, NAME).frames(0, 5)


def test_a_pipe_in_the_place_of_frames_is_not_waited_for(folder):
    path = folder / "event_representations_v2" / NAME / "event_representations.h5"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"representations\.h5: cannot be opened \(no ordinary file\)"):
        Sequence(folder, NAME).frames(0, 5)


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

"""One preprocessed sequence on disk: names, a write that is whole or absent, and a lazy read.

    <split>/<sequence>/
        labels_v2/labels.npz                            labels: boxes in the sensor's own pixels, 36 bytes each;
                                                        objframe_idx_2_label_idx [F]: each frame's first box
        labels_v2/timestamps_us.npy                     [F] times of the label frames
        event_representations_v2/<name>/
            event_representations.h5                    data [T, C, H, W], a chunk for each frame; named
                                                        event_representations_ds2_nearest.h5 if halved
            objframe_idx_2_repr_idx.npy                 [F] the window that ends at each label frame
            timestamps_us.npy                           [T] where windows end

F label frames, T windows. It is the layout of the published preprocessed sets, which are read as they are.
"""

from __future__ import annotations

import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import h5py
import numpy as np

from ssmbook.dataset.compression import COMPRESSION, Chunk, compress
from ssmbook.dataset.frames import FrameReader
from ssmbook.dataset.labels import LabelPlan, crop_boxes
from ssmbook.errors import InputError, one_line
from ssmbook.events.arrays import load_arrays
from ssmbook.events.boxes import BOX_DTYPE, boxes_of
from ssmbook.files import existing_folder
from ssmbook.hdf5 import DiskUnderHdf5, Hdf5File

LABELS = "labels_v2"
REPRESENTATIONS = "event_representations_v2"
FRAMES = {False: "event_representations.h5", True: "event_representations_ds2_nearest.h5"}  # by: halved?
SPLITS = ("train", "val", "test")
LABELS_DTYPE = np.dtype([(name, BOX_DTYPE[name]) for name in BOX_DTYPE.names or ()])  # 36 bytes, as published
LARGEST_US = 1 << 61
LARGEST_FRAME = 1 << 30  # bytes
PARTIAL = ".partial"  # how the folder of a sequence ends while it is written


@contextmanager
def sequence_writer(
    folder: Path,
    name: str,
    plan: LabelPlan,
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    halved: bool = False,
) -> Iterator[Callable[[Chunk], None]]:
    """Write one sequence folder frame by frame; it appears when the block ends whole, and not before.

    Args:
        folder: ``<split>/<sequence>``; its parent exists.
        name: of the representation's folder.
        plan: labels, label frames and window ends.
        shape, dtype: of a frame, (C, H, W).
        halved: the frames are the sensor's at half size.

    Yields:
        What takes the next window's frame, compressed, as many times as the plan has windows.

    Raises:
        InputError: the disk is full or the folder cannot be written. Nothing of the sequence is left.
    """
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{PARTIAL}")
    count, written = len(plan.window_ends_us), 0
    try:
        with _refusals_named(folder):
            representation = _write_labels(partial, name, plan)
            disk = DiskUnderHdf5(representation / FRAMES[halved])
        with disk, h5py.File(disk, "w") as file:
            data = file.create_dataset("data", (count, *shape), dtype, chunks=(1, *shape), **COMPRESSION)

            def write(chunk: Chunk) -> None:
                nonlocal written
                data.id.write_direct_chunk((written, *(0 for _ in shape)), chunk.data, chunk.skipped)
                written += 1
                with _refusals_named(folder):
                    disk.check()

            yield write
            assert written == count, f"{written} frames for {count} windows"
        with _refusals_named(folder):
            disk.check()
            _rename(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_sequence(
    folder: Path, name: str, plan: LabelPlan, frames: Iterable[np.ndarray], *, halved: bool = False
) -> None:
    """Write one sequence folder from its frames, drawn one at a time; see ``sequence_writer``."""
    iterator = iter(frames)
    first = next(iterator)
    with sequence_writer(folder, name, plan, first.shape, first.dtype, halved=halved) as write:
        for frame in chain([first], iterator):
            write(compress(np.ascontiguousarray(frame)))


def _write_labels(partial: Path, name: str, plan: LabelPlan) -> Path:
    """Write all of a sequence but its frames; returns the folder that those go to."""
    labels, representation = partial / LABELS, partial / REPRESENTATIONS / name
    labels.mkdir(parents=True)
    representation.mkdir(parents=True)
    packed = plan.boxes.astype(LABELS_DTYPE)
    np.savez(labels / "labels.npz", labels=packed, objframe_idx_2_label_idx=plan.first_box)
    np.save(labels / "timestamps_us.npy", plan.frame_times_us)
    np.save(representation / "objframe_idx_2_repr_idx.npy", plan.window_of_frame)
    np.save(representation / "timestamps_us.npy", plan.window_ends_us)
    return representation


@contextmanager
def _refusals_named(folder: Path) -> Iterator[None]:
    """What the system refuses becomes an InputError that names the sequence's folder."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}); make room and run it again"
        ) from None


def _rename(partial: Path, folder: Path) -> None:
    """Give a whole sequence its name, unless another process, taken for dead, has made the same one."""
    try:
        os.replace(partial, folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)


def remove_partial(split: Path) -> None:
    """Delete what interrupted writes left in a split's folder."""
    for path in split.glob(f".*{PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)


class Sequence:
    """One preprocessed sequence: its label frames in memory, its frames read from the file when asked for.

    Args:
        folder: ``<split>/<sequence>``.
        name: of the representation's folder.

    Attributes:
        name: of the sequence.
        timestamps_us [T]: where windows end.
        label_frames [F]: the window that ends at each label frame.
        label_times_us [F]: times of the label frames.

    ``len`` is T. The frame file is opened at its first use, by each process for itself, until ``close``.

    Raises:
        InputError: a file is missing, foreign or does not fit the others.
    """

    def __init__(self, folder: Path, name: str) -> None:
        representation = folder / REPRESENTATIONS / name
        self.name = folder.name
        self.halved = (representation / FRAMES[True]).exists()
        self.path = representation / FRAMES[self.halved]
        labels = folder / LABELS
        self.timestamps_us = _times(representation / "timestamps_us.npy")
        self.label_times_us = _times(labels / "timestamps_us.npy")
        self.label_frames = _indices(representation / "objframe_idx_2_repr_idx.npy", len(self.timestamps_us))
        self._boxes, first_box = _load_labels(labels / "labels.npz")
        self._box_span = np.append(first_box, len(self._boxes))
        if len({len(self.label_frames), len(self.label_times_us), len(first_box)}) > 1:
            raise InputError(f"{folder}: its label frames do not fit its windows; make or fetch it again")
        self._file: h5py.File | None = None
        self._frames: FrameReader | None = None
        self._process = 0

    def __len__(self) -> int:
        return len(self.timestamps_us)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its frames."""
        C, H, W = self._reader().shape
        return C, H, W

    @property
    def dtype(self) -> np.dtype:
        """Of its frames: whole or floating numbers; uint8 or int8 where ``preprocess`` made them."""
        return self._reader().dtype

    @property
    def stride_us(self) -> int | None:
        """Median time between the ends of successive windows; None where there is but one window."""
        return int(np.median(np.diff(self.timestamps_us))) if len(self) > 1 else None

    def elapsed_us(self, start: int, stop: int) -> np.ndarray:
        """[stop − start]: from the end of the window before to the end of each window start..stop − 1.

        The first window of the sequence and windows after its end have the stride, or 0 where it has none.
        """
        elapsed = np.full(stop - start, self.stride_us or 0, np.int64)
        ends = self.timestamps_us[max(start - 1, 0) : stop]
        begin = int(start == 0)
        elapsed[begin : begin + len(ends) - 1] = np.diff(ends)
        return elapsed

    def frames(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """The frames of windows start..stop − 1, [stop − start, C, H, W] as they are stored.

        ``out`` takes them, if given; each of its frames is contiguous.
        """
        reader = self._reader()
        if out is None:
            out = np.empty((stop - start, *reader.shape), reader.dtype)
        try:
            for i, frame in enumerate(out, start):
                reader.read(i, frame)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.path}: windows {start}..{stop - 1} cannot be read ({error}); make or fetch it again"
            ) from error
        return out

    def labels_at(self, i: int) -> np.ndarray:
        """The boxes of label frame i, in pixels of the frames (halved if those are), clipped to them."""
        boxes = self._boxes[self._box_span[i] : self._box_span[i + 1]].copy()
        if self.halved:
            for key in "xywh":
                boxes[key] /= 2
        return crop_boxes(boxes, *self.shape[1:])

    def close(self) -> None:
        """Close the frame file; the next use opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = self._frames = None

    def _reader(self) -> FrameReader:
        if self._frames is not None and self._process == os.getpid():  # a forked worker needs its own handle
            return self._frames
        try:
            self._file = Hdf5File(self.path)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be opened ({error}); make or fetch it again") from error
        try:
            self._frames = FrameReader(self._data(self._file))
        except InputError:
            self.close()
            raise
        except Exception as error:  # of a damaged file
            self.close()
            raise InputError(f"{self.path}: {one_line(str(error), 100)}; make or fetch it again") from None
        self._process = os.getpid()
        return self._frames

    def _data(self, file: h5py.File) -> h5py.Dataset:
        """The frames [T, C, H, W] in a file."""
        data = file.get("data") if isinstance(file.get("data", getlink=True), h5py.HardLink) else None
        if (
            not isinstance(data, h5py.Dataset)
            or data.ndim != 4
            or len(data) != len(self)
            or data.dtype.kind not in "iuf"
            or math.prod(data.shape[1:]) * data.dtype.itemsize > LARGEST_FRAME
        ):
            raise InputError(
                f"{self.path}: has no dataset 'data' of {len(self)} frames [C, H, W]; make or fetch it again"
            )
        return data

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None, "_frames": None}


def find_sequences(split: Path, name: str | None = None) -> list[Sequence]:
    """The sequences of a split's folder, by name.

    Args:
        split: a folder of sequence folders.
        name: of the representation; None: the only one that is there.

    Raises:
        InputError: the folder is missing, has no sequence, or has several representations and no name chose.
    """
    if not split.is_dir():
        existing_folder(split.parent, "a preprocessed set")
        raise InputError(f"{split}: no such folder; preprocess a set first")
    folders = sorted(p for p in split.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise InputError(f"{split}: holds no sequence; preprocess a set first")
    if name is None:
        names = sorted({p.name for folder in folders for p in (folder / REPRESENTATIONS).glob("*")})
        if len(names) != 1:
            raise InputError(
                f"{split}: has {', '.join(names) or 'no'} representations; name one that all sequences have"
            )
        name = names[0]
    return [Sequence(folder, name) for folder in folders]


def _load_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The boxes as BOX_DTYPE [N] and the index of each label frame's first box [F], from a labels file."""
    arrays = _load(path)
    stored, first_box = arrays.get("labels"), arrays.get("objframe_idx_2_label_idx")
    if stored is None or first_box is None:
        held = one_line(", ".join(arrays), 60)
        raise InputError(f"{path}: holds {held or 'nothing'}, not labels; make or fetch it again")
    if stored.ndim != 1:
        raise InputError(f"{path}: its labels are an array {stored.shape}; make or fetch it again")
    try:
        boxes = boxes_of(path, stored)
    except InputError as error:
        raise InputError(f"{error}; make or fetch it again") from None
    return boxes, _checked_indices(path, first_box, len(stored) + 1)


def _times(path: Path) -> np.ndarray:
    """Increasing times [N] in µs."""
    times = _load(path).get("")
    if times is None or times.ndim != 1 or times.dtype.kind not in "iu":
        raise InputError(f"{path}: holds no list of times in whole µs; make or fetch it again")
    if len(times) and (int(times.max()) > LARGEST_US or int(times.min()) < -LARGEST_US):
        raise InputError(f"{path}: has times beyond ±2⁶¹ µs; make or fetch it again")
    times = times.astype(np.int64)
    if (np.diff(times) <= 0).any():
        raise InputError(f"{path}: its times do not increase; make or fetch it again")
    return times


def _indices(path: Path, count: int) -> np.ndarray:
    return _checked_indices(path, _load(path).get(""), count)


def _checked_indices(path: Path, indices: np.ndarray | None, count: int) -> np.ndarray:
    """Increasing indices [N] from 0 to below a count."""
    if indices is None or indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise InputError(f"{path}: holds no list of indices; make or fetch it again")
    if len(indices) and (int(indices.min()) < 0 or int(indices.max()) >= count):
        raise InputError(f"{path}: its indices do not fit its windows or boxes; make or fetch it again")
    indices = indices.astype(np.int64)
    if (np.diff(indices) < 0).any():
        raise InputError(f"{path}: its indices do not increase; make or fetch it again")
    return indices


def _load(path: Path) -> dict[str, np.ndarray]:
    """As ``load_arrays``; what it raises becomes an InputError."""
    try:
        return load_arrays(path)
    except FileNotFoundError:
        raise InputError(f"{path}: is missing; the sequence is not whole, make or fetch it again") from None
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        words = one_line(str(error) or type(error).__name__, 100)
        raise InputError(f"{path}: cannot be read ({words}); make or fetch it again") from None

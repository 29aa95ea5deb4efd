"""Chunks of sequences, and the batches that they make.

Which chunks make a batch is decided elsewhere (``schedule``), in one process; here they are read, each from
its key alone, by any number of processes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from ssmbook.dataset.augment import Straight, Transform, draw_stream_transforms, draw_transforms, move_frames
from ssmbook.dataset.layout import Sequence
from ssmbook.dataset.shared import FramePool
from ssmbook.errors import InputError


class ChunkKey(NamedTuple):
    """Which chunk, and how it is augmented.

    sequence: its number among the sequences.
    start, stop: its windows start..stop − 1; zeros follow up to the chunk's length.
    first: a new sequence starts here.
    seed: of the augmentation; None: as it is.
    stream: draw the augmentation of streams, not that of random chunks.
    past: as many windows before ``start`` come along, see ``Past``.
    """

    sequence: int
    start: int
    stop: int
    first: bool = True
    seed: int | None = None
    stream: bool = False
    past: int = 0


class Chunk(NamedTuple):
    """L windows of one sequence, F of them labelled."""

    x: torch.Tensor  # [L, C, H, W]
    frames: list[int]  # F increasing l
    labels: list[np.ndarray]  # F arrays of BOX_DTYPE, in pixels of the frame, none empty
    times_us: list[int]  # F
    elapsed_us: np.ndarray  # [L]
    first: bool  # a new sequence starts here
    sequence: str  # its name


class Past(NamedTuple):
    """The windows right before the chunks of S slots of a batch, at most P, augmented as the chunks are.

    x [P, S, C, H, W]: column s ends where the chunk of its slot starts; zeros come before shorter pasts.
    slots: S numbers of slots, those with the longest past first.
    lengths: S window counts, 1 to P, decreasing.
    elapsed_us [P, S]: as in ``Batch``.
    """

    x: torch.Tensor
    slots: list[int]
    lengths: list[int]
    elapsed_us: torch.Tensor

    def step_scale(self, base_us: float) -> torch.Tensor:
        """[P, S]: see ``Batch.step_scale``."""
        return _step_scale(self.elapsed_us, base_us).to(self.x.device)


class Batch(NamedTuple):
    """B chunks of L windows; M of the L · B frames are labelled, with at most G boxes each.

    x [L, B, C, H, W]: the numbers of the set's frames; uint8 or int8, as the representation is, where ``preprocess``
        made it.
    targets [M, G, 5]: class, cx, cy, w, h in pixels, float32; rows of zeros are padding, G ≥ 1.
    frames [M, 2]: (l, b) of the labelled frames, sorted; int64.
    first [B]: a new sequence starts in this slot.
    labels: M arrays of BOX_DTYPE: the boxes of the targets with t in µs and x, y, w, h in pixels.
    times_us [M]: int64, always on the CPU.
    sequences: name of each slot's sequence; "" where the slot has run out.
    elapsed_us [L, B]: from the end of the window before to that of this one, int64, always on the CPU; a
        sequence's first window and padding have its stride, or 0 where a sequence has but one window.
    past: what comes before the chunks that start from a past; None where none does.
    """

    x: torch.Tensor
    targets: torch.Tensor
    frames: torch.Tensor
    first: torch.Tensor
    labels: list[np.ndarray]
    times_us: torch.Tensor
    sequences: list[str]
    elapsed_us: torch.Tensor
    past: Past | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch with what the network needs on a device."""
        x, targets, frames, first = (
            v.to(device, non_blocking=non_blocking) for v in (self.x, self.targets, self.frames, self.first)
        )
        past = self.past and self.past._replace(x=self.past.x.to(device, non_blocking=non_blocking))
        return self._replace(x=x, targets=targets, frames=frames, first=first, past=past)

    def step_scale(self, base_us: float) -> torch.Tensor:
        """[L, B]: time since the window before in units of ``base_us``, the stride that was trained with.

        So a state-space layer's time scale follows the rate and steps over gaps; 1 where it is not known.
        """
        return _step_scale(self.elapsed_us, base_us).to(self.x.device)


def _step_scale(elapsed_us: torch.Tensor, base_us: float) -> torch.Tensor:
    elapsed = elapsed_us.to(torch.float32)
    return torch.where(elapsed > 0, elapsed / base_us, 1.0)


def batch_of(x: torch.Tensor, chunks: list[Chunk | None]) -> Batch:
    """The batch whose frames x [L, B, C, H, W] are in place already."""
    labelled = [(b, i, chunk) for b, chunk in enumerate(chunks) if chunk for i in range(len(chunk.frames))]
    labelled.sort(key=lambda entry: (entry[2].frames[entry[1]], entry[0]))  # by (l, b)
    pairs = [(chunk.frames[i], b) for b, i, chunk in labelled]
    labels = [chunk.labels[i] for _, i, chunk in labelled]
    nothing = np.zeros(len(x), np.int64)
    elapsed = [nothing if chunk is None else chunk.elapsed_us for chunk in chunks]
    return Batch(
        x=x,
        targets=box_targets(labels),
        frames=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        first=torch.tensor([chunk is None or chunk.first for chunk in chunks]),
        labels=labels,
        times_us=torch.tensor([chunk.times_us[i] for _, i, chunk in labelled], dtype=torch.int64),
        sequences=["" if chunk is None else chunk.sequence for chunk in chunks],
        elapsed_us=torch.from_numpy(np.stack(elapsed, axis=1)),
    )


def box_targets(labels: list[np.ndarray]) -> torch.Tensor:
    """M arrays of boxes → [M, G, 5]: class, cx, cy, w, h; shorter ones end in rows of zeros, G ≥ 1."""
    targets = np.zeros((len(labels), max([1, *map(len, labels)]), 5), np.float32)
    for row, boxes in zip(targets, labels, strict=True):
        x, y, w, h = (boxes[key] for key in "xywh")
        row[: len(boxes)] = np.stack([boxes["class_id"], x + w / 2, y + h / 2, w, h], axis=-1)
    return torch.from_numpy(targets)


def read_chunk(
    sequence: Sequence,
    start: int,
    length: int,
    first: bool = True,
    stop: int | None = None,
    out: torch.Tensor | None = None,
) -> Chunk:
    """Windows start..start + length − 1 of a sequence with their labels; zeros from its end, or ``stop``, on.

    ``out`` [L, C, H, W] takes the frames; each of its frames is contiguous.
    """
    stop = min(start + length, len(sequence) if stop is None else stop)
    if out is None:
        out = torch.from_numpy(np.empty((length, *sequence.shape), sequence.dtype))
    sequence.frames(start, stop, out=out[: stop - start].numpy())
    out[stop - start :] = 0
    return label_chunk(sequence, start, stop, out, first)


def label_chunk(sequence: Sequence, start: int, stop: int, x: torch.Tensor, first: bool = True) -> Chunk:
    """The chunk of windows start..stop − 1 whose frames x [L, C, H, W] are, or will be, in place."""
    span = range(*np.searchsorted(sequence.label_frames, [start, stop]).tolist())
    chunk = Chunk(
        x=x,
        frames=(sequence.label_frames[span.start : span.stop] - start).tolist(),
        labels=[sequence.labels_at(i) for i in span],
        times_us=sequence.label_times_us[span.start : span.stop].tolist(),
        elapsed_us=sequence.elapsed_us(start, start + len(x)),
        first=first,
        sequence=sequence.name,
    )
    return _without_empty(chunk)


def move_boxes(chunk: Chunk, transforms: Iterable[Transform]) -> Chunk:
    """The chunk with its boxes moved and its frames as they are; a frame whose boxes all left is unlabelled."""
    height, width = chunk.x.shape[-2:]
    labels = chunk.labels
    for transform in transforms:
        labels = [transform.boxes(boxes, height, width) for boxes in labels]
    return _without_empty(chunk._replace(labels=labels))


def draw_for(key: ChunkKey, labels: list[np.ndarray], height: int, width: int) -> list[Straight]:
    """The augmentation of a chunk with those labels, as the seed in its key draws it."""
    if key.seed is None:
        return []
    rng = np.random.default_rng(key.seed)
    if key.stream:
        return draw_stream_transforms(rng, height, width)
    return draw_transforms(rng, labels[-1], height, width) if labels else []


def _without_empty(chunk: Chunk) -> Chunk:
    keep = [i for i, boxes in enumerate(chunk.labels) if len(boxes)]
    return chunk._replace(
        frames=[chunk.frames[i] for i in keep],
        labels=[chunk.labels[i] for i in keep],
        times_us=[chunk.times_us[i] for i in keep],
    )


def check_counts(**counts: int) -> None:
    """An error that names the first argument that is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} is {count}; it must be at least 1")


def as_it_is(batch: Batch) -> Batch:
    """A loader's collate function: the dataset gives batches already.

    It stands here because each process that reads imports the module where it is defined.
    """
    return batch


class Chunks(Dataset):
    """Reads batches: an item is a ``Batch``, asked for by a list of keys, one for each slot; None is padding.

    It depends on its keys alone, so that processes may read ahead. The sequences used last stay open, at
    most ``limit`` of them, so that long runs hold few files. In a loader's process, an ``InputError`` is the item that
    could not be read: raised there, it would come with a traceback as its message (``loader.BatchLoader`` raises it).
    """

    def __init__(self, sequences: list[Sequence], length: int, limit: int = 128) -> None:
        check_counts(length=length)
        self.sequences = sequences
        self.length = length
        self.limit = limit
        self._recent: OrderedDict[int, None] = OrderedDict()
        self._pool, self._past_pool = (
            FramePool(),
            FramePool(),
        )  # frames of one batch after another differ in size

    def __getitem__(self, keys: list[ChunkKey | None]) -> Batch:
        try:
            return self._batch(keys)
        except InputError as error:
            if get_worker_info() is None:
                raise
            return error  # type: ignore[return-value]

    def _batch(self, keys: list[ChunkKey | None]) -> Batch:
        model = self._opened(next((key.sequence for key in keys if key is not None), 0))
        shape = self.length, len(keys), *model.shape
        x = self._pool.take(shape, model.dtype)
        chunks = [self._read(key, x[:, b]) for b, key in enumerate(keys)]
        return batch_of(x, chunks)._replace(past=self._read_past(keys))

    def _read_past(self, keys: list[ChunkKey | None]) -> Past | None:
        """What comes before the chunks, moved as they are."""
        with_past = [(b, key) for b, key in enumerate(keys) if key is not None and key.past]
        if not with_past:
            return None
        with_past.sort(key=lambda entry: -entry[1].past)
        longest, sequence = with_past[0][1].past, self._opened(with_past[0][1].sequence)
        x = self._past_pool.take((longest, len(with_past), *sequence.shape), sequence.dtype)
        elapsed = np.zeros(x.shape[:2], np.int64)
        for s, (_, key) in enumerate(with_past):
            sequence, stop = self._opened(key.sequence), min(key.start + self.length, key.stop)
            labels = label_chunk(sequence, key.start, stop, x[:0, s]).labels
            transforms = draw_for(key, labels, *sequence.shape[1:])
            frames = _one_by_one(sequence, key.start - key.past, key.start)
            x[: longest - key.past, s] = 0
            move_frames(frames, transforms, x[longest - key.past :, s].numpy())
            elapsed[longest - key.past :, s] = sequence.elapsed_us(key.start - key.past, key.start)
        slots, lengths = [b for b, _ in with_past], [key.past for _, key in with_past]
        return Past(x, slots, lengths, torch.from_numpy(elapsed))

    def _read(self, key: ChunkKey | None, out: torch.Tensor) -> Chunk | None:
        if key is None:
            out.zero_()
            return None
        sequence = self._opened(key.sequence)
        if (sequence.shape, sequence.dtype) != (tuple(out.shape[1:]), out.numpy().dtype):
            raise InputError(
                f"{sequence.path}: frames are {sequence.dtype} {sequence.shape}, but those of another sequence "
                f"{out.numpy().dtype} {tuple(out.shape[1:])}; make one set with one sensor and representation"
            )
        if key.seed is None:
            return read_chunk(sequence, key.start, self.length, key.first, key.stop, out)
        stop = min(key.start + self.length, key.stop)
        chunk = label_chunk(sequence, key.start, stop, out, key.first)
        transforms = draw_for(key, chunk.labels, *out.shape[-2:])
        move_frames(_one_by_one(sequence, key.start, stop), transforms, out[: stop - key.start].numpy())
        out[stop - key.start :] = 0
        return move_boxes(chunk, transforms)

    def _opened(self, i: int) -> Sequence:
        self._recent[i] = None
        self._recent.move_to_end(i)
        if len(self._recent) > self.limit:
            self.sequences[self._recent.popitem(last=False)[0]].close()
        return self.sequences[i]

    def close(self) -> None:
        """Close the frame files; the next item opens what it needs."""
        for i in self._recent:
            self.sequences[i].close()
        self._recent.clear()


def _one_by_one(sequence: Sequence, start: int, stop: int) -> Iterator[np.ndarray]:
    """Frames [C, H, W] in turn, all in the same memory, which so stays in the processor's cache."""
    frame = np.empty((1, *sequence.shape), sequence.dtype)
    for i in range(start, stop):
        yield sequence.frames(i, i + 1, out=frame)[0]

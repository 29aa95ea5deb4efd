"""Chunks of sequences for training and evaluation.

Random chunks: L windows that end at a label frame, for training. Evaluation streams: every sequence from
before its first label frame to its end, chunk after chunk, so that a state can be carried.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from ssmbook.dataset.augment import Transform, draw_transforms
from ssmbook.dataset.layout import Sequence
from ssmbook.errors import InputError


class Chunk(NamedTuple):
    """L windows of one sequence, F of them labelled."""

    x: torch.Tensor  # [L, C, H, W]
    frames: list[int]  # F increasing l
    labels: list[np.ndarray]  # F arrays of BOX_DTYPE, in pixels of the frame, none empty
    times_us: list[int]  # F
    first: bool  # a new sequence starts here
    sequence: str  # its name


class Batch(NamedTuple):
    """B chunks of L windows; M of the L · B frames are labelled, with at most G boxes each.

    x [L, B, C, H, W]: uint8 or int8, as the representation is.
    targets [M, G, 5]: class, cx, cy, w, h in pixels, float32; rows of zeros are padding, G ≥ 1.
    frames [M, 2]: (l, b) of the labelled frames, sorted; int64.
    first [B]: a new sequence starts in this slot.
    labels: M arrays of BOX_DTYPE: the boxes of the targets with t in µs and x, y, w, h in pixels.
    times_us [M]: int64, always on the CPU.
    sequences: name of each slot's sequence; "" where the slot has run out.
    """

    x: torch.Tensor
    targets: torch.Tensor
    frames: torch.Tensor
    first: torch.Tensor
    labels: list[np.ndarray]
    times_us: torch.Tensor
    sequences: list[str]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch with what the network needs on a device."""
        x, targets, frames, first = (
            v.to(device, non_blocking=non_blocking) for v in (self.x, self.targets, self.frames, self.first)
        )
        return self._replace(x=x, targets=targets, frames=frames, first=first)


def make_batch(chunks: list[Chunk | None]) -> Batch:
    """Chunks side by side. None is padding: zeros without a label, but not all may be None."""
    real = [chunk for chunk in chunks if chunk is not None]
    shapes = {tuple(chunk.x.shape) for chunk in real}
    if len(shapes) != 1:
        names = ", ".join(f"{chunk.sequence} {tuple(chunk.x.shape)}" for chunk in real)
        raise InputError(f"chunks of one batch differ in shape: {names}")
    padding = torch.zeros_like(real[0].x)
    labelled = [(b, i, chunk) for b, chunk in enumerate(chunks) if chunk for i in range(len(chunk.frames))]
    labelled.sort(key=lambda entry: (entry[2].frames[entry[1]], entry[0]))  # by (l, b)
    pairs = [(chunk.frames[i], b) for b, i, chunk in labelled]
    labels = [chunk.labels[i] for _, i, chunk in labelled]
    return Batch(
        x=torch.stack([padding if chunk is None else chunk.x for chunk in chunks], dim=1),  # [L, B, C, H, W]
        targets=box_targets(labels),
        frames=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        first=torch.tensor([chunk is None or chunk.first for chunk in chunks]),
        labels=labels,
        times_us=torch.tensor([chunk.times_us[i] for _, i, chunk in labelled], dtype=torch.int64),
        sequences=["" if chunk is None else chunk.sequence for chunk in chunks],
    )


def box_targets(labels: list[np.ndarray]) -> torch.Tensor:
    """M arrays of boxes → [M, G, 5]: class, cx, cy, w, h; shorter ones end in rows of zeros, G ≥ 1."""
    targets = np.zeros((len(labels), max([1, *map(len, labels)]), 5), np.float32)
    for row, boxes in zip(targets, labels, strict=True):
        x, y, w, h = (boxes[key] for key in "xywh")
        row[: len(boxes)] = np.stack([boxes["class_id"], x + w / 2, y + h / 2, w, h], axis=-1)
    return torch.from_numpy(targets)


def read_chunk(sequence: Sequence, start: int, length: int, first: bool = True) -> Chunk:
    """Windows start..start + length − 1 of a sequence with their labels; zeros after its end."""
    stop = min(start + length, len(sequence))
    x = torch.from_numpy(sequence.frames(start, stop))
    if len(x) < length:
        x = torch.cat([x, x.new_zeros(length - len(x), *x.shape[1:])])
    span = range(*np.searchsorted(sequence.label_frames, [start, stop]).tolist())
    chunk = Chunk(
        x=x,
        frames=(sequence.label_frames[span.start : span.stop] - start).tolist(),
        labels=[sequence.labels_at(i) for i in span],
        times_us=sequence.label_times_us[span.start : span.stop].tolist(),
        first=first,
        sequence=sequence.name,
    )
    return _without_empty(chunk)


def move_chunk(chunk: Chunk, transforms: list[Transform]) -> Chunk:
    """The chunk after transforms of its frames and boxes; a frame whose boxes all left is unlabelled."""
    x, labels = chunk.x, chunk.labels
    height, width = x.shape[-2:]
    for transform in transforms:
        x = transform.frames(x)
        labels = [transform.boxes(boxes, height, width) for boxes in labels]
    return _without_empty(chunk._replace(x=x, labels=labels))


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


class _OpenSequences:
    """Keeps the sequences used last open, and closes the others, so that long runs hold few files."""

    def __init__(self, sequences: list[Sequence], most: int) -> None:
        self.sequences = sequences
        self.most = most
        self.recent: OrderedDict[int, None] = OrderedDict()

    def __getitem__(self, i: int) -> Sequence:
        self.recent[i] = None
        self.recent.move_to_end(i)
        if len(self.recent) > self.most:
            self.sequences[self.recent.popitem(last=False)[0]].close()
        return self.sequences[i]

    def close(self) -> None:
        for i in self.recent:
            self.sequences[i].close()
        self.recent.clear()


class RandomChunks(Dataset):
    """Chunks of ``length`` windows that end at a label frame, in a fixed order; a sampler shuffles them.

    Label frames with fewer than ``length`` windows up to them are left out; all labels inside a chunk count.
    An item is asked for by its index, or by (index, seed), and then it is augmented as the seed draws.
    """

    def __init__(self, sequences: list[Sequence], length: int) -> None:
        check_counts(length=length)
        self.length = length
        self.items = [
            (i, int(end) + 1 - length)
            for i, sequence in enumerate(sequences)
            for end in sequence.label_frames
            if end + 1 >= length
        ]
        if not self.items:
            raise InputError(
                f"no label frame of {len(sequences)} sequences has {length} windows up to it; use fewer"
            )
        self._open = _OpenSequences(sequences, most=32)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: int | tuple[int, int]) -> Chunk:
        index, seed = key if isinstance(key, tuple) else (key, None)
        i, start = self.items[index]
        chunk = read_chunk(self._open[i], start, self.length)
        if seed is None or not chunk.labels:
            return chunk
        return move_chunk(
            chunk, draw_transforms(np.random.default_rng(seed), chunk.labels[-1], *chunk.x.shape[-2:])
        )

    def close(self) -> None:
        """Close the frame files; the next item opens what it needs."""
        self._open.close()


class EvaluationStreams(Dataset):
    """Batches in order for streaming evaluation: each label frame exactly once.

    Sequences are dealt to ``batch_size`` slots, the longest first, each to the slot with the least to do. A
    slot runs through its sequences, each in consecutive chunks of ``length`` windows from length − 1 windows
    before its first label frame (or its start) to its end, padded with zeros. ``first`` marks the chunk that
    starts a sequence. A slot that has run out gives padding: no label, name "", ``first`` true.

    An item is a ``Batch``; items depend on their index alone, so that workers may read ahead.
    """

    def __init__(self, sequences: list[Sequence], length: int, batch_size: int) -> None:
        check_counts(length=length, batch_size=batch_size)
        self.length = length
        slots: list[list[tuple[int, int, bool]]] = [[] for _ in range(batch_size)]  # (sequence, start, first)
        for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
            labelled = sequences[i].label_frames
            if len(labelled) == 0:
                continue
            begin = max(0, int(labelled[0]) - (length - 1))
            slot = min(slots, key=len)
            slot += [(i, start, start == begin) for start in range(begin, len(sequences[i]), length)]
        self.slots = slots
        self._open = _OpenSequences(sequences, most=batch_size)

    def __len__(self) -> int:
        return max(map(len, self.slots))

    def __getitem__(self, step: int) -> Batch:
        if step >= len(self):
            raise IndexError(step)
        return make_batch([self._chunk(*slot[step]) if step < len(slot) else None for slot in self.slots])

    def __iter__(self) -> Iterator[Batch]:
        return (self[step] for step in range(len(self)))

    def _chunk(self, i: int, start: int, first: bool) -> Chunk:
        return read_chunk(self._open[i], start, self.length, first)

    def close(self) -> None:
        """Close the frame files; the next batch opens what it needs."""
        self._open.close()

"""Which chunks make which batch: random chunks and streams to train on, streams to evaluate on.

A schedule is laid out in the process that trains, from the sequences' labels and time stamps alone. It gives
lists of keys (``ChunkKey``), one for each slot of a batch; ``Chunks`` reads them, in whichever process. What
batch k holds follows from (seed, k): the number of processes that read has no effect, and a run that goes
on after k batches gets batch k.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from ssmbook.dataset.layout import Sequence
from ssmbook.dataset.sequences import Batch, ChunkKey, Chunks, check_counts
from ssmbook.errors import InputError

SAMPLINGS = ("random", "stream", "mixed")
Keys = list[ChunkKey | None]


def random_chunks(sequences: list[Sequence], length: int) -> list[ChunkKey]:
    """The chunks of ``length`` windows that end at a label frame, all labels inside them counting.

    Label frames with fewer than ``length`` windows up to them are left out.
    """
    chunks = [
        ChunkKey(i, int(end) + 1 - length, int(end) + 1)
        for i, sequence in enumerate(sequences)
        for end in sequence.label_frames
        if end + 1 >= length
    ]
    if not chunks:
        most = max((int(s.label_frames[-1]) + 1 for s in sequences if len(s.label_frames)), default=0)
        raise InputError(
            f"no label frame of {len(sequences)} sequences has {length} windows up to it; give a sequence length of at "
            f"most {most}"
        )
    return chunks


def training_streams(sequences: list[Sequence], length: int) -> list[list[ChunkKey]]:
    """The sequences as runs of consecutive chunks, each of which has a label.

    A sequence is cut where two label frames are more than ``length`` windows apart. A run starts
    length − 1 windows before its first label frame (or where its sequence starts) and ends with its last.
    """
    runs = []
    for i, sequence in enumerate(sequences):
        labelled = sequence.label_frames
        cuts = np.flatnonzero(np.diff(labelled) > length) + 1
        for piece in np.split(labelled, cuts) if len(labelled) else ():
            begin, end = max(0, int(piece[0]) - (length - 1)), int(piece[-1]) + 1
            runs.append(_consecutive(i, begin, end, length))
    if not runs:
        raise InputError(f"none of {len(sequences)} sequences has a label frame; preprocess a labelled set")
    return runs


def _consecutive(i: int, begin: int, end: int, length: int) -> list[ChunkKey]:
    return [
        ChunkKey(i, start, min(start + length, end), first=start == begin)
        for start in range(begin, end, length)
    ]


class TrainingSchedule(DistributedSampler):
    """The training batches of one rank, each a list of ``batch_size`` keys; see ``EventDataModule``.

    An epoch is as many batches as the random chunks fill (for streams alone: as the runs' chunks fill); an
    iteration goes from batch ``seen`` to the end of its epoch. ``seen`` is counted by whoever takes the batches.

    Lightning would put a DistributedSampler in place of any other sampler, so it is one.
    """

    def __init__(
        self,
        sequences: list[Sequence],
        length: int,
        batch_size: int,
        *,
        sampling: str = "random",
        augment: bool = True,
        burn_in: int = 0,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        seen: int = 0,
    ) -> None:
        super().__init__(sequences, num_replicas=ranks, rank=rank, seed=seed)  # type: ignore[arg-type]
        check_counts(length=length)
        self.slots = split_slots(batch_size, sampling)
        check_burn_in(burn_in, sampling)
        self.augment, self.burn_in = augment, burn_in
        self.seen = seen
        randoms, streams = self.slots
        self.chunks = random_chunks(sequences, length) if randoms else []
        self.runs = training_streams(sequences, length) if streams else []
        count = len(self.chunks) if randoms else sum(map(len, self.runs))
        self.batches = max(1, count // (ranks * (randoms or streams)))

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Keys]:  # type: ignore[override]
        randoms, streams = self.slots
        sources = [self._random(self.seen, randoms)] if randoms else []
        sources += [self._stream(self.seen, self.rank * streams + slot) for slot in range(streams)]
        for _ in range(self.batches - self.seen % self.batches):
            yield list(itertools.chain.from_iterable(next(source) for source in sources))

    def _random(self, begin: int, count: int) -> Iterator[list[ChunkKey]]:
        """From batch ``begin`` on, ``count`` random chunks for this rank: each epoch in a new order."""
        together = self.num_replicas * count
        for epoch in itertools.count(begin // self.batches):
            rng = np.random.default_rng((self.seed, epoch))
            order = rng.permutation(len(self.chunks))
            seeds = rng.integers(2**63, size=len(self.chunks))
            pasts = rng.integers(
                self.burn_in + 1, size=len(self.chunks)
            )  # last: order and seeds stay as without
            # A set smaller than one batch repeats itself.
            order, seeds, pasts = (np.resize(v, max(len(v), together)) for v in (order, seeds, pasts))
            for step in range(begin % self.batches, self.batches):
                span = slice(step * together + self.rank * count, step * together + (self.rank + 1) * count)
                drawn = (v[span].tolist() for v in (order, seeds, pasts))
                yield [
                    key._replace(seed=seed if self.augment else None, past=min(past, key.start))
                    for key, seed, past in ((self.chunks[i], *more) for i, *more in zip(*drawn, strict=True))
                ]
            begin = 0

    def _stream(self, begin: int, slot: int) -> Iterator[list[ChunkKey]]:
        """From batch ``begin`` on, the chunk of one slot, which runs through its own order of all runs."""
        total = sum(map(len, self.runs))
        for turn in itertools.count(begin // total):
            rng = np.random.default_rng((self.seed, slot, turn))
            order = rng.permutation(len(self.runs)).tolist()
            seeds = rng.integers(2**63, size=len(self.runs)).tolist()
            keys = (
                [key._replace(seed=seed if self.augment else None, stream=True)]
                for i, seed in zip(order, seeds, strict=True)
                for key in self.runs[i]
            )
            yield from itertools.islice(keys, begin % total, None)
            begin = 0


def split_slots(batch_size: int, sampling: str) -> tuple[int, int]:
    """How many of a batch's slots hold random chunks, and how many streams."""
    check_counts(batch_size=batch_size)
    if sampling not in SAMPLINGS:
        raise InputError(f"sampling is {sampling!r}; it can be {', '.join(SAMPLINGS)}")
    if sampling != "mixed":
        return (batch_size, 0) if sampling == "random" else (0, batch_size)
    if batch_size < 2:
        raise InputError(f"batch_size is {batch_size}; mixed sampling needs at least 2")
    randoms = round(batch_size / 2)
    return randoms, batch_size - randoms


def check_burn_in(burn_in: int, sampling: str) -> None:
    """An error where no chunk could have such a past."""
    if burn_in < 0:
        raise InputError(f"burn_in is {burn_in}; it must be at least 0 windows")
    if burn_in and sampling == "stream":
        raise InputError(
            f"burn_in is {burn_in}, but sampling 'stream' has no random chunks; leave it at 0 or take random or mixed"
        )


class EvaluationStreams(Dataset):
    """Batches in order for streaming evaluation: each label frame exactly once, over all ranks together.

    Sequences are dealt to ``ranks`` × ``batch_size`` slots, or fewer where there are fewer sequences, the longest
    first, each to the slot with the least to do.
    A slot runs through its sequences, each in consecutive chunks of ``length`` windows from length − 1 windows
    before its first label frame (or its start) to its end, padded with zeros. ``first`` marks the chunk that
    starts a sequence. A slot that has run out gives padding: no label, name "", ``first`` true; so all ranks
    have as many batches.

    An item is a ``Batch``; items depend on their index alone, so that processes may read ahead.
    """

    def __init__(
        self, sequences: list[Sequence], length: int, batch_size: int, rank: int = 0, ranks: int = 1
    ) -> None:
        check_counts(length=length, batch_size=batch_size)
        labelled = sum(len(sequence.label_frames) > 0 for sequence in sequences)
        batch_size = max(1, min(batch_size, -(-labelled // ranks)))
        slots: list[list[ChunkKey]] = [[] for _ in range(ranks * batch_size)]
        for i in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
            frames = sequences[i].label_frames
            if len(frames):
                begin = max(0, int(frames[0]) - (length - 1))
                min(slots, key=len).extend(_consecutive(i, begin, len(sequences[i]), length))
        self.sequences, self.slots = sequences, slots[rank::ranks]
        self._steps = max(map(len, slots))
        self._chunks = Chunks(sequences, length, limit=batch_size)

    def __len__(self) -> int:
        return self._steps

    def keys(self, step: int) -> Keys:
        """Which chunk each slot of batch ``step`` holds; None is padding."""
        return [slot[step] if step < len(slot) else None for slot in self.slots]

    def __getitem__(self, step: int) -> Batch:
        if step >= len(self):
            raise IndexError(step)
        return self._chunks[self.keys(step)]

    def __iter__(self) -> Iterator[Batch]:
        return (self[step] for step in range(len(self)))

    def close(self) -> None:
        """Close the frame files; the next batch opens what it needs."""
        self._chunks.close()

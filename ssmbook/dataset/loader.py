"""Data for a Lightning trainer: random chunks in training, streams in validation and test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ssmbook.dataset.layout import find_sequences
from ssmbook.dataset.sequences import Batch, EvaluationStreams, RandomChunks, check_counts, make_batch
from ssmbook.errors import InputError


class SeededShuffle(Sampler):
    """The items of a dataset in a new order each epoch, each with a seed of its own for its augmentation.

    Everything follows from (seed, epoch): the number of workers has no say. ``set_epoch`` chooses the
    epoch of the next pass (a trainer calls it); without it epochs count up. The first pass leaves out
    ``skip`` items: a training that goes on does not see them twice.
    """

    def __init__(self, count: int, seed: int, augment: bool, skip: int = 0) -> None:
        self.count = count
        self.seed = seed
        self.augment = augment
        self.skip = skip
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int | tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        skip, self.skip = self.skip, 0
        order = rng.permutation(self.count)[skip:].tolist()
        seeds = rng.integers(2**63, size=self.count)[skip:].tolist()
        return iter(zip(order, seeds, strict=True) if self.augment else order)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class EventDataModule(L.LightningDataModule):
    """A preprocessed set as batches (``Batch``).

    Args:
        data_dir: with ``train``, ``val`` and ``test``, as ``preprocess`` writes them or as the authors of the
            published sets offer them.
        sequence_length: windows of a chunk, L.
        batch_size: chunks of a training batch, slots of an evaluation batch, B.
        representation: name of its folder; None: the only one that is there.
        workers: processes that read ahead; 0: none.
        augment: flip and zoom training chunks at random.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        data_dir: str | Path,
        sequence_length: int = 21,
        batch_size: int = 8,
        representation: str | None = None,
        workers: int = 0,
        augment: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_counts(sequence_length=sequence_length, batch_size=batch_size)
        if workers < 0:
            raise InputError(f"workers is {workers}; it must be at least 0")
        self.data_dir = Path(data_dir)
        self.sequence_length = sequence_length
        self.batch_size = batch_size
        self.representation = representation
        self.workers = workers
        self.augment = augment
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """Random chunks, shuffled anew each epoch; a short last batch is dropped unless alone.

        A trainer that resumes within an epoch gets the batches that it has not seen.
        """
        sequences = find_sequences(self.data_dir / "train", self.representation)
        chunks = RandomChunks(sequences, self.sequence_length)
        seen = 0 if self.trainer is None else self.trainer.global_step * self.trainer.accumulate_grad_batches
        skip = seen % max(len(chunks) // self.batch_size, 1) * self.batch_size
        return self._loader(
            chunks,
            batch_size=self.batch_size,
            sampler=SeededShuffle(len(chunks), self.seed, self.augment, skip),
            collate_fn=make_batch,
            drop_last=len(chunks) >= self.batch_size,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Streams over the validation split."""
        return self._streams("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Streams over the test split."""
        return self._streams("test")

    def _streams(self, split: str) -> DataLoader[Batch]:
        sequences = find_sequences(self.data_dir / split, self.representation)
        streams = EvaluationStreams(sequences, self.sequence_length, self.batch_size)
        return self._loader(streams, batch_size=None, collate_fn=_as_it_is)

    def _loader(self, dataset, **options) -> DataLoader[Batch]:
        # Spawned rather than forked: HDF5 and thread pools do not survive a fork.
        context = "spawn" if self.workers else None
        return DataLoader(
            dataset,
            num_workers=self.workers,
            multiprocessing_context=context,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )


def _as_it_is(batch: Batch) -> Batch:
    """Streams give batches already; the default would turn their boxes into tensors."""
    return batch

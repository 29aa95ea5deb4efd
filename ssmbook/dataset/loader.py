"""Data for a trainer: random chunks, streams or both in training, streams in validation and test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler

from ssmbook.dataset.grid import stride_of
from ssmbook.dataset.layout import find_sequences
from ssmbook.dataset.parameters import mixed_stride
from ssmbook.dataset.schedule import EvaluationStreams, TrainingSchedule, check_burn_in, split_slots
from ssmbook.dataset.sequences import Batch, Chunks, as_it_is, check_counts
from ssmbook.errors import InputError
from ssmbook.processes import end_with_starter, worker_context


class EventDataModule(L.LightningDataModule):
    """A preprocessed set as batches (``Batch``).

    Args:
        data_dir: with ``train``, ``val`` and ``test``, as ``preprocess`` writes them or as the authors of the
            published sets offer them.
        sequence_length: windows of a chunk, L.
        batch_size: chunks of a training batch, slots of an evaluation batch, B.
        representation: name of its folder; None: the only one that is there.
        workers: processes that read ahead; 0: none.
        augment: flip and zoom at random in training: each random chunk, and each sequence of a stream.
        seed: of order and augmentation.
        sampling: of training batches: ``"random"``: chunks that end at a label frame, each epoch in a new
            order; ``"stream"``: each slot runs through all sequences in an order of its own, chunk after chunk,
            and ``Batch.first`` says where the next one starts; ``"mixed"``: both, half of the slots each, random
            ones first.
        train_dir: another set to train on, with ``train``; None: that of ``data_dir``.
        burn_in: windows; each random chunk comes with 0 to as many of its sequence's windows before it, drawn
            uniformly and cut where the sequence begins: ``Batch.past``. 0: none does.

    With several ranks, each has its own ``batch_size`` slots, and training chunks and evaluated sequences are
    dealt to all ranks. The same seed gives the same batches whatever the number of workers.

    ``state_dict`` says how many training batches were taken; after ``load_state_dict``, training goes on with the
    very next one. A trainer's checkpoints hold it.

    Attributes:
        stride_us: of the training windows, once there is a loader; None before, or where sequences differ in it. On
            the mixed grid, the stride that was cut.
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
        sampling: str = "random",
        burn_in: int = 0,
        train_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        check_counts(sequence_length=sequence_length, batch_size=batch_size)
        split_slots(batch_size, sampling)
        check_burn_in(burn_in, sampling)
        if workers < 0:
            raise InputError(f"workers is {workers}; it must be at least 0")
        self.data_dir = Path(data_dir)
        self.train_dir = self.data_dir if train_dir is None else Path(train_dir)
        self.sequence_length = sequence_length
        self.batch_size = batch_size
        self.representation = representation
        self.workers = workers
        self.augment = augment
        self.seed = seed
        self.sampling = sampling
        self.burn_in = burn_in
        self.stride_us: int | None = None
        self._schedule: TrainingSchedule | None = None
        self._seen = 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches from the first that was not taken to the end of its epoch; then epoch after epoch."""
        sequences = find_sequences(self.train_dir / "train", self.representation)
        self.stride_us = mixed_stride(self.train_dir) or stride_of(sequences)
        rank, ranks = _rank_of_ranks()
        self._schedule = TrainingSchedule(
            sequences,
            self.sequence_length,
            self.batch_size,
            sampling=self.sampling,
            augment=self.augment,
            burn_in=self.burn_in,
            seed=self.seed,
            rank=rank,
            ranks=ranks,
            seen=self.state_dict()["seen"],
        )
        return TrainingLoader(Chunks(sequences, self.sequence_length), self._schedule, **self._options())

    def state_dict(self) -> dict[str, Any]:
        """Where training stands: how many batches were taken, and what they follow from."""
        seen = self._seen if self._schedule is None else self._schedule.seen
        return {"seen": seen, **self._settings()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken.

        Raises:
            InputError: it comes from a module with other settings, whose batches are others.
        """
        given = {"burn_in": 0, **state_dict}  # earlier states do not name it
        for name, value in self._settings().items():
            if given.get(name) != value:
                raise InputError(
                    f"training had {name} = {given.get(name)!r}, not {value!r}; go on with the same, or anew"
                )
        self._seen = state_dict["seen"]
        if self._schedule is not None:
            self._schedule.seen = self._seen

    def _settings(self) -> dict[str, Any]:
        names = (
            "sequence_length",
            "batch_size",
            "augment",
            "seed",
            "sampling",
            "burn_in",
        )
        return {**{name: getattr(self, name) for name in names}, "ranks": _rank_of_ranks()[1]}

    def val_dataloader(self) -> DataLoader[Batch]:
        """Streams over the validation split."""
        return self._streams("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Streams over the test split."""
        return self._streams("test")

    def _streams(self, split: str) -> DataLoader[Batch]:
        sequences = find_sequences(self.data_dir / split, self.representation)
        streams = EvaluationStreams(sequences, self.sequence_length, self.batch_size, *_rank_of_ranks())
        return BatchLoader(streams, sampler=_InOrder(streams), **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "batch_size": None,  # the datasets give whole batches
            "collate_fn": as_it_is,
            "num_workers": self.workers,
            # A loader draws a seed for its workers, which need none, when it begins: not from the generator of the
            # training, which after a stop would then go on otherwise.
            "generator": torch.Generator(),
            "multiprocessing_context": worker_context("ssmbook.dataset.schedule") if self.workers else None,
            "worker_init_fn": end_with_starter,
            "persistent_workers": self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }


class BatchLoader(DataLoader):
    """Batches; an ``InputError`` that a worker gives in place of one is raised, see ``Chunks``."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, InputError):
                raise batch
            yield batch


class TrainingLoader(BatchLoader):
    """Batches of a schedule, which counts those that were taken: what workers read ahead does not count.

    Its ``state_dict`` tells Lightning that it resumes by itself.
    """

    def __init__(self, chunks: Chunks, schedule: TrainingSchedule, **options: Any) -> None:
        super().__init__(chunks, sampler=schedule, **options)
        self.schedule = schedule

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            self.schedule.seen += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.schedule.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.schedule.seen = state_dict["seen"]


class _InOrder(DistributedSampler):
    """All items of a dataset that is one rank's share already; Lightning leaves a DistributedSampler as it is."""

    def __init__(self, dataset: EvaluationStreams) -> None:
        super().__init__(dataset, num_replicas=1, rank=0)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]


def _rank_of_ranks() -> tuple[int, int]:
    """This process's rank and how many there are, where a trainer runs on several."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()

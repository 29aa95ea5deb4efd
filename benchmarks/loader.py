"""Training batches per worker: ours against opening, slicing and closing the HDF5 file for each sample.

    python benchmarks/loader.py                       # a generated set of Gen1's size; --set FOLDER for one of yours
    python benchmarks/loader.py --shape 20,360,640 --events 75000 --length 10 --out results/loader.json

Both ways give the same batches, with and without augmentation, from the process itself and from one loader worker,
whose batches are copied once where they arrive, as a device would copy them. The ways take turns, and the best of
several rounds counts. A round's first batches, in which workers start and their memory is made, are not counted.
Everything is done by one thread of one process, but for the copy of what a worker sent.

The other way is the published one: each sample opens its file, slices its windows, closes it, and makes a tensor of
each frame; each transform makes another of each; then PyTorch's own collate function stacks them frame by frame,
in a worker into shared memory. The limit is what no loader can do without: reading and decompressing each frame once,
into memory that is there already.

Generated windows hold 10,000 events, as 50 ms of Gen1 do in the mean (200 GB, 8 bytes an event, in 39 hours).
"""

import argparse
import itertools
import json
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from ssmbook.dataset import Batch, Chunks, TrainingSchedule, find_sequences
from ssmbook.dataset.labels import LabelPlan
from ssmbook.dataset.layout import Sequence, write_sequence
from ssmbook.dataset.sequences import ChunkKey, as_it_is, draw_for
from ssmbook.events import BOX_DTYPE


def generate(folder: Path, shape: tuple[int, int, int], sequences: int, windows: int, events: int) -> None:
    """Sequences whose frames are as dense as driving scenes: events in blobs, a box every fifth window."""
    C, H, W = shape
    rng = np.random.default_rng(0)

    def frame() -> np.ndarray:
        counts = np.zeros(shape, np.uint8)
        blob = rng.integers(0, 60, events)
        x = rng.integers(0, W, 60)[blob] + rng.normal(0, W / 25, events)
        y = rng.integers(0, H, 60)[blob] + rng.normal(0, H / 80, events)
        place = rng.integers(0, C, events), y.clip(0, H - 1).astype(int), x.clip(0, W - 1).astype(int)
        np.add.at(counts, place, 1)
        return counts.clip(max=10)

    labelled = np.arange(4, windows, 5)
    for number in range(sequences):
        boxes = np.zeros(len(labelled), BOX_DTYPE)
        boxes["t"] = 50_000 * (labelled + 1)
        boxes["x"], boxes["y"], boxes["w"], boxes["h"] = W // 3, H // 3, W // 5, H // 4
        plan = LabelPlan(
            boxes, np.arange(len(labelled)), boxes["t"], 50_000 * np.arange(1, windows + 1), labelled
        )
        write_sequence(
            folder / f"s{number:03d}",
            "stacked_histogram_dt=50_nbins=10",
            plan,
            (frame() for _ in range(windows)),
        )


class OpenSliceClose(Dataset):
    """The published way, from the same keys to the same frames: L tensors [B, C, H, W]."""

    def __init__(self, sequences: list[Sequence], length: int) -> None:
        self.sequences, self.length = sequences, length
        self.shape = sequences[0].shape
        self.labels = [[s.labels_at(i) for i in range(len(s.label_frames))] for s in sequences]

    def __getitem__(self, keys: list[ChunkKey]) -> list[torch.Tensor]:
        return default_collate([self.sample(key) for key in keys])

    def sample(self, key: ChunkKey) -> list[torch.Tensor]:
        sequence = self.sequences[key.sequence]
        with h5py.File(sequence.path, "r") as file:
            x = torch.from_numpy(file["data"][key.start : key.stop])
        frames = list(x)
        span = slice(*np.searchsorted(sequence.label_frames, [key.start, key.stop]))
        for transform in draw_for(key, self.labels[key.sequence][span], *self.shape[1:]):
            frames = [transform.frames(frame) for frame in frames]
        return frames


class Limit(Dataset):
    """Each frame read and decompressed once, in files that stay open, into the same memory."""

    def __init__(self, sequences: list[Sequence], length: int) -> None:
        self.sequences = sequences
        self.out = np.empty((length, *sequences[0].shape), sequences[0].dtype)

    def __getitem__(self, keys: list[ChunkKey]) -> None:
        for key in keys:
            self.sequences[key.sequence].frames(key.start, key.stop, out=self.out)


@dataclass(frozen=True)
class InProcess:
    """The batches of a schedule, made where they are used."""

    dataset: Dataset
    schedule: list[list[ChunkKey]]

    def __iter__(self) -> Iterator[Any]:
        return (self.dataset[keys] for keys in self.schedule)


class FromWorker(DataLoader):
    """The same batches from a process, each copied once where it arrives, as to a device."""

    def __init__(self, dataset: Dataset, schedule: list[list[ChunkKey]]) -> None:
        super().__init__(
            dataset,
            sampler=schedule,  # type: ignore[arg-type]
            batch_size=None,
            collate_fn=as_it_is,
            num_workers=1,
            multiprocessing_context="spawn",
            persistent_workers=True,
        )
        self.device: torch.Tensor | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            x = frames_of(batch)
            if self.device is None:
                self.device = torch.empty(len(x), *x[0].shape, dtype=x[0].dtype)
            for here, there in zip(x, self.device, strict=True):
                there.copy_(here)
            yield batch


def frames_of(batch: Any) -> Any:
    """The frames [L, B, C, H, W] of either way's batch, or a list of L."""
    return batch.x if isinstance(batch, Batch) else batch


def best_rates(ways: dict[str, Iterable[Any]], warm: int, frames: int, repeats: int) -> dict[str, float]:
    """Frames/s of each way, the best of interleaved rounds, so that a busy moment of the machine hits all alike.

    Time runs from a round's batch ``warm`` on; ``frames`` come after it.
    """
    best = dict.fromkeys(ways, 0.0)
    for _ in range(repeats):
        for name, way in ways.items():
            start = 0.0
            for i, _ in enumerate(way, 1):
                if i == warm:
                    start = time.perf_counter()
            best[name] = max(best[name], frames / (time.perf_counter() - start))
    return best


def check_equal(ours: Chunks, theirs: OpenSliceClose, schedule: list[list[ChunkKey]]) -> None:
    for keys in schedule[:2]:
        assert torch.equal(ours[keys].x, torch.stack(theirs[keys])), "the two ways give different batches"


def measure(
    sequences: list[Sequence], length: int, batch_size: int, batches: int, warm: int, repeats: int
) -> list[dict[str, Any]]:
    """Rows of frames/s: plain and augmented, in one process and with one worker."""
    rows = []
    for augment in (False, True):
        schedule = TrainingSchedule(sequences, length, batch_size, augment=augment)
        endless = itertools.chain.from_iterable(itertools.repeat(schedule))
        keys = list(itertools.islice(endless, warm + batches))
        theirs, ours = OpenSliceClose(sequences, length), Chunks(sequences, length)
        check_equal(ours, theirs, keys)
        ways: dict[str, Dataset] = {"open, slice, close": theirs, "ours": ours}
        for place, make in (("one process", InProcess), ("one worker", FromWorker)):
            chosen = ways if make is FromWorker else {**ways, "limit": Limit(sequences, length)}
            made: dict[str, Iterable[Any]] = {name: make(way, keys) for name, way in chosen.items()}
            rates = best_rates(made, warm, batches * batch_size * length, repeats)
            rates["ours / theirs"] = rates["ours"] / rates["open, slice, close"]
            rows.append({"where": place, "augment": augment, **rates})
            shown = ", ".join(f"{name} {rate:.4g}" for name, rate in rates.items())
            print(f"{place}, {'augmented' if augment else 'plain'}, frames/s: {shown}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--set", type=Path, help="a split's folder of preprocessed sequences; generated without")
    add("--shape", default="20,240,304", help="of generated frames: C,H,W (default: 20,240,304)")
    add("--events", type=int, default=10_000, help="in each generated window (default: 10000)")
    add("--length", type=int, default=21, help="windows of a chunk (default: 21)")
    add("--batch-size", type=int, default=4, help="chunks of a batch (default: 4)")
    add("--batches", type=int, default=12, help="that are timed in a round (default: 12)")
    add("--warm", type=int, default=4, help="batches of a round before time runs (default: 4)")
    add("--repeats", type=int, default=3, help="rounds (default: 3)")
    add("--out", type=Path, help="json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.set or Path(temporary)
        if options.set is None:
            C, H, W = map(int, options.shape.split(","))
            generate(folder, (C, H, W), sequences=4, windows=40, events=options.events)
        settings = options.length, options.batch_size, options.batches, options.warm, options.repeats
        rows = measure(find_sequences(folder), *settings)
    if options.out:
        record = {"options": {k: str(v) for k, v in vars(options).items() if k != "out"}, "rows": rows}
        record |= {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

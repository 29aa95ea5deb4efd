"""Training batches per worker: ours against opening, slicing and closing the HDF5 file for each sample.

    python benchmarks/loader.py                       # a generated set of Gen1's size; --set FOLDER for one of yours
    python benchmarks/loader.py --shape 20,360,640 --length 10 --out results/loader.json

Both ways give the same batches, from one process and with one loader worker, with and without augmentation; they are
timed in turns, and the best of several rounds counts. The limit is what no loader can do without: reading and
decompressing each frame once, into memory that is there already.

The other way is the published one: each sample opens its file, slices its windows, closes it, and makes a tensor
of each frame; each transform makes another of each; then the batch is stacked frame by frame.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ssmbook.dataset import Chunks, TrainingSchedule, find_sequences
from ssmbook.dataset.labels import LabelPlan
from ssmbook.dataset.layout import Sequence, write_sequence
from ssmbook.dataset.sequences import ChunkKey, as_it_is, draw_for, read_chunk
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
    """The published way, from the same keys to the same batches."""

    def __init__(self, sequences: list[Sequence], length: int) -> None:
        self.sequences, self.length = sequences, length

    def __getitem__(self, keys: list[ChunkKey]) -> torch.Tensor:
        samples = [self.sample(key) for key in keys]
        return torch.stack([torch.stack(frames) for frames in zip(*samples, strict=True)])  # [L, B, C, H, W]

    def sample(self, key: ChunkKey) -> list[torch.Tensor]:
        sequence = self.sequences[key.sequence]
        with h5py.File(sequence.path, "r") as file:
            x = torch.from_numpy(file["data"][key.start : key.stop])
        frames = list(x)
        span = range(*np.searchsorted(sequence.label_frames, [key.start, key.stop]))
        labels = [self.boxes(sequence, i) for i in span]
        for transform in draw_for(key, labels, *x.shape[-2:]):
            frames = [transform.frames(frame) for frame in frames]
        return frames

    def boxes(self, sequence: Sequence, i: int) -> np.ndarray:
        boxes = sequence.labels_at(i)
        sequence.close()
        return boxes


class Limit(Dataset):
    """Each frame read and decompressed once, in files that stay open, into the same memory."""

    def __init__(self, sequences: list[Sequence], length: int) -> None:
        self.sequences = sequences
        self.out = np.empty((length, *sequences[0].shape), sequences[0].dtype)

    def __getitem__(self, keys: list[ChunkKey]) -> None:
        for key in keys:
            self.sequences[key.sequence].frames(key.start, key.stop, out=self.out)


def in_process(dataset: Dataset, schedule: list[list[ChunkKey]]) -> Callable[[], None]:
    def run() -> None:
        for keys in schedule:
            dataset[keys]

    return run


def with_worker(dataset: Dataset, schedule: list[list[ChunkKey]]) -> Callable[[], None]:
    loader = DataLoader(
        dataset,
        sampler=schedule,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=as_it_is,
        num_workers=1,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )

    def run() -> None:
        for _ in loader:
            pass

    return run


def best_rates(runs: dict[str, Callable[[], None]], frames: int, repeats: int) -> dict[str, float]:
    """Frames/s of each way, the best of interleaved rounds, so that a busy moment of the machine hits all alike."""
    for run in runs.values():
        run()  # spawns workers, fills the page cache
    best = dict.fromkeys(runs, 0.0)
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = max(best[name], frames / (time.perf_counter() - start))
    return best


def check_equal(ours: Chunks, theirs: OpenSliceClose, schedule: list[list[ChunkKey]]) -> None:
    for keys in schedule[:2]:
        assert torch.equal(ours[keys].x, theirs[keys]), "the two ways give different batches"
    chunk = read_chunk(ours.sequences[schedule[0][0].sequence], 0, 1)
    assert chunk.x.dtype == torch.uint8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--set", type=Path, help="a split's folder of preprocessed sequences; generated without"
    )
    parser.add_argument("--shape", default="20,240,304", help="of generated frames: C,H,W")
    parser.add_argument("--events", type=int, default=25_000, help="in each generated window")
    parser.add_argument("--length", type=int, default=21)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.set or Path(temporary)
        if options.set is None:
            C, H, W = map(int, options.shape.split(","))
            generate(folder, (C, H, W), sequences=8, windows=40, events=options.events)
        sequences = find_sequences(folder)
        frames = options.batches * options.batch_size * options.length
        rows = []
        for augment in (False, True):
            schedule = TrainingSchedule(sequences, options.length, options.batch_size, augment=augment)
            batches = [keys for _, keys in zip(range(options.batches), schedule, strict=False)]
            ways = {
                "open, slice, close": OpenSliceClose(sequences, options.length),
                "ours": Chunks(sequences, options.length),
                "limit": Limit(sequences, options.length),
            }
            check_equal(ways["ours"], ways["open, slice, close"], batches)  # type: ignore[arg-type]
            for place, make in (("one process", in_process), ("one worker", with_worker)):
                chosen = {name: way for name, way in ways.items() if name != "limit" or make is in_process}
                rates = best_rates({n: make(w, batches) for n, w in chosen.items()}, frames, options.repeats)
                rows.append({"where": place, "augment": augment, **rates})
                ratio = rates["ours"] / rates["open, slice, close"]
                print(
                    f"{place}, {'augmented' if augment else 'plain'}: "
                    + ", ".join(f"{name} {rate:.0f} frames/s" for name, rate in rates.items())
                    + f"; ours / theirs {ratio:.2f}"
                )
    if options.out:
        record = {"options": {k: str(v) for k, v in vars(options).items()}, "rows": rows}
        record |= {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""A set to train on that is made in a moment: random events, boxes that stand still."""

from pathlib import Path

import numpy as np

from ssmbook.dataset import EventDataModule, Sensor, preprocess
from ssmbook.events import BOX_DTYPE, DatWriter, Events
from ssmbook.training.settings import Training

SIZE = 64
SENSOR = Sensor.simulated(SIZE, SIZE)
TRAINING = Training(
    steps=6,
    batch_size=2,
    sequence_length=3,
    learning_rate=1e-3,
    warmup=0.2,
    sampling="mixed",
    validate_every=4,
    save_every=2,
    workers=0,
)


def make_set(folder: Path, train: int = 2, val: int = 2) -> Path:
    """Raw files in ``folder/raw`` and the preprocessed set in ``folder/set``, which is returned."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val), ("test", 1)):
        (folder / "raw" / split).mkdir(parents=True)
        for number in range(count):
            end_us = 700_000 + 50_000 * number
            t = np.sort(rng.integers(0, end_us, size=3000))
            with DatWriter(folder / "raw" / split / f"{split}{number}_td.dat", SIZE, SIZE) as file:
                file.write(Events(t, *(rng.integers(0, size, size=3000) for size in (SIZE, SIZE, 2))))
            boxes = np.zeros(end_us // 50_000 - 2, BOX_DTYPE)
            boxes["t"] = 50_000 * (2 + np.arange(len(boxes)))
            boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 8 + 4 * number, 6, 20, 16
            boxes["class_id"] = number % 2
            np.save(folder / "raw" / split / f"{split}{number}_bbox.npy", boxes)
    preprocess(folder / "raw", folder / "set", sensor=SENSOR, progress=False)
    return folder / "set"


def data_module(data_dir: Path, training: Training = TRAINING, processes: int = 1) -> EventDataModule:
    """The set as one of some processes takes it."""
    return EventDataModule(
        data_dir,
        training.sequence_length,
        training.batch_size // training.accumulate // processes,
        seed=training.seed,
        sampling=training.sampling,
        burn_in=training.burn_in,
    )

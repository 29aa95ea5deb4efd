"""Simulated sequences, one or a whole set, in Gen1's raw format: ``<split>/<name>_td.dat`` and ``<name>_bbox.npy``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.boxes import write_boxes
from ssmbook.events.events import Events
from ssmbook.events.formats import DatWriter
from ssmbook.events.simulate.pixel import PixelArray, PixelModel
from ssmbook.events.simulate.render import actor_table, background, render
from ssmbook.events.simulate.scene import DEMO_SCENE, Scene, Street
from ssmbook.files import atomic_write
from ssmbook.progress import progress_bar

STEP_US = 1000  # between rendered moments
CHUNK_US = 50_000  # of events at a time
PARAMETERS = "simulation.json"
DEMO_SEQUENCES = {"train": 60, "val": 12, "test": 16}


class SimulatedSequence:
    """One drive through a simulated street.

    Args:
        scene: what the street is drawn from.
        pixel: the sensor's pixels.
        seed: draws everything; the same seed gives the same events and boxes.
    """

    def __init__(self, scene: Scene = DEMO_SCENE, pixel: PixelModel | None = None, seed: int = 0) -> None:
        self.scene, self.pixel = scene, pixel or PixelModel()
        street, self._sensor = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
        self.street = Street(scene, street)
        self._texture = background(scene.height, scene.width, self.street.texture_seed)
        self._table = actor_table(self.street)

    def boxes(self) -> np.ndarray:
        """All labels, ``BOX_DTYPE``."""
        return self.street.boxes()

    def frames(self, times_us: np.ndarray) -> np.ndarray:
        """Log intensity [T, H, W] float32 at times [T] in µs."""
        t = np.asarray(times_us) / 1e6
        out = np.empty((len(t), self.scene.height, self.scene.width), np.float32)
        for image, shift, geometry in zip(
            out, self.street.background_x(t), self.street.geometry(t), strict=True
        ):
            render(self._texture, shift, self._table, geometry, image)
        return out

    def events(self) -> Iterator[Events]:
        """The events of the whole drive, 50 ms at a time; memory does not grow with the duration.

        A second call goes through the same street with other noise.
        """
        end = self.scene.duration_us
        pixels = PixelArray(self.pixel, self.frames(np.zeros(1))[0], self._sensor)
        for t0 in range(0, end, CHUNK_US):
            t1 = min(t0 + CHUNK_US, end)
            steps = max(round((t1 - t0) / STEP_US), 1)
            yield pixels.expose(self.frames(np.linspace(t0, t1, steps + 1)[1:]), t0, t1)


def simulate_set(
    out_dir: str | Path,
    scene: Scene = DEMO_SCENE,
    pixel: PixelModel | None = None,
    sequences: dict[str, int] | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> None:
    """Write a simulated set as raw files; sequences that are there already are kept.

    Args:
        out_dir: for ``train``, ``val`` and ``test``, each with ``sim_<split>_<number>_td.dat`` and ``…_bbox.npy``; a
            sequence is complete when its box file is there.
        scene, pixel: see ``Scene`` and ``PixelModel``.
        sequences: how many of each split; 60, 12 and 16 by default.
        seed: the same seed gives the same bytes, whatever the number of workers.
        workers: processes.
        progress: show a bar.

    Raises:
        InputError: ``out_dir`` holds a set with other parameters.
    """
    out_dir, pixel, sequences = Path(out_dir), pixel or PixelModel(), sequences or DEMO_SEQUENCES
    _claim(out_dir, {"scene": asdict(scene), "pixel": asdict(pixel), "sequences": sequences, "seed": seed})
    jobs = []
    for number, (split, count) in enumerate(sequences.items()):
        (out_dir / split).mkdir(exist_ok=True)
        for i in range(count):
            stem = out_dir / split / f"sim_{split}_{i:04d}"
            if not stem.with_name(f"{stem.name}_bbox.npy").exists():
                own = int(np.random.SeedSequence((seed, number, i)).generate_state(1, np.uint64)[0])
                jobs.append((stem, scene, pixel, own))
    bar = progress_bar(total=len(jobs), desc="simulate", unit="sequence", show=progress and bool(jobs))
    with bar:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                _write(*job)
                bar.update()
            return
        pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
        try:
            for done in as_completed([pool.submit(_write, *job) for job in jobs]):
                done.result()
                bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _write(stem: Path, scene: Scene, pixel: PixelModel, seed: int) -> None:
    """One sequence: events first, boxes last."""
    sequence = SimulatedSequence(scene, pixel, seed)
    with DatWriter(stem.with_name(f"{stem.name}_td.dat"), scene.width, scene.height) as file:
        for events in sequence.events():
            file.write(events)
    write_boxes(stem.with_name(f"{stem.name}_bbox.npy"), sequence.boxes())


def _claim(out_dir: Path, parameters: dict) -> None:
    """Note what the set is made with, or check that it is made with the same."""
    record, text = out_dir / PARAMETERS, json.dumps(parameters, indent=1)
    if record.exists():
        if record.read_text() != text:
            raise InputError(
                f"{out_dir}: holds a set simulated with other parameters, see {record}; choose another folder"
            )
        return
    out_dir.mkdir(parents=True, exist_ok=True)
    with atomic_write(record) as file:
        file.write(text.encode())

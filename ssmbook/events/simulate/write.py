"""Simulated sequences, one or a whole set, in Gen1's raw format: ``<split>/<name>_td.dat`` and ``<name>_bbox.npy``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.boxes import write_boxes
from ssmbook.events.events import Events
from ssmbook.events.formats import DatWriter
from ssmbook.events.simulate.array import PixelArray
from ssmbook.events.simulate.pixel import PixelModel
from ssmbook.events.simulate.render import actor_table, background, render, wrapped
from ssmbook.events.simulate.scene import DEMO_SCENE, Scene, Street
from ssmbook.events.simulate.sets import DEMO_SET, Simulation
from ssmbook.files import atomic_write, lock
from ssmbook.processes import ProcessEnded, run_calls
from ssmbook.progress import progress_bar

STEP_US = 1000  # between rendered moments
CHUNK_US = 50_000  # of events at a time
PARAMETERS = "simulation.json"


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
        texture = scene.background_contrast * background(scene.height, scene.width, self.street.texture_seed)
        self._texture = wrapped(texture.astype(np.float32), scene.width)
        self._table = actor_table(self.street)

    def boxes(self) -> np.ndarray:
        """All labels, ``BOX_DTYPE``."""
        return self.street.boxes()

    def frames(self, times_us: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Log intensity [T, H, W] float32 at times [T] in µs; in ``out`` if it is given."""
        t = np.asarray(times_us) / 1e6
        if out is None:
            out = np.empty((len(t), self.scene.height, self.scene.width), np.float32)
        moments = self.street.background_x(t), self.street.geometry(t), self.street.pillars(t)
        for image, shift, geometry, pillars in zip(out, *moments, strict=True):
            render(self._texture, shift, self._table, geometry, pillars, image)
        return out

    def events(self) -> Iterator[Events]:
        """The events of the whole drive, 50 ms at a time; memory does not grow with the duration.

        A second call goes through the same street with other noise.
        """
        end = self.scene.duration_us
        pixels = PixelArray(self.pixel, self.frames(np.zeros(1))[0], self._sensor)
        buffer = self.frames(np.zeros(max(round(CHUNK_US / STEP_US), 1)))
        for t0 in range(0, end, CHUNK_US):
            t1 = min(t0 + CHUNK_US, end)
            steps = max(round((t1 - t0) / STEP_US), 1)
            yield pixels.expose(self.frames(np.linspace(t0, t1, steps + 1)[1:], buffer[:steps]), t0, t1)


def simulate_set(
    out_dir: str | Path, simulation: Simulation = DEMO_SET, workers: int = 1, progress: bool = True
) -> None:
    """Write a simulated set as raw files; sequences that are there already are kept.

    Args:
        out_dir: for ``train``, ``val`` and ``test``, each with ``sim_<split>_<number>_td.dat`` and ``…_bbox.npy``; a
            sequence is complete when its box file is there.
        simulation: see ``Simulation``; the same gives the same bytes, whatever the number of workers.
        workers: processes.
        progress: show a bar.

    Raises:
        InputError: ``out_dir`` holds a set with other parameters or recordings, or a process was ended.
    """
    out_dir = Path(out_dir)
    with lock(out_dir, "simulates into it"):
        _claim(out_dir, simulation)
        jobs = list(_missing(out_dir, simulation))
        bar = progress_bar(total=len(jobs), desc="simulate", unit="sequence", show=progress and bool(jobs))
        ended = 0
        with bar:
            for _, result in run_calls(_write, jobs, workers, client=None):
                if isinstance(result, ProcessEnded):
                    ended += 1
                elif isinstance(result, BaseException):
                    raise result
                bar.update()
    if ended:
        raise InputError(
            f"{out_dir}: {ended} of {len(jobs)} sequences are missing, for their processes ended (if they say nothing "
            "above, was there memory enough?); the same command makes them"
        )


def _missing(out_dir: Path, simulation: Simulation) -> Iterator[tuple[Path, Scene, PixelModel, int]]:
    """The arguments of ``_write`` for each sequence that is not there."""
    for number, (split, count) in enumerate(simulation.sequences.items()):
        (out_dir / split).mkdir(exist_ok=True)
        for i in range(count):
            stem = out_dir / split / f"sim_{split}_{i:04d}"
            if not stem.with_name(f"{stem.name}_bbox.npy").exists():
                scene, pixel, seed = simulation.sequence(split, number, i)
                yield stem, scene, pixel, seed


def _write(stem: Path, scene: Scene, pixel: PixelModel, seed: int) -> None:
    """One sequence: events first, boxes last; events that are there are whole."""
    sequence, path = SimulatedSequence(scene, pixel, seed), stem.with_name(f"{stem.name}_td.dat")
    if not path.exists():
        with DatWriter(path, scene.width, scene.height) as file:
            for events in sequence.events():
                file.write(events)
    write_boxes(stem.with_name(f"{stem.name}_bbox.npy"), sequence.boxes())


def _claim(out_dir: Path, simulation: Simulation) -> None:
    """Note what the set is made with, or check that it is made with the same."""
    record, text = out_dir / PARAMETERS, json.dumps(asdict(simulation), indent=1)
    if not record.exists():
        if other := next((p for split in simulation.sequences for p in (out_dir / split).glob("*")), None):
            raise InputError(
                f"{out_dir}: holds {other.name}, which was not simulated; choose another folder, or for recordings of "
                "your own a profile that does not simulate, as gen1-small with a sensor of yours"
            )
        out_dir.mkdir(parents=True, exist_ok=True)
        with atomic_write(record) as file:
            file.write(text.encode())
    elif _complete(record) != json.loads(text):
        raise InputError(
            f"{out_dir}: holds a set simulated with other parameters, see {record}; choose another folder"
        )


def _complete(record: Path) -> dict[str, Any]:
    """What a set was made with; arguments that did not exist yet when it was made have their defaults."""
    defaults = json.loads(json.dumps(asdict(Simulation(Scene(), {}))))
    try:
        noted = json.loads(record.read_text(encoding="utf-8"))
        parts = {name: {**defaults[name], **noted[name]} for name in ("scene", "pixel")}
        return {**defaults, **noted, **parts}
    except (ValueError, TypeError, KeyError):
        raise InputError(
            f"{record}: does not say what the set was made with; choose another folder, or remove this one"
        ) from None

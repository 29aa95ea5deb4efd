"""What a preprocessing would read and write, without doing it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ssmbook.dataset.jobs import Job, find_jobs
from ssmbook.dataset.labels import LATE_START_US, LabelCounts, LabelPlan, read_labels
from ssmbook.dataset.layout import SPLITS
from ssmbook.dataset.parameters import Parameters
from ssmbook.dataset.preprocess import Sets, plan_sequence, recorded_span, set_parameters
from ssmbook.dataset.sensor import Sensor, get_sensor
from ssmbook.dataset.windows import Frames, FrameSink
from ssmbook.errors import InputError
from ssmbook.events import open_events

SAMPLED_SEQUENCES = 5
SAMPLED_WINDOWS = 8


@dataclass
class Estimate:
    """What it takes to make the sequences of a set that are not there yet.

    ``hours`` are those up to each sequence's last label; ``bytes_in`` are the sizes of the recordings;
    ``bytes_out`` is the number of windows × the mean size of sampled ones, compressed. ``failures``: sequences
    whose files cannot be read, and why. ``labels``: what would become of the boxes, as far as that can be said
    without reading the events: those after the last event are not known.
    """

    sequences: int = 0
    without_labels: int = 0
    hours: float = 0.0
    windows: int = 0
    bytes_in: int = 0
    bytes_out: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    labels: LabelCounts = field(default_factory=LabelCounts)


def estimate(
    raw_dir: str | os.PathLike[str],
    sets: Sets,
    sensor: str | Path | Sensor = "gen1",
    splits: Sequence[str] = SPLITS,
) -> dict[Path, Estimate]:
    """The cost of each set that ``preprocess_sets`` would make with the same arguments. Nothing is written.

    All box files are read, since they say how many windows there will be. The size of a window is the mean
    over the first 8 of 5 sequences, which are taken at even distances from the list.
    """
    sensor = get_sensor(sensor)
    jobs, unlabelled = find_jobs(Path(raw_dir), splits)
    return {
        Path(out): _estimate(jobs, len(unlabelled), Path(out), set_parameters(sensor, settings))
        for out, settings in sets.items()
    }


def _estimate(jobs: Sequence[Job], unlabelled: int, out: Path, target: Parameters) -> Estimate:
    found = Estimate(without_labels=unlabelled)
    plans: list[tuple[Job, LabelPlan]] = []
    for job in jobs:
        if (out / str(job)).is_dir():
            continue
        try:
            plan, counts, start_us = _plan(job, target)
            size = job.recording.stat().st_size
        except (InputError, OSError) as error:
            found.failures[str(job)] = str(error)
            continue
        found.labels.add(counts)
        if plan is None:
            found.without_labels += 1
            continue
        plans.append((job, plan))
        found.sequences += 1
        found.hours += (plan.window_ends_us[-1] - start_us) / 3.6e9
        found.windows += len(plan.window_ends_us)
        found.bytes_in += size
    sizes: list[int] = []
    for i in sorted({round(k) for k in np.linspace(0, len(plans) - 1, SAMPLED_SEQUENCES)} if plans else ()):
        job, plan = plans[i]
        try:
            sizes += _window_sizes(job, plan, target)
        except InputError as error:
            found.failures[str(job)] = str(error)
    found.bytes_out = found.windows * float(np.mean(sizes)) if sizes else 0.0
    return found


def _plan(job: Job, target: Parameters) -> tuple[LabelPlan | None, LabelCounts, int]:
    """As ``plan_sequence``, and where the recording starts: 0, or the first stamp of a clock that began earlier."""
    job.check_recording()
    boxes = read_labels(job.boxes, target.sensor)
    with open_events(job.recording, target.sensor.width, target.sensor.height) as recording:
        span = recorded_span(job, recording, boxes)
    plan, counts = plan_sequence(job, boxes, target, span)
    return plan, counts, span.start_us if span.start_us >= LATE_START_US else 0


def _window_sizes(job: Job, plan: LabelPlan, target: Parameters) -> list[int]:
    """Bytes of a sequence's first windows, compressed."""
    sizes: list[int] = []
    ends_us = plan.window_ends_us[:SAMPLED_WINDOWS]
    sink = FrameSink.of(
        target.represent,
        ends_us,
        target.window_us,
        target.window_events,
        lambda chunk: sizes.append(len(chunk.data)),
    )
    with (
        Frames() as frames,
        open_events(job.recording, target.sensor.width, target.sensor.height) as recording,
    ):
        for block in recording.blocks():
            frames.take(sink, sink.windows.push(block))
            if sink.windows.done:
                break
        frames.take(sink, sink.windows.finish())
    return sizes

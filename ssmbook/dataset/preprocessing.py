"""From a folder of raw recordings to a folder of sequences that training reads.

    raw_dir/<split>/…                    recordings and their boxes, see ``jobs``
    out_dir/<split>/<sequence>/…         the published layout, see ``layout``
    out_dir/preprocess.json              what it was made with

Events stream: a recording is read once, block by block, for all the sets that are made from it, and only
what the next windows need is kept. Sequences are independent, so they are what is shared out to processes.
"""

from __future__ import annotations

import os
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ssmbook.dataset.jobs import Job, find_jobs
from ssmbook.dataset.labels import (
    AFTER_END_US,
    NO_EVENTS,
    LabelCounts,
    LabelPlan,
    plan_labels,
    read_labels,
)
from ssmbook.dataset.layout import SPLITS, remove_partial, sequence_writer
from ssmbook.dataset.parameters import PARAMETERS, Parameters, claim
from ssmbook.dataset.sensor import Sensor, get_sensor
from ssmbook.dataset.windows import FrameSink, Read, write_frames
from ssmbook.errors import InputError
from ssmbook.events import Recording, get_representation, open_events
from ssmbook.files import lock, remove_dead_lock
from ssmbook.processes import run_calls
from ssmbook.progress import progress_bar

if TYPE_CHECKING:
    from distributed import Client

#: For each ``out_dir`` of ``preprocess_sets``, what its set is made with.
Sets = Mapping[str, Mapping[str, Any]] | Mapping[Path, Mapping[str, Any]]

#: Events and labels that lie further apart than this minute have different clocks.
CLOCKS_APART_US = 60_000_000

SHOWN = 5  # recordings that warnings name


@dataclass
class Summary:
    """What a run did, as ``split/sequence``: made now, whole already, and without a label that counts.

    ``labels``: for each set, what became of the boxes of the sequences that were read now. ``events``: for each
    recording of which events were dropped, how many, and which was the first.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    without_labels: list[str] = field(default_factory=list)
    labels: dict[Path, LabelCounts] = field(default_factory=dict, compare=False)
    events: dict[str, str] = field(default_factory=dict)

    def warnings(self, sensor: Sensor) -> list[str]:
        """What deserves a look, a line each: boxes off the grid, boxes without events, events dropped."""
        lines = []
        for out, counts in self.labels.items():
            if warning := counts.warning(sensor):
                lines.append(f"{out}: {warning}")
            if lost := counts.dropped[NO_EVENTS]:
                lines.append(
                    f"{out}: {lost:,} of {counts.read:,} boxes lie after the last event and were dropped"
                )
        dropped = [f"{name}: {words}" for name, words in sorted(self.events.items())]
        if len(dropped) > SHOWN:
            dropped[SHOWN:] = [f"events were dropped from {len(dropped) - SHOWN} more recordings"]
        return [*lines, *dropped]


class SequencesFailed(InputError):
    """Some sequences could not be made; the others were. ``failures``: sequence → reason, all of them."""

    def __init__(self, failures: dict[str, str], summary: Summary) -> None:
        rows = [f"{name}: {reason}" for name, reason in sorted(failures.items())]
        total = len(rows) + len(summary.done) + len(summary.skipped) + len(summary.without_labels)
        super().__init__(f"{len(rows)} of {total} sequences failed: {'; '.join(rows)}")
        self.failures = failures
        self.summary = summary


def preprocess(
    raw_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    sensor: str | Path | Sensor = "gen1",
    representation: str = "stacked_histogram",
    window_ms: float | None = None,
    window_events: int | None = None,
    stride_ms: float = 50,
    grid: str = "exact",
    splits: Sequence[str] = SPLITS,
    workers: int = 1,
    client: Client | None = None,
    progress: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Summary:
    """Make the sequences of a set, in the published layout.

    A sequence appears when it is whole; run again after an interruption, the same call makes what is
    missing. One run at a time writes to an ``out_dir``; another one waits for it. Four bad sequences of Gen1 are left
    out by name. What deserves a look (``Summary.warnings``) is a Python warning too.

    Args:
        raw_dir: ``train``, ``val`` and ``test`` (any of them) with recordings and their boxes.
        out_dir: made if needed; what is there must have been made with the same parameters.
        sensor: ``"gen1"``, ``"gen4"``, a ``Sensor`` or the path of its YAML file.
        representation: a name of ``REPRESENTATIONS``.
        window_ms, window_events: a window is either the events of a time before its end, both edges
            included, or the last n events up to its end. By default 50 ms, and on the mixed grid from the end of
            the window before; traces have no window.
        stride_ms: time between the ends of windows, or between the times at which traces are read.
        grid: ``"exact"``; ``"published"`` for the windows that the published script makes; or ``"mixed"`` for
            steps from a tenth of the stride to four strides, to train for all of their rates.
        splits: which of them to make.
        workers: processes of this machine, each of which makes a sequence at a time; where there are fewer
            sequences, threads of theirs. A process needs less than 400 MB, however long the recordings, and
            as much again as the events of its longest window if those are many; a thread, two frames.
        client: of a Dask cluster, whose workers make the sequences instead; both folders must have the same
            paths there.
        progress: show a progress bar.
        options: arguments of the representation, as ``{"taus_ms": [2.5, 5]}``; its own defaults if not given.

    Raises:
        InputError: a parameter or a folder is wrong; nothing was written.
        SequencesFailed: some sequences could not be made (an InputError too); the others were.
    """
    settings = {
        "representation": representation,
        "window_ms": window_ms,
        "window_events": window_events,
        "stride_ms": stride_ms,
        "grid": grid,
        "options": options or {},
    }
    return preprocess_sets(raw_dir, {Path(out_dir): settings}, sensor, splits, workers, client, progress)


def preprocess_sets(
    raw_dir: str | os.PathLike[str],
    sets: Sets,
    sensor: str | Path | Sensor = "gen1",
    splits: Sequence[str] = SPLITS,
    workers: int = 1,
    client: Client | None = None,
    progress: bool = True,
) -> Summary:
    """Make several sets from one reading of the raw recordings.

    Args:
        sets: for each ``out_dir`` what its set is made with: ``representation``, ``window_ms`` or
            ``window_events``, ``stride_ms``, ``grid`` and ``options``, any of them, as for ``preprocess``.

    The other arguments, and what is raised, are those of ``preprocess``. A sequence counts as made if some set
    lacked it; where it fails, it fails for the sets that lacked it.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1")
    sensor = get_sensor(sensor)
    targets = {Path(out): set_parameters(sensor, settings) for out, settings in sets.items()}
    raw = Path(raw_dir)
    if client is not None:  # whose workers stand in other folders
        raw, targets = raw.absolute(), {out.absolute(): target for out, target in targets.items()}
    jobs, unlabelled = find_jobs(raw, splits)
    with ExitStack() as locks:
        for out in sorted(targets):  # in one order, so that two runs do not wait for each other
            if not _is_complete(out, targets[out], jobs):
                locks.enter_context(lock(out, "preprocesses into it"))
            else:
                remove_dead_lock(out)
        summary, failures = _make_missing(jobs, targets, workers, client, progress)
    summary.without_labels = sorted([*summary.without_labels, *unlabelled])
    for warning in summary.warnings(sensor):
        warnings.warn(warning, stacklevel=2)
    if failures:
        raise SequencesFailed(failures, summary)
    return summary


def _make_missing(
    jobs: Sequence[Job],
    targets: Mapping[Path, Parameters],
    workers: int,
    client: Client | None,
    progress: bool,
) -> tuple[Summary, dict[str, str]]:
    """Make what the sets lack; returns what was done, and why sequences failed."""
    for out, target in targets.items():
        claim(out, target)
    todo = [(job, missing) for job in jobs if (missing := _missing(job, targets))]
    skipped = {str(job) for job in jobs} - {str(job) for job, _ in todo}
    summary = Summary(skipped=sorted(skipped))
    if not todo:
        return summary, {}
    for out in targets:
        for split in {job.split for job in jobs}:
            (out / split).mkdir(exist_ok=True)
    _remove_partial(targets, jobs)
    try:
        failures = _run(todo, summary, workers, client, progress)
    finally:
        _remove_partial(targets, jobs)  # of processes that were ended, or that a cluster lost
    summary.done.sort()
    return summary, failures


def _is_complete(out: Path, target: Parameters, jobs: Sequence[Job]) -> bool:
    """Whether a set is whole already, and need not be written to."""
    return (out / PARAMETERS).exists() and not any(_missing(job, {out: target}) for job in jobs)


def set_parameters(sensor: Sensor, settings: Mapping[str, Any]) -> Parameters:
    """The parameters of a set from those that are given for it; the rest are the defaults of ``preprocess``."""
    known = ("representation", "window_ms", "window_events", "stride_ms", "grid", "options")
    for key in settings:
        if key not in known:
            raise InputError(f"setting {key!r} of a set is unknown; known are {', '.join(known)}")
    given: dict[str, Any] = {
        "representation": "stacked_histogram",
        "window_ms": None,
        "window_events": None,
        "stride_ms": 50,
        "grid": "exact",
        **settings,
    }
    windowed = get_representation(given["representation"]).windowed and given["grid"] != "mixed"
    if windowed and given["window_ms"] is None and given["window_events"] is None:
        given["window_ms"] = 50
    return Parameters(sensor, **given)


def _missing(job: Job, targets: Mapping[Path, Parameters]) -> dict[Path, Parameters]:
    """The sets that lack a sequence."""
    return {out: target for out, target in targets.items() if not (out / str(job)).is_dir()}


def _remove_partial(targets: Mapping[Path, Parameters], jobs: Sequence[Job]) -> None:
    """Delete what runs that ended in the middle have left."""
    for out in targets:
        for split in {job.split for job in jobs}:
            remove_partial(out / split)


def _run(
    todo: Sequence[tuple[Job, dict[Path, Parameters]]],
    summary: Summary,
    workers: int,
    client: Client | None,
    progress: bool,
) -> dict[str, str]:
    """Make what is to do and note it in the summary; returns why sequences failed."""
    failures: dict[str, str] = {}
    events, start = 0, time.monotonic()
    # In bytes, since recordings differ: the time left follows from what they hold. The largest come first, so that
    # none is left over for one process at the end.
    sizes = {job: job.recording.stat().st_size if job.recording.is_file() else 0 for job, _ in todo}
    todo = sorted(todo, key=lambda each: -sizes[each[0]])
    # Where recordings are fewer than processes, a recording's frames are shared out to threads.
    threads = max(1, workers // max(1, len(todo))) if client is None else 1
    calls = [(*each, threads) for each in todo]
    with progress_bar(
        total=sum(sizes.values()), desc="preprocess", unit="B", unit_scale=True, show=progress and bool(todo)
    ) as bar:
        for n, (i, outcome) in enumerate(run_calls(_attempt, calls, workers, client), 1):
            job = todo[i][0]
            name = str(job)
            if isinstance(outcome, Outcome) and outcome.failure is None:
                (summary.done if outcome.made else summary.without_labels).append(name)
                events += outcome.events
                for out, counts in outcome.labels.items():
                    summary.labels.setdefault(out, LabelCounts()).add(counts)
                if outcome.mended:
                    summary.events[name] = outcome.mended
            else:
                failures[name] = str(getattr(outcome, "failure", outcome))
            rate = events / 1e6 / max(time.monotonic() - start, 1e-9)
            bar.set_postfix_str(f"{n} of {len(todo)} sequences, {rate:.1f} M events/s", refresh=False)
            bar.update(sizes[job])
    return failures


@dataclass(frozen=True)
class Outcome:
    """What became of a sequence: ``made``, or without a label that counts; or why it failed.

    ``events`` were read, and ``mended`` says what of them was dropped; ``labels``: the boxes of each set.
    """

    made: bool = False
    events: int = 0
    mended: str = ""
    labels: dict[Path, LabelCounts] = field(default_factory=dict)
    failure: str | None = None


def _attempt(job: Job, targets: Mapping[Path, Parameters], threads: int) -> Outcome:
    """Make a sequence of some sets; whatever stops it stops that sequence only."""
    try:
        return make_sequence(job, targets, threads)
    except InputError as error:
        return Outcome(failure=str(error))
    except Exception as error:  # a full disk, a damaged file
        return Outcome(failure=str(InputError(f"{job.recording}: {type(error).__name__}: {error}")))


def make_sequence(job: Job, targets: Mapping[Path, Parameters], threads: int = 1) -> Outcome:
    """Make one sequence of several sets from one reading; each appears whole.

    Args:
        threads: that make frames while another reads; the bytes are the same with any number.
    """
    sensor = next(iter(targets.values())).sensor
    job.check_recording()
    boxes = read_labels(job.boxes, sensor)
    with open_events(job.recording, sensor.width, sensor.height) as recording:
        span = recorded_span(job, recording, boxes)
        while True:
            planned = {out: plan_sequence(job, boxes, target, span) for out, target in targets.items()}
            plans = {out: plan for out, (plan, _) in planned.items() if plan is not None}
            labels = {out: counts for out, (_, counts) in planned.items()}
            if not plans:
                return Outcome(labels=labels)
            try:
                read = _write(job, plans, targets, recording, span, threads)
            except _EventsEnded as ended:
                span = span._replace(end_us=ended.last_us)
                continue
            span, faults = span._replace(end_us=read.last_us), recording.faults
            for out, target in targets.items():  # now that it is known which boxes have no events
                labels[out] = plan_sequence(job, boxes, target, span)[1]
            return Outcome(True, read.events, str(faults) if faults.outside else "", labels)


def _write(
    job: Job,
    plans: Mapping[Path, LabelPlan],
    targets: Mapping[Path, Parameters],
    recording: Recording,
    span: Span,
    threads: int,
) -> Read:
    """Write the sequences of plans from one reading of a recording."""

    def at_end(read: Read) -> None:
        """Before windows without events: those that no label needs are not to be written."""
        exact = [plan for out, plan in plans.items() if targets[out].grid != "published"]
        last = max((int(plan.frame_times_us[-1]) for plan in exact), default=0)
        if span.end_us is None and last > read.last_us + AFTER_END_US:
            raise _EventsEnded(read.last_us)

    with ExitStack() as stack:
        sinks = []
        for out, plan in plans.items():
            target = targets[out]
            represent, ends_us = target.represent, plan.window_ends_us
            writer = sequence_writer(
                out / str(job),
                target.folder_name,
                plan,
                represent.shape,
                represent.dtype,
                halved=target.sensor.downsample,
            )
            write = stack.enter_context(writer)
            window_us = plan.steps_us(target.stride_us) if target.window_is_step else target.window_us
            sinks.append(FrameSink.of(represent, ends_us, window_us, target.window_events, write))
        return write_frames(recording.blocks(), sinks, threads, at_end)


class _EventsEnded(Exception):
    """A recording ended before its labels did; at which stamp."""

    def __init__(self, last_us: int) -> None:
        super().__init__(last_us)
        self.last_us = last_us


class Span(NamedTuple):
    """From when to when a recording has events; ``end_us`` is None where nothing hangs on it yet."""

    start_us: int
    end_us: int | None


def recorded_span(job: Job, recording: Recording, boxes: np.ndarray) -> Span:
    """Where the events of a recording start, and where they end if labels come much later than their start.

    Raises:
        InputError: events and labels lie so far apart that no scene explains it: their clocks differ.
    """
    start, end = recording.start_us, None
    if len(boxes):
        first, last = int(boxes["t"].min()), int(boxes["t"].max())
        if first > start + CLOCKS_APART_US:
            end = recording.end_us
        if last < start - CLOCKS_APART_US or (end is not None and first > end + CLOCKS_APART_US):
            raise InputError(
                f"{job.recording}: its events are from {start} to {recording.end_us} µs, its labels from {first} to "
                f"{last} µs; give both the same clock"
            )
    return Span(start, end)


def plan_sequence(
    job: Job, boxes: np.ndarray, target: Parameters, span: Span
) -> tuple[LabelPlan | None, LabelCounts]:
    """The label frames and windows of a sequence, None if no label counts; and what became of its boxes."""
    try:
        return plan_labels(
            boxes,
            target.sensor,
            target.stride_us,
            target.grid,
            job.split == "train",
            span.start_us,
            span.end_us,
            seed=zlib.crc32(str(job).encode()),
        )
    except InputError as error:
        raise InputError(f"{job.boxes}: {error}") from error

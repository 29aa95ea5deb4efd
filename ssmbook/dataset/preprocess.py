"""From a folder of raw recordings to a folder of sequences that training reads.

    raw_dir/<split>/<sequence>_bbox.npy, _bbox.json (COCO) or folder _bbox (YOLO)
                    beside  <sequence>_td.dat, _td.dat.h5, _td.h5, _td.npy, _td.raw, .raw or .aedat4
    out_dir/<split>/<sequence>/…         the published layout, see ``layout``
    out_dir/preprocess.json              what it was made with

Events stream: a recording is read once, block by block, for all the sets that are made from it, and only
what the next windows need is kept. Sequences are independent, so they are what is shared out to processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmbook.dataset.labels import BOX_FILES, LabelPlan, plan_labels, read_labels
from ssmbook.dataset.layout import SPLITS, remove_partial, sequence_writer
from ssmbook.dataset.parameters import PARAMETERS, Parameters, claim
from ssmbook.dataset.sensor import Sensor, get_sensor
from ssmbook.dataset.windows import FrameSink, Read, Windows, write_frames
from ssmbook.errors import InputError
from ssmbook.events import open_events
from ssmbook.processes import run_calls
from ssmbook.progress import progress_bar

if TYPE_CHECKING:
    from distributed import Client

#: For each ``out_dir`` of ``preprocess_sets``, what its set is made with.
Sets = Mapping[str, Mapping[str, Any]] | Mapping[Path, Mapping[str, Any]]

#: How recordings end; the first that is there is read.
RECORDINGS = ("_td.dat.h5", "_td.h5", "_td.dat", "_td.raw", ".raw", ".aedat4", "_td.npy")

#: Events and labels that lie further apart than this minute have different clocks.
CLOCKS_APART_US = 60_000_000

# Sequences of Gen1 that the published preprocessing leaves out.
BAD_SEQUENCES = frozenset(
    {
        "17-04-06_09-57-37_6344500000_6404500000",
        "17-04-13_19-17-27_976500000_1036500000",
        "17-04-06_15-14-36_1159500000_1219500000",
        "17-04-11_15-13-23_122500000_182500000",
    }
)


@dataclass(frozen=True)
class Job:
    """One sequence to make: its name and its raw files."""

    split: str
    name: str
    recording: Path
    boxes: Path

    def __str__(self) -> str:
        return f"{self.split}/{self.name}"


@dataclass
class Summary:
    """What a run did, as ``split/sequence``: made now, whole already, and without a label that counts."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    without_labels: list[str] = field(default_factory=list)


class SequencesFailed(InputError):
    """Some sequences could not be made; the others were. ``failures``: sequence → reason."""

    def __init__(self, failures: dict[str, str], summary: Summary) -> None:
        rows = [f"{name}: {reason}" for name, reason in sorted(failures.items())]
        total = len(rows) + len(summary.done) + len(summary.skipped) + len(summary.without_labels)
        super().__init__("\n  ".join([f"{len(rows)} of {total} sequences failed: {rows[0]}", *rows[1:]]))
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
) -> Summary:
    """Make the sequences of a set, in the published layout.

    A sequence appears when it is whole; run again after an interruption, the same call makes what is
    missing. One run at a time writes to an ``out_dir``. Four bad sequences of Gen1 are left out by name.

    Args:
        raw_dir: ``train``, ``val`` and ``test`` (any of them) with recordings and their boxes.
        out_dir: made if needed; what is there must have been made with the same parameters.
        sensor: ``"gen1"``, ``"gen4"``, a ``Sensor`` or the path of its YAML file.
        representation: ``"stacked_histogram"`` or ``"mixeddensity_stack"``.
        window_ms, window_events: a window is either the events of a time before its end, both edges
            included, or the last so many events up to its end. By default 50 ms.
        stride_ms: time between the ends of windows.
        grid: ``"exact"``, or ``"published"`` for the windows that the published script makes.
        splits: which of them to make.
        workers: processes of this machine, each of which makes a sequence at a time; where there are fewer
            sequences, threads of theirs. A process needs less than 400 MB, however long the recordings, and
            as much again as the events of its longest window if those are many; a thread, two frames.
        client: of a Dask cluster, whose workers make the sequences instead; both folders must have the same
            paths there.
        progress: show a progress bar.

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
            ``window_events``, ``stride_ms`` and ``grid``, any of them, as for ``preprocess``.

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
    for out, target in targets.items():
        claim(out, target)
        for split in {job.split for job in jobs}:
            (out / split).mkdir(exist_ok=True)
    _remove_partial(targets, jobs)
    todo = [(job, missing) for job in jobs if (missing := _missing(job, targets))]
    skipped = {str(job) for job in jobs} - {str(job) for job, _ in todo}
    summary = Summary(skipped=sorted(skipped), without_labels=unlabelled)
    try:
        failures = _run(todo, summary, workers, client, progress)
    finally:
        _remove_partial(targets, jobs)  # of processes that were ended, or that a cluster lost
    for names in (summary.done, summary.without_labels):
        names.sort()
    if failures:
        raise SequencesFailed(failures, summary)
    return summary


def set_parameters(sensor: Sensor, settings: Mapping[str, Any]) -> Parameters:
    """The parameters of a set from those that are given for it; the rest are the defaults of ``preprocess``."""
    known = ("representation", "window_ms", "window_events", "stride_ms", "grid")
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
    if given["window_ms"] is None and given["window_events"] is None:
        given["window_ms"] = 50
    return Parameters(sensor, **given)


def find_jobs(raw_dir: Path, splits: Sequence[str] = SPLITS) -> tuple[list[Job], list[str]]:
    """The sequences of a raw folder's splits, and the names of recordings that have no box file.

    The sequences of Gen1 that are known to be bad are left out.
    """
    jobs: list[Job] = []
    unlabelled: list[str] = []
    for split in splits:
        if split not in SPLITS:
            raise InputError(f"split {split!r} is unknown; there are {', '.join(SPLITS)}")
        names = {path.name for path in (raw_dir / split).glob("*") if not path.name.startswith(".")}
        boxes = {n.removesuffix(s): n for s in reversed(BOX_FILES) for n in names if n.endswith(s)}
        labelled = boxes.keys() - BAD_SEQUENCES
        recorded: dict[str, str] = {}
        for name in sorted(names):
            suffix = next((s for s in RECORDINGS if name.endswith(s)), None)
            if suffix is not None:
                recorded.setdefault(name.removesuffix(suffix), name)
        for name in sorted(labelled):
            # Without a recording, the name that is missing is the one that the sets are distributed under.
            recording = recorded.get(name, f"{name}_td.dat")
            jobs.append(Job(split, name, raw_dir / split / recording, raw_dir / split / boxes[name]))
        unlabelled += [f"{split}/{name}" for name in sorted(recorded.keys() - labelled - BAD_SEQUENCES)]
    if not jobs:
        wanted = ", ".join(f"*{suffix}" for suffix in BOX_FILES)
        raise InputError(f"{raw_dir}: has no {wanted} in {', '.join(splits)}; give a folder of raw sequences")
    return jobs, unlabelled


def _missing(job: Job, targets: Mapping[Path, Parameters]) -> dict[Path, Parameters]:
    """The sets that lack a sequence."""
    return {out: target for out, target in targets.items() if not (out / str(job)).is_dir()}


def _remove_partial(targets: Mapping[Path, Parameters], jobs: Sequence[Job]) -> None:
    """Delete what runs that ended in the middle have left."""
    for out in targets:
        for split in {job.split for job in jobs}:
            remove_partial(out / split)
        for path in out.glob(f".{PARAMETERS}.*.tmp"):
            path.unlink(missing_ok=True)


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
            else:
                failures[name] = str(getattr(outcome, "failure", outcome))
            rate = events / 1e6 / max(time.monotonic() - start, 1e-9)
            bar.set_postfix_str(f"{n} of {len(todo)} sequences, {rate:.1f} M events/s", refresh=False)
            bar.update(sizes[job])
    return failures


@dataclass(frozen=True)
class Outcome:
    """What became of a sequence: ``made``, or without a label that counts; or why it failed."""

    made: bool = False
    events: int = 0
    failure: str | None = None


def _attempt(job: Job, targets: Mapping[Path, Parameters], threads: int) -> Outcome:
    """Make a sequence of some sets; whatever stops it stops that sequence only."""
    try:
        events = make_sequence(job, targets, threads)
        return Outcome(events is not None, events or 0)
    except InputError as error:
        return Outcome(failure=str(error))
    except Exception as error:  # a full disk, a damaged file
        return Outcome(failure=f"{job.recording}: {type(error).__name__}: {' '.join(str(error).split())}")


def make_sequence(job: Job, targets: Mapping[Path, Parameters], threads: int = 1) -> int | None:
    """Make one sequence of several sets from one reading; each appears whole.

    Args:
        threads: that make frames while another reads; the bytes are the same with any number.

    Returns:
        The number of events that were read; None if no label counts, and then nothing is written.
    """
    planned = {out: plan_sequence(job, target) for out, target in targets.items()}
    plans = {out: plan for out, plan in planned.items() if plan is not None}
    sensor = next(iter(targets.values())).sensor
    with ExitStack() as stack:
        recording = stack.enter_context(open_events(job.recording, sensor.width, sensor.height))
        if len(plans) < len(planned):  # and then none is there: boxes alone decide
            return None
        sinks = []
        for out, plan in plans.items():
            target = targets[out]
            represent, shape, halve = target.represent, target.frame_shape, sensor.downsample
            writer = sequence_writer(
                out / str(job), target.folder_name, plan, shape, represent.dtype, halved=halve
            )
            windows = Windows(plan.window_ends_us, target.window_us, target.window_events)
            sinks.append(FrameSink(windows, represent, halve, shape, stack.enter_context(writer)))
        read = write_frames(recording.blocks(), sinks, threads)
        _check_clocks(job, read, plan)
        return read.events


def _check_clocks(job: Job, read: Read, plan: LabelPlan) -> None:
    """An InputError where events and labels lie so far apart that no scene explains it."""
    first, last = int(plan.frame_times_us[0]), int(plan.frame_times_us[-1])
    if read.events and max(read.first_us - last, first - read.last_us) > CLOCKS_APART_US:
        raise InputError(
            f"{job.recording}: its events are from {read.first_us} to {read.last_us} µs, its labels from {first} to "
            f"{last} µs; give both the same clock"
        )


def plan_sequence(job: Job, target: Parameters) -> LabelPlan | None:
    """The label frames and windows of a sequence; None if no label counts."""
    try:
        boxes = read_labels(job.boxes, target.sensor)
        return plan_labels(boxes, target.sensor, target.stride_us, target.grid, training=job.split == "train")
    except InputError as error:
        message = str(error)
        raise InputError(message if str(job.boxes) in message else f"{job.boxes}: {message}") from error

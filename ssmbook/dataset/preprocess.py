"""From a folder of raw recordings to a folder of sequences that training reads.

    raw_dir/<split>/<sequence>_bbox.npy, _bbox.json (COCO) or folder _bbox (YOLO)
                    beside  <sequence>_td.dat, _td.dat.h5, _td.h5, _td.raw, .raw or _td.npy
    out_dir/<split>/<sequence>/…         the published layout, see ``layout``
    out_dir/preprocess.json              what it was made with

Events stream: a recording is read once, block by block, and only what the next windows need is kept. The
stages (blocks → windows → frames → file) are generators, each drawn by the next.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ssmbook.dataset.labels import BOX_FILES, GRIDS, plan_labels, read_labels
from ssmbook.dataset.layout import SPLITS, remove_partial, write_sequence
from ssmbook.dataset.sensor import Sensor, get_sensor
from ssmbook.errors import InputError
from ssmbook.events import REPRESENTATIONS, Events, open_events
from ssmbook.events.files import atomic_write
from ssmbook.progress import progress_bar

RECORDINGS = (
    "_td.dat.h5",
    "_td.h5",
    "_td.dat",
    "_td.raw",
    ".raw",
    ".aedat4",
    "_td.npy",
)  # the first that is there is read
PARAMETERS = "preprocess.json"

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
class Parameters:
    """What a preprocessed set is made with."""

    sensor: Sensor
    representation: str
    window_ms: float | None
    window_events: int | None
    stride_ms: float
    grid: str

    def __post_init__(self) -> None:
        if self.representation not in REPRESENTATIONS:
            raise InputError(
                f"representation is {self.representation!r}; it can be {', '.join(REPRESENTATIONS)}"
            )
        if (self.window_ms is None) == (self.window_events is None):
            raise InputError("give a window by window_ms or by window_events, not both")
        if self.grid not in GRIDS:
            raise InputError(f"grid is {self.grid!r}; it can be {', '.join(GRIDS)}")
        for key, value, kind, least in (
            ("window_ms", self.window_ms, (int, float), 1e-3),
            ("window_events", self.window_events, int, 1),
            ("stride_ms", self.stride_ms, (int, float), 1e-3),
        ):
            if value is not None and not (isinstance(value, kind) and least <= value < float("inf")):
                raise InputError(f"{key} is {value!r}; it must be a number of at least {least}")
        if self.grid == "published" and 100_000 % self.stride_us != 0:
            raise InputError(f"stride_ms is {self.stride_ms}; on the published grid it must divide 100 ms")

    @property
    def stride_us(self) -> int:
        return round(1000 * self.stride_ms)

    @property
    def window_us(self) -> int | None:
        return None if self.window_ms is None else round(1000 * self.window_ms)


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
        workers: processes.
        progress: show a progress bar.

    Raises:
        InputError: a parameter or a folder is wrong; nothing was written.
        SequencesFailed: some sequences could not be made (an InputError too); the others were.
    """
    if window_ms is None and window_events is None:
        window_ms = 50
    parameters = Parameters(get_sensor(sensor), representation, window_ms, window_events, stride_ms, grid)
    if workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1")
    out_dir = Path(out_dir)
    jobs, unlabelled = find_jobs(Path(raw_dir), splits)
    _claim(out_dir, parameters)
    for split in {job.split for job in jobs}:
        (out_dir / split).mkdir(exist_ok=True)
        remove_partial(out_dir / split)
    skipped = {job for job in jobs if (out_dir / str(job)).is_dir()}
    todo = [job for job in jobs if job not in skipped]
    summary = Summary(skipped=sorted(map(str, skipped)), without_labels=unlabelled)
    failures: dict[str, str] = {}
    with progress_bar(
        total=len(jobs),
        initial=len(skipped),
        desc="preprocess",
        unit="sequence",
        show=progress and bool(todo),
    ) as bar:
        for job, outcome in _run(todo, out_dir, parameters, workers):
            bar.update()
            if isinstance(outcome, str):
                failures[str(job)] = outcome
            else:
                (summary.done if outcome else summary.without_labels).append(str(job))
    for names in (summary.done, summary.without_labels):
        names.sort()
    if failures:
        raise SequencesFailed(failures, summary)
    return summary


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


def _claim(out_dir: Path, parameters: Parameters) -> None:
    """Keep the parameters beside the set, or check that they are those that it is made with."""
    record = out_dir / PARAMETERS
    asked = json.loads(json.dumps(asdict(parameters)))
    if record.exists():
        try:
            kept = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{record}: cannot be read ({error}); choose another folder") from error
        differ = _differences(kept, asked)
        if differ:
            raise InputError(
                f"{out_dir}: was made with other parameters ({'; '.join(differ)}); choose another folder"
            )
        return
    if any((out_dir / split).exists() for split in SPLITS):
        raise InputError(f"{out_dir}: holds a set but no {PARAMETERS}; choose another folder")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out_dir}: cannot be made ({error.strerror}); choose another folder") from error
    with atomic_write(record) as file:
        file.write(f"{json.dumps(asked, indent=2)}\n".encode())


def _differences(kept: dict, asked: dict, prefix: str = "") -> list[str]:
    """What differs between two records, as ``key: a there, b asked``."""
    rows: list[str] = []
    for key in sorted(kept.keys() | asked.keys()):
        a, b = kept.get(key), asked.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            rows += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            rows.append(f"{prefix}{key}: {a} there, {b} asked")
    return rows


def _run(
    jobs: list[Job], out_dir: Path, parameters: Parameters, workers: int
) -> Iterator[tuple[Job, bool | str]]:
    """Each job as it ends, with what ``_attempt`` says of it."""
    if workers == 1 or len(jobs) < 2:
        yield from ((job, _attempt(job, out_dir, parameters)) for job in jobs)
        return
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"))
    try:
        futures = {pool.submit(_attempt, job, out_dir, parameters): job for job in jobs}
        for future in as_completed(futures):
            error = future.exception()  # of the pool: the process died
            yield futures[future], future.result() if error is None else f"its process ended ({error})"
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _attempt(job: Job, out_dir: Path, parameters: Parameters) -> bool | str:
    """Make a sequence: True; False if it has no label that counts; else why it failed."""
    try:
        return make_sequence(job, out_dir, parameters)
    except InputError as error:
        return str(error)
    except Exception as error:  # a full disk, a damaged file: that sequence only
        return f"{job.recording}: {type(error).__name__}: {' '.join(str(error).split())}"


def make_sequence(job: Job, out_dir: Path, parameters: Parameters) -> bool:
    """Make one sequence; False if it has no label that counts, and then nothing is written."""
    sensor = parameters.sensor
    try:
        boxes = read_labels(job.boxes, sensor)
        plan = plan_labels(
            boxes, sensor, parameters.stride_us, parameters.grid, training=job.split == "train"
        )
    except InputError as error:
        message = str(error)
        raise InputError(message if str(job.boxes) in message else f"{job.boxes}: {message}") from error
    if plan is None:
        return False
    represent = REPRESENTATIONS[parameters.representation](height=sensor.height, width=sensor.width)
    name = represent.folder_name(window_ms=parameters.window_ms, window_events=parameters.window_events)
    with open_events(job.recording, sensor.width, sensor.height) as recording:
        spans = windows(
            recording.blocks(), plan.window_ends_us, parameters.window_us, parameters.window_events
        )
        # Nearest-exact at half size keeps pixels 2i + 1.
        frames = (represent(ev)[:, 1::2, 1::2] if sensor.downsample else represent(ev) for ev in spans)
        write_sequence(out_dir / str(job), name, plan, frames, halved=sensor.downsample)
    return True


def windows(
    blocks: Iterable[Events],
    ends_us: np.ndarray,
    window_us: int | None = None,
    window_events: int | None = None,
) -> Iterator[Events]:
    """The events of each window, from blocks that are read once.

    Args:
        blocks: in order of time. All are read, also those after the last window.
        ends_us [T]: ends of the windows, increasing.
        window_us: a window holds the events with end − window ≤ t ≤ end; or
        window_events: the last so many with t ≤ end, fewer where there are no more.

    Yields:
        T times the events of a window. Only what the next window needs is kept from block to block.
    """

    def span(t: np.ndarray, end: int) -> slice:
        stop = int(np.searchsorted(t, end, side="right"))
        if window_us is None:
            return slice(max(0, stop - (window_events or 0)), stop)
        return slice(int(np.searchsorted(t, end - window_us, side="left")), stop)

    kept, i = Events.empty(), 0
    for block in blocks:
        if i == len(ends_us) or len(block) == 0:
            continue
        kept = Events.concatenate([kept, block])
        while i < len(ends_us) and kept.t[-1] > ends_us[i]:  # equal: the next block may add to this window
            yield kept[span(kept.t, ends_us[i])]
            i += 1
        if i < len(ends_us):
            kept = kept[span(kept.t, ends_us[i]).start :]
    for end in ends_us[i:]:
        yield kept[span(kept.t, end)]

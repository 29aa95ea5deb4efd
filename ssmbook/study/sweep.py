"""Who computes a profile's models: this process, others beside it, a Dask cluster, or the tasks of a job array.

A model of one seed with its cells (``Trained``) is a unit: no unit needs another. All who compute share one data
folder, on a shared disk where they are several machines, and any number of them may work in it at once:

==============================  =====================================================================
``<data>/sweep/<model>.lock``   held by the process that trains and evaluates that model
``<data>/sweep/<unit>.json``    since when and where, and why it failed
``<data>/runs/<model>``         the training run, and in ``rates`` a file for each cell that is done
==============================  =====================================================================

The locks are leases (``filelock.SoftFileLease``): files made with O_EXCL, which NFS 3, NFS 4, Lustre, GPFS and local
disks do at most once, with host, process and a heartbeat. One whose process is dead is free at once on its own host;
elsewhere it is taken over when its heartbeat has stood still for ``LEASE_S`` seconds, by the clock of the one who
waits. So a node that dies costs what its unit has not saved. The locks of preprocessing and of a run's folder beneath
these are flock's, which the shared disk must do between machines (or be used by one machine at a time for these).
"""

from __future__ import annotations

import _thread
import platform
import signal
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import psutil
import torch
from filelock import LeaseCompromise, SoftFileLease, Timeout

from ssmbook.dataset.grid import BASE_MS
from ssmbook.errors import InputError, one_line
from ssmbook.files import existing_folder, read_json, write_json
from ssmbook.processes import connect, preload, run_calls
from ssmbook.progress import progress_bar, tell
from ssmbook.study.arms import Arm
from ssmbook.study.rates import Trained, cells_of, known_results, models_of, rows_of, write_tables
from ssmbook.study.workspace import Workspace
from ssmbook.training.run_folder import MODEL
from ssmbook.training.runs import describe_run

if TYPE_CHECKING:
    from distributed import Client

LEASE_S = 300.0
_TRAINING = "ssmbook.training.run"  # which each worker would import for itself
EXECUTORS = ("local", "dask", "slurm")


class ModelsFailed(InputError):
    """Some models could not be computed; all others were. ``failures``: unit → why."""

    def __init__(self, failures: dict[str, str], models: int) -> None:
        words = "; ".join(f"{name}: {why}" for name, why in failures.items())
        super().__init__(
            f"{len(failures)} of {models} models failed; the same command tries them again. {words}"
        )
        self.failures = failures


@dataclass(frozen=True)
class Outcome:
    """What came of one unit: its results, or why there are none; neither where another process is at it."""

    results: list[dict[str, Any]] = field(default_factory=list)
    failure: str = ""


def unit_names(models: Sequence[Trained]) -> list[str]:
    """A name for each model: that of its run's folder, with a number where its arms stand in several places."""
    names: list[str] = []
    for model in models:
        name = model.folder.name
        count = sum(each.split("~")[0] == name for each in names)
        names.append(f"{name}~{count + 1}" if count else name)
    return names


def run_arms(
    workspace: Workspace,
    arms: Iterable[Arm] | None = None,
    progress: bool = True,
    device: str = "",
    workers: int = 1,
    scheduler: str = "",
) -> pd.DataFrame:
    """Evaluate each arm of a profile at each of its rates, with each of its seeds, on the test split.

    A cell that was computed before with the same weights is read from ``runs/<variant>/rates``, and a model whose cells
    all stand in the profile's ``rates.csv`` is not trained at all; so an interrupted table goes on where it stopped,
    on this machine or another. Models that another process computes in the same folder are waited for.

    Args:
        workspace: of the profile; models that are missing are trained first.
        arms: the profile's if not given; with those, ``rates.csv`` and ``rest.csv`` are written as models are done.
        progress: show a bar.
        device: of PyTorch; a GPU where there is one.
        workers: processes of this machine, each of which trains and evaluates a model at a time with one thread; with
            1 it is done here, with all of PyTorch's threads.
        scheduler: address of a Dask cluster that does it instead, as ``tcp://host:8786``. Its workers need the data
            folder under the same path, and one thread each (``--nthreads 1``).

    Returns:
        One row per seed, arm and rate: set, model, input, mode, step_scale ("1/k" or "1"), carry, rate_hz, window_ms,
        stride_ms, seed, score (what ranks detections), the metrics in 0..1, AP_common (on the label frames that all
        rates have), weights (the hash of the model) and cell (the fingerprint of what decides the row).

    Raises:
        ModelsFailed: some models could not be computed, e.g. one that was trained on another grid: with windows every
            125 ms, 20 Hz is not its rate, and k not how much faster it runs. The others are done and in the tables.
    """
    if workers > 1:
        preload(_TRAINING)
    models = models_of(workspace, arms)
    names = unit_names(models)
    found = known_results(workspace, models) if arms is None else {}
    todo = [i for i in range(len(models)) if i not in found]
    failures: dict[str, str] = {}
    with connect(scheduler) if scheduler else nullcontext() as client:
        if todo:
            _prepare(workspace, [models[i] for i in todo], client, workers > 1)
        units = [(models[i], names[i]) for i in todo]
        bar = progress_bar(
            _share_out(units, device, progress, workers, client),
            desc="models",
            unit="model",
            show=progress,
            total=len(todo),
        )
        for number, outcome in bar:
            if outcome.failure:
                failures[names[todo[number]]] = outcome.failure
                continue
            found[todo[number]] = outcome.results
            if arms is None:
                write_tables(workspace, models, found)
    if failures:
        raise ModelsFailed(failures, len(models))
    return pd.DataFrame(rows_of(cells_of(workspace, arms), models, found))


def run_task(workspace: Workspace, number: int, progress: bool = True, device: str = "") -> pd.DataFrame:
    """Compute the model of that number, as one task of a job array; the tables are then those of all that is done.

    Raises:
        InputError: there is no such model.
        ModelsFailed: it could not be computed.
    """
    models = models_of(workspace)
    if not 0 <= number < len(models):
        raise InputError(
            f"there is no model {number}; profile {workspace.profile.name} has 0 to {len(models) - 1}"
        )
    name = unit_names(models)[number]
    if number not in known_results(workspace, models):
        _prepare(workspace, [models[number]], None, True)
        outcome = compute(models[number], name, device, progress, threads=0, wait=True)
        if outcome.failure:
            raise ModelsFailed({name: outcome.failure}, 1)
    with _lease(_folder(workspace), "tables", wait=True):
        return collect_arms(workspace)


def collect_arms(workspace: Workspace, folders: Iterable[str | Path] = ()) -> pd.DataFrame:
    """The tables of what was computed so far, written without computing anything: ``run_arms``.

    Args:
        workspace: of the profile; what stands in its tables and its data folder.
        folders: further data folders, as of other machines; of models that are in several, the first counts.
    """
    models = models_of(workspace)
    found = known_results(workspace, models)
    for place in (workspace, *(workspace.at(existing_folder(path, "data and runs")) for path in folders)):
        for number, model in enumerate(models_of(place)):
            if number not in found and len(results := model.kept()) == len(model.cells):
                found[number] = results
    write_tables(workspace, models, found)
    return pd.DataFrame(rows_of(cells_of(workspace), models, found))


def train_models(workspace: Workspace, workers: int = 1) -> dict[str, Path]:
    """The checkpoints of a profile's models with its first seed, trained where they are missing, side by side.

    Args:
        workers: processes, a model with one thread each at a time.
    """
    if workers > 1:
        preload(_TRAINING)
    place = workspace.with_seed(workspace.seeds[0])
    names = place.profile.variants
    place.prepare([(BASE_MS, BASE_MS)])
    files: dict[str, Path] = {}
    calls = [(place, name, int(workers > 1)) for name in names]
    for number, result in run_calls(_train, calls, workers, None):
        if isinstance(result, BaseException):
            raise result
        files[names[number]] = result
    return {name: files[name] for name in names}


def _train(place: Workspace, variant: str, threads: int) -> Path:
    _set_threads(threads)
    return place.train(variant)


def _set_threads(threads: int) -> None:
    if threads:  # in a process of its own, which this sets up for good
        torch.set_num_threads(threads)


def _prepare(workspace: Workspace, models: list[Trained], client: Client | None, whole: bool) -> None:
    """Make the sets that models need, each representation's from one reading of the raw set.

    Args:
        whole: the splits for training, too, before processes that would wait for each other over them.
    """
    if workspace.given:
        existing_folder(workspace.folder, "data and runs")
    places = {model.workspace.profile.representation: model.workspace for model in models}
    with _lease(_folder(workspace), "sets", wait=True):
        for name, place in places.items():
            own = [model for model in models if model.workspace.profile.representation == name]
            if whole or client is not None:
                place.prepare([(BASE_MS, BASE_MS)], ("train", "val"), client)
            place.prepare(sorted(set[tuple[float, float]]().union(*(m.sets for m in own))), ("test",), client)


def _share_out(
    units: Sequence[tuple[Trained, str]], device: str, progress: bool, workers: int, client: Client | None
) -> Iterator[tuple[int, Outcome]]:
    """Compute units; those that another process has are waited for when all others are done."""
    alone = workers == 1 and client is None
    numbers, wait = list(range(len(units))), False
    while numbers:
        calls = [(*units[i], device, progress and alone, 0 if alone else 1, wait) for i in numbers]
        held = []
        for k, result in run_calls(compute, calls, workers, client):
            if isinstance(result, BaseException):  # of its process, which has ended
                result = Outcome(failure=str(result))
                _note(*units[numbers[k]], error=result.failure)
            if result.results or result.failure:
                yield numbers[k], result
            else:
                held.append(numbers[k])
        numbers, wait = held, True


def compute(model: Trained, name: str, device: str, progress: bool, threads: int, wait: bool) -> Outcome:
    """Train and evaluate one model, for all who share one data folder: nobody else is at it meanwhile.

    Args:
        name: of the unit.
        threads: of PyTorch, for a process that does nothing else; 0 leaves them.
        wait: for a process that has this model, until it is done or dead.
    """
    _set_threads(threads)
    if model.workspace.training(model.variant).workers and current_process().daemon:
        return Outcome(
            failure="this Dask worker may not start the processes that read its data; start the workers with "
            "DASK_DISTRIBUTED__WORKER__DAEMON=False, or set training: {workers: 0}"
        )
    with _lease(_folder(model.workspace), model.folder.name, wait) as lease:
        if lease is None:
            return Outcome()
        _note(model, name)
        try:
            return Outcome(model.run(device, progress))
        except Exception as error:
            why = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            _note(model, name, error=one_line(why, 500), traceback=traceback.format_exc())
            return Outcome(failure=one_line(why, 500))
        except KeyboardInterrupt:
            if lease.compromise is None:
                raise
            return Outcome()  # another process took it over, since this one gave no sign of life


def _folder(workspace: Workspace) -> Path:
    return workspace.folder / "sweep"


def _note(model: Trained, name: str, **what: str) -> None:
    """Write down who is at a unit, or why it failed."""
    path = _folder(model.workspace) / f"{name}.json"
    before = read_json(path) or {}
    fresh = {"host": platform.node(), "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    write_json(path, {**(before if what else fresh), **what})


@contextmanager
def _lease(folder: Path, name: str, wait: bool) -> Iterator[SoftFileLease | None]:
    """Hold a name in a folder; None where another process holds it and ``wait`` is false."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.lock"
    in_main = threading.current_thread() is threading.main_thread()

    def lost(compromise: LeaseCompromise) -> None:
        if in_main:  # as by Ctrl-C: a training run saves its state and ends
            _thread.interrupt_main()

    lease = SoftFileLease(path, lease_duration=LEASE_S, on_compromise=lost)
    try:
        try:
            lease.acquire(timeout=0)
        except Timeout:
            if not wait:
                yield None
                return
            tell(f"{path}: held by {_holder(path)}; waiting for it")
            lease.acquire(poll_interval=0.5)
        with _interruptible(in_main):
            yield lease
    finally:
        lease.release()


@contextmanager
def _interruptible(in_main: bool) -> Iterator[None]:
    """Let ``interrupt_main`` act where SIGINT is ignored, as a shell sets it for what it starts with ``&``."""
    ignored = in_main and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _holder(path: Path) -> str:
    """Host and process that hold a lock and live, as far as that can be seen from here; empty if none."""
    owner = SoftFileLease(path, lease_duration=LEASE_S).owner
    if owner is None:
        return ""
    host = owner.hostname.partition("?")[0]  # behind it, the namespace of a container
    try:
        silent = time.time() - path.stat().st_mtime > LEASE_S
    except OSError:
        return ""
    dead = host == platform.node() and not psutil.pid_exists(owner.pid)
    return "" if dead or silent else f"process {owner.pid} on {host}"


def status(workspace: Workspace) -> pd.DataFrame:
    """The units of a profile, in the order in which they are computed, and how far they are.

    Returns:
        One row per unit: unit, state (done, running, failed or waiting), host and since (of who runs it), step and
        steps of its training, cells (done) and of (all), AP (of the last validation, × 100), seconds_left (of its
        training) and error.
    """
    models = models_of(workspace)
    known = known_results(workspace, models)
    return pd.DataFrame(
        [
            _state(model, name, number in known)
            for number, (model, name) in enumerate(zip(models, unit_names(models), strict=True))
        ]
    )


def _state(model: Trained, name: str, known: bool) -> dict[str, Any]:
    folder = _folder(model.workspace)
    cells = len(model.cells) if known else len(model.kept())
    run = describe_run(model.folder)
    row: dict[str, Any] = {
        "unit": name,
        "state": "waiting",
        "host": "",
        "since": "",
        "step": run.step if run else 0,
        "steps": model.workspace.training(model.variant).steps,
        "cells": cells,
        "of": len(model.cells),
        "AP": None if run is None or run.ap is None else 100 * run.ap,
        "seconds_left": None,
        "error": "",
    }
    note = read_json(folder / f"{name}.json") or {}
    if cells == len(model.cells):
        return {**row, "state": "done", "seconds_left": 0.0}
    if "error" in note:
        return {**row, "state": "failed", "error": note["error"]}
    if note and _holder(folder / f"{model.folder.name}.lock"):
        trained = (model.folder / MODEL).exists()
        left = None if run is None or trained else run.seconds_left
        return {**row, "state": "running", "host": note["host"], "since": note["since"], "seconds_left": left}
    return row

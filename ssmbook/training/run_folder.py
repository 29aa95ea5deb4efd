"""The folder of one training run: its files, how a run starts or resumes, and what happens to an older one.

=====================  ==============================================================================
``model.ckpt``         the trained detector, for ``load_checkpoint``; its being there means: finished
``best.ckpt``          the detector at its best validation AP
``last.ckpt``          all that a run needs to resume; also a detector for ``load_checkpoint``
``metrics.csv``        losses, rates and validation AP by step
``panels/<step>.png``  a look at each validation
``provenance.json``    parameters and circumstances, also those in which it was resumed; of an extended run at which
                       steps it was extended
``model_step=N.ckpt``  of a run that went on after its end: the detector of that end
=====================  ==============================================================================
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from ssmbook.detector.checkpoint_file import read_checkpoint
from ssmbook.errors import InputError, one_line, shown
from ssmbook.files import (
    as_input_error,
    atomic_write,
    plain_data,
    read_json,
    remove_dead_lock,
    remove_left,
    write_json,
)
from ssmbook.training.provenance import provenance

MODEL, BEST, LAST, METRICS_CSV, PANELS = "model.ckpt", "best.ckpt", "last.ckpt", "metrics.csv", "panels"
PROVENANCE = "provenance.json"
TRAIN_COLUMNS = ("loss", "iou_loss", "conf_loss", "cls_loss", "l1_loss", "num_fg", "learning_rate")
VAL_COLUMNS = ("AP", "AP_50", "AP_75", "AP_S", "AP_M", "AP_L")
COLUMNS = (
    "step",
    *(f"train/{name}" for name in TRAIN_COLUMNS),
    "windows_per_s",
    *(f"val/{name}" for name in VAL_COLUMNS),
)


# Settings that leave the weights of a step as they are: a run goes on with others.
FREE = frozenset({"workers", "save_every", "validate_every", "patience", "checkpointing"})
# What an extension changes: how far a run goes, and the maximum of its learning rate.
EXTENDED = frozenset({"steps", "learning_rate"})
# Settings that the provenance of earlier runs lacks, and what they were.
SINCE: dict[str, Any] = {"burn_in": 0, "freeze": "", "terms": {}, "mixed_rates": ""}

Older = Literal[
    "aside", "refuse", "extend"
]  # what becomes of a folder's run with other parameters, see ``train``


def is_finished(folder: Path, parameters: Mapping[str, Any]) -> bool:
    """Whether the folder holds a run with these parameters, ``FREE`` ones aside, that is at its end.

    One that stopped early is not, where ``patience`` is now 0 or larger than it was.
    """
    if not (folder / MODEL).exists() or differences(folder, parameters) != {}:
        return False
    training = parameters["training"]
    with suppress(InputError, IndexError, KeyError, TypeError):  # of what is damaged nothing could go on
        if (folder / LAST).exists() and read_metrics(folder).index[-1] < training["steps"]:
            stale = read_checkpoint(folder / LAST)["training"]["stale"]
            return 0 < training["patience"] <= stale
    return True


def finished_model(folder: Path, parameters: Mapping[str, Any]) -> Path | None:
    """The trained detector of a run that is finished with these parameters; a lock that was left there is removed."""
    if not is_finished(folder, parameters):
        return None
    remove_dead_lock(folder, beside=True)
    return folder / MODEL


def differences(folder: Path, parameters: Mapping[str, Any]) -> dict[str, tuple[Any, Any]] | None:
    """What decides the weights and differs in the folder's run, by name: its value and that of these parameters.

    None where the folder holds no run. ``FREE`` settings are left out.
    """
    previous = read_json(folder / PROVENANCE)
    if previous is None:
        return None
    try:
        before = _deciding(previous["parameters"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{folder / PROVENANCE}: does not hold the parameters of a run; remove it, and the run is "
            "begun anew beside what the folder holds"
        ) from None
    now = _deciding(json.loads(json.dumps(parameters, default=plain_data)))
    names = [*before, *(name for name in now if name not in before)]
    pairs = {name: (before.get(name), now.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _deciding(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the weights of a step, flat."""
    training = {**SINCE, **parameters.get("training", {})}
    flat = {name: value for name, value in training.items() if name not in FREE}
    for name, value in parameters.items():
        if name not in ("training", "profile"):  # a profile's name alone decides nothing
            flat |= {f"{name} {k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def existing_run(folder: Path) -> None:
    """Refuse a folder that holds no run, with the names of those beside it."""
    if not (folder / PROVENANCE).exists():
        runs = sorted(path.parent.name for path in folder.parent.glob(f"*/{PROVENANCE}"))
        there = f"{folder.parent} holds {', '.join(runs)}: give --name" if runs else "train it first"
        raise InputError(f"{folder}: there is no run to extend; {there}")


def check_older(folder: Path, parameters: Mapping[str, Any], older: Older) -> None:
    """Refuse a folder whose run must neither go on with these parameters nor be put aside.

    Raises:
        InputError: the message says which parameters differ; or there is nothing to extend, or no step is left.
    """
    if older == "extend":
        existing_run(folder)
    if older == "aside" and not _extensions(folder):
        return
    differs = differences(folder, parameters) or {}
    given = ", ".join(
        f"{name} {_short(before)}, not {_short(now)}" for name, (before, now) in differs.items()
    )
    if older != "extend" and differs:
        how = "go on with it by --extend, or " if differs.keys() <= EXTENDED else ""
        raise InputError(f"{folder} holds a run with other settings: {given}; {how}train under another name")
    if older == "extend" and not differs.keys() <= EXTENDED:
        raise InputError(
            f"{folder} cannot be extended: its run has {given}, which changes more than steps and learning rate; "
            "give the run's own settings, or train under another name"
        )
    if differs and (done := _steps_done(folder)) >= (steps := parameters["training"]["steps"]):
        raise InputError(f"steps is {steps}, but {folder} has done {done}; give more")


def _short(value: Any) -> str:
    return shown(value, 24)


def _steps_done(folder: Path) -> int:
    """Steps of the last state that was saved."""
    if not (folder / LAST).exists():
        return 0
    state = read_checkpoint(folder / LAST).get("training")
    step = state.get("step") if isinstance(state, dict) else None
    if not isinstance(step, int):
        raise InputError(f"{folder / LAST}: holds no state of a run. {_anew(folder / LAST)}")
    return step


def _extensions(folder: Path) -> list[Any]:
    """Earlier extensions of a folder's run; of a damaged provenance none."""
    with suppress(InputError):
        previous = read_json(folder / PROVENANCE)
        if isinstance(previous, dict) and isinstance(extensions := previous.get("extended"), list):
            return extensions
    return []


def begin(folder: Path, parameters: Mapping[str, Any], older: Older = "aside") -> Path | None:
    """Make the folder ready; returns the state from which a run with these parameters resumes, if any.

    A run with other parameters is extended where ``older`` says so, ``check_older`` having passed. Otherwise it
    is not deleted: its folder is renamed, and stderr says so; so is one whose ``provenance.json`` is damaged. What a
    killed process was writing is removed.
    """
    extensions = _extensions(folder)
    try:
        differs = differences(folder, parameters)
        why = f"held a run with other parameters ({', '.join(differs or {})})"
    except InputError as error:
        differs, why = None, f"held a run whose parameters are not known ({error})"
    extends = bool(differs) and older == "extend"
    if (extends or differs == {}) and (folder / MODEL).exists():
        # The finished model first: without it the run is an unfinished one, with whichever parameters.
        os.replace(folder / MODEL, folder / f"model_step={_steps_done(folder)}.ckpt")
    if extends:
        done, before = _steps_done(folder), {name: pair[0] for name, pair in differs.items()}
        extensions, differs = [*extensions, {"at_step": done, "before": before}], {}
    if differs != {} and folder.is_dir() and any(folder.iterdir()):
        aside, extensions = _free_name(folder), []
        os.replace(folder, aside)
        print(f"{folder} {why}; it is now {aside}", file=sys.stderr)
    else:
        remove_left(folder)
        remove_left(folder / PANELS)
    content = provenance(**parameters)
    if differs == {}:
        content = _gone_on_with(folder, content)
    write_json(folder / PROVENANCE, {**content, "extended": extensions} if extensions else content)
    return folder / LAST if (folder / LAST).exists() else None


def _gone_on_with(folder: Path, now: dict[str, Any]) -> dict[str, Any]:
    """The provenance of a run that goes on: as it began; under "resumed" where anything but the time was another."""
    previous = read_json(folder / PROVENANCE)
    first = {name: previous[name] for name in now if name in previous and name != "parameters"}
    resumed = previous.get("resumed", [])
    before = resumed[-1] if resumed else first
    here = {name: value for name, value in now.items() if name != "parameters"}
    if any(before.get(name) != value for name, value in here.items() if name != "time"):
        resumed = [*resumed, here]
    return {**now, **first} | ({"resumed": resumed} if resumed else {})


def _free_name(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return aside


class MetricsFile:
    """``metrics.csv``: rows are added as they come; rows after ``step`` are of a run that was cut off.

    Rows that are damaged, as the last one may be, are left out, and stderr says how many.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = path.read_text(encoding="utf-8", errors="replace").splitlines()[1:] if path.exists() else []
        whole = [row for row in rows if _is_row(row)]
        if len(whole) < len(rows):
            print(f"{path}: {len(rows) - len(whole)} damaged rows were left out", file=sys.stderr)
        kept = [row for row in whole if int(row.partition(",")[0]) <= step]
        with atomic_write(path) as file:
            file.write("".join(f"{row}\n" for row in (",".join(COLUMNS), *kept)).encode())

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add one row; what is not in ``metrics`` stays empty."""
        values = [str(step), *(f"{metrics[name]:.9g}" if name in metrics else "" for name in COLUMNS[1:])]
        with open(self.path, "a", encoding="ascii", newline="") as file:
            file.write(",".join(values) + "\n")


def _is_row(row: str) -> bool:
    step, *values = row.split(",")
    try:
        numbers = [float(value) for value in values if value]
    except ValueError:
        return False
    return step.isdecimal() and len(step) < 19 and len(values) == len(COLUMNS) - 1 and bool(numbers)


def read_metrics(run: str | Path) -> pd.DataFrame:
    """The metrics that a run has logged, one row per step that logged any, indexed by step.

    Raises:
        InputError: there are none, or the file is damaged.
    """
    path = Path(run) / METRICS_CSV
    if not path.exists():
        raise InputError(f"{path} is missing: nothing was trained in {run}")
    with as_input_error(f"{path}: is damaged"):
        return pd.read_csv(path).astype(float).astype({"step": int}).groupby("step").last()


def read_state(path: Path, processes: int) -> dict[str, Any]:
    """The content of ``last.ckpt``, with the state of a run by as many processes.

    Raises:
        InputError: it is damaged, of another kind or of other processes; the message says how the run goes on.
    """
    try:
        content = read_checkpoint(path)
    except InputError as error:
        raise InputError(f"{error}. {_anew(path)}") from None
    state = content.get("training")
    ranks = state.get("ranks") if isinstance(state, dict) else None
    if not isinstance(ranks, list) or not all(isinstance(rank, dict) for rank in ranks):
        raise InputError(f"{path}: holds no state of a run. {_anew(path)}")
    if len(ranks) != processes:
        raise InputError(
            f"{path} is of {len(ranks)} processes, each with its own streams, not of {processes}; go on with as many "
            "devices × nodes, or begin anew under another name"
        )
    return content


@contextmanager
def damaged_state(path: Path) -> Iterator[None]:
    """What values of other types and shapes make libraries raise becomes an InputError that says how to go on."""
    try:
        yield
    except InputError:
        raise
    except (
        AttributeError,
        IndexError,
        KeyError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        words = one_line((str(error) or type(error).__name__).splitlines()[0])
        raise InputError(f"{path}: the state of the run in it is damaged ({words}). {_anew(path)}") from None


def _anew(path: Path) -> str:
    return f"Rename {path.parent} to keep what it holds, and the same command begins the run anew"


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """ValueError unless what an optimiser has restored has the shapes of its parameters: it does not look itself."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if not isinstance(value, torch.Tensor) or value.shape not in ((), parameter.shape):
                raise ValueError(f"the optimiser's {name} does not fit its parameter")


def random_state() -> dict[str, Any]:
    """The state of PyTorch's generators; a run draws from no others."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the generators back; those of a GPU only where as many are here."""
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])

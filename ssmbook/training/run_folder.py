"""The folder of one training run: its files, how a run starts or resumes, and what happens to an older one.

=====================  ==============================================================================
``model.ckpt``         the trained detector, for ``load_checkpoint``; its being there means: finished
``best.ckpt``          the detector at its best validation AP
``last.ckpt``          all that a run needs to resume; also a detector for ``load_checkpoint``
``metrics.csv``        losses, rates and validation AP by step
``panels/<step>.png``  a look at each validation
``provenance.json``    parameters and circumstances
=====================  ==============================================================================
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ssmbook.detector.checkpoint_file import read_checkpoint
from ssmbook.errors import InputError, one_line
from ssmbook.files import as_input_error, atomic_write, read_json, remove_left, write_json
from ssmbook.training.provenance import fingerprint, provenance

MODEL, BEST, LAST, METRICS_CSV, PANELS = "model.ckpt", "best.ckpt", "last.ckpt", "metrics.csv", "panels"
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


def is_same_run(folder: Path, parameters: Mapping[str, Any]) -> bool:
    """Whether the folder holds a run, finished or not, with these parameters, ``FREE`` ones aside."""
    previous = read_json(folder / "provenance.json")
    if previous is None:
        return False
    try:
        return _bound(previous["parameters"]) == _bound(parameters)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{folder / 'provenance.json'}: does not hold the parameters of a training; remove it, and the training is "
            "begun anew beside what the folder holds"
        ) from None


def _bound(parameters: Mapping[str, Any]) -> str:
    """The fingerprint of what decides the weights of a step."""
    given = parameters.get("training", {})
    # burn_in is left out at 0: the provenance of earlier runs has none.
    training = {k: v for k, v in given.items() if k not in FREE and (k, v) != ("burn_in", 0)}
    return fingerprint({**parameters, "training": training})


def begin(folder: Path, parameters: Mapping[str, Any]) -> Path | None:
    """Make the folder ready; returns the state from which a run with these parameters resumes, if any.

    A training with other parameters is not deleted: its folder is renamed, and stderr says so; so is one whose
    ``provenance.json`` is damaged. What a killed process was writing is removed.
    """
    try:
        same, why = is_same_run(folder, parameters), "held a training with other parameters"
    except InputError as error:
        same, why = False, f"held a training whose parameters are not known ({error})"
    if not same and folder.is_dir() and any(folder.iterdir()):
        aside = _free_name(folder)
        os.replace(folder, aside)
        print(f"{folder} {why}; it is now {aside}", file=sys.stderr)
    if same:
        remove_left(folder)
        remove_left(folder / PANELS)
    write_json(folder / "provenance.json", provenance(**parameters))
    return folder / LAST if (folder / LAST).exists() else None


def _free_name(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return aside


class MetricsFile:
    """``metrics.csv``: rows are added as they come; rows after ``step`` are of a training that was cut off.

    Rows that are damaged, as the last one may be, are left out, and stderr says how many.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = path.read_text(errors="replace").splitlines()[1:] if path.exists() else []
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
    """The metrics that a training has logged, one row per step that logged any, indexed by step.

    Raises:
        InputError: there are none, or the file is damaged.
    """
    path = Path(run) / METRICS_CSV
    if not path.exists():
        raise InputError(f"{path} is missing: nothing was trained in {run}")
    with as_input_error(f"{path}: is damaged"):
        return pd.read_csv(path).astype(float).astype({"step": int}).groupby("step").last()


def read_state(path: Path, processes: int) -> dict[str, Any]:
    """The content of ``last.ckpt``, with the state of a training by as many processes.

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
        raise InputError(f"{path}: holds no state of a training. {_anew(path)}")
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
        raise InputError(
            f"{path}: the state of the training in it is damaged ({words}). {_anew(path)}"
        ) from None


def _anew(path: Path) -> str:
    return f"Rename {path.parent} to keep what it holds, and the same command begins the training anew"


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

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ssmbook.errors import InputError
from ssmbook.files import atomic_write, read_json, write_json
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
    return previous is not None and _bound(previous["parameters"]) == _bound(parameters)


def _bound(parameters: Mapping[str, Any]) -> str:
    """The fingerprint of what decides the weights of a step."""
    given = parameters.get("training", {})
    # burn_in is left out at 0: the provenance of earlier runs has none.
    training = {k: v for k, v in given.items() if k not in FREE and (k, v) != ("burn_in", 0)}
    return fingerprint({**parameters, "training": training})


def begin(folder: Path, parameters: Mapping[str, Any]) -> Path | None:
    """Make the folder ready; returns the state from which a run with these parameters resumes, if any.

    A training with other parameters is not deleted: its folder is renamed, and stderr says so.
    """
    same = is_same_run(folder, parameters)
    if not same and folder.is_dir() and any(folder.iterdir()):
        aside = _free_name(folder)
        os.replace(folder, aside)
        print(f"{folder} held a run with other parameters; it is now {aside}", file=sys.stderr)
    write_json(folder / "provenance.json", provenance(**parameters))
    return folder / LAST if (folder / LAST).exists() else None


def _free_name(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return aside


class MetricsFile:
    """``metrics.csv``: rows are added as they come; rows after ``step`` are of a run that was interrupted."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = path.read_text().splitlines()[1:] if path.exists() else []
        kept = [row for row in rows if int(row.partition(",")[0]) <= step]
        with atomic_write(path) as file:
            file.write("".join(f"{row}\n" for row in (",".join(COLUMNS), *kept)).encode())

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add one row; what is not in ``metrics`` stays empty."""
        values = [str(step), *(f"{metrics[name]:.9g}" if name in metrics else "" for name in COLUMNS[1:])]
        with open(self.path, "a", encoding="ascii", newline="") as file:
            file.write(",".join(values) + "\n")


def read_metrics(run: str | Path) -> pd.DataFrame:
    """The metrics that a run has logged, one row per step that logged any, indexed by step."""
    path = Path(run) / METRICS_CSV
    if not path.exists():
        raise InputError(f"{path} is missing: nothing was trained in {run}")
    return pd.read_csv(path).groupby("step").last()


def random_state() -> dict[str, Any]:
    """The state of PyTorch's generators; a run draws from no others."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the generators back; those of a GPU only where as many are here."""
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])

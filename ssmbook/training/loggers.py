"""Where metrics go besides ``metrics.csv``: TensorBoard or Weights & Biases, by name, if installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from ssmbook.errors import InputError

PACKAGES = {"csv": (), "tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}


def check_logger(name: str) -> None:
    """An InputError for a logger that is unknown or needs a package that is not there."""
    if name not in PACKAGES:
        raise InputError(f"there is no logger {name!r}; the loggers are {', '.join(PACKAGES)}")
    packages = PACKAGES[name]
    if packages and not any(importlib.util.find_spec(package) for package in packages):
        raise InputError(f"logger {name!r} needs a package: python -m pip install {packages[0]}")


def make_loggers(name: str, folder: Path) -> list[Any]:
    """Loggers of Lightning beside the CSV file, with ``log_metrics(metrics, step)``; a resumed run goes on in them."""
    check_logger(name)
    if name == "tensorboard":
        from lightning.fabric.loggers import TensorBoardLogger

        return [TensorBoardLogger(folder, name="tensorboard", version="")]
    if name == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        # A run's identity is its folder, so that the same command finds it again.
        identity = "-".join(folder.resolve().parts[-3:])
        return [WandbLogger(save_dir=folder, name=identity, id=identity, project="ssmbook", resume="allow")]
    return []

"""Where a result came from: commit, parameters, seeds, versions, hardware, time; beside every result."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from ssmbook.files import plain_data

PACKAGES = ("ssmbook", "torch", "lightning", "numpy", "numba", "h5py", "hdf5plugin", "pycocotools")


def provenance(**parameters: Any) -> dict[str, Any]:
    """What must be known to make a result again: ``parameters`` as given, and the circumstances found here."""
    return {
        "parameters": parameters,
        "commit": commit(),
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "hardware": hardware(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(name: str) -> str | None:
    """A package's version; None where it is not installed: the book also runs from its checkout alone."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str:
    """The checkout's commit, with ``+changes`` where files differ from it; ``unknown`` outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        run = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
        return run.stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", Path(__file__).name
        )  # or it is installed inside of another checkout
        files = [f":(top){pattern}" for pattern in ("*.py", "*.toml", "*.txt")]
        changes = git("status", "--porcelain", "--untracked-files=no", "--", *files)
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def hardware() -> dict[str, Any]:
    """Processor, cores and accelerator."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def fingerprint(value: Any) -> str:
    """Twelve hex digits that change when ``value`` (plain data) does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=plain_data).encode()).hexdigest()[:12]

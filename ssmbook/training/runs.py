"""What becomes of training runs: which are finished, which go on and where, how far, and for how long still."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ssmbook.errors import InputError
from ssmbook.files import existing_folder, read_json
from ssmbook.training.run_folder import MODEL, read_metrics

#: Seconds without a sign of life after which a run of another machine counts as stopped.
SILENT_S = 900
# Where runs lie below a folder: it is one, or holds some, or is a data folder, or holds several of these.
PLACES = ("provenance.json", "*/provenance.json", "runs/*/provenance.json", "*/runs/*/provenance.json")


@dataclass(frozen=True)
class Run:
    """One training run as its folder shows it.

    ``state``: ``"finished"``, ``"training"`` or ``"stopped"``; ``host``: the machine that trains it; ``ap``: the last
    validation's, in 0..1; ``seconds_left``: of its steps, by the windows a second of the last logged ones, without
    validations; None where nothing is known.
    """

    folder: Path
    state: str
    step: int
    steps: int
    ap: float | None
    seconds_left: float | None
    host: str = ""

    def row(self) -> dict[str, Any]:
        """For a table or for JSON: AP × 100."""
        return {
            "run": str(self.folder),
            "state": f"{self.state} on {self.host}" if self.host else self.state,
            "step": self.step,
            "steps": self.steps,
            "AP": None if self.ap is None else round(100 * self.ap, 2),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left),
        }


def find_runs(folder: str | Path) -> list[Run]:
    """The training runs in a folder of runs, a data folder, or a folder of these; in order of their names.

    Raises:
        InputError: there is no such folder.
    """
    folder = existing_folder(folder, "training runs")
    places = {path.parent for pattern in PLACES for path in folder.glob(pattern)}
    found = (describe_run(place) for place in sorted(places))
    return [run for run in found if run is not None]


def describe_run(folder: Path) -> Run | None:
    """The state of one run; None where the folder holds no run."""
    try:
        parameters = read_json(folder / "provenance.json")["parameters"]
        training = parameters["training"]
        steps, windows = int(training["steps"]), int(training["sequence_length"] * training["batch_size"])
    except (InputError, KeyError, TypeError, ValueError):
        return None
    step, ap, speed = _progress(folder)
    if (folder / MODEL).exists():
        return Run(folder, "finished", step, steps, ap, 0.0)
    left = (steps - step) * windows / speed if speed else None
    host = _trains_on(folder)
    return Run(folder, "training" if host else "stopped", step, steps, ap, left, host)


def _progress(folder: Path) -> tuple[int, float | None, float | None]:
    """The last step that was logged, the last validation's AP, and windows a second."""
    try:
        metrics = read_metrics(folder)
    except InputError:  # nothing yet, or a row that is being written
        return 0, None, None
    last: Mapping[str, Any] = {
        name: metrics[name].dropna().iloc[-5:] for name in ("val/AP", "windows_per_s") if name in metrics
    }
    ap, speed = last.get("val/AP", ()), last.get("windows_per_s", ())
    return (
        int(metrics.index[-1]) if len(metrics) else 0,
        float(ap.iloc[-1]) if len(ap) else None,
        float(speed.mean()) if len(speed) else None,
    )


def _trains_on(folder: Path) -> str:
    """The machine whose process holds the run's folder (see ``ssmbook.files.lock``); empty if none does."""
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        held = re.match(r"process (\d+) on (\S*)", lock.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    if held is None:
        return ""
    if held[2] == platform.node():
        return held[2] if psutil.pid_exists(int(held[1])) else ""
    files = [path.stat().st_mtime for path in folder.glob("*") if path.is_file()]
    return held[2] if files and time.time() - max(files) < SILENT_S else ""

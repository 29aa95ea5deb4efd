"""Frequency shift: trained detectors, run at 20 to 200 Hz, in three ways.

At k times the rate of training (windows of 50 ms, one every 50 ms):

=========  ============  ============  ====================================================
way        window        every         what changes for the network
=========  ============  ============  ====================================================
held       50/k ms       50 ms         the input; the published preprocessing does this
true       50/k ms       50/k ms       the input, and the time between steps
sliding    50 ms         50/k ms       the time between steps alone
=========  ============  ============  ====================================================

S5's ``step_scale`` multiplies Δ, so a scale of 1/k keeps its time constants in seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ssmbook.dataset.grid import BASE_HZ, BASE_MS, window_and_stride
from ssmbook.detector import TrainedOn
from ssmbook.detector.checkpoint import read_checkpoint
from ssmbook.detector.precision import exact_float32
from ssmbook.errors import InputError
from ssmbook.evaluation.protocol import METRICS
from ssmbook.evaluation.streaming import evaluate
from ssmbook.files import read_json, write_json
from ssmbook.progress import progress_bar
from ssmbook.study.profiles import Arm
from ssmbook.study.workspace import Workspace
from ssmbook.training.provenance import fingerprint, provenance


def step_scale(arm: Arm, rate_hz: float) -> float:
    """What multiplies Δ: 1/k where the arm follows the rate, else 1."""
    return BASE_HZ / rate_hz if arm.follow else 1.0


@dataclass(frozen=True)
class Cell:
    """One arm at one rate, of one training."""

    book: Workspace  # of that training's seed
    arm: Arm
    rate_hz: float

    @property
    def inputs(self) -> tuple[float, float]:
        """Window and stride in ms."""
        return window_and_stride(self.arm.way, self.rate_hz)

    def row(self) -> dict[str, Any]:
        """What identifies it in the table."""
        window_ms, stride_ms = self.inputs
        return {
            "model": self.arm.variant,
            "way": self.arm.way,
            "step_scale": "1/k" if self.arm.follow else "1",
            "carry": self.arm.carry,
            "rate_hz": self.rate_hz,
            "window_ms": window_ms,
            "stride_ms": stride_ms,
            "seed": self.book.profile.training.seed,
        }


def cells_of(workspace: Workspace, arms: Iterable[Arm] | None = None) -> list[Cell]:
    """The cells of a profile's table, or of some arms: seed by seed, arm by arm, rate by rate."""
    arms = workspace.profile.arms if arms is None else tuple(arms)
    books = [workspace.with_seed(seed) for seed in workspace.seeds]
    return [Cell(book, arm, rate) for book in books for arm in arms for rate in arm.rates_hz]


def run_arms(
    workspace: Workspace, arms: Iterable[Arm] | None = None, progress: bool = True, device: str = ""
) -> pd.DataFrame:
    """Evaluate each arm of a profile at each of its rates, with each of its seeds, on the test split.

    A cell that was computed before with the same weights is read from ``runs/<variant>/rates``, so an
    interrupted table goes on where it stopped.

    Args:
        workspace: of the profile; models that are missing are trained first.
        arms: the profile's if not given.
        progress: show a bar.
        device: of PyTorch; a GPU where there is one.

    Returns:
        One row per seed, arm and rate: model, way, step_scale ("1/k" or "1"), carry, rate_hz, window_ms,
        stride_ms, seed, and the metrics in 0..1.

    Raises:
        InputError: a model was trained on another grid, e.g. that of a set with windows every 125 ms: then 20 Hz is not
            its rate, and k not how much faster it runs.
    """
    exact_float32()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    cells = cells_of(workspace, arms)
    trained = {(cell.book.seeds, cell.arm.variant): cell for cell in cells}
    files = {key: cell.book.train(cell.arm.variant) for key, cell in trained.items()}
    for file in files.values():
        _check_trained_at_base(file)
    weights = {key: hashlib.sha256(file.read_bytes()).hexdigest() for key, file in files.items()}
    records = [_record(cell, weights[cell.book.seeds, cell.arm.variant]) for cell in cells]
    # The inputs of all cells that are to be computed come from one reading of the raw set.
    missing = {cell.inputs for cell, (path, _) in zip(cells, records, strict=True) if not path.exists()}
    workspace.prepare(sorted(missing), ("test",))
    rows = []
    together = list(zip(cells, records, strict=True))
    for cell, (path, key) in progress_bar(together, desc="rates", unit="cell", show=progress):
        rows.append({**cell.row(), **_metrics(cell, path, key, device)})
    return pd.DataFrame(rows)


def _check_trained_at_base(path: Path) -> None:
    stride = TrainedOn.read(read_checkpoint(path), path).stride_us
    if stride is not None and abs(stride / (1000 * BASE_MS) - 1) > 0.05:
        raise InputError(
            f"{path}: was trained with a window every {stride / 1000:g} ms, but rates are relative to {BASE_MS:g} ms; "
            "train on a set made with --grid exact"
        )


def _metrics(cell: Cell, path: Path, key: dict[str, Any], device: str) -> dict[str, float]:
    if (known := read_json(path)) is not None:
        metrics = known["metrics"]
        return {name: metrics[name] for name in METRICS if name in metrics}  # the file has them by name
    book, arm, (window_ms, stride_ms) = cell.book, cell.arm, cell.inputs
    batch_size = 16 if device.startswith("cuda") else 0  # small chunks leave a GPU idle
    streams = book.streams("test", window_ms, stride_ms, batch_size)
    label = f"{arm.variant} {window_ms:g} ms every {stride_ms:g} ms"
    model = book.model(arm.variant, arm.carry)
    scale = step_scale(arm, cell.rate_hz)
    result = evaluate(model, streams, book.sensor, step_scale=scale, device=device, progress=label)
    write_json(path, {"metrics": result.metrics, "provenance": provenance(**key)})
    return result.metrics


def _record(cell: Cell, weights: str) -> tuple[Path, dict[str, Any]]:
    """Where a cell is kept, and what it depends on."""
    window_ms, stride_ms = cell.inputs
    key = {
        "weights": weights,
        "carry": cell.arm.carry,
        "window_ms": window_ms,
        "stride_ms": stride_ms,
        "step_scale": step_scale(cell.arm, cell.rate_hz),
    }
    return cell.book.run(cell.arm.variant) / "rates" / f"{fingerprint(key)}.json", key


def pivot(table: pd.DataFrame, metric: str = "AP", statistic: str = "mean") -> pd.DataFrame:
    """Arms × rates of one metric, × 100 as papers print it, in the table's order.

    Args:
        table: of ``run_arms``.
        metric: one of its columns.
        statistic: over the seeds: ``"mean"``, or ``"std"``, the standard deviation (of n − 1; none for one seed).
    """
    arm = ["model", "way", "step_scale", "carry"]
    values = table.groupby([*arm, "rate_hz"])[metric].agg(statistic)
    wide = (100 * values).unstack("rate_hz")
    return wide.reindex(pd.MultiIndex.from_frame(table[arm].drop_duplicates())).round(1)

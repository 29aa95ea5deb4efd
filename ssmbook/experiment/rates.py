"""Frequency shift: one trained detector, run at 20 to 200 Hz, in three ways.

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
from pathlib import Path

import pandas as pd

from ssmbook.detector.checkpoint import read_checkpoint
from ssmbook.errors import InputError
from ssmbook.experiment.evaluate import evaluate
from ssmbook.experiment.presets import BASE_HZ, BASE_MS, Arm
from ssmbook.experiment.provenance import fingerprint, provenance, read_json, write_json
from ssmbook.experiment.workspace import Workspace
from ssmbook.progress import progress_bar

WAYS = ("held", "true", "sliding")


def window_and_stride(way: str, rate_hz: float) -> tuple[float, float]:
    """Window and stride in ms of one way to run at ``rate_hz``."""
    fast = 1000 / rate_hz
    settings = {"held": (fast, BASE_MS), "true": (fast, fast), "sliding": (BASE_MS, fast)}
    if way not in settings:
        raise InputError(f"there is no way {way!r} to run faster; the ways are {', '.join(WAYS)}")
    return settings[way]


def step_scale(arm: Arm, rate_hz: float) -> float:
    """What multiplies Δ: 1/k where the arm follows the rate, else 1."""
    return BASE_HZ / rate_hz if arm.follow else 1.0


def run_arms(workspace: Workspace, arms: Iterable[Arm] | None = None, progress: bool = True) -> pd.DataFrame:
    """Evaluate each arm of a profile at each of its rates, on the test split.

    A cell that was computed before with the same weights is read from ``runs/<recurrence>/rates``, so an
    interrupted table goes on where it stopped.

    Returns:
        One row per arm and rate: recurrence, way, step_scale ("1/k" or "1"), carry, rate_hz, window_ms,
        stride_ms, and the metrics in 0..1.

    Raises:
        InputError: a model was trained on another grid, e.g. that of a set with windows every 125 ms: then 20 Hz is not
            its rate, and k not how much faster it runs.
    """
    arms = workspace.profile.arms if arms is None else tuple(arms)
    for recurrence in dict.fromkeys(arm.recurrence for arm in arms):
        _check_trained_at_base(workspace.train(recurrence))
    rows = []
    cells = [(arm, rate) for arm in arms for rate in arm.rates_hz]
    # The inputs of all cells that are to be computed come from one reading of the raw set.
    inputs = {
        window_and_stride(arm.way, rate)
        for arm, rate in cells
        if read_json(
            _record(
                workspace, arm.recurrence, arm.carry, *window_and_stride(arm.way, rate), step_scale(arm, rate)
            )[0]
        )
        is None
    }
    workspace.prepare(sorted(inputs), ("test",))
    for arm, rate in progress_bar(cells, desc="rates", unit="cell", show=progress):
        window_ms, stride_ms = window_and_stride(arm.way, rate)
        metrics = _cell(workspace, arm.recurrence, arm.carry, window_ms, stride_ms, step_scale(arm, rate))
        rows.append(
            {
                "recurrence": arm.recurrence,
                "way": arm.way,
                "step_scale": "1/k" if arm.follow else "1",
                "carry": arm.carry,
                "rate_hz": rate,
                "window_ms": window_ms,
                "stride_ms": stride_ms,
                **metrics,
            }
        )
    return pd.DataFrame(rows)


def _check_trained_at_base(path: Path) -> None:
    stride = read_checkpoint(path).get("stride_us")
    if stride is not None and abs(stride / (1000 * BASE_MS) - 1) > 0.05:
        raise InputError(
            f"{path}: was trained with a window every {stride / 1000:g} ms, but rates are relative to {BASE_MS:g} ms; "
            "train on a set made with --grid exact"
        )


def _cell(
    workspace: Workspace, recurrence: str, carry: str, window_ms: float, stride_ms: float, scale: float
) -> dict[str, float]:
    path, key = _record(workspace, recurrence, carry, window_ms, stride_ms, scale)
    if (known := read_json(path)) is not None:
        return known["metrics"]
    streams = workspace.streams("test", window_ms, stride_ms)
    label = f"{recurrence} {window_ms:g} ms every {stride_ms:g} ms"
    model = workspace.model(recurrence, carry)
    result = evaluate(model, streams, workspace.sensor, step_scale=scale, progress=label)
    write_json(path, {"metrics": result.metrics, "provenance": provenance(**key)})
    return result.metrics


def _record(
    workspace: Workspace, recurrence: str, carry: str, window_ms: float, stride_ms: float, scale: float
) -> tuple[Path, dict[str, object]]:
    """Where a cell is kept, and what it depends on."""
    key: dict[str, object] = {
        "weights": hashlib.sha256(workspace.train(recurrence).read_bytes()).hexdigest(),
        "carry": carry,
        "window_ms": window_ms,
        "stride_ms": stride_ms,
        "step_scale": scale,
    }
    return workspace.run(recurrence) / "rates" / f"{fingerprint(key)}.json", key


def pivot(table: pd.DataFrame, metric: str = "AP") -> pd.DataFrame:
    """Arms × rates of one metric, × 100 as papers print it, in the table's order."""
    arm = ["recurrence", "way", "step_scale", "carry"]
    wide = (100 * table.set_index([*arm, "rate_hz"])[metric]).unstack("rate_hz")
    return wide.reindex(pd.MultiIndex.from_frame(table[arm].drop_duplicates())).round(1)

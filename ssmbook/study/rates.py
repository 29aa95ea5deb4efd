"""Frequency shift: trained detectors, run at 5 to 1,000 Hz, in four modes.

At k times the rate of training (windows of 50 ms, one every 50 ms):

=========  ============  ============  ====================================================
mode       window        every         what changes for the network
=========  ============  ============  ====================================================
held       50/k ms       50 ms         the input; the published preprocessing does this
true       50/k ms       50/k ms       the input, and the time between steps
sliding    50 ms         50/k ms       the time between steps alone
traces     none          50/k ms       the time between steps alone
=========  ============  ============  ====================================================

S5's ``step_scale`` multiplies Δ, so a scale of 1/k keeps its time constants in seconds. (A variant may be trained at
another rate than 20 Hz; k then is in relation to that.)

What is computed belongs to a ``Trained``: one model of one seed, with all of its cells. These are independent of each
other, and are what is shared out to processes. A cell is kept beside its model, and its row in the committed table
knows it again on another machine by the fingerprint of all that decides it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ssmbook.dataset.grid import BASE_HZ, window_and_stride
from ssmbook.detector import TrainedOn
from ssmbook.detector.checkpoint import read_checkpoint
from ssmbook.detector.precision import exact_float32
from ssmbook.errors import InputError
from ssmbook.evaluation.breakdown import ap_by_rest
from ssmbook.evaluation.protocol import METRICS, score_boxes
from ssmbook.evaluation.streaming import Evaluation, evaluate
from ssmbook.files import read_json, write_json
from ssmbook.progress import progress_bar, tell
from ssmbook.study.arms import Arm
from ssmbook.study.tables import read_table, write_table
from ssmbook.study.workspace import Workspace
from ssmbook.training.provenance import fingerprint, provenance
from ssmbook.training.run_folder import FREE, MODEL, SINCE

RATES_CSV, REST_CSV = "rates.csv", "rest.csv"
REST_COLUMNS = ("from", "to", "boxes", "AP", "AP_50", "recall_50")
#: Seconds since an object last moved, from which to which the table of objects at rest counts.
REST_S = (0.0, 0.1, 0.5, 1.0, 2.0, 60.0)
ARM = ("model", "input", "mode", "step_scale", "carry")


@dataclass(frozen=True)
class Cell:
    """One arm at one rate, of one model."""

    workspace: Workspace  # of the model's seed and representation
    arm: Arm
    rate_hz: float

    @property
    def inputs(self) -> tuple[float, float]:
        """Window and stride in ms."""
        return window_and_stride(self.arm.mode, self.rate_hz)

    @property
    def step_scale(self) -> float:
        """What multiplies Δ: 1/k where the arm follows the rate, else 1."""
        trained_hz = self.workspace.profile.variant(self.arm.variant).rate_hz
        return trained_hz / self.rate_hz if self.arm.follow else 1.0

    def row(self) -> dict[str, Any]:
        """What identifies it in the table."""
        window_ms, stride_ms = self.inputs
        profile = self.workspace.profile
        return {
            "set": profile.data or profile.name,
            "model": self.arm.variant,
            "input": profile.representation,
            "mode": self.arm.mode,
            "step_scale": "1/k" if self.arm.follow else "1",
            "carry": self.arm.carry,
            "rate_hz": self.rate_hz,
            "window_ms": window_ms if self.workspace.kind.windowed else None,
            "stride_ms": stride_ms,
            "seed": profile.training.seed,
            "score": "product",
        }

    @property
    def fingerprint(self) -> str:
        """Of all that decides the cell's figures, the machine and the code aside."""
        profile, name = self.workspace.profile, self.arm.variant
        variant, training = profile.variant(name), asdict(self.workspace.training(name))
        return fingerprint(
            {
                "simulation": profile.simulation and asdict(profile.simulation),
                "sensor": asdict(self.workspace.sensor),
                "input": (profile.representation, self.workspace.represent.options),
                "model": (profile.model, variant.recurrence, dict(variant.options)),
                "training": {
                    k: v
                    for k, v in training.items()
                    # The cells of earlier runs have burn_in, and no later setting.
                    if k not in FREE and (k == "burn_in" or k not in SINCE or v != SINCE[k])
                },
                "cell": (*self.inputs, self.step_scale, self.arm.carry),
                "every_hz": lowest_rate(profile.arms),
                **({} if variant.rate_hz == BASE_HZ else {"trained_hz": variant.rate_hz}),
            }
        )


@dataclass(frozen=True)
class Trained:
    """A model of one variant, input and seed, and its cells."""

    workspace: Workspace
    variant: str
    cells: tuple[Cell, ...]

    @property
    def folder(self) -> Path:
        """Of its training run."""
        return self.workspace.run(self.variant)

    @property
    def sets(self) -> set[tuple[float, float]]:
        """Windows and strides in ms of its cells."""
        return {cell.inputs for cell in self.cells}

    def run(self, device: str = "", progress: bool = True) -> list[dict[str, Any]]:
        """Train it where it is missing, and compute the cells that are; see ``run_arms``."""
        exact_float32()
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        file = self.workspace.train(self.variant)
        _check_trained_at(file, self.workspace.profile.variant(self.variant).rate_hz)
        weights = hashlib.sha256(file.read_bytes()).hexdigest()
        missing = {cell.inputs for cell in self.cells if not _kept(cell, weights).exists()}
        self.workspace.prepare(sorted(missing), ("test",))
        cells = progress_bar(self.cells, desc=self.folder.name, unit="cell", show=progress)
        return [_measure(cell, weights, device, progress) for cell in cells]

    def kept(self) -> list[dict[str, Any]]:
        """The results of the cells that were computed with the weights in its folder."""
        file = self.folder / MODEL
        if not file.exists():
            return []
        weights = hashlib.sha256(file.read_bytes()).hexdigest()
        results = [_read_kept(_kept(cell, weights)) for cell in self.cells]
        return [result for result in results if result is not None]


def lowest_rate(arms: Iterable[Arm]) -> float:
    """The lowest rate of some arms; label frames that far apart are those that every rate has."""
    return min((rate for arm in arms for rate in arm.rates_hz), default=BASE_HZ)


def cells_of(workspace: Workspace, arms: Iterable[Arm] | None = None) -> list[Cell]:
    """The cells of a profile's table, or of some arms: seed by seed, arm by arm, rate by rate.

    Traces are a model of their own. Where a profile's own representation has no window, its three modes are one.
    """
    cells = {}
    for seed in workspace.seeds:
        for arm in workspace.profile.arms if arms is None else arms:
            if arm.seeds and seed not in arm.seeds:
                continue
            place = workspace.with_seed(seed)
            if arm.mode == "traces":
                place = place.with_representation("traces")
            elif not place.kind.windowed:
                arm = replace(arm, mode="traces")
            for rate in arm.rates_hz:
                cell = Cell(place, arm, rate)
                cells[seed, *(cell.row()[name] for name in (*ARM, "rate_hz"))] = cell
    return list(cells.values())


def models_of(workspace: Workspace, arms: Iterable[Arm] | None = None) -> list[Trained]:
    """The models of a profile or of some arms with their cells, in the order in which they are computed.

    Arms of one input that follow each other are done seed by seed, so that a study that is broken off compares models
    of equal seeds; a model whose arms stand in two places is there twice.
    """
    models = []
    for _, part in groupby(
        workspace.profile.arms if arms is None else arms, lambda arm: arm.mode == "traces"
    ):
        groups: dict[tuple[int, str], list[Cell]] = {}
        for cell in cells_of(workspace, tuple(part)):
            groups.setdefault((cell.workspace.profile.training.seed, cell.arm.variant), []).append(cell)
        models += [Trained(own[0].workspace, variant, tuple(own)) for (_, variant), own in groups.items()]
    return models


def read_arms(workspace: Workspace, name: str = RATES_CSV) -> pd.DataFrame:
    """A table of ``run_arms`` that was computed before; an InputError that says what makes it."""
    path = workspace.tables / name
    if not path.exists():
        raise InputError(
            f"{path}: nothing was computed yet; run ssmbook reproduce --profile {workspace.profile.name}"
        )
    return read_table(path)


def known_results(workspace: Workspace, models: list[Trained]) -> dict[int, list[dict[str, Any]]]:
    """The results of the models, by number, all of whose cells stand in the committed tables."""
    if workspace.given or not (workspace.tables / RATES_CSV).exists():
        return {}
    rows = {
        row["cell"]: row
        for row in read_table(workspace.tables / RATES_CSV).to_dict("records")
        if "cell" in row
    }
    rest: dict[str, dict[float, Any]] = {}  # a cell that two arms share has each of its rows twice
    if (workspace.tables / REST_CSV).exists():
        for row in read_table(workspace.tables / REST_CSV).to_dict("records"):
            rest.setdefault(row["cell"], {})[row["from"]] = {name: row[name] for name in REST_COLUMNS}
    known = {}
    for number, model in enumerate(models):
        keys = [cell.fingerprint for cell in model.cells]
        if all(key in rows for key in keys) and len({rows[key]["weights"] for key in keys}) == 1:
            known[number] = [
                {
                    "metrics": _in_order(rows[key]),
                    "rest": list(rest.get(key, {}).values()),
                    "weights": rows[key]["weights"],
                }
                for key in keys
            ]
    return known


def rows_of(
    cells: list[Cell], models: list[Trained], found: dict[int, list[dict]]
) -> Iterator[dict[str, Any]]:
    """The rows of the cells whose models are done, in the order of the cells."""
    results = {
        tuple(cell.row().values()): result
        for number, model in enumerate(models)
        for cell, result in zip(model.cells, found.get(number, ()), strict=False)
    }
    for cell in cells:
        if (result := results.get(tuple(cell.row().values()))) is not None:
            yield {**cell.row(), **result["metrics"], "weights": result["weights"], "cell": cell.fingerprint}


def write_tables(workspace: Workspace, models: list[Trained], found: dict[int, list[dict]]) -> None:
    """The tables, of the models that are done."""
    rows = list(rows_of(cells_of(workspace), models, found))
    if not rows:  # what other settings gave stays as it is
        return
    _tell_lost(workspace, {row["cell"] for row in rows})
    _tell_trained_again(workspace, pd.DataFrame(rows))
    write_table(workspace.tables / RATES_CSV, pd.DataFrame(rows), profile=workspace.profile.name)
    by_cell = {
        cell.fingerprint: result["rest"]
        for number, results in found.items()
        for cell, result in zip(models[number].cells, results, strict=True)
    }
    named = ("set", *ARM, "rate_hz", "seed", "score")
    rest = [
        {**{n: row[n] for n in named}, **{n: part[n] for n in REST_COLUMNS}, "cell": row["cell"]}
        for row in rows
        for part in by_cell.get(row["cell"], ())
    ]
    if rest:
        write_table(workspace.tables / REST_CSV, pd.DataFrame(rest), profile=workspace.profile.name)


def _tell_lost(workspace: Workspace, cells: set[str]) -> None:
    """Say which rows of an earlier table are not written again: of models that the profile no longer has, or that were
    trained anew, so that their cells are of other weights."""
    path = workspace.tables / RATES_CSV
    if not path.exists():
        return
    before = read_table(path)
    lost = before[~before["cell"].isin(cells)] if "cell" in before else before
    if len(lost):
        models = dict.fromkeys(zip(lost["model"], lost["seed"], strict=True))
        names = ", ".join(f"{model} seed {seed}" for model, seed in models)
        tell(
            f"{path}: {len(lost)} rows are not of this profile's models as they are now and are left out: {names}"
        )


def _tell_trained_again(workspace: Workspace, rows: pd.DataFrame) -> None:
    """Say which models' rows are of more than one training, as on machines that round differently."""
    networks = rows.groupby(["model", "input", "seed"], sort=False)["weights"].nunique()
    again = networks[networks > 1].index
    if len(again):
        names = ", ".join(f"{model} on {represented} seed {seed}" for model, represented, seed in again)
        tell(
            f"{workspace.tables / RATES_CSV}: trained more than once, so that their rows are of several networks "
            f"(column weights): {names}; rows of one network alone are comparable"
        )


def _check_trained_at(path: Path, rate_hz: float) -> None:
    stride = TrainedOn.read(read_checkpoint(path), path).stride_us
    if stride is not None and abs(stride * rate_hz / 1e6 - 1) > 0.05:
        raise InputError(
            f"{path}: was trained with a window every {stride / 1000:g} ms, but rates are relative to "
            f"{1000 / rate_hz:g} ms; train on a set made with --grid exact"
        )


def _kept(cell: Cell, weights: str) -> Path:
    """Where a cell is kept; it depends on the weights themselves, too."""
    folder = cell.workspace.run(cell.arm.variant) / "rates"
    return folder / f"{fingerprint([weights, cell.fingerprint])}.json"


def _read_kept(path: Path) -> dict[str, Any] | None:
    known = read_json(path)
    return None if known is None else {**known["result"], "metrics": _in_order(known["result"]["metrics"])}


def _measure(cell: Cell, weights: str, device: str, progress: bool) -> dict[str, Any]:
    path = _kept(cell, weights)
    if (known := _read_kept(path)) is not None:
        return known
    place, arm = cell.workspace, cell.arm
    batch_size = 16 if device.startswith("cuda") else 0  # small chunks leave a GPU idle
    streams = place.streams("test", *cell.inputs, batch_size)
    label = f"{arm.variant} {arm.mode} {cell.rate_hz:g} Hz" if progress else None
    evaluation = evaluate(
        place.model(arm.variant, arm.carry),
        streams,
        place.sensor,
        step_scale=cell.step_scale,
        device=device,
        progress=label,
    )
    streams.close()
    common = ap_every(evaluation, 1 / lowest_rate(place.profile.arms))
    result = {
        "metrics": _in_order({**evaluation.metrics, "AP_common": common}),
        "rest": _rest(evaluation),
        "weights": weights[:12],
    }
    write_json(path, {"result": result, "provenance": provenance(cell=cell.row(), weights=weights)})
    return result


def _rest(evaluation: Evaluation) -> list[Any]:
    """AP by time at rest; nothing for labels whose objects cannot be told apart."""
    try:
        return ap_by_rest(evaluation, REST_S).to_dict("records")
    except InputError as error:
        tell(f"no AP by time at rest: {error}")
        return []


def _in_order(metrics: Mapping[Any, Any]) -> dict[str, float]:
    """Metrics in the order of the tables; a file has them by name."""
    return {name: metrics[name] for name in (*METRICS, "AP_common") if name in metrics}


def ap_every(result: Evaluation, seconds: float) -> float:
    """AP in 0..1 on label frames that lie so far apart, from each sequence's first on."""
    kept: list[int] = []
    frames = zip(result.sequences, result.ground_truth, strict=True)
    for _, group in groupby(enumerate(frames), key=lambda item: item[1][0]):
        indices, boxes = zip(*((i, boxes) for i, (_, boxes) in group), strict=True)
        times = np.array([int(b["t"][0]) for b in boxes])
        phase = (times - times[0]) / (1e6 * seconds)
        kept += np.asarray(indices)[np.abs(phase - np.round(phase)) < 0.01].tolist()
    truth, found = ([frames[i] for i in kept] for frames in (result.ground_truth, result.detections))
    return score_boxes(truth, found, result.sensor, result.sensor.downsample).metrics["AP"]


def of_all_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Without those rates of an arm that were run with fewer seeds than others: their means are of other models."""
    seeds = table.groupby([*ARM, "rate_hz"])["seed"].transform("nunique")
    return table[seeds == seeds.groupby([table[name] for name in ARM]).transform("max")]


def pivot(table: pd.DataFrame, metric: str = "AP", statistic: str = "mean") -> pd.DataFrame:
    """Arms × rates of one metric, × 100 as papers print it, in the table's order; ``of_all_seeds``.

    Args:
        table: of ``run_arms``.
        metric: one of its columns.
        statistic: over the seeds: ``"mean"``, or ``"std"``, the standard deviation (of n − 1; none for one seed).
    """
    values = of_all_seeds(table).groupby([*ARM, "rate_hz"])[metric].agg(statistic)
    wide = (100 * values).unstack("rate_hz")
    return wide.reindex(pd.MultiIndex.from_frame(table[list(ARM)].drop_duplicates())).round(1)

"""What a real set's study takes on 1, 8 and 64 nodes, before anything is computed.

Windows and bytes are those of the files, where they are there, else they follow from the sets' published lengths.
Operations and activations of the networks are counted; how fast a GPU is, and how many a node has, is assumed.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ssmbook.dataset import estimate, find_sequences
from ssmbook.dataset.grid import BASE_HZ, BASE_MS
from ssmbook.detector import Detector
from ssmbook.errors import InputError
from ssmbook.files import read_json
from ssmbook.study.rates import Trained, known_results, models_of
from ssmbook.study.sizes import frame_flops
from ssmbook.study.workspace import SPLITS, Workspace, book_root

#: Hours of recording, quoted: de Tournemire et al. 2020 (Gen1), Perot et al. 2020 (1 Mpx).
PUBLISHED_HOURS = {"gen1": 39.32, "gen4": 14.65}
#: Of the recordings, assumed where only the published length is known.
SHARES = {"train": 0.75, "val": 0.125, "test": 0.125}
# Windows a second in the committed benchmark of preprocessing, which uses the published grid.
_BENCHMARK_HZ = {"gen1": 8.0, "gen4": 20.0}


@dataclass(frozen=True)
class Nodes:
    """What is assumed of a cluster's nodes."""

    gpus: int = 4
    cores: int = 32
    gpu_tflops: float = 19.5  # float32 peak of one GPU without TF32; that of an A100
    utilisation: float = 0.3  # of the peak

    @property
    def flop_an_hour(self) -> float:
        """Of one GPU."""
        return 3600 * 1e12 * self.gpu_tflops * self.utilisation


@dataclass(frozen=True)
class SetSize:
    """How much a set holds: hours by split, bytes, and from where that is known."""

    hours: dict[str, float]
    raw_gb: float
    bytes_a_window: float
    core_s_an_hour: float  # of preprocessing, for an hour of recording
    source: str
    made: bool = False  # it is preprocessed


@dataclass(frozen=True)
class Forecast:
    """A study's size, and its hours by the number of nodes."""

    profile: str
    models: int
    missing: int
    windows: dict[
        str, int
    ]  # of the splits, at the rate of training; and of the evaluations of all missing models
    size: SetSize
    disk_gb: float  # of sets and runs, besides the raw set
    gpu_gb: float  # weights, gradients, moments and activations of a training step
    loader_gb: float  # host memory of one training's batches that are read ahead
    nodes: Nodes
    table: pd.DataFrame  # by nodes: GPUs used, hours of preprocessing and of models, node-hours

    def report(self) -> tuple[dict[str, Any], list[str]]:
        """As plain data, and as lines for people."""
        facts = {**asdict(self), "table": self.table.reset_index().to_dict("records")}
        hours = sum(self.size.hours.values())
        n = self.nodes
        windows = ", ".join(f"{count:,} {name}" for name, count in self.windows.items())
        return facts, [
            f"{self.profile}: {self.missing} of {self.models} models are missing",
            f"set: {hours:.2f} h ({self.size.source}); windows: {windows}",
            f"disk: {self.size.raw_gb:.0f} GB raw, up to {self.disk_gb:.0f} GB of sets and runs",
            f"memory: {self.gpu_gb:.1f} GB of each GPU; of each node {n.gpus * self.loader_gb:.1f} GB for batches read "
            f"ahead, {0.4 * n.cores:.0f} GB while preprocessing",
            self.table.round(1).to_string(),
            f"Assumed: {n.gpus} GPUs and {n.cores} cores a node, {n.gpu_tflops:g} TFLOPS a GPU of which training "
            f"reaches {n.utilisation:g}; a model has one GPU. Nothing was written.",
        ]


def forecast(
    workspace: Workspace, node_counts: Iterable[int] = (1, 8, 64), nodes: Nodes | None = None
) -> Forecast:
    """What a profile of recordings takes: ``ssmbook sweep PROFILE --dry-run``.

    Raises:
        InputError: nothing is known of its set, whose files are missing.
    """
    nodes, profile = nodes or Nodes(), workspace.profile
    models = models_of(workspace)
    known = known_results(workspace, models)
    todo = [
        model for i, model in enumerate(models) if i not in known and len(model.kept()) < len(model.cells)
    ]
    size = size_of(workspace)
    flop = {name: sum(frame_flops(workspace.new_model(name))) for name in {model.variant for model in todo}}
    evaluated = [evaluation_windows(model, size.hours["test"]) for model in todo]
    hours = [
        (3 * _training_windows(model) + windows) * flop[model.variant] / nodes.flop_an_hour
        for model, windows in zip(todo, evaluated, strict=True)
    ]
    training, example = profile.training, workspace.new_model()
    batch = training.sequence_length * training.batch_size
    frame = example.in_channels * math.prod(workspace.sensor.frame_size)
    return Forecast(
        profile=profile.name,
        models=len(models),
        missing=len(todo),
        windows={
            **{split: round(3600 * BASE_HZ * h) for split, h in size.hours.items()},
            "evaluated": sum(evaluated),
        },
        size=size,
        disk_gb=_disk_gb(todo, size, example),
        gpu_gb=(16 * _parameters(example) + batch * activation_bytes(example)) / 1e9,
        loader_gb=2 * max(1, training.workers) * batch * frame / 1e9,
        nodes=nodes,
        table=_table(hours, size, node_counts, nodes),
    )


def size_of(workspace: Workspace) -> SetSize:
    """Of the raw set if it is there, else of the preprocessed one, else as published."""
    raw, folder, published = workspace.folder / "raw", workspace.folder, _published(workspace)
    if raw.is_dir():
        made_with = {"representation": workspace.kind.name, "stride_ms": BASE_MS}
        splits = [split for split in SPLITS if (raw / split).is_dir()]
        found = {s: estimate(raw, {folder / "forecast": made_with}, workspace.sensor, (s,)) for s in splits}
        each = {split: next(iter(estimates.values())) for split, estimates in found.items()}
        windows = sum(e.windows for e in each.values())
        return SetSize(
            {split: e.hours for split, e in each.items()} | {s: 0.0 for s in SPLITS if s not in each},
            sum(e.bytes_in for e in each.values()) / 1e9,
            sum(e.bytes_out for e in each.values()) / max(1, windows),
            published.core_s_an_hour if published else 0.0,
            f"read from {raw}",
        )
    if (folder / "train").is_dir():
        sequences = {s: find_sequences(folder / s) for s in SPLITS if (folder / s).is_dir()}
        counts = {split: sum(map(len, each)) for split, each in sequences.items()}
        total = sum(path.stat().st_size for s in sequences for path in (folder / s).rglob("*.h5"))
        hours = {s: counts.get(s, 0) / BASE_HZ / 3600 for s in SPLITS}
        return SetSize(hours, 0.0, total / max(1, sum(counts.values())), 0.0, f"read from {folder}", True)
    if published is None:
        raise InputError(f"{raw}: no such folder, and no published size of this set is known; make it first")
    return published


def _published(workspace: Workspace) -> SetSize | None:
    """Published lengths, and what the committed benchmark measured on recordings of like density."""
    name = workspace.sensor.name
    path: Path = book_root() / "benchmarks" / "results" / "preprocess_cpu.json"
    rows = {row["sensor"]: row for row in (read_json(path) or {"recordings": []})["recordings"]}
    if name not in PUBLISHED_HOURS or name not in rows:
        return None
    row, hours = rows[name], PUBLISHED_HOURS[name]
    ours = row["programs"]["ours"]
    return SetSize(
        {split: hours * share for split, share in SHARES.items()},
        8 * row["millions"] * 1e6 / row["seconds"] * 3600 * hours / 1e9,  # 8 bytes an event, as in DAT
        ours["written_mb"] * 1e6 / (row["seconds"] * _BENCHMARK_HZ[name]),
        3600 * ours["seconds"] / row["seconds"],
        f"published length of {name}, splits and bytes assumed: no files in {workspace.folder}",
    )


def _training_windows(model: Trained) -> int:
    training = model.workspace.training(model.variant)
    return training.steps * training.batch_size * training.sequence_length


def evaluation_windows(model: Trained, hours: float) -> int:
    """Windows that a model's cells go through, in so many hours of test recordings; equal passes are one."""
    different = {(*cell.inputs, cell.step_scale, cell.arm.carry) for cell in model.cells}
    return round(sum(3.6e6 * hours / stride_ms for _, stride_ms, *_ in different))


def activation_bytes(model: Detector) -> float:
    """Bytes that the gradient of one more window keeps, counted on one and on two windows of a chunk."""
    counts = []
    for length in (1, 2):
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        x = torch.zeros(length, 1, model.in_channels, *model.input_hw, dtype=torch.uint8)
        frames = torch.stack([torch.arange(length), torch.zeros(length, dtype=torch.long)], 1)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            features, _ = model.train().features(x, frames=frames)
        counts.append(sum(kept.values()))
        del features
    return float(counts[1] - counts[0])


def _parameters(model: Detector) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _disk_gb(models: Sequence[Trained], size: SetSize, network: Detector) -> float:
    """Sets of training and of all evaluations, and the runs: two networks and a state with its moments each."""
    strides = {inputs for model in models for inputs in model.sets} - {(BASE_MS, BASE_MS)}
    hours = sum(3600 * 1000 / stride_ms * size.hours["test"] for _, stride_ms in strides)
    learnt = size.hours["train"] + size.hours["val"]
    rates = {model.workspace.profile.variant(model.variant).rate_hz for model in models} - {BASE_HZ}
    hours += sum(3600 * rate * learnt for rate in rates)
    base = 0.0 if size.made else 3600 * BASE_HZ * sum(size.hours.values())
    return ((base + hours) * size.bytes_a_window + len(models) * 5 * 4 * _parameters(network)) / 1e9


def _table(hours: Sequence[float], size: SetSize, node_counts: Iterable[int], nodes: Nodes) -> pd.DataFrame:
    rows = []
    for count in node_counts:
        gpus = count * nodes.gpus
        preprocessing = size.core_s_an_hour * sum(size.hours.values()) / 3600 / (count * nodes.cores)
        models = makespan(hours, gpus)
        rows.append(
            {
                "nodes": count,
                "models at a time": min(gpus, len(hours)),
                "hours of preprocessing": preprocessing,
                "hours of models": models,
                "GPU-hours": sum(hours),
                "node-hours held": count * (preprocessing + models),
            }
        )
    return pd.DataFrame(rows).set_index("nodes")


def makespan(durations: Iterable[float], workers: int) -> float:
    """When the last is done, the longest first to whoever has the least to do."""
    lanes = [0.0] * workers
    for duration in sorted(durations, reverse=True):
        heapq.heapreplace(lanes, lanes[0] + duration)
    return max(lanes)

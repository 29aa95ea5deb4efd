"""Evaluation of a checkpoint file, ours or a released one, on a preprocessed set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ssmbook.dataset import EvaluationStreams, Sensor, find_sequences, get_sensor
from ssmbook.detector import find_preset, load_checkpoint
from ssmbook.detector.checkpoint import read_checkpoint
from ssmbook.detector.temporal import STATE_SPACE
from ssmbook.errors import InputError
from ssmbook.experiment.evaluate import Evaluation, evaluate
from ssmbook.experiment.objective import PRECISIONS, exact_float32
from ssmbook.experiment.presets import PROFILES
from ssmbook.experiment.protocol import METRICS

#: The published mAP of state-space models was measured with chunks that each start from zero.
CARRIES = dict.fromkeys(STATE_SPACE, ("published", "exact"))


def evaluate_checkpoint(
    path: str | Path,
    data_dir: str | Path,
    *,
    preset: str = "",
    carry: str = "",
    split: str = "test",
    score: str = "class",
    sensor: str | Sensor = "",
    sequence_length: int = 0,
    batch_size: int = 8,
    device: str = "",
    precision: str = "fp32",
    progress: bool = True,
) -> dict[str, Evaluation]:
    """Evaluate a checkpoint on one split.

    Args:
        path: ours, S5-ViT's or RVT's.
        data_dir: the preprocessed set, with a folder for each split.
        preset: the network of a released checkpoint; found from its weights if not given.
        carry: ``"exact"`` or ``"published"``; if not given, both for a state-space model, and for others
            ``"exact"``, which is how RVT's figures were measured.
        split: ``"test"``, ``"val"`` or ``"train"``.
        score: what ranks detections, see ``to_boxes``; the published figures rank by class score.
        sensor: whose protocol; if not given, the one that ours was trained for, or that of the preset.
        sequence_length: windows of a chunk, which matters where chunks start from zero; if not given, as in
            training: 21 on Gen1 and 10 on 1 Mpx for the released ones.
        batch_size: sequences that run side by side.
        device: of PyTorch; a GPU where there is one.
        precision: ``"fp32"``, without TF32, as published; faster and rounded: ``"bf16"`` or ``"fp16"``.
        progress: show a bar.

    Returns:
        What was found, by carry.
    """
    beside = read_checkpoint(path)
    ours = "config" in beside
    preset = preset or ("" if ours else find_preset(path))
    recurrence = load_checkpoint(path, preset or None).config["recurrence"]
    camera, length = _sensor_and_length(path, beside, preset, sensor)
    sequences = find_sequences(Path(data_dir) / split)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    exact_float32()
    results = {}
    for way in (carry,) if carry else CARRIES.get(recurrence, ("exact",)):
        model = load_checkpoint(path, preset or None, carry=way)
        if model.num_classes != len(camera.classes):
            raise InputError(
                f"{path} has {model.num_classes} classes, but sensor {camera.name!r} {len(camera.classes)}: "
                "choose the sensor that it was trained for"
            )
        streams = EvaluationStreams(sequences, sequence_length or length, batch_size)
        label = f"{way} carry, {precision}" if progress else None
        results[way] = evaluate(
            model, streams, camera, score=score, device=where, precision=precision, progress=label
        )
        streams.close()
    return results


def checkpoint_sensor(path: str | Path, preset: str = "", sensor: str | Sensor = "") -> Sensor:
    """The sensor whose frames a checkpoint takes: the one given, or the one that it was trained for, or its preset's.

    Raises:
        InputError: neither is known.
    """
    beside = read_checkpoint(path)
    preset = preset or ("" if "config" in beside or sensor else find_preset(path))
    return _sensor_and_length(path, beside, preset, sensor)[0]


def _sensor_and_length(
    path: str | Path, beside: dict[str, Any], preset: str, sensor: str | Sensor
) -> tuple[Sensor, int]:
    """Whose protocol, and how many windows make a chunk."""
    length = beside.get("sequence_length") if preset not in PROFILES else None
    if length is None:
        lengths = {
            p.sensor: p.training.sequence_length for p in PROFILES.values() if isinstance(p.sensor, str)
        }
        length = lengths.get(preset.partition("-")[0], 21)
    if sensor:
        return get_sensor(sensor), length
    if isinstance(beside.get("sensor"), dict):
        return Sensor(**beside["sensor"]), length
    if preset:
        return get_sensor(preset.partition("-")[0]), length
    raise InputError(f"{path} does not say for which sensor it was trained; name it")


def precision_table(path: str | Path, data_dir: str | Path, **options: Any) -> pd.DataFrame:
    """What a faster precision costs one checkpoint: AP × 100 in fp32, bf16 and fp16, with the exact carry.

    Args:
        path, data_dir, options: see ``evaluate_checkpoint``.

    Returns:
        COCO's metrics by precision, and AP minus that in fp32.
    """
    results = {
        name: evaluate_checkpoint(path, data_dir, carry="exact", precision=name, **options)["exact"]
        for name in PRECISIONS
    }
    table = score_table(results)[list(METRICS)]
    ap = table["AP"].to_numpy()
    table.insert(1, "AP − fp32", ap - ap[0])  # PRECISIONS begins with fp32
    return table.rename_axis("precision")


def score_table(results: dict[str, Evaluation]) -> pd.DataFrame:
    """AP × 100 of evaluations by name: COCO's metrics, and AP of each class."""
    rows = {name: {**r.metrics, **r.scores.per_class} for name, r in results.items()}
    table = pd.DataFrame(rows).T
    table.columns = pd.Index([*METRICS, *(f"AP {name}" for name in table.columns[len(METRICS) :])])
    return 100 * table.where(table >= 0)

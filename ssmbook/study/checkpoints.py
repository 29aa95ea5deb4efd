"""Evaluation of a checkpoint file, ours or a released one, on a preprocessed set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ssmbook.dataset import EvaluationStreams, Sensor, Sequence, describe, find_sequences, get_sensor
from ssmbook.detector import Detector, TrainedOn, find_preset, load_checkpoint
from ssmbook.detector.checkpoint import is_ours, is_released, read_checkpoint
from ssmbook.detector.precision import PRECISIONS, exact_float32, usable_device
from ssmbook.detector.presets import preset_sensor
from ssmbook.detector.recurrences import REGISTRY, StateSpaceBlock
from ssmbook.errors import InputError
from ssmbook.evaluation.protocol import METRICS, check_counted
from ssmbook.evaluation.streaming import Evaluation, evaluate
from ssmbook.events import get_representation
from ssmbook.study.profiles import published_training
from ssmbook.training.settings import Training

#: The published mAP of state-space models was measured with chunks that each start from zero.
CARRIES = {
    name: ("published", "exact") for name, kind in REGISTRY.items() if issubclass(kind, StateSpaceBlock)
}


def evaluate_checkpoint(
    path: str | Path,
    data_dir: str | Path,
    *,
    preset: str = "",
    carry: str = "",
    split: str = "test",
    score: str = "",
    sensor: str | Sensor = "",
    sequence_length: int = 0,
    batch_size: int = 8,
    follow: bool | float = False,
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
        score: what ranks detections, see ``to_boxes``; if not given, ``"product"`` for ours, in whatever form, and
            ``"class"`` for a released checkpoint, by which its published figures rank. The result says which it was.
        sensor: whose protocol; if not given, the one that ours was trained for, or that of the preset.
        sequence_length: windows of a chunk, which matters where chunks start from zero; if not given, as in
            training: 21 on Gen1 and 10 on 1 Mpx for the released ones.
        batch_size: sequences that run side by side.
        follow: the time scale follows the time between the set's windows, also over gaps,
            relative to that in training: true: as the checkpoint states it; a number: in ms. Else every
            step is as long as in training, which is how published figures were measured. One very long step is
            not many short ones: by the bilinear rule fast modes hardly fade over a gap of seconds.
        device: of PyTorch; a GPU where there is one.
        precision: ``"fp32"``, without TF32, as published; faster and rounded: ``"bf16"`` or ``"fp16"``.
        progress: show a bar.

    Returns:
        What was found, by carry.

    Raises:
        InputError: a device that is not there, or a sensor, a number of classes or a time scale that does not fit
            the checkpoint.
    """
    where = usable_device(device)
    beside = read_checkpoint(path)
    record = TrainedOn.read(beside, path)
    score = score or ("class" if is_released(beside, path) else record.score)
    preset = preset or ("" if is_ours(beside) else find_preset(path))
    recurrence = load_checkpoint(path, preset or None).config["recurrence"]
    camera, length = _sensor_and_length(path, record, preset, sensor)
    sequences = find_sequences(Path(data_dir) / split)
    trained_us = _trained_us(path, record, follow)
    exact_float32()
    results = {}
    for each in (carry,) if carry else CARRIES.get(recurrence, ("exact",)):
        model = load_checkpoint(path, preset or None, carry=each)
        if model.num_classes != len(camera.classes):
            raise InputError(
                f"{path} has {model.num_classes} classes, but sensor {camera.name!r} {len(camera.classes)}: "
                "choose the sensor that it was trained for"
            )
        _check_frames(sequences, model, record, path)
        check_counted(sequences, Path(data_dir) / split, camera)
        streams = EvaluationStreams(sequences, sequence_length or length, batch_size)
        label = f"{each} carry, {precision}" if progress else None
        results[each] = evaluate(
            model,
            streams,
            camera,
            trained_us=trained_us,
            score=score,
            device=where,
            precision=precision,
            progress=label,
        )
        streams.close()
    return results


def _check_frames(sequences: list[Sequence], model: Detector, record: TrainedOn, path: str | Path) -> None:
    kind = get_representation(record.representation)
    if sequences[0].dtype != kind.dtype:
        raise InputError(
            f"{sequences[0].path}: frames are {sequences[0].dtype}, but {path} was trained on {kind.name}, which are "
            f"{kind.dtype}; give a set of that representation"
        )
    found, most = sequences[0].shape, (model.in_channels, *model.input_hw)
    if found[0] != most[0] or any(size > limit for size, limit in zip(found, most, strict=True)):
        raise InputError(
            f"{sequences[0].path}: frames are {found}, but {path} takes {most} at most; give the set and the "
            "representation that it was trained for"
        )


def _trained_us(path: str | Path, record: TrainedOn, follow: bool | float) -> float | None:
    """The time between windows in training to which steps are relative; None where they all count as one."""
    if follow is False:
        return None
    if follow is not True:
        if not 0 < follow < float("inf"):
            raise InputError(f"follow is {follow}; give the ms between windows in training")
        return 1000 * follow
    if record.stride_us is None:
        raise InputError(
            f"{path} does not say how far apart the windows were that it was trained with; give it in ms, as follow=50"
        )
    return record.stride_us


def describe_steps(path: str | Path, split: Path, follow: bool | float = False) -> str:
    """A line on what a checkpoint is about to be evaluated with: the grid of the split, and how long a step counts.

    Args:
        path, follow: see ``evaluate_checkpoint``.
        split: the folder of the sequences.
    """
    record = TrainedOn.read(read_checkpoint(path), path)
    trained_us, stride = _trained_us(path, record, follow), record.stride_us
    if trained_us is not None:
        steps = f"steps follow it, relative to {trained_us / 1000:g} ms in training"
    else:
        known = f" (a window every {stride / 1000:g} ms)" if stride is not None else ""
        steps = f"each step counts as one of training{known}"
    return f"{split}: {describe(find_sequences(split))}; {steps}"


def checkpoint_sensor(path: str | Path, preset: str = "", sensor: str | Sensor = "") -> Sensor:
    """The sensor whose frames a checkpoint takes: the one given, or the one that it was trained for, or its preset's.

    Raises:
        InputError: neither is known.
    """
    beside = read_checkpoint(path)
    preset = preset or ("" if is_ours(beside) or sensor else find_preset(path))
    return _sensor_and_length(path, TrainedOn.read(beside, path), preset, sensor)[0]


def _sensor_and_length(
    path: str | Path, record: TrainedOn, preset: str, sensor: str | Sensor
) -> tuple[Sensor, int]:
    """Whose protocol, and how many windows make a chunk."""
    released = preset_sensor(preset)
    published = published_training(released) or Training()
    length = record.sequence_length if not released and record.sequence_length else published.sequence_length
    if sensor:
        return get_sensor(sensor), length
    if record.sensor is not None:
        return record.sensor, length
    if preset:
        return get_sensor(released or preset), length
    raise InputError(f"{path} does not say for which sensor it was trained; name it")


def ap_by_precision(path: str | Path, data_dir: str | Path, **options: Any) -> pd.DataFrame:
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
    table = pd.DataFrame({name: {m: 100 * r.metrics[m] for m in METRICS} for name, r in results.items()}).T
    ap = table["AP"].to_numpy()
    table.insert(1, "AP − fp32", ap - ap[0])  # PRECISIONS begins with fp32
    return table.rename_axis("precision")


def score_table(results: dict[str, Evaluation]) -> pd.DataFrame:
    """AP × 100 of evaluations by name: the score that ranked, COCO's metrics, and AP of each class.

    One that is ranked by the class score, as published figures are, has a second row beside it in which the same
    detections are ranked by the product, as the book's own are. NaN where there is nothing to find.
    """
    shown = [
        (name, result.ranked_by(score))
        for name, result in results.items()
        for score in dict.fromkeys((result.score, "product"))
    ]
    rows = [
        {"score": r.score}
        | {name: 100 * value for name, value in r.metrics.items()}
        | {f"AP {name}": 100 * value for name, value in r.scores.per_class.items()}
        for _, r in shown
    ]
    return pd.DataFrame(rows, index=pd.Index([name for name, _ in shown]))

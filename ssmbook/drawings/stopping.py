"""One object that stops, as several detectors see it: the film strip, and the picture of the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ssmbook import plots
from ssmbook.dataset import EvaluationStreams, find_sequences
from ssmbook.dataset.grid import BASE_HZ, BASE_MS
from ssmbook.drawings.study import film_strip
from ssmbook.errors import InputError
from ssmbook.evaluation.breakdown import time_at_rest
from ssmbook.evaluation.moments import boxes_at, newest, read_truth
from ssmbook.evaluation.streaming import Steps, evaluate
from ssmbook.ssm.selective import SelectiveS5
from ssmbook.study.answers import MODEL_NAMES
from ssmbook.study.workspace import Workspace

TIMES_MS = (-250.0, 250.0, 750.0, 1250.0, 1750.0, 2250.0)  # from the moment at which the object stops


@dataclass(frozen=True)
class Stop:
    """Where and when one object of the test split comes to rest."""

    sequence: str
    t_us: int
    truth: np.ndarray  # all boxes of the sequence


def longest_stop(workspace: Workspace) -> Stop:
    """The stop of the test split during which an object rests longest, alone in the picture."""
    best, found = 0.0, None
    for name, boxes in read_truth(workspace.raw(), workspace.sensor).items():
        for track in np.unique(boxes["track_id"]):
            own = boxes[boxes["track_id"] == track]
            rest = np.concatenate(time_at_rest(np.split(own, len(own)), [name] * len(own)))
            end = int(rest.argmax()) if len(rest) else 0
            alone = len(np.unique(boxes["track_id"])) == 1
            if len(rest) and alone and rest[end] > best:
                best, found = float(rest[end]), Stop(name, int(own["t"][end] - 1e6 * rest[end]), boxes)
    if found is None:
        raise InputError(f"{workspace.raw()}: no object of the test split stops alone in the picture")
    return found


def detections(workspace: Workspace, variant: str, stop: Stop, rate_hz: float, follow: bool = True) -> Steps:
    """Detections of a trained model in all windows of a stop's sequence, its state carried."""
    sequences = _sequence(workspace, stop, rate_hz)
    follows = follow and workspace.profile.variant(variant).has_time_scale
    result = evaluate(
        workspace.model(variant),
        EvaluationStreams(sequences, workspace.profile.training.sequence_length, 1),
        workspace.sensor,
        step_scale=BASE_HZ / rate_hz if follows else 1.0,
        every_step=True,
    )
    return result.steps[stop.sequence]


def draw_stop(
    workspace: Workspace, rows: Sequence[tuple[str, float, bool]], times_ms: Sequence[float] = TIMES_MS
) -> Figure:
    """A film strip of the longest stop.

    Args:
        rows: variant, rate in Hz, and whether its time scale follows.
        times_ms: of the columns, from the stop on.
    """
    stop = longest_stop(workspace)
    times = stop.t_us + np.round(1000 * np.asarray(times_ms)).astype(np.int64)
    (source,) = _sequence(workspace, stop, 200.0)
    represent = workspace.represent
    pictures = []
    for t in times:
        i = int(source.timestamps_us.searchsorted(t, side="right")) - 1
        off, on = represent.polarities(source.frames(i, i + 1)[0])
        pictures.append(plots.polarity_image(on, off))
    source.close()
    found = {}
    for variant, rate, follow in rows:
        steps = detections(workspace, variant, stop, rate, follow)
        words = (
            ""
            if not workspace.profile.variant(variant).has_time_scale
            else (",\nfollowing" if follow else ",\nnot following")
        )
        name = f"{MODEL_NAMES.get(variant, variant)}\n{rate:g} Hz{words if rate != BASE_HZ else ''}"
        found[name] = newest(steps, steps.times_us.astype(float), times)
    return film_strip(times_ms, pictures, boxes_at(stop.truth, times), found)


@torch.no_grad()
def draw_gate(
    workspace: Workspace, variant: str = "s5-selective", times_ms: Sequence[float] = TIMES_MS
) -> Figure:
    """What the gates of selective S5 do while an object stops: a row for each stage, a column for each moment."""
    stop = longest_stop(workspace)
    (source,) = _sequence(workspace, stop, BASE_HZ)
    model = workspace.model(variant)
    layers = [module for module in model.modules() if isinstance(module, SelectiveS5)]
    gates: list[list[Tensor]] = [[] for _ in layers]
    for layer, kept in zip(layers, gates, strict=True):
        layer.register_forward_pre_hook(lambda own, given, kept=kept: kept.append(own.gate(given[0])))
    streams = EvaluationStreams([source], workspace.profile.training.sequence_length, 1)
    evaluate(model, streams, workspace.sensor)
    begin = streams.keys(0)[0].start  # type: ignore[union-attr]
    steps = [
        int(source.timestamps_us.searchsorted(stop.t_us + 1000 * t, side="right")) - 1 - begin
        for t in times_ms
    ]
    height, width = model.input_hw
    fig, axes = plt.subplots(
        len(layers),
        len(steps),
        figsize=(plots.WIDTH_IN, 0.95 * len(layers)),
        squeeze=False,
        layout="constrained",
    )
    for i, (line, kept) in enumerate(zip(axes, gates, strict=True)):
        values = torch.cat(kept, 1)  # [pixels, steps]
        size = height >> (i + 2), width >> (i + 2)
        for ax, step in zip(line, steps, strict=True):
            image = ax.imshow(values[:, step].unflatten(0, size), cmap="viridis", vmin=0, vmax=2)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"stage {i + 1}", fontsize=8)
    for ax, t in zip(axes[0], times_ms, strict=True):
        ax.set_title(f"{t:+.0f} ms", fontsize=8)
    fig.colorbar(image, ax=axes, label="g(u)", shrink=0.8)
    source.close()
    return fig


def _sequence(workspace: Workspace, stop: Stop, rate_hz: float) -> list:
    folder = workspace.preprocessed(BASE_MS, 1000 / rate_hz, ("test",)) / "test"
    return [sequence for sequence in find_sequences(Path(folder)) if sequence.name == stop.sequence]

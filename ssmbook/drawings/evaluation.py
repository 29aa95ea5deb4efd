"""Made detections and figures of the chapter on evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Rectangle

from ssmbook import plots
from ssmbook.dataset import Sensor
from ssmbook.evaluation.protocol import prophesee_filter, score_boxes
from ssmbook.evaluation.streaming import Evaluation
from ssmbook.events import BOX_DTYPE
from ssmbook.events.simulate import DEMO_SCENE

Corners = Sequence[tuple[float, float, float, float]]


def boxes_of(corners: Corners, scores: Sequence[float] = ()) -> np.ndarray:
    """x, y, w, h of boxes of one class as ``BOX_DTYPE``, at one second."""
    boxes = np.zeros(len(corners), BOX_DTYPE)
    boxes["t"] = 1_000_000
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = np.array(corners, float).T
    boxes["class_confidence"] = scores or 1.0
    return boxes


def demo_sensor() -> Sensor:
    """The sensor of the demo's scenes."""
    return Sensor.simulated(width=DEMO_SCENE.width, height=DEMO_SCENE.height)


def made_detector(
    truth: list[np.ndarray], rest: list[np.ndarray], sensor: Sensor, seed: int
) -> list[np.ndarray]:
    """Detections for teaching: true boxes that are missed, moved and joined by false alarms.

    The chance to find a box grows with its diagonal and falls with its time at rest; scores follow the chance.
    """
    rng = np.random.default_rng(seed)
    height, width = sensor.frame_size
    frames = []
    for boxes, seconds in zip(truth, rest, strict=True):
        diagonal = np.hypot(boxes["w"], boxes["h"]) / np.hypot(height, width)
        chance = np.clip(0.35 + 2.2 * diagonal, 0, 0.97) * np.exp(-1.2 * seconds)
        seen = rng.random(len(boxes)) < chance
        right = boxes[seen].copy()
        for name, size in (("x", "w"), ("y", "h")):
            right[name] += 0.06 * right[size] * rng.normal(size=len(right))
        right["class_confidence"] = np.clip(
            0.35 + 0.6 * chance[seen] + 0.1 * rng.normal(size=len(right)), 0.05, 1
        )
        wrong = boxes[rng.random(len(boxes)) < 0.5].copy()
        wrong["x"] = rng.uniform(0, np.maximum(width - wrong["w"], 1))
        wrong["class_confidence"] = rng.uniform(0.05, 0.75, len(wrong))
        frames.append(np.concatenate([right, wrong]).astype(BOX_DTYPE))
    return frames


def as_evaluation(
    truth: list[np.ndarray], found: list[np.ndarray], sequences: list[str], sensor: Sensor
) -> Evaluation:
    """Boxes of any origin as the result of an evaluation."""
    scores = score_boxes(truth, found, sensor, sensor.downsample)
    return Evaluation(scores, truth, found, sequences, *sensor.frame_size, sensor)


def shown(table: pd.DataFrame, committed: pd.DataFrame, profile: str) -> pd.DataFrame | None:
    """A table of this profile; for ``smoke``, whose networks are untrained, the study's, or a line on how to get one.

    Args:
        table: computed by this profile.
        committed: the study's answer to the same question; empty where it has none.
        profile: its name.
    """
    if profile != "smoke":
        return table.round(1)
    if len(committed):
        return committed.round(1)
    columns = ", ".join(str(column) for column in table.columns)
    print(f"a table of {columns};\nthe smoke profile's networks are untrained: ssmbook reproduce 08 fills it")
    return None


def iou_panels(values: Sequence[float]) -> Figure:
    """A box, one shifted and one enlarged until they have each of some IoU."""
    fig, axes = plt.subplots(1, len(values), figsize=(plots.WIDTH_IN, 1.7))
    w, h = 30.0, 20.0
    for ax, value in zip(axes, values, strict=True):
        shift = w * (1 - value) / (1 + value)
        grown = value**-0.5
        for x, y, width, height, colour in (
            (0.0, 0.0, w, h, plots.BLACK),
            (shift, 0.0, w, h, plots.BLUE),
            (w / 2 * (1 - grown), h / 2 * (1 - grown), w * grown, h * grown, plots.ORANGE),
        ):
            ax.add_patch(Rectangle((x, y), width, height, fill=False, ec=colour, lw=1.6))
        ax.set(xlim=(-18, 50), ylim=(34, -14), aspect="equal", xticks=[], yticks=[])
        ax.set_title(f"IoU {value:g}", fontsize=9)
        for side in ax.spines.values():
            side.set_visible(False)
    return fig


def protocol_scatter(truth: list[np.ndarray], sensor: Sensor) -> Figure:
    """Widths and heights of boxes, those that count in colour."""
    boxes = np.concatenate(truth)
    counts = prophesee_filter(boxes, sensor)
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.8))
    ax.plot(boxes["w"], boxes["h"], ".", color="lightgrey", ms=5, label="does not count")
    for c, name in enumerate(sensor.classes):
        own = counts[counts["class_id"] == c]
        if len(own):
            ax.plot(own["w"], own["h"], ".", color=plots.CLASS_COLOURS[c], ms=5, label=name)
    ax.add_patch(
        Arc(
            (0, 0),
            2 * sensor.eval_min_diagonal,
            2 * sensor.eval_min_diagonal,
            theta2=90,
            color="black",
            ls="--",
        )
    )
    ax.axvline(sensor.eval_min_side, color="black", lw=0.7, ls=":")
    ax.axhline(sensor.eval_min_side, color="black", lw=0.7, ls=":")
    ax.set(xlabel="width (px)", ylabel="height (px)", xlim=(0, None), ylim=(0, None))
    ax.legend(frameon=False)
    return fig


def kinds(by_size: pd.DataFrame, by_rest: pd.DataFrame) -> Figure:
    """AP50 by size and by time at rest as bars; tables of ``ap_by_size`` and ``ap_by_rest``."""
    fig, axes = plt.subplots(1, 2, figsize=(plots.WIDTH_IN, 2.5), sharey=True)
    for ax, table, unit, words in zip(
        axes, (by_size, by_rest), ("px", "s"), ("diagonal", "time at rest"), strict=True
    ):
        known = table[table["AP_50"] >= 0]
        bars = ax.bar(range(len(known)), 100 * known["AP_50"], 0.7, color=plots.BLUE)
        ax.bar_label(bars, [f"{n} box{'es' * (n != 1)}" for n in known["boxes"]], fontsize=7)
        edges = [
            f"{a:.3g}–{b:.3g}" if np.isfinite(b) else f"≥ {a:.3g}"
            for a, b in zip(known["from"], known["to"], strict=True)
        ]
        ax.set_xticks(range(len(known)), edges)
        ax.set(xlabel=f"{words} ({unit})", ylim=(0, 112))
    axes[0].set_ylabel("AP50 × 100")
    return fig

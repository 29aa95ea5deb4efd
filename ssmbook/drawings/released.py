"""Cases and figures of the chapter on the released code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from ssmbook import plots
from ssmbook.dataset import Sensor
from ssmbook.errors import InputError
from ssmbook.ssm import discretize
from ssmbook.study.workspace import book_root


@dataclass(frozen=True)
class SmallCase:
    """A small network in a released format with random weights, and what the released code computed with it.

    path: of its checkpoint.  sizes: arguments of ``load_checkpoint``.  x: frames uint8 [L, B, 20, H, W].
    features: by stage, [L, B, C, h, w].
    """

    path: Path
    sizes: dict[str, Any]
    x: torch.Tensor
    features: dict[int, torch.Tensor]


def small_case(name: str) -> SmallCase:
    """The case of that name in ``tests/data`` of the book's folder."""
    path = book_root() / "tests" / "data" / f"{name}.ckpt"
    if not path.exists():
        raise InputError(f"{path}: no such file; run the chapter inside a checkout of the book")
    with np.load(path.with_suffix(".npz")) as data:
        sizes = {
            "embed_dim": int(data["embed_dim"]),
            "dim_head": int(data["dim_head"]),
            "fpn_depth": float(data["fpn_depth"]),
            "num_classes": int(data["num_classes"]),
            "input_hw": tuple(data["in_res_hw"].tolist()),
            "partition": tuple(data["partition_size"].tolist()),
        }
        features = {i: torch.from_numpy(data[f"feat{i}"]) for i in (1, 2, 3, 4)}
        return SmallCase(path, sizes, torch.from_numpy(data["x"]), features)


def scan_diagram(steps: int = 4) -> Figure:
    """A chain of steps, and the two places where a state was and should be put."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.5))
    box = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": "black", "lw": 0.9}
    arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.0}
    for j in range(steps):
        left = 2.2 * j + 1.5
        ax.text(
            left,
            1,
            f"$a_{j}$",
            ha="center",
            va="center",
            bbox={**box, "ec": plots.GREY if j == 0 else "black"},
        )
        ax.text(left + 1.0, 1, "+", ha="center", va="center", bbox={**box, "boxstyle": "circle,pad=0.2"})
        ax.text(left + 1.0, 0, f"$b_{j}$", ha="center", va="center", bbox=box)
        ax.text(left + 1.0, 2, f"$x_{j}$", ha="center", va="center")
        ax.annotate("", (left + 1.0, 0.75), (left + 1.0, 0.28), arrowprops=arrow)
        ax.annotate("", (left + 1.0, 1.85), (left + 1.0, 1.28), arrowprops=arrow)
        if j:
            ax.annotate("", (left - 0.28, 1), (left - 0.95, 1), arrowprops=arrow)
            ax.annotate("", (left + 0.75, 1), (left + 0.28, 1), arrowprops=arrow)
    red, blue = {**arrow, "color": plots.RED, "lw": 2}, {**arrow, "color": plots.BLUE, "lw": 2}
    ax.text(0.1, 1, r"$x_{\mathrm{prev}}$", ha="center", va="center", bbox=box)
    ax.annotate("", (1.22, 1), (0.5, 1), arrowprops=red)
    ax.plot([1.78, 2.1], [1, 1], color=plots.RED, lw=2)
    ax.text(2.17, 1.0, "×", color=plots.RED, fontsize=14, ha="center", va="center")
    ax.text(1.1, 1.5, "released: leads nowhere", color=plots.RED, fontsize=8, ha="center")
    ax.annotate(
        "", (2.2, 0), (0.1, 0.65), arrowprops={**blue, "connectionstyle": "angle3,angleA=0,angleB=-90"}
    )
    ax.text(0.9, -0.3, r"right: $a_0 x_{\mathrm{prev}}$", color=plots.BLUE, fontsize=8, ha="center")
    ax.set(xlim=(-0.5, 2.2 * steps + 0.9), ylim=(-0.5, 2.3))
    ax.axis("off")
    return fig


def pasts_of_labels(length: int, windows_per_label: int, seconds: float, stride_s: float) -> np.ndarray:
    """Seconds that each labelled window has seen, where chunks of ``length`` windows start from zero."""
    count = int(seconds / stride_s)
    labelled = np.arange(
        length - 1, count, windows_per_label
    )  # a stream starts length − 1 windows before a label
    return stride_s * (labelled % length + 1)


def grid_timeline(grids: dict[str, np.ndarray], labels_us: np.ndarray, window_us: int) -> Figure:
    """Windows as bars over a second, for each grid, and the labels."""
    fig, axes = plt.subplots(len(grids), 1, figsize=(plots.WIDTH_IN, 1.9), sharex=True)
    for ax, (name, ends), colour in zip(axes, grids.items(), (plots.BLUE, plots.RED), strict=True):
        spans = [((end - window_us) / 1000, window_us / 1000 * 0.94) for end in ends]
        ax.broken_barh(spans, (0, 1), color=colour, alpha=0.7)
        ax.plot(labels_us / 1000, np.full(len(labels_us), 1.35), "v", color="black", ms=5)
        ax.set(yticks=[], ylim=(-0.1, 1.7), xlim=(200, 1300))
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.spines["left"].set_visible(False)
    axes[-1].set_xlabel("time (ms)")
    return fig


def growth(real: float, windows: int, chunk: int) -> Figure:
    """|x| of one mode under noise, with the state carried and with chunks that start from zero."""
    pole, gain = (v.item() for v in discretize(torch.tensor([complex(real, 3.0)]), torch.tensor(0.1)))
    noise = np.random.default_rng(0).normal(size=windows)
    sizes: dict[str, list[float]] = {"chunks from zero": [], "stream": []}
    for name, sizes_of in sizes.items():
        x = 0j
        for j, u in enumerate(noise):
            x = (0j if name != "stream" and j % chunk == 0 else x) * pole + gain * u
            sizes_of.append(abs(x))
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.3))
    for (name, values), colour in zip(sizes.items(), (plots.BLUE, plots.RED), strict=True):
        ax.semilogy(np.arange(windows) * 0.05, np.maximum(values, 1e-3), color=colour, lw=1, label=name)
    ax.set(xlabel="time (s)", ylabel="$|x|$")
    ax.legend(frameon=False)
    return fig


def made_detections(
    truth: list[np.ndarray], sensor: Sensor, seed: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Detections for teaching: half of the true boxes, slightly moved, and as many false alarms elsewhere.

    Returns:
        For each frame boxes, objectness and class score: the class scores of both kinds are alike, objectness is not.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for boxes in truth:
        right = boxes[rng.random(len(boxes)) < 0.5].copy()
        wrong = boxes.copy()
        for part, shift in ((right, 0.03), (wrong, 0.0)):
            part["x"] += shift * part["w"] * rng.normal(size=len(part))
            part["y"] += shift * part["h"] * rng.normal(size=len(part))
        wrong["x"] = (wrong["x"] + sensor.width / 2) % (sensor.width - 10)
        both = np.concatenate([right, wrong]).astype(boxes.dtype)
        objectness = np.concatenate([rng.uniform(0.5, 1, len(right)), rng.uniform(0, 0.4, len(wrong))])
        frames.append((both, objectness, rng.uniform(0.6, 1.0, len(both))))
    return frames

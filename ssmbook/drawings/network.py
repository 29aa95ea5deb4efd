"""The drawings and plots of the chapter on the detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ssmbook.drawings.diagrams import DATA, FIXED, LEARNT, STATE, arrow, box, canvas, note, tint
from ssmbook.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, WIDTH_IN, show_boxes, show_image

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)
MARKERS = ("s", "o", "^")  # of presets


def architecture(
    shapes: Mapping[int, tuple[int, ...]], frame: tuple[int, ...], anchors: int, classes: int
) -> Figure:
    """The whole detector: stages with their states, neck, head; shapes [C, h, w] of frame and stages."""
    fig, ax = canvas(16, 9.2)
    box(ax, (1.6, 8.3), (2.6, 0.9), "frame\n" + _shape(frame), DATA)
    levels = {1: 6.9, 2: 5.2, 3: 3.5, 4: 1.8}
    before = 7.85
    for i, y in levels.items():
        box(ax, (3.6, y), (6.2, 1.1), "", FIXED)
        for x, words, colour in (
            (1.35, f"conv\nstride {4 if i == 1 else 2}", LEARNT),
            (2.85, "window\nattention", LEARNT),
            (4.35, "grid\nattention", LEARNT),
            (5.85, "S5", STATE),
        ):
            box(ax, (x, y), (1.25, 0.8), words, colour, fontsize=7)
        note(ax, (0.25, y), f"{i}", fontsize=10)
        arrow(ax, [(1.35, before), (1.35, y + 0.4)])
        if i < 4:
            ax.plot([6.9, 6.9, 1.35], [y, y - 0.75, y - 0.75], color="black", lw=1.1)
        before = y - 0.75
        arrow(ax, [(5.5, y + 0.4), (5.5, y + 0.75), (6.2, y + 0.75), (6.2, y + 0.42)], colour=BLUE)
        note(ax, (7.9, y + 0.25), _shape(shapes[i]), fontsize=7)
        ax.plot([6.7, 6.9], [y, y], color="black", lw=1.1)
    note(ax, (7.25, 7.95), "state of every pixel, to the next frame", BLUE, 7)
    for i in (2, 3, 4):
        y = levels[i]
        arrow(ax, [(6.9, y), (9.3, y)])
        box(ax, (10.2, y), (1.8, 1.0), "pyramid", LEARNT)
        arrow(ax, [(11.1, y), (12.0, y)])
        box(ax, (12.9, y), (1.8, 1.0), f"head\nstride {2 ** (i + 1)}", LEARNT)
        ax.plot([13.8, 14.3], [y, y], color="black", lw=1.1)
    for low, high in ((2, 3), (3, 4)):
        arrow(ax, [(9.85, levels[high] + 0.5), (9.85, levels[low] - 0.5)])
        arrow(ax, [(10.55, levels[low] - 0.5), (10.55, levels[high] + 0.5)])
    ax.plot([14.3, 14.3], [levels[4], levels[2]], color="black", lw=1.1)
    arrow(ax, [(14.3, levels[3]), (14.7, levels[3])])
    box(ax, (15.35, levels[3]), (1.2, 1.6), f"{anchors}\nboxes\n× {5 + classes}", DATA)
    note(ax, (3.6, 0.75), "backbone: four stages", fontsize=9)
    note(ax, (10.2, 0.75), "neck", fontsize=9)
    note(ax, (12.9, 0.75), "head", fontsize=9)
    return fig


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def partitions(hw: tuple[int, int], groups: Mapping[str, np.ndarray]) -> Figure:
    """Which tokens attend to each other: maps [h, w] of group numbers."""
    fig, axes = plt.subplots(1, len(groups), figsize=(WIDTH_IN, 2.7))
    for ax, (name, numbers) in zip(axes, groups.items(), strict=True):
        for row in range(hw[0]):
            for column in range(hw[1]):
                chosen = numbers[row, column] == numbers[1, 1]
                ax.add_patch(
                    Rectangle(
                        (column, row), 0.9, 0.9, fc=ORANGE if chosen else tint(GREY), ec="white", lw=0.5
                    )
                )
        ax.set(xlim=(-0.1, hw[1]), ylim=(hw[0], -0.1), aspect="equal", xticks=[], yticks=[], title=name)
        for side in ax.spines.values():
            side.set_visible(False)
    return fig


def reach(maps: Mapping[str, np.ndarray]) -> Figure:
    """Where in the input an output looks: size of the gradient, logarithmic."""
    fig, axes = plt.subplots(1, len(maps), figsize=(WIDTH_IN, 1.2 * WIDTH_IN / len(maps)))
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        image = np.log10(values / values.max() + 1e-8)
        show_image(ax, image, name)
        ax.images[0].set(cmap="Blues", clim=(-8, 0))
    return fig


def pyramid() -> Figure:
    """The path aggregation pyramid: top down, then bottom up."""
    fig, ax = canvas(14, 6)
    ys = {2: 4.8, 3: 3.0, 4: 1.2}
    for i, y in ys.items():
        arrow(ax, [(0.1, y), (1.0, y)])
        box(ax, (1.7, y), (1.4, 0.9), f"$x_{i}$\nstride {2 ** (i + 1)}", DATA)
        box(ax, (12.4, y), (1.4, 0.9), f"$o_{i}$", DATA)
        arrow(ax, [(13.1, y), (13.9, y)])
    box(ax, (4.6, 1.2), (1.5, 0.8), "1 × 1, $f_0$", LEARNT)
    arrow(ax, [(2.4, 1.2), (3.85, 1.2)])
    box(ax, (4.6, 3.0), (1.5, 0.8), "CSP, $p_1$", LEARNT)
    arrow(ax, [(2.4, 3.0), (3.85, 3.0)])
    arrow(ax, [(4.6, 1.6), (4.6, 2.6)], colour=ORANGE)
    note(ax, (5.05, 2.1), "× 2")
    box(ax, (6.9, 3.0), (1.5, 0.8), "1 × 1, $f_1$", LEARNT)
    arrow(ax, [(5.35, 3.0), (6.15, 3.0)])
    box(ax, (8.2, 4.8), (1.5, 0.8), "CSP", LEARNT)
    arrow(ax, [(2.4, 4.8), (7.45, 4.8)])
    arrow(ax, [(6.9, 3.4), (6.9, 4.5), (7.45, 4.5)], colour=ORANGE)
    note(ax, (6.45, 4.0), "× 2")
    arrow(ax, [(8.95, 4.8), (11.7, 4.8)])
    box(ax, (10.2, 3.0), (1.5, 0.8), "CSP", LEARNT)
    arrow(ax, [(7.65, 3.0), (9.45, 3.0)])
    arrow(ax, [(9.6, 4.8), (9.6, 3.4)], colour=BLUE)
    note(ax, (10.0, 3.9), "/ 2", BLUE)
    arrow(ax, [(10.95, 3.0), (11.7, 3.0)])
    box(ax, (10.2, 1.2), (1.5, 0.8), "CSP", LEARNT)
    arrow(ax, [(5.35, 1.2), (9.45, 1.2)])
    arrow(ax, [(11.3, 3.0), (11.3, 2.1), (10.2, 2.1), (10.2, 1.6)], colour=BLUE)
    note(ax, (10.8, 2.3), "/ 2", BLUE)
    arrow(ax, [(10.95, 1.2), (11.7, 1.2)])
    note(ax, (5.6, 0.3), "orange, top down: context to fine maps")
    note(ax, (10.4, 0.3), "blue, bottom up: position to coarse maps", BLUE)
    return fig


def anchors(hw: tuple[int, int], strides: Sequence[int], boxes: np.ndarray) -> Figure:
    """Anchor centres of each stride, and boxes (``BOX_DTYPE``)."""
    fig, axes = plt.subplots(1, len(strides), figsize=(WIDTH_IN, 2.6), sharey=True)
    for ax, stride, colour in zip(axes, strides, COLOURS, strict=False):
        rows, columns = np.mgrid[0 : hw[0] // stride, 0 : hw[1] // stride]
        ax.plot((columns + 0.5) * stride, (rows + 0.5) * stride, ".", color=colour, ms=3, ls="")
        show_boxes(ax, boxes)
        ax.set(
            xlim=(0, hw[1]), ylim=(hw[0], 0), aspect="equal", title=f"stride {stride}: {rows.size} anchors"
        )
    return fig


def assignment(
    hw: tuple[int, int], centres: np.ndarray, near: np.ndarray, chosen: np.ndarray, truth: np.ndarray
) -> Figure:
    """Candidates of two boxes and the anchors they took: centres [A, 2], near and chosen [G, A], truth [G, 4]."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 3.2), sharey=True)
    for ax, mask, title in zip(axes, (near, chosen), ("candidates", "chosen"), strict=True):
        ax.plot(*centres.T, ".", color=tint(GREY, 0.5), ms=2)
        for g, colour in zip(range(len(truth)), (ORANGE, GREEN), strict=False):
            cx, cy, w, h = truth[g]
            ax.add_patch(Rectangle((cx - w / 2, cy - h / 2), w, h, fill=False, ec=colour, lw=1.5))
            ax.plot(*centres[mask[g]].T, "o" if g == 0 else "x", color=colour, ms=6 - 2 * g)
        ax.set(xlim=(0, hw[1]), ylim=(hw[0], 0), aspect="equal", title=title)
    return fig


def losses(
    overlap: np.ndarray,
    box_loss: np.ndarray,
    gradient: np.ndarray,
    p: np.ndarray,
    bce: Mapping[str, np.ndarray],
) -> Figure:
    """The box loss and its slope over the overlap, and the cross entropy over the score for some targets."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.6))
    left.plot(overlap, box_loss, color=BLUE, label="1 − IoU²")
    left.plot(overlap, 1 - overlap, color=GREY, ls="--", label="1 − IoU")
    left.plot(overlap, gradient, color=ORANGE, label="slope of 1 − IoU², 2 IoU")
    left.set(xlabel="IoU")
    left.legend(frameon=False, fontsize=8)
    for (name, values), colour in zip(bce.items(), COLOURS, strict=False):
        right.plot(p, values, color=colour, label=name)
        right.plot(p[values.argmin()], values.min(), "o", color=colour, ms=4)
    right.set(xlabel="score", ylabel="cross entropy", ylim=(0, 4))
    right.legend(frameon=False, fontsize=8)
    return fig


def suppression(hw: tuple[int, int], before: np.ndarray, after: np.ndarray) -> Figure:
    """Detections [K, 7] before and after non-maximum suppression."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.7), sharey=True)
    for ax, rows, title in zip(axes, (before, after), ("before", "after"), strict=True):
        for label, colour, side in ((0, ORANGE, "right"), (1, GREEN, "left")):
            own = rows[rows[:, 6] == label]
            x = min(own[:, 0], default=0.0) - 3 if side == "right" else max(own[:, 2], default=0.0) + 3
            for (x1, y1, x2, y2, objectness, score, _), y in zip(own, spread(own[:, 1], 5.0), strict=True):
                ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=1.3))
                ax.annotate(
                    f"{objectness * score:.2f}",
                    (x1 if side == "right" else x2, y1),
                    (x, y),
                    ha=side,
                    va="center",
                    fontsize=7,
                    arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 0},
                )
        ax.set(xlim=(-8, hw[1]), ylim=(hw[0], 0), aspect="equal", title=f"{title}: {len(rows)} boxes")
    return fig


def spread(values: np.ndarray, gap: float) -> np.ndarray:
    """Places for labels: the values in their order, moved up until each is ``gap`` beyond the one before."""
    out = np.array(values, float)
    for before, after in pairwise(np.argsort(out, kind="stable")):
        out[after] = max(out[after], out[before] + gap)
    return out


def sizes(table: pd.DataFrame) -> Figure:
    """Parameters and GFLOP of networks: a row for each recurrence, a marker for each preset."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.6), sharey=True)
    quantities = {"parameters (millions)": table["parameters"] / 1e6, "GFLOP per frame": table["GFLOP"]}
    for ax, (words, values) in zip(axes, quantities.items(), strict=True):
        for (preset, part), look in zip(table.groupby("preset", sort=False), MARKERS, strict=False):
            ax.plot(values[part.index], part["recurrence"], look, ms=6, label=preset)
        ax.set(xlabel=words, xlim=(0, None))
        ax.grid(axis="y", lw=0.4)
    axes[0].invert_yaxis()
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    return fig


def head_flow(classes: int) -> Figure:
    """The decoupled head of one level."""
    fig, ax = canvas(14, 3.8)
    arrow(ax, [(0.1, 1.9), (1.1, 1.9)], "$o_i$", above=0.25)
    box(ax, (1.9, 1.9), (1.6, 0.9), "1 × 1", LEARNT)
    for y, words in ((2.9, "class branch\ntwo 3 × 3"), (0.9, "box branch\ntwo 3 × 3")):
        arrow(ax, [(2.7, 1.9), (3.4, 1.9), (3.4, y), (4.1, y)])
        box(ax, (5.3, y), (2.4, 0.9), words, LEARNT)
    outputs: tuple[tuple[float, float, str, str], ...] = (
        (2.9, 2.9, f"{classes} class scores", "σ"),
        (0.9, 1.5, "objectness", "σ"),
        (0.9, 0.45, "centre and size", "decode"),
    )
    for start, y, words, function in outputs:
        arrow(ax, [(6.5, start), (7.2, start), (7.2, y), (7.9, y)])
        box(ax, (8.5, y), (1.2, 0.7), "1 × 1", LEARNT, fontsize=7)
        arrow(ax, [(9.1, y), (9.7, y)])
        box(ax, (10.3, y), (1.2, 0.7), function, FIXED, fontsize=7)
        arrow(ax, [(10.9, y), (11.5, y)])
        note(ax, (12.6, y), words)
    return fig

"""Diagrams of the chapter on training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ssmbook import plots

VALUE = {"arrowstyle": "-|>", "color": plots.BLUE, "lw": 1.3}
GRADIENT = {"arrowstyle": "-|>", "color": plots.RED, "lw": 1.3}


def _window(ax: Axes, x: float, y: float, colour: str, words: str = "", alpha: float = 0.35) -> None:
    ax.add_patch(Rectangle((x - 0.32, y - 0.32), 0.64, 0.64, fc=colour, ec="black", lw=0.7, alpha=alpha))
    ax.text(x, y, words, ha="center", va="center", fontsize=7)


def truncation_diagram(chunks: int = 3, length: int = 5) -> Figure:
    """Chunks of a stream: the state's value crosses their seams, the gradient does not."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.1))
    last = chunks * length + (chunks - 1) * 0.8
    for c in range(chunks):
        left = c * (length + 0.8)
        for j in range(length):
            x = left + j
            labelled = j in (2, 4)
            _window(ax, x, 0, plots.ORANGE if labelled else plots.GREY, f"{c * length + j}")
            if labelled:
                ax.text(x, 0.75, "loss", ha="center", fontsize=7)
                ax.annotate("", (x, 0.36), (x, 0.68), arrowprops={**GRADIENT, "lw": 0.9})
            if x + 1 < last and not (c == chunks - 1 and j == length - 1):
                step = 1.8 if j == length - 1 else 1.0
                ax.annotate("", (x + step - 0.34, -0.12), (x + 0.34, -0.12), arrowprops=VALUE)
            if j:
                ax.annotate("", (x - 0.66, 0.14), (x - 0.34, 0.14), arrowprops=GRADIENT)
        if c:
            ax.plot([left - 0.45, left - 0.45], [0.0, 0.32], color=plots.RED, lw=3)
            ax.text(left - 0.45, 0.45, "cut", ha="center", fontsize=7, color=plots.RED)
        ax.text(left + (length - 1) / 2, -0.75, f"chunk {c + 1}", ha="center", fontsize=8)
    ax.set(xlim=(-0.7, last + 0.2), ylim=(-1, 1.1), aspect="equal")
    ax.axis("off")
    return fig


def sampling_diagram(length: int = 5) -> Figure:
    """Random chunk, stream and burn-in: where the state at the start of a chunk comes from."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.6))
    rows = {"random chunk": 2.4, "stream": 1.2, "burn-in": 0.0}
    for name, y in rows.items():
        ax.text(-0.8, y, name, ha="right", va="center", fontsize=8)
        for j in range(15):
            own = 7 <= j < 7 + length
            if name == "stream":
                colour, alpha = (plots.BLUE, plots.SKY)[j // length % 2], 0.5
            else:
                colour, alpha = (plots.BLUE, 0.5) if own else (plots.GREY, 0.06)
            if name == "burn-in" and 3 <= j < 7:
                colour, alpha = plots.GREY, 0.5
            _window(ax, j, y, colour, alpha=alpha)
    ax.text(6.1, 2.4, "0", ha="center", va="center", fontsize=10, color=plots.BLUE)
    ax.annotate("", (6.66, 2.4), (6.25, 2.4), arrowprops=VALUE)
    for seam in (4, 9):
        ax.annotate("", (seam + 0.75, 0.72), (seam + 0.25, 0.72), arrowprops=VALUE)
        ax.text(seam + 0.5, 0.42, "state", ha="center", fontsize=7, color=plots.BLUE)
    ax.text(2.1, 0.0, "0", ha="center", va="center", fontsize=10, color=plots.BLUE)
    ax.annotate("", (6.66, -0.48), (2.5, -0.48), arrowprops=VALUE)
    ax.text(4.6, -0.75, "run without a gradient", ha="center", fontsize=7, color=plots.BLUE)
    ax.set(xlim=(-3.4, 14.6), ylim=(-1, 2.9), aspect="equal")
    ax.axis("off")
    return fig


def share_curves(
    share: Callable[[float, int, bool], float], constants: Sequence[float], marks: Sequence[int]
) -> Figure:
    """Mean share of a mode's gradient over the length of chunks; ``share(T, n, carried)``."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.6))
    lengths = np.unique(np.geomspace(1, 300, 60).astype(int))
    colours = (plots.BLUE, plots.GREEN, plots.ORANGE, plots.RED)
    for T, colour in zip(constants, colours, strict=True):
        for carried, look in ((True, "-"), (False, "--")):
            shares = np.array([share(T, n, carried) for n in range(1, lengths[-1] + 1)])
            label = f"T = {T:g} windows" if carried else None
            ax.semilogx(lengths, np.cumsum(shares)[lengths - 1] / lengths, look, color=colour, label=label)
    for mark in marks:
        ax.axvline(mark, color="black", ls=":", lw=0.8)
    ax.set(xlabel="windows of a chunk, L", ylabel="share of the gradient kept", ylim=(0, 1))
    ax.legend(frameon=False, fontsize=8)
    return fig

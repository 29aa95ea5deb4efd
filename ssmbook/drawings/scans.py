"""The drawings and plots of the chapter on scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssmbook.drawings.diagrams import DATA, FIXED, LEARNT, STATE, arrow, box, canvas, note, operator
from ssmbook.plots import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, WIDTH_IN

Node = tuple[int, int]  # the last step that a partial result covers, and its depth
IMPLEMENTATIONS = {
    "limit": ("limit", GREY),
    "ours": ("ssmbook", BLUE),
    "s5-pytorch": ("s5-pytorch", ORANGE),
    "JAX, jit": ("JAX, jit", GREEN),
}


def scan_trees(runs: Mapping[str, Sequence[tuple[Node, Node, Node]]], length: int) -> Figure:
    """The operations of some scans, time to the right and depth downwards.

    Args:
        runs: by name, operations (first, second, result); a node is (last step covered, depth), inputs have depth 0.
        length: number of steps.
    """
    deepest = max(result[1] for run in runs.values() for *_, result in run)
    fig, axes = plt.subplots(1, len(runs), figsize=(WIDTH_IN, 0.36 * deepest + 0.9), sharey=True)
    for ax, (name, run) in zip(np.atleast_1d(axes), runs.items(), strict=True):
        for first, second, result in run:
            ax.plot([first[0], result[0]], [-first[1], -result[1]], color=ORANGE, lw=1)
            ax.plot([second[0], result[0]], [-second[1], -result[1]], color=GREY, lw=1)
        for k in range(length):
            ax.plot(k, 0, "s", color=SKY, ms=7)
        for *_, (k, depth) in run:
            ax.plot(k, -depth, "o", color=BLUE, ms=6)
        span = max(result[1] for *_, result in run)
        ax.set_title(f"{name}: work {len(run)}, span {span}", fontsize=9)
        ax.set(xticks=range(length), xlabel="step", ylim=(-deepest - 0.6, 0.6))
        ax.set_yticks(range(-deepest, 1), [str(-d) for d in range(-deepest, 1)])
    np.atleast_1d(axes)[0].set_ylabel("depth")
    return fig


def work_and_span(lengths: Sequence[int], counts: Mapping[str, Sequence[tuple[int, int]]]) -> Figure:
    """Work and span of some scans over the length, from counted operations."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.6), sharex=True)
    for (name, pairs), colour in zip(counts.items(), (GREY, BLUE, ORANGE), strict=False):
        for ax, values in zip(axes, zip(*pairs, strict=True), strict=True):
            ax.loglog(lengths, values, "o-", color=colour, ms=3, label=name, base=2)
    axes[0].set(xlabel="length", ylabel="operations", title="work")
    axes[1].set(xlabel="length", title="span: operations one after another")
    axes[0].legend(frameon=False)
    return fig


def wrap_around(y: np.ndarray, circular: np.ndarray, kernel: np.ndarray) -> Figure:
    """A convolution by transforms without and with zeros behind the input, beside the kernel."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.5))
    left.plot(kernel, color=PURPLE)
    left.set(xlabel="steps ago", title="kernel $K_k$")
    right.plot(circular, color=RED, lw=1, label="transforms of length L")
    right.plot(y, color=BLUE, lw=2.5, alpha=0.5, label="transforms of length 2L, and the recurrence")
    right.set(xlabel="step", title="output", ylim=(None, 16))
    right.legend(frameon=False, fontsize=7, loc="upper right")
    return fig


def siso_and_mimo() -> Figure:
    """H separate small systems and a mixing matrix, beside one system that all features share."""
    fig, ax = canvas(15, 5.4)
    note(ax, (3.4, 5.1), "S4, S4D: H systems with N modes each", fontsize=9)
    note(ax, (11.4, 5.1), "S5: one system with P modes", fontsize=9)
    for i, y in enumerate((4.1, 2.9, 0.9)):
        name = ("1", "2", "H")[i]
        arrow(ax, [(0.2, y), (1.3, y)], f"$u^{{({name})}}$", above=0.22)
        box(ax, (2.4, y), (2.2, 0.8), f"N modes, $A^{{({name})}}$", STATE)
        arrow(ax, [(3.5, y), (4.7, y)])
        arrow(ax, [(5.7, y), (6.7, y)], f"$y^{{({name})}}$", above=0.22)
    note(ax, (2.4, 1.9), "⋮", fontsize=12)
    box(ax, (5.2, 2.5), (1.0, 4.2), "mix\nH × H", LEARNT)
    for i, y in enumerate((4.1, 2.9, 0.9)):
        name = ("1", "2", "H")[i]
        arrow(ax, [(8.0, y), (9.0, y)], f"$u^{{({name})}}$", above=0.22)
        arrow(ax, [(13.9, y), (14.8, y)], f"$y^{{({name})}}$", above=0.22)
    box(ax, (9.5, 2.5), (1.0, 4.2), "B\nP × H", LEARNT)
    box(ax, (11.45, 2.5), (1.9, 4.2), "P modes,\n$\\Lambda$", STATE)
    box(ax, (13.4, 2.5), (1.0, 4.2), "C\nH × P", LEARNT)
    arrow(ax, [(10.0, 2.5), (10.5, 2.5)])
    arrow(ax, [(12.4, 2.5), (12.9, 2.5)])
    return fig


def roofline(points: Mapping[str, float], balance: float) -> Figure:
    """Attainable share of the peak over the operations per byte, on a machine of the given balance."""
    fig, ax = plt.subplots(figsize=(WIDTH_IN, 2.7))
    x = np.logspace(-2, 3, 200)
    ax.loglog(x, np.minimum(1, x / balance), color=BLACK)
    ax.axvline(balance, color=GREY, ls=":")
    for (name, intensity), colour in zip(points.items(), (RED, ORANGE, BLUE, GREEN, PURPLE), strict=False):
        ax.plot(intensity, min(1, intensity / balance), "o", color=colour, label=f"{name}: {intensity:.2g}")
    ax.set(xlabel="operations per byte", ylabel="attainable share of the peak", ylim=(1e-3, 2))
    ax.text(balance * 1.1, 2e-3, "balance of the machine", fontsize=7, color=GREY)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    return fig


def measured(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Times of forward + backward, and peak memory, of some shapes and implementations."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 3.0))
    for i, (key, (name, colour)) in enumerate(IMPLEMENTATIONS.items()):
        places = np.arange(len(rows)) + 0.2 * (i - 1.5)
        of = [row["layers"].get(key, {}) for row in rows]
        axes[0].bar(places, [entry.get("both", np.nan) for entry in of], 0.2, color=colour, label=name)
        if key != "limit":
            axes[1].bar(places, [entry.get("memory", np.nan) for entry in of], 0.2, color=colour)
    shapes = ["×".join(map(str, row["shape"])) for row in rows]
    for ax, words in zip(axes, ("forward + backward (ms)", "peak memory (MB)"), strict=True):
        ax.set(yscale="log", ylabel=words)
        ax.set_xticks(range(len(rows)), shapes, rotation=30, fontsize=7, ha="right")
    axes[0].legend(frameon=False, fontsize=7)
    return fig


def growth(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Time and memory over the length."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.4))
    lengths = [row["length"] for row in rows]
    for ax, key, words in zip(
        axes, ("ms", "memory"), ("forward + backward (ms)", "peak memory (MB)"), strict=True
    ):
        values = [row[key] for row in rows]
        ax.loglog(lengths, values, "o-", color=BLUE, base=2, ms=4)
        ax.loglog(lengths, [values[-1] * n / lengths[-1] for n in lengths], color=GREY, ls=":", base=2)
        ax.set(xlabel="length", ylabel=words)
    return fig


def _cell(ax: Axes, x: float, title: str, gates: str, of_state: bool) -> None:
    note(ax, (x + 1.9, 4.1), title, fontsize=9)
    arrow(ax, [(x, 2.8), (x + 1.0, 2.8)], "$x_{k-1}$", above=0.22)
    operator(ax, (x + 1.25, 2.8), "×")
    operator(ax, (x + 2.55, 2.8), "+")
    arrow(ax, [(x + 1.47, 2.8), (x + 2.33, 2.8)])
    arrow(ax, [(x + 2.77, 2.8), (x + 3.9, 2.8)], "$x_k$", above=0.22)
    box(ax, (x + 1.9, 1.5), (2.6, 0.8), gates, LEARNT if gates != "constant" else FIXED)
    arrow(ax, [(x + 1.25, 1.9), (x + 1.25, 2.58)])
    arrow(ax, [(x + 2.55, 1.9), (x + 2.55, 2.58)])
    box(ax, (x + 1.9, 0.4), (1.0, 0.5), "$u_k$", DATA)
    arrow(ax, [(x + 1.9, 0.65), (x + 1.9, 1.1)])
    if of_state:
        arrow(ax, [(x + 0.25, 2.8), (x + 0.25, 1.5), (x + 0.6, 1.5)], colour=RED)


def gates() -> Figure:
    """What the factor on the state depends on: nothing, the input, or the input and the state."""
    fig, ax = canvas(13.4, 4.5)
    _cell(ax, 0.2, "S5: constant", "$\\bar{\\Lambda}$, $\\bar{B}$ constant", False)
    _cell(ax, 4.8, "Mamba: of the input", "$\\bar{A}(u_k)$, $\\bar{B}(u_k)$", False)
    _cell(ax, 9.4, "LSTM: of input and state", "gates$(u_k, x_{k-1})$", True)
    return fig

"""The drawings and plots of the chapter on state-space layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from ssmbook.drawings.diagrams import DATA, FIXED, LEARNT, STATE, arrow, box, canvas, note, operator, tint
from ssmbook.plots import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, WIDTH_IN

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)


def spring() -> Figure:
    """A wheel's mass between a spring, a damper and a pushing force."""
    fig, ax = canvas(12, 3.4)
    ax.add_patch(Rectangle((0.3, 0.4), 0.35, 2.6, hatch="////", fc="white", ec=GREY))
    x = np.linspace(0.65, 5, 200)
    zigzag = 0.25 * np.clip(3 * np.sin(np.linspace(0, 16 * np.pi, 200)), -1, 1)
    ax.plot(x, 2.4 + zigzag * ((x > 1.2) & (x < 4.5)), color=BLUE, lw=1.2)
    note(ax, (2.8, 2.95), "spring $k$")
    ax.plot([0.65, 2.5], [1, 1], color=ORANGE, lw=1.2)
    ax.plot([3.2, 2.4, 2.4, 3.2], [1.35, 1.35, 0.65, 0.65], color=ORANGE, lw=1.2)
    ax.plot([2.8, 2.8], [0.75, 1.25], color=ORANGE, lw=2)
    ax.plot([2.8, 5], [1, 1], color=ORANGE, lw=1.2)
    note(ax, (2.8, 0.3), "damper $c$")
    box(ax, (6.1, 1.7), (2.2, 2.2), "mass $m$", STATE, fontsize=9)
    arrow(ax, [(9.6, 1.7), (7.2, 1.7)], "force $u(t)$", RED, above=0.25)
    arrow(ax, [(5.0, 3.15), (7.4, 3.15)])
    note(ax, (8.3, 3.15), "position $q(t)$")
    return fig


def step_responses(
    t: np.ndarray, curves: Mapping[str, np.ndarray], eigenvalues: Mapping[str, np.ndarray]
) -> Figure:
    """Answers to a sudden force, and the eigenvalues that cause them, by name."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.7), width_ratios=(1.6, 1))
    for (name, y), colour in zip(curves.items(), COLOURS, strict=False):
        left.plot(t, y, color=colour, label=name)
        right.plot(eigenvalues[name].real, eigenvalues[name].imag, "x", color=colour, ms=7, mew=2)
    left.set(xlabel="time (s)", ylabel="position", title="answer to a constant force from t = 0")
    left.legend(frameon=False, fontsize=8)
    right.axvline(0, color=BLACK, lw=0.8)
    right.axhline(0, color=GREY, lw=0.5)
    right.set(xlabel="Re λ", ylabel="Im λ", title="eigenvalues")
    return fig


def mode_plane(decays: Sequence[float], turns: Sequence[float]) -> Figure:
    """Re e^{λt} for a grid of eigenvalues, each curve where its λ lies."""
    fig, axes = plt.subplots(len(turns), len(decays), figsize=(WIDTH_IN, 3.4), sharex=True, sharey=True)
    t = np.linspace(0, 3, 400)
    for row, turn in zip(axes, sorted(turns, reverse=True), strict=True):
        for ax, decay in zip(row, decays, strict=True):
            growing = decay > 0
            ax.plot(t, np.exp(decay * t) * np.cos(turn * t), color=RED if growing else BLUE, lw=1)
            ax.set_title(f"λ = {decay:g} {'+' if turn >= 0 else '−'} {abs(turn):g}j", fontsize=7)
            ax.set(yticks=[], xticks=[], ylim=(-2.2, 2.2))
            ax.axhline(0, color=GREY, lw=0.4)
    return fig


def memory_of_hippo(
    ago: np.ndarray,
    kernels: np.ndarray,
    signal: tuple[np.ndarray, np.ndarray],
    past: Mapping[int, np.ndarray],
) -> Figure:
    """Kernels of the first states, and a signal's past as states of several sizes hold it."""
    fig, (left, right) = plt.subplots(1, 2)
    left.plot(ago, kernels, label=[f"n = {n}" for n in range(kernels.shape[1])])
    left.set(xlabel="time ago τ", ylabel="weight of u(t − τ) in $x_n$", title="kernels of the state")
    left.legend(frameon=False, fontsize=8)
    right.plot(*signal, color=GREY, lw=4, alpha=0.4, label="the signal")
    for size, read in past.items():
        right.plot(ago, read, lw=1.2, label=f"from {size} states")
    right.set(xlabel="time ago τ", xlim=(0, 5), ylim=(-3.2, 2.2), title="the past, read from the state")
    right.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
    return fig


def spectra(named: Mapping[str, np.ndarray]) -> Figure:
    """Imaginary parts of some spectra, in order of size."""
    fig, ax = plt.subplots(figsize=(WIDTH_IN, 2.5))
    for (name, Lambda), colour in zip(named.items(), COLOURS, strict=False):
        ax.plot(np.sort(Lambda.imag), ".", color=colour, label=name, ms=4)
    ax.set(xlabel="mode, in order", ylabel="Im λ", yscale="symlog")
    ax.legend(frameon=False)
    return fig


def holds() -> Figure:
    """What the two rules assume of the input and of the state's derivative within a step."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.3), sharey=True)
    t = np.linspace(0, 4, 400)
    u = 1.2 + np.sin(1.3 * t) * 0.8
    knots = np.arange(5)
    values = 1.2 + np.sin(1.3 * knots) * 0.8
    middles = 1.2 + np.sin(1.3 * (knots[1:] - 0.5)) * 0.8
    for ax in (left, right):
        ax.plot(t, u, color=GREY)
        ax.set(xticks=knots, xlabel="t / Δ", ylim=(0, 2.4))
    left.stairs(middles, knots, fill=True, color=tint(ORANGE))
    left.stairs(middles, knots, color=ORANGE)
    left.set_title("zero-order hold: u constant in a step")
    right.fill_between(knots, values, color=tint(BLUE))
    right.plot(knots, values, "o-", color=BLUE, ms=3)
    right.set_title("bilinear: mean of both ends of a step")
    return fig


def poles(Lambda: np.ndarray, mapped: Mapping[str, Mapping[float, np.ndarray]]) -> Figure:
    """Continuous eigenvalues, and where each rule puts them for some steps: {rule: {Δ: Λ̄}}."""
    fig, (left, *right) = plt.subplots(1, 1 + len(mapped), figsize=(WIDTH_IN, 2.9))
    left.scatter(Lambda.real, Lambda.imag, s=6, color=GREY)
    left.set(xlabel="Re λ", ylabel="Im λ", title="continuous", xlim=(-1, 0.1))
    left.axvline(0, color=BLACK, lw=0.8)
    for ax, (rule, steps) in zip(right, mapped.items(), strict=True):
        ax.add_patch(Circle((0, 0), 1, fill=False))
        for step, bar in steps.items():
            ax.scatter(bar.real, bar.imag, s=6, label=f"Δ = {step:g}")
        ax.set(
            xlabel="Re $\\bar{\\lambda}$", title=rule, aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1]
        )
    right[0].set_ylabel("Im $\\bar{\\lambda}$")
    right[0].legend(frameon=False, fontsize=7, loc="center")
    return fig


def discretisation_errors(
    steps: Sequence[float], errors: Mapping[tuple[str, str], Sequence[float]], limit: float
) -> Figure:
    """Relative errors of one mode over the step, by (rule, place of the input); a line at Nyquist's limit."""
    fig, ax = plt.subplots(figsize=(WIDTH_IN, 2.9))
    for (rule, place), values in errors.items():
        look, colour = "o-" if place == "middle" else "o--", BLUE if rule == "bilinear" else ORANGE
        ax.loglog(steps, values, look, color=colour, ms=3, label=f"{rule}, input at the {place} of the step")
    ax.axvline(limit, color=GREY, ls=":")
    ax.set(xlabel="step Δ", ylabel="largest error / largest |x|")
    ax.legend(frameon=False, fontsize=8)
    return fig


def data_flow() -> Figure:
    """The layer as a block diagram: input matrix, diagonal loop, output matrix, skip."""
    fig, ax = canvas(14, 4.6)
    arrow(ax, [(0.1, 2.4), (1.5, 2.4)])
    note(ax, (0.45, 2.05), "$u_k$  [H]")
    box(ax, (2.3, 2.4), (1.6, 0.9), "$\\bar{B}$\nP × H", LEARNT)
    arrow(ax, [(3.1, 2.4), (4.48, 2.4)])
    operator(ax, (4.7, 2.4), "+")
    arrow(ax, [(4.92, 2.4), (9.0, 2.4)], "$x_k$  [P], complex", above=0.28)
    box(ax, (7.5, 0.8), (1.4, 0.8), "one step", FIXED)
    box(ax, (5.9, 0.8), (1.2, 0.8), "$\\bar{\\Lambda}$  [P]", STATE)
    arrow(ax, [(8.6, 2.4), (8.6, 0.8), (8.2, 0.8)])
    arrow(ax, [(6.8, 0.8), (6.5, 0.8)])
    arrow(ax, [(5.3, 0.8), (4.7, 0.8), (4.7, 2.18)])
    box(ax, (9.8, 2.4), (1.6, 0.9), "$C$\nH × P", LEARNT)
    arrow(ax, [(10.6, 2.4), (11.1, 2.4)])
    box(ax, (11.5, 2.4), (0.8, 0.9), "Re", FIXED)
    arrow(ax, [(11.9, 2.4), (12.48, 2.4)])
    operator(ax, (12.7, 2.4), "+")
    arrow(ax, [(12.92, 2.4), (13.95, 2.4)], "$y_k$  [H]", above=0.28)
    box(ax, (7.2, 4.0), (1.6, 0.8), "$D$  [H]", LEARNT)
    arrow(ax, [(0.9, 2.4), (0.9, 4.0), (6.4, 4.0)])
    arrow(ax, [(8.0, 4.0), (12.7, 4.0), (12.7, 2.62)])
    return fig


def kernels(powers: Mapping[float, np.ndarray], K: np.ndarray) -> Figure:
    """Kernels of single modes by how far they turn in a step, and of the layer [steps, features]."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.7))
    for turn, power in powers.items():
        left.plot(power.real, lw=1, label=f"Δ |Im λ| = {turn:.2f}")
    left.set(xlabel="step k", ylabel="Re $\\bar{\\lambda}^k$", title="single modes", ylim=(-1.1, 1.9))
    left.legend(frameon=False, fontsize=8, loc="upper right")
    right.plot(1000 * K, lw=1, label=[f"feature 0 → {h}" for h in range(K.shape[1])])
    right.set(xlabel="step k", ylabel="$K_k$ × 1000", title="the layer, as it starts")
    right.legend(frameon=False, fontsize=8)
    return fig


def memory_lengths(steps: np.ndarray, turns: np.ndarray) -> Figure:
    """Steps until a mode has decayed to 1/e, one bar each in order, and how far the modes turn in a step."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.5))
    left.bar(range(len(steps)), np.sort(steps), color=BLUE, width=1)
    left.set(xlabel="mode, in order", ylabel="steps until 1/e", yscale="log")
    right.bar(range(len(turns)), np.sort(turns), color=ORANGE, width=1)
    right.axhline(np.pi, color=BLACK, ls=":", lw=1)
    right.set(xlabel="mode, in order", ylabel="Δ |Im λ|, radians per step", yscale="log")
    return fig


def _chain(ax: Axes, y: float, cuts: Sequence[int], words: str) -> None:
    note(ax, (1.5, y), words, ha="right")
    for k in range(12):
        ax.add_patch(Rectangle((1.9 + 0.9 * k, y - 0.3), 0.75, 0.6, fc=tint(DATA), ec=DATA))
    for k in range(11):
        carried = k + 1 in cuts
        start, end = (1.9 + 0.9 * k + 0.75, y), (1.9 + 0.9 * (k + 1), y)
        arrow(ax, [start, end], colour=RED if carried else BLACK)


def three_ways() -> Figure:
    """A sequence in one pass, in chunks, and step by step; red arrows hand the state over."""
    fig, ax = canvas(13, 3.8, WIDTH_IN)
    for y, cuts, words in (
        (3.2, (), "one pass"),
        (1.9, (5, 9), "chunks"),
        (0.6, range(1, 12), "step by step"),
    ):
        _chain(ax, y, cuts, words)
    for cut in (5, 9):
        ax.plot([1.9 + 0.9 * cut - 0.075] * 2, [1.35, 2.45], color=RED, lw=0.8, ls=":")
    return fig


def block() -> Figure:
    """The residual block around S5."""
    fig, ax = canvas(15, 3.2)
    parts = [
        (1.9, "LayerNorm", FIXED),
        (4.1, "S5", STATE),
        (6.1, "GELU", FIXED),
        (9.3, "LayerNorm", FIXED),
        (11.5, "GEGLU\nC → 2C → C", LEARNT),
    ]
    x_before = 0.2
    for x, words, colour in parts:
        box(ax, (x, 1.2), (1.6, 1.0), words, colour)
        arrow(ax, [(x_before, 1.2), (x - 0.8, 1.2)])
        x_before = x + 0.8
        if words == "GELU":
            operator(ax, (7.5, 1.2), "+")
            arrow(ax, [(6.9, 1.2), (7.28, 1.2)])
            x_before = 7.72
    operator(ax, (13.2, 1.2), "+")
    arrow(ax, [(12.3, 1.2), (12.98, 1.2)])
    arrow(ax, [(13.42, 1.2), (14.8, 1.2)])
    arrow(ax, [(3.0, 1.2), (3.0, 2.6), (7.5, 2.6), (7.5, 1.42)])
    arrow(ax, [(10.4, 1.2), (10.4, 2.6), (13.2, 2.6), (13.2, 1.42)])
    note(ax, (0.5, 1.5), "$x$")
    note(ax, (3.25, 2.85), "$a$")
    note(ax, (8.1, 1.5), "$z$")
    note(ax, (10.65, 2.85), "$b$")
    return fig

"""Figures of the chapter on live detection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ssmbook import plots

COLOURS = (plots.BLUE, plots.GREEN, plots.ORANGE, plots.RED)


def loop_diagram() -> Figure:
    """Events, window, frame, network with its state, suppression, boxes."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.1))
    parts = (
        ("events", "t, x, y, p"),
        ("window", "end has passed"),
        ("frame", "[C, H, W]"),
        ("network", "F"),
        ("NMS", "best of several"),
        ("boxes", "t, x, y, w, h"),
    )
    kept = {"window", "network"}
    for i, (name, words) in enumerate(parts):
        colour = plots.BLUE if name in kept else "black"
        box = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": colour, "lw": 1.6 if name in kept else 0.9}
        ax.text(2 * i, 0, name, ha="center", va="center", bbox=box)
        ax.text(2 * i, -0.55, words, ha="center", va="center", fontsize=7, color="#555555")
        if i:
            ax.annotate(
                "", (2 * i - 0.72, 0), (2 * i - 1.28, 0), arrowprops={"arrowstyle": "-|>", "color": "black"}
            )
    loop = {"arrowstyle": "-|>", "color": plots.BLUE, "lw": 1.6, "connectionstyle": "arc3,rad=-1.4"}
    ax.annotate("", (6.35, 0.3), (5.65, 0.3), arrowprops={**loop, "arrowstyle": "<|-"})
    ax.text(6, 1.0, "state $x_{j-1} \\to x_j$", ha="center", color=plots.BLUE, fontsize=8)
    ax.text(2, 0.6, "events in progress", ha="center", color=plots.BLUE, fontsize=8)
    ax.set(xlim=(-1, 11), ylim=(-0.8, 1.3))
    ax.axis("off")
    return fig


def age_over_rate(compute_ms: Sequence[float]) -> Figure:
    """Mean age of an event at its box over the rate, for some times of computation."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.7))
    for compute, colour in zip(compute_ms, COLOURS, strict=True):
        rate = np.geomspace(5, 1000 / compute, 200)
        ax.loglog(rate, 500 / rate + compute, color=colour, label=f"{compute:g} ms a step")
        ax.loglog(rate[-1], 500 / rate[-1] + compute, "o", color=colour, ms=5)
    ax.set(xlabel="rate (Hz)", ylabel="mean age (ms)")
    ax.legend(frameon=False)
    return fig


def backlog(
    ready: Callable[[np.ndarray, float], np.ndarray], rate_hz: float, compute_ms: Sequence[float]
) -> Figure:
    """Lag of the boxes behind their windows over two seconds; ``ready(ends_s, compute_s)`` in seconds."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.3))
    ends = np.arange(1, round(2 * rate_hz) + 1) / rate_hz
    for compute, colour in zip(compute_ms, COLOURS, strict=True):
        lag = 1000 * (ready(ends, compute / 1000) - ends)
        look = "--" if compute * rate_hz == 1000 else "-"  # it nearly coincides with what is faster
        ax.plot(ends, lag, look, color=colour, label=f"{compute:g} ms a step")
    ax.set(xlabel="time (s)", ylabel="lag (ms)")
    ax.legend(frameon=False)
    return fig


def video_picture(path: Path) -> Figure:
    """The last picture of a GIF, larger than it is, so that its words can be read."""
    fig, ax = plt.subplots(figsize=(0.7 * plots.WIDTH_IN, 0.7 * plots.WIDTH_IN))
    with Image.open(path) as picture:
        picture.seek(getattr(picture, "n_frames", 1) - 1)
        plots.show_image(ax, np.asarray(picture.convert("RGB")))
    return fig


def held(times_s: Sequence[float], events: Sequence[int], windows: Sequence[int]) -> Figure:
    """Events held and windows completed over the time of a recording."""
    fig, (above, below) = plt.subplots(2, 1, figsize=(plots.WIDTH_IN, 2.8), sharex=True)
    above.plot(times_s, events, color=plots.BLUE, lw=1)
    above.set(ylabel="events held", ylim=(0, None))
    below.step(times_s, windows, color=plots.GREEN, where="post")
    below.set(xlabel="time (s)", ylabel="windows done")
    return fig

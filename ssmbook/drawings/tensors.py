"""The drawings and plots of the chapter that makes tensors of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ssmbook.drawings.diagrams import DATA, FIXED, LEARNT, STATE, arrow, box, canvas, note, stack, tint
from ssmbook.events import Representation
from ssmbook.plots import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    MODE_COLOURS,
    ORANGE,
    PURPLE,
    RED,
    WIDTH_IN,
    polarity_image,
    show_boxes,
    show_frame,
    show_image,
)

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, GREY)


def windows(modes: Mapping[str, tuple[float, float]], until_ms: float) -> Figure:
    """Windows as bars over time, a group of rows for each (window, stride) in ms; a window ends at its step."""
    fig, axes = plt.subplots(len(modes), 1, figsize=(WIDTH_IN, 0.75 * len(modes) + 0.4), sharex=True)
    for ax, (name, (window, stride)) in zip(axes, modes.items(), strict=True):
        colour = MODE_COLOURS.get(name, BLACK)
        ends = np.arange(stride, until_ms + 1e-9, stride)
        rows = int(np.ceil(window / stride - 1e-9))
        for i, end in enumerate(ends):
            ax.add_patch(Rectangle((end - window, i % rows), window, 0.8, fc=tint(colour), ec=colour, lw=0.8))
        ax.plot(ends, np.full(len(ends), -0.25), "^", color=BLACK, ms=3)
        ax.set(yticks=[], ylim=(-0.6, rows), xlim=(0, until_ms))
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        ax.spines["left"].set_visible(False)
    axes[-1].set_xlabel("time (ms); a triangle is a step of the network")
    return fig


def label_timeline(
    ends_ms: np.ndarray, labels_ms: Sequence[float], window_ms: float, dropped_ms: Sequence[float]
) -> Figure:
    """Window ends laid backwards from the first label frame and then between label frames."""
    fig, ax = plt.subplots(figsize=(WIDTH_IN, 1.7))
    for i, end in enumerate(ends_ms):
        ax.add_patch(
            Rectangle((end - window_ms, 0.1 + 0.35 * (i % 2)), window_ms, 0.3, fc=tint(BLUE), ec=BLUE, lw=0.8)
        )
    ax.vlines(labels_ms, 0, 1.1, color=ORANGE, lw=2)
    ax.vlines(dropped_ms, 0, 1.1, color=GREY, lw=1, ls="--")
    for t in labels_ms:
        ax.text(t, 1.15, "label", ha="center", fontsize=8)
    for t in dropped_ms:
        ax.text(t, 1.15, "off the grid", ha="center", fontsize=8)
    ax.set(yticks=[], ylim=(0, 1.4), xlabel="time (ms)", xlim=(0, None))
    ax.spines["left"].set_visible(False)
    return fig


def bins(counts: np.ndarray, density: np.ndarray, represent: Any) -> Figure:
    """A stacked histogram by pairs of bins, and the last channels of a mixed density stack."""
    fig, axes = plt.subplots(2, 5, figsize=(WIDTH_IN, 3.0))
    n = represent.bins
    for k, ax in enumerate(axes[0]):
        off, on = (counts[p * n + 2 * k : p * n + 2 * k + 2].sum(0) for p in (0, 1))
        show_image(ax, polarity_image(on, off), f"bins {2 * k} and {2 * k + 1}")
    for ax, channel in zip(axes[1], range(n - 5, n), strict=True):
        on, off = np.maximum(density[channel], 0), np.maximum(-density[channel], 0)
        show_image(ax, polarity_image(on, off), f"density, channel {channel}")
    return fig


def side_by_side(images: Mapping[str, np.ndarray]) -> Figure:
    """Pictures in a row; signed ones blue and red, others grey on white."""
    fig, axes = plt.subplots(1, len(images), figsize=(WIDTH_IN, 1.15 * WIDTH_IN / len(images)))
    for ax, (name, image) in zip(axes, images.items(), strict=True):
        if image.min() < 0:
            show_image(ax, polarity_image(np.maximum(image, 0), np.maximum(-image, 0)), name)
        else:
            show_image(ax, np.repeat(1 - image[..., None] / max(float(image.max()), 1e-9), 3, -1), name)
    return fig


def one_pixel_traces(stamps_ms: np.ndarray, t_ms: np.ndarray, traces: Mapping[float, np.ndarray]) -> Figure:
    """Events of one pixel as ticks, and its leaky integrators by time constant."""
    fig, ax = plt.subplots(figsize=(WIDTH_IN, 2.6))
    for (tau, s), colour in zip(traces.items(), COLOURS, strict=False):
        ax.plot(t_ms, s, color=colour, label=f"τ = {tau:g} ms")
    ax.plot(stamps_ms, np.full(len(stamps_ms), -0.25), "|", color=BLACK, ms=7)
    ax.set(xlabel="time (ms)", ylabel="$s_k$", ylim=(-0.6, None))
    ax.legend(frameon=False, fontsize=8, ncols=2)
    return fig


def weights(age_ms: np.ndarray, named: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """What an event contributes to each channel, over its age, a panel for each representation."""
    fig, axes = plt.subplots(1, len(named), figsize=(WIDTH_IN, 2.1), sharex=True, sharey=True)
    for ax, (name, channels) in zip(axes, named.items(), strict=True):
        for values, colour in zip(channels, COLOURS * 3, strict=False):
            ax.plot(age_ms, values, color=colour, lw=1)
        ax.set_title(name, fontsize=8)
        ax.set(xlabel="age (ms)", xlim=(age_ms[0], age_ms[-1]))
    axes[0].set_ylabel("weight of an event")
    return fig


def reading_rates(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Mean size of a frame relative to 20 Hz, over the rate at which it is read."""
    fig, ax = plt.subplots(figsize=(WIDTH_IN, 2.5))
    looks = zip(COLOURS, ("o-", "o-", "o--"), strict=False)  # dashed, since the last two coincide
    for (name, (rates, values)), (colour, look) in zip(curves.items(), looks, strict=False):
        ax.plot(rates, values, look, color=colour, ms=4, label=name)
    ticks = sorted({rate for rates, _ in curves.values() for rate in rates})
    ax.set(xscale="log", xlabel="rate (Hz)", ylabel="mean frame / that at 20 Hz", ylim=(0, 1.15))
    ax.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
    ax.minorticks_off()
    ax.legend(frameon=False)
    return fig


def shapes() -> Figure:
    """From the stream to the batch: events, frames of a sequence, chunks of a batch, with their shapes."""
    fig, ax = canvas(15, 4.2)
    for i, x in enumerate(np.random.default_rng(1).uniform(0.2, 2.2, 40)):
        ax.plot(x, 1.2 + 1.6 * ((i * 0.381966) % 1), ".", color=BLUE if i % 2 else RED, ms=3)
    note(ax, (1.2, 0.6), "events\nN × (t, x, y, p)")
    arrow(ax, [(2.5, 2.0), (3.7, 2.0)], "windows", above=0.25)
    for i in range(3):
        stack(ax, (4.6 + 1.15 * i, 1.9), (0.8, 0.6), 4, DATA, 0.1)
    note(ax, (8.0, 2.0), "…", fontsize=12)
    note(ax, (6.0, 0.6), "a sequence on disk\n[T, C, H, W], uint8")
    arrow(ax, [(8.4, 2.0), (9.7, 2.0)], "chunks of L", above=0.25)
    for b in range(3):
        for i in range(3):
            stack(ax, (10.5 + 0.85 * i, 1.2 + 0.85 * b), (0.55, 0.42), 3, DATA, 0.07)
        note(ax, (13.1, 1.3 + 0.85 * b), "…")
    note(ax, (11.5, 0.55), "a batch [L, B, C, H, W]")
    box(ax, (14.1, 2.1), (1.3, 1.0), "network", LEARNT)
    return fig


def trace_cell() -> Figure:
    """A trace as a state-space layer: an event adds one, time multiplies."""
    fig, ax = canvas(13, 2.9)
    arrow(ax, [(0.2, 1.8), (2.6, 1.8)], "events $\\sum_i \\delta(t - t_i)$", above=0.3)
    box(ax, (4.6, 1.8), (4.0, 1.1), "$\\dot s_k = -s_k / \\tau_k + $ events", STATE)
    arrow(ax, [(6.6, 1.8), (8.4, 1.8)], "$s_k(t)$", above=0.3)
    box(ax, (9.9, 1.8), (3.0, 1.1), "round(16 ln(1 + $s_k$))", FIXED)
    arrow(ax, [(11.4, 1.8), (12.8, 1.8)], "uint8", above=0.3)
    note(ax, (4.6, 0.7), "one for each pixel, polarity and $\\tau_k$")
    note(ax, (9.9, 0.7), "whenever it is read")
    return fig


def frames(
    pictures: Sequence[tuple[np.ndarray, np.ndarray, str]],
    classes: Sequence[str],
    represent: Representation | None,
) -> Figure:
    """Frames with their boxes: (frame, boxes, words)."""
    fig, axes = plt.subplots(1, len(pictures), figsize=(WIDTH_IN, 1.05 * WIDTH_IN / len(pictures)))
    for ax, (frame, boxes, words) in zip(axes, pictures, strict=True):
        show_frame(ax, frame, words, represent)
        show_boxes(ax, boxes, classes)
    return fig

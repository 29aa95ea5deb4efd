"""The drawings and plots of the chapter on events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssmbook.drawings.diagrams import DATA, FIXED, LEARNT, STATE, arrow, box, canvas, note, operator
from ssmbook.events import Events
from ssmbook.events.simulate import SimulatedSequence
from ssmbook.plots import BLUE, GREY, ORANGE, RED, WIDTH_IN, show_boxes, show_events, show_image


def pixel_principle() -> Figure:
    """The pixel: logarithm, difference to a memorised reference, two comparators, and the reset."""
    fig, ax = canvas(14, 4.6)
    box(ax, (2.4, 2.6), (1.8, 1.0), "logarithm", FIXED)
    operator(ax, (5.2, 2.6), "−", 0.3)
    box(ax, (5.2, 0.8), (2.4, 0.9), r"reference $L_{\mathrm{ref}}$", STATE)
    box(ax, (8.6, 3.5), (2.6, 0.9), r"$\Delta L \geq \theta_{\mathrm{on}}$ ?", LEARNT)
    box(ax, (8.6, 1.7), (2.6, 0.9), r"$\Delta L \leq -\theta_{\mathrm{off}}$ ?", LEARNT)
    box(ax, (12.5, 2.6), (2.4, 1.1), "event\n$(t, x, y, p)$", DATA)
    arrow(ax, [(0.1, 2.6), (1.5, 2.6)], "light $I(t)$", above=0.3)
    arrow(ax, [(3.3, 2.6), (4.9, 2.6)], "$L(t)$", above=0.3)
    arrow(ax, [(5.2, 1.25), (5.2, 2.3)])
    arrow(ax, [(5.5, 2.6), (6.5, 2.6), (6.5, 3.5), (7.3, 3.5)])
    arrow(ax, [(5.5, 2.6), (6.5, 2.6), (6.5, 1.7), (7.3, 1.7)])
    note(ax, (6.05, 2.85), r"$\Delta L$")
    arrow(ax, [(9.9, 3.5), (10.6, 3.5), (10.6, 2.85), (11.3, 2.85)])
    arrow(ax, [(9.9, 1.7), (10.6, 1.7), (10.6, 2.35), (11.3, 2.35)])
    note(ax, (10.75, 3.75), "p = 1", BLUE)
    note(ax, (10.75, 1.4), "p = 0", RED)
    arrow(ax, [(12.5, 2.05), (12.5, 0.5), (6.4, 0.5)], "the event sets the reference to $L(t)$", above=0.22)
    return fig


def _events_along(ax: Axes, events: Events, times_ms: np.ndarray, level: np.ndarray) -> None:
    for polarity, colour, name in ((1, BLUE, "ON"), (0, RED, "OFF")):
        stamps = events.t[events.p == polarity] / 1000
        ax.plot(stamps, np.interp(stamps, times_ms, level), "o", color=colour, markersize=4, label=name)


def one_pixel(times_ms: np.ndarray, level: np.ndarray, events: Events, threshold: float) -> Figure:
    """Log intensity over time, the reference that follows it in steps, and the events."""
    fig, ax = plt.subplots(figsize=(WIDTH_IN, 2.4))
    ax.plot(times_ms, level, color=GREY, label="log intensity $L$")
    reference = threshold * np.concatenate([[0], np.cumsum(2 * events.p.astype(int) - 1)])
    ax.step(
        np.concatenate([[0], events.t / 1000, times_ms[-1:]]),
        [*reference, reference[-1]],
        where="post",
        lw=1,
        color=ORANGE,
        label=r"reference $L_{\mathrm{ref}}$",
    )
    _events_along(ax, events, times_ms, level)
    ax.set(xlabel="time (ms)", ylabel="log intensity")
    ax.legend(frameon=False, ncols=2, loc="lower left")
    return fig


def moving_edges(runs: Mapping[str, Events]) -> Figure:
    """Events of one row of pixels, position over time, a panel for each run."""
    fig, axes = plt.subplots(1, len(runs), figsize=(WIDTH_IN, 2.3), sharex=True, sharey=True)
    for ax, (name, events) in zip(np.atleast_1d(axes), runs.items(), strict=True):
        for polarity, colour in ((1, BLUE), (0, RED)):
            of = events[events.p == polarity]
            ax.plot(of.t / 1000, of.x, ".", color=colour, markersize=2.5)
        ax.set(xlabel="time (ms)", title=name)
    np.atleast_1d(axes)[0].set_ylabel("column (px)")
    return fig


def effects(times_ms: np.ndarray, level: np.ndarray, rows: Mapping[str, Sequence[Events]]) -> Figure:
    """One stimulus above, and below it a raster for each kind of pixel: several copies of it, a line each."""
    fig, axes = plt.subplots(
        len(rows) + 1,
        1,
        figsize=(WIDTH_IN, 1.2 + 0.75 * len(rows)),
        sharex=True,
        height_ratios=[1.4, *[1] * len(rows)],
    )
    axes[0].plot(times_ms, level, color=GREY)
    axes[0].set_ylabel("$L$")
    for ax, (name, copies) in zip(axes[1:], rows.items(), strict=True):
        for i, events in enumerate(copies):
            for polarity, colour in ((1, BLUE), (0, RED)):
                ax.plot(
                    events.t[events.p == polarity] / 1000,
                    np.full((events.p == polarity).sum(), i),
                    "|",
                    color=colour,
                    markersize=4,
                )
        ax.set(yticks=[], ylim=(-1, len(copies)))
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    axes[-1].set_xlabel("time (ms)")
    return fig


def frames_and_events() -> Figure:
    """A point that swings, as frames with an exposure time see it, and as events do."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.5), sharex=True, sharey=True)
    t = np.linspace(0, 200, 2001)
    x = 50 + 40 * np.sin(2 * np.pi * t / 110)
    left.plot(t, x, color=GREY, lw=0.8, ls="--")
    for start in np.arange(5, 200, 33.3):
        inside = (t >= start) & (t <= start + 12)
        left.fill_between(
            [start, start + 12], x[inside].min(), x[inside].max(), color=ORANGE, alpha=0.8, lw=0
        )
    right.plot(t, x, color=GREY, lw=0.8, ls="--")
    crossings = np.flatnonzero(np.diff(np.floor(x / 2)) != 0)
    rising = np.diff(x)[crossings] > 0
    right.plot(t[crossings][rising], x[crossings][rising], ".", color=BLUE, markersize=4)
    right.plot(t[crossings][~rising], x[crossings][~rising], ".", color=RED, markersize=4)
    left.set(title="frames: 30 per second, exposed for 12 ms", xlabel="time (ms)", ylabel="position (px)")
    right.set(title="events: where and when it moved", xlabel="time (ms)")
    return fig


def recording(
    window: Events, counts: tuple[np.ndarray, np.ndarray], size: tuple[int, int], words: str
) -> Figure:
    """A window as a picture, and the event rate over the whole recording; counts are (seconds, events per second)."""
    fig, (left, right) = plt.subplots(1, 2, width_ratios=(1, 1.3), figsize=(WIDTH_IN, 2.6))
    show_events(left, window, size[1], size[0], words)
    right.step(*counts, where="post", color=BLUE)
    right.set(xlabel="time (s)", ylabel="events per second", ylim=(0, None))
    return fig


def cloud(events: Events, size: tuple[int, int]) -> Figure:
    """Events as points in x, t and y."""
    fig = plt.figure(figsize=(WIDTH_IN, 3.8))
    ax: Any = fig.add_subplot(projection="3d")
    for polarity, colour, name in ((1, BLUE, "ON"), (0, RED, "OFF")):
        of = events[events.p == polarity]
        ax.scatter(
            of.t / 1000, of.x, size[1] - of.y.astype(int), s=1.2, color=colour, label=name, depthshade=False
        )
    ax.set(ylabel="column", zlabel="row, upwards")
    ax.set_xlabel("time (ms)", labelpad=14)
    ax.set(yticks=[0, size[0]], zticks=[0, size[1] // 2, size[1]])
    ax.set_box_aspect((2.6, 1, 0.75), zoom=1.25)
    ax.view_init(elev=18, azim=-62)
    ax.legend(frameon=False, loc="upper left", markerscale=4)
    return fig


def real_and_simulated(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Lorenz curves of the events over the pixels, and distributions of the times between a pixel's events."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.9))
    shares = np.linspace(0, 1, 21)
    for row in rows:
        real = row["kind"] == "real"
        colour = BLUE if real else (ORANGE if "book" in row["name"] else GREY)
        look = "-" if row["window_ms"] == 40 else "--"
        label = f"{row['name']}, {row['window_ms']:.3g} ms"
        left.plot(100 * shares, 100 * np.array(row["lorenz"]), look, color=colour, label=label)
        right.plot(row["interval_quantiles_ms"][1:], 100 * shares[1:], look, color=colour)
    left.set(xlabel="quietest pixels (%)", ylabel="their share of the events (%)", xlim=(70, 100))
    right.set(xlabel="time between a pixel's events (ms)", ylabel="shorter than that (%)", xscale="log")
    left.legend(frameon=False, fontsize=6.5, loc="upper left")
    return fig


def street(drive: SimulatedSequence, chunks: Sequence[Events], picks_us: Sequence[int]) -> Figure:
    """A simulated street at some moments: the light above, the 50 ms of events before it below; boxes on both."""
    scene = drive.scene
    fig, axes = plt.subplots(2, len(picks_us), figsize=(WIDTH_IN, 3.7))
    for column, t in zip(axes.T, picks_us, strict=True):
        show_image(column[0], np.exp(drive.frames(np.array([t]))[0]), f"{t / 1e6:g} s")
        show_events(column[1], chunks[t // 50_000 - 1], scene.height, scene.width)
        for ax in column:
            show_boxes(ax, drive.street.boxes_at(t))
    return fig

"""Figures of the chapter on scaling out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ssmbook import plots

COLOURS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED)


def gantt(lanes: Sequence[Sequence[float]], bound: float) -> Figure:
    """Durations of each worker as bars, one after another, and the lower bound."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 1.9))
    for row, durations in enumerate(lanes):
        starts = np.concatenate([[0], np.cumsum(durations)[:-1]])
        bars = list(zip(starts.tolist(), durations, strict=True))
        ax.broken_barh(bars, (row - 0.38, 0.76), facecolor=COLOURS[row % 4], edgecolor="white")
    ax.axvline(bound, color="black", ls="--", lw=1)
    ax.set_yticks(range(len(lanes)), [f"worker {row + 1}" for row in range(len(lanes))])
    ax.set(xlabel="time", ylim=(len(lanes) - 0.5, -0.5))
    return fig


def speed_up(seconds: Callable[[str, int], float], sensors: Sequence[str]) -> Figure:
    """How many times as fast as one core, over the number of cores; ``seconds(sensor, cores)``."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.8))
    cores = [2**i for i in range(13)]
    ax.loglog(cores, cores, color="lightgrey", lw=3, label="as many times as there are cores")
    for sensor, colour in zip(sensors, COLOURS, strict=False):
        ax.loglog(
            cores,
            [seconds(sensor, 1) / seconds(sensor, m) for m in cores],
            "o-",
            ms=3,
            color=colour,
            label=sensor,
        )
    ax.set(xlabel="cores", ylabel="times as fast as one core")
    ax.legend(frameon=False)
    return fig


def step_time(seconds: Callable[[str, int, int], float], batches: Mapping[str, int]) -> Figure:
    """Seconds of a training step over GPUs: the published batch shared, and two chunks a GPU."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.8))
    for (preset, batch), colour in zip(batches.items(), COLOURS, strict=False):
        shared = [w for w in (1, 2, 4, 8, 12) if batch % w == 0]
        ax.loglog(
            shared,
            [seconds(preset, w, batch) for w in shared],
            "o-",
            ms=4,
            color=colour,
            label=f"{preset}, batch {batch}",
        )
        grown = [2**i for i in range(9)]
        ax.loglog(
            grown,
            [seconds(preset, w, 2 * w) for w in grown],
            "--",
            color=colour,
            label=f"{preset}, two chunks a GPU",
        )
    ax.set(xlabel="GPUs", ylabel="seconds a step")
    ax.legend(frameon=False, fontsize=7)
    return fig


def lost(share: Callable[..., Any], cost_s: float, nodes: Sequence[int]) -> Figure:
    """Lost share of the time over the interval between saved states; ``share(interval_s, cost_s, between_h)``."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.6))
    interval = np.geomspace(10, 1e5, 200)
    for count, colour in zip(nodes, COLOURS, strict=False):
        between_h = 24 * 365 / count
        best = math.sqrt(2 * cost_s * 3600 * between_h)
        ax.loglog(
            interval / 60,
            100 * share(interval, cost_s, between_h),
            color=colour,
            label=f"{count} node{'s' * (count != 1)}",
        )
        ax.plot(best / 60, 100 * share(best, cost_s, between_h), "o", color=colour)
    ax.set(xlabel="minutes between saved states", ylabel="lost (%)")
    ax.legend(frameon=False)
    return fig


def node_hours(table: pd.DataFrame) -> Figure:
    """Hours of each part as bars. Index: set and nodes; columns: the parts, and node-hours, which are left out."""
    parts = [name for name in table.columns if name != "node-hours"]
    sets = list(dict.fromkeys(table.index.get_level_values(0)))
    fig, axes = plt.subplots(1, len(sets), figsize=(plots.WIDTH_IN, 2.7), sharey=True)
    for ax, name in zip(axes, sets, strict=True):
        own = table.loc[name]
        for i, part in enumerate(parts):
            places = np.arange(len(own)) + 0.27 * (i - 1)
            ax.bar(places, own[part], 0.25, color=COLOURS[i], label=part)
        ax.set_xticks(range(len(own)), [f"{nodes}" for nodes in own.index])
        ax.set(title=name, xlabel="nodes", yscale="log")
    axes[0].set_ylabel("hours")
    axes[-1].legend(frameon=False, fontsize=7)
    return fig

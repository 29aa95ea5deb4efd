"""Figures of the study's tables: AP over the rate, AP over the time at rest, and a stopping car step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ssmbook.plots import GREY, MODEL_COLOURS, WIDTH_IN, show_boxes, show_image

#: How models are called in figures.
MODEL_NAMES = {
    "s5": "S5",
    "s5-selective": "selective S5",
    "mamba": "Mamba's form",
    "s4d": "S4D",
    "s4": "S4",
    "convlstm": "ConvLSTM",
    "none": "no recurrence",
}
ANSWER = ("s5-selective", "s5", "convlstm", "none")


def answer(rates: pd.DataFrame, rest: pd.DataFrame, mode: str = "sliding") -> Figure:
    """The book's answer in two panels: AP over the rate, and AP over the time at rest at the rate of training.

    Args:
        rates, rest: tables of ``run_arms``.
        mode: of running faster.
    """
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH_IN, 3.3), width_ratios=(1.25, 1), layout="constrained"
    )
    over_rates(left, rates[rates["mode"] == mode])
    over_rest(right, rest[(rest["mode"] == mode) & (rest["rate_hz"] == 20)])
    left.set_title("trained at 20 Hz, run at other rates", loc="left")
    right.set_title("objects at rest, 20 Hz", loc="left")
    return fig


def over_rates(ax: Axes, table: pd.DataFrame, metric: str = "AP_common") -> None:
    """AP × 100 over the rate with the state carried: a line per model, solid where the time scale follows the rate."""
    exact = table[table["carry"] == "exact"]
    for model in (name for name in ANSWER if name in set(exact["model"])):
        arms = exact[exact["model"] == model].groupby("step_scale")
        for scale, arm in arms:
            values = 100 * arm.groupby("rate_hz")[metric].agg(["mean", "min", "max"])
            follows, alone = scale == "1/k", len(arms) == 1
            colour = MODEL_COLOURS.get(model, GREY)
            ax.fill_between(values.index, values["min"], values["max"], color=colour, alpha=0.15, lw=0)
            name = MODEL_NAMES.get(model, model)
            label = name if alone else f"{name}, step {'follows' if follows else 'does not follow'}"
            (line,) = ax.plot(
                values["mean"],
                "-" if follows or alone else "--",
                color=colour,
                marker="o",
                markersize=4,
                label=label,
            )
            line.set_markerfacecolor(colour if follows or alone else "white")
    rates = sorted(exact["rate_hz"].unique())
    ax.set_xscale("log")
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()
    ax.axvline(20, color=GREY, lw=0.7, ls=":")
    ax.set(xlabel="rate (Hz)", ylabel="AP × 100", ylim=(0, None))
    ax.legend(frameon=False, fontsize=7, loc="lower left")


def over_rest(ax: Axes, table: pd.DataFrame, metric: str = "AP") -> None:
    """AP × 100 over the time for which an object has been at rest: solid with the state carried, dotted without."""
    bins = table[["from", "to"]].drop_duplicates().sort_values("from")
    words = [
        f"> {low:g}" if high >= 60 else f"{low:g}–{high:g}" for low, high in bins.itertuples(index=False)
    ]
    for model in (name for name in ANSWER if name in set(table["model"])):
        for carry, arm in table[table["model"] == model].groupby("carry"):
            best = "1/k" if (arm["step_scale"] == "1/k").any() else "1"
            values = 100 * arm[arm["step_scale"] == best].groupby("from")[metric].agg(["mean", "min", "max"])
            colour, exact = MODEL_COLOURS.get(model, GREY), carry == "exact"
            ax.plot(
                range(len(values)),
                values["mean"],
                "-" if exact else ":",
                color=colour,
                marker="o",
                markersize=4,
            )
            ax.vlines(range(len(values)), values["min"], values["max"], color=colour, lw=1)
    ax.set_xticks(range(len(words)), ["moving", *words[1:]])
    ax.set(xlabel="at rest for (s)", ylim=(0, None))
    styles = [Line2D([], [], color=GREY, ls=ls) for ls in ("-", ":")]
    ax.legend(styles, ["state carried", "each chunk from zero"], frameon=False, fontsize=7, loc="upper right")


def film_strip(
    times_ms: Sequence[float],
    pictures: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    rows: Mapping[str, Sequence[np.ndarray]],
    threshold: float = 0.3,
) -> Figure:
    """One scene at several moments (columns), as several detectors see it (rows).

    Args:
        times_ms: of the columns, shown above them.
        pictures [H, W, 3]: of each column's events.
        truth: boxes of each column, drawn dashed.
        rows: for each detector, its boxes of each column.
        threshold: detections with a lower score are not drawn.
    """
    height, width = pictures[0].shape[:2]
    size = WIDTH_IN, WIDTH_IN / len(times_ms) * height / width * len(rows) * 1.12 + 0.3
    fig, axes = plt.subplots(len(rows), len(times_ms), figsize=size, squeeze=False, layout="constrained")
    for line, (name, found) in zip(axes, rows.items(), strict=True):
        for column, ax in enumerate(line):
            show_image(ax, pictures[column])
            show_boxes(ax, truth[column], dashed=True)
            kept = found[column][found[column]["class_confidence"] >= threshold]
            show_boxes(ax, kept, scores=True)
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(name, fontsize=7)
    for ax, time in zip(axes[0], times_ms, strict=True):
        ax.set_title(f"{time:+.0f} ms", fontsize=8)
    return fig

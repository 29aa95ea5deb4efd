"""Figures of the study's tables: AP over the rate, AP over the time at rest, and a stopping car step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ssmbook.drawings.diagrams import DATA, FIXED, TIME, arrow, box, canvas, note, operator
from ssmbook.plots import GREY, MODEL_COLOURS, WIDTH_IN, rate_axis, show_boxes, show_image
from ssmbook.study.answers import MODEL_NAMES, following
from ssmbook.study.rates import of_all_seeds

ANSWER = ("s5-selective", "s5", "convlstm", "none")
#: Inputs that look the same at every rate, by mode.
ANSWER_MODES = {"sliding": "windows", "traces": "traces"}


def answer(rates: pd.DataFrame, rest: pd.DataFrame) -> Figure:
    """The book's answer: AP over the rate, a panel for each input, and over the time at rest at the rate of training.

    Args:
        rates, rest: tables of ``run_arms``; the modes sliding and traces of them, as far as they are there.
    """
    modes = [mode for mode in ANSWER_MODES if (rates["mode"] == mode).any()]
    fig, (*panels, right) = plt.subplots(
        1,
        len(modes) + 1,
        figsize=(WIDTH_IN, 3.8),
        width_ratios=(*[1] * len(modes), 1.1),
        sharey=True,
        layout="constrained",
    )
    for ax, mode in zip(panels, modes, strict=True):
        over_rates(ax, rates[rates["mode"] == mode])
        ax.set_title(ANSWER_MODES[mode], loc="left")
    for ax in panels[1:]:
        ax.set_ylabel("")
    lines = {line.get_label(): line for ax in panels for line in ax.lines if line.get_label()[0] != "_"}
    fig.legend(
        list(lines.values()), list(lines), frameon=False, fontsize=8, ncols=3, loc="outside lower center"
    )
    over_rest(right, rest[(rest["mode"] == modes[0]) & (rest["rate_hz"] == 20)])
    right.set_title(f"at rest, {ANSWER_MODES[modes[0]]}", loc="left")
    right.autoscale(axis="y")  # over all panels; each fixes what it has itself
    right.set_ylim(0)
    return fig


def over_rates(ax: Axes, table: pd.DataFrame, metric: str = "AP_common") -> None:
    """AP × 100 over the rate with the state carried: a line per model, solid where the time scale follows the rate."""
    exact = of_all_seeds(table[table["carry"] == "exact"])
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
    rate_axis(ax, exact["rate_hz"])
    ax.axvline(20, color=GREY, lw=0.7, ls=":")
    ax.set(ylabel="AP × 100", ylim=(0, None))


def over_rest(ax: Axes, table: pd.DataFrame, metric: str = "AP", unscaled: bool = False) -> None:
    """AP × 100 over the time for which an object has been at rest: solid with the state carried, dotted without; with
    ``unscaled`` also dashed where the time scale does not follow the rate."""
    bins = table[["from", "to"]].drop_duplicates().sort_values("from")
    words = [
        f"> {low:g}" if high >= 60 else f"{low:g}–{high:g}" for low, high in bins.itertuples(index=False)
    ]
    best = following(table)
    shown = table if unscaled else best
    for model in (name for name in ANSWER if name in set(table["model"])):
        for (carry, _), arm in shown[shown["model"] == model].groupby(["carry", "step_scale"]):
            at_best = arm.index.isin(best.index).all()
            values = 100 * arm.groupby("from")[metric].agg(["mean", "min", "max"])
            colour, exact = MODEL_COLOURS.get(model, GREY), carry == "exact"
            ax.plot(
                range(len(values)),
                values["mean"],
                ("-" if exact else ":") if at_best else "--",
                color=colour,
                marker="o",
                markersize=4,
                markerfacecolor=colour if at_best else "white",
                label=MODEL_NAMES.get(model, model) if exact and at_best else None,
            )
            ax.vlines(range(len(values)), values["min"], values["max"], color=colour, lw=1)
    ax.set_xticks(range(len(words)), ["moving", *words[1:]], fontsize=7)
    ax.set(xlabel="at rest for (s)", ylim=(0, None))
    if table["carry"].nunique() > 1:
        styles = [Line2D([], [], color=GREY, ls=ls) for ls in ("-", ":")]
        ax.legend(
            styles, ["state carried", "each chunk from zero"], frameon=False, fontsize=7, loc="upper right"
        )
    else:
        ax.legend(frameon=False, fontsize=8)


States = tuple[Sequence[float], float]


def worked_example(curves: Mapping[str, Mapping[str, States]], trained: States, moving_s: float) -> Figure:
    """One mode's state over time, a panel for each mode of running, relative to the level of training at the stop.

    Args:
        curves: mode → step_scale, "1/k" or "1" → states from time 0 on, and the seconds between them.
        trained: states and seconds of training.
        moving_s: until when the object moves.
    """
    fig, axes = plt.subplots(1, len(curves), figsize=(WIDTH_IN, 2.4), sharey=True, layout="constrained")
    states, stride = trained
    level = states[round(moving_s / stride)]
    for ax, (mode, own) in zip(axes, curves.items(), strict=True):
        ax.axvspan(0, moving_s, color=GREY, alpha=0.15, lw=0)
        for scale, look in (("1/k", "-"), ("1", "--")):
            values, apart = own[scale]
            times = apart * np.arange(len(values))
            ax.plot(
                times,
                np.asarray(values) / level,
                look,
                color=MODEL_COLOURS["s5"],
                label=f"step_scale {scale}",
            )
        ax.plot(
            stride * np.arange(len(states)),
            np.asarray(states) / level,
            color="black",
            lw=0.8,
            label="training",
        )
        ax.set_title(mode)
        ax.set(xlabel="time (s)", ylim=(0, 1.75))
    axes[0].set_ylabel("state, 1 at the stop in training")
    axes[1].legend(frameon=False, fontsize=7)
    return fig


def rate_paths() -> Figure:
    """The paths from a frame to the output of a stage: through the state, through the skip, and straight on."""
    fig, ax = canvas(12, 3.6)
    box(ax, (1.1, 1.8), (1.8, 0.9), "frame $a_k$", DATA)
    box(ax, (5.6, 2.9), (3.4, 0.9), r"state $x_k = \bar\Lambda x_{k-1} + \bar B a_k$, $C$", TIME)
    box(ax, (5.6, 1.8), (1.6, 0.8), "skip $D$", FIXED)
    box(ax, (9.0, 2.35), (1.2, 0.8), "GELU", FIXED)
    operator(ax, (10.6, 1.8), "+")
    arrow(ax, [(2.0, 1.95), (3.9, 2.9)], colour=TIME)
    arrow(ax, [(2.0, 1.8), (4.8, 1.8)], colour=FIXED)
    arrow(ax, [(7.3, 2.9), (8.4, 2.5)], colour=TIME)
    arrow(ax, [(6.4, 1.8), (8.4, 2.2)], colour=FIXED)
    arrow(ax, [(9.6, 2.3), (10.4, 1.93)])
    arrow(ax, [(1.1, 1.35), (1.1, 0.6), (10.6, 0.6), (10.6, 1.58)], colour=FIXED)
    arrow(ax, [(10.82, 1.8), (11.5, 1.8)])
    note(ax, (11.75, 1.8), "$z_k$")
    note(ax, (5.6, 0.3), "direct path: the present frame, whatever the step is", colour=FIXED)
    return fig


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

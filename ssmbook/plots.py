"""Pictures of the book: events, boxes, rates. One look for all, one function that saves them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ssmbook.colours import (  # noqa: F401 (plots.BLUE is a colour too)
    BLACK,
    BLUE,
    CLASS_COLOURS,
    GREEN,
    GREY,
    MODE_COLOURS,
    MODEL_COLOURS,
    ORANGE,
    PALETTES,
    PURPLE,
    RED,
    SKY,
    polarity_image,
)
from ssmbook.events import Events, Representation, StackedHistogram
from ssmbook.files import atomic_write

WIDTH_IN = 7.0  # of a figure that fills the page


def style() -> None:
    """Fonts, sizes and colours of every figure; called once at the top of a chapter."""
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH_IN, 3.2),
            "figure.dpi": 150,
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, GREY]),
            "image.interpolation": "nearest",
        }
    )


def save(fig: Figure, path: str | Path) -> Path:
    """Save a figure as PNG, whole or not at all; the same figure gives the same bytes.

    Where a notebook would draw it again below the cell, the picture, cut to what it holds, is shown as it is saved,
    and the figure closed.
    """
    path, picture = Path(path), io.BytesIO()
    shown = fig.canvas.manager is not None and "inline" in plt.get_backend()
    fig.savefig(picture, format="png", bbox_inches="tight" if shown else None, metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
    if shown:
        from IPython.display import display

        display({"image/png": picture.getvalue(), "text/plain": repr(fig)}, raw=True)
        plt.close(fig)
    return path


def show_events(ax: Axes, events: Events, height: int, width: int, title: str = "") -> None:
    """All events of a window as one picture."""
    flat = events.y.astype(np.int64) * width + events.x
    on, off = (
        np.bincount(flat[events.p == p], minlength=height * width).reshape(height, width) for p in (1, 0)
    )
    show_image(ax, polarity_image(on, off), title)


def show_frame(ax: Axes, frame: np.ndarray, title: str = "", represent: Representation | None = None) -> None:
    """A frame [C, H, W] of a representation (of ``StackedHistogram`` if none is given) as one picture."""
    off, on = (represent or StackedHistogram()).polarities(frame)
    show_image(ax, polarity_image(on, off), title)


def show_image(ax: Axes, image: np.ndarray, title: str = "") -> None:
    """A picture [H, W] (grey) or [H, W, 3], framed and without ticks."""
    ax.imshow(image, cmap="gray")
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=8)
    for side in ax.spines.values():
        side.set_visible(True)


def show_boxes(
    ax: Axes, boxes: np.ndarray, classes: Sequence[str] = (), scores: bool = False, dashed: bool = False
) -> None:
    """Boxes (``BOX_DTYPE``) over a picture; the class names and scores beside them when given."""
    for box in boxes:
        colour = CLASS_COLOURS[int(box["class_id"]) % len(CLASS_COLOURS)]
        xy, w, h = (float(box["x"]), float(box["y"])), float(box["w"]), float(box["h"])
        ax.add_patch(Rectangle(xy, w, h, fill=False, edgecolor=colour, lw=1.4, ls="--" if dashed else "-"))
        words = [classes[int(box["class_id"])]] if classes else []
        words += [f"{float(box['class_confidence']):.2f}"] if scores else []
        if words:
            low, high = sorted(ax.get_ylim())
            inside = xy[1] - low < 0.12 * (high - low)  # no room above the box
            ax.text(
                max(xy[0], min(ax.get_xlim())),
                xy[1],
                " ".join(words),
                color="black",  # legible on every colour of a class, as the colours are not on a picture
                fontsize=6,
                va="top" if inside else "bottom",
                clip_on=True,
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.6},
            )


def show_rates(ax: Axes, table: pd.DataFrame, metric: str = "AP") -> None:
    """One line per arm of ``run_arms``'s table: metric × 100 over the rate, the mean over seeds and their range.

    Whole lines and filled markers where the time scale follows the rate; the modes are not told apart.
    """
    for key, arm in table.groupby(["model", "mode", "step_scale", "carry"], sort=False):
        model, _, scale, carry = map(str, key)
        label = model + (", step_scale 1/k" if scale == "1/k" else "")
        label += "" if carry == "exact" else f", {carry} carry"
        over_seeds = 100 * arm.groupby("rate_hz")[metric].agg(["mean", "min", "max"])
        (line,) = ax.plot(
            over_seeds["mean"],
            "-" if scale == "1/k" else "--",
            marker="s" if carry == "published" else "o",
            color=MODEL_COLOURS.get(model, GREY),
            markersize=5,
            label=label,
        )
        line.set_markerfacecolor(line.get_color() if scale == "1/k" else "white")
        ax.vlines(over_seeds.index, over_seeds["min"], over_seeds["max"], color=line.get_color(), lw=1)
    rate_axis(ax, table["rate_hz"])
    ax.set(ylabel=f"{metric} × 100", ylim=(0, None))


def rate_axis(ax: Axes, rates_hz: Iterable[float]) -> None:
    """A logarithmic axis with a tick at each rate, and its number where the number before leaves room."""
    ticks = sorted(set(rates_hz))
    labels, last = [], 0.0
    for rate in ticks:
        room = rate >= 1.5 * last
        labels.append(f"{rate:g}" if room else "")
        last = rate if room else last
    ax.set_xscale("log")
    ax.set_xticks(ticks, labels)
    ax.minorticks_off()
    ax.set_xlabel("rate (Hz)")


def rate_panels(table: pd.DataFrame, metric: str = "AP") -> Figure:
    """``show_rates`` in one panel for each mode, and the legend below them."""
    modes = list(dict.fromkeys(table["mode"]))
    arms = len(table.groupby(["model", "step_scale", "carry"]))
    size = WIDTH_IN, 3.0 + 0.09 * arms  # two arms in a line of the legend
    fig, axes = plt.subplots(1, len(modes), figsize=size, sharey=True, squeeze=False, layout="constrained")
    entries: dict[str, Line2D] = {}
    for ax, mode in zip(axes[0], modes, strict=True):
        show_rates(ax, table[table["mode"] == mode], metric)
        ax.set_title(mode)
        ax.label_outer()
        entries |= {str(line.get_label()): line for line in ax.lines}
    axes[0, 0].autoscale(axis="y")  # over all panels; each fixes what it has itself
    axes[0, 0].set_ylim(0)
    fig.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=2,
        fontsize=7,
        frameon=False,
        handlelength=3.5,
    )
    return fig

"""What the book's drawings are made of: boxes, arrows and words on a canvas of its own units, in one style."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from ssmbook.plots import BLACK, BLUE, GREEN, GREY, ORANGE, RED, SKY, WIDTH_IN

# What a colour of a drawing stands for, in every chapter.
DATA, LEARNT, STATE, TIME, FIXED, LOSS = SKY, ORANGE, BLUE, GREEN, GREY, RED
TINT = 0.22  # of a box's colour inside it
TEXT_PT = 8

Point = tuple[float, float]


def canvas(width: float, height: float, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """A figure without axes, ``width`` × ``height`` units, y upwards, as wide as the page."""
    fig, ax = plt.subplots(figsize=(width_in, width_in * height / width))
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return fig, ax


def tint(colour: str, share: float = TINT) -> tuple[float, float, float]:
    """A colour mixed with white."""
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (1 - share * (1 - c) for c in rgb)
    return r, g, b


def box(
    ax: Axes, at: Point, size: Point, words: str = "", colour: str = FIXED, fontsize: float = TEXT_PT
) -> None:
    """A rounded box around its centre."""
    (x, y), (w, h) = at, size
    style = f"round,pad=0,rounding_size={0.18 * min(w, h)}"
    ax.add_patch(
        FancyBboxPatch((x - w / 2, y - h / 2), w, h, boxstyle=style, fc=tint(colour), ec=colour, lw=1.2)
    )
    note(ax, at, words, fontsize=fontsize)


def operator(ax: Axes, at: Point, sign: str, radius: float = 0.22) -> None:
    """A small circle with a sign in it, as in a block diagram."""
    ax.add_patch(Circle(at, radius, fc="white", ec=BLACK, lw=1))
    note(ax, at, sign)


def note(
    ax: Axes, at: Point, words: str, colour: str = BLACK, fontsize: float = TEXT_PT, **options: object
) -> None:
    """Words around a point."""
    place: dict[str, object] = {"ha": "center", "va": "center", **options}
    ax.text(*at, words, color=colour, fontsize=fontsize, **place)  # type: ignore[arg-type]


def arrow(
    ax: Axes,
    points: Sequence[Point],
    words: str = "",
    colour: str = BLACK,
    dashed: bool = False,
    above: float = 0.18,
    fontsize: float = TEXT_PT,
) -> None:
    """An arrow along a line of points; the words stand above the middle of its longest part."""
    for a, b in pairwise(points[:-1]):
        ax.plot(
            *zip(a, b, strict=True), color=colour, lw=1.1, ls="--" if dashed else "-", solid_capstyle="round"
        )
    start, end = points[-2:]
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=9,
            color=colour,
            lw=1.1,
            ls="--" if dashed else "-",
            shrinkA=0,
            shrinkB=0,
        )
    )
    if words:
        parts = list(pairwise(points))
        a, b = max(parts, key=lambda part: abs(part[0][0] - part[1][0]) + abs(part[0][1] - part[1][1]))
        note(ax, ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + above), words, colour, fontsize)


def stack(ax: Axes, at: Point, size: Point, count: int, colour: str = DATA, step: float = 0.12) -> None:
    """Sheets behind each other: a tensor with several channels; ``at`` is the centre of the front one."""
    (x, y), (w, h) = at, size
    for i in reversed(range(count)):
        corner = (x - w / 2 + i * step, y - h / 2 + i * step)
        ax.add_patch(Rectangle(corner, w, h, fc=tint(colour), ec=colour, lw=0.8))


def brace(
    ax: Axes, start: float, end: float, y: float, words: str, colour: str = BLACK, drop: float = 0.25
) -> None:
    """A length between two x, with ticks at its ends and words below."""
    ax.plot([start, end], [y, y], color=colour, lw=1)
    for x in (start, end):
        ax.plot([x, x], [y - 0.08, y + 0.08], color=colour, lw=1)
    note(ax, ((start + end) / 2, y - drop), words, colour)

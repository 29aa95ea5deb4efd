"""A figure with sliders where a kernel runs, and a still picture everywhere else."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

WIDGET = (
    "application/vnd.jupyter.widget-view+json"  # left out of committed notebooks, see ``ssmbook refresh``
)


def sliders(draw: Callable[..., Figure], **ranges: tuple[float, float, float]) -> None:
    """Show ``draw(**values)`` with one slider for each argument.

    The output holds the widget and, beside it, the first picture as PNG: viewers without a kernel show that.

    Args:
        draw: makes a figure of numbers by name.
        ranges: (minimum, maximum, start) of each argument; the sliders are logarithmic.
    """
    controls = {name: _slider(name, *limits) for name, limits in ranges.items()}
    shown = ipywidgets.Image(
        value=_png(draw(**{name: slider.value for name, slider in controls.items()})), format="png"
    )

    def redraw(_: object) -> None:
        shown.value = _png(draw(**{name: slider.value for name, slider in controls.items()}))

    for slider in controls.values():
        slider.observe(redraw, names="value")
    bundle: dict[str, Any] = {
        "text/plain": "sliders: " + ", ".join(ranges),
        "image/png": b64encode(shown.value).decode(),
    }
    box = ipywidgets.VBox([*controls.values(), shown])
    bundle[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    display(bundle, raw=True)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return picture.getvalue()


def _slider(name: str, minimum: float, maximum: float, start: float) -> ipywidgets.SelectionSlider:
    steps = 60
    values = [minimum * (maximum / minimum) ** (i / steps) for i in range(steps + 1)]
    values = sorted({*values, start})
    options = [(f"{value:.3g}", value) for value in values]
    return ipywidgets.SelectionSlider(
        options=options,
        value=start,
        description=name,
        continuous_update=False,
        style={"description_width": "6em"},
    )

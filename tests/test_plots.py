"""What the pictures that all chapters share must keep legible."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from ssmbook import plots
from ssmbook.events import BOX_DTYPE
from ssmbook.plots import rate_axis, show_boxes, show_image


@pytest.mark.parametrize("y", [0, 2, 20])
def test_the_label_of_a_box_stays_within_the_picture(y):
    box = np.zeros(1, BOX_DTYPE)
    box[["x", "y", "w", "h"]] = (-3, y, 20, 20)
    fig, ax = plt.subplots(figsize=(1.5, 1.5))
    show_image(ax, np.zeros((64, 64)))
    show_boxes(ax, box, ("car",), scores=True)
    frame, label = ax.get_window_extent(), ax.texts[0].get_window_extent()
    plt.close(fig)
    assert frame.x0 <= label.x0
    assert frame.y0 <= label.y0
    assert label.y1 <= frame.y1


def test_a_rate_axis_has_numbers_where_there_is_room():
    ax = plt.figure().add_subplot()
    rate_axis(ax, [200.0, 80.0, 100.0, 20.0, 100.0])
    assert [
        (tick, label.get_text()) for tick, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    ] == [
        (20.0, "20"),
        (80.0, "80"),
        (100.0, ""),
        (200.0, "200"),
    ]


def test_a_notebook_shows_a_figure_as_it_is_saved_and_does_not_draw_it_again(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "get_backend", lambda: "module://matplotlib_inline.backend_inline")
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append((data, raw)))
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, 1])
    path = plots.save(fig, tmp_path / "a.png")
    assert shown == [({"image/png": path.read_bytes(), "text/plain": repr(fig)}, True)]
    assert not plt.fignum_exists(fig.number)
    plots.save(Figure(), tmp_path / "panel.png")  # as while a notebook trains
    assert len(shown) == 1

"""Words in figures lie neither over each other nor over the data."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.text import Text

from ssmbook.drawings import network, study


def test_scores_before_suppression_lie_apart():
    near = np.array(
        [[x, y, x + 20, y + 10, 1, 0.5, c] for c in (0, 1) for x, y in ((9, 20), (10, 20), (11, 21))]
    )
    fig = network.suppression((64, 64), near, near[:1])
    fig.canvas.draw()
    before = fig.axes[0]
    places = [Text.get_window_extent(text) for text in before.texts]  # without the line to the box
    frame = before.get_window_extent()
    plt.close(fig)
    assert len(places) == 6
    assert not [1 for a, b in combinations(places, 2) if a.overlaps(b)]
    assert all(frame.x0 <= place.x0 and place.x1 <= frame.x1 for place in places)


def test_the_legend_of_the_answer_is_below_its_panels():
    columns = ["model", "input", "mode", "step_scale", "carry", "rate_hz", "seed", "AP_common"]
    rows = [
        ("s5", "input", mode, scale, "exact", rate, 0, 0.4)
        for mode in ("sliding", "traces")
        for scale in ("1/k", "1")
        for rate in (20.0, 200.0)
    ]
    rest = pd.DataFrame(
        [
            ("s5", "input", "sliding", "1/k", carry, 20.0, 0, low, low + 1, 0.4)
            for carry in ("exact", "published")
            for low in (0, 1)
        ],
        columns=[*columns[:-1], "from", "to", "AP"],
    )
    fig = study.answer(pd.DataFrame(rows, columns=columns), rest)
    fig.canvas.draw()
    legend = fig.legends[0].get_window_extent()
    panels = [ax.get_tightbbox() for ax in fig.axes]
    plt.close(fig)
    assert legend.y1 <= min(panel.y0 for panel in panels)

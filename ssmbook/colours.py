"""The book's colours, and events as a picture in them; what draws them needs no matplotlib for that."""

from __future__ import annotations

import numpy as np

# Colours that remain apart for colour-blind readers (Okabe and Ito).
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#7f7f7f"
SKY, BLACK = "#56B4E9", "#000000"
MODEL_COLOURS = {
    "s5": BLUE,
    "s5-held": SKY,
    "s5-h2": GREEN,
    "s5-selective": BLACK,
    "mamba": "#8c510a",
    "s4d": PURPLE,
    "s4": RED,
    "convlstm": ORANGE,
    "none": GREY,
}
MODE_COLOURS = {"held": GREY, "true": RED, "sliding": BLUE, "traces": GREEN}
CLASS_COLOURS = (ORANGE, GREEN, PURPLE)
#: Colours of pictures of events, RGB in 0..1: of a pixel without events, of ON events, of OFF events.
PALETTES = {
    "light": ((1.0, 1.0, 1.0), (0.0, 0.30, 0.75), (0.80, 0.15, 0.10)),
    "dark": ((0.0, 0.0, 0.0), (0.40, 0.75, 1.0), (1.0, 0.45, 0.20)),
    "grey": ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
}


def polarity_image(on: np.ndarray, off: np.ndarray, palette: str = "light") -> np.ndarray:
    """Counts of ON and OFF events [H, W] as a picture [H, W, 3], in ``PALETTES[palette]``."""
    scale = max(1.0, float(np.percentile(np.concatenate([on[on > 0], off[off > 0], [1]]), 90)))
    strength_on, strength_off = (np.clip(count / scale, 0, 1)[..., None] for count in (on, off))
    ground, of_on, of_off = map(np.array, PALETTES[palette])
    return np.clip(ground - strength_on * (ground - of_on) - strength_off * (ground - of_off), 0, 1)

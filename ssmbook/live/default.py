"""The network that comes with the library, for whoever has a recording and no checkpoint.

``networks/camera.ckpt`` is selective S5 in the profile ``camera``, trained on simulated streets alone;
``networks/camera.json`` says by which command, on what, with which validation AP, and how its training windows look.
``python -m ssmbook.study.shipping`` makes both from the profile's run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ssmbook.events import Representation
from ssmbook.files import read_json

DEFAULT = Path(__file__).parent / "networks" / "camera.ckpt"
RECORD = DEFAULT.with_suffix(".json")

#: What is measured of a window, by name: see ``window_statistics``.
STATISTICS = {
    "events_per_pixel": "events per pixel",
    "events_per_firing_pixel": "events per pixel that fired",
    "share_of_both": "of the firing pixels with both polarities",
}


def default_record() -> dict[str, Any]:
    """What is known of the default network: command, commit, set, seed, AP, threshold, its training windows."""
    return read_json(RECORD)


def shrink_for(width: int, height: int, trained_hw: tuple[int, int]) -> int:
    """How often a camera's frames are halved, as a factor: until they have at most three times training's pixels."""
    factor = 1
    while width * height > 3 * factor**2 * trained_hw[0] * trained_hw[1]:
        factor *= 2
    return factor


def window_statistics(off: np.ndarray, on: np.ndarray) -> dict[str, float]:
    """How a window looks, of its counts [H, W] of OFF and ON events; see ``STATISTICS``.

    The first grows with motion, texture and the pixels' sensitivity, the second with how often the same pixel fires
    again, the third with flicker, which makes a pixel fire both ways within one window.
    """
    counts = off + on
    fired = max(int(np.count_nonzero(counts)), 1)
    events = float(counts.sum())
    return {
        "events_per_pixel": events / counts.size,
        "events_per_firing_pixel": events / fired,
        "share_of_both": np.count_nonzero((off > 0) & (on > 0)) / fired,
    }


class Familiar:
    """Whether windows look like those that a network was trained on.

    A window is unlike them where one of its statistics is above the highest of all training windows. That is no proof
    of anything below: a window may be like them by these three numbers and show what the network has never seen.

    Args:
        highest: of each of ``STATISTICS``, over the training windows.
        represent: what makes the frames.

    Attributes:
        windows, unlike: windows so far, and those of them that are unlike the training's.
    """

    def __init__(self, highest: Mapping[str, float], represent: Representation) -> None:
        self.highest, self.represent = dict(highest), represent
        self.windows = self.unlike = 0
        self._most: dict[str, float] = {}  # the largest value of each that was above the highest

    def __call__(self, frame: np.ndarray, t_us: int, boxes: np.ndarray) -> None:
        """Take a window, as a ``Show``."""
        found = window_statistics(*self.represent.polarities(frame))
        above = {name: found[name] for name, limit in self.highest.items() if found[name] > limit}
        for name, value in above.items():
            self._most[name] = max(value, self._most.get(name, 0.0))
        self.windows, self.unlike = self.windows + 1, self.unlike + bool(above)

    def __str__(self) -> str:
        """One line for people; empty where every window is like the training's."""
        if not self.unlike:
            return ""
        reasons = ", ".join(
            f"up to {value:.2g} {STATISTICS[name]} ({self.highest[name]:.2g} at most in training)"
            for name, value in self._most.items()
        )
        trust = (
            "no box can be trusted" if 2 * self.unlike >= self.windows else "their boxes cannot be trusted"
        )
        return f"{self.unlike} of {self.windows} windows are unlike all of training, {reasons}: {trust}"

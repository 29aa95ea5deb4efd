"""The grid of preprocessed sequences: how long their windows are, how far apart, and where time is missing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from ssmbook.errors import InputError

if TYPE_CHECKING:
    from ssmbook.dataset.layout import Sequence

_WINDOW = re.compile(r"_(dt|ne)=([0-9.]+)(?:_|$)")  # in a representation's name


def stride_of(sequences: list[Sequence]) -> int | None:
    """The stride in µs of most windows, e.g. 50,000, or 125,000 on the published grid of Gen1.

    None where there are no two windows, and where fewer than half lie so far apart: no one time scale fits.
    """
    steps = _steps(sequences)
    stride = int(np.median(steps)) if len(steps) else None
    return stride if stride and _near(steps, stride).mean() >= 0.5 else None


def describe(sequences: list[Sequence]) -> str:
    """What sequences hold, in a line: how many windows, how long and how far apart, and labels.

    For example ``470 sequences, 561,220 windows of 50 ms every 125 ms (8 Hz), 112,710 of them labelled``. Where steps
    differ, as on the published grid of Gen1 before and after the first label, it says in how many and how far.
    """
    windows, labelled = sum(map(len, sequences)), sum(len(s.label_frames) for s in sequences)
    return (
        f"{len(sequences)} sequences, {windows:,} windows{_length(sequences)}{_every(sequences)}, "
        f"{labelled:,} of them labelled"
    )


def _steps(sequences: list[Sequence]) -> np.ndarray:
    """The times in µs from the end of each window to that of the next."""
    return np.concatenate([np.diff(s.timestamps_us) for s in sequences]) if sequences else np.empty(0)


def _near(steps: np.ndarray, stride: int) -> np.ndarray:
    return np.abs(steps - stride) <= 0.05 * stride


def _length(sequences: list[Sequence]) -> str:
    """How long windows are, as their folder's name tells."""
    match = _WINDOW.search(sequences[0].path.parent.name) if sequences else None
    if match is None:
        return ""
    return f" of {match[2]} ms" if match[1] == "dt" else f" of {int(float(match[2])):,} events"


def _every(sequences: list[Sequence]) -> str:
    """How far apart windows are."""
    steps, stride = _steps(sequences), stride_of(sequences)
    if len(steps) == 0:
        return ""
    if stride is None:
        return f" {steps.min() / 1000:g} to {steps.max() / 1000:g} ms apart"
    others = steps[~_near(steps, stride)]
    every = f" every {stride / 1000:g} ms ({1e6 / stride:.3g} Hz)"
    if len(others) == 0:
        return every
    return f"{every} but for {len(others):,} steps of {others.min() / 1000:g} to {others.max() / 1000:g} ms"


BASE_HZ = 20.0  # the paper trains with windows of 50 ms, one every 50 ms
BASE_MS = 1000 / BASE_HZ
MODES = ("held", "true", "sliding")


def window_and_stride(
    mode: str, rate_hz: float, trained: tuple[float, float] = (BASE_MS, BASE_MS)
) -> tuple[float, float]:
    """Window and stride in ms of one mode of running at ``rate_hz``.

    Args:
        mode: ``"held"``, ``"true"`` or ``"sliding"``; ``"traces"`` have no window, and are read as ``"sliding"`` is.
        rate_hz: windows a second; of ``"held"``, what they are short for.
        trained: window and stride in ms of the training.
    """
    fast, (window, stride) = 1000 / rate_hz, trained
    short = fast * (window / stride)
    settings = {
        "held": (short, stride),
        "true": (short, fast),
        "sliding": (window, fast),
        "traces": (window, fast),
    }
    if mode not in settings:
        raise InputError(
            f"there is no mode {mode!r} of running at another rate; the modes are {', '.join(MODES)}"
        )
    return settings[mode]

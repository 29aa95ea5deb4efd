"""What a stream looks like pixel by pixel: measures that tell a real stream from a simulated one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ssmbook.compiled import njit
from ssmbook.errors import InputError
from ssmbook.events.events import Events
from ssmbook.events.representations.base import check_placed

SUPPORT_US = 5000


@dataclass(frozen=True)
class PixelStatistics:
    """Measures of windows of one sensor, over all of them together.

    Attributes:
        seconds: total duration of the windows.
        rate_hz: events per pixel and second.
        on_share: share of ON events.
        silent_share: share of pixels without an event, the mean over the windows.
        busiest_share: share of a window's events that its busiest tenth of the pixels emits, weighted by events.
        interval_ms: median time between two successive events of one pixel within a window; NaN without any.
        supported_share: share of events with another event in the eight neighbouring pixels in the 5 ms before it.
        lorenz: [21] share of all events in the quietest 0, 5, … 100 % of the pixels.
        interval_quantiles_ms: [21] quantiles 0, 0.05, … 1 of the intervals.
    """

    seconds: float
    rate_hz: float
    on_share: float
    silent_share: float
    busiest_share: float
    interval_ms: float
    supported_share: float
    lorenz: np.ndarray
    interval_quantiles_ms: np.ndarray


def pixel_statistics(windows: Iterable[Events], width: int, height: int, window_us: int) -> PixelStatistics:
    """Statistics of windows of ``window_us`` each, from a sensor of width × height px.

    Raises:
        InputError: no window has an event, one has an event outside the sensor or out of order, or ``window_us`` is
            below 1.
    """
    if window_us < 1:
        raise InputError(f"window_us = {window_us}; it must be at least 1")
    pixels, shares = width * height, np.linspace(0, 1, 21)
    total = on = supported = busiest = n = 0
    silent, lorenz, intervals = 0.0, np.zeros(21), []
    for ev in windows:
        check_placed(ev, height, width)
        n += 1
        flat = ev.y.astype(np.int64) * width + ev.x
        counts = np.sort(np.bincount(flat, minlength=pixels))
        silent += float((counts == 0).mean())
        busiest += int(counts[-pixels // 10 :].sum())
        cumulative = np.concatenate([[0], np.cumsum(counts)])
        lorenz += cumulative[np.rint(shares * pixels).astype(int)]
        order = np.argsort(flat, kind="stable")
        intervals.append(np.diff(ev.t[order])[np.diff(flat[order]) == 0])
        supported += _supported(ev.t, ev.x, ev.y, width, height, SUPPORT_US)
        total, on = total + len(ev), on + int(ev.p.sum(dtype=np.int64))
    if not total:
        raise InputError("no window has an event; give windows of a recording that moves")
    between = np.concatenate(intervals) / 1000
    quantiles = np.quantile(between, shares) if len(between) else np.full(21, np.nan)
    return PixelStatistics(
        seconds=n * window_us / 1e6,
        rate_hz=total / (n * window_us / 1e6) / pixels,
        on_share=on / total,
        silent_share=silent / n,
        busiest_share=busiest / total,
        interval_ms=float(quantiles[10]),
        supported_share=supported / total,
        lorenz=lorenz / total,
        interval_quantiles_ms=quantiles,
    )


@njit(nogil=True)
def _supported(t, x, y, width, height, within):
    """How many events have an earlier one in the eight pixels around theirs, at most ``within`` before."""
    last = np.full((height + 2, width + 2), -(2**62), np.int64)
    count = 0
    for i in range(len(t)):
        row, column, near = np.int64(y[i]) + 1, np.int64(x[i]) + 1, False
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if (dy != 0 or dx != 0) and t[i] - last[row + dy, column + dx] <= within:
                    near = True
        count += near
        last[row, column] = t[i]
    return count

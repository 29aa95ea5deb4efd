"""Events of a window to a dense tensor: what the detector sees.

Both representations cut a window into bins by the stamps of its first and last event, t₀ and t₁, not by
the window's own ends. The released preprocessing computes the bins in float32, and ours round where it does,
so that the bytes are equal; the one exception is its 8-bit sums, which wrap where ours are exact.
Source: Zubić et al., "State Space Models for Event Cameras", CVPR 2024, and RVT, CVPR 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba import njit

from ssmbook.errors import InputError
from ssmbook.events.events import Events


@njit(nogil=True, cache=True)
def _quotient(t, t0, span):
    """(t − t₀) / (t₁ − t₀), each difference rounded to float32 first."""
    return np.float32(t - t0) / np.float32(span)


@njit(nogil=True, cache=True)
def stacked_histogram_kernel(t, x, y, p, bins, cutoff, out):
    """Count events into ``out`` uint8 [2·bins, H, W], which is cleared first.

    b = min(⌊bins · (t − t₀) / max(t₁ − t₀, 1)⌋, bins − 1), channel = polarity · bins + b, and a count
    stays at ``cutoff`` (at most 255) once it gets there.

    Returns the index of the first event outside the frame or out of order, where it stops; −1 without one.
    """
    _, H, W = out.shape
    out[:] = 0
    if len(t) == 0:
        return -1
    t0, span = t[0], max(t[-1] - t[0], 1)
    n = np.float32(bins)
    for i in range(len(t)):
        if x[i] >= W or y[i] >= H or t[i] < t[max(i - 1, 0)]:
            return i
        b = int(min(n * _quotient(t[i], t0, span), n - np.float32(1)))
        channel = b + bins if p[i] > 0 else b
        if out[channel, y[i], x[i]] < cutoff:
            out[channel, y[i], x[i]] += 1
    return -1


@njit(nogil=True, cache=True)
def mixed_density_kernel(t, x, y, p, bins, cutoff, out):
    """Sum polarities ±1 into ``out`` int8 [bins, H, W], whose later bins are short and hold all before them.

    s = clip((t − t₀) / max(t₁ − t₀, 1), 1e-6, 1 − 1e-6), b = ⌊max(bins − ln s / ln ½, 0)⌋; channel i is the
    sum of bins 0..i, clamped to ±``cutoff`` (at most 127).

    Returns the index of the first event outside the frame or out of order, where it stops; −1 without one.
    """
    _, H, W = out.shape
    out[:] = 0
    if len(t) == 0:
        return -1
    sums = np.zeros((bins, H, W), np.int32)
    t0, span = t[0], max(t[-1] - t[0], 1)
    n, ln_half = np.float32(bins), np.float32(math.log(0.5))
    least, most = np.float32(1e-6), np.float32(1 - 1e-6)
    for i in range(len(t)):
        if x[i] >= W or y[i] >= H or t[i] < t[max(i - 1, 0)]:
            return i
        s = min(max(_quotient(t[i], t0, span), least), most)
        # The logarithm in float64, rounded once, is the same on every machine.
        depth = np.float32(math.log(np.float64(s))) / ln_half
        b = min(int(max(n - depth, np.float32(0))), bins - 1)  # many bins: n − depth may round up to n
        sums[b, y[i], x[i]] += 1 if p[i] > 0 else -1
    for b in range(bins):
        for row in range(H):
            for column in range(W):
                if b > 0:
                    sums[b, row, column] += sums[b - 1, row, column]
                out[b, row, column] = min(max(sums[b, row, column], -cutoff), cutoff)
    return -1


@dataclass(frozen=True)
class Representation:
    """What the two have in common: the frame, the bins, and a kernel that fills an array."""

    name: ClassVar[str]
    dtype: ClassVar[np.dtype]
    #: kernel(t, x, y, p, bins, cutoff, out) → index of the first misplaced event, or −1
    kernel: ClassVar[Callable[..., int]]

    bins: int = 10
    height: int = 240
    width: int = 304
    count_cutoff: int = 10

    def __post_init__(self) -> None:
        for field in ("bins", "height", "width"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} = {getattr(self, field)}; it must be at least 1")
        most = np.iinfo(self.dtype).max
        if not 1 <= self.count_cutoff <= most:
            raise InputError(f"count_cutoff = {self.count_cutoff}; it must be 1 to {most}")

    @property
    def channels(self) -> int:
        return self.bins

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def __call__(self, ev: Events) -> np.ndarray:
        """The window's tensor [channels, height, width]; all zero without events."""
        out = np.empty(self.shape, self.dtype)
        self.fill(ev, out)
        return out

    def fill(self, ev: Events, out: np.ndarray) -> None:
        """The same into ``out``, an array (or a frame of one) of that shape and dtype."""
        bad = self.kernel(ev.t, ev.x, ev.y, ev.p, self.bins, self.count_cutoff, out)
        if bad >= 0:
            raise InputError(_misplaced(ev, bad, self.height, self.width))

    def folder_name(self, window_ms: float | None = None, window_events: int | None = None) -> str:
        """The name of its folder in the published layout, for windows by duration or by count."""
        if (window_ms is None) == (window_events is None):
            raise InputError(f"window_ms = {window_ms}, window_events = {window_events}; give one of the two")
        window = f"dt={window_ms:g}" if window_ms is not None else f"ne={window_events}"
        return f"{self.name}_{window}_nbins={self.bins}"


@dataclass(frozen=True)
class StackedHistogram(Representation):
    """Counts per pixel, time bin and polarity: events of a window → uint8 [2·bins, height, width].

    Channel p·bins + b holds the events of polarity p in bin b; a count stays at ``count_cutoff``.
    The folder is named as ``stacked_histogram_dt=50_nbins=10``.

    Args:
        bins: equal time bins between the window's first and last event.
        height, width: the frame in px; by default Gen1's.
        count_cutoff: 1 to 255.

    Raises:
        InputError: an argument is out of range; when called, an event lies outside the frame or is
            earlier than the one before it (the message has its index).
    """

    name = "stacked_histogram"
    dtype = np.dtype(np.uint8)
    kernel = staticmethod(stacked_histogram_kernel)

    @property
    def channels(self) -> int:
        return 2 * self.bins


@dataclass(frozen=True)
class MixedDensityStack(Representation):
    """Polarity per pixel, summed over ever longer stretches: events of a window → int8 [bins, height, width].

    Channel bins − 1 sums ±1 over the whole window, channel bins − 1 − k over its first 2⁻ᵏ.
    The folder is named as ``mixeddensity_stack_dt=50_nbins=10_cutoff=32``.

    Args:
        bins, height, width: as in StackedHistogram.
        count_cutoff: sums are clamped to ± this, 1 to 127.

    Raises:
        InputError: as in StackedHistogram.
    """

    name = "mixeddensity_stack"
    dtype = np.dtype(np.int8)
    kernel = staticmethod(mixed_density_kernel)

    count_cutoff: int = 32

    def folder_name(self, window_ms: float | None = None, window_events: int | None = None) -> str:
        return f"{Representation.folder_name(self, window_ms, window_events)}_cutoff={self.count_cutoff}"


#: By the names that the published layout gives them.
REPRESENTATIONS: dict[str, type[Representation]] = {
    representation.name: representation for representation in (StackedHistogram, MixedDensityStack)
}


def _misplaced(ev: Events, i: int, height: int, width: int) -> str:
    t, x, y = int(ev.t[i]), int(ev.x[i]), int(ev.y[i])
    if x >= width or y >= height:
        return f"event {i} at x={x}, y={y} lies outside the {width} × {height} frame; give the sensor's size"
    return f"event {i} at {t} µs is earlier than the one before it; make the stamps a running maximum first"

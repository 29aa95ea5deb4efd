"""Events of a window to a dense tensor: what the detector sees.

Both representations cut a window into bins by the stamps of its first and last event, t₀ and t₁, not by
the window's own ends. The released preprocessing computes the bins in float32, and ours round where it does,
so that the bytes are equal; the one exception is its 8-bit sums, which wrap where ours are exact.
Source: Zubić et al., "State Space Models for Event Cameras", CVPR 2024, and RVT, CVPR 2023.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssmbook.compiled import njit
from ssmbook.errors import InputError
from ssmbook.events.events import Events
from ssmbook.events.representations.base import Representation, check_placed

_AT_ONCE = 4096


@njit(nogil=True)
def _quotient(t, t0, span):
    """(t − t₀) / (t₁ − t₀), each difference rounded to float32 first."""
    return np.float32(t - t0) / np.float32(span)


@njit(nogil=True)
def _histogram_bin(t, t0, span, bins):
    """b = min(⌊bins · (t − t₀) / (t₁ − t₀)⌋, bins − 1)."""
    n = np.float32(bins)
    return int(min(n * _quotient(t, t0, span), n - np.float32(1)))


@njit(nogil=True)
def _density_bin(t, t0, span, bins):
    """s = clip((t − t₀) / (t₁ − t₀), 1e-6, 1 − 1e-6), b = ⌊max(bins − ln s / ln ½, 0)⌋."""
    n, ln_half = np.float32(bins), np.float32(math.log(0.5))
    s = min(max(_quotient(t, t0, span), np.float32(1e-6)), np.float32(1 - 1e-6))
    # The logarithm in float64, rounded once, is the same on every machine.
    depth = np.float32(math.log(np.float64(s))) / ln_half
    return min(int(max(n - depth, np.float32(0))), bins - 1)  # many bins: n − depth may round up to n


@njit(nogil=True)
def _count_halved(x, y, p, b, cutoff, out):
    """Count the events of bin b whose row and column are odd.

    Their places are gathered first, without a branch: three events in four drop out, at random, and a branch
    on that would be mispredicted.
    """
    channels, height, width = out.shape
    counts = out.reshape(-1)
    bin_start, polarity = np.uint32(b * height * width), np.uint32(channels // 2 * height * width)
    places = np.empty(_AT_ONCE, np.uint32)
    for start in range(0, len(x), _AT_ONCE):
        n = np.uint64(0)
        for k in range(start, min(start + _AT_ONCE, len(x))):
            row = np.uint32(y[k] >> 1) * np.uint32(width)
            places[n] = bin_start + np.uint32(p[k] > 0) * polarity + row + np.uint32(x[k] >> 1)
            n += np.uint64(x[k] & y[k] & 1)
        for place in places[:n]:
            counts[place] += counts[place] < cutoff


@njit(nogil=True)
def stacked_histogram_kernel(t, x, y, p, t0, span, halve, cutoff, out):
    """Count events into ``out`` uint8 [2·bins, H, W]: a count saturates at ``cutoff``.

    Both kernels: the events are in order and inside the frame, t₀ ≤ t ≤ t₀ + span. ``halve`` keeps pixels
    2i + 1. Stamps grow and every rounding is monotone, so bins are runs of events: where one ends is found by
    bisection, and the loop over its events needs no stamps.
    """
    bins = out.shape[0] // 2
    i = 0
    while i < len(t):
        b = _histogram_bin(t[i], t0, span, bins)
        low, end = i + 1, len(t)
        while low < end:
            middle = (low + end) // 2
            if _histogram_bin(t[middle], t0, span, bins) == b:
                low = middle + 1
            else:
                end = middle
        if halve:
            _count_halved(x[i:end], y[i:end], p[i:end], b, cutoff, out)
        else:
            for k in range(i, end):
                channel = b + bins * (p[k] > 0)
                count = out[channel, y[k], x[k]]
                out[channel, y[k], x[k]] = count + (count < cutoff)
        i = end


@njit(nogil=True)
def mixed_density_kernel(t, x, y, p, t0, span, halve, cutoff, out, sums, done):
    """Add polarities ±1 to ``sums`` int32 [H, W], and keep them, clamped, in ``out`` [bins, H, W] as bins end.

    Channel i is the sum of bins 0..i, so one frame of sums that grows with time serves them all. ``done``
    of the channels are written; returns how many are then.
    """
    bins = len(out)
    i = 0
    while i < len(t):
        b = _density_bin(t[i], t0, span, bins)
        low, end = i + 1, len(t)
        while low < end:
            middle = (low + end) // 2
            if _density_bin(t[middle], t0, span, bins) == b:
                low = middle + 1
            else:
                end = middle
        keep_sums(sums, cutoff, out[done:b])
        done = max(done, b)
        for k in range(i, end):
            if not halve:
                sums[y[k], x[k]] += 1 if p[k] > 0 else -1
            elif x[k] & y[k] & 1:
                sums[y[k] >> 1, x[k] >> 1] += 1 if p[k] > 0 else -1
        i = end
    return done


@njit(nogil=True)
def keep_sums(sums, cutoff, channels):
    """Write the sums [H, W], clamped to ± ``cutoff``, to each of the channels [n, H, W]."""
    for c in range(len(channels)):
        for row in range(sums.shape[0]):
            for column in range(sums.shape[1]):
                channels[c, row, column] = min(max(sums[row, column], -cutoff), cutoff)


@dataclass(frozen=True)
class WindowedRepresentation(Representation):
    """A representation of a window's events: the frame, the bins, and how an array is filled."""

    windowed = True

    bins: int = 10
    height: int = 240
    width: int = 304
    count_cutoff: int = 10
    halve: bool = False

    def __post_init__(self) -> None:
        for field in ("bins", "height", "width"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} = {getattr(self, field)}; it must be at least 1")
        high = np.iinfo(self.dtype).max
        if not 1 <= self.count_cutoff <= high:
            raise InputError(f"count_cutoff = {self.count_cutoff}; it must be 1 to {high}")

    @property
    def channels(self) -> int:
        return self.bins

    @property
    def options(self) -> dict[str, Any]:
        return {"bins": self.bins, "count_cutoff": self.count_cutoff}

    def __call__(self, ev: Events) -> np.ndarray:
        """The window's tensor [channels, height, width] (halved if ``halve``); all zero without events."""
        out = np.empty(self.shape, self.dtype)
        self.fill(ev, out)
        return out

    def fill(self, ev: Events, out: np.ndarray) -> None:
        """The same into ``out``, an array (or a frame of one) of that shape and dtype; InputError for another."""
        if not isinstance(ev, Events):  # columns of the caller's own
            ev = Events(ev.t, ev.x, ev.y, ev.p)
        check_placed(ev, self.height, self.width)
        self.write_frame([ev], 0, out)

    def write_frame(self, parts: Sequence[Events], t_us: int, out: np.ndarray) -> None:
        self.check_frame(out)
        parts = [part for part in parts if len(part)]
        out[:] = 0
        if parts:
            t0 = parts[0].t[0]
            self._add(parts, t0, max(parts[-1].t[-1] - t0, 1), out)

    def advance(self, parts: Sequence[Events]) -> None:
        raise InputError(f"{self.name} is made of windows; give write_frame the events of one")

    def reset(self) -> None:
        pass  # each window stands alone

    @abstractmethod
    def _add(self, parts: Sequence[Events], t0: int, span: int, out: np.ndarray) -> None:
        """Fill ``out``, which is zero, with parts that are not empty."""

    def folder_name(self, window_ms: float | None = None, window_events: int | None = None) -> str:
        if window_ms is not None and window_events is not None:
            raise InputError(
                f"window_ms = {window_ms}, window_events = {window_events}; give one of the two, or none"
            )
        window = "dt=step" if window_ms is None else f"dt={window_ms:g}"
        window = window if window_events is None else f"ne={window_events}"
        return f"{self.name}_{window}_nbins={self.bins}"


@dataclass(frozen=True)
class StackedHistogram(WindowedRepresentation):
    """Counts per pixel, time bin and polarity: events of a window → uint8 [2·bins, height, width].

    Channel p·bins + b holds the events of polarity p in bin b; a count saturates at ``count_cutoff``.
    The folder is named as ``stacked_histogram_dt=50_nbins=10``.

    Args:
        bins: equal time bins between the window's first and last event.
        height, width: the frame in px; by default Gen1's.
        count_cutoff: 1 to 255.
        halve: keep pixels 2i + 1 of rows and columns, which is nearest-exact at half size: frames are
            [2·bins, height // 2, width // 2]. The bins are those of all events.

    Raises:
        InputError: an argument is out of range; when called, an event lies outside the frame or is
            earlier than the one before it (the message has its index).
    """

    name = "stacked_histogram"
    dtype = np.dtype(np.uint8)

    @property
    def channels(self) -> int:
        return 2 * self.bins

    def _add(self, parts: Sequence[Events], t0: int, span: int, out: np.ndarray) -> None:
        for ev in parts:
            stacked_histogram_kernel(ev.t, ev.x, ev.y, ev.p, t0, span, self.halve, self.count_cutoff, out)


@dataclass(frozen=True)
class MixedDensityStack(WindowedRepresentation):
    """Polarity per pixel, summed over ever longer stretches: events of a window → int8 [bins, height, width].

    Channel bins − 1 sums ±1 over the whole window, channel bins − 1 − k over its first 2⁻ᵏ.
    The folder is named as ``mixeddensity_stack_dt=50_nbins=10_cutoff=32``.

    Args:
        bins, height, width: as in StackedHistogram.
        count_cutoff: sums are clamped to ± this, 1 to 127.
        halve: as in StackedHistogram.

    Raises:
        InputError: as in StackedHistogram.
    """

    name = "mixeddensity_stack"
    dtype = np.dtype(np.int8)

    count_cutoff: int = 32

    def polarities(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole = frame[-1].astype(np.int64)
        return np.maximum(-whole, 0), np.maximum(whole, 0)

    def folder_name(self, window_ms: float | None = None, window_events: int | None = None) -> str:
        return f"{super().folder_name(window_ms, window_events)}_cutoff={self.count_cutoff}"

    def _add(self, parts: Sequence[Events], t0: int, span: int, out: np.ndarray) -> None:
        sums, done = np.zeros(out.shape[1:], np.int32), 0
        for ev in parts:
            done = mixed_density_kernel(
                ev.t, ev.x, ev.y, ev.p, t0, span, self.halve, self.count_cutoff, out, sums, done
            )
        keep_sums(sums, self.count_cutoff, out[done:])

"""The pixel of an event camera: it reports when its log intensity has changed by a threshold.

    ON at t_k if L(t_k) = L_ref + θ_on, OFF if L(t_k) = L_ref − θ_off; then L_ref ← L(t_k).

Source: Lichtsteiner et al., "A 128 × 128 120 dB 15 µs latency asynchronous temporal contrast vision sensor",
IEEE JSSC 2008, for the principle; thresholds differ from pixel to pixel, a pixel rests after each event, and
some events have no cause.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from ssmbook.errors import InputError
from ssmbook.events.events import Events


@dataclass(frozen=True)
class PixelModel:
    """The sensor's pixels.

    Args:
        threshold: mean of θ in log intensity, for both polarities.
        spread: standard deviation of θ between pixels, relative to it.
        refractory_us: a crossing within this time after a pixel's last event makes no event.
        noise_hz: events per second and pixel without a cause.
        hot_share, hot_hz: share of hot pixels, and their rate of causeless events.
    """

    threshold: float = 0.25
    spread: float = 0.05
    refractory_us: int = 500
    noise_hz: float = 0.3
    hot_share: float = 2e-4
    hot_hz: float = 100.0

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise InputError(f"pixel: threshold is {self.threshold}; it must be above 0")
        for name in ("spread", "refractory_us", "noise_hz", "hot_share", "hot_hz"):
            if not getattr(self, name) >= 0:
                raise InputError(f"pixel: {name} is {getattr(self, name)}; it must be at least 0")


class PixelArray:
    """The pixels of one sensor, with what they remember.

    Args:
        pixel: their model.
        start: log intensity [H, W] at time 0; every pixel's reference lies within a threshold of it, at random,
            so that pixels do not fire all at once.
        rng: draws thresholds, references, hot pixels and noise.
    """

    def __init__(self, pixel: PixelModel, start: np.ndarray, rng: np.random.Generator) -> None:
        self.pixel, self.rng, shape = pixel, rng, start.shape
        spread = 1 + pixel.spread * rng.standard_normal((2, *shape))
        self.thresholds = (pixel.threshold * np.maximum(spread, 0.2)).astype(np.float32)  # OFF, ON
        self.level = start.astype(np.float32)
        self.reference = self.level + (rng.uniform(-0.5, 0.5, shape) * pixel.threshold).astype(np.float32)
        self.last_us = np.full(shape, -(2**62), np.int64)
        self.hot = np.flatnonzero(rng.random(shape) < pixel.hot_share)

    def expose(self, levels: np.ndarray, t0_us: int, t1_us: int) -> Events:
        """Events in [t0, t1) while log intensity goes through ``levels`` [K, H, W] in equal steps, in a straight line
        between one and the next, from where it was at t0 to the last of them at t1. Sorted by time."""
        caused = cross(
            levels,
            t0_us,
            t1_us,
            self.level,
            self.reference,
            self.thresholds,
            self.last_us,
            self.pixel.refractory_us,
        )
        self.level = levels[-1].copy()
        t, y, x, p = (
            np.concatenate(columns) for columns in zip(caused, self._noise(t0_us, t1_us), strict=True)
        )
        order = np.argsort(t, kind="stable")
        return Events(t[order], x[order], y[order], p[order])

    def _noise(self, t0_us: int, t1_us: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Events without a cause: t, y, x, p."""
        rng, size, seconds = self.rng, self.level.size, (t1_us - t0_us) / 1e6
        anywhere = rng.integers(size, size=rng.poisson(self.pixel.noise_hz * size * seconds))
        hot = (
            self.hot[
                rng.integers(len(self.hot), size=rng.poisson(self.pixel.hot_hz * len(self.hot) * seconds))
            ]
            if len(self.hot)
            else self.hot
        )
        where = np.concatenate([anywhere, hot])
        y, x = np.divmod(where, self.level.shape[1])
        return rng.integers(t0_us, t1_us, size=len(where)), y, x, rng.integers(0, 2, size=len(where))


@njit(cache=True, nogil=True)
def cross(levels, t0_us, t1_us, level, reference, thresholds, last_us, refractory_us):
    """All threshold crossings of ``PixelArray.expose``: arrays t, y, x, p in the order of steps and pixels.

    ``reference`` and ``last_us`` are carried on in place; ``level`` is where intensity starts. A crossing in the
    refractory time moves the reference, and makes no event.
    """
    K, H, W = levels.shape
    size = 4 * H * W
    t, y, x, p = (
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
        np.empty(size, np.int64),
    )
    count = 0
    step = (t1_us - t0_us) / K
    for k in range(K):
        start = t0_us + k * step
        before = level if k == 0 else levels[k - 1]
        for j in range(H):
            for i in range(W):
                b, here = levels[k, j, i], reference[j, i]
                if here - thresholds[0, j, i] < b < here + thresholds[1, j, i]:
                    continue  # as nearly all do
                a = before[j, i]
                polarity = 1 if b > a else 0
                theta = thresholds[polarity, j, i] if polarity else -thresholds[polarity, j, i]
                while a != b and (
                    (b >= reference[j, i] + theta) if polarity else (b <= reference[j, i] + theta)
                ):
                    reference[j, i] += theta
                    share = min(max((reference[j, i] - a) / (b - a), 0.0), 1.0)
                    stamp = min(int(start + share * step), t1_us - 1)
                    if stamp - last_us[j, i] < refractory_us:
                        continue
                    last_us[j, i] = stamp
                    if count == size:
                        t, y, x, p = (np.append(t, t), np.append(y, y), np.append(x, x), np.append(p, p))
                        size *= 2
                    t[count], y[count], x[count], p[count] = stamp, j, i, polarity
                    count += 1
    return t[:count], y[:count], x[:count], p[:count]

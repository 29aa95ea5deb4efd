"""The pixels of one sensor and what they remember: from log intensity to events."""

from __future__ import annotations

import numpy as np

from ssmbook.events.events import Events
from ssmbook.events.simulate.crossing import Cutoff, cross, front_end
from ssmbook.events.simulate.pixel import SHOT_AT_WHITE, PixelModel
from ssmbook.events.simulate.readout import Columns, Readout

_NORMALS = 1 << 16  # threshold deviations drawn once and used round and round


class PixelArray:
    """The pixels of one sensor.

    Args:
        pixel: their model.
        start: log intensity [H, W] at time 0; every pixel's reference lies within a threshold of it, at random,
            so that pixels do not fire all at once.
        rng: draws thresholds, references, hot pixels, noise and delays.
        time_us: of the start, where it is not 0.
    """

    def __init__(
        self, pixel: PixelModel, start: np.ndarray, rng: np.random.Generator, time_us: int = 0
    ) -> None:
        self.pixel, self.rng, shape = pixel, rng, start.shape
        spread = 1 + pixel.spread * rng.standard_normal((2, *shape))
        mean = np.array(pixel.thresholds)[:, None, None]
        self.thresholds = (mean * np.maximum(spread, 0.2)).astype(np.float32)  # OFF, ON
        self.level = start.astype(np.float32)  # that the comparators see
        self.reference = self.level + (rng.uniform(-0.5, 0.5, shape) * pixel.threshold).astype(np.float32)
        self.last_us = np.full(shape, -(2**62), np.int64)
        self.hot = np.flatnonzero(rng.random(shape) < pixel.hot_share)
        self.light = self.level.copy()  # log intensity on the pixels
        self.response = self.level.copy()  # behind the low-pass, before the leak
        self._start_us, self._current = time_us, self.thresholds.copy()
        self._rates = _rate_factors(pixel, shape, rng)
        factors = 1.0 if self._rates is None else self._rates.reshape(shape)
        self._leak = (
            pixel.leak_hz * self.thresholds[1].astype(np.float64) * factors
        )  # log intensity per second
        self._cutoff = Cutoff(pixel) if pixel.cutoff_hz else None
        self._buffer = np.zeros((0, *shape), np.float32)
        self._deviations = np.zeros(0, np.float32)
        if pixel.threshold_noise:
            normals = rng.standard_normal(_NORMALS)
            self._deviations = np.maximum(1 + pixel.threshold_noise * normals, 0.2).astype(np.float32)
        self._drawn = np.zeros(1, np.int64)
        self._readout = Readout(pixel, shape, rng)

    def expose(self, levels: np.ndarray, t0_us: int, t1_us: int) -> Events:
        """Events with stamps in [t0, t1) while log intensity goes through ``levels`` [K, H, W] in equal steps, linear
        between one and the next, from where it was at t0 to the last of them at t1. Sorted by time.

        Events that latency or the arbiter delays past t1 come with the next call.
        """
        levels = np.ascontiguousarray(levels, np.float32)
        seen = self._seen(levels, t0_us, t1_us)
        caused = cross(
            seen,
            t0_us,
            t1_us,
            self.level,
            self.reference,
            self._current,
            self.last_us,
            self.pixel.refractory_us,
            self.thresholds,
            self._deviations,
            self._drawn,
        )
        self.level = seen[-1].copy()
        self.light = levels[-1].copy()
        parts = zip(caused, self._noise(t0_us, t1_us), strict=True)
        t, y, x, p = (np.concatenate(columns) for columns in parts)
        order = np.argsort(t, kind="stable")
        t, y, x, p = self._readout.push((t[order], y[order], x[order], p[order]), t1_us)
        return Events(t, x, y, p)

    def _seen(self, levels: np.ndarray, t0_us: int, t1_us: int) -> np.ndarray:
        """What the comparators see: log intensity behind the low-pass, plus the leak as a ramp of its own."""
        if self._cutoff is None and not self.pixel.leak_hz:
            return levels
        step_s = (t1_us - t0_us) / len(levels) / 1e6
        if self._cutoff is None:
            times = (t0_us - self._start_us) / 1e6 + step_s * np.arange(1, len(levels) + 1)
            return (levels + times[:, None, None] * self._leak).astype(np.float32)
        decay, ramp = self._cutoff.coefficients(step_s)
        start_s = (t0_us - self._start_us) / 1e6
        table = (self._cutoff.low, self._cutoff.per_unit, decay, ramp)
        if len(self._buffer) < len(levels):  # kept, for fresh memory costs as much as the low-pass
            self._buffer = np.empty(levels.shape, np.float32)
        out = self._buffer[: len(levels)]
        front_end(levels, self.light, self.response, *table, self._leak, start_s, step_s, out)
        return out

    def _noise(self, t0_us: int, t1_us: int) -> Columns:
        """Events without a cause: t, y, x, p."""
        pixel, rng, size, seconds = self.pixel, self.rng, self.level.size, (t1_us - t0_us) / 1e6
        anywhere = rng.integers(size, size=rng.poisson(pixel.noise_hz * size * seconds))
        hot = self.hot
        if len(hot):
            hot = hot[rng.integers(len(hot), size=rng.poisson(pixel.hot_hz * len(hot) * seconds))]
        where = np.concatenate([anywhere, hot])
        t = rng.integers(t0_us, t1_us, size=len(where))
        if pixel.noise_on == 0.5:
            p = rng.integers(0, 2, size=len(where))
        else:
            p = (rng.random(len(where)) < pixel.noise_on).astype(np.int64)
        if pixel.shot_hz:
            shot = self._shot(seconds)
            where = np.concatenate([where, shot])
            t = np.concatenate([t, rng.integers(t0_us, t1_us, size=len(shot))])
            p = np.concatenate([p, rng.integers(0, 2, size=len(shot))])
        y, x = np.divmod(where, self.level.shape[1])
        return t, y, x, p

    def _shot(self, seconds: float) -> np.ndarray:
        """Pixels of shot noise: a Poisson process at the rate of a black pixel, thinned by intensity."""
        rng, size = self.rng, self.level.size
        if self._rates is None:
            where = rng.integers(size, size=rng.poisson(self.pixel.shot_hz * size * seconds))
        else:
            upto = np.cumsum(self._rates)
            draws = np.sort(rng.random(rng.poisson(self.pixel.shot_hz * upto[-1] * seconds)))  # a fast search
            where = np.minimum(np.searchsorted(upto, draws * upto[-1], side="right"), size - 1)
        intensity = np.exp(np.minimum(self.light.reshape(-1)[where] - self.pixel.white, 0.0))
        return where[rng.random(len(where)) < 1 - (1 - SHOT_AT_WHITE) * intensity]


def _rate_factors(pixel: PixelModel, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray | None:
    """By what each pixel's leak and shot noise rates differ from the median [H · W]; None if by nothing."""
    if not pixel.rate_spread:
        return None
    return 10 ** (pixel.rate_spread * rng.standard_normal(shape).reshape(-1))

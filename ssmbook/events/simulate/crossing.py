"""Kernels of the pixel: the low-pass before its comparators, and their threshold crossings."""

from __future__ import annotations

import numpy as np

from ssmbook.compiled import njit
from ssmbook.events.simulate.pixel import DARK, PixelModel

_BELOW_WHITE, _ABOVE_WHITE, _CELLS = 7.0, 3.0, 4096  # of the table over log intensity


class Cutoff:
    """The low-pass's coefficients as a table over log intensity; the nearest entry's cutoff is right within 0.13 %.

    Attributes:
        low: log intensity of the first entry.
        per_unit: entries per unit of log intensity.
    """

    def __init__(self, pixel: PixelModel) -> None:
        self.low = pixel.white - _BELOW_WHITE
        self.per_unit = _CELLS / (_BELOW_WHITE + _ABOVE_WHITE)
        intensity = np.exp(np.linspace(-_BELOW_WHITE, _ABOVE_WHITE, _CELLS + 1))  # of white
        self.omega = 2 * np.pi * pixel.cutoff_hz * (intensity + DARK) / (1 + DARK)  # rad/s
        self._step_s = -1.0
        self._coefficients: tuple[np.ndarray, np.ndarray] = self.omega, self.omega

    def coefficients(self, step_s: float) -> tuple[np.ndarray, np.ndarray]:
        """a = exp(−ω·step) and (1 − a) / (ω·step), float32 [4097] each: those of the exact solution of dy/dt = ω(u − y)
        for an input u that is linear over the step."""
        if step_s != self._step_s:
            x = self.omega * step_s
            self._coefficients = np.exp(-x).astype(np.float32), (-np.expm1(-x) / x).astype(np.float32)
            self._step_s = step_s
        return self._coefficients


@njit(nogil=True)
def front_end(levels, light, response, low, per_unit, decay, ramp, leak, start_s, step_s, out):
    """Log intensity [K, H, W] behind the low-pass, plus ``leak`` [H, W] · t, into ``out``.

    ``light`` and ``response`` [H, W] are those before the first step; ``response`` is carried on in place.
    Coefficients: see ``Cutoff``. All is float32, and without a branch, for SIMD.
    """
    K, H, W = levels.shape
    scale, offset = np.float32(per_unit), np.float32(0.5 - low * per_unit)
    first, last = np.float32(0), np.float32(len(decay) - 1)
    for k in range(K):
        before = light if k == 0 else levels[k - 1]
        t = np.float32(start_s + (k + 1) * step_s)
        for j in range(H):
            for i in range(W):
                u0, u1, y = before[j, i], levels[k, j, i], response[j, i]
                place = u1 * scale + offset
                place = first if place < first else place
                cell = np.uint32(last if place > last else place)
                y = u1 + decay[cell] * (y - u0) + ramp[cell] * (u0 - u1)
                response[j, i] = y
                out[k, j, i] = y + leak[j, i] * t


@njit(nogil=True)
def cross(
    levels, t0_us, t1_us, level, reference, current, last_us, refractory_us, thresholds, deviations, drawn
):
    """All threshold crossings of ``PixelArray.expose``: arrays t, y, x, p in the order of steps and pixels.

    ``reference`` and ``last_us`` are carried on in place; ``level`` is where intensity starts. A crossing in the
    refractory time moves the reference, and emits no event. ``current`` [2, H, W] are the thresholds of now: after
    each crossing those of the pixel become ``thresholds`` times the next of the ``deviations``, if there are any;
    ``drawn`` [1] counts these.
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
                if here - current[0, j, i] < b < here + current[1, j, i]:
                    continue  # as nearly all do
                a = before[j, i]
                polarity = 1 if b > a else 0
                theta = current[polarity, j, i] if polarity else -current[polarity, j, i]
                while a != b and (
                    (b >= reference[j, i] + theta) if polarity else (b <= reference[j, i] + theta)
                ):
                    reference[j, i] += theta
                    share = min(max((reference[j, i] - a) / (b - a), 0.0), 1.0)
                    if len(deviations):
                        deviation = deviations[drawn[0] % len(deviations)]
                        drawn[0] += 1
                        current[0, j, i] = thresholds[0, j, i] * deviation
                        current[1, j, i] = thresholds[1, j, i] * deviation
                        theta = current[polarity, j, i] if polarity else -current[polarity, j, i]
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

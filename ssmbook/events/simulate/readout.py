"""From the pixels to the stamps: latency with its jitter, and the arbiter that reads events out one after another."""

from __future__ import annotations

import numpy as np

from ssmbook.compiled import njit
from ssmbook.events.simulate.pixel import PixelModel

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # t, y, x, p, int64 each


def _empty() -> Columns:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)


class Readout:
    """What delays and drops events on their way out.

    Args:
        pixel: its ``latency_us``, ``jitter_us`` and ``readout_hz`` count.
        shape: (H, W).
        rng: draws the jitter.
    """

    def __init__(self, pixel: PixelModel, shape: tuple[int, ...], rng: np.random.Generator) -> None:
        self.pixel, self.rng, self.width = pixel, rng, shape[1]
        self.delays = bool(pixel.latency_us or pixel.jitter_us)
        self._late, self._unread = _empty(), _empty()  # past the last end: before, and behind the arbiter
        self._read_us = np.full(shape[0] * shape[1] if pixel.readout_hz else 0, -(2**62), np.int64)
        self._free_us = np.full(1, -(2.0**62))

    def push(self, columns: Columns, end_us: int) -> Columns:
        """The events with stamps before ``end_us``, sorted by time; others come later.

        Args:
            columns: events in order of time, none before the last ``end_us``.
        """
        if self.delays:
            t, y, x, p = columns
            jitter = self.pixel.jitter_us * self.rng.standard_normal(len(t))
            delay = np.maximum(np.rint(self.pixel.latency_us + jitter), 0).astype(np.int64)
            columns, self._late = _split(_joined(self._late, (t + delay, y, x, p)), end_us)
        if self.pixel.readout_hz:
            t, y, x, p = columns
            service_us = 1e6 / self.pixel.readout_hz
            read, kept = arbitrate(t, y * self.width + x, service_us, self._free_us, self._read_us)
            columns = (read[kept], y[kept], x[kept], p[kept])
            columns, self._unread = _split(_joined(self._unread, columns), end_us)
        return columns


def _joined(first: Columns, second: Columns) -> Columns:
    """Both, sorted by time."""
    t, y, x, p = (np.concatenate(pair) for pair in zip(first, second, strict=True))
    order = np.argsort(t, kind="stable")
    return t[order], y[order], x[order], p[order]


def _split(columns: Columns, end_us: int) -> tuple[Columns, Columns]:
    """The events before a time, and the others."""
    n = int(np.searchsorted(columns[0], end_us))
    t, y, x, p = columns
    return (t[:n], y[:n], x[:n], p[:n]), (t[n:], y[n:], x[n:], p[n:])


@njit(nogil=True)
def arbitrate(t, where, service_us, free_us, read_us):
    """When a single server reads each event out, first come first served.

    Args:
        t [N]: in µs, increasing. where [N]: index of the pixel.
        service_us: that an event keeps the arbiter busy.
        free_us [1], read_us [pixels]: when the arbiter is free again, and when each pixel's last event is read;
            both carried on in place.

    Returns:
        the times [N], and which events there are at all [N]: a pixel that still waits emits none.
    """
    read, kept = np.empty(len(t), np.int64), np.zeros(len(t), np.bool_)
    for n in range(len(t)):
        if read_us[where[n]] > t[n]:
            continue
        start = max(float(t[n]), free_us[0])
        free_us[0] = start + service_us
        read[n], kept[n] = int(start), True
        read_us[where[n]] = read[n]
    return read, kept

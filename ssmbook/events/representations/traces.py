"""Leaky integrators at every pixel: an input that does not depend on the rate at which it is read.

Each pixel, polarity and time constant τ_k has a state that every event raises by one and that decays in between:

    ds_k/dt = −s_k / τ_k + Σ_i δ(t − t_i)        s_k(t) = Σ_{t_i ≤ t} exp(−(t − t_i) / τ_k)

This is a diagonal linear ODE driven by impulses, solved exactly: a state-space layer before the network. A frame is the
same function of the past whenever it is read, so the detector may run at any rate on inputs that look as in training.

The state of a pixel is kept as it was at the pixel's own last event, and decays when the next one comes or, in a
copy, when it is read. What is computed for a pixel therefore depends on its events alone, not on how the stream was cut
or when it was read, and the results are equal to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssmbook.compiled import njit
from ssmbook.errors import InputError
from ssmbook.events.events import Events
from ssmbook.events.representations.base import Representation, check_placed

# With longer ones too, what has passed leaves trails that hide where an object is now.
TAUS_MS = (2.5, 5.0, 10.0, 20.0)

# exp(−dt/τ) = FAR[dt // 1024] · NEAR[dt % 1024]; after 64 of the longest time constants nothing is left (e⁻⁶⁴).
_SHIFT = 10
_NEAR_US = 1 << _SHIFT
_FORGOTTEN = 64

# round(16 ln(1 + s)) for s < 64 by a table: a cell of width 1/16 holds at most one step, since the first are
# e^(1.5/16) − e^(0.5/16) = 0.067 apart and the others further.
_CELLS = 16
_TABLE_END = 64.0
_STEPS = np.exp((np.arange(1, 257) - 0.5) / 16) - 1  # s from which the value is 1, 2, …
_VALUES = np.searchsorted(_STEPS, np.arange(_CELLS * int(_TABLE_END)) / _CELLS, side="right").astype(np.uint8)


@njit(nogil=True)
def push_kernel(t, x, y, p, halve, near, far, width, state):
    """Add events to ``state`` float64 [H · W · 2 · (K + 1)]: of each pixel and polarity s_1 … s_K, and their stamp."""
    taus = near.shape[1]
    for i in range(len(t)):
        row, column = np.int64(y[i]), np.int64(x[i])
        if halve:
            if not row & column & 1:
                continue
            row, column = row >> 1, column >> 1
        cell = ((row * width + column) * 2 + (p[i] > 0)) * (taus + 1)
        now = np.float64(t[i])  # exact below 2⁵³ µs, 285 years
        age = now - state[cell + taus]
        if age < len(far) * _NEAR_US:
            dt = np.int64(age)
            for k in range(taus):
                state[cell + k] = (
                    state[cell + k] * (far[dt >> _SHIFT, k] * near[dt & (_NEAR_US - 1), k]) + 1.0
                )
        else:
            for k in range(taus):
                state[cell + k] = 1.0
        state[cell + taus] = now


@njit(nogil=True)
def _quantise(s):
    """min(255, round(16 ln(1 + s)))."""
    if s < _TABLE_END:
        value = _VALUES[np.int64(s * _CELLS)]
        return np.uint8(value + (s >= _STEPS[value]))
    return np.uint8(min(255.0, math.floor(16 * math.log1p(s) + 0.5)))


@njit(nogil=True)
def read_kernel(now, near, far, state, out):
    """Write the values at time ``now``, no earlier than any event, to ``out`` uint8 [2K, H, W]."""
    taus = near.shape[1]
    pixels = out.reshape(len(out), -1)
    pixels[:] = 0
    longest = taus - 1  # of the longest time constant: the largest
    for cell in range(2 * pixels.shape[1]):
        start = cell * (taus + 1)
        age = now - state[start + taus]
        if age >= len(far) * _NEAR_US:
            continue
        dt = np.int64(age)
        a, b = far[dt >> _SHIFT], near[dt & (_NEAR_US - 1)]
        if state[start + longest] * (a[longest] * b[longest]) < _STEPS[0]:
            continue
        channel, pixel = (cell & 1) * taus, cell >> 1
        for k in range(taus):
            pixels[channel + k, pixel] = _quantise(state[start + k] * (a[k] * b[k]))


class Traces(Representation):
    """Leaky integrators per pixel, polarity and time constant: events in order → uint8 [2K, height, width] at any time.

    Channel p·K + k holds min(255, round(16 ln(1 + s_k))) of polarity p.

    Args:
        height, width: the sensor in px; by default Gen1's.
        taus_ms: time constants τ_k in ms, increasing.
        halve: keep pixels 2i + 1 of rows and columns, as for 1 Mpx: frames are [2K, height // 2, width // 2].

    Attributes:
        taus_ms: the time constants.
        shape: of a frame.

    Raises:
        InputError: an argument is out of range.
    """

    name = "traces"
    dtype = np.dtype(np.uint8)
    windowed = False

    def __init__(
        self, height: int = 240, width: int = 304, taus_ms: Sequence[float] = TAUS_MS, halve: bool = False
    ) -> None:
        for field, value in (("height", height), ("width", width)):
            if value < 1:
                raise InputError(f"{field} = {value}; it must be at least 1")
        self.height, self.width, self.halve = height, width, halve
        self.taus_ms = tuple(map(float, taus_ms))
        if not self.taus_ms or any(not 0.01 <= tau <= 10_000 for tau in self.taus_ms):
            raise InputError(f"taus_ms = {list(taus_ms)}; give time constants from 0.01 to 10,000 ms")
        if any(b <= a for a, b in zip(self.taus_ms, self.taus_ms[1:], strict=False)):
            raise InputError(f"taus_ms = {list(taus_ms)}; give them in increasing order")
        self._near, self._far = _decays(1000 * np.array(self.taus_ms))
        rows, columns = self.shape[1:]
        self._state = np.empty((rows * columns * 2, len(self.taus_ms) + 1))
        self.reset()

    @property
    def channels(self) -> int:
        return 2 * len(self.taus_ms)

    @property
    def options(self) -> dict[str, Any]:
        return {"taus_ms": list(self.taus_ms)}

    def folder_name(self, window_ms: float | None = None, window_events: int | None = None) -> str:
        if window_ms is not None or window_events is not None:
            raise InputError("traces have no window, only a stride; leave window_ms and window_events out")
        return f"{self.name}_taus={'-'.join(f'{tau:g}' for tau in self.taus_ms)}"

    def reset(self) -> None:
        """Forget all events: another recording begins."""
        self._state[:, :-1], self._state[:, -1] = 0, -np.inf
        self._last_us: int | None = None

    def push(self, ev: Events) -> None:
        """Take the next events, any number, in order of time.

        Raises:
            InputError: an event lies outside the frame or is earlier than one before it (the message has its index
                among these); none of them was taken.
        """
        if not isinstance(ev, Events):  # columns of the caller's own
            ev = Events(ev.t, ev.x, ev.y, ev.p)
        if len(ev) == 0:
            return
        check_placed(ev, self.height, self.width)
        if self._last_us is not None and ev.t[0] < self._last_us:
            raise InputError(
                f"event 0 at {ev.t[0]} µs is earlier than the last one, at {self._last_us} µs; push in order, or "
                "reset where another recording begins"
            )
        state = self._state.reshape(-1)
        push_kernel(ev.t, ev.x, ev.y, ev.p, self.halve, self._near, self._far, self.shape[2], state)
        self._last_us = int(ev.t[-1])

    def read(self, t_us: int, out: np.ndarray | None = None) -> np.ndarray:
        """The frame at a time, uint8 [2K, H, W]; what later reads give does not depend on it.

        Args:
            t_us: in µs, no earlier than the last event.
            out: array for the frame, contiguous; a new one if not given.

        Raises:
            InputError: an event later than that was pushed, or ``out`` has another shape or dtype.
        """
        if self._last_us is not None and t_us < self._last_us:
            raise InputError(
                f"cannot read at {t_us} µs: an event at {self._last_us} µs was pushed; read before later events come"
            )
        if out is None:
            out = np.empty(self.shape, self.dtype)
        self.check_frame(out)
        read_kernel(float(t_us), self._near, self._far, self._state.reshape(-1), out)
        return out

    def write_frame(self, parts: Sequence[Events], t_us: int, out: np.ndarray) -> None:
        self.advance(parts)
        self.read(t_us, out)

    def advance(self, parts: Sequence[Events]) -> None:
        for ev in parts:
            self.push(ev)


def _decays(taus_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """exp(−dt/τ) for dt = 0 … 1023 µs [1024, K], and for dt = 0, 1024, 2048, … µs [N, K]."""
    count = math.ceil(_FORGOTTEN * taus_us.max() / _NEAR_US)
    near = np.exp(-np.arange(_NEAR_US)[:, None] / taus_us)
    return near, np.exp(-_NEAR_US * np.arange(count)[:, None] / taus_us)

"""EVT3: 16-bit words that each change a part of what the next event is. Bits 12–15 say which:

0x0       y in bits 0–10
0x2       an event at x in bits 0–10 with polarity in bit 11
0x3       base of a vector: x in bits 0–10, polarity in bit 11
0x4, 0x5  vector of 12 or 8 bits: bit i is an event at base + i; then the base moves on by 12 or 8
0x6, 0x8  the stamp's bits 0–11 and 12–23

Triggers (0xA), continuations (0x7, 0xF) and the other types carry no camera events and are passed over. The
low stamp may step back a little, which is a late event and no lap; where it falls by more than half its range, the
high stamp that should have come is taken as read.
"""

from __future__ import annotations

import numpy as np

from ssmbook.compiled import njit
from ssmbook.events.formats.checks import laps
from ssmbook.events.formats.evt import EvtRecording

_ADDR_Y, _ADDR_X, _VECT_BASE_X, _VECT_12, _VECT_8, _TIME_LOW, _TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
_LOWS, _HIGHS = 1 << 12, 1 << 12


@njit(nogil=True)
def decode_evt3(words, state, t, x, y, p, n, wanted):
    """The kernel of Evt3Recording; the state is high stamp, lap, low stamp, row, vector base, its polarity.

    High stamp, row and base are −1 until a word gives them.
    """
    high, lap, low, row, base, polarity = state
    taken = len(words)
    for i in range(len(words)):
        if n >= wanted:
            taken = i
            break
        kind, value = words[i] >> 12, np.int64(words[i] & 0xFFF)
        if kind == _TIME_HIGH:
            lap = laps(value, high, lap, _HIGHS) if high >= 0 else 0
            if value != high:  # cameras repeat it
                high, low = value, 0  # a low part before the next one belongs to the old high part
        elif kind == _TIME_LOW:
            if low - value > _LOWS // 2 and high >= 0:
                lap, high = lap + (high + 1) // _HIGHS, (high + 1) % _HIGHS
            low = value
        elif kind == _ADDR_Y:
            row = value & 0x7FF
        elif kind == _VECT_BASE_X:
            base, polarity = value & 0x7FF, value >> 11
        elif kind == _ADDR_X and high >= 0 and row >= 0:
            stamp = ((lap * _HIGHS + high) << 12) + low
            t[n], x[n], y[n], p[n] = stamp, value & 0x7FF, row, value >> 11
            n += 1
        elif kind in (_VECT_12, _VECT_8) and base >= 0:
            bits = 12 if kind == _VECT_12 else 8
            stamp = ((lap * _HIGHS + high) << 12) + low
            for bit in range(bits):
                if (value >> bit) & 1 and high >= 0 and row >= 0:
                    t[n], x[n], y[n], p[n] = stamp, base + bit, row, polarity
                    n += 1
            base += bits
    state[:] = high, lap, low, row, base, polarity
    return n, taken


class Evt3Recording(EvtRecording):
    """Events of an EVT3 file. Events before the first high stamp or row lack a part and are left out."""

    format = "EVT3"
    word = np.dtype("<u2")
    most_events = 12
    kernel = staticmethod(decode_evt3)
    first_state = np.array([-1, 0, 0, -1, -1, 0])

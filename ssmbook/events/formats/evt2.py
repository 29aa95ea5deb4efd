"""EVT2: 32-bit words. Bits 28–31 say what a word is:

0x0, 0x1  an event of polarity 0 or 1: stamp bits 0–5 in bits 22–27, x in bits 11–21, y in bits 0–10
0x8       the stamp's bits 6–33 in bits 0–27

Triggers (0xA) and the other types carry no camera events and are passed over.
"""

from __future__ import annotations

import numpy as np

from ssmbook.compiled import njit
from ssmbook.events.formats.checks import laps
from ssmbook.events.formats.evt import EvtRecording

_TIME_HIGH = 0x8
_HIGHS = 1 << 28


@njit(nogil=True)
def decode_evt2(words, state, t, x, y, p, n, wanted):
    """The kernel of Evt2Recording; the state is the last high part (−1: none yet) and its lap."""
    high, lap = state
    for i in range(len(words)):
        if n >= wanted:
            state[:] = high, lap
            return n, i
        word = words[i]
        kind = word >> 28
        if kind == _TIME_HIGH:
            value = np.int64(word & 0xFFFFFFF)
            lap = laps(value, high, lap, _HIGHS) if high >= 0 else 0
            high = value
        elif kind <= 1 and high >= 0:
            t[n] = ((lap * _HIGHS + high) << 6) | ((word >> 22) & 0x3F)
            x[n] = (word >> 11) & 0x7FF
            y[n] = word & 0x7FF
            p[n] = kind
            n += 1
    state[:] = high, lap
    return n, len(words)


class Evt2Recording(EvtRecording):
    """Events of an EVT2 file. Events before the first time word have no stamp and are left out."""

    format = "EVT2"
    word = np.dtype("<u4")
    most_events = 1
    kernel = staticmethod(decode_evt2)
    first_state = np.array([-1, 0])

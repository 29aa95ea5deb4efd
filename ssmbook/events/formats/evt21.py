"""EVT2.1, the raw stream of GenX320: 64-bit words. Bits 60–63 say what a word is:

0x0, 0x1  up to 32 events of polarity 0 or 1: stamp bits 0–5 in bits 54–59, x in bits 43–53, y in bits 32–42; bit i
          of bits 0–31 is an event at x + i
0x8       the stamp's bits 6–33 in bits 32–59

Triggers (0xA) and the other types carry no camera events and are passed over. In the order that headers call
``endianness=legacy`` (IMX636) the two halves of each word are exchanged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssmbook.compiled import njit
from ssmbook.events.formats.checks import laps
from ssmbook.events.formats.evt import EvtRecording

_TIME_HIGH = 0x8
_HIGHS = 1 << 28
_SAMPLE = 1 << 16  # words that tell the order of the halves


@njit(nogil=True)
def decode_evt21(halves, state, t, x, y, p, n, wanted):
    """The kernel of Evt21Recording; the state is the last high part (−1: none yet), its lap, and the half of a
    word that says what it is."""
    high, lap, first = state
    for i in range(len(halves)):
        if n >= wanted:
            state[:2] = high, lap
            return n, i
        word, mask = halves[i, first], halves[i, 1 - first]
        kind = word >> 28
        if kind == _TIME_HIGH:
            value = np.int64(word & 0xFFFFFFF)
            lap = laps(value, high, lap, _HIGHS) if high >= 0 else 0
            high = value
        elif kind <= 1 and high >= 0:
            stamp = ((lap * _HIGHS + high) << 6) | ((word >> 22) & 0x3F)
            for bit in range(32):
                if (mask >> bit) & 1:
                    t[n], x[n], y[n], p[n] = stamp, ((word >> 11) & 0x7FF) + bit, word & 0x7FF, kind
                    n += 1
    state[:2] = high, lap
    return n, len(halves)


class Evt21Recording(EvtRecording):
    """Events of an EVT2.1 file. Events before the first time word have no stamp and are left out."""

    format = "EVT2.1"
    word = np.dtype(("<u4", 2))
    most_events = 32
    kernel = staticmethod(decode_evt21)
    first_state = np.array([-1, 0, 1])

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        super().__init__(path, width, height)
        offset, _ = self._marks[0].cursor
        if self._kind_half(offset) == 0:
            self._marks[0] = self._marks[0]._replace(cursor=(offset, np.array([-1, 0, 0])))

    def _kind_half(self, offset: int) -> int:
        """Which half of each word says what it is: as the header says, else as the time words show."""
        said = self._header.fields.get("format", "").lower()
        if "endianness=" in said:
            return 0 if "endianness=legacy" in said else 1
        self._file.seek(offset)
        halves: np.ndarray = np.fromfile(self._file, "<u4", 2 * _SAMPLE).reshape(-1, 2)
        # A time word has its kind in one half and nothing in the other, which no word has the other way round.
        count = [np.sum((halves[:, k] >> 28 == _TIME_HIGH) & (halves[:, 1 - k] == 0)) for k in (0, 1)]
        return 0 if count[0] > count[1] else 1

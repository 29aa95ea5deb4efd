"""What a recording holds, in one pass over it: rates over time, polarity, extent, gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssmbook.events.formats import Recording
from ssmbook.events.formats.checks import Faults
from ssmbook.progress import progress_bar

_BINS = 40
_FINEST_US = 1000


@dataclass(frozen=True)
class Summary:
    """What ``summarize`` found; times in µs."""

    format: str
    width: int | None
    height: int | None
    events: int  # inside the sensor
    on: int
    start_us: int
    end_us: int
    x_max: int
    y_max: int
    largest_gap_us: int
    gap_at_us: int  # where the largest gap begins
    bin_us: int  # of the counts over time
    counts: np.ndarray  # int64 [up to 40], events in consecutive bins from start_us on
    faults: Faults

    @property
    def seconds(self) -> float:
        """From the first event to the last."""
        return (self.end_us - self.start_us) / 1e6


def summarize(recording: Recording, progress: bool = False) -> Summary:
    """Read a recording to its end and describe it."""
    events = on = x_max = y_max = largest = at = last = 0
    bin_us, counts = _FINEST_US, np.zeros(_BINS, np.int64)
    with progress_bar(
        desc=recording.path.name, unit="event", unit_scale=True, show=progress, leave=False
    ) as bar:
        for block in recording.blocks():
            start = recording.start_us
            gaps = np.diff(block.t, prepend=last if events else block.t[:1])
            if gaps.max() > largest:
                i = int(np.argmax(gaps))
                largest, at = int(gaps[i]), int(block.t[i] - gaps[i])
            last = int(block.t[-1])
            while (last - start) // bin_us >= _BINS:
                counts = np.concatenate([counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)])
                bin_us *= 2
            counts += np.bincount((block.t - start) // bin_us, minlength=_BINS)
            events, on = events + len(block), on + int(block.p.sum(dtype=np.int64))
            x_max, y_max = max(x_max, int(block.x.max())), max(y_max, int(block.y.max()))
            bar.update(len(block))
    start, end = recording.start_us, recording.end_us
    used = (end - start) // bin_us + 1 if events else 0
    return Summary(
        *(recording.format, recording.width, recording.height, events, on, start, end, x_max, y_max),
        *(largest, at, bin_us, counts[:used], recording.faults),
    )

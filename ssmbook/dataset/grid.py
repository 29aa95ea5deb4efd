"""The grid of preprocessed sequences: how long their windows are, how far apart, and where time is missing."""

from __future__ import annotations

import re

import numpy as np

from ssmbook.dataset.layout import Sequence

_WINDOW = re.compile(r"_(dt|ne)=([0-9.]+)(?:_|$)")  # in a representation's name


def stride_of(sequences: list[Sequence]) -> int | None:
    """The stride in µs that sequences have in common, e.g. 50,000, or 125,000 on the published grid of Gen1.

    None where no sequence has two windows, and where strides differ by more than a twentieth: no one time scale fits.
    """
    strides = _strides(sequences)
    return int(np.median(strides)) if len(strides) and strides.max() <= 1.05 * strides.min() else None


def describe(sequences: list[Sequence]) -> str:
    """What sequences hold, in a line: how many windows, how long and how far apart, labels, and gaps.

    For example ``470 sequences, 561,220 windows of 50 ms every 125 ms (8 Hz), 112,710 of them labelled``.
    """
    windows, labelled = sum(map(len, sequences)), sum(len(s.label_frames) for s in sequences)
    parts = [
        f"{len(sequences)} sequences",
        f"{windows:,} windows{_length(sequences)}{_every(sequences)}",
        f"{labelled:,} of them labelled",
    ]
    if gaps := sum(len(s.gaps()) for s in sequences):
        parts.append(f"{gaps:,} gaps of more than 1.5 strides")
    return ", ".join(parts)


def _strides(sequences: list[Sequence]) -> np.ndarray:
    return np.array([stride for s in sequences if (stride := s.stride_us) is not None])


def _length(sequences: list[Sequence]) -> str:
    """How long windows are, as their folder's name tells."""
    match = _WINDOW.search(sequences[0].path.parent.name) if sequences else None
    if match is None:
        return ""
    return f" of {match[2]} ms" if match[1] == "dt" else f" of {int(float(match[2])):,} events"


def _every(sequences: list[Sequence]) -> str:
    strides = _strides(sequences) / 1000
    if len(strides) == 0:
        return ""
    if (stride := stride_of(sequences)) is not None:
        return f" every {stride / 1000:g} ms ({1e6 / stride:.3g} Hz)"
    return f" every {strides.min():g} to {strides.max():g} ms, which differs between sequences"

"""The events of an event camera as four columns: when, where, and brighter or darker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssmbook.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """N events, one array per column, all of length N.

    Other integer dtypes are converted; polarity −1/1 becomes 0/1.

    Raises:
        InputError: the columns differ in length, are not flat arrays of integers, or hold values that
            the types below cannot.
    """

    t: np.ndarray  # int64 [N], µs
    x: np.ndarray  # uint16 [N], column, from the left
    y: np.ndarray  # uint16 [N], row, from the top
    p: np.ndarray  # uint8 [N], 1 where the light grew, 0 where it fell

    def __post_init__(self) -> None:
        object.__setattr__(self, "t", _column("t", self.t, np.int64))
        object.__setattr__(self, "x", _column("x", self.x, np.uint16))
        object.__setattr__(self, "y", _column("y", self.y, np.uint16))
        p = np.asarray(self.p)
        object.__setattr__(
            self, "p", _column("p", p if p.dtype == np.uint8 else (p > 0).view(np.uint8), np.uint8)
        )
        lengths = [len(column) for column in (self.t, self.x, self.y, self.p)]
        if len(set(lengths)) > 1:
            raise InputError(f"the columns t, x, y, p have {lengths} values; give each event all four")

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, span: slice | np.ndarray) -> Events:
        """The events of a slice, as views, or those where a mask [N] is true."""
        return Events(self.t[span], self.x[span], self.y[span], self.p[span])

    @staticmethod
    def empty() -> Events:
        """No events."""
        return Events(
            np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.uint8)
        )

    @staticmethod
    def concatenate(parts: Sequence[Events]) -> Events:
        """The events of all parts one after another, in new arrays."""
        if not parts:
            return Events.empty()
        return Events(
            np.concatenate([part.t for part in parts]),
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.y for part in parts]),
            np.concatenate([part.p for part in parts]),
        )


def _column(name: str, values: np.ndarray, dtype: type) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1:
        raise InputError(f"column {name} has shape {values.shape}; give a flat array")
    if values.dtype == dtype:
        return np.ascontiguousarray(values)
    if values.dtype.kind not in "bui":
        raise InputError(f"column {name} holds {values.dtype}; give integers")
    limits = np.iinfo(dtype)
    if len(values) and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        i = int(np.argmax((values < limits.min) | (values > limits.max)))
        raise InputError(f"event {i} has {name} = {values[i]}; give {limits.min} to {limits.max}")
    return values.astype(dtype)

"""The events of an event camera as four columns: when, where, and brighter or darker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssmbook.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """N events, one array per column, all of length N.

    Other integer dtypes are converted. Polarity may be 0/1, −1/1, 0/255 or 1 beside a −1 that an unsigned type
    has wrapped (255, 65,535, …); it becomes 0/1.

    Raises:
        InputError: the columns differ in length, are not flat arrays of integers, or hold values that
            the types below cannot; polarity takes other values.
    """

    t: np.ndarray  # int64 [N], µs
    x: np.ndarray  # uint16 [N], column, from the left
    y: np.ndarray  # uint16 [N], row, from the top
    p: np.ndarray  # uint8 [N], 1 where the light grew, 0 where it fell

    def __post_init__(self) -> None:
        object.__setattr__(self, "t", _column("t", self.t, np.int64))
        object.__setattr__(self, "x", _column("x", self.x, np.uint16))
        object.__setattr__(self, "y", _column("y", self.y, np.uint16))
        object.__setattr__(self, "p", binary_polarity(self.p))
        lengths = [len(column) for column in (self.t, self.x, self.y, self.p)]
        if len(set(lengths)) > 1:
            raise InputError(f"the columns t, x, y, p have {lengths} values; give each event all four")

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, span: slice | np.ndarray) -> Events:
        """The events of a slice, as views, or those where a mask [N] is true."""
        return Events.trusted(self.t[span], self.x[span], self.y[span], self.p[span])

    @staticmethod
    def trusted(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> Events:
        """The same without a check, for columns that are known to have these dtypes, one length and polarity 0/1."""
        events = object.__new__(Events)
        for name, column in (("t", t), ("x", x), ("y", y), ("p", p)):
            object.__setattr__(events, name, np.ascontiguousarray(column))
        return events

    @staticmethod
    def empty() -> Events:
        """No events."""
        return Events.trusted(
            np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.uint8)
        )

    @staticmethod
    def concatenate(parts: Sequence[Events]) -> Events:
        """The events of all parts one after another, in new arrays."""
        if not parts:
            return Events.empty()
        return Events.trusted(
            np.concatenate([part.t for part in parts]),
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.y for part in parts]),
            np.concatenate([part.p for part in parts]),
        )


#: What −1 becomes in unsigned types.
_WRAPPED = frozenset((1 << bits) - 1 for bits in (8, 16, 32, 64))


def binary_polarity(values: np.ndarray, seen: set[int] | None = None) -> np.ndarray:
    """Polarity as uint8 [N], 1 for ON and 0 for OFF, from any of the ways to write it.

    {0, 1}, {−1, 1} and {0, 255} are what they seem; beside a 1, 255, 65,535, 2³² − 1 and 2⁶⁴ − 1 are a −1 that
    wrapped. 255 alone is ON.

    Args:
        values: integers or bool [N].
        seen: the values of the pieces before this one, which must agree with it; this piece's are added.

    Raises:
        InputError: other values; the message has them.
    """
    values = np.asarray(values)
    if values.ndim != 1:
        raise InputError(f"column p has shape {values.shape}; give a flat array")
    if values.dtype == bool:
        values = values.view(np.uint8)
    if values.dtype.kind not in "ui":
        raise InputError(f"column p holds {values.dtype}; give integers")
    before = seen if seen is not None else set()
    if len(values) == 0:
        return values.astype(np.uint8)
    low, high = int(values.min()), int(values.max())
    known = before | {low, high}
    if known <= {0, 1}:
        before.add(low)
        before.add(high)
        return np.ascontiguousarray(values, np.uint8)
    on = values == high
    if not np.all(on | (values == low)):
        known |= set(np.unique(values).tolist())
    meaning = _on_value(known)
    if meaning is None or (before and _on_value(before) != meaning and before != {0}):
        shown = ", ".join(map(str, sorted(known)[:8])) + (", …" if len(known) > 8 else "")
        raise InputError(f"polarity takes the values {shown}; write it as 0 and 1, −1 and 1, or 0 and 255")
    before.update((low, high))
    return (values == meaning).view(np.uint8)


def _on_value(values: set[int]) -> int | None:
    """Which of a recording's polarity values is ON; None where they are no polarity."""
    if values <= {0, 1} or values <= {-1, 1}:
        return 1
    if values <= {0, 255}:
        return 255
    return 1 if len(values) <= 2 and values - {1} <= _WRAPPED else None


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

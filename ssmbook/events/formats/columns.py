"""Columns under whatever names, units and order people give them: which is t, x, y, p, and in µs."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from ssmbook.errors import InputError, one_line
from ssmbook.events.formats.checks import LARGEST_STAMP_US

_NAMES = {
    "t": re.compile(
        r"(?:t|ts|time|times|timestamp|timestamps)(?:[ _]?[\[(]?(ns|us|µs|ms|s|sec|seconds)[\])]?)?"
    ),
    "x": re.compile(r"x|xs|x_?coordinate|column|col"),
    "y": re.compile(r"y|ys|y_?coordinate|row"),
    "p": re.compile(r"p|ps|pol|pols|polarity|polarities|on"),
}
_UNITS = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6, "sec": 1e6, "seconds": 1e6}
#: Between columns in a line of text.
SEPARATOR = re.compile(r"[,;\t ]\s*")
#: Orders of four columns without names, the usual one first.
_ORDERS = ("txyp", "xytp", "xypt", "tpxy", "txpy", "pxyt", "ptxy")
_POLARITIES = ({0, 1}, {-1, 1}, {0, 255})


def find_columns(names: Iterable[str]) -> dict[str, str] | None:
    """Which of the names is t, x, y and p; None where one is missing."""
    found: dict[str, str] = {}
    for name in names:
        for column, pattern in _NAMES.items():
            if pattern.fullmatch(name.strip().lower()):
                found.setdefault(column, name)
    return found if len(found) == len(_NAMES) else None


def stated_scale(name: str) -> float | None:
    """µs in a unit of a column called ``timestamp_ns`` or ``t [s]``; None where the name has no unit."""
    match = _NAMES["t"].fullmatch(name.strip().lower())
    return _UNITS[match[1]] if match and match[1] else None


def find_scale(sample: np.ndarray) -> float:
    """µs in a unit of stamps that do not say it: integers are µs, numbers with a fraction are seconds."""
    if sample.dtype.kind != "f":
        return 1.0
    values = sample[np.isfinite(sample)]
    return 1e6 if np.any(values % 1) or (len(values) == 1 and values[0] == 0) else 1.0


def find_order(sample: np.ndarray) -> str:
    """The order of four columns [N, 4] without names, as "txyp": stamps grow in it, and polarity takes two values.

    Raises:
        InputError: in no order.
    """
    # Where only polarity speaks against the usual order, it is that, and the reader will name the values.
    for polarities, orders in ((_POLARITIES, _ORDERS), (None, _ORDERS[:1])):
        for order in orders:
            t, x, y, p = (sample[:, order.index(name)] for name in "txyp")
            binary = polarities is None or any(set(np.unique(p).tolist()) <= each for each in polarities)
            if binary and _are_places(x) and _are_places(y) and _mostly_grows(t):
                return order
    raise InputError(
        f"four columns that are t, x, y, p in no order (the first row is {sample[0].tolist()}); name them, or order "
        "the columns t, x, y, p with polarity 0 or 1"
    )


def _are_places(values: np.ndarray) -> bool:
    return bool(np.mean((values >= 0) & (values < 1 << 16) & (values % 1 == 0)) > 0.99)


def _mostly_grows(t: np.ndarray) -> bool:
    return bool(np.mean(t[1:] < t[:-1]) <= 0.02) if len(t) > 1 else True


def microseconds(values: np.ndarray, scale: float) -> np.ndarray:
    """Stamps [N] in units of ``scale`` µs as int64 µs; integers in µs keep their type."""
    if scale == 1.0 and values.dtype.kind in "ui":
        return values
    if values.dtype.kind not in "uif":
        raise InputError(f"column t holds {values.dtype}; give numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        us = np.rint(values.astype(np.float64) * scale)
    bad = ~(np.abs(us) <= LARGEST_STAMP_US)
    if bad.any():
        i = int(np.argmax(bad))
        raise InputError(f"a stamp of {values[i]}; stamps are seconds or µs and at most 2⁶¹ µs")
    return us.astype(np.int64)


def whole_numbers(name: str, values: np.ndarray) -> np.ndarray:
    """A column [N] of numbers without a fraction as integers, for x, y and p that are stored as floats."""
    if values.dtype.kind in "ui":
        return values
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if values.dtype.kind != "f":
        raise InputError(f"column {name} holds {values.dtype}; give numbers")
    bad = ~((values % 1 == 0) & (np.abs(values) < 1 << 53))
    if bad.any():
        raise InputError(f"column {name} has {values[int(np.argmax(bad))]}; give whole numbers")
    return values.astype(np.int64)


class Table:
    """How t, x, y and p lie in one array: as fields, or as four columns [N, 4].

    Args:
        dtype, shape: of the array.
        sample: its first elements.

    Raises:
        InputError: it has neither the fields nor four columns in an order that can be found.
    """

    def __init__(self, dtype: np.dtype, shape: tuple[int, ...], sample: np.ndarray) -> None:
        fields = find_columns(dtype.names or ())
        single = fields is not None and all(dtype[name].subdtype is None for name in fields.values())
        self._fields = fields if single and len(shape) == 1 else None
        if self._fields is None and not (dtype.names is None and len(shape) == 2 and shape[1] == 4):
            raise InputError(
                f"an array {shape} of {one_line(str(dtype))}; give one with fields t, x, y, p or columns t, x, y, p"
            )
        if self._fields is None and dtype.kind not in "uif":
            raise InputError(f"columns hold {dtype}; give numbers")
        if self._fields is not None:
            t = sample[self._fields["t"]]
            stated = stated_scale(self._fields["t"])
        else:
            self._order = find_order(sample) if len(sample) else "txyp"
            t, stated = sample[:, self._order.index("t")], None
        self._scale = stated or find_scale(t)

    def columns(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The columns of a part of the array: stamps in µs, all integers, and the caller's own."""
        if self._fields is not None:
            t, x, y, p = (np.array(part[self._fields[name]], order="C") for name in "txyp")
        else:
            t, x, y, p = (np.array(part[:, self._order.index(name)], order="C") for name in "txyp")
        return as_events((t, x, y, p), self._scale)


def as_events(
    columns: Iterable[np.ndarray], scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Columns t, x, y, p as they are stored, with stamps in units of ``scale`` µs, as integers and µs."""
    t, x, y, p = columns
    return (
        microseconds(t, scale),
        whole_numbers("x", x),
        whole_numbers("y", y),
        whole_numbers("p", p),
    )

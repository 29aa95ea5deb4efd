"""Events as text: a line an event, four numbers between commas, semicolons, tabs or blanks.

Before them may stand a line with the sensor's width and height (as in the Event Camera Dataset) and one with the
names of the columns; lines that begin with ``#`` or ``%``, there or further on, are comments. Without names the order
of the columns is found from the first lines: stamps grow, polarity takes two values. Stamps with a fraction are
seconds, whole ones µs.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

from ssmbook.errors import InputError, one_line
from ssmbook.events.formats.columns import (
    SEPARATOR,
    as_events,
    find_columns,
    find_order,
    find_scale,
    stated_scale,
)
from ssmbook.events.formats.recording import Columns, Recording, sensor_size

_SAMPLE_BYTES = 1 << 16
_LONGEST_LINE = 1000
_BLOCK_BYTES = 1 << 24  # of text that are read at once


class TextRecording(Recording):
    """Events of a text or CSV file."""

    format = "text"

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        self.path = path
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)
        size = self._read_head()
        width = sensor_size(path, size and size[0], width, "width")
        height = sensor_size(path, size and size[1], height, "height")
        super().__init__(path, width, height, start=(self._first, self._line))

    def _read_head(self) -> tuple[int, int] | None:
        """Set where the events begin, which column is which, and the unit of t; the sensor's size if it is stated."""
        self._file.seek(0)
        size: tuple[int, int] | None = None
        names: list[str] = []
        self._first, self._line, self._separator = 0, 1, ","
        while line := self._file.readline(_LONGEST_LINE):
            text = line.decode("utf-8-sig", errors="replace").strip()
            fields = SEPARATOR.split(text)  # pandas leaves the name of its index empty
            words = [word for word in fields if word]
            numbers = all(_is_number(word) for word in words)
            comment = text.startswith(("#", "%"))
            if comment and find_columns(SEPARATOR.split(text.lstrip("#% "))):
                names = SEPARATOR.split(text.lstrip("#% "))
            elif len(words) == 2 and numbers and size is None and all(word.isdigit() for word in words):
                size = int(words[0][:9]), int(words[1][:9])
            elif words and not comment and not numbers and not names:
                names = [word.strip("\"'") for word in fields]
            elif words and not comment:
                self._separator = _separator_of(text)
                break
            self._first, self._line = self._file.tell(), self._line + 1
        self._learn(names)
        return size

    def _learn(self, names: list[str]) -> None:
        sample = self._parsed(self._first, self._line, _SAMPLE_BYTES)[0]
        found = find_columns(names) if names else None
        if names and found is None:
            raise InputError(
                f"{self.path}: its columns are {one_line(', '.join(names))}; name them t, x, y, p"
            )
        try:
            if found is not None:
                self._columns, stated = (
                    [names.index(found[name]) for name in "txyp"],
                    stated_scale(found["t"]),
                )
                if len(sample) and sample.shape[1] != len(names):
                    raise InputError(f"line {self._line} has {sample.shape[1]} values for {len(names)} names")
            else:
                if len(sample) and sample.shape[1] != 4:
                    raise InputError(f"line {self._line} has {sample.shape[1]} values; write t, x, y, p")
                order = find_order(sample) if len(sample) else "txyp"
                self._columns, stated = [order.index(name) for name in "txyp"], None
            t = sample[:, self._columns[0]] if len(sample) else np.empty(0)
            self._scale = stated or find_scale(t)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

    def _parsed(self, offset: int, line: int, size: int) -> tuple[np.ndarray, int]:
        """The numbers of the whole lines in up to ``size`` bytes from an offset, [N, columns], and where they end."""
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) == size:
            data = data[: data.rfind(b"\n") + 1]
            if not data:
                raise InputError(f"{self.path}: line {line} has no end; write a line for each event")
        end = offset + len(data)
        if b"%" in data:
            data = re.sub(rb"(?m)^[ \t]*%", b"#", data)
        if not data.strip():
            return np.empty((0, _LONGEST_LINE)), end
        separator = self._separator if self._separator != " " else r"\s+"
        try:
            table = pd.read_csv(
                io.BytesIO(data), sep=separator, header=None, comment="#", dtype=np.float64, engine="c"
            )
        except Exception as error:  # pandas raises several kinds, with lines counted from this piece
            words = one_line(str(error).splitlines()[0] if str(error) else type(error).__name__)
            raise InputError(
                f"{self.path}: line {line} or one after it: {words}; write four numbers a line"
            ) from None
        return table.to_numpy(), end

    def _decode(self, cursor: tuple[int, int]) -> tuple[Columns, tuple[int, int]]:
        offset, line = cursor
        size = min(_BLOCK_BYTES, max(200, 16 * self.block_events))
        values, end = self._parsed(offset, line, size)
        while len(values) == 0 and end > offset:  # a piece of empty lines
            offset = end
            values, end = self._parsed(offset, line, size)
        if len(values) and values.shape[1] <= max(self._columns):
            raise InputError(f"{self.path}: line {line} has {values.shape[1]} values; write t, x, y, p")
        try:
            columns = as_events((np.ascontiguousarray(values[:, k]) for k in self._columns), self._scale)
        except InputError as error:
            raise InputError(f"{self.path}: at line {line} or after it: {error}") from None
        return columns, (end, line + len(values))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _separator_of(text: str) -> str:
    return next((each for each in ",;\t" if each in text), " ")

"""The text header of Prophesee's files: lines of ``% key value`` before the binary part."""

from __future__ import annotations

import re
from typing import BinaryIO, NamedTuple

_LONGEST_LINE = 4096


class Header(NamedTuple):
    """What the lines say, keys in lower case, and how many bytes they take."""

    fields: dict[str, str]
    size: int

    @property
    def encoding(self) -> str | None:
        """EVT2, EVT3, …, from ``% evt 3.0`` or ``% format EVT3;height=720;width=1280``; None for DAT."""
        if "format" in self.fields:
            return self.fields["format"].split(";")[0].strip().upper()
        if "evt" in self.fields:
            return "EVT" + self.fields["evt"].replace(".0", "").replace(".", "")
        return None

    def length(self, name: str) -> int | None:
        """The sensor's width or height, from the format line, ``% Width 1280`` or ``% geometry 1280x720``."""
        found = re.search(rf"{name}=(\d+)", self.fields.get("format", "").lower())
        if found is None:
            found = re.fullmatch(r"(\d+)", self.fields.get(name, ""))
        if found is not None:
            return int(found[1])
        geometry = re.fullmatch(r"(\d+)x(\d+)", self.fields.get("geometry", ""))
        return int(geometry[1 if name == "width" else 2]) if geometry else None


def read_header(file: BinaryIO) -> Header:
    """Read the header at the file's start; the first line that is not one, or ``% end``, ends it."""
    fields: dict[str, str] = {}
    file.seek(0)
    while True:
        size = file.tell()
        text = _header_line(file.readline(_LONGEST_LINE))
        if text is None:
            return Header(fields, size)
        key, _, value = text.partition(" ")
        fields[key.lower()] = value.strip()
        if key.lower() == "end":
            return Header(fields, file.tell())


def _header_line(line: bytes) -> str | None:
    """The text behind "% "; None for binary data, which may begin with the same two bytes."""
    if not (line.startswith(b"% ") and line.endswith(b"\n")):
        return None
    try:
        text = line[2:].decode().strip()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None

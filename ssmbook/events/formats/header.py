"""The text header of Prophesee's files: lines of ``% key value`` before the binary part."""

from __future__ import annotations

import re
from typing import BinaryIO, NamedTuple

_LONGEST_LINE = 4096
_LARGEST_HEADER = 1 << 20

# What files of before 2021 do not say, by their camera: encoding and size in px.
_VGA, _HD2, _HD3 = ("EVT2", 640, 480), ("EVT2", 1280, 720), ("EVT3", 1280, 720)
_SYSTEMS = {
    **dict.fromkeys((0x15, 0x17, 0x19, 0x1C, 0x1D, 0x23, 0x97, 0x99), _VGA),
    **{0x1A: _HD2, 0x1E: _HD3, 0x2E: _HD3},
}
_PLUGINS = {
    **dict.fromkeys(("gen3_fx3", "gen31_fx3", "gen31_evk2"), _VGA),
    **{"gen31_evk3": ("EVT3", 640, 480), "gen4_fx3": _HD2},
    **dict.fromkeys(("gen4_evk2", "gen41_evk2", "gen41_evk3"), _HD3),
}


class Header(NamedTuple):
    """What the lines say, keys in lower case, and how many bytes they take."""

    fields: dict[str, str]
    size: int

    @property
    def encoding(self) -> str | None:
        """EVT2, EVT21, EVT3, …, from ``% evt 3.0`` or ``% format EVT3;height=720;width=1280``, else from the camera;
        None for DAT. ``"unknown"`` where a camera is named that is not known here."""
        if "format" in self.fields:
            return self.fields["format"].split(";")[0].strip().upper()
        if "evt" in self.fields:
            return "EVT" + self.fields["evt"].replace(".0", "").replace(".", "")
        if self.camera is not None:
            return self.camera[0]
        return "unknown" if "system_id" in self.fields or "plugin_name" in self.fields else None

    @property
    def camera(self) -> tuple[str, int, int] | None:
        """Encoding, width and height that the camera in ``% system_ID`` or ``% plugin_name`` had in old files."""
        plugin = self.fields.get("plugin_name", "").removeprefix("hal_plugin_")
        number = self.fields.get("system_id", "")
        by_number = _SYSTEMS.get(int(number)) if re.fullmatch(r"\d{1,6}", number) else None
        return by_number or _PLUGINS.get(plugin)

    def length(self, name: str) -> int | None:
        """The sensor's width or height, from the format line, ``% Width 1280`` or ``% geometry 1280x720``."""
        found = re.search(rf"{name}=(\d{{1,9}})\b", self.fields.get("format", "").lower())
        if found is None:
            found = re.fullmatch(r"(\d{1,9})", self.fields.get(name, ""))
        if found is not None:
            return int(found[1])
        geometry = re.fullmatch(r"(\d{1,9})x(\d{1,9})", self.fields.get("geometry", ""))
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
        if size > _LARGEST_HEADER:
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

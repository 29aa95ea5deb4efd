"""What EVT2, EVT2.1 and EVT3, the raw streams of Prophesee's cameras, have in common: words that change a state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.formats.header import read_header
from ssmbook.events.formats.recording import Columns, Recording, sensor_size

_WORDS_AT_ONCE = 1 << 20


class EvtRecording(Recording):
    """Events of a raw stream, decoded word by word from any place whose state is known."""

    word: ClassVar[np.dtype]
    #: maximum number of events in a word
    most_events: ClassVar[int]
    #: kernel(words, state, t, x, y, p, n, wanted) appends events behind the n that are there until there are
    #: ``wanted`` or the words end, changes the state, and returns n and the number of words it took
    kernel: ClassVar[Callable[..., tuple[int, int]]]
    #: int64, before the first word
    first_state: ClassVar[np.ndarray]

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        with open(path, "rb") as file:
            header = read_header(file)
        size = path.stat().st_size
        rest = (size - header.size) % self.word.itemsize
        if rest:
            raise InputError(
                f"{path}: the word at byte {size - rest} is cut; the file is incomplete, fetch it again"
            )
        width = sensor_size(path, header.length("width"), width, "width")
        height = sensor_size(path, header.length("height"), height, "height")
        if header.camera is not None and width is None and height is None:
            width, height = header.camera[1:]
        self._header = header
        super().__init__(path, width, height, start=(header.size, self.first_state))
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)

    def _decode(self, cursor: tuple[int, np.ndarray]) -> tuple[Columns, tuple[int, np.ndarray]]:
        offset, state = cursor[0], cursor[1].copy()
        room = self.block_events + self.most_events
        t, x, y = np.empty(room, np.int64), np.empty(room, np.uint16), np.empty(room, np.uint16)
        p = np.empty(room, np.uint8)
        n = 0
        while n < self.block_events:
            self._file.seek(offset)
            words = np.fromfile(self._file, self.word, _WORDS_AT_ONCE)
            if len(words) == 0:
                break
            n, taken = self.kernel(words, state, t, x, y, p, n, self.block_events)
            offset += taken * self.word.itemsize
        return (t[:n], x[:n], y[:n], p[:n]), (offset, state)

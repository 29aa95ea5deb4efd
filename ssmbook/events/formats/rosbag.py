"""ROS bags of version 1 and 2 with dvs_msgs or prophesee_event_msgs arrays, through the ``rosbags`` package.

An array message: a header (in ROS 1 with a counter), height and width, then the events, each x and y in two bytes,
seconds and nanoseconds in four, and polarity in one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ssmbook.errors import InputError, one_line
from ssmbook.events.formats.recording import Columns, Recording, sensor_size
from ssmbook.files import as_input_error

_TYPES = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")
_MAGIC_1 = b"#ROSBAG V2.0\n"
_INDEX_FIELD = b"index_pos="
_PACKED = "event_camera_msgs/msg/EventPacket"
_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("s", "<u4"), ("ns", "<u4"), ("p", "u1")])
# ROS 2 aligns each value to its own size: the stamp to 4 bytes, but x and y to 2, right behind the polarity of the
# event before. So stamps and polarity lie 16 bytes apart, and x and y of all events but the first 2 bytes earlier.
_STAMPS_2 = np.dtype(
    {"names": ["s", "ns", "p"], "formats": ["<u4", "<u4", "u1"], "offsets": [4, 8, 12], "itemsize": 16}
)
_PLACES_2 = np.dtype({"names": ["x", "y"], "formats": ["<u2", "<u2"], "offsets": [0, 2], "itemsize": 16})


class RosbagRecording(Recording):
    """Events of the first topic of events in a bag; other topics are passed over. Stamps are whole µs."""

    format = "ROS bag"
    _reader: Any = None
    _stream: Any = None

    def __init__(self, path: Path, width: int | None = None, height: int | None = None) -> None:
        self.path = path
        self._open()
        first = next(self._messages(), None)
        said: tuple[int | None, int | None] = (None, None)
        if first is not None:
            said = self._parsed(first)[1:]
        width = sensor_size(path, said[0], width, "width")
        height = sensor_size(path, said[1], height, "height")
        super().__init__(path, width, height, start=0)
        self._restart()

    def _open(self) -> None:
        try:
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_typestore
        except ImportError:
            raise InputError(f"{self.path}: a ROS bag; it needs: pip install 'ssmbook[ros]'") from None
        with as_input_error(f"{self.path}: not a readable ROS bag"):
            _check_records(self.path)
            reader = AnyReader([self.path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            reader.open()
        self._reader = reader
        topics = {c.topic: c.msgtype for c in self._reader.connections}
        events = sorted(topic for topic, kind in topics.items() if kind in _TYPES)
        if not events:
            if _PACKED in topics.values():
                raise InputError(
                    f"{self.path}: events in {_PACKED}; convert it with event_camera_tools: "
                    "ros2 run event_camera_tools bag_to_raw -b BAG -o OUT.raw -t TOPIC"
                )
            kinds = one_line(", ".join(sorted(set(topics.values()))), 150) or "none"
            raise InputError(
                f"{self.path}: no topic of events among its types ({kinds}); give a bag with {_TYPES[0]}"
            )
        self._connections = [c for c in self._reader.connections if c.topic == events[0]]
        self._ros1 = not self._reader.is2

    def _messages(self) -> Iterator[bytes]:
        with as_input_error(f"{self.path}: a message is damaged"):
            for _, _, data in self._reader.messages(connections=self._connections):
                yield data

    def _restart(self) -> None:
        self._stream = self._messages()
        self._taken = 0

    def close(self) -> None:
        super().close()
        if self._reader is not None:
            if self._stream is not None:
                self._stream.close()
            self._reader.close()
            self._reader = None

    def _decode(self, cursor: int) -> tuple[Columns, int]:
        # The reader only goes forward: a cursor is a number of messages, and going back starts again.
        if cursor < self._taken:
            self._restart()
        parts: list[np.ndarray] = []
        n = 0
        while n < self.block_events and (data := next(self._stream, None)) is not None:
            self._taken += 1
            if self._taken > cursor:
                parts.append(self._parsed(data)[0])
                n += len(parts[-1])
        events = np.concatenate(parts) if parts else np.empty(0, _EVENT)
        t = events["s"].astype(np.int64) * 1_000_000 + events["ns"] // 1000
        columns = (np.ascontiguousarray(events[name]) for name in "xyp")
        return (t, *columns), self._taken  # type: ignore[return-value]

    def _parsed(self, data: bytes) -> tuple[np.ndarray, int, int]:
        """The events of a message, and its width and height."""
        with as_input_error(f"{self.path}: message {getattr(self, '_taken', 0)} is damaged"):
            at = 4 + 8  # the counter (ROS 1) or encoding (ROS 2), and the stamp
            (length,) = struct.unpack_from("<I", data, at)
            at += 4 + length
            if not self._ros1:
                at += -at % 4
            height, width, count = struct.unpack_from("<III", data, at)
            at += 12
            if count * _EVENT.itemsize > len(data) - at:
                raise InputError(
                    f"{self.path}: a message holds fewer than its {count} events; fetch it again"
                )
            if self._ros1:
                return np.frombuffer(data, _EVENT, count, at), width, height
            return _aligned(data[at:], count), width, height


def _check_records(path: Path) -> None:
    """The records of a bag of version 1 must lie in the file, and its index at one of them.

    The package would ask for as much memory as a record says.
    """
    with open(path, "rb") if path.is_file() else nullcontext() as file:
        if file is None or file.read(len(_MAGIC_1)) != _MAGIC_1:
            return
        size, at = path.stat().st_size, len(_MAGIC_1)
        head = file.read(4096)
        field = head.find(_INDEX_FIELD) + len(_INDEX_FIELD)
        index = struct.unpack_from("<Q", head, field)[0] if field >= len(_INDEX_FIELD) else 0
        indexed = index in (0, size)
        while at < size:
            indexed = indexed or at == index
            for _ in range(2):  # a header, then data
                file.seek(at)
                (length,) = struct.unpack("<I", file.read(4))
                at += 4 + length
                if at > size:
                    raise InputError(
                        f"{path}: the record at byte {at - 4 - length} is damaged or cut; fetch it again"
                    )
        if not indexed:
            raise InputError(f"{path}: its index is not where it should be; run: rosbag reindex FILE")


def _aligned(data: bytes, count: int) -> np.ndarray:
    """The events of a ROS 2 message from the bytes behind their number."""
    padded = data + bytes(32)
    if len(padded) < 16 * count:
        raise ValueError("it is cut")
    events = np.zeros(count, _EVENT)
    for name in ("s", "ns", "p"):
        events[name] = np.frombuffer(padded, _STAMPS_2, count)[name]
    for name in ("x", "y"):
        events[name][:1] = np.frombuffer(padded, _PLACES_2, 1)[name][:count]
        events[name][1:] = np.frombuffer(padded, _PLACES_2, max(count - 1, 0), 14)[name]
    return events

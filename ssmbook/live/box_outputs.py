"""Detections written as they come, window by window, so that the memory does not grow with the recording.

    with box_output("found.csv", sensor.classes, sensor.frame_size) as write:
        for frame, (t_us, boxes) in detect_recording(stream, recording):
            write(frame, t_us, boxes)

=================  ======================================================================================
``*.npy``          Prophesee's boxes, BOX_DTYPE
``*.json``         COCO's annotations, with times
``*.csv``          t_us, x, y, w, h, class, score, track
a folder (YOLO)    ``000000150000us.txt`` for each window, empty without a detection, and ``classes.txt``
=================  ======================================================================================
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ssmbook.dataset.labels import crop_boxes
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, clean_boxes
from ssmbook.events.box_formats import coco_annotation
from ssmbook.events.boxes import CSV_HEADER, csv_lines
from ssmbook.files import atomic_folder, atomic_write

if TYPE_CHECKING:
    from ssmbook.live.stream import Show  # which imports torch

ENDINGS = (".npy", ".json", ".csv")


@contextmanager
def box_output(
    path: str | os.PathLike[str], classes: Sequence[str], frame_hw: tuple[int, int]
) -> Iterator[Show]:
    """A file of boxes that appears under its name when the block ends, and not at all when the block raises.

    Args:
        path: with one of ``ENDINGS``.
        classes: names by class id.
        frame_hw: (height, width) of the frames in px.

    Yields:
        A function of a window's frame, its end in µs and its boxes BOX_DTYPE, to be called window after window.

    Raises:
        InputError: another ending, or the file cannot be written.
    """
    path = Path(path)
    kinds: dict[str, Callable[[BinaryIO], Any]] = {
        ".npy": _Npy,
        ".json": lambda file: _Coco(file, classes, *frame_hw),
        ".csv": lambda file: _Csv(file, classes),
    }
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path}: boxes are written as {', '.join(ENDINGS)}; give one of these endings")
    with atomic_write(path) as file:
        output = kinds[path.suffix.lower()](file)
        yield lambda frame, t_us, boxes: output.write(t_us, boxes)
        output.finish()


class _Npy:
    """As ``write_boxes`` writes it; the header is renewed at the end, numpy leaves room in it for any length."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.count = file, 0
        self._header()

    def write(self, t_us: int, boxes: np.ndarray) -> None:
        self.file.write(clean_boxes(boxes).tobytes())
        self.count += len(boxes)

    def finish(self) -> None:
        self.file.seek(0)
        self._header()

    def _header(self) -> None:
        fields = {
            "descr": np.lib.format.dtype_to_descr(BOX_DTYPE),
            "fortran_order": False,
            "shape": (self.count,),
        }
        np.lib.format.write_array_header_1_0(self.file, fields)


class _Csv:
    def __init__(self, file: BinaryIO, classes: Sequence[str]) -> None:
        self.file, self.classes = file, classes
        self.file.write(CSV_HEADER.encode())

    def write(self, t_us: int, boxes: np.ndarray) -> None:
        self.file.write(csv_lines(boxes, self.classes).encode())

    def finish(self) -> None:
        pass


class _Coco:
    """As ``write_coco`` writes it, but with the images last: eight bytes are held for each window with a box."""

    def __init__(self, file: BinaryIO, classes: Sequence[str], height: int, width: int) -> None:
        self.file, self.size = file, {"height": height, "width": width}
        self.times, self.count = array("q"), 0
        categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        self.file.write(f'{{"categories": {json.dumps(categories)}, "annotations": ['.encode())

    def write(self, t_us: int, boxes: np.ndarray) -> None:
        if len(boxes):
            self.times.append(t_us)
        for box in boxes.tolist():
            self.count += 1
            self._row(coco_annotation(self.count, len(self.times), box), self.count == 1)

    def finish(self) -> None:
        self.file.write(b'], "images": [')
        for i, t_us in enumerate(self.times, 1):
            self._row({"id": i, "timestamp_us": t_us, **self.size}, i == 1)
        self.file.write(b"]}")

    def _row(self, row: dict[str, Any], first: bool) -> None:
        self.file.write(("" if first else ",\n").encode() + json.dumps(row).encode())


@contextmanager
def yolo_output(
    folder: str | os.PathLike[str], classes: Sequence[str], frame_hw: tuple[int, int]
) -> Iterator[Show]:
    """A folder of YOLO txt files that appears when the block ends; arguments and result as of ``box_output``.

    A line is ``class cx cy width height score track``, the middle four as shares of the frame, clipped to it.
    ``read_yolo`` reads it.

    Raises:
        InputError: the folder holds something already, or cannot be written.
    """
    height, width = frame_hw
    with atomic_folder(folder) as filled:
        (filled / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")

        def write(frame: np.ndarray, t_us: int, boxes: np.ndarray) -> None:
            (filled / f"{t_us:012d}us.txt").write_text(_yolo_lines(boxes, height, width), encoding="utf-8")

        yield write


def _yolo_lines(boxes: np.ndarray, height: int, width: int) -> str:
    lines = []
    for _, x, y, w, h, class_id, track_id, score in crop_boxes(boxes, height, width).tolist():
        cx, cy = (x + w / 2) / width, (y + h / 2) / height
        lines.append(
            f"{class_id} {cx:.6f} {cy:.6f} {w / width:.6f} {h / height:.6f} {min(score, 1):.4f} {track_id}\n"
        )
    return "".join(lines)

"""Boxes as one file for each labelled frame, in a folder ``<name>_bbox`` for a recording: YOLO txt or Pascal VOC xml.

The end of a file's name states the time on the recording's clock:

============================  ==========================================================================
``000100000us.txt``           µs; so do ``ms`` and ``s``
``frame_0.100000.txt``        with a decimal point: seconds
``frame0000012.txt``          digits alone: the number of the label frame from 0, a label interval apart;
                              or µs, where the numbers of a folder lie 1,000 or more apart (one alone:
                              from a million on)
============================  ==========================================================================

YOLO: a line is ``class cx cy width height``, the class a whole number from 0 and the rest shares of the sensor's
width and height; a confidence and a track may follow. Boxes may reach out of the frame by up to its size. An empty file
is a frame without a box. ``classes.txt`` names the classes, a line each, as labelling tools write it.

VOC: ``object`` has ``name`` and ``bndbox`` with xmin, ymin, xmax, ymax in pixels; the width is xmax − xmin. A ``size``
must be the sensor's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from xml.etree.ElementTree import ParseError

import numpy as np
from defusedxml import DefusedXmlException, ElementTree

from ssmbook.errors import InputError, shown
from ssmbook.events.box_formats import MOST_US, class_ids
from ssmbook.events.boxes import BOX_DTYPE

NAMES = "classes.txt"
LARGEST_FILE = 1 << 24  # bytes of the boxes of one frame
_SECONDS = re.compile(r"(?:^|[^0-9A-Za-z.])(\d{1,12}\.\d{1,12})(?:s|sec)?$")
_NUMBER = re.compile(r"(\d{1,30})(us|ms|s)?$")
_UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000}
_FAR_APART = 1_000  # between numbers: of µs, not of frames


def read_yolo(
    folder: str | os.PathLike[str], width: int, height: int, interval_us: int | None = None
) -> np.ndarray:
    """The boxes of a folder of YOLO txt files as BOX_DTYPE [N], ordered by time.

    Args:
        folder: one file for each labelled frame; see above for how its name states the time.
        width, height: of the sensor in px.
        interval_us: time between label frames, for files that are numbered.

    Raises:
        InputError: the folder has no txt file, a file's name has no time, or a line is wrong; the message has
            the file and the line.
    """
    return yolo_boxes(folder, width, height, interval_us)[0]


def read_voc(
    folder: str | os.PathLike[str],
    classes: Sequence[str],
    width: int,
    height: int,
    interval_us: int | None = None,
) -> np.ndarray:
    """The boxes of a folder of Pascal VOC xml files as BOX_DTYPE [N], ordered by time.

    Args:
        classes: names, in the order of the class ids that come out; other names come after.
        folder, width, height, interval_us: as in ``read_yolo``.

    Raises:
        InputError: the folder has no xml file, a file's name has no time, or a file is not of VOC's form.
    """
    boxes, names = voc_boxes(folder, width, height, interval_us)
    boxes["class_id"] = class_ids(names, classes)[boxes["class_id"]]
    return boxes


def is_voc(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder of boxes holds VOC's xml files and not YOLO's txt files.

    Raises:
        InputError: it holds both.
    """
    kinds = [_files(folder, suffix) for suffix in (".xml", ".txt")]
    if kinds[0] and [path for path in kinds[1] if path.name.lower() != NAMES]:
        raise InputError(f"{folder}: has xml and txt files; keep those of one format")
    return bool(kinds[0])


def yolo_boxes(
    folder: str | os.PathLike[str], width: int, height: int, interval_us: int | None
) -> tuple[np.ndarray, list[str] | None]:
    """As ``read_yolo``, and the names in ``classes.txt``, which ``class_id`` counts through; None without that file."""
    files = _files(folder, ".txt")
    names = next((path for path in files if path.name.lower() == NAMES), None)
    frames = [path for path in files if path != names]
    if not frames:
        raise InputError(f"{folder}: has no txt file; give one for each labelled frame")
    rows: list[tuple] = []
    for path, t in zip(frames, _times(frames, interval_us), strict=True):
        for number, line in enumerate(_text(path).splitlines(), 1):
            if line.strip():
                rows.append((t, *_yolo_box(path, number, line.split(), width, height)))
    listed = None if names is None else [line.strip() for line in _text(names).splitlines() if line.strip()]
    return _by_time(rows), listed


def voc_boxes(
    folder: str | os.PathLike[str], width: int, height: int, interval_us: int | None
) -> tuple[np.ndarray, list[str]]:
    """As ``read_voc``, with ``class_id`` the index into the names that come second."""
    files = _files(folder, ".xml")
    if not files:
        raise InputError(f"{folder}: has no xml file; give one for each labelled frame")
    names: dict[str, int] = {}
    rows: list[tuple] = []
    for path, t in zip(files, _times(files, interval_us), strict=True):
        for name, box in _voc_objects(path, width, height):
            rows.append((t, *box, names.setdefault(name, len(names)), 0, 1.0))
    return _by_time(rows), list(names)


def _files(folder: str | os.PathLike[str], suffix: str) -> list[Path]:
    return sorted(p for p in Path(folder).glob("*") if p.suffix.lower() == suffix and p.name[0] != ".")


def _by_time(rows: list[tuple]) -> np.ndarray:
    boxes = np.array(rows, BOX_DTYPE)
    return boxes[np.argsort(boxes["t"], kind="stable")]


def _text(path: Path) -> str:
    try:
        if not path.is_file():  # a pipe would block
            raise InputError(f"{path}: is no ordinary file; give text")
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise InputError(f"{path}: is larger than {LARGEST_FILE} bytes; give the boxes of one frame")
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None


def _times(files: list[Path], interval_us: int | None) -> list[int]:
    """The times of label frames in µs, as the ends of files' names state them."""
    times: list[int] = []
    numbered: list[int] = []  # which files have digits alone
    for path in files:
        seconds, number = _SECONDS.search(path.stem), _NUMBER.search(path.stem)
        if seconds is not None:
            times.append(round(1e6 * float(seconds[1])))
        elif number is not None:
            if number[2] is None:
                numbered.append(len(times))
            times.append(int(number[1]) * _UNITS_US.get(number[2] or "", 1))
        else:
            raise InputError(f"{path}: its name must end in a time, as 100000us.txt, or in a frame's number")
    numbers = sorted({times[i] for i in numbered})
    gap = min((b - a for a, b in pairwise(numbers)), default=max(numbers, default=0) // _FAR_APART)
    if numbered and gap < _FAR_APART:
        if interval_us is None:
            raise InputError(
                f"{files[numbered[0]]}: is numbered, so the sensor needs a label_interval_ms; or name it by time, as "
                "100000us.txt"
            )
        for i in numbered:
            times[i] *= interval_us
    late = next((path for path, t in zip(files, times, strict=True) if t > MOST_US), None)
    if late is not None:
        raise InputError(f"{late}: its time is too large; give µs as in 100000us.txt")
    return times


def _yolo_box(path: Path, number: int, words: list[str], width: int, height: int) -> tuple:
    try:
        if not 5 <= len(words) <= 7:
            raise ValueError
        class_id = float(words[0])
        cx, cy, w, h = (float(word) for word in words[1:5])
        confidence = float(words[5]) if len(words) > 5 else 1.0
        track = int(words[6]) if len(words) > 6 else 0
    except ValueError:
        class_id, cx, cy, w, h, confidence, track = -1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0
    # Written so that a NaN is wrong too.
    if not (
        0 <= class_id < 2**32
        and class_id.is_integer()
        and all(-1 <= v <= 2 for v in (cx, cy))
        and all(0 <= v <= 2 for v in (w, h))
        and 0 <= confidence <= 1
        and 0 <= track < 2**32
    ):
        raise InputError(
            f"{path}: line {number} is {shown(' '.join(words))}; it must be class cx cy width height, the class a "
            "whole number and the rest from 0 to 1"
        )
    x, y = width * (cx - w / 2), height * (cy - h / 2)
    return x, y, width * w, height * h, int(class_id), track, confidence


def _voc_objects(path: Path, width: int, height: int) -> list[tuple[str, tuple[float, ...]]]:
    """Name and x, y, w, h in px of each object of a VOC file."""
    try:
        root = ElementTree.fromstring(_text(path), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not readable xml ({shown(str(error))}); give Pascal VOC's") from None
    if root.tag != "annotation":
        raise InputError(f"{path}: holds {shown(root.tag)} and no annotation; give Pascal VOC's xml")
    for key, size in (("width", width), ("height", height)):
        said = (root.findtext(f"size/{key}") or "0").strip()
        if said not in ("0", str(size)):
            raise InputError(f"{path}: its {key} is {shown(said)}, but the sensor's {size}")
    objects: list[tuple[str, tuple[float, ...]]] = []
    for number, each in enumerate(root.findall("object"), 1):
        try:
            corners = [
                float(each.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")
            ]
        except ValueError:
            corners = []
        name = (each.findtext("name") or "").strip()
        if not name or not corners or not all(abs(value) < 1e6 for value in corners):
            raise InputError(
                f"{path}: object {number} lacks a name or a bndbox of xmin, ymin, xmax, ymax in pixels"
            )
        x0, y0, x1, y1 = corners
        objects.append((name, (x0, y0, x1 - x0, y1 - y0)))
    return objects

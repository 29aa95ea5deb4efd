"""Boxes in the formats of others: COCO json and YOLO txt, as BOX_DTYPE with times.

Neither format has times of its own. Times are on the recording's clock, in µs, and are stated so:

COCO, one ``<name>_bbox.json`` for a recording. Each image has ``timestamp_us``, a whole number; or else ``frame``, a
whole number from 0, and the file has ``frame_rate`` in its ``info``, in Hz: then the time is frame / frame_rate.
``bbox`` is [x, y, width, height] in pixels of the sensor. Categories are matched to the sensor's classes by
name; one that the sensor does not have gets an id beyond its classes. ``track_id`` and ``score`` are read where
an annotation has them.

YOLO, one folder ``<name>_bbox`` for a recording, one txt for a labelled frame. A file's name ends in digits and ``us``
(``000100000us.txt``, ``frame_100000us.txt``): the time; or in digits alone (``frame0000012.txt``): the number of the
label frame from 0, a label interval apart. A line is ``class cx cy width height``, the class a whole number from 0
and the rest shares of the sensor's width and height. An empty file is a frame without a box.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.boxes import BOX_DTYPE
from ssmbook.files import atomic_write, existing_file

_TIME = re.compile(r"(\d+)(us)?$")
_MOST_US = 2**62


def read_coco(path: str | os.PathLike[str], classes: Sequence[str]) -> np.ndarray:
    """The boxes of a COCO json as BOX_DTYPE [N], ordered by time.

    Args:
        path: the file; see above for how it states times.
        classes: names, in the order of the class ids that come out.

    Raises:
        InputError: the file is no COCO json, or an entry lacks something or has a wrong value; the message has
            the entry's list and number.
    """
    path = existing_file(path, "a COCO json of boxes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not json ({error}); give a COCO json of boxes") from error
    lists = (
        [content.get(key) for key in ("images", "annotations", "categories")] if _is(content, dict) else []
    )
    if not lists or not all(_is(rows, list) for rows in lists):
        raise InputError(f"{path}: lacks a list images, annotations or categories; give a COCO json of boxes")
    images, annotations, categories = lists
    info = content.get("info")
    rate = info.get("frame_rate") if _is(info, dict) else None
    times = {_id(path, "images", i, row): _image_time(path, i, row, rate) for i, row in enumerate(images)}
    ids = _class_ids(path, categories, classes)
    boxes = np.zeros(len(annotations), BOX_DTYPE)
    for i, row in enumerate(annotations):
        boxes[i] = _annotation(path, i, row, times, ids)
    return boxes[np.argsort(boxes["t"], kind="stable")]


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _id(path: Path, name: str, i: int, row: Any) -> int | str:
    if not _is(row, dict) or not _is(row.get("id"), (int, str)):
        raise InputError(f"{path}: {name}[{i}] has no id; give each a whole number")
    return row["id"]


def _image_time(path: Path, i: int, row: dict, rate: Any) -> int:
    time, frame = row.get("timestamp_us"), row.get("frame")
    if time is None and frame is not None:
        if not _is(frame, int) or not _is(rate, (int, float)) or not 0 < rate < float("inf"):
            raise InputError(
                f"{path}: images[{i}] has frame = {frame!r} at {rate!r} Hz; give a whole number, and info.frame_rate"
            )
        time = round(1e6 * frame / rate)
    if not isinstance(time, int) or isinstance(time, bool) or not 0 <= time <= _MOST_US:
        raise InputError(
            f"{path}: images[{i}] has timestamp_us = {time!r}; give whole µs from 0 on, or frame and info.frame_rate"
        )
    return time


def _class_ids(path: Path, categories: list, classes: Sequence[str]) -> dict[int | str, int]:
    """Category id → class id; categories that are no class come after the classes."""
    ids: dict[int | str, int] = {}
    others = len(classes)
    for i, row in enumerate(categories):
        key = _id(path, "categories", i, row)
        if row.get("name") in classes:
            ids[key] = list(classes).index(row["name"])
        else:
            ids[key], others = others, others + 1
    return ids


def _annotation(path: Path, i: int, row: Any, times: dict, ids: dict) -> tuple:
    where = f"{path}: annotations[{i}]"
    if not _is(row, dict):
        raise InputError(f"{where} is {row!r}; it must be an object")
    for key, known in (("image_id", times), ("category_id", ids)):
        if not _is(row.get(key), (int, str)) or row[key] not in known:
            raise InputError(
                f"{where} has {key} = {row.get(key)!r}, which the file does not list; mend that entry"
            )
    bbox = row.get("bbox")
    if not _is(bbox, list) or len(bbox) != 4 or not all(_is(v, (int, float)) and abs(v) < 1e9 for v in bbox):
        raise InputError(f"{where} has bbox = {bbox!r}; it must be [x, y, width, height] in pixels")
    track, score = row.get("track_id", 0), row.get("score", 1.0)
    if not _is(track, int) or not 0 <= track < 2**32 or not _is(score, (int, float)) or not 0 <= score <= 1:
        raise InputError(
            f"{where} has track_id {track!r} and score {score!r}; give a whole number, and 0 to 1"
        )
    return times[row["image_id"]], *bbox, ids[row["category_id"]], track, score


def write_coco(
    path: str | os.PathLike[str], boxes: np.ndarray, classes: Sequence[str], height: int, width: int
) -> None:
    """Write BOX_DTYPE [N] as a COCO json that ``read_coco`` reads; the file appears whole or not at all.

    Args:
        path: ``*_bbox.json``.
        boxes: each time among them is an image.
        classes: names by class id.
        height, width: of the frames, in px.
    """
    times = np.unique(boxes["t"]).tolist()
    number = {t: i for i, t in enumerate(times, 1)}
    annotations = [
        {
            "id": i,
            "image_id": number[t],
            "category_id": class_id + 1,
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": 0,
            "track_id": track_id,
            "score": score,
        }
        for i, (t, x, y, w, h, class_id, track_id, score) in enumerate(boxes.tolist(), 1)
    ]
    content = {
        "images": [{"id": number[t], "timestamp_us": t, "height": height, "width": width} for t in times],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
    }
    with atomic_write(path) as file:
        file.write(json.dumps(content).encode())


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
    folder = Path(folder)
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise InputError(f"{folder}: has no txt file; give one for each labelled frame")
    rows: list[tuple] = []
    for path in files:
        t = _file_time(path, interval_us)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error})") from error
        rows += [
            (t, *_yolo_box(path, number, line.split(), width, height))
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    boxes = np.array(rows, BOX_DTYPE)
    return boxes[np.argsort(boxes["t"], kind="stable")]


def _file_time(path: Path, interval_us: int | None) -> int:
    found = _TIME.search(path.stem)
    if found is None:
        raise InputError(f"{path}: its name must end in a time, as 100000us.txt, or in a frame's number")
    number = int(found[1])
    if found[2] is None:
        if interval_us is None:
            raise InputError(
                f"{path}: is numbered, so the sensor needs a label_interval_ms; or name it by time, as 100000us.txt"
            )
        number *= interval_us
    if number > _MOST_US:
        raise InputError(f"{path}: its time {number} µs is too large")
    return number


def _yolo_box(path: Path, number: int, words: list[str], width: int, height: int) -> tuple:
    try:
        class_id = int(words[0])
        cx, cy, w, h = (float(word) for word in words[1:])
    except ValueError:
        class_id, cx, cy, w, h = -1, 0.0, 0.0, 0.0, 0.0
    # Written so that a NaN is wrong too.
    if not (0 <= class_id < 2**32 and all(0 <= v <= 1 for v in (cx, cy, w, h))):
        raise InputError(
            f"{path}: line {number} is {' '.join(words)!r}; it must be class cx cy width height, the class a whole "
            "number and the rest from 0 to 1"
        )
    return width * (cx - w / 2), height * (cy - h / 2), width * w, height * h, class_id, 0, 1.0

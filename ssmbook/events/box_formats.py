"""Boxes as COCO json, one ``<name>_bbox.json`` for a recording, as BOX_DTYPE with times.

COCO has no times of its own; they are on the recording's clock, and stated so: each image has ``timestamp_us``, a
whole number; or else ``frame``, a whole number from 0, and the file has ``frame_rate`` in its ``info``, in Hz: then
the time is frame / frame_rate. ``bbox`` is [x, y, width, height] in pixels of the sensor. Categories are matched to
classes by name, without case. ``track_id`` and ``score`` are 0 and 1 where an annotation lacks them.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssmbook.errors import InputError, shown
from ssmbook.events.boxes import BOX_DTYPE
from ssmbook.files import atomic_write, existing_file

MOST_US = 2**61


def read_coco(path: str | os.PathLike[str], classes: Sequence[str]) -> np.ndarray:
    """The boxes of a COCO json as BOX_DTYPE [N], ordered by time.

    Args:
        path: the file; see above for how it states times.
        classes: names, in the order of the class ids that come out; categories that are none of them come after.

    Raises:
        InputError: the file is no COCO json, or an entry lacks something or has a wrong value; the message has
            the entry's list and number.
    """
    boxes, names = coco_boxes(path)
    boxes["class_id"] = class_ids(names, classes)[boxes["class_id"]]
    return boxes


def class_ids(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """For each of a file's class names: its index among the classes, without case; others come after these."""
    known = {name.casefold(): i for i, name in enumerate(classes)}
    others = itertools.count(len(known))
    ids = [known[name.casefold()] if name.casefold() in known else next(others) for name in names]
    return np.array(ids, np.uint32)


def coco_boxes(path: str | os.PathLike[str]) -> tuple[np.ndarray, list[str]]:
    """As ``read_coco``, with ``class_id`` the index into the names that come second: those of the file's categories."""
    path = existing_file(path, "a COCO json of boxes")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not json ({error}); give a COCO json of boxes") from None
    lists = (
        [content.get(key) for key in ("images", "annotations", "categories")] if _is(content, dict) else []
    )
    if not lists or not all(_is(rows, list) for rows in lists):
        raise InputError(f"{path}: lacks a list images, annotations or categories; give a COCO json of boxes")
    images, annotations, categories = lists
    info = content.get("info")
    rate = info.get("frame_rate") if _is(info, dict) else None
    times = {
        key: _image_time(path, i, images[i], rate) for key, i in _numbers(path, "images", images).items()
    }
    numbers = _numbers(path, "categories", categories)
    names = [str(row["name"]) if _is(row.get("name"), str) else f"category {row['id']}" for row in categories]
    boxes = np.zeros(len(annotations), BOX_DTYPE)
    for i, row in enumerate(annotations):
        boxes[i] = _annotation(path, i, row, times, numbers)
    return boxes[np.argsort(boxes["t"], kind="stable")], names


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _numbers(path: Path, name: str, rows: list) -> dict[int | str, int]:
    """Id → index of the entries of a list; each id is there once."""
    numbers: dict[int | str, int] = {}
    for i, row in enumerate(rows):
        key: Any = row.get("id") if _is(row, dict) else None
        if not _is(key, (int, str)):
            raise InputError(f"{path}: {name}[{i}] has no id; give each a whole number")
        if key in numbers:
            raise InputError(
                f"{path}: {name}[{i}] has id {shown(key)}, as {name}[{numbers[key]}] has; give each its own"
            )
        numbers[key] = i
    return numbers


def _image_time(path: Path, i: int, row: dict, rate: Any) -> int:
    time: Any = row.get("timestamp_us")
    frame: Any = row.get("frame")
    if time is None and frame is not None:
        known_frame = _is(frame, int) and 0 <= frame <= 2**53
        if not known_frame or not _is(rate, (int, float)) or not 1e-6 <= rate <= 1e9:
            raise InputError(
                f"{path}: images[{i}] has frame = {shown(frame)} at {shown(rate)} Hz; give a whole number, and "
                "info.frame_rate"
            )
        time = round(1e6 * frame / rate)
    if isinstance(time, float) and time.is_integer():
        time = int(time)
    if not _is(time, int) or not 0 <= time <= MOST_US:
        raise InputError(
            f"{path}: images[{i}] has timestamp_us = {shown(time)}; give whole µs from 0 on, or frame and "
            "info.frame_rate"
        )
    return time


def _annotation(path: Path, i: int, row: Any, times: dict, ids: dict) -> tuple:
    where = f"{path}: annotations[{i}]"
    if not _is(row, dict):
        raise InputError(f"{where} is {shown(row)}; it must be an object")
    for key, known in (("image_id", times), ("category_id", ids)):
        if not _is(row.get(key), (int, str)) or row[key] not in known:
            raise InputError(
                f"{where} has {key} = {shown(row.get(key))}, which the file does not list; mend that entry"
            )
    bbox = row.get("bbox")
    if not _is(bbox, list) or len(bbox) != 4 or not all(_is(v, (int, float)) and abs(v) < 1e9 for v in bbox):
        raise InputError(f"{where} has bbox = {shown(bbox)}; it must be [x, y, width, height] in pixels")
    track, score = row.get("track_id"), row.get("score")
    track, score = 0 if track is None else track, 1.0 if score is None else score
    if not _is(track, int) or not 0 <= track < 2**32 or not _is(score, (int, float)) or not 0 <= score <= 1:
        raise InputError(
            f"{where} has track_id {shown(track)} and score {shown(score)}; give a whole number, and 0 to 1"
        )
    return times[row["image_id"]], *bbox, ids[row["category_id"]], track, score


def coco_annotation(number: int, image: int, box: tuple) -> dict[str, Any]:
    """A box of an image, each with its number from 1 on, as a COCO annotation.

    Args:
        box: of BOX_DTYPE, as ``tolist`` gives it.
    """
    _, x, y, w, h, class_id, track_id, score = box
    return {
        "id": number,
        "image_id": image,
        "category_id": class_id + 1,
        "bbox": [x, y, w, h],
        "area": w * h,
        "iscrowd": 0,
        "track_id": track_id,
        "score": score,
    }


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
    annotations = [coco_annotation(i, number[box[0]], box) for i, box in enumerate(boxes.tolist(), 1)]
    content = {
        "images": [{"id": number[t], "timestamp_us": t, "height": height, "width": width} for t in times],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
    }
    with atomic_write(path) as file:
        file.write(json.dumps(content).encode())

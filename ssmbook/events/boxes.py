"""Labelled boxes as the raw datasets keep them: one structured array in a ``*_bbox.npy`` file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssmbook.errors import InputError, one_line
from ssmbook.events.arrays import load_arrays
from ssmbook.files import as_input_error, atomic_write, existing_file

#: One box, 40 bytes: t in µs; x, y of the upper left corner, width and height in px; what it is.
BOX_DTYPE = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)

_OTHER_NAMES = {"t": "ts", "class_confidence": "confidence"}
_DEFAULTS = {"track_id": 0, "class_confidence": 1}  # of files without these fields


def read_boxes(path: str | os.PathLike[str]) -> np.ndarray:
    """The boxes of a ``*_bbox.npy`` file as BOX_DTYPE [N].

    The time may be named t or ts and the confidence class_confidence or confidence, in any numeric
    types and any order; other fields are left out. Without track_id it is 0, without a confidence 1.

    Raises:
        InputError: the file is missing, is not a structured npy array with those fields, is cut, needs
            unpickling, or holds a value that is not finite or does not fit its field.
    """
    path = existing_file(path, "a *_bbox.npy of boxes")
    with as_input_error(f"{path}: not a readable npy file of boxes"):
        raw = load_arrays(path).get("")
    if raw is None or raw.ndim != 1 or raw.dtype.names is None:
        raise InputError(f"{path}: not a flat structured array; give a *_bbox.npy of boxes")
    return boxes_of(path, raw)


def boxes_of(path: Path, raw: np.ndarray) -> np.ndarray:
    """A structured array [N] with the fields of boxes, see ``read_boxes``, as BOX_DTYPE [N].

    Raises:
        InputError: it lacks a field, or a value does not fit; the message names the file.
    """
    names = raw.dtype.names or ()
    boxes = np.zeros(len(raw), BOX_DTYPE)
    for name in BOX_DTYPE.names or ():
        found = name if name in names else _OTHER_NAMES.get(name, name)
        if found in names:
            boxes[name] = _checked(path, name, raw[found])
        elif name in _DEFAULTS:
            boxes[name] = _DEFAULTS[name]
        else:
            there = one_line(", ".join(names), 200) or "none"
            raise InputError(f"{path}: boxes without a field {name}; it has {there}")
    return boxes


def write_boxes(path: str | os.PathLike[str], boxes: np.ndarray) -> None:
    """Write BOX_DTYPE [N] as npy; the file appears whole or not at all."""
    path = Path(path)
    if boxes.dtype != BOX_DTYPE or boxes.ndim != 1:
        raise InputError(f"{path}: boxes are {boxes.dtype} {boxes.shape}; give a flat array of BOX_DTYPE")
    with atomic_write(path) as file:
        np.save(file, clean_boxes(boxes), allow_pickle=False)


def clean_boxes(boxes: np.ndarray) -> np.ndarray:
    """The boxes with zeros in the bytes between fields, so that the same boxes give the same file."""
    clean = np.zeros(boxes.shape, boxes.dtype)
    for name in boxes.dtype.names or ():
        clean[name] = boxes[name]
    return clean


def _checked(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    """The values, if the field of BOX_DTYPE can hold them all."""
    if values.ndim != 1 or values.dtype.kind not in "buif":
        raise InputError(f"{path}: field {name} holds {values.dtype}; give one number for each box")
    wanted = BOX_DTYPE[name]
    limits = np.iinfo(wanted) if wanted.kind in "iu" else np.finfo(wanted)
    # Written so that a NaN is outside too; the comparison is exact for what files hold.
    outside = np.flatnonzero(~((values >= limits.min) & (values <= limits.max)))
    if len(outside):
        row = outside[0]
        raise InputError(f"{path}: box {row} has {name} = {values[row]}; mend or drop that box")
    return values


#: The header of ``csv_lines``.
CSV_HEADER = "t_us,x,y,w,h,class,score,track\n"


def csv_lines(boxes: np.ndarray, classes: Sequence[str]) -> str:
    """BOX_DTYPE [N] as N lines of text: t_us, x, y, w, h, class name, score, track id (0: none)."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(
        (t, *(f"{v:.2f}" for v in xywh), classes[class_id], f"{score:.4f}", track)
        for t, *xywh, class_id, track, score in boxes.tolist()
    )
    return lines.getvalue()

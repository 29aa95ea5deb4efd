"""Box files: what is written reads back; older field names and types are understood; bad ones are named."""

import csv
import os

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, read_boxes, write_boxes
from ssmbook.events.boxes import csv_lines


def some_boxes(n=5):
    boxes = np.zeros(n, BOX_DTYPE)
    for k, name in enumerate(BOX_DTYPE.names):
        boxes[name] = np.arange(n) * (k + 1) + 0.5 * (BOX_DTYPE[name].kind == "f")
    return boxes


def test_dtype_is_that_of_the_raw_files(conformance):
    assert BOX_DTYPE.itemsize == 40
    for name in ("raw_gen1/val/seq_val_bbox.npy", "raw_gen4/val/seq_val_bbox.npy"):
        raw = np.load(conformance(name))
        assert raw.dtype == BOX_DTYPE
        boxes = read_boxes(conformance(name))
        assert len(boxes) > 10
        assert boxes.tolist() == raw.tolist()


@pytest.mark.parametrize("n", [0, 5])
def test_round_trip(n, tmp_path):
    write_boxes(tmp_path / "a_bbox.npy", some_boxes(n))
    assert os.listdir(tmp_path) == ["a_bbox.npy"]
    read = read_boxes(tmp_path / "a_bbox.npy")
    assert read.dtype == BOX_DTYPE
    assert read.tolist() == some_boxes(n).tolist()


def test_other_names_types_and_order(tmp_path):
    fields = [("ts", "<u8"), ("confidence", "<f8"), ("x", "<f8"), ("y", "<f4"), ("w", "<i2"), ("h", ">f4")]
    raw = np.zeros(2, [*fields, ("class_id", "u1"), ("track_id", "<i8"), ("valid", "?")])
    raw["ts"], raw["confidence"], raw["w"], raw["class_id"], raw["track_id"] = (
        [7, 9],
        0.25,
        12,
        [0, 2],
        [4, 1],
    )
    raw["x"], raw["h"] = [-1.5, 2.5], 3.5
    np.save(tmp_path / "a_bbox.npy", raw)
    boxes = read_boxes(tmp_path / "a_bbox.npy")
    assert boxes.dtype == BOX_DTYPE
    assert boxes.tolist() == [(7, -1.5, 0.0, 12.0, 3.5, 0, 4, 0.25), (9, 2.5, 0.0, 12.0, 3.5, 2, 1, 0.25)]


def test_missing_tracks_and_confidences_have_defaults(tmp_path):
    names = [name for name in BOX_DTYPE.names if name not in ("track_id", "class_confidence")]
    np.save(tmp_path / "a_bbox.npy", some_boxes()[names])
    boxes = read_boxes(tmp_path / "a_bbox.npy")
    assert boxes["track_id"].tolist() == [0] * 5
    assert boxes["class_confidence"].tolist() == [1] * 5
    assert boxes[names].tolist() == some_boxes()[names].tolist()


@pytest.mark.parametrize(
    ("field", "value", "dtype"),
    [
        ("x", np.nan, "f4"),
        ("h", np.inf, "f4"),
        ("class_id", -1, "i4"),
        ("t", 2**63, "u8"),
        ("track_id", 2**32, "i8"),
    ],
)
def test_values_that_no_box_has(field, value, dtype, tmp_path):
    raw = some_boxes().astype(
        [(name, dtype if name == field else BOX_DTYPE[name]) for name in BOX_DTYPE.names]
    )
    raw[field][3] = value
    np.save(tmp_path / "a_bbox.npy", raw)
    with pytest.raises(InputError, match=rf"a_bbox\.npy: box 3 has {field} = "):
        read_boxes(tmp_path / "a_bbox.npy")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8)), "not a flat structured array"),
        (np.zeros(3, [("t", "i8"), ("x", "f4")]), "without a field y; it has t, x"),
        (np.zeros(3, [(name, "S4" if name == "w" else "f4") for name in BOX_DTYPE.names]), "field w holds"),
        (np.array([{"t": 1}]), "not a readable npy file"),
    ],
)
def test_foreign_arrays(array, message, tmp_path):
    np.save(tmp_path / "a_bbox.npy", array)
    with pytest.raises(InputError, match=message):
        read_boxes(tmp_path / "a_bbox.npy")


def test_unreadable_files(tmp_path):
    path = tmp_path / "a_bbox.npy"
    with pytest.raises(InputError, match="no such file"):
        read_boxes(path)
    with pytest.raises(InputError, match="is a folder"):
        read_boxes(tmp_path)
    write_boxes(path, some_boxes())
    whole = path.read_bytes()
    for content, message in (
        (b"", "is empty"),
        (b"no npy", "not a readable"),
        (whole[:-9], "not a readable"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_boxes(path)
    with open(path, "wb") as file:
        np.savez(file, boxes=some_boxes())
    with pytest.raises(InputError, match="not a flat structured array"):
        read_boxes(path)


def test_write_refuses_other_arrays_and_places(tmp_path):
    with pytest.raises(InputError, match="give a flat array of BOX_DTYPE"):
        write_boxes(tmp_path / "a_bbox.npy", np.zeros((2, 8)))
    with pytest.raises(InputError, match="cannot be written"):
        write_boxes(tmp_path / "missing" / "a_bbox.npy", some_boxes())
    assert os.listdir(tmp_path) == []


def test_csv_has_a_line_for_each_box():
    boxes = some_boxes(3)
    boxes["class_id"] = [1, 0, 1]
    lines = [line.split(",") for line in csv_lines(boxes, ("car", "pedestrian")).splitlines()]
    assert [line[5] for line in lines] == ["pedestrian", "car", "pedestrian"]
    for line, box in zip(lines, boxes, strict=True):
        assert (int(line[0]), int(line[7])) == (box["t"], box["track_id"])
        for i, name in ((1, "x"), (2, "y"), (3, "w"), (4, "h"), (6, "class_confidence")):
            assert float(line[i]) == pytest.approx(float(box[name]), abs=0.005)


def test_names_of_classes_are_quoted_in_csv():
    classes = ("car, parked", 'the "other"')
    boxes = some_boxes(2)
    boxes["class_id"] = [0, 1]
    rows = list(csv.reader(csv_lines(boxes, classes).splitlines()))
    assert [(len(row), row[5]) for row in rows] == [(8, name) for name in classes]

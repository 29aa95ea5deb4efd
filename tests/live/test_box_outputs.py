"""Boxes written window by window are those that the plain writers write at once."""

import json

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, read_boxes, read_coco, read_yolo, write_boxes, write_coco
from ssmbook.live.box_outputs import box_output, yolo_output

CLASSES = ("car", "pedestrian")
HW = (60, 80)


def windows(count=6):
    """(t_us, boxes) of windows, some without boxes."""
    rng = np.random.default_rng(0)
    for k in range(count):
        boxes = np.zeros(k % 3, BOX_DTYPE)
        boxes["t"] = 50_000 * (k + 1)
        for name, high in (("x", 40), ("y", 30), ("w", 38), ("h", 28)):
            boxes[name] = rng.uniform(1, high, len(boxes))
        boxes["class_id"], boxes["track_id"] = rng.integers(0, 2, len(boxes)), k
        boxes["class_confidence"] = rng.random(len(boxes))
        yield 50_000 * (k + 1), boxes


def all_boxes():
    return np.concatenate([boxes for _, boxes in windows()]).astype(BOX_DTYPE)


def write(path, make=box_output):
    with make(path, CLASSES, HW) as output:
        for t_us, boxes in windows():
            output(np.zeros(0), t_us, boxes)
            assert not path.exists()
    return path


def test_npy_has_the_bytes_of_write_boxes(tmp_path):
    write_boxes(tmp_path / "b.npy", all_boxes())
    assert write(tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    np.testing.assert_array_equal(read_boxes(tmp_path / "a.npy"), all_boxes())


def test_coco_says_what_write_coco_says(tmp_path):
    write_coco(tmp_path / "b.json", all_boxes(), CLASSES, *HW)
    assert json.loads(write(tmp_path / "a.json").read_text()) == json.loads((tmp_path / "b.json").read_text())
    np.testing.assert_array_equal(read_coco(tmp_path / "a.json", CLASSES), all_boxes())


def test_csv_has_a_line_for_each_box(tmp_path):
    header, *lines = (line.split(",") for line in write(tmp_path / "a.csv").read_text().splitlines())
    assert header == ["t_us", "x", "y", "w", "h", "class", "score", "track"]
    for line, box in zip(lines, all_boxes(), strict=True):
        assert (int(line[0]), line[5], int(line[7])) == (box["t"], CLASSES[box["class_id"]], box["track_id"])


def test_a_yolo_folder_is_read_back(tmp_path):
    folder = write(tmp_path / "labels", yolo_output)
    assert len(list(folder.glob("*us.txt"))) == 6
    assert (folder / "classes.txt").read_text().split() == list(CLASSES)
    found = read_yolo(folder, 80, 60)
    for name in BOX_DTYPE.names:
        np.testing.assert_allclose(found[name], all_boxes()[name], rtol=0, atol=1e-4, err_msg=name)
    with pytest.raises(InputError, match="is there already"):
        write(folder, yolo_output)


def test_yolo_boxes_are_clipped_to_the_frame(tmp_path):
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [-10, 200], 5, [1e9, 5], 10
    with yolo_output(tmp_path / "labels", CLASSES, HW) as output:
        output(np.zeros(0), 7, boxes)
    (found,) = read_yolo(tmp_path / "labels", 80, 60)
    assert (found["x"], found["w"]) == pytest.approx((0, 79), abs=1e-3)


def test_nothing_is_left_of_what_fails(tmp_path):
    for name, make in (("a.npy", box_output), ("a.json", box_output), ("a", yolo_output)):
        with pytest.raises(ZeroDivisionError), make(tmp_path / name, CLASSES, HW):
            raise ZeroDivisionError
    with pytest.raises(InputError, match="give one of these endings"):
        write(tmp_path / "a.txt")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "missing" / "a", yolo_output)
    assert list(tmp_path.iterdir()) == []

"""COCO json and YOLO txt become the same boxes as Prophesee's npy; a wrong entry is named by file and place."""

import copy
import json

import numpy as np
import pytest

from ssmbook.dataset import Sensor, find_sequences, preprocess
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, DatWriter, Events, read_coco, read_yolo, write_boxes
from ssmbook.events import write_coco as write_coco_boxes

WIDTH, HEIGHT = 64, 32  # powers of two: shares of them are exact
CLASSES = ("car", "pedestrian")


def some_boxes(seed=0, count=12):
    """Boxes at multiples of 50 ms from 100 ms on, with coordinates that all three formats hold exactly."""
    rng = np.random.default_rng(seed)
    boxes = np.zeros(count, BOX_DTYPE)
    boxes["t"] = np.sort(50_000 * rng.integers(2, 9, size=count))
    boxes["x"], boxes["y"] = rng.integers(0, 32, size=count), rng.integers(0, 8, size=count)
    boxes["w"], boxes["h"] = 2 * rng.integers(4, 16, size=count), 1.5 * rng.integers(4, 16, size=count)
    boxes["class_id"], boxes["class_confidence"] = rng.integers(0, 2, size=count), 1
    return boxes


def as_coco(boxes, frames=False):
    """A COCO file whose ids and whose order of categories are not those of the classes."""
    images = [{"id": 100 + i, "timestamp_us": int(t)} for i, t in enumerate(np.unique(boxes["t"]))]
    images = [
        {"id": row["id"], "frame": row["timestamp_us"] // 50_000} if frames else row for row in images[::-1]
    ]
    ids = {int(t): 100 + i for i, t in enumerate(np.unique(boxes["t"]))}
    annotations = [
        {
            "id": i,
            "image_id": ids[int(b["t"])],
            "category_id": 8 - int(b["class_id"]),
            "bbox": [float(b[k]) for k in "xywh"],
        }
        for i, b in enumerate(boxes)
    ]
    categories = [{"id": 7, "name": "pedestrian"}, {"id": 8, "name": "car"}, {"id": 9, "name": "tram"}]
    return {
        "info": {"frame_rate": 20},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def write_coco(path, content):
    path.write_text(json.dumps(content))
    return path


def write_yolo(folder, boxes, name="{t:09d}us.txt"):
    folder.mkdir()
    for t in np.unique(boxes["t"]):
        rows = [
            f"{b['class_id']} {(b['x'] + b['w'] / 2) / WIDTH} {(b['y'] + b['h'] / 2) / HEIGHT} "
            f"{b['w'] / WIDTH} {b['h'] / HEIGHT}"
            for b in boxes[boxes["t"] == t]
        ]
        (folder / name.format(t=int(t), n=int(t) // 50_000)).write_text("\n".join(rows) + "\n\n")
    return folder


@pytest.mark.parametrize("frames", [False, True])
def test_coco_gives_the_boxes(tmp_path, frames):
    boxes = some_boxes()
    path = write_coco(tmp_path / "a_bbox.json", as_coco(boxes, frames))
    np.testing.assert_array_equal(read_coco(path, CLASSES), boxes)


def test_written_coco_is_read_back(tmp_path):
    boxes = some_boxes()
    boxes["track_id"], boxes["class_confidence"] = np.arange(len(boxes)), np.linspace(0, 1, len(boxes))
    write_coco_boxes(tmp_path / "a_bbox.json", boxes, CLASSES, 240, 304)
    np.testing.assert_array_equal(read_coco(tmp_path / "a_bbox.json", CLASSES), boxes)
    write_coco_boxes(tmp_path / "b_bbox.json", boxes[:0], CLASSES, 240, 304)
    assert len(read_coco(tmp_path / "b_bbox.json", CLASSES)) == 0


def test_coco_reads_tracks_and_scores_and_counts_on_for_other_categories(tmp_path):
    content = as_coco(some_boxes(count=1))
    content["annotations"][0] |= {"category_id": 9, "track_id": 5, "score": 0.25}
    (box,) = read_coco(write_coco(tmp_path / "a.json", content), CLASSES)
    assert (box["class_id"], box["track_id"], box["class_confidence"]) == (2, 5, 0.25)


@pytest.mark.parametrize("name", ["{t:09d}us.txt", "cam0_{t}us.txt", "frame{n:07d}.txt"])
def test_yolo_gives_the_boxes(tmp_path, name):
    boxes = some_boxes()
    folder = write_yolo(tmp_path / "a_bbox", boxes, name)
    (folder / name.format(t=9_000_000, n=180)).write_text("")  # a frame without a box
    np.testing.assert_array_equal(read_yolo(folder, WIDTH, HEIGHT, 50_000), boxes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "lacks a list images"),
        (lambda c: c["images"][1].pop("id"), r"images\[1\] has no id"),
        (lambda c: c["images"][2].update(timestamp_us=None), r"images\[2\] has timestamp_us = None"),
        (lambda c: c["images"][0].update(timestamp_us=-1), r"images\[0\] has timestamp_us = -1"),
        (lambda c: c["images"][0].update(timestamp_us=2**70), r"images\[0\] has timestamp_us"),
        (
            lambda c: c["images"][0].update(timestamp_us=None, frame=1.5),
            r"images\[0\] has frame = 1.5 at 20 Hz",
        ),
        (lambda c: c["annotations"][3].update(image_id=1), r"annotations\[3\] has image_id = 1"),
        (lambda c: c["annotations"][3].update(image_id=[1]), r"annotations\[3\] has image_id = \[1\]"),
        (lambda c: c["annotations"][3].update(category_id=1), r"annotations\[3\] has category_id = 1"),
        (lambda c: c["annotations"][4].update(bbox=[1, 2, 3]), r"annotations\[4\] has bbox = \[1, 2, 3\]"),
        (lambda c: c["annotations"][4].update(bbox=[1, 2, 3, float("nan")]), r"annotations\[4\] has bbox"),
        (lambda c: c["annotations"][4].update(track_id=-1), r"annotations\[4\] has track_id -1"),
        (lambda c: c["annotations"].append(3), r"annotations\[12\] is 3"),
    ],
)
def test_a_wrong_coco_entry_is_named(tmp_path, change, message):
    content = copy.deepcopy(as_coco(some_boxes()))
    change(content)
    with pytest.raises(InputError, match=rf"a_bbox\.json: {message}"):
        read_coco(write_coco(tmp_path / "a_bbox.json", content), CLASSES)


@pytest.mark.parametrize("text", ["{", "3", "[]", "[" * 100_000, "\ufeff\x00"])
def test_what_is_no_coco_file_is_named(tmp_path, text):
    (tmp_path / "a_bbox.json").write_text(text)
    with pytest.raises(InputError, match=r"a_bbox\.json: (is not json|lacks a list)"):
        read_coco(tmp_path / "a_bbox.json", CLASSES)


@pytest.mark.parametrize(
    "line",
    [
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 0.2 1",
        "1.5 0.5 0.5 0.2 0.2",
        "-1 0 0 1 1",
        "0 .5 .5 nan .2",
        "0 9 9 2 2",
        "car 0 0 1 1",
    ],
)
def test_a_wrong_yolo_line_is_named(tmp_path, line):
    folder = write_yolo(tmp_path / "a_bbox", some_boxes(count=1))
    (path,) = folder.iterdir()
    path.write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(InputError, match=rf"{path.name}: line 3 is '{line}'"):
        read_yolo(folder, WIDTH, HEIGHT)


def test_a_yolo_file_needs_a_time(tmp_path):
    with pytest.raises(InputError, match="has no txt file"):
        read_yolo(tmp_path, WIDTH, HEIGHT)
    folder = write_yolo(tmp_path / "a_bbox", some_boxes(), "frame{n}.txt")
    with pytest.raises(
        InputError, match=r"frame\d.txt: is numbered, so the sensor needs a label_interval_ms"
    ):
        read_yolo(folder, WIDTH, HEIGHT)
    (folder / "classes.txt").write_text("car")
    with pytest.raises(InputError, match=r"classes\.txt: its name must end in a time"):
        read_yolo(folder, WIDTH, HEIGHT, 50_000)


# Through preprocessing


def test_the_same_boxes_give_the_same_sequences(tmp_path):
    """One sensor's YAML, one recording, its boxes in three formats."""
    (tmp_path / "mine.yaml").write_text(
        f"width: {WIDTH}\nheight: {HEIGHT}\nclasses: [car, pedestrian]\nlabel_interval_ms: 50\n"
    )
    split = tmp_path / "raw/train"
    split.mkdir(parents=True)
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 500_000, size=1000))
    x, y, p = (rng.integers(0, size, size=1000) for size in (WIDTH, HEIGHT, 2))
    boxes = some_boxes()
    for name in ("npy", "coco"):
        with DatWriter(split / f"{name}_td.dat", WIDTH, HEIGHT) as file:
            file.write(Events(t, x, y, p))
    np.save(split / "yolo_td.npy", np.stack([t, x, y, p], axis=1))
    write_boxes(split / "npy_bbox.npy", boxes)
    write_coco(split / "coco_bbox.json", as_coco(boxes))
    write_yolo(split / "yolo_bbox", boxes)
    summary = preprocess(tmp_path / "raw", tmp_path / "set", sensor=tmp_path / "mine.yaml", progress=False)
    assert summary.done == ["train/coco", "train/npy", "train/yolo"]
    coco, npy, yolo = find_sequences(tmp_path / "set/train")
    for other in (coco, yolo):
        np.testing.assert_array_equal(other.frames(0, len(other)), npy.frames(0, len(npy)))
        for i in range(len(npy.label_frames)):
            np.testing.assert_array_equal(other.labels_at(i), npy.labels_at(i))
    assert len(npy.label_frames) == len(np.unique(boxes["t"]))


def test_a_clock_that_does_not_start_near_zero_is_an_error(tmp_path):
    """Stamps since 1970 would mean billions of empty windows."""
    split = tmp_path / "raw/train"
    split.mkdir(parents=True)
    t0 = 1_672_932_747_906_204
    np.save(split / "a_td.npy", np.array([[t0, 1, 1, 1], [t0 + 40_000, 2, 2, 0]]))
    write_yolo(split / "a_bbox", np.array([(t0 + 40_000, 1, 1, 20, 20, 0, 0, 1)], BOX_DTYPE))
    sensor = Sensor("mine", WIDTH, HEIGHT, CLASSES, label_interval_ms=50)
    with pytest.raises(InputError, match=r"hours after 0 µs.*count the times .* from the start"):
        preprocess(tmp_path / "raw", tmp_path / "set", sensor=sensor, progress=False)


def test_pedro_boxes_agree_with_its_xml(recordings, tmp_path):
    """Person boxes of real 40 ms windows: the txt says what the VOC xml says in pixels."""
    from xml.etree import ElementTree

    for path in sorted(recordings("pedro").glob("yolo/*/*.txt")):
        folder = tmp_path / path.stem
        folder.mkdir()
        (folder / "100000us.txt").write_bytes(path.read_bytes())
        boxes = read_yolo(folder, 346, 260)
        xml = ElementTree.parse(recordings("pedro") / "xml" / path.parent.name / f"{path.stem}.xml")
        wanted = [
            [float(box.find(key).text) for key in ("xmin", "ymin", "xmax", "ymax")]
            for box in xml.iter("bndbox")
        ]
        found = np.stack([boxes["x"], boxes["y"], boxes["x"] + boxes["w"], boxes["y"] + boxes["h"]], axis=1)
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        assert set(boxes["t"]) == {100_000}

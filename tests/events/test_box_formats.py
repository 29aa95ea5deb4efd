"""COCO json and YOLO txt become the same boxes as Prophesee's npy; a wrong entry is named by file and place."""

import copy
import json

import numpy as np
import pytest

from ssmbook.dataset import Sensor, find_sequences, preprocess
from ssmbook.dataset.labels import read_labels
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, DatWriter, Events, read_coco, read_voc, read_yolo, write_boxes
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
        "0 0.5 0.5 0.2 0.2 1.5",
        "0 0.5 0.5 0.2 0.2 1 -3",
        "0 0.5 0.5 0.2 0.2 1 0.5",
        "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4 0.4",
        "0 120 80 30 30",
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
    (folder / "notes.txt").write_text("car")
    with pytest.raises(InputError, match=r"notes\.txt: its name must end in a time"):
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


def test_a_clock_that_does_not_start_near_zero_makes_few_windows(tmp_path):
    """Stamps since 1970, as PEDRo's: windows start where events do."""
    split = tmp_path / "raw/train"
    split.mkdir(parents=True)
    t0 = 1_672_932_747_906_204
    np.save(split / "a_td.npy", np.array([[t0, 1, 1, 1], [t0 + 40_000, 2, 2, 0]]))
    write_yolo(split / "a_bbox", np.array([(t0 + 40_000, 1, 1, 20, 20, 0, 0, 1)], BOX_DTYPE))
    sensor = Sensor("mine", WIDTH, HEIGHT, CLASSES, label_interval_ms=50)
    preprocess(tmp_path / "raw", tmp_path / "set", sensor=sensor, progress=False)
    (sequence,) = find_sequences(tmp_path / "set/train")
    assert sequence.timestamps_us.tolist() == [t0 + 40_000]
    assert sequence.frames(0, 1).sum() == 2


# As tools write them


def yolo_folder(folder, **files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def boxes_in(text, tmp_path):
    return read_yolo(yolo_folder(tmp_path / "a_bbox", **{"100000us.txt": text}), WIDTH, HEIGHT).tolist()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 0.5 0.5 0.25 0.5", [(24, 8, 16, 16, 1, 0, 1)]),
        ("1 0.5 0.5 0.25 0.5 0.75", [(24, 8, 16, 16, 1, 0, 0.75)]),
        ("1 0.5 0.5 0.25 0.5 0.75 12", [(24, 8, 16, 16, 1, 12, 0.75)]),
        (b"\xef\xbb\xbf1 0.5 0.5 0.25 0.5\r\n\r\n", [(24, 8, 16, 16, 1, 0, 1)]),
        ("1.000000 0.500000 0.5e0 0.25 0.5\t\n", [(24, 8, 16, 16, 1, 0, 1)]),
        ("0 1.0625 0.5 0.25 0.5", [(60, 8, 16, 16, 0, 0, 1)]),
        ("0 -0.0625 0.5 0.25 0.5", [(-12, 8, 16, 16, 0, 0, 1)]),
        ("0 0.500000 0.500000 0.000000 0.000000", [(32, 16, 0, 0, 0, 0, 1)]),
        ("", []),
    ],
)
def test_yolo_lines_as_tools_write_them(tmp_path, text, wanted):
    assert boxes_in(text, tmp_path) == [(100_000, *box) for box in wanted]


@pytest.mark.parametrize(
    ("names", "times"),
    [
        (("000100000us.txt", "150000us.TXT"), (100_000, 150_000)),
        (("f_100ms.txt", "f_150ms.txt"), (100_000, 150_000)),
        (("0.100000.txt", "cam_0.15.txt"), (100_000, 150_000)),
        (("0.1s.txt", "1s.txt"), (100_000, 1_000_000)),
        (("100000.txt", "150000.txt"), (100_000, 150_000)),  # 50,000 apart: no frames' numbers
        (("1676562141477616.txt",), (1_676_562_141_477_616,)),
        (("frame0000002.txt", "frame0000003.txt"), (100_000, 150_000)),
        (("cam1.0002.txt", "cam1.0003.txt"), (100_000, 150_000)),
        (("17525.txt",), (17_525 * 50_000,)),
    ],
)
def test_seconds_microseconds_and_numbers_are_told_apart(tmp_path, names, times):
    folder = yolo_folder(tmp_path / "a_bbox", **dict.fromkeys(names, "0 0.5 0.5 0.5 0.5"))
    assert read_yolo(folder, WIDTH, HEIGHT, 50_000)["t"].tolist() == list(times)


@pytest.mark.parametrize(
    "name", ["9" * 25 + "us", "9" * 240, f"{2**61 + 1}us", "9999999999999.9s", "9" * 20 + "ms"]
)
def test_a_time_that_is_too_large_is_named(tmp_path, name):
    folder = yolo_folder(tmp_path / "a_bbox", **{f"{name}.txt": ""})
    with pytest.raises(InputError, match="its time is too large"):
        read_yolo(folder, WIDTH, HEIGHT, 50_000)


def test_classes_txt_names_the_classes(tmp_path):
    """Its order is not the sensor's."""
    split = tmp_path / "raw/train"
    split.mkdir(parents=True)
    folder = yolo_folder(
        split / "a_bbox",
        **{"classes.txt": "Pedestrian\ncar\n\n", "100000us.txt": "1 .5 .5 .5 .5\n0 .5 .5 .5 .5"},
    )
    sensor = Sensor("mine", WIDTH, HEIGHT, CLASSES, label_interval_ms=50)
    assert read_labels(folder, sensor)["class_id"].tolist() == [0, 1]
    assert read_yolo(folder, WIDTH, HEIGHT)["class_id"].tolist() == [1, 0], "as they stand in the file"
    (folder / "classes.txt").unlink()
    assert read_labels(folder, sensor)["class_id"].tolist() == [1, 0]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["images"][2].update(timestamp_us=None, frame=10**400),
        lambda c: c.update(info={"frame_rate": 1e-310}) or c["images"][1].update(timestamp_us=None, frame=3),
        lambda c: (
            c.update(info={"frame_rate": float("nan")}) or c["images"][1].update(timestamp_us=None, frame=3)
        ),
        lambda c: c["images"][1].update(timestamp_us=10**400),
        lambda c: c["images"][1].update(timestamp_us=float("inf")),
        lambda c: c["images"][1].update(id=c["images"][0]["id"]),
        lambda c: c["categories"][1].update(id=7),
        lambda c: c["annotations"][1].update(bbox=[10**400, 0, 1, 1]),
        lambda c: c["annotations"][1].update(score=10**400),
        lambda c: c["annotations"][1].update(track_id=10**400),
        lambda c: c["annotations"][1].update(bbox="x" * 10**6),
        lambda c: c["annotations"][1].update(image_id="\x1b[31m" * 10**5),
    ],
)
def test_odd_values_of_coco_are_short_input_errors(tmp_path, change):
    content = as_coco(some_boxes())
    change(content)
    path = write_coco(tmp_path / "a_bbox.json", content)
    with pytest.raises(InputError, match=r"(images|annotations|categories)\[\d\]") as error:
        read_coco(path, CLASSES)
    message = str(error.value).removeprefix(str(path))
    assert len(message) < 200
    assert message.isprintable()


def test_coco_as_tools_write_it(tmp_path):
    content = as_coco(some_boxes(count=1))
    content["images"][0]["timestamp_us"] = float(content["images"][0]["timestamp_us"])
    content["annotations"][0] |= {"track_id": None, "score": None}
    content["categories"][1]["name"] = "Car"
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    np.testing.assert_array_equal(read_coco(path, CLASSES), some_boxes(count=1))


VOC = """<annotation><filename>a.jpg</filename><size><width>64</width><height>32</height><depth>1</depth></size>
<object><name>Pedestrian</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>13.5</xmax><ymax>20</ymax></bndbox></object>
<object><name>car</name><bndbox><ymin>1</ymin><xmin>2</xmin><xmax>70</xmax><ymax>9</ymax></bndbox></object>
</annotation>"""


def test_voc_gives_the_boxes(tmp_path):
    folder = yolo_folder(
        tmp_path / "a_bbox", **{"100000us.xml": VOC, "000050us.XML": VOC, "classes.txt": "car"}
    )
    boxes = read_voc(folder, CLASSES, WIDTH, HEIGHT)
    assert boxes.tolist()[2:] == [(100_000, 3, 4, 10.5, 16, 1, 0, 1), (100_000, 2, 1, 68, 8, 0, 0, 1)]
    assert boxes["t"].tolist() == [50, 50, 100_000, 100_000]
    (folder / "150000us.txt").write_text("")
    with pytest.raises(InputError, match="has xml and txt files"):
        read_labels(folder, Sensor("mine", WIDTH, HEIGHT, CLASSES))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<width>64", "<width>640", "its width is '640', but the sensor's 64"),
        ("<name>car</name>", "", "object 2 lacks a name or a bndbox"),
        ("<xmin>3</xmin>", "<xmin>nan</xmin>", "object 1 lacks"),
        ("<xmin>3</xmin>", "", "object 1 lacks"),
        ("</annotation>", "", "is not readable xml"),
        ("annotation>", "data>", "holds 'data' and no annotation"),
        ("<annotation>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>", "is not readable xml"),
        ("<annotation>", "<annotation>" + "<a>" * 10**5, "is not readable xml"),
        ("<size>", "\x00", "is not readable xml"),
    ],
)
def test_wrong_voc_is_named(tmp_path, old, new, message):
    folder = yolo_folder(tmp_path / "a_bbox", **{"100000us.xml": VOC.replace(old, new)})
    with pytest.raises(InputError, match=rf"100000us\.xml: {message}"):
        read_voc(folder, CLASSES, WIDTH, HEIGHT)


def test_pedro_through_preprocessing(recordings, tmp_path):
    """Real windows of 40 ms on their own clock, since 1970, with VOC and with YOLO labels at their ends: 9 boxes."""
    made = {}
    for kind in ("yolo", "xml"):
        for path in sorted(recordings("pedro").glob("numpy/*/*.npy")):
            split = tmp_path / kind / path.parent.name
            split.mkdir(parents=True, exist_ok=True)
            (split / path.name).symlink_to(path)
            (label,) = (recordings("pedro") / kind / path.parent.name).glob(f"{path.stem}.*")
            end_us = int(np.load(path)[-1, 0])
            yolo_folder(split / f"{path.stem}_bbox", **{f"{end_us}us{label.suffix}": label.read_bytes()})
        sensor = Sensor("davis346", 346, 260, ("person",), label_interval_ms=40)
        summary = preprocess(
            tmp_path / kind, tmp_path / f"{kind}_set", sensor, window_ms=40, stride_ms=40, progress=False
        )
        assert len(summary.done) == 5
        (counts,) = summary.labels.values()
        assert (counts.read, counts.kept) == (9, 9)
        made[kind] = [
            s for split in ("train", "val") for s in find_sequences(tmp_path / f"{kind}_set" / split)
        ]
    for a, b in zip(made["yolo"], made["xml"], strict=True):
        assert len(a) == 1
        np.testing.assert_array_equal(a.frames(0, 1), b.frames(0, 1))
        assert a.frames(0, 1).sum() > 1000
        for key in "xywh":
            np.testing.assert_allclose(a.labels_at(0)[key], b.labels_at(0)[key], atol=1e-3)


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

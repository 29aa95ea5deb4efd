"""Files beside events: boxes in each format, sensors, what a preprocessed sequence consists of, checkpoints."""

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fuzz.checkpoints import UNCHANGED, archives, pickles, read_archive, read_pickle, read_values
from ssmbook.dataset import Sensor, Sequence
from ssmbook.dataset.labels import LabelPlan, plan_labels, read_labels
from ssmbook.dataset.layout import write_sequence
from ssmbook.dataset.parameters import PARAMETERS, Parameters, claim
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, write_coco

SENSOR = Sensor("mine", 64, 32, ("car", "pedestrian"), label_interval_ms=50)
SET = Parameters(SENSOR, "stacked_histogram", 50, None, 50, "exact")
NAME = "stacked_histogram_dt=50_nbins=2"


@dataclass(frozen=True)
class Kind:
    """``read`` reads a file, whose name ends so, after it was mutated from one of ``seeds``."""

    ending: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], None]


def _boxes(count):
    rng = np.random.default_rng(count)
    boxes = np.zeros(count, BOX_DTYPE)
    boxes["t"] = 50_000 * rng.integers(2, 9, count)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = rng.integers(0, 30, (4, count))
    boxes["class_id"] = rng.integers(0, 2, count)
    return boxes


def _plan(path):
    boxes = read_labels(path, SENSOR)
    try:
        plan, _ = plan_labels(boxes, SENSOR, 50_000)
    except InputError as error:  # as preprocessing names the file
        raise InputError(f"{path}: {error}") from None
    if plan is not None:
        assert (np.diff(plan.window_ends_us) > 0).all()
        assert len(plan.boxes) <= len(boxes)


def _npy():
    contents = []
    for dtype in (BOX_DTYPE, np.dtype([(name, BOX_DTYPE[name]) for name in BOX_DTYPE.names])):
        buffer = io.BytesIO()
        np.save(buffer, _boxes(20).astype(dtype))
        contents.append(buffer.getvalue())
    return contents


def _coco():
    with tempfile.TemporaryDirectory() as folder:
        write_coco(Path(folder) / "a.json", _boxes(12), SENSOR.classes, 32, 64)
        return [(Path(folder) / "a.json").read_bytes()]


def _of_frame(name):
    """Reads the one file as that of a frame at 100 ms."""

    def read(path):
        folder = path.with_name("a_bbox")
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(path.read_bytes())
        try:
            _plan(folder)
        finally:
            (folder / name).unlink()

    return read


VOC = b"""<?xml version="1.0" encoding="utf-8"?>
<annotation><size><width>64</width><height>32</height></size><object><name>car</name><bndbox>
<xmin>3</xmin><ymin>4</ymin><xmax>13</xmax><ymax>20</ymax></bndbox></object></annotation>"""
YAML = b"""name: mine
width: 64
height: 32
classes: [car, "pedestrian", 'bus']
label_interval_ms: 50
class_map: {Van: car, 7: bus, tram: null}
drop_other_classes: true
"""


def _sequence(folder):
    boxes = _boxes(20)
    boxes["w"] = boxes["h"] = 20
    plan, _ = plan_labels(boxes, SENSOR, 50_000)
    assert isinstance(plan, LabelPlan)
    frames = np.random.default_rng(0).integers(0, 3, (len(plan.window_ends_us), 2, 8, 16), np.uint8)
    write_sequence(folder, NAME, plan, frames)


def _part(name):
    """A file of a sequence: how it is when whole, and how the sequence is read with another in its place."""

    def find(folder):
        return sorted(folder.rglob(name))[0]

    def seeds():
        with tempfile.TemporaryDirectory() as folder:
            _sequence(Path(folder) / "a")
            return [find(Path(folder)).read_bytes()]

    def read(path):
        folder = path.with_name("a_sequence")
        if not folder.exists():
            _sequence(folder)
        find(folder).write_bytes(path.read_bytes())
        sequence = Sequence(folder, NAME)
        for i in range(len(sequence.label_frames)):
            sequence.labels_at(i)
        assert sequence.frames(0, len(sequence)).shape[1:] == sequence.shape
        sequence.close()

    return seeds, read


def _claim(path):
    folder = path.with_name("a_set")
    folder.mkdir(exist_ok=True)
    (folder / PARAMETERS).write_bytes(path.read_bytes())
    claim(folder, SET)


LABELS = {
    "boxes_npy": Kind("_bbox.npy", _npy, _plan),
    "boxes_coco": Kind("_bbox.json", _coco, _plan),
    "boxes_yolo": Kind(
        ".txt", lambda: [b"0 0.5 0.5 0.25 0.5\n1 .1 .2 .3 .4 0.9 7\n"], _of_frame("100000us.txt")
    ),
    "boxes_voc": Kind(".xml", lambda: [VOC], _of_frame("100000us.xml")),
    "sensor_yaml": Kind(".yaml", lambda: [YAML], lambda path: asdict(Sensor.from_yaml(path)) and None),
    "sequence_labels": Kind("_labels.npz", *_part("labels.npz")),
    "sequence_times": Kind("_times.npy", *_part("timestamps_us.npy")),
    "sequence_indices": Kind("_indices.npy", *_part("objframe_idx_2_repr_idx.npy")),
    "sequence_frames": Kind("_frames.h5", *_part("*.h5")),
    "preprocess_json": Kind("_parameters.json", lambda: [json.dumps(asdict(SET), indent=2).encode()], _claim),
    "checkpoint": Kind(".ckpt", archives, read_archive),
    "checkpoint_pickle": Kind(".pkl", pickles, read_pickle),
    "checkpoint_values": Kind(".values", lambda: [UNCHANGED], read_values),
}

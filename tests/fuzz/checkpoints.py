"""Checkpoints: the archive as a whole, its pickle alone (in an archive whose checksums are right), and its values."""

import io
import math
import random
import tempfile
from functools import cache
from pathlib import Path
from zipfile import ZipFile

import torch
from checkpoint_files import named, small_detector, storage, tensor, text, write_archive

from ssmbook.dataset import Sensor
from ssmbook.detector import TrainedOn, load_checkpoint
from ssmbook.detector.checkpoint_file import read_checkpoint

# Pieces of pickles that do harm, put in among the opcodes of a whole one.
PIECES = (
    b")" + b"\x85" * 3000,
    b"r\xff\xff\xff\x7f",
    b"\x8d" + (1 << 62).to_bytes(8, "little"),
    b"\x8b\xff\xff\xff\x7f",
    tensor((1 << 40,), (0,)),
    tensor((5,), (1,)),
    storage("7"),
    storage(kind="ComplexDoubleStorage"),
    named("torch._utils", "_rebuild_sparse_tensor"),
    named("os", "system") + text("true") + b"\x85R",
    b"]q\x00h\x00a",
    b"(",
    b"t",
    b"2",
    b"b",
    b"\x81",
    b"R",
    b"o",
    b"Q",
)
UNCHANGED = b"checkpoint"
ODD = (
    *(
        None,
        True,
        -1,
        0,
        3,
        10**9,
        10**400,
        1 << 62,
        0.5,
        -1.0,
        math.nan,
        math.inf,
        1e-310,
        "",
        "s5",
        "x" * 5000,
    ),
    *(
        [],
        {},
        (),
        [3, 4],
        (64, 64),
        (10**9, 10**9),
        {"a": 1},
        {3: 4},
        b"\x00",
        torch.ones(2),
        torch.tensor(3),
    ),
    torch.ones(8, dtype=torch.complex64),
)


@cache
def _content():
    torch.manual_seed(0)
    model = small_detector()
    record = TrainedOn(Sensor.simulated(64, 64), window_ms=50, stride_us=50_000, sequence_length=5)
    return {
        "format": "ssmbook.detector",
        "config": model.config,
        "state_dict": dict(model.state_dict()),
        **record.content(),
    }


def archives():
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"a": torch.ones(3), "b": {"c": [torch.zeros(2, 2)]}}, Path(folder) / "a")
        return [(Path(folder) / "a").read_bytes()]


def read_archive(path):
    read_checkpoint(path)


def pickles():
    with ZipFile(io.BytesIO(archives()[0])) as archive:
        return [archive.read("a/data.pkl")]


def read_pickle(path):
    """The bytes as the pickle of an archive; one file in two gets a piece of an attack in their midst."""
    data = path.read_bytes()
    rng = random.Random(data)
    for _ in range(rng.choice((0, 1, 3))):
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(PIECES) + data[at:]
    whole = path.with_name("whole.ckpt")
    read_checkpoint(write_archive(whole, data, {"0": bytes(12), "1": bytes(16)}))


def read_values(path):
    """A whole checkpoint in which the bytes of the file choose what is replaced by values of other types and sizes."""
    data = path.read_bytes()
    rng = random.Random(data)
    content = _content()
    content = {**content, "config": dict(content["config"]), "state_dict": dict(content["state_dict"])}
    record = content["trained_on"] = dict(content["trained_on"])
    record["sensor"] = dict(record["sensor"])
    groups = (content, content["config"], content["state_dict"], record, record["sensor"])
    for _ in range(0 if data == UNCHANGED else rng.choice((0, 0, 1, 1, 2, 5))):
        group = rng.choice(groups)
        group[rng.choice([*group, "new"])] = rng.choice(ODD)
    whole = path.with_name("whole.ckpt")
    torch.save(content, whole)
    model = load_checkpoint(whole, "sim-smoke")
    trained_on = model.trained_on
    if trained_on is not None and trained_on.sensor is not None:
        trained_on.represent(trained_on.sensor, model.in_channels)

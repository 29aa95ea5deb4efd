"""ssmbook detect: what is refused, what is written of a stream that breaks, and in which pixels boxes are."""

import json
import os
import threading
from dataclasses import asdict

import numpy as np
import pytest

from ssmbook.cli import main
from ssmbook.dataset.labels import crop_boxes
from ssmbook.detector import save_checkpoint
from ssmbook.events import DatWriter, read_coco, read_yolo
from ssmbook.live.wire import Message, encode
from tests.live.test_stream import SENSOR, SIZE, model_of, random_events


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint, a recording of 0.4 s, one of 50 µs, and one of a single stamp."""
    folder = tmp_path_factory.mktemp("detect")
    save_checkpoint(folder / "model.ckpt", model_of().float(), sensor=asdict(SENSOR))
    events = random_events()
    short = events[: int(np.searchsorted(events.t, events.t[0] + 50, "right"))]
    for name, part in (("a", events), ("short", short), ("one", events[:1])):
        with DatWriter(folder / f"{name}_td.dat", SIZE, SIZE) as file:
            file.write(part)
    return folder


@pytest.fixture
def detect(files, tmp_path, monkeypatch):
    """Runs the command in an empty folder, with the recording's name and further arguments."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        return main(["detect", str(files / name), str(files / "model.ckpt"), *arguments])

    return run


def test_what_was_detected_before_a_stream_breaks_is_written(files, tmp_path, capsys):
    pipe = tmp_path / "events"
    os.mkfifo(pipe)
    events = random_events()
    size = SIZE, SIZE
    half = len(events) // 2
    sent = encode(Message(events[:half], None, 0, size)) + encode(Message(events[half:], None, 1, size))[:-5]
    sender = threading.Thread(target=pipe.write_bytes, args=(sent,))
    sender.start()
    command = ["detect", "--live", str(pipe), str(files / "model.ckpt"), "--runtime", "torch", "--json"]
    assert main([*command, "--out", str(tmp_path / "a.csv"), "--yolo", str(tmp_path / "labels")]) == 1
    sender.join()
    out, said = capsys.readouterr()
    assert "the stream ends 5 bytes before its message does" in said.splitlines()[-1]
    facts = json.loads(out)
    assert facts["windows"] > 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + facts["boxes"]
    assert len(list((tmp_path / "labels").glob("*us.txt"))) == facts["windows"]


@pytest.mark.parametrize("name", ["a.csv", "a.npy", "link.csv"])
def test_what_is_read_is_not_written_over(name, files, tmp_path, detect, capsys):
    (tmp_path / name.replace("link", "a")).write_bytes(b"0 0 0 1\n")
    if "link" in name:
        (tmp_path / name).symlink_to(tmp_path / "a.csv")
    assert main(["detect", name.replace("link", "a"), str(files / "model.ckpt"), "--out", name]) == 1
    assert f"{name}: is the recording itself; give another name" in capsys.readouterr().err
    assert detect("a_td.dat", "--truth", name, "--out", name) == 1
    assert f"{name}: is the file of --truth itself; give another name" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == b"0 0 0 1\n"


def test_boxes_of_smaller_frames_are_in_the_cameras_pixels(tmp_path, detect):
    """64 pixels are no multiple of 3: a frame of 22 × 3 would have 66."""
    assert detect("a_td.dat", "--shrink", "3", "--out", "a_bbox.json", "--yolo", "labels") == 0
    images = json.loads((tmp_path / "a_bbox.json").read_text())["images"]
    assert {(image["width"], image["height"]) for image in images} == {(SIZE, SIZE)}
    wanted = crop_boxes(read_coco("a_bbox.json", SENSOR.classes), SIZE, SIZE)
    found = read_yolo("labels", SIZE, SIZE)
    assert len(found) > 10
    for name in "txywh":
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("a", ["--shrink", "0"], "64 × 64 px"),
        ("a", ["--confidence", "nan"], "--confidence nan; give a number from 0 to 1"),
        ("a", ["--confidence", "2"], "--confidence 2.0; give a number from 0 to 1"),
        (
            "short",
            [],
            "50 µs of events are shorter than the shortest window, of 100 µs; give a longer recording",
        ),
        ("short", ["--rate", "20"], "shorter than one window of 50 ms; give a longer part\n"),
        ("one", [], "0 µs of events are shorter than the shortest window"),
    ],
)
def test_mistakes_are_one_line(name, arguments, message, tmp_path, detect, capsys):
    assert detect(f"{name}_td.dat", "--out", "a.csv", *arguments) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "one window of all" not in said
    assert not list(tmp_path.iterdir())

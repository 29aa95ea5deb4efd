"""The network that comes along: its files, what it is run on, and what it is not trusted with."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssmbook.cli import main
from ssmbook.detector import load_checkpoint
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, DatWriter, Events, StackedHistogram
from ssmbook.live import StreamingDetector
from ssmbook.live.default import DEFAULT, STATISTICS, Familiar, default_record, shrink_for, window_statistics
from ssmbook.live.stream import shrunk, shrunk_sensor
from ssmbook.study.shipping import best_score
from tests.live.test_stream import SENSOR, SIZE, model_of, random_events

ROOT = Path(__file__).parents[2]


def test_the_file_is_small_and_its_record_is_of_it():
    record = default_record()
    assert DEFAULT.stat().st_size < 5e6
    assert record["sha256"] == hashlib.sha256(DEFAULT.read_bytes()).hexdigest()
    assert record["command"] == "ssmbook train --profile camera --recurrence s5-selective"
    assert set(record["highest"]) == set(STATISTICS)
    assert len(record["trained"]["commit"]) == 40  # of a checkout without changes
    assert record["trained"]["parameters"]["training"]["seed"] == 0
    model = load_checkpoint(DEFAULT)
    assert model.num_classes == len(record["classes"]) == 2
    assert list(model.trained_on.sensor.frame_size) == record["frame_hw"]


def test_a_wheel_holds_it(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "ssmbook", copy / "ssmbook", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=copy, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("networks/camera.ckpt", "networks/camera.json", "view.html", "page.html", "common.html"):
        assert f"ssmbook/live/{name}" in names


@pytest.mark.parametrize(
    ("size", "factor"), [((128, 96), 1), ((320, 240), 2), ((346, 260), 2), ((640, 480), 4), ((1280, 720), 4)]
)
def test_frames_have_at_most_three_times_the_pixels_of_training(size, factor):
    assert shrink_for(*size, (128, 160)) == factor


def test_shrunk_events_are_those_of_every_nth_pixel():
    events = random_events()
    kept = shrunk(events, 3)
    counts = np.zeros((SIZE, SIZE), int)
    np.add.at(counts, (events.y, events.x), 1)
    small = np.zeros(shrunk_sensor(SENSOR, 3).frame_size, int)
    np.add.at(small, (kept.y, kept.x), 1)
    np.testing.assert_array_equal(
        small[: SIZE // 3, : SIZE // 3], counts[1::3, 1::3][: SIZE // 3, : SIZE // 3]
    )
    assert shrunk(events, 1) is events
    with pytest.raises(InputError, match="40 times smaller than 64 × 64 px"):
        shrunk_sensor(SENSOR, 40)


def test_a_shrunk_stream_is_that_of_shrunk_events():
    events = random_events()
    stream = StreamingDetector(model_of().float(), SENSOR, shrink=2)
    found = stream.push(events, now_us=int(events.t[-1]))
    plain = StreamingDetector(
        model_of().float(), shrunk_sensor(SENSOR, 2), first_end_us=int(events.t[0]) + 50_000
    )
    wanted = plain.push(shrunk(events, 2), now_us=int(events.t[-1]))
    assert [d.t_us for d in found] == [d.t_us for d in wanted]
    assert all(len(a.boxes) == len(b.boxes) for a, b in zip(found, wanted, strict=True))


def test_flicker_is_unlike_training_and_motion_is_not():
    represent = StackedHistogram.for_sensor(SENSOR)
    highest = {"events_per_pixel": 1.0, "events_per_firing_pixel": 5.0, "share_of_both": 0.3}
    seen = Familiar(highest, represent)
    moving = np.zeros(represent.shape, np.uint8)
    moving[3, :20] = 1
    flicker = np.zeros(represent.shape, np.uint8)
    flicker[::2, 8:20, 8:20] = 3
    assert window_statistics(*represent.polarities(moving)) == {
        "events_per_pixel": 20 / SIZE,
        "events_per_firing_pixel": 1.0,
        "share_of_both": 0.0,
    }
    for frame in (moving, moving, np.zeros_like(moving)):
        seen(frame, 0, np.zeros(0, BOX_DTYPE))
    assert (seen.windows, seen.unlike, str(seen)) == (3, 0, "")
    seen(flicker, 0, np.zeros(0, BOX_DTYPE))
    assert "1 of 4 windows" in str(seen)
    assert "30 events per pixel that fired (5 at most in training)" in str(seen)
    for _ in range(4):
        seen(flicker, 0, np.zeros(0, BOX_DTYPE))
    assert str(seen).endswith("no box can be trusted")


def test_the_score_with_the_best_f1():
    def boxes(*rows):
        found = np.zeros(len(rows), BOX_DTYPE)
        for name, values in zip(("x", "class_id", "class_confidence"), zip(*rows, strict=True), strict=True):
            found[name] = values
        found["w"] = found["h"] = 10
        return found

    class Result:
        ground_truth = (boxes((0, 0, 1), (50, 1, 1)), boxes((0, 0, 1)))
        # Right, right again, of the wrong class; right; far off, with a low score.
        detections = (
            boxes((1, 0, 0.9), (0, 0, 0.5), (50, 0, 0.3)),
            boxes((0, 0, 0.6), (80, 0, 0.2)),
        )

    score, f1 = best_score(Result, scores=(0.1, 0.25, 0.55, 0.8))
    assert (score, f1) == (0.55, 2 * 2 / (2 + 3))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a drive of 0.4 s and one of 20 ms."""
    monkeypatch.chdir(tmp_path)
    for name, end_us in (("drive", 400_000), ("short", 20_000)):
        with DatWriter(f"{name}_td.dat", 352, 256) as file:
            events = random_events(6000, end_us=end_us)
            file.write(Events(events.t, 4 * events.x, 4 * events.y, events.p))
    return tmp_path


def test_detect_needs_nothing_but_a_recording(here, capsys):
    assert main(["detect", "drive_td.dat"]) == 0
    out, said = capsys.readouterr()
    assert "boxes of" in out
    assert "7 windows of 176 × 128 px" in out
    assert "× real time" in out
    assert "simulated streets and nothing else" in said
    assert {path.name for path in here.iterdir()} >= {"drive_td_boxes.csv"}
    assert len(list(here.glob("drive_td_boxes.*"))) == 2
    found = pd.read_csv("drive_td_boxes.csv")
    assert set(found["class"]) <= {"car", "pedestrian"}


def test_a_short_recording_is_one_window(here, capsys):
    assert main(["detect", "short_td.dat", "--out", "short.csv", "--json"]) == 0
    out, said = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["windows"], facts["shrink"]) == (1, 2)
    assert "shorter than a window of 50 ms" in said
    assert main(["detect", "short_td.dat", "--out", "short.csv", "--rate", "20"]) == 1


def test_other_commands_take_it_too(here, capsys):
    assert main(["export", "step.onnx"]) == 0
    assert main(["time", "--windows", "1", "--runtime", "torch"]) == 0
    assert "network and post-processing" in capsys.readouterr().out


def test_a_part_is_named_by_time_since_the_first_event(here, capsys):
    part = ["--start", "+0.1s", "--stop", "+300ms", "--json", "--out", "part.csv"]
    assert main(["detect", "drive_td.dat", *part]) == 0
    assert json.loads(capsys.readouterr().out)["windows"] == 3
    assert main(["detect", "drive_td.dat", "--start", "+2s", "--stop", "+1s"]) == 1

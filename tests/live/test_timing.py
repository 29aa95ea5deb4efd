"""The commands for a checkpoint: time, detect, export."""

import itertools
import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ssmbook.cli import main
from ssmbook.detector import save_checkpoint
from ssmbook.errors import InputError
from ssmbook.events import DatWriter, Events, read_boxes, read_coco
from ssmbook.events.formats.writers import write_events
from ssmbook.live import StreamingDetector, recorded_frames, synthetic_frames, time_detector
from ssmbook.live.timing import WARM_UP
from tests.live.test_stream import END_US, SENSOR, SIZE, model_of, random_events


@pytest.fixture
def files(tmp_path):
    """A checkpoint, a recording of 400 ms, and the YAML of its sensor."""
    model = model_of().float()
    save_checkpoint(tmp_path / "model.ckpt", model)
    with DatWriter(tmp_path / "a_td.dat", SIZE, SIZE) as file:
        file.write(random_events())
    (tmp_path / "camera.yaml").write_text(f"width: {SIZE}\nheight: {SIZE}\nclasses: [car, pedestrian]\n")
    return tmp_path, model


def test_a_network_alone_takes_less_than_with_post_processing():
    model = model_of().float()
    table = time_detector(model, synthetic_frames(model), 5, progress=False).set_index("timed")
    network, whole = table.loc["network"], table.loc["network and post-processing"]
    assert network["windows"] == whole["windows"] == 5
    assert 0 < network["p5_ms"] <= network["median_ms"] <= network["p95_ms"]
    assert network["median_ms"] < whole["median_ms"]
    assert next(synthetic_frames(model)).shape == (20, SIZE, SIZE)


def test_warm_up_does_not_count():
    model = model_of().float()
    frames = list(itertools.islice(synthetic_frames(model), WARM_UP + 2))
    assert time_detector(model, frames, 100, progress=False)["windows"].tolist() == [2, 2]
    for few, count in ((frames[:WARM_UP], 5), (frames, 0)):
        with pytest.raises(InputError, match=r"too few windows|count is 0"):
            time_detector(model, few, count, progress=False)


def test_recorded_frames_are_those_of_the_stream():
    model = model_of()
    frames = list(recorded_frames([random_events(10), random_events(20)], model, SENSOR))
    assert [int(frame.sum()) for frame in frames] == [10, 20]
    outside = Events(np.array([0]), np.array([SIZE]), np.array([3]), np.array([1]))
    with pytest.raises(InputError, match="event 0 at x=64, y=3 lies outside the 64 × 64 frame"):
        next(recorded_frames([outside], model, SENSOR))


def test_time_prints_both_rows(files, capsys):
    (folder, _), ev = files, random_events()
    arguments = ["time", str(folder / "model.ckpt"), "--windows", "2", "--runtime", "torch"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "batch 1, float32" in printed
    assert "network and post-processing" in printed
    sensor = ["--sensor", str(folder / "camera.yaml")]
    assert main([*arguments, "--recording", str(folder / "a_td.dat"), *sensor]) == 1
    assert "too few windows" in capsys.readouterr().err  # 8 windows of 50 ms
    larger = [Events(ev.t + k * END_US, 2 * ev.x, ev.y, ev.p) for k in range(2)]
    write_events(folder / "wide.dat", larger, 2 * SIZE, SIZE)  # than the sensor that the network is for
    assert main([*arguments, "--recording", str(folder / "wide.dat"), *sensor]) == 0


@pytest.mark.parametrize("options", [[], ["--rate", "40", "--mode", "true", "--keep-step"]])
def test_detect_writes_what_the_stream_finds(files, options, capsys):
    folder, model = files
    out = folder / "a_bbox.npy"
    sensor = ["--sensor", str(folder / "camera.yaml")]
    command = ["detect", str(folder / "a_td.dat"), str(folder / "model.ckpt"), "--out", str(out)]
    assert main([*command, *sensor, *options]) == 0
    rate, mode, follow = (40, "true", False) if options else (20, "sliding", True)
    stream = StreamingDetector(model, SENSOR, rate_hz=rate, mode=mode, follow=follow)
    events = random_events()
    found = [d.boxes for d in stream.push(events, now_us=int(events.t[-1]))]
    boxes = read_boxes(out)
    assert len(found) == int(0.4 * rate) - 1
    assert re.search(rf"{len(boxes)} boxes of \d+ tracks in {len(found)} windows", capsys.readouterr().out)
    assert len(boxes) > 0
    np.testing.assert_array_equal(boxes["t"], np.concatenate(found)["t"])
    np.testing.assert_allclose(boxes["x"], np.concatenate(found)["x"], rtol=1e-5, atol=1e-3)


def test_detect_writes_coco_and_a_video(files, capsys):
    folder, model = files
    save_checkpoint(folder / "model.ckpt", model, sensor=asdict(SENSOR))  # so that --sensor is not needed
    command = ["detect", str(folder / "a_td.dat"), str(folder / "model.ckpt")]
    names = [str(folder / name) for name in ("a_bbox.npy", "a_bbox.json", "a.gif")]
    assert main([*command, "--out", names[0]]) == 0
    assert main([*command, "--out", names[1], "--video", names[2], "--speed", "0.5"]) == 0
    assert f"{names[1]} and {names[2]}: " in capsys.readouterr().out
    np.testing.assert_array_equal(read_coco(names[1], SENSOR.classes), read_boxes(names[0]))
    with Image.open(names[2]) as video:
        assert (video.n_frames, video.info["duration"]) == (7, 100)


def test_detect_takes_the_recordings_size_and_a_part_of_it(files, tmp_path):
    """The network has no fixed size; boxes of a larger camera lie beyond the one that it was trained for."""
    _, model = files
    save_checkpoint(tmp_path / "model.ckpt", model, sensor=asdict(SENSOR))
    width, height = 3 * SENSOR.width, 2 * SENSOR.height
    events = random_events(20_000, start_us=5_000_000, end_us=5_400_000)
    rng = np.random.default_rng(0)
    events.x[:], events.y[:] = rng.integers(0, width, len(events)), rng.integers(0, height, len(events))
    write_events(tmp_path / "wide.dat", [events], width, height)
    command = ["detect", str(tmp_path / "wide.dat"), str(tmp_path / "model.ckpt"), "--confidence", "0.0001"]
    assert main([*command, "--out", str(tmp_path / "all.csv")]) == 0
    assert main([*command, "--out", str(tmp_path / "part.csv"), "--start", "5.1s", "--stop", "5300ms"]) == 0
    whole, part = (pd.read_csv(tmp_path / name) for name in ("all.csv", "part.csv"))
    assert (whole["x"] > SENSOR.width).any()
    assert set(whole["class"]) <= set(SENSOR.classes)
    assert whole["t_us"].between(5_050_000, 5_400_000).all()
    assert part["t_us"].between(5_150_000, 5_300_000).all()
    assert main([*command, "--out", str(tmp_path / "no.csv"), "--start", "2s", "--stop", "1s"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["time", "{}/none.ckpt"], "no such file"),
        (["detect", "{}/a_td.dat", "{}/model.ckpt", "--out", "{}/o.txt"], ".npy, .json or .csv"),
        (["export", "{}/model.ckpt", "{}/x.onnx", "--step-scale", "fast"], "a number or 'input'"),
        (["export", "{}/model.ckpt", "{}/x.onnx"], "does not say for which sensor"),
        (["export", "{}/model.ckpt", "{}/x.onnx", "--sensor", "gen1"], "do not fit the model"),
        (
            ["detect", "{}/none.dat", "{}/model.ckpt", "--out", "{}/o.npy", "--sensor", "{}/camera.yaml"],
            "none.dat",
        ),
    ],
)
def test_mistakes_are_one_line(files, arguments, message, capsys):
    folder, _ = files
    assert main([argument.format(folder) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1

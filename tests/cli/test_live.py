"""ssmbook play → ssmbook detect --live, over a named pipe, over UDP and through the shell's pipe."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import pytest

from ssmbook.cli import main
from ssmbook.detector import save_checkpoint
from ssmbook.events import DatWriter, read_boxes
from ssmbook.live import realtime
from ssmbook.live.transport import open_target
from ssmbook.live.wire import Message
from tests.live.test_realtime import free_port
from tests.live.test_stream import SENSOR, SIZE, model_of, random_events


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A recording, a checkpoint, and the boxes that detect finds without --live."""
    folder = tmp_path_factory.mktemp("live")
    save_checkpoint(folder / "model.ckpt", model_of().float(), sensor=asdict(SENSOR))
    with DatWriter(folder / "a_td.dat", SIZE, SIZE) as file:
        file.write(random_events())
    command = [
        "detect",
        str(folder / "a_td.dat"),
        str(folder / "model.ckpt"),
        "--out",
        str(folder / "a_bbox.npy"),
    ]
    assert main(command) == 0
    return folder


@pytest.mark.parametrize("way", ["pipe", "udp"])
def test_live_finds_what_detect_finds(files, way, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(realtime, "BACKLOG", 100)
    monkeypatch.setattr(realtime, "SILENCE_S", 0.5)
    name = f"udp://127.0.0.1:{free_port()}" if way == "udp" else str(tmp_path / "events")
    if way == "pipe":
        os.mkfifo(name)
    play = ["play", str(files / "a_td.dat"), "--to", name, "--speed", "0.5"]
    sender = threading.Timer(1.0, main, (play,))
    sender.start()
    out = str(tmp_path / "live_bbox.npy")
    command = ["detect", "--live", name, str(files / "model.ckpt"), "--out", out, "--page", "0", "--json"]
    command += ["--runtime", "torch"]
    assert main(command) == 0
    sender.join()
    printed, told = capfd.readouterr()
    facts = json.loads(printed)
    assert (facts["events"], facts["windows"], facts["lost"], facts["dropped"]) == (6000, 7, 0, 0)
    assert told.startswith("page: http://127.0.0.1:"), "before any event"
    assert f"{name}: no events yet; start the sender" in told
    assert "6,000 events in" in told
    np.testing.assert_array_equal(read_boxes(out), read_boxes(files / "a_bbox.npy"))


@pytest.mark.parametrize("text", [[], ["--text"]])
def test_through_the_shells_pipe(files, text, tmp_path):
    run = [sys.executable, "-m", "ssmbook"]
    with subprocess.Popen(
        [*run, "play", files / "a_td.dat", "--to", "-", *text], stdout=subprocess.PIPE
    ) as sender:
        command = [*run, "detect", "--live", "-", files / "model.ckpt", "--out", tmp_path / "a.csv", "--json"]
        command += ["--runtime", "torch"]
        found = subprocess.run(command, stdin=sender.stdout, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert ("does not state its size" in found.stderr) == bool(text)
    facts = json.loads(found.stdout)
    assert facts["events"] == 6000
    assert facts["windows"] + facts["dropped"] == 7
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + facts["boxes"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_detected(files, number, tmp_path):
    run, pipe, out = [sys.executable, "-m", "ssmbook"], tmp_path / "events", tmp_path / "a.csv"
    os.mkfifo(pipe)
    command = [
        *run,
        "detect",
        "--live",
        pipe,
        files / "model.ckpt",
        "--out",
        out,
        "--json",
        "--runtime",
        "torch",
    ]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as live,
        suppress(BrokenPipeError),  # the receiver goes first
        open_target(str(pipe)) as target,
    ):
        target(Message(random_events(), None, 0, (SIZE, SIZE)))
        while not list(tmp_path.glob(".a.csv.*")):
            time.sleep(0.05)
        time.sleep(1.0)
        live.send_signal(number)
        printed, told = live.communicate(timeout=60)
    assert live.returncode == 130, told
    assert json.loads(printed)["windows"] > 0
    assert len(out.read_text().splitlines()) == 1 + json.loads(printed)["boxes"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "events"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--live", "{}/missing", "{}/model.ckpt"], "mkfifo NAME"),
        (["--live", "{}/a_td.dat", "{}/model.ckpt"], "is no pipe"),
        (["--live", "-", "{}/model.ckpt", "--start", "1s"], "--start and --stop are for recordings"),
        (["{}/a_td.dat", "{}/model.ckpt", "--page"], "--page is for --live"),
        (["--live", "-", "{}/none.ckpt"], "none.ckpt: no such file"),
    ],
)
def test_mistakes_are_one_line(files, arguments, message, capsys):
    assert main(["detect", *(each.format(files) for each in arguments)]) > 0
    assert message in capsys.readouterr().err


def test_a_closed_receiver_is_told(files, tmp_path, capsys):
    name = str(tmp_path / "events")
    os.mkfifo(name)
    receiver = threading.Thread(target=lambda: open(name, "rb").close())
    receiver.start()
    assert main(["play", str(files / "a_td.dat"), "--to", name]) > 0
    assert "the receiver has closed it" in capsys.readouterr().err
    receiver.join()

"""Every command: its help, its examples, its exit codes, its JSON; wrong names are refused before torch is imported."""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_set import make_set

from ssmbook.cli import main, make_parser, recordings
from ssmbook.detector import save_checkpoint
from ssmbook.events import BOX_DTYPE, Events, write_boxes
from ssmbook.events.formats.writers import write_events
from tests.live.test_stream import SENSOR, SIZE, model_of

COMMANDS = next(
    action.choices for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction)
)


def examples(name):
    """The command lines in a command's help that begin with it, without what follows two spaces."""
    text = COMMANDS[name].epilog or ""
    found = re.findall(rf"ssmbook {name} [^|;\n]*", text)
    return [shlex.split(re.split(r" {2,}|\. ", line)[0].rstrip(". ")) for line in found]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """What the examples name, in the current folder: a recording of 3 s, boxes, a checkpoint."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 3_000_000, 6000))
    events = Events(t, *(rng.integers(0, size, len(t)) for size in (SIZE, SIZE, 2)))
    write_events("drive.raw", [events], SIZE, SIZE)
    boxes = np.zeros(4, BOX_DTYPE)
    boxes["t"], boxes["w"], boxes["h"] = 500_000 * np.arange(1, 5), 20, 20
    write_boxes("drive_bbox.npy", boxes)
    torch.manual_seed(0)  # one export serves these commands and the tests of the runtimes
    save_checkpoint("model.ckpt", model_of().float(), sensor=asdict(SENSOR))
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_parses(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert "ssmbook" in capsys.readouterr().out
    assert examples(name)
    for words in examples(name):
        make_parser().parse_args(words[1:])


@pytest.mark.parametrize("name", ["info", "convert", "view", "detect", "time", "export", "play"])
def test_examples_run(name, files, capfd, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    for words in examples(name):
        if "--live" in words or "udp:" in " ".join(words):
            continue  # see test_live.py
        if name == "play":
            words = [*words, "--speed", "100"]
        if name == "time":
            words = [*words, "--runtime", "torch"]
        if words[-1] == "pictures":  # one for each 5 ms
            words = [*words, "--stop", "0.5s"]
        assert main(words[1:]) == 0, words
    if name == "export":
        assert capfd.readouterr().err == ""
    if name == "view":
        assert len(opened) == 1
        assert Path("drive.html").stat().st_size > 10_000
        with Image.open("drive.gif") as video:
            assert video.n_frames == 100
        assert len(list(Path("pictures").glob("*.png"))) == 100
    if name == "detect":
        assert len(list(Path("labels").glob("*us.txt"))) == 59
        assert {
            line.split(",")[5] for line in Path("boxes.csv").read_text(encoding="utf-8").splitlines()[1:]
        } <= set(SENSOR.classes)


def test_json(files, capsys):
    for command, keys in (
        (["info", "drive.raw"], {"events", "width", "start_us"}),
        (["convert", "drive.raw", "a.npy"], {"written", "events"}),
        (["view", "drive.raw", "--out", "a.png"], {"written", "windows"}),
        (
            ["detect", "drive.raw", "model.ckpt", "--out", "a.csv", "--stop", "0.3s"],
            {"boxes", "real_time_factor"},
        ),
        (["time", "model.ckpt", "--windows", "1", "--runtime", "torch"], {"where", "rows"}),
    ):
        assert main([*command, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert keys <= set(found[0] if isinstance(found, list) else found)


def test_json_of_what_is_made(tmp_path, monkeypatch, capsys):
    from ssmbook.cli import site
    from ssmbook.dataset import published
    from ssmbook.events import simulate
    from ssmbook.study import chapters

    sensor = f"width: {SIZE}\nheight: {SIZE}\nclasses: [car, pedestrian]\nlabel_interval_ms: 50\n"
    (tmp_path / "sensor.yaml").write_text(sensor)
    (tmp_path / "myst.yml").write_text("")
    make_set(tmp_path)
    chapter = tmp_path / "01_events.ipynb"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(published, "download_set", lambda name, folder, *rest: [Path(folder) / "raw" / "val"])
    monkeypatch.setattr(simulate, "simulate_set", lambda *arguments: None)
    for name in ("refresh", "reproduce"):
        monkeypatch.setattr(chapters, name, lambda *arguments: [chapter])
    monkeypatch.setattr(site, "build_html", lambda root, myst: root / "index.html")
    monkeypatch.setattr(site, "_tools", lambda: "myst")
    preprocess = ["preprocess", "raw", "out", "--sensor", "sensor.yaml", "--workers", "1"]
    for command, found in (
        (["download", "gen1", "--raw", "--split", "val"], ["data/gen1/raw/val"]),
        ([*preprocess, "--dry-run"], {"sequences": 5, "without_labels": 0}),
        (preprocess, {"made": 5, "failed": {}}),
        (preprocess, {"made": 0, "there": 5}),
        (["simulate", "smoke", "--out", "simulated"], {"written": "simulated", "seed": 0}),
        (
            ["reproduce", "01", "--profile", "smoke"],
            {"chapters": [str(chapter)], "outputs": [], "answer": ""},
        ),
        (["refresh", "01"], [str(chapter)]),
        (["site", "--root", "."], {"built": str(tmp_path / "index.html")}),
    ):
        assert main([*command, "--json"]) == 0
        written = json.loads(capsys.readouterr().out)
        if "--dry-run" in command:
            (written,) = written.values()
        assert written == found if isinstance(found, list) else written.items() >= found.items()


def test_exit_codes(files, capsys):
    assert main(["info", "drive.raw"]) == 0
    assert main(["info", "missing"]) == 1
    assert main(["info", "drive.raw", "missing"]) == 1
    with pytest.raises(SystemExit) as stopped:
        main(["detect", "drive.raw", "model.ckpt", "--mode", "fast"])
    assert stopped.value.code == 2
    with subprocess.Popen(
        [sys.executable, "-m", "ssmbook", "play", "drive.raw", "--to", "-", "--speed", "0.01"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # ignored below a shell's &
    ) as playing:
        threading.Timer(
            0, lambda: (playing.stdout.read(1), playing.send_signal(2), playing.stdout.read())
        ).start()
        assert playing.wait(120) == 130


def test_who_reads_the_output_may_have_enough(files):
    play = ["play", "drive.raw", "--to", "-", "--text", "--speed", "100"]
    for command in (["info", "drive.raw"], ["info", "drive.raw", "--json"], play):
        with subprocess.Popen(
            [sys.executable, "-m", "ssmbook", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as run:
            run.stdout.close()
            told = run.stderr.read()
        assert run.returncode == 0, command
        assert "roken" not in told
        assert "closed" not in told


def test_closed_streams_are_empty_ones(files, monkeypatch, capsys):
    """As after the shell's <&- and >&-."""
    monkeypatch.setattr("sys.stdin", None)
    assert main(["detect", "--live", "-", "model.ckpt"]) == 1
    assert "-: ended before the first event; start the sender again" in capsys.readouterr().err
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", None)
    assert main(["info", "drive.raw"]) == 0
    assert main(["info", "missing.raw"]) == 1


def test_a_pipe_that_breaks_elsewhere_is_told(monkeypatch, capsys):
    def broken(*_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("ssmbook.cli.recordings._info", broken)
    assert main(["info", "a.raw"]) == 1
    assert "Broken pipe" in capsys.readouterr().err


def test_an_interruption_says_whether_the_command_goes_on(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssmbook.cli.recordings._info", interrupt)
    monkeypatch.setattr("ssmbook.cli.data._preprocess", interrupt)
    for command, rest in (
        (["info", "a.raw"], ""),
        (["preprocess", "a", "b"], "; the same command goes on from here"),
    ):
        assert main(command) == 130
        assert capsys.readouterr().err == f"ssmbook: interrupted{rest}\n"


def test_wrong_names_are_refused_before_torch_is_imported(files):
    wrong = [
        ["detect", "drive.raw", "missing.ckpt", "--out", "a.csv"],
        ["detect", "missing.raw", "model.ckpt", "--out", "a.csv"],
        ["detect", "drive.raw", "model.ckpt", "--out", "a.txt"],
        ["evaluate", "missing.ckpt", "--data", "."],
        ["train", "--profile", "missing"],
        ["train", "--recurrence", "missing"],
        ["reproduce", "--profile", "missing"],
        ["sweep", "missing"],
        ["time", "missing.ckpt"],
        ["export", "missing.ckpt", "a.onnx"],
        ["view", "missing.raw"],
        ["play", "missing.raw", "--to", "-"],
    ]
    code = f"import sys; from ssmbook.cli import main\nprint([main(each) for each in {wrong}], 'torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"{[1] * len(wrong)} False"
    assert len(run.stderr.strip().splitlines()) == len(wrong)


def test_the_shell_completes_commands_and_options(tmp_path):
    pytest.importorskip("argcomplete")
    lines = {
        "ssmbook det": "detect",
        "ssmbook detect --pal": "--palette",
        "ssmbook view --palette d": "dark",
        "ssmbook sw": "sweep",
        "ssmbook sweep smoke --executor s": "slurm",
        "ssmbook ru": "runs",
    }
    for line, wanted in lines.items():
        environment = {
            **os.environ,
            "_ARGCOMPLETE": "1",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "completions"),
        }
        run = subprocess.run(
            [sys.executable, "-m", "ssmbook"], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert wanted in (tmp_path / "completions").read_text()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 7 bytes\nC++")],
)
def test_memory_that_is_used_up_is_one_line(error, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr(recordings, "_info", fail)
    assert main(["info", "a.raw"]) == 1
    assert re.fullmatch(
        r"ssmbook: there is not enough memory \(.*\); use smaller .*\n", capsys.readouterr().err
    )

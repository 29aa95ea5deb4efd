"""ssmbook info and ssmbook convert, on every format that is read."""

import os
import subprocess
import sys

import numpy as np
import pytest
from event_files import KINDS, SAY_SIZE, write

from ssmbook.cli import main
from ssmbook.events import open_events
from ssmbook.events.formats.writers import write_events

T = np.arange(0, 400_000, 500)
EVENTS = [T.tolist(), (T // 500 % 64).tolist(), (T // 3500 % 48).tolist(), (T // 500 % 2).tolist()]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {kind: str(write(folder / f"{kind}.raw", kind, EVENTS)) for kind in KINDS}


def test_info_of_every_format(files, capsys):
    for kind, path in files.items():
        assert main(["info", path]) == 0
        text = capsys.readouterr().out
        assert "0.399500 s, from 0 to 399,500 µs" in text
        assert "800 (2.0 k events/s on average), 50.0 % ON" in text
        assert ("64 × 48 px" in text) == (kind in SAY_SIZE)
        assert "gaps       500 µs at most" in text


def test_one_bad_file_does_not_stop_the_others(files, tmp_path, capsys):
    (tmp_path / "bad").write_bytes(b"nothing of the kind")
    assert main(["info", files["dat"], str(tmp_path / "bad"), files["evt3"]]) == 1
    out, err = capsys.readouterr()
    assert out.count("events     800") == 2
    assert "in no known format" in err
    assert "1 of 3 recordings cannot be read" in err
    assert main(["info", str(tmp_path / "bad")]) == 1


@pytest.mark.parametrize("ending", [".dat", ".raw", ".h5", ".npy", ".csv"])
def test_convert_every_format(files, ending, tmp_path, capsys):
    for kind, path in files.items():
        out = str(tmp_path / f"{kind}{ending}")
        size = ["--size", "64x48"] * (kind not in SAY_SIZE)
        assert main(["convert", path, out, "--start", "100ms", "--stop", "0.2s", *size]) == 0
        assert "200 events" in capsys.readouterr().out
        with open_events(out) as recording:
            assert recording.read(0, 1 << 40).t.tolist() == list(range(100_000, 200_000, 500))
            assert main(["info", out]) == 0
        capsys.readouterr()


def test_a_clock_made_to_begin_at_zero(files, tmp_path, capsys):
    assert main(["convert", files["csv"], str(tmp_path / "a.npy"), "--start", "100000", "--from-zero"]) == 0
    with open_events(tmp_path / "a.npy") as recording:
        assert (recording.start_us, len(recording)) == (0, 600)


def test_a_part_without_events_is_refused_and_no_events_are_read_back(files, tmp_path, capsys):
    for name in ("a.csv", "a.npy"):
        out = str(tmp_path / name)
        assert main(["convert", files["dat"], out, "--start", "5s"]) == 1
        message = "has no events from 5000000 µs on; it lasts from 0 to 399500 µs"
        assert message in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
        write_events(out, [], 64, 48)
        assert main(["info", out]) == 0
        assert "no events" in capsys.readouterr().out
        (tmp_path / name).unlink()


def test_events_alone_go_into_a_pipe(files):
    command = [
        sys.executable,
        "-m",
        "ssmbook",
        "convert",
        files["dat"],
        "/dev/stdout",
        "--to",
        "csv",
        "--json",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert [line.count(",") for line in run.stdout.splitlines()] == [3] * 801
    assert "/dev/stdout: 800 events" in run.stderr


def test_an_output_that_cannot_show_every_sign_shows_the_others(files):
    command = [sys.executable, "-m", "ssmbook"]
    for words in (["info", files["dat"]], ["export", "--help"]):
        environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
        run = subprocess.run([*command, *words], env=environment, capture_output=True)
        assert run.returncode == 0, run.stderr
        assert b"?" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["IN", "a.xyz"], "its ending says no format"),
        (["IN", "IN"], "is the recording itself"),
        (["IN", "a.dat", "--start", "2s", "--stop", "1s"], "is not after"),
        (["IN", "a.dat", "--size", "32x32"], "says width 64, not 32"),
        (["missing", "a.dat"], "no such file"),
    ],
)
def test_bad_arguments(arguments, message, files, tmp_path, capsys):
    names = {"IN": files["dat"], "a.xyz": str(tmp_path / "a.xyz"), "a.dat": str(tmp_path / "a.dat")}
    assert main(["convert", *(names.get(each, each) for each in arguments)]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["1 hour", "nan", "", "1e3", "5 px"])
def test_times_that_are_none(value, files, capsys):
    with pytest.raises(SystemExit):
        main(["convert", files["dat"], "b.dat", "--start", value])
    assert "is no time; write 2500000 (µs), 2500ms or 2.5s" in capsys.readouterr().err


def test_what_was_mended_is_said(tmp_path, capsys):
    t = np.arange(5000)
    x = t % 64
    x[1234] = 900
    t[2000] -= 5
    write(tmp_path / "a", "dat", [c.tolist() for c in (t, x, t % 48, t % 2)])
    assert main(["info", str(tmp_path / "a")]) == 0
    text = capsys.readouterr().out
    assert "1 events, by up to 4 µs" in text
    assert "1 events, dropped; the first is event 1234 at x = 900" in text
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "b.dat")]) == 0
    assert "1 of 5,000 events lie outside the sensor" in capsys.readouterr().err

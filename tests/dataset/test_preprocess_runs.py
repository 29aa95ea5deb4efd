"""Runs that are killed, meet damage or a full disk, or are spread over processes end in the same bytes."""

import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import ExitStack
from dataclasses import asdict

import event_files
import h5py
import numpy as np
import psutil
import pytest
import yaml
from distributed import Client

from ssmbook.cli import main
from ssmbook.dataset import Sensor, SequencesFailed, estimate, find_sequences, preprocess_sets
from ssmbook.dataset.windows import Frames
from ssmbook.errors import InputError
from ssmbook.events.formats.dat import DatRecording
from ssmbook.processes import ProcessEnded, connect, run_calls
from tests.dataset.test_preprocess import END_US, SENSOR, boxes_at, contents, random_events, run, write_raw

TIMES = range(120_000, END_US, 50_000)
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def raw(tmp_path):
    """Four sequences to validate on, and the sensor's file."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        write_raw(tmp_path / "raw" / "val", name, random_events(rng, count=20_000), boxes_at(*TIMES))
    sensor = {**asdict(SENSOR), "classes": list(SENSOR.classes)}
    (tmp_path / "sensor.yaml").write_text(yaml.safe_dump(sensor))
    return tmp_path / "raw"


@pytest.fixture
def command(raw):
    """The command that makes a set of many windows; its sequences take a while."""

    def build(out, *options):
        fixed = ["--sensor", str(raw.parent / "sensor.yaml"), "--window-ms", "20", "--stride-ms", "1"]
        return ["preprocess", str(raw), str(out), *fixed, *options]

    return build


def start(arguments, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "ssmbook", *arguments], **pipes, **options)


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# Several sets


SETS = {
    "slow": {"window_ms": 50, "stride_ms": 50},
    "fast": {"window_ms": 5, "stride_ms": 5},
    "sliding": {"window_ms": 50, "stride_ms": 10},
    "counted": {"window_events": 700, "stride_ms": 25},
    "density": {"representation": "mixeddensity_stack", "window_ms": 20},
    "published": {"grid": "published", "window_ms": 12.5},
}


def test_sets_from_one_reading_are_those_made_alone(raw, tmp_path, monkeypatch):
    opened = []
    original = DatRecording.__init__
    monkeypatch.setattr(DatRecording, "__init__", lambda *a, **k: (opened.append(a), original(*a, **k))[1])
    monkeypatch.setattr(DatRecording, "block_events", 3000)
    summary = preprocess_sets(
        raw, {tmp_path / "one" / name: each for name, each in SETS.items()}, SENSOR, progress=False
    )
    assert summary.done == [f"val/{name}" for name in NAMES]
    assert len(opened) == len(NAMES)
    monkeypatch.undo()
    for name, each in SETS.items():
        run(raw, tmp_path / "alone" / name, **each)
        assert contents(tmp_path / "one" / name) == contents(tmp_path / "alone" / name)


def test_a_set_that_lacks_a_sequence_gets_it_and_the_others_stay(raw, tmp_path):
    sets = {tmp_path / name: SETS[name] for name in ("slow", "fast")}
    preprocess_sets(raw, sets, SENSOR, progress=False)
    before = contents(tmp_path)
    lost, kept = tmp_path / "fast" / "val" / "b", tmp_path / "slow" / "val" / "b"
    stamp = kept.stat().st_mtime_ns
    lost.rename(tmp_path / "fast" / "val" / ".b.1.partial")
    summary = preprocess_sets(raw, sets, SENSOR, progress=False)
    assert (summary.done, len(summary.skipped)) == (["val/b"], 3)
    assert contents(tmp_path) == before
    assert kept.stat().st_mtime_ns == stamp


def test_an_unknown_setting_is_named(raw, tmp_path):
    with pytest.raises(InputError, match="'stride'"):
        preprocess_sets(raw, {tmp_path / "out": {"stride": 50}}, SENSOR)
    assert not (tmp_path / "out").exists()


# Killed


def test_killed_at_any_moment_the_same_command_gives_the_same_bytes(command, tmp_path):
    assert main([*command(tmp_path / "whole"), "--workers", "1"]) == 0
    expected = contents(tmp_path / "whole")
    out = tmp_path / "out"
    moments = {  # with how many processes
        (out / "preprocess.json").exists: 1,
        lambda: any(path.stat().st_size > 2000 for path in out.glob("val/.*/*/*/*.h5")): 2,
        (out / "val" / "b").exists: 1,
    }
    for moment, workers in moments.items():
        process = start(command(out, "--workers", str(workers)))
        wait_for(moment)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
    made = {name: (out / "val" / name).stat().st_mtime_ns for name in NAMES if (out / "val" / name).exists()}
    assert 0 < len(made) < len(NAMES)
    assert main(command(out, "--workers", "1")) == 0
    assert contents(out) == expected
    assert {name: (out / "val" / name).stat().st_mtime_ns for name in made} == made


def test_a_process_that_is_killed_takes_its_call_only():
    calls = ["1 + 1", "__import__('signal').raise_signal(9)", "2 + 2", "3 + 3", "4 + 4"]
    results = dict(run_calls(eval, [(call,) for call in calls], workers=2, client=None))
    assert isinstance(results.pop(1), ProcessEnded)
    assert results == {0: 2, 2: 4, 3: 6, 4: 8}


def test_a_script_that_its_workers_run_again_is_told_what_it_lacks(raw, tmp_path):
    """Without the check a worker waits for the lock that the script itself holds, and both for ever."""
    script = tmp_path / "script.py"
    call = f"preprocess({str(raw)!r}, {str(tmp_path / 'out')!r}, {SENSOR!r}, splits=('val',), workers=2)"
    script.write_text(f"from ssmbook.dataset import Sensor, preprocess\n{call}\n")
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert 'put what the script does under if __name__ == "__main__":' in run.stderr


def helpers():
    return {worker for server in psutil.Process().children() for worker in server.children()}


def test_processes_end_when_no_one_waits_for_them():
    before = helpers()  # loaders that other tests have left
    calls = ["1 + 1", "__import__('time').sleep(600)", "__import__('time').sleep(600)", "2 + 2"]
    results = run_calls(eval, [(call,) for call in calls], workers=2, client=None)
    assert next(results) == (0, 2)
    children = helpers() - before
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 60
    ended, alive = psutil.wait_procs(children, timeout=10)
    assert (len(ended), alive) == (2, [])


# Damage


def test_damage_costs_the_damaged_sequences_only(raw, tmp_path):
    expected = contents(run(raw, tmp_path / "whole") and tmp_path / "whole")
    ev = random_events(np.random.default_rng(1), count=20_000)
    for name in ("chunk", "cut"):
        path = raw / "val" / f"{name}_td.h5"
        event_files.write_hdf5(path, [c.tolist() for c in (ev.t, ev.x, ev.y, ev.p)], size=False)
        np.save(raw / "val" / f"{name}_bbox.npy", boxes_at(*TIMES))
    with h5py.File(raw / "val" / "chunk_td.h5") as file:
        info = file["events/x"].id.get_chunk_info(50)
    with open(raw / "val" / "chunk_td.h5", "r+b") as file:
        file.seek(info.byte_offset)
        file.write(b"\xff" * info.size)
    os.truncate(raw / "val" / "cut_td.h5", (raw / "val" / "cut_td.h5").stat().st_size // 2)
    (raw / "val" / "labels_td.dat").write_bytes((raw / "val" / "a_td.dat").read_bytes())
    (raw / "val" / "labels_bbox.npy").write_bytes((raw / "val" / "a_bbox.npy").read_bytes()[:-9])
    with pytest.raises(SequencesFailed, match="3 of 7 sequences failed") as error:
        run(raw, tmp_path / "out")
    assert set(error.value.failures) == {"val/chunk", "val/cut", "val/labels"}
    assert contents(tmp_path / "out") == expected


def test_a_full_disk_costs_what_does_not_fit_and_exit_code_is_1(command, raw, tmp_path):
    big = random_events(np.random.default_rng(1), count=500_000)
    write_raw(raw / "val", "big", big, boxes_at(*TIMES))

    options = ["--stride-ms", "2", "--workers", "1"]
    assert main(command(tmp_path / "whole", *options)) == 0
    sizes = {path.parts[-4]: path.stat().st_size for path in (tmp_path / "whole").rglob("*.h5")}
    room = (max(sizes[name] for name in NAMES) + sizes["big"]) // 2

    def little_room():  # in each file, which a write notices as it notices a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

    process = start(command(tmp_path / "out", *options), preexec_fn=little_room)
    _, errors = process.communicate()
    assert process.returncode == 1, errors
    assert re.search(
        r"1 sequences failed:\n  val/big  .*/val/big: cannot be written \(File too large\)", errors
    )
    assert sorted(path.name for path in (tmp_path / "out" / "val").iterdir()) == list(NAMES)
    assert main(command(tmp_path / "out", *options)) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


# Formats, memory, progress


def test_evt3_and_dat_with_boxes_beside_them_make_the_same_sequence(tmp_path):
    rng = np.random.default_rng(0)
    n = 30_000
    t = np.sort(rng.integers(0, END_US, n))
    columns = t, rng.integers(0, 64, n), rng.integers(0, 48, n), rng.integers(0, 2, n)
    (tmp_path / "raw" / "test").mkdir(parents=True)
    for kind, name in (("evt3", "a.raw"), ("evt3", "b_td.raw"), ("dat", "c_td.dat"), ("hdf5", "d_td.dat.h5")):
        event_files.write(tmp_path / "raw" / "test" / name, kind, [c.tolist() for c in columns])
        np.save(tmp_path / "raw" / "test" / f"{name[0]}_bbox.npy", boxes_at(*TIMES))
    sensor = Sensor.simulated(event_files.WIDTH, event_files.HEIGHT, label_interval_ms=50)
    assert len(run(tmp_path / "raw", tmp_path / "out", sensor=sensor).done) == 4
    first, *others = find_sequences(tmp_path / "out" / "test")
    frames = first.frames(0, len(first))
    assert frames.sum(dtype=np.int64) > n / 2
    for other in others:
        np.testing.assert_array_equal(other.frames(0, len(other)), frames)


@pytest.mark.parametrize("workers", [1, 2])  # for one recording, so that two are threads
def test_memory_does_not_grow_with_the_recording(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(DatRecording, "block_events", 20_000)
    monkeypatch.setattr(Frames, "_MOST_EVENTS", 40_000)
    peaks = []
    for times in (1, 1, 4):  # the first run loads and compiles
        folder = tmp_path / f"{len(peaks)}"
        ev = random_events(np.random.default_rng(0), count=times * 200_000, end_us=times * END_US)
        write_raw(folder / "raw" / "val", "a", ev, boxes_at(*range(120_000, times * END_US, 50_000)))
        del ev
        tracemalloc.start()
        run(folder / "raw", folder / "out", window_ms=10, stride_ms=10, workers=workers)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert 20_000 * 13 < peaks[2] < 1.2 * peaks[1]


def test_the_bar_shows_events_per_second(raw, tmp_path, capsys):
    run(raw, tmp_path / "out", progress=True)
    assert re.search(r"4 of 4 sequences, \d+\.\d M events/s", capsys.readouterr().err)


# Estimates


def test_a_dry_run_says_what_a_run_does_and_writes_nothing(raw, tmp_path):
    sets = {tmp_path / "out" / name: SETS[name] for name in ("slow", "fast", "density")}
    found = estimate(raw, sets, SENSOR)
    assert not (tmp_path / "out").exists()
    preprocess_sets(raw, sets, SENSOR, progress=False)
    for out, each in found.items():
        frames = list(out.rglob("*.h5"))
        windows = sum(len(sequence) for sequence in find_sequences(out / "val"))
        assert (each.sequences, each.windows, each.failures) == (4, windows, {})
        assert each.bytes_in == sum(path.stat().st_size for path in raw.rglob("*_td.dat"))
        assert each.hours == pytest.approx(4 * TIMES[-1] / 3.6e9)
        assert each.bytes_out == pytest.approx(sum(path.stat().st_size for path in frames), rel=0.5)
    again = estimate(raw, sets, SENSOR)[tmp_path / "out" / "slow"]
    assert (again.sequences, again.bytes_in, again.bytes_out) == (0, 0, 0)


def test_the_command_makes_several_sets_and_says_what_fails(raw, tmp_path, capsys):
    fixed = ["preprocess", str(raw), str(tmp_path / "out"), "--sensor", str(tmp_path / "sensor.yaml")]
    several = [*fixed, "--window-ms", "50,5", "--stride-ms", "50,10", "--workers", "1"]
    (raw / "val" / "a_td.dat").unlink()
    assert main([*several, "--dry-run"]) == 1
    assert "3 sequences to make" in (printed := capsys.readouterr()).out
    assert re.search(r"1 sequences failed:\n  val/a  .*a_td.dat", printed.err)
    assert not (tmp_path / "out").exists()
    assert main(several) == 1
    assert re.search(r"1 sequences failed:\n  val/a  .*a_td.dat: no such file", capsys.readouterr().err)
    names = ["stacked_histogram_window=50_stride=50", "stacked_histogram_window=5_stride=10"]
    for name, stride in zip(names, (50, 10), strict=True):
        found = find_sequences(tmp_path / "out" / name / "val")
        assert set(np.diff(found[0].timestamps_us)) == {1000 * stride}
    assert main([*fixed, "--window-ms", "50,5", "--stride-ms", "50,20,10"]) == 1


# Many machines


def test_a_scheduler_that_does_not_answer_is_named():
    with pytest.raises(InputError, match=r"tcp://127\.0\.0\.1:1: no Dask scheduler answers"):
        connect("tcp://127.0.0.1:1", timeout_s=0.2)


def test_a_cluster_that_loses_a_worker_makes_the_same_bytes(raw, tmp_path):
    options = {"window_ms": 20, "stride_ms": 1}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    quiet["env"] = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    python = [sys.executable, "-m"]
    place = ["--host", "127.0.0.1", "--port", address.rsplit(":")[-1], "--no-dashboard"]
    with ExitStack() as stack:

        def launch(*arguments):
            process = subprocess.Popen([*python, *arguments], **quiet)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        launch("distributed.cli.dask_scheduler", *place)
        worker = ["distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
        lost, _ = launch(*worker), launch(*worker)
        run(raw, tmp_path / "here", **options)
        client = stack.enter_context(Client(address, timeout=30))
        client.wait_for_workers(2, timeout=30)
        out = tmp_path / "there"
        made = []

        def kill_in_the_middle():
            wait_for(lambda: any(out.glob("val/[a-d]")))
            lost.kill()
            made.extend(out.glob("val/[a-d]"))

        thread = threading.Thread(target=kill_in_the_middle)
        thread.start()
        summary = run(raw, out, client=client, **options)
        thread.join()
        assert 0 < len(made) < len(NAMES)
    assert summary.done == [f"val/{name}" for name in NAMES]
    assert contents(tmp_path / "there") == contents(tmp_path / "here")

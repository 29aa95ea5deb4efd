"""A sweep ends with the tables of ``run_arms``: on Dask, by an array's tasks, after kills; it does what is missing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from ssmbook.cli import main
from ssmbook.errors import InputError
from ssmbook.processes import ProcessEnded
from ssmbook.study import Workspace, collect_arms, read_arms, run_arms, slurm, sweep
from ssmbook.study.rates import REST_CSV, models_of
from ssmbook.study.sweep import ModelsFailed, status, unit_names
from ssmbook.training.runs import find_runs

PROFILE = """
base: smoke
seeds: [0, 1]
training: {steps: 2, sequence_length: 3, validate_every: 2}
arms:
  - {variant: s5, mode: sliding, follow: true, rates_hz: [20, 40]}
  - {variant: none, mode: sliding, rates_hz: [20, 40]}
"""
UNITS = ["s5", "none", "s5_seed=1", "none_seed=1"]
PATIENCE_S = 240  # on a busy machine
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder with the profile's file and its data, all models done in this process, and their table."""
    folder = tmp_path_factory.mktemp("done")
    (folder / "tiny.yaml").write_text(PROFILE)
    (folder / "myst.yml").touch()  # the book's folder
    (folder / "data").mkdir()
    before = Path.cwd()
    os.chdir(folder)
    table = run_arms(Workspace("tiny.yaml", folder / "data", workers=1), progress=False)
    os.chdir(before)
    return folder, table


@pytest.fixture
def place(done, tmp_path, monkeypatch):
    """A workspace of the same data, of which no model is done; it stands in a folder of its own."""
    folder, _ = done
    (tmp_path / "data").mkdir()
    for name in ("raw", "sets"):
        shutil.copytree(folder / "data" / name, tmp_path / "data" / name)
    for name in ("tiny.yaml", "myst.yml"):
        shutil.copy(folder / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return Workspace("tiny.yaml", tmp_path / "data", workers=1)


def finished(place, folder, *units):
    """Put models that are done there."""
    for unit in units:
        shutil.copytree(folder / "data" / "runs" / unit, place.folder / "runs" / unit)


def holder(place, timeout_s=PATIENCE_S):
    """The process that computes some model of a sweep."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        for path in (place.folder / "sweep").glob("[sn]*.lock"):
            owner = sweep.SoftFileLease(path, lease_duration=sweep.LEASE_S).owner
            if path.stem != "sets" and owner is not None:
                return owner.pid
        time.sleep(0.01)
    raise TimeoutError("no model was begun")


def test_a_dask_cluster_that_loses_a_worker_ends_with_the_tables(done, place):
    import dask
    from distributed import LocalCluster

    finished(place, done[0], "none", "s5_seed=1")
    tables = []
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),  # imports once
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
    ):
        thread = threading.Thread(
            target=lambda: tables.append(run_arms(place, progress=False, scheduler=cluster.scheduler_address))
        )
        thread.start()
        killed = holder(place)
        assert killed != os.getpid()
        os.kill(killed, signal.SIGKILL)
        thread.join(PATIENCE_S)
    pd.testing.assert_frame_equal(tables[0], done[1])
    assert len(read_arms(place)) == 8
    assert set(status(place)["state"]) == {"done"}


def test_an_array_of_tasks_does_what_is_missing(done, place, monkeypatch, capsys):
    finished(place, done[0], "s5", "none", "none_seed=1")
    tools = place.folder.parent / "bin"
    tools.mkdir()
    (tools / "sbatch").write_text(STAND_IN.format(python=sys.executable))
    (tools / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    words = ["sweep", "tiny.yaml", "--data-dir", "data", "--executor", "slurm", "--workers", "1", "--json"]
    assert main([*words, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == [2]
    assert "#SBATCH --array=2%1\n" in (place.folder / "sweep" / "tiny.sh").read_text()
    assert len(list((place.folder / "runs").iterdir())) == 3  # nothing was submitted
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["sbatch"] == "Submitted batch job 7"
    pd.testing.assert_frame_equal(collect_arms(place), done[1])
    assert len(read_arms(place)) == 8  # written by the tasks
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == {"tasks": []}


STAND_IN = """#!{python}
import os, re, subprocess, sys
array, log = (re.search(rf"--{{name}}=(\\S+)", open(sys.argv[1]).read())[1].strip('"') for name in ("array", "output"))
for task in array.partition("%")[0].split(","):
    environment = {{**os.environ, "SLURM_ARRAY_TASK_ID": task}}
    with open(log.replace("%A", "7").replace("%a", task), "w") as out:
        done = subprocess.run(["bash", sys.argv[1]], env=environment, stdout=out, stderr=out)
    assert done.returncode == 0, task
print("Submitted batch job 7")
"""


def test_killed_in_the_middle_it_goes_on_with_what_is_missing(done, place):
    finished(place, done[0], "none", "none_seed=1")
    times = {path: path.stat().st_mtime_ns for path in (place.folder / "runs").rglob("*.*")}
    command = [sys.executable, "-m", "ssmbook", "sweep", "tiny.yaml", "--data-dir", "data", "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as running:
        computing = holder(place)
        states = status(place)
        running.kill()
        running.communicate()
    assert computing != running.pid
    assert set(states["state"]) <= {"done", "running", "waiting"}
    assert states["state"].tolist()[3] == "done"
    until = time.monotonic() + 30

    def are_there() -> bool:
        return os.path.exists(f"/proc/{computing}") or "running" in set(status(place)["state"])

    while are_there() and time.monotonic() < until:  # the two that compute end with who started them
        time.sleep(0.05)
    assert not are_there()
    left = {path.parent for path in (place.folder / "runs").glob("*/model.ckpt")}
    times |= {path: path.stat().st_mtime_ns for each in left for path in each.glob("*.ckpt")}
    pd.testing.assert_frame_equal(run_arms(place, progress=False), done[1])
    assert all(path.stat().st_mtime_ns == made for path, made in times.items())


def test_what_failed_is_told_and_all_else_is_done(done, place, monkeypatch, capsys):
    finished(place, done[0], *UNITS)
    original = sweep.compute
    ended = {"none": ProcessEnded("its process ended; was there memory enough?")}

    def calls(call, arguments, workers, client):
        for i, each in enumerate(arguments):
            yield i, ended.get(each[1]) or original(*each)

    monkeypatch.setattr(sweep, "run_calls", calls)
    monkeypatch.setattr(models_of(place)[0].__class__, "run", failing(models_of(place)[0].__class__.run))
    with pytest.raises(ModelsFailed, match="2 of 4 models failed") as error:
        run_arms(place, progress=False)
    assert error.value.failures == {"s5": "ZeroDivisionError: by zero", "none": str(ended["none"])}
    assert len(read_arms(place)) == 4
    shutil.rmtree(place.folder / "runs" / "s5")
    shutil.rmtree(place.folder / "runs" / "none")
    table = status(place).set_index("unit")
    assert table["state"].tolist() == ["failed", "failed", "done", "done"]
    assert main(["sweep", "tiny.yaml", "--data-dir", "data", "--status"]) == 0
    out = capsys.readouterr().out
    assert "ZeroDivisionError: by zero" in out
    assert "2 done, 2 failed" in out
    note = json.loads((place.folder / "sweep" / "s5.json").read_text())
    assert "raise ZeroDivisionError" in note["traceback"]


def failing(run):
    def replaced(self, *arguments):
        if self.folder.name == "s5":
            raise ZeroDivisionError("by zero")
        return run(self, *arguments)

    return replaced


def test_tables_are_collected_from_several_folders(done, place, tmp_path, capsys):
    folder, table = done
    for name, units in (("a", UNITS[:2]), ("b", UNITS[1:])):
        for unit in units:
            shutil.copytree(folder / "data" / "runs" / unit, tmp_path / name / "runs" / unit)
    words = ["sweep", "tiny.yaml", "--data-dir", "data", "--collect"]
    assert main(words) == 1
    assert "no model of tiny is done" in capsys.readouterr().err
    assert len(collect_arms(place, [tmp_path / "a"])) == 4
    assert main([*words, str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    pd.testing.assert_frame_equal(read_arms(place), table, atol=1e-6, check_dtype=False)
    assert set(read_arms(place, REST_CSV)["cell"]) <= set(table["cell"])
    assert main([*words, "missing"]) == 1


def test_a_lock_outlives_no_process(tmp_path, monkeypatch):
    marker = "filelock/2\npid={}\nhost={}\nmode=lease\ntoken=ab\nduration={!r}\n"
    path = tmp_path / "s5.lock"
    with sweep._lease(tmp_path, "s5", wait=False) as own:
        assert own is not None
        assert sweep._holder(path) == f"process {os.getpid()} on {sweep.platform.node()}"
        with sweep._lease(tmp_path, "s5", wait=False) as other:
            assert other is None
    # Elsewhere: only the heartbeat tells.
    monkeypatch.setattr(sweep, "LEASE_S", 0.6)
    path.write_text(marker.format(1, "elsewhere", 0.6))
    with sweep._lease(tmp_path, "s5", wait=False) as other:
        assert other is None
    start = time.monotonic()
    with sweep._lease(tmp_path, "s5", wait=True) as own:
        assert own is not None
        assert time.monotonic() - start >= 0.6
    # Here: a dead process frees it at once.
    dead = subprocess.Popen(["true"])
    dead.wait()
    monkeypatch.setattr(sweep, "LEASE_S", 300.0)
    host = own.owner.hostname if own.owner else None
    with sweep._lease(tmp_path, "probe", wait=False) as probe:
        host = probe.owner.hostname
    path.write_text(marker.format(dead.pid, host, 300.0))
    assert sweep._holder(path) == ""
    with sweep._lease(tmp_path, "s5", wait=False) as own:
        assert own is not None


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])  # SIG_IGN: started with &
def test_who_loses_its_lock_stops(place, monkeypatch, handler):
    model = models_of(place)[0]

    def run(self, device, progress):
        (place.folder / "sweep" / "s5.lock").unlink()  # as one does who thinks it dead
        for _ in range(1000):
            time.sleep(0.02)

    monkeypatch.setattr(sweep, "LEASE_S", 0.6)
    monkeypatch.setattr(type(model), "run", run)
    before = signal.signal(signal.SIGINT, handler)
    try:
        assert sweep.compute(model, "s5", "cpu", False, threads=0, wait=False) == sweep.Outcome()
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_runs_are_listed(done, capsys):
    folder, _ = done
    runs = find_runs(folder / "data")
    assert [(run.folder.name, run.state, run.step, run.steps) for run in runs] == [
        (name, "finished", 2, 2) for name in sorted(UNITS)
    ]
    assert all(0 <= run.ap <= 1 for run in runs)
    for where in (folder, folder / "data" / "runs", folder / "data" / "runs" / "s5"):
        assert main(["runs", str(where), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[-1]["state"] == "finished"
    assert main(["runs", str(folder / "data")]) == 0
    assert "2/2" in capsys.readouterr().out


def test_a_run_that_goes_on_is_seen(done, tmp_path):
    run = tmp_path / "runs" / "s5"
    shutil.copytree(done[0] / "data" / "runs" / "s5", run)
    (run / "model.ckpt").unlink()
    rows = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text("\n".join(rows[:2]) + "\n")  # the first of two steps
    (stopped,) = find_runs(tmp_path)
    assert (stopped.state, stopped.step, stopped.host) == ("stopped", 1, "")
    assert stopped.seconds_left > 0  # of one step
    (run.parent / ".s5.lock").write_text(f"process {os.getpid()} on {sweep.platform.node()} trains in it")
    assert find_runs(tmp_path)[0].state == "training"


def test_names_and_arrays():
    assert slurm.array_of([5, 0, 1, 2, 9, 10]) == "0-2,5,9-10"
    study = models_of(Workspace("study"))
    names = unit_names(study)
    assert len(set(names)) == len(study)
    assert any(name.endswith("~2") for name in names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smoke", "--executor", "dask"], "--scheduler"),
        (["smoke", "--scheduler", "tcp://127.0.0.1:1"], "--executor dask"),
        (["smoke", "--workers", "-1"], "--workers -1"),
        (["smoke", "--watch"], "--watch goes with --status"),
        (["smke"], "is it smoke?"),
        (["smoke", "--logger", "tensorbord"], "there is no logger 'tensorbord'"),
        (["smoke", "--data-dir", "missing"], "no such folder"),
        (["smoke", "--data-dir", ".", "--task", "99"], "there is no model 99; profile smoke has 0 to 1"),
    ],
)
def test_wrong_words(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_task_of_another_profile_is_refused(place):
    with pytest.raises(InputError, match="there is no model 4"):
        sweep.run_task(place, 4)

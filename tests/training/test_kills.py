"""A few kills of each work; many by ``python -m tests.kills``."""

import subprocess
import sys
from pathlib import Path

import pytest
from training_set import make_set

from ssmbook.training.loop import Fit
from ssmbook.training.run_folder import BEST, LAST, MODEL
from tests.kills import preprocess_again, train_again


def test_kills_at_random_moments():
    """In a process of its own: children are forked from it, which only one without threads may do."""
    command = [sys.executable, "-m", "tests.kills", "preprocess", "train", "download", "--moments", "7"]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_work_that_was_killed_when_all_but_its_lock_was_done(tmp_path):
    make_set(tmp_path, train=4)
    for work, workers, mark in ((preprocess_again, 1, ".lock"), (train_again, 0, "../.train.lock")):
        out = tmp_path / work.__name__.removesuffix("_again")
        work(tmp_path, out, workers)
        done = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        (out / mark).write_text("process 1 on nowhere works in it")
        work(tmp_path, out, workers)
        assert not (out / mark).exists()
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == done


@pytest.mark.parametrize("stop", [1, 7])  # early; after the last step, before its validation
def test_a_stopped_run_ends_with_the_same_bytes(tmp_path, monkeypatch, stop):
    class Killed(BaseException):
        pass

    def run(out: Path, saves: int) -> None:
        whole, count = Fit.save, iter(range(saves))

        def save(self: Fit) -> None:
            whole(self)
            if next(count, None) is None:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Fit, "save", save)
            train_again(tmp_path, out, 0)

    make_set(tmp_path, train=4)
    run(tmp_path / "whole", 1000)
    with pytest.raises(Killed):
        run(tmp_path / "stopped", stop - 1)
    run(tmp_path / "stopped", 1000)
    for name in (MODEL, BEST, LAST):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name

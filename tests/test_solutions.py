"""The exercises' solutions: each exercise has one, each file runs to its end, its asserts hold."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.py"))
SECONDS = 10  # of one core


def children_seconds() -> float:
    """CPU time of the processes that this one has waited for: a loaded machine does not change it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds_of(path: Path, folder: Path) -> float:
    """Run a file to its end in a process of its own; the CPU time that it took."""
    environment = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    before = children_seconds()
    run = subprocess.run(
        [sys.executable, str(path)], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    return children_seconds() - before


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
class TestSolutions:
    def test_answer_the_exercises_of_their_chapter_in_order(self, path):
        chapter = (NOTEBOOKS / path.name).read_text()
        exercises = re.findall(r"^# :{3,}\{exercise\}.*\n# :label: (ex-[\w-]+)$", chapter, re.M)
        solutions = re.findall(r"^# :{3,}\{solution\} (ex-[\w-]+)$", chapter, re.M)
        shown = re.findall(r"^# :start-after: '?# %% (ex-[\w-]+)'?$", chapter, re.M)
        cells = re.findall(r"^# %% (ex-[\w-]+)$", path.read_text(), re.M)
        assert exercises == solutions == shown == cells

    def test_run_and_hold(self, path, tmp_path):
        seconds = seconds_of(path, tmp_path)
        if seconds >= SECONDS:  # the first run compiles what is not in numba's cache
            seconds = seconds_of(path, tmp_path)
        assert seconds < SECONDS


def test_every_chapter_with_exercises_has_its_solutions():
    with_exercises = [
        path.name for path in sorted(NOTEBOOKS.glob("[0-9]*.py")) if "{exercise}" in path.read_text()
    ]
    assert [path.name for path in SOLUTIONS] == with_exercises

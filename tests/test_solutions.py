"""The exercises' solutions: each exercise has one, each file runs to its end, its asserts hold."""

import os
import re
import runpy
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ssmbook.processes import worker_context

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.py"))
SECONDS = 10  # of one core


def run_file(path: Path, folder: Path, said: Connection) -> None:
    """Run a file to its end; the CPU time that it took, or why it failed."""
    os.chdir(folder)
    os.environ |= {"MPLBACKEND": "agg", "TQDM_DISABLE": "1"}
    begun = time.process_time()
    try:
        runpy.run_path(str(path), run_name="__main__")
        said.send((time.process_time() - begun, ""))
    except BaseException:
        said.send((0.0, traceback.format_exc()))


def seconds_of(path: Path, folder: Path) -> float:
    """Run a file in a process of its own, in which PyTorch is imported; its CPU time, which a loaded machine does not
    change."""
    context = worker_context("ssmbook.dataset.schedule")
    ours, theirs = context.Pipe()
    process = context.Process(target=run_file, args=(path, folder, theirs))
    process.start()
    theirs.close()
    try:
        seconds, failure = ours.recv()
    except EOFError:
        failure = "it ended without a word"
    process.join()
    assert not failure, failure
    return seconds


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

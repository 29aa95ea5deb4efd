"""A few kills of each work; many by ``python -m tests.kills``."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("work", ["preprocess"])
def test_kills_at_random_moments(work):
    """In a process of its own: children are forked from it, which only one without threads may do."""
    command = [sys.executable, "-m", "tests.kills", work, "--moments", "2"]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr

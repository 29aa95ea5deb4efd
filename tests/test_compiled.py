"""A package that is installed read-only, without a home to write to, imports and runs."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ssmbook"
PROBE = """
from ssmbook.compiled import njit

@njit(nogil=True)
def double(x):
    return 2 * x
"""
CODE = """
import ssmbook.events, ssmbook.probe
assert ssmbook.probe.double(21) == 42
print(ssmbook.probe.double.stats.cache_path)
"""


@pytest.fixture
def library():
    """A copy of the package that other users can read."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(PACKAGE, folder / "ssmbook", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "ssmbook" / "probe.py").write_text(PROBE)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IRWXU)
    shutil.rmtree(folder)


def run(library, home, user=None):
    environment = {**os.environ, "PYTHONPATH": str(library), "HOME": str(home)}
    environment.pop("XDG_CACHE_HOME", None)
    environment.pop("NUMBA_CACHE_DIR", None)
    run = subprocess.run(
        [sys.executable, "-c", CODE], cwd=library, env=environment, user=user, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="takes away the right to write as Unix does")
def test_a_package_that_cannot_be_written_runs(library):
    for path in (*library.rglob("*"), library):
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = "nobody" if os.getuid() == 0 else None  # root may write anywhere
    assert run(library, "/nonexistent", user) == "None"


def test_what_can_be_written_keeps_what_was_compiled(library):
    assert run(library, "/nonexistent") == str(library / "ssmbook" / "__pycache__")

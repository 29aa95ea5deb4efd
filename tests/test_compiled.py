"""A package that is installed read-only, without a home to write to, imports and runs."""

import ctypes
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from numba.core.caching import IndexDataCacheFile

from ssmbook.compiled import njit

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


NO_HOME = "/proc/none"  # where nobody can make a folder


def run(library):
    environment = {**os.environ, "PYTHONPATH": str(library), "HOME": NO_HOME}
    environment.pop("XDG_CACHE_HOME", None)
    environment.pop("NUMBA_CACHE_DIR", None)
    run = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=library,
        env=environment,
        preexec_fn=_bow_to_permissions,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def _bow_to_permissions():
    """Root may write anywhere; without this capability (CAP_DAC_OVERRIDE, 1) it may not."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="takes away the right to write as Linux does")
def test_a_package_that_cannot_be_written_runs(library):
    for path in (*library.rglob("*"), library):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert run(library) == "None"


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_what_can_be_written_keeps_what_was_compiled(library):
    assert run(library) == str(library / "ssmbook" / "__pycache__")


def test_a_full_disk_keeps_nothing_and_runs(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    assert njit()(lambda x: 2 * x)(21) == 42

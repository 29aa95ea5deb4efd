"""Calls in worker processes."""

import subprocess
import sys

from ssmbook.processes import run_calls

CALLS = [(-1,), (2,), (-3,), (4,), (-5,)]


def test_every_call_is_made():
    assert dict(run_calls(abs, CALLS, 2, None)) == {0: 1, 1: 2, 2: 3, 3: 4, 4: 5}


def test_a_script_that_its_workers_run_again_is_told_once(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(f"""
from ssmbook.files import lock
from ssmbook.processes import run_calls
with lock("here", "works in it"):
    print(dict(run_calls(abs, {CALLS}, 2, None)))
""")
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ssmbook.errors.InputError: worker processes end as they begin")
    assert last.endswith('put what it does under if __name__ == "__main__":')
    assert run.stderr.count("Error: ") <= 3  # of this process, and of each worker's first start

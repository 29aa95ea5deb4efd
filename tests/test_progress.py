"""Progress is told on the terminal, and a saved notebook holds none of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CELL = """
from ssmbook.processes import run_calls
from ssmbook.progress import progress_bar, tell
from tests.test_progress import bar_of
for _ in progress_bar(range(3), desc="in the kernel"):
    pass
for _, result in run_calls(bar_of, [("first",), ("second",)], 2, None):
    print(result)
tell("a line")
print("an output")
"""


def bar_of(name):
    """Show a bar in a process of its own; returns how far it counted."""
    from ssmbook.progress import progress_bar

    return sum(1 for _ in progress_bar(range(2), desc=f"in the {name} process"))


def test_a_notebook_that_papermill_saves_holds_no_bars(tmp_path):
    import nbformat  # here, since the processes above import this file

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbformat.write(book, tmp_path / "in.ipynb")
    environment = {k: v for k, v in os.environ.items() if k not in ("TQDM_DISABLE", "PYTEST_CURRENT_TEST")}
    environment["PYTHONPATH"] = str(ROOT)
    command = [
        sys.executable,
        "-m",
        "papermill",
        "in.ipynb",
        "out.ipynb",
        "-k",
        "python3",
        "--no-progress-bar",
    ]
    # As `command 2> log` in a shell: all who write have one place in the file, save those who open it by its path.
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        run = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=log)
        subprocess.run([sys.executable, "-c", "import sys; print('the end', file=sys.stderr)"], stderr=log)
    written = (tmp_path / "log").read_text()
    assert run.returncode == 0, written
    assert written.endswith("the end\n"), "nothing was written over another's words, or left behind them"
    saved = json.loads((tmp_path / "out.ipynb").read_text())["cells"][-1]["outputs"]
    assert {output["name"] for output in saved} == {"stdout"}
    assert "".join(line for output in saved for line in output["text"]) == "2\n2\nan output\n"
    for words in (
        "in the kernel: 100%",
        "in the first process: 100%",
        "in the second process: 100%",
        "a line",
    ):
        assert words in written

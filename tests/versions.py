"""The tests in fresh environments: each Python found here, with the oldest and the newest torch and numpy allowed.

    python -m tests.versions                    # in each environment: pip check, and the tests below
    python -m tests.versions --only newest --tests tests/ssm

What pyproject.toml allows is read from it: of ``torch>=2.11`` the oldest is 2.11. Environments are made in a temporary
folder and removed. Pythons are those on the path and of pyenv. With ``--resolve`` nothing is installed or run: it is
only asked whether the index has what fits together.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
VARIED = ("torch", "numpy")
TESTS = ("tests/ssm/test_s5.py", "tests/detector/test_checkpoint_forms.py", "tests/events/test_formats.py")


def pins(which: str, version: str) -> list[str]:
    """Requirements of pip for the oldest or newest versions that a version of Python may have."""
    needs = map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    lowest = {
        need.name: str(need.specifier).removeprefix(">=")  # the last that is for this Python
        for need in needs
        if need.marker is None or need.marker.evaluate({"python_version": version})
    }
    return [f"{name}=={lowest[name]}.*" if which == "oldest" else name for name in VARIED]


def pythons() -> dict[str, str]:
    """The Pythons of this machine that ssmbook is for, by version."""
    pyenv = Path.home() / ".pyenv" / "versions"
    found = {}
    for version in PYTHONS:
        # One on the path may be pyenv's stand-in, which runs only in some folders.
        paths = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
        if path := next((path for path in paths if path and not _run([([path, "-V"], "")])), None):
            found[version] = path
    return found


def check(python: str, version: str, which: str, tests: list[str], resolve: bool) -> str:
    """One line of what came of an environment."""
    with tempfile.TemporaryDirectory() as folder:
        steps = [([python, "-m", "venv", folder], "no environment")]
        if resolve:
            asked = ["install", "-q", "--dry-run", *pins(which, version), f"{ROOT}[test]"]
            said = _run([*steps, ([f"{folder}/bin/pip", *asked], "does not resolve")])
            return said or "passed: the index has it"
        steps += [
            (
                [f"{folder}/bin/pip", "install", "-q", *pins(which, version), "-e", f"{ROOT}[test]"],
                "not installed",
            ),
            ([f"{folder}/bin/pip", "check"], "pip check"),
            ([f"{folder}/bin/python", "-m", "pytest", "-q", "-n", "0", *tests], "tests"),
        ]
        if said := _run(steps):
            return said
        show = "import torch, numpy; print('torch', torch.__version__, 'numpy', numpy.__version__)"
        versions = subprocess.run([f"{folder}/bin/python", "-c", show], capture_output=True, text=True).stdout
        return f"passed with {versions.strip()}"


def _run(steps: list[tuple[list[str], str]]) -> str:
    """What the first step that failed said; empty where all passed."""
    for command, what in steps:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if run.returncode:
            lines = (run.stdout + run.stderr).strip().splitlines()
            said = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "")
            return f"{what}: {said[:160]}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.versions", description=__doc__)
    parser.add_argument("--only", choices=("oldest", "newest"), help="one of the two")
    parser.add_argument("--tests", nargs="+", default=list(TESTS), help=f"default: {' '.join(TESTS)}")
    parser.add_argument("--resolve", action="store_true", help="only ask the index")
    options = parser.parse_args()
    found, failed = pythons(), False
    for version in PYTHONS:
        for which in (options.only,) if options.only else ("oldest", "newest"):
            said = (
                check(found[version], version, which, options.tests, options.resolve)
                if version in found
                else "not on this machine"
            )
            print(f"Python {version}, {which}: {said}", flush=True)
            failed = failed or not said.startswith(("passed", "not on"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

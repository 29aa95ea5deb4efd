"""What holds the project together: layers, paired chapters, table of contents, README commands, lint."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jupytext
import papermill
import pytest
import yaml
from jupytext.compare import compare_notebooks

from ssmbook.study import PROFILES

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What each part may import, besides itself: data goes one way through the house.
ORDER = [
    *("errors", "lazy", "progress", "files", "hdf5", "processes"),  # the ground
    *("compiled", "allocation", "products", "colours"),
    *("events", "dataset", "ssm", "detector", "evaluation", "training", "live", "study"),
]
MAY_IMPORT = {part: set(ORDER[:i]) for i, part in enumerate(ORDER)} | {
    "plots": {"errors", "files", "colours", "events"},
    "drawings": {*ORDER, "plots"},
    "cli": {*ORDER, "plots"},
    "__main__": {"cli"},
    "__init__": set(),
}
for part in ("training", "study"):  # pictures of a run, a chapter
    MAY_IMPORT[part] |= {"plots"}


def imported_parts(path: Path) -> set[str]:
    """Parts of ssmbook that a module imports, anywhere in it."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("ssmbook.")}
    return parts


def test_imports_go_one_way():
    package = ROOT / "ssmbook"
    for path in package.rglob("*.py"):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        above = imported_parts(path) - MAY_IMPORT[part] - {part}
        assert not above, f"{path.relative_to(ROOT)} imports {above}, which lie above {part}"


def test_no_two_modules_import_each_other():
    """Not by way of others either, nor within functions or for types alone."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "ssmbook").rglob("*.py")
    }
    sorter = graphlib.TopologicalSorter()
    for module, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                for name in (f"{node.module}.{alias.name}" for alias in node.names):
                    other = name if name in files else node.module
                    if other in files and other != module:
                        sorter.add(module, other)
    sorter.prepare()  # raises CycleError, which names them


@pytest.mark.parametrize("notebook", CHAPTERS, ids=lambda path: path.stem)
class TestChapter:
    def test_is_paired_with_its_text(self, notebook):
        text = jupytext.read(notebook.with_suffix(".py"))
        compare_notebooks(text, jupytext.read(notebook), fmt="py:percent", compare_outputs=False)

    def test_has_typed_parameters_and_defaults_to_smoke(self, notebook):
        parameters = papermill.inspect_notebook(str(notebook))
        assert parameters["profile"]["default"] == '"smoke"'
        assert all(entry["inferred_type_name"] != "None" and entry["help"] for entry in parameters.values())

    def test_outputs_are_those_of_the_whole_chapter_in_order(self, notebook):
        cells = [cell for cell in jupytext.read(notebook).cells if cell.cell_type == "code"]
        counts = [cell.execution_count for cell in cells]
        assert counts == list(range(1, len(cells) + 1)), "run: ssmbook refresh"
        assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]
        assert not [o for cell in cells for o in cell.outputs if o.get("name") == "stderr"]

    def test_is_in_the_table_of_contents(self, notebook):
        toc = yaml.safe_load((ROOT / "myst.yml").read_text())["project"]["toc"]
        assert {"file": str(notebook.relative_to(ROOT))} in toc


def test_every_text_is_paired():
    assert [path.stem for path in CHAPTERS] == sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))


def test_links_have_words_and_chapters_their_numbers():
    """JupyterLab and GitHub show nothing for a link without words."""
    texts = {path: path.read_text() for path in [*ROOT.glob("notebooks/*.py"), *ROOT.glob("pages/*.md")]}
    labels = {
        label: path.name[:2]
        for path, text in texts.items()
        for label in re.findall(r"^# \((ch-.*)\)=$", text, re.M)
    }
    assert len(labels) == len(CHAPTERS)
    for path, text in texts.items():
        assert "[](" not in text, path
        for number, target in re.findall(r"\[[Cc]hapter (\d+)\]\((.*?)\)", text):
            assert int(number) == int(labels.get(target[1:]) or Path(target).name[:2]), (path, target)


def test_readme_gives_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "\npython -m pip install -c constraints.txt -e . && ssmbook reproduce\n" in readme
    assert "\npython -m pip install -c constraints.txt -e '.[test]' && python -m pytest\n" in readme


def test_constraints_pin_every_dependency():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(line.startswith("#") or "==" in line for line in lines)
    pins = {re.split("==", line)[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.split(r"[<>=;\[ ]", need)[0].lower().replace("_", "-") for need in needed}
    assert names <= pins


def test_profiles_have_a_model_and_arms():
    from ssmbook.detector import PRESETS

    for profile in PROFILES.values():
        assert profile.model in PRESETS
        assert profile.arms


def test_lint_and_types():
    for command in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["pyrefly", "check"]):
        run = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("line", "without"),
    [
        ("from ssmbook.evaluation import evaluate_boxes", {"torch", "pandas", "lightning", "matplotlib"}),
        ("from ssmbook.detector import Detector", {"h5py", "numcodecs", "triton", "lightning"}),
        ("from ssmbook.live import StreamingDetector", {"lightning", "matplotlib", "triton"}),
        ("import ssmbook.live.video, ssmbook.live.page, ssmbook.live.view", {"lightning", "matplotlib"}),
        ("from ssmbook.study import PROFILES", {"torch", "lightning"}),
        ("import ssmbook.cli", {"torch", "numpy"}),
        ("from ssmbook.cli import main; main(['train', '--recurrence', 'lstm'])", {"torch", "lightning"}),
        (
            "from ssmbook.cli import main; main(['train', '--representation', 'tracks'])",
            {"torch", "lightning"},
        ),
    ],
)
def test_imports_load_what_they_need(line, without):
    """In a process of its own: what is imported there and what is not."""
    code = f"{line}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not without & set(run.stdout.split())

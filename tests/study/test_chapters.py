"""Running chapters, beside each other too; refreshing one: run as it is, or left as it is."""

import json
import os
from pathlib import Path

import nbformat
import pytest

from ssmbook.errors import InputError
from ssmbook.study import chapters


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """Write a notebook of one cell and its text."""

    def write(source, text=""):
        path = tmp_path / "01_one.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
        path.with_suffix(".py").write_text(f"# %%\n{text or source}\n")
        monkeypatch.setattr(chapters, "select", lambda chosen: [path])
        return path

    return write


def test_it_is_run_in_place(chapter):
    path = chapter("print(1)")
    assert chapters.refresh() == [path]
    (cell,) = nbformat.read(path, 4).cells
    assert (cell.source, cell.outputs[0].text) == ("print(1)", "1\n")
    assert sorted(p.name for p in path.parent.iterdir()) == ["01_one.ipynb", "01_one.py"]


@pytest.mark.parametrize(
    ("source", "text", "words"),
    [
        (
            "print(1)",
            "print(2)",
            "its cells are not those of 01_one.py; jupytext --sync .*01_one.py gives both",
        ),
        ("1 / 0", "", r"^01_one failed in cell 1 \('1 / 0'\): ZeroDivisionError"),
    ],
)
def test_one_that_fails_or_is_older_than_its_text_stays_as_it_was(chapter, source, text, words):
    path = chapter(source, text)
    before = path.read_bytes(), path.with_suffix(".py").read_bytes()
    with pytest.raises(InputError, match=words):
        chapters.refresh()
    assert (path.read_bytes(), path.with_suffix(".py").read_bytes()) == before


@pytest.mark.parametrize("system", ["Linux", "another"])
def test_a_profile_of_results_is_run_on_all_cores(tmp_path, monkeypatch, system):
    """Outside Linux Python does not tell which cores a process may use."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    if system == "Linux":
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 4, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(chapters, "select", lambda chosen: [tmp_path / "09_rates.ipynb"])
    monkeypatch.setattr(chapters, "parameters_of", lambda chapter: {"profile": {}, "workers": {}})
    given = []
    monkeypatch.setattr(chapters, "_execute", lambda chapter, copy, parameters: given.append(parameters))
    chapters.reproduce("demo", data_dir=str(tmp_path))
    assert given == [{"profile": "demo", "workers": 3 if system == "Linux" else 7}]


def test_a_number_of_workers_that_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "select", lambda chosen: [tmp_path / "09_rates.ipynb"])
    monkeypatch.setattr(chapters, "parameters_of", lambda chapter: {"workers": {}})
    with pytest.raises(InputError, match="workers is 'two'; it must be a whole number"):
        chapters.reproduce("smoke", data_dir=str(tmp_path), parameters={"workers": "two"})


def test_chapters_of_one_core_run_beside_each_other_and_those_of_all_alone(tmp_path, monkeypatch):
    meet = """from pathlib import Path
from time import sleep
Path({0!r}).touch()
while not Path({1!r}).exists(): sleep(0.05)"""
    sources = {
        "01": meet.format("first", "second"),  # one after the other they would wait for ever
        "02": meet.format("second", "first"),
        "03": "1 / 0",
        "04": "workers = 1",
    }
    paths = [tmp_path / f"{name}.ipynb" for name in sources]
    for path, source in zip(paths, sources.values(), strict=True):
        cell = nbformat.v4.new_code_cell(source)
        cell.metadata["tags"] = ["parameters"] if "workers" in source else []
        language = {"name": "python3", "language": "python", "display_name": "Python"}
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": language}), path)
    monkeypatch.setattr(chapters, "chapters", lambda: paths)
    (tmp_path / "data").mkdir()
    chapters.reproduce("smoke", ["01", "02", "04"], str(tmp_path / "data"), {"workers": 2})
    known = json.loads((tmp_path / "data" / "book" / "provenance.json").read_text())["parameters"]
    assert list(known["chapters"]) == ["01", "02", "04"]
    with pytest.raises(InputError, match=r"^03 failed in cell 1 \('1 / 0'\): ZeroDivisionError"):
        chapters.reproduce("smoke", ["02", "03", "04"], str(tmp_path / "data"), {"workers": 2})


def test_what_needs_all_cores_comes_between():
    names = {"01": 0, "02": 0, "03": 1, "04": 0, "05": 1, "06": 0}
    runs = [chapters._Run(n, Path(n), Path(n), {"workers": 2} if heavy else {}) for n, heavy in names.items()]
    groups = [[run.label for run in group] for group in chapters._groups(runs)]
    assert groups == [["01", "02"], ["03"], ["05"], ["06", "04"]]
    assert [[r.label for r in group] for group in chapters._groups(runs[:2])] == [["01", "02"]]

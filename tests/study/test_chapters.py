"""Refreshing a chapter takes over its text."""

import nbformat
import pytest

from ssmbook.errors import InputError
from ssmbook.study import chapters


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A notebook with a cell that says 1; its text says 2."""
    path = tmp_path / "01_one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")]), path)
    path.with_suffix(".py").write_text("# %%\nprint(2)\n")
    monkeypatch.setattr(chapters, "select", lambda chosen: [path])
    return path


def test_what_is_run_are_the_cells_of_the_text(chapter):
    assert chapters.refresh() == [chapter]
    (cell,) = nbformat.read(chapter, 4).cells
    assert (cell.source, cell.outputs[0].text) == ("print(2)", "2\n")
    assert sorted(p.name for p in chapter.parent.iterdir()) == ["01_one.ipynb", "01_one.py"]


def test_a_chapter_that_fails_stays_as_it_was(chapter):
    before = chapter.read_bytes()
    chapter.with_suffix(".py").write_text("# %%\n1 / 0\n")
    with pytest.raises(InputError, match=r"^01_one failed in cell 1 \('1 / 0'\): ZeroDivisionError"):
        chapters.refresh()
    assert chapter.read_bytes() == before

"""The figures of what the book must reach, counted on a book whose figures are known."""

import importlib.util
import shutil
import sys

import pytest

from ssmbook.cli import main
from ssmbook.cli.site import ROOT

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("myst")), reason="needs Node and the extra `site`"
)


@pytest.fixture(scope="module")
def counting(small_book):
    """theme/count.py, on the small book."""
    spec = importlib.util.spec_from_file_location("counting", ROOT / "theme" / "count.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["counting"] = module
    spec.loader.exec_module(module)
    module.ROOT = small_book({"bare": "$$ a $$\n\nFour words, not five `code`.\n\n![alt](../pixel.png)"})
    assert main(["site", "--root", str(module.ROOT)]) == 0
    return module


def test_counts_a_chapter(counting):
    layers, _, bare = counting.chapters()
    assert (layers.equations, layers.unlabelled) == (1, 0)
    assert (layers.figures, layers.uncaptioned) == (1, 0)
    assert (layers.exercises, layers.solved) == (1, 1)
    assert (layers.compared, layers.outputs) == (2, 3)  # of a picture nbval compares nothing
    assert (bare.equations, bare.unlabelled) == (1, 1)
    assert (bare.figures, bare.uncaptioned) == (0, 1)
    assert bare.words == 4
    assert bare.links == 0


def test_fills_the_page_between_the_markers(counting, monkeypatch):
    page = counting.ROOT / "CONTRIBUTING.md"
    page.write_text(f"before\n{counting.START}\nold\n{counting.END}\nafter\n")
    monkeypatch.setattr("sys.argv", ["count.py", "--check"])
    assert counting.main() == 1
    monkeypatch.setattr("sys.argv", ["count.py"])
    assert counting.main() == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| 03_layers |" in text
    monkeypatch.setattr("sys.argv", ["count.py", "--check"])
    assert counting.main() == 0


def test_says_where_the_markers_are_missing(counting, monkeypatch):
    (counting.ROOT / "CONTRIBUTING.md").write_text("nothing\n")
    monkeypatch.setattr("sys.argv", ["count.py"])
    with pytest.raises(SystemExit, match="has no lines"):
        counting.main()

"""`ssmbook site`: every construct of theme/README.md is rendered, and every planted fault is refused."""

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ssmbook.cli import main
from ssmbook.cli.site import ROOT, broken_links

bs4 = pytest.importorskip("bs4")
needs_myst = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("myst")), reason="needs Node and the extra `site`"
)
pytestmark = needs_myst


@pytest.fixture(scope="module")
def root(small_book):
    """The small book with an address and a bare chapter, built once."""
    root = small_book({"bare": "$$ a $$\n\nFour words, not five `code`.\n\n![alt](../pixel.png)"})
    config = yaml.safe_load((root / "myst.yml").read_text())
    config["project"]["github"] = "https://github.com/someone/book"
    (root / "myst.yml").write_text(yaml.safe_dump(config))
    assert main(["site", "--root", str(root)]) == 0
    return root


@pytest.fixture(scope="module")
def page(root):
    """``page(name)``: a page of the small book."""
    return lambda name: bs4.BeautifulSoup((root / "_build" / "html" / name).read_text(), "html.parser")


class TestConstructs:
    @pytest.mark.parametrize(
        ("target", "words"),
        [
            ("layers.html#eq-rec", "(3.1)"),
            ("layers.html#fig-modes", "Figure 3.1"),
            ("layers.html#tbl-results", "Table 3.1"),
            ("layers.html#sec-scan", "Section 3.1"),
            ("layers.html#ex-sign", "Exercise 3.1"),
            ("layers.html", "layers"),
            ("more.html", "by file"),
            ("#cite-smith2023s5", "Smith et al., 2023, eq. 6"),
            ("#term-mode", "mode"),
        ],
    )
    def test_references_show_the_chapters_number(self, page, target, words):
        assert page("index.html").article.find("a", href=target).text.replace("\xa0", " ") == words

    def test_numbers_stand_where_they_lead(self, page):
        chapter = page("layers.html")
        assert chapter.find(id="eq-rec").find(class_="number").text == "(3.1)"
        assert chapter.find(id="eq-rec").math
        assert chapter.find(id="fig-modes").figcaption.text.startswith("Figure 3.1. Modes, as in (Smith")
        assert chapter.find(id="fig-modes").img["alt"] == "points in a circle"
        assert chapter.find(id="tbl-results").figcaption.text == "Table 3.1. Results."
        assert chapter.find(id="tbl-results").td.text == "7"
        assert chapter.find(id="ex-sign").find(class_="title").text == "Exercise 3.1. The sign"
        assert page("more.html").find(id="eq-own").find(class_="number").text == "(4.1)"
        assert page("more.html").article.find("a", href="layers.html#eq-rec").text == "(3.1)"

    def test_a_solution_is_folded_and_comes_from_its_file(self, page):
        solution = page("layers.html").find("details", class_="solution")
        assert solution.summary.text.replace("\xa0", " ") == "Solution to Exercise 3.1"
        assert solution.code.text.strip() == "answer = 42"

    def test_cells(self, page):
        chapter = page("layers.html")
        assert chapter.find("details", class_="fold").code.text == "plumbing = 1"
        assert chapter.find("pre", class_="output").text == "<1>"
        assert "label:" not in chapter.article.text  # the lines that begin with #| are no code

    def test_downloads_navigation_and_contents(self, page):
        chapter = page("layers.html")
        links = chapter.find(class_="sources")("a")
        assert [a["download"] for a in links[:2]] == ["03_layers.ipynb", "03_layers.py"]
        assert [a["href"] for a in links[2:]] == [
            "https://colab.research.google.com/github/someone/book/blob/HEAD/notebooks/03_layers.ipynb",
            "https://mybinder.org/v2/gh/someone/book/HEAD?labpath=notebooks/03_layers.ipynb",
        ]
        assert "jupyter lab notebooks/03_layers.ipynb" in chapter.find(class_="sources").text
        assert [a["href"] for a in chapter.find(class_="around")("a")] == ["index.html", "more.html"]
        assert chapter.find(id="toc").find("a", attrs={"aria-current": "page"})["href"] == "layers.html"
        assert chapter.find(class_="contents").a["href"] == "#sec-scan"
        assert chapter.find(class_="references").li["id"] == "cite-smith2023s5"
        assert chapter.find(class_="notes").li.text == "In small print."


def theme(name: str):
    """A module of the theme, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "theme" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "theme")  # as its script is run
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("tex", "formula"),
    [
        ("k ln f", "<mi>k</mi>{}<mi>ln</mi><mo>\u2061</mo>{}<mi>f</mi>"),
        (
            "L log_2 L",
            "<mi>L</mi>{}<msub><mrow><mi>log</mi><mo>\u2061</mo></mrow><mn>2</mn></msub>{}<mi>L</mi>",
        ),
        ("= tanh(c)", '<mo>=</mo><mi>tanh</mi><mo>\u2061</mo><mo stretchy="false">(</mo><mi>c</mi>'),
    ],
)
def test_functions_have_the_space_of_tex(tex, formula):
    spaced = theme("nodes").spaced
    assert spaced(formula.format("", "")) == formula.format(*['<mspace width="0.1667em"/>'] * 2)


def test_tables_of_docstrings_are_tables():
    text = "====  ====\nname  what\n====  ====\na     first\n      line\n====  ===="
    assert theme("api").prose(text) == "| name | what |\n| --- | --- |\n| a | first line |"
    bare = "====  ====\n``a``  b|c\n====  ===="
    assert theme("api").prose(bare).splitlines()[0] == "|  |  |"


@pytest.fixture(scope="module")
def counting(root):
    """theme/count.py, on the small book."""
    spec = importlib.util.spec_from_file_location("counting", ROOT / "theme" / "count.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["counting"] = module
    spec.loader.exec_module(module)
    module.ROOT = root
    return module


class TestCounts:
    """The figures of what the book must reach, counted on a book whose figures are known."""

    def test_counts_a_chapter(self, counting):
        layers, _, bare = counting.chapters()
        assert (layers.equations, layers.unlabelled) == (1, 0)
        assert (layers.figures, layers.uncaptioned) == (1, 0)
        assert (layers.exercises, layers.solved) == (1, 1)
        assert (layers.compared, layers.outputs) == (2, 3)  # of a picture nbval compares nothing
        assert (bare.equations, bare.unlabelled) == (1, 1)
        assert (bare.figures, bare.uncaptioned) == (0, 1)
        assert bare.words == 4
        assert bare.links == 0

    def test_fills_the_page_between_the_markers(self, counting, monkeypatch):
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

    def test_says_where_the_markers_are_missing(self, counting, monkeypatch):
        (counting.ROOT / "CONTRIBUTING.md").write_text("nothing\n")
        monkeypatch.setattr("sys.argv", ["count.py"])
        with pytest.raises(SystemExit, match="has no lines"):
            counting.main()


FAULTS = {  # MyST's own checks find these
    "reference": "{eq}`eq-nowhere`",
    "numbered": "{numref}`fig-nowhere`",
    "label": "[text](#nowhere)",
    "untitled": "[](#nowhere)",
    "citation": "[@nobody2020]",
    "narrative": "@nobody2020 says",
    "image": "![alt](nowhere.png)",
    "figure": ":::{figure} nowhere.png\nCaption\n:::",
    "role": "{norole}`text`",
    "directive": ":::{nodirective}\ntext\n:::",
    "term": "{term}`nothing`",
    "math": "$\\frac{1}{$",
    "included": "```{literalinclude} nowhere.py\n```",
    "cell": "```{literalinclude} solutions.py\n:start-after: # %% ex-nowhere\n```",
    "twice": "$$ a $$ (eq-rec)",  # a label of another chapter
}
LINKS = {"chapter": "[text](nowhere.ipynb)", "page": "[text](nowhere.md)"}  # and the check of links these


@pytest.mark.parametrize("faults", [FAULTS, LINKS], ids=["myst", "links"])
def test_each_planted_fault_is_refused_with_its_page(small_book, capsys, faults):
    assert main(["site", "--root", str(small_book(faults))]) == 1
    said = capsys.readouterr().err
    pages = {name: f"{number:02}_{name}.ipynb" for number, name in enumerate(faults, 5)}
    missed = [name for name in faults if pages[name] not in said and f"{name}.html" not in said]
    assert set(missed) <= {"twice"}, said  # MyST names the other page
    assert "fault(s), listed above" in said
    assert ('Duplicate identifier in project "eq-rec"' in said) == ("twice" in faults)


def test_a_node_that_the_theme_does_not_know_is_refused(small_book, capsys):
    assert main(["site", "--root", str(small_book({"framed": ":::{iframe} https://example.org\n:::"}))]) == 1
    assert "05_framed.ipynb: the theme does not know the node 'iframe'" in capsys.readouterr().err


class TestMissing:
    def test_no_book(self, tmp_path, capsys):
        assert main(["site", "--root", str(tmp_path)]) == 1
        assert "myst.yml: no such file" in capsys.readouterr().err

    def test_no_node(self, small_book, capsys, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert main(["site", "--root", str(small_book())]) == 1
        assert "apt-get install nodejs" in capsys.readouterr().err

    def test_no_mystmd(self, small_book, capsys, monkeypatch, tmp_path):
        (tmp_path / "node").symlink_to(shutil.which("node"))
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
        assert main(["site", "--root", str(small_book())]) == 1
        assert "'.[site]'" in capsys.readouterr().err

    def test_no_chromium(self, small_book, capsys, monkeypatch):
        monkeypatch.setattr("ssmbook.cli.site.BROWSERS", ())
        assert main(["site", "--pdf", "--root", str(small_book())]) == 1
        assert "apt-get install chromium" in capsys.readouterr().err


def test_links_within_the_pages(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html#y">1</a><a href="#x">2</a><img src="no.png">')
    (tmp_path / "b.html").write_text('<p id="z"><a href="a.html#x">1</a><a href="https://example.org">2</a>')
    assert broken_links(tmp_path) == [
        "⛔ a.html: the link 'b.html#y' leads to no place in b.html",
        "⛔ a.html: the link 'no.png' leads to no file",
    ]


class TestTheBook:
    def test_open_in_lines_need_an_address(self, site):
        page = bs4.BeautifulSoup((site / "events.html").read_text(), "html.parser")
        assert all(a.has_attr("download") for a in page.find(class_="sources")("a"))

    def test_pictures_keep_their_place_before_they_have_come(self, site):
        page = bs4.BeautifulSoup((site / "rates.html").read_text(), "html.parser")
        for picture in page.article("img"):
            with Image.open(site / picture["src"]) as image:
                assert (int(picture["width"]), int(picture["height"])) == image.size

    def test_brings_the_font_of_its_formulas(self, site):
        (name,) = re.findall(r'url\("(.*?)"\)', (site / "book.css").read_text())
        assert (site / name).read_bytes()[:4] == b"wOF2"
        assert "License" in (site / f"{name}.txt").read_text()

    def test_has_a_page_for_every_chapter_and_part(self, site):
        pages = {path.name for path in site.glob("*.html")}
        toc = yaml.safe_load((ROOT / "myst.yml").read_text())["project"]["toc"]
        names = [re.sub(r"^\d+_", "", Path(entry["file"]).stem) for entry in toc if "file" in entry]
        assert {f"{name.replace('_', '-')}.html" for name in names if name != "README"} <= pages
        parts = {p.name.removesuffix(".py") for p in (ROOT / "ssmbook").iterdir() if p.name[0].isalpha()}
        assert {f"api-{part}.html" for part in parts - {"cli"}} <= pages

    def test_the_reference_has_what_chapters_import(self, site):
        page = bs4.BeautifulSoup((site / "api-ssm.html").read_text(), "html.parser")
        layer = page.find(id="ssmbook-ssm-s5")
        assert layer.code.text == "S5"
        assert "step_scale" in layer.parent.text

    def test_code_and_labels_lead_to_the_reference(self, site):
        page = bs4.BeautifulSoup((site / "preface.html").read_text(), "html.parser")
        links = {link.text: link["href"] for link in page.article("a")}
        assert links["ssmbook.ssm.S5"] == "api-ssm.html#ssmbook-ssm-s5"
        assert links["the scan"] == "api-ssm.html#ssmbook-ssm-diagonal-scan"

    def test_code_of_a_file_has_its_name(self, site):
        page = bs4.BeautifulSoup((site / "experiments.html").read_text(), "html.parser")
        names = {
            block.find(class_="filename").text: block.pre.text for block in page(class_="code") if block.div
        }
        assert names.keys() == {"low_gain.yaml", "gru.py"}
        assert "low-gain:" in names["low_gain.yaml"]

    def test_lists_every_figure_and_table_by_chapter(self, site):
        listed = bs4.BeautifulSoup((site / "figures.html").read_text(), "html.parser").find(
            class_="all-figures"
        )
        shown = {
            f"{path.name}#{figure['id']}"
            for path in site.glob("*.html")
            for figure in bs4.BeautifulSoup(path.read_text(), "html.parser").select(
                "figure[id]:has(figcaption)"
            )
        }
        assert {link["href"] for link in listed.select("li a")} == shown
        assert any(heading.text == "1 Events" for heading in listed("h2"))
        kinds = [item.text.split()[0] for item in listed("ul")[0]("li")]
        assert kinds == sorted(kinds)  # figures before tables

    def test_lists_every_work_that_is_cited(self, site):
        listed = bs4.BeautifulSoup((site / "bibliography.html").read_text(), "html.parser").find(
            class_="all-references"
        )
        cited = set()
        for path in site.glob("*.html"):
            page = bs4.BeautifulSoup(path.read_text(), "html.parser")
            cited |= {item.text for item in page.select(".references li")}
        assert cited
        assert {item.text for item in listed("li")} == cited

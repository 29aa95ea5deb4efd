"""A small book with every construct of theme/README.md, which the tests build, whole and with faults."""

import base64
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import nbformat
import pytest
import yaml

from ssmbook.cli import main

ROOT = Path(__file__).parents[2]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
CONFIG = """version: 1
project:
  title: Small book
  bibliography: [pages/references.bib]
  numbering: {heading_1: true, equation: true, figure: true, table: true}
  error_rules:
    - {rule: reference-target-resolves, severity: error}
    - {rule: citation-label-links, severity: error}
    - {rule: link-text-exists, severity: error}
site: {template: ./theme}
"""
INDEX = """---
title: Small book
numbering: false
---
A {term}`mode` turns. All: {eq}`eq-rec`, {numref}`fig-modes`, {numref}`tbl-results`, [](#sec-scan), [](#ex-sign),
[layers](#ch-layers), [by file](notebooks/04_more.ipynb), [@smith2023s5, eq. 6].

:::{glossary}
mode
: It turns.
:::

:::{figure} pixel.png
:label: fig-pixel
:alt: one pixel
A pixel.
:::
"""
CHAPTER = r"""(ch-layers)=
# Layers

(sec-scan)=
## A scan

$$ x_k = \bar\Lambda x_{k-1} + \bar B u_k $$ (eq-rec)

A note[^a], said by @smith2023s5.

[^a]: In small print.

:::{exercise} The sign
:label: ex-sign
What happens?
:::

:::{solution} ex-sign
:class: dropdown
```{literalinclude} solutions.py
:start-after: # %% ex-sign
:end-before: # %% ex-next
```
:::
"""
FIGURE = """#| label: fig-modes
#| caption: >-
#|   Modes, as in [@smith2023s5, eq. 6] ({eq}`eq-rec`): $x^2$.
#| alt: points in a circle
draw()"""
TABLE = """#| label: tbl-results
#| tbl-cap: Results.
frame"""


def chapter(*cells: nbformat.NotebookNode) -> str:
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.writes(nbformat.v4.new_notebook(cells=list(cells), metadata=metadata))


def code(source: str, *outputs: nbformat.NotebookNode, **metadata: object) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, execution_count=1, outputs=list(outputs), metadata=metadata)


@pytest.fixture(scope="session")
def site() -> Path:
    """The book's own pages, built once: of several test processes the first builds, the others wait for it."""
    build, run = ROOT / "_build", os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    build.mkdir(exist_ok=True)
    with filelock.FileLock(build / "site.lock"):
        built = build / "built_by"
        if not built.exists() or built.read_text() != run:
            assert main(["site"]) == 0
            built.write_text(run)
    return build / "html"


@pytest.fixture(scope="session")
def small_book(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``small_book(more={name: text})``: a folder with the small book, and with further chapters of one text each."""

    def make(more: dict[str, str] | None = None) -> Path:
        root = tmp_path_factory.mktemp("book")
        shutil.copytree(
            ROOT / "theme", root / "theme", ignore=shutil.ignore_patterns("api.py", "__pycache__")
        )
        for folder in ("pages", "notebooks"):
            (root / folder).mkdir()
        shutil.copy(ROOT / "pages" / "references.bib", root / "pages")
        (root / "index.md").write_text(INDEX)
        further = {f"{number:02}_{name}": text for number, (name, text) in enumerate((more or {}).items(), 5)}
        files = ["index.md", *(f"notebooks/{name}.ipynb" for name in ("03_layers", "04_more", *further))]
        config = yaml.safe_load(CONFIG)
        config["project"]["toc"] = [{"file": file} for file in files]
        (root / "myst.yml").write_text(yaml.safe_dump(config))
        for name, text in further.items():
            cell = nbformat.v4.new_markdown_cell(f"# Title\n\n{text}")
            (root / "notebooks" / f"{name}.ipynb").write_text(chapter(cell))
        (root / "pixel.png").write_bytes(PIXEL)
        (root / "notebooks" / "solutions.py").write_text(
            "# %% ex-sign\nanswer = 42\n# %% ex-next\nother = 43\n"
        )
        picture = {"image/png": base64.b64encode(PIXEL).decode(), "text/plain": "<Figure>"}
        rows = {"text/html": "<table><tr><th>a</th></tr><tr><td>7</td></tr></table>", "text/plain": "a\n7"}
        output = nbformat.v4.new_output
        (root / "notebooks" / "03_layers.ipynb").write_text(
            chapter(
                nbformat.v4.new_markdown_cell(CHAPTER),
                code("plumbing = 1", tags=["hide-input"]),
                code(FIGURE, output("display_data", data=picture)),
                code(TABLE, output("execute_result", execution_count=1, data=rows)),
                code("print(1)", output("stream", name="stdout", text="\x1b[31m<1>\x1b[0m\n")),
            )
        )
        (root / "notebooks" / "03_layers.py").write_text("# %%\n")
        (root / "notebooks" / "04_more.ipynb").write_text(
            chapter(nbformat.v4.new_markdown_cell("# More\n\nAgain {eq}`eq-rec`.\n\n$$ a = b $$ (eq-own)"))
        )
        return root

    return make

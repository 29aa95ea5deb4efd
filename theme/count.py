"""Fills the table of what the book must reach in CONTRIBUTING.md, between its two markers, from the built site::

ssmbook site && python theme/count.py            # --check: exit code 1 where the table is not up to date
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- counted: begin -->", "<!-- counted: end -->"
IGNORED = ("nbval-ignore-output", "NBVAL_IGNORE_OUTPUT")


@dataclass
class Chapter:
    """What one chapter holds."""

    name: str
    words: int
    equations: int
    unlabelled: int
    figures: int
    uncaptioned: int
    exercises: int
    solved: int
    links: int
    compared: int
    outputs: int


def walk(node: dict) -> list[dict]:
    """A node and all nodes in it."""
    return [node, *(deeper for child in node.get("children", []) for deeper in walk(child))]


def words_of(node: dict) -> int:
    """Words of prose: without code, outputs and formulas."""
    if node["type"] in ("code", "outputs", "math", "inlineMath", "inlineCode"):
        return 0
    return len(re.findall(r"\w[^\s]*", node.get("value", ""))) + sum(
        words_of(child) for child in node.get("children", [])
    )


def compared(notebook: Path) -> tuple[int, int]:
    """Cells whose output nbval compares, and cells with an output. Pictures alone are never compared."""
    held = with_output = 0
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or not cell["outputs"]:
            continue
        with_output += 1
        ignored = any(
            mark in str(cell["metadata"].get("tags", [])) + "".join(cell["source"]) for mark in IGNORED
        )
        text = any(
            output["output_type"] == "stream"
            or not any(mime.startswith("image") for mime in output.get("data", {}))
            for output in cell["outputs"]
        )
        held += text and not ignored
    return held, with_output


def count(document: dict, notebook: Path) -> Chapter:
    """The figures of one chapter, from its resolved document and its notebook."""
    nodes = walk(document["mdast"])
    kinds = [node["type"] for node in nodes]
    equations = [node for node in nodes if node["type"] == "math"]
    containers = [node for node in nodes if node["type"] == "container" and node.get("kind") == "figure"]
    pictures = [
        node
        for node in nodes
        if node["type"] == "image"
        or any(mime.startswith("image") for mime in node.get("jupyter_data", {}).get("data", {}))
    ]
    held = [node for container in containers for node in walk(container) if node in pictures]
    solved = [
        node
        for node in nodes
        if node["type"] == "solution" and any(n["type"] == "include" for n in walk(node))
    ]
    cited = sum(kinds.count(kind) for kind in ("link", "crossReference", "cite"))
    number, outputs = compared(notebook)
    return Chapter(
        name=notebook.stem,
        words=words_of(document["mdast"]),
        equations=len(equations),
        unlabelled=sum(not node.get("label") for node in equations),
        figures=sum(any(child["type"] == "caption" for child in node["children"]) for node in containers),
        uncaptioned=len(pictures) - len(held),
        exercises=kinds.count("exercise"),
        solved=len(solved),
        links=cited,
        compared=number,
        outputs=outputs,
    )


def chapters() -> list[Chapter]:
    """All chapters of the built site, in order."""
    content = ROOT / "_build" / "site" / "content"
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in content.glob("*.json")]
    found = sorted((d["location"], d) for d in documents if re.match(r"/notebooks/\d", d["location"]))
    return [count(document, ROOT / location.lstrip("/")) for location, document in found]


def table(found: list[Chapter]) -> str:
    """The two tables as Markdown: the book's sums against the goals, and each chapter."""

    def total(name: str) -> int:
        return sum(getattr(chapter, name) for chapter in found)

    longer = ("03", "04")  # may go on
    ill_sized = [c for c in found if c.words < 1800 or (c.words > 3500 and not c.name.startswith(longer))]
    few_links = [chapter for chapter in found if chapter.links < 15]
    share = total("compared") / max(total("outputs"), 1)
    rows = [
        (
            "words a chapter",
            "1,800–3,500, 3 and 4 more",
            f"{min(c.words for c in found):,}–{max(c.words for c in found):,}",
            not ill_sized,
        ),
        (
            "display equations, labelled",
            "≥ 60, all",
            f"{total('equations')}, {total('unlabelled')} without a label",
            total("equations") >= 60 and not total("unlabelled"),
        ),
        (
            "figures with captions",
            "≥ 60, all",
            f"{total('figures')}, and {total('uncaptioned')} pictures without",
            total("figures") >= 60 and not total("uncaptioned"),
        ),
        (
            "exercises with tested solutions",
            "≥ 40, all",
            f"{total('exercises')}, {total('solved')} with",
            total("exercises") >= 40 and total("solved") >= total("exercises"),
        ),
        (
            "links, references and citations a chapter",
            "≥ 15",
            f"{min(c.links for c in found)}–{max(c.links for c in found)}",
            not few_links,
        ),
        (
            "cells with output that nbval compares",
            "≥ 80 %",
            f"{100 * share:.0f} % ({total('compared')} of {total('outputs')})",
            share >= 0.8,
        ),
    ]
    lines = ["| | goal | now | reached |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {goal} | {now} | {'yes' if reached else 'no'} |" for name, goal, now, reached in rows
    ]
    lines += [
        "",
        "| chapter | words | equations | figures | exercises | links | cells compared |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {c.name} | {c.words:,} | {c.equations} | {c.figures} | {c.exercises} | {c.links} "
        f"| {c.compared} of {c.outputs} |"
        for c in found
    ]
    return "\n".join(lines)


def main() -> int:
    """Write the table, or say whether it is up to date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where it would")
    options = parser.parse_args()
    found, page = chapters(), ROOT / "CONTRIBUTING.md"
    if not found:
        sys.exit("no chapter in _build/site: run `ssmbook site` first")
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    if START not in text or END not in text:
        sys.exit(f"{page.name} has no lines {START} and {END}: put them where the table belongs")
    head, rest = text.split(START, 1)
    new = f"{head}{START}\n\n{table(found)}\n\n{END}{rest.split(END, 1)[1]}"
    if options.check:
        return int(new != text)
    page.write_text(new, encoding="utf-8")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

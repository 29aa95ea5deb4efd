"""Writes the API reference as MyST pages, one per part of the library, from its docstrings (read by griffe,
without importing anything)::

    python theme/api.py            # pages/api/*.md, and names.json: each importable name → the label of its entry
"""

import json
import logging
import re
import shutil
import textwrap
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "pages" / "api"


def escaped(text: str) -> str:
    """Docstring prose for MyST: what only looks like markup outside ``code`` is taken literally."""
    parts = re.split(r"(``.+?``|`.+?`)", text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*_$@<>\[\]{}^~|\\])", r"\\\1", parts[i])
    return "".join(parts)


def prose(text: str) -> str:
    """Paragraphs escaped, tables as Markdown's, indented lines as they stand."""
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.splitlines()
        if lines[0].startswith("==="):
            blocks.append(table(lines))
        elif any(line.startswith("  ") for line in lines) and not lines[0].lstrip().startswith(("- ", "* ")):
            blocks.append(f"```text\n{textwrap.dedent(block)}\n```")
        else:
            blocks.append(escaped("\n".join(lines)))
    return "\n\n".join(blocks)


def table(lines: list[str]) -> str:
    """A table of reStructuredText as one of Markdown, with an empty heading where it has none."""
    columns = [found.start() for found in re.finditer("=+", lines[0])]
    rows: list[list[str]] = [[""] * len(columns)] if sum(x.startswith("===") for x in lines) < 3 else []
    for text in (x for x in lines if not x.startswith("===")):
        cells = [escaped(text[a:b].strip()) for a, b in zip(columns, [*columns[1:], len(text)], strict=True)]
        if cells[0]:
            rows.append(cells)
        else:  # a row goes on
            rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
    rows.insert(1, ["---"] * len(columns))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def docstring(item: griffe.Object) -> str:
    """An object's docstring: text, then its arguments, results and errors as lists."""
    if not item.docstring:
        return ""
    out = []
    for section in item.docstring.parse("google", warnings=False):
        kind = section.kind.value
        if kind == "text":
            out.append(prose(section.value))
        elif kind in ("parameters", "attributes"):
            lines = [f"- `{entry.name}`: {line(entry.description)}" for entry in section.value]
            out.append(
                f"**{ {'parameters': 'Arguments', 'attributes': 'Attributes'}[kind] }**\n\n"
                + "\n".join(lines)
            )
        elif kind in ("returns", "yields"):
            out.append(
                f"**{kind.capitalize()}**\n\n" + "\n".join(line(entry.description) for entry in section.value)
            )
        elif kind == "raises":
            lines = [f"- `{entry.annotation}`: {line(entry.description)}" for entry in section.value]
            out.append("**Raises**\n\n" + "\n".join(lines))
        elif kind == "examples":
            out += [
                prose(text) if sort.value == "text" else f"```python\n{text}\n```"
                for sort, text in section.value
            ]
        elif kind == "admonition":
            out.append(prose(f"{section.title}: {section.value.description}"))
    return "\n\n".join(out)


def line(text: str) -> str:
    """A description on one line."""
    return escaped(re.sub(r"\s*\n\s*", " ", text.strip()))


def signature(item: griffe.Object) -> str:
    """What one writes to call or make it, one argument a line where it is long."""
    if item.is_attribute:
        return f"{item.name} = {item.value}" if item.value else item.name
    if item.is_class and "__init__" not in item.members:
        return f"class {item.name}"
    call = item.members["__init__"] if item.is_class else item
    if not isinstance(call, griffe.Function):
        return f"class {item.name}"
    given = []
    for parameter in call.parameters:
        if parameter.name in ("self", "cls"):
            continue
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(parameter.kind.value, "")
        hint = f": {parameter.annotation}" if parameter.annotation else ""
        default = f" = {parameter.default}" if parameter.default is not None and not stars else ""
        given.append(f"{stars}{parameter.name}{hint}{default}")
    result = f" -> {call.returns}" if not item.is_class and call.returns else ""
    flat = f"{item.name}({', '.join(given)}){result}"
    return flat if len(flat) <= 80 else f"{item.name}(\n    " + ",\n    ".join(given) + f",\n){result}"


def entry(item: griffe.Object, path: str, depth: int, names: dict[str, str]) -> list[str]:
    """A heading with its label, the signature and the docstring; for a class its public methods, too."""
    label = unused(path, names)
    names[path] = names[item.canonical_path] = label
    title = f"{path.split('.')[-2]}.{item.name}" if depth > 3 else item.name
    out = [f"({label})=\n{'#' * depth} `{title}`", f"```python\n{signature(item)}\n```", docstring(item)]
    if item.is_class:
        for member in item.members.values():
            if not member.is_alias and member.is_public and member.is_function and member.docstring:
                out += entry(member, f"{path}.{member.name}", depth + 1, names)
    return out


def unused(path: str, names: dict[str, str]) -> str:
    """A label for a path: MyST does not tell ``s5`` from ``S5``, so the later one has a number."""
    taken = {label.lower() for label in names.values()}
    return next(
        label for label in (path, *(f"{path}-{n}" for n in range(2, 9))) if label.lower() not in taken
    )


def page(part: griffe.Module, names: dict[str, str]) -> str:
    """One part: what it exports first, then what only its modules hold."""
    out, seen = (
        [
            f"---\ntitle: ssmbook.{part.name}\nnumbering: false\n---",
            docstring(part),
            "## What it exports" if part.is_package else "",
        ],
        set(),
    )
    exported = part.exports or []
    for name in map(str, exported):
        item = part[name]
        target = item.final_target if item.is_alias else item
        seen.add(target.canonical_path)
        out += entry(target, f"{part.path}.{name}", 3, names)
    for module in sorted(walk(part), key=lambda module: module.path):
        items = [
            i
            for i in module.members.values()
            if not i.is_alias and i.is_public and (i.is_class or i.is_function) and i.docstring
        ]
        items = [i for i in items if i.canonical_path not in seen]
        if items:
            label = unused(module.path, names)
            names.setdefault(module.path, label)
            out += [
                f"({label})=\n## `{module.path.removeprefix('ssmbook.')}`",
                docstring(module) if module is not part else "",
            ]
            for item in items:
                out += entry(item, item.path, 3, names)
    return "\n\n".join(filter(None, out)) + "\n"


def walk(part: griffe.Module) -> list[griffe.Module]:
    """A part and all modules under it that are public."""
    below = [
        m for m in part.members.values() if not m.is_alias and m.is_module and not m.name.startswith("_")
    ]
    return [part, *(module for child in below for module in walk(child))]


if __name__ == "__main__":
    logging.getLogger("griffe").setLevel(logging.ERROR)
    package = griffe.load("ssmbook", search_paths=[str(ROOT)])
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    names: dict[str, str] = {}
    parts = [
        m
        for m in package.members.values()
        if not m.is_alias and m.is_module and m.name not in ("__main__", "cli")
    ]
    for part in parts:
        (OUT / f"api_{part.name}.md").write_text(page(part, names), encoding="utf-8")
    (OUT / "names.json").write_text(json.dumps(names, indent=0), encoding="utf-8")

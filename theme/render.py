"""Turns the content that MyST has resolved into static pages: run by ``myst build --html`` in this folder.

MyST serves its documents (numbers, references and citations filled in) at CONTENT_CDN; the pages go to
BUILD_DIRECTORY, all of them side by side, so that each link is relative and works from a disk too.
"""

import html
import json
import os
import re
import string
from pathlib import Path

from book import Book
from nodes import Page
from parts import fetch, page_file, tag

HERE = Path(__file__).resolve().parent


def listed(book: Book, pages: dict[str, Page], what: str) -> tuple[str, str]:
    """The place of the list of all figures or references, and the list."""
    place = f'<div class="all-{what}">'
    if what == "figures":
        inside = "".join(listed_figures(book, slug, page.captions) for slug, page in pages.items())
    else:
        cited = {key: entry["html"] for page in pages.values() for key, entry in page.cited.items()}
        inside = tag("ul", "".join(tag("li", words) for words in sorted(cited.values())))
    return place, f"{place}{inside}</div><div hidden>"


def listed_figures(book: Book, slug: str, captions: list[tuple[str, str]]) -> str:
    """One page's figures, then its tables, under its title."""
    found = dict(captions)
    ordered = sorted(found.items(), key=lambda caption: caption[1].startswith("Table"))
    items = "".join(tag("li", tag("a", words, href=f"{slug}.html#{key}")) for key, words in ordered)
    title = html.escape(book.titles[slug])
    number = f"{book.numbers[slug]} " if slug in book.numbers else ""
    return tag("h2", tag("a", number + title, href=f"{slug}.html")) + tag("ul", items) if items else ""


def sources(book: Book, page: Page) -> str:
    """Downloads, and the places that open a notebook."""
    location, repository = page.document["location"].lstrip("/"), book.project.get("github", "")
    if not location.endswith(".ipynb"):
        return ""
    notebook = next(e for e in page.front["exports"] if e["format"] == "ipynb")
    links = [
        tag(
            "a",
            "notebook",
            href=book.asset(notebook["url"], f"files/{notebook['filename']}"),
            download=notebook["filename"],
        )
    ]
    text = (HERE.parent / location).with_suffix(".py")
    if text.exists():
        (book.out / "files" / text.name).write_bytes(text.read_bytes())
        links.append(tag("a", ".py", href=f"files/{text.name}", download=text.name))
    opened = [f"<code>jupyter lab {html.escape(location)}</code>"]
    if repository:
        path = repository.removeprefix("https://github.com/").strip("/")
        opened.insert(
            0, tag("a", "Binder", href=f"https://mybinder.org/v2/gh/{path}/HEAD?labpath={location}")
        )
        opened.insert(
            0,
            tag("a", "Colab", href=f"https://colab.research.google.com/github/{path}/blob/HEAD/{location}"),
        )
    return tag("p", f"Download: {' · '.join(links)}. Open in: {' · '.join(opened)}", class_="sources")


def write(book: Book) -> None:
    """Renders every page, then what they share."""
    template = string.Template((HERE / "page.html").read_text(encoding="utf-8"))
    slugs, titles = list(book.titles), book.titles
    pages = {slug: Page(book, slug) for slug in slugs}
    for place, (slug, page) in enumerate(pages.items()):
        number = book.numbers.get(slug)
        title = page.front.get("title", titles[slug])
        cited = "".join(
            tag("li", page.cited[key]["html"], id=f"cite-{key}")
            for key in page.document["references"]["cite"]["order"]
        )
        around = [
            (rel, slugs[i]) for rel, i in (("prev", place - 1), ("next", place + 1)) if 0 <= i < len(slugs)
        ]
        contents = "".join(
            tag("li", tag("a", inside, href=f"#{anchor}"), class_=f"depth{depth}")
            for depth, anchor, inside in page.contents
        )
        (book.out / f"{slug}.html").write_text(
            template.substitute(
                title=html.escape(title),
                book=html.escape(book.project["title"]),
                description=html.escape(page.front.get("description") or book.project.get("description", "")),
                heading=(tag("span", f"Chapter {number}", class_="chapter") if number else "")
                + html.escape(title),
                navigation=book.navigation(slug),
                contents=tag(
                    "nav",
                    f"<p>On this page</p><ul>{contents}</ul>",
                    class_="contents",
                    aria_label="On this page",
                )
                if contents
                else "",
                sources=sources(book, page),
                body=page.body.replace(*listed(book, pages, "figures")).replace(
                    *listed(book, pages, "references")
                ),
                notes=tag("section", f"<h2>Notes</h2><ol>{''.join(page.notes)}</ol>", class_="notes")
                if page.notes
                else "",
                references=tag("section", f"<h2>References</h2><ul>{cited}</ul>", class_="references")
                if cited
                else "",
                around="".join(
                    tag(
                        "a",
                        f"<small>{'Previous' if rel == 'prev' else 'Next'}</small> {html.escape(titles[to])}",
                        rel=rel,
                        href=f"{to}.html",
                    )
                    for rel, to in around
                ),
            ),
            encoding="utf-8",
        )
    records = [
        {
            "title": " › ".join(v for k, v in sorted(r["hierarchy"].items())),
            "url": page_file(r["url"]),
            "text": re.sub(r"\s+", " ", r.get("content", "")),
        }
        for r in json.loads(fetch("/myst.search.json"))["records"]
        if r["type"] == "content"
    ]
    (book.out / "search.js").write_text(
        f"window.SEARCH = {json.dumps(records, ensure_ascii=False)};", encoding="utf-8"
    )
    (book.out / "previews.js").write_text(
        f"window.PREVIEWS = {json.dumps(book.previews, ensure_ascii=False)};", encoding="utf-8"
    )
    for name in ("book.css", "book.js", "moving.js", "math.woff2", "math.woff2.txt"):
        (book.out / name).write_bytes((HERE / name).read_bytes())
    if (data := HERE.parent / "pages" / "moving" / "data.js").exists():
        (book.out / "moving-data.js").write_bytes(data.read_bytes())


if __name__ == "__main__":
    folder = Path(os.environ["BUILD_DIRECTORY"])
    folder.mkdir(parents=True, exist_ok=True)
    write(Book(folder))

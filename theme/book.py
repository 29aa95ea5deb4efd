"""What MyST has resolved: all pages of the book, what they refer to, and the files beside them."""

import html
import json
import re
from pathlib import Path

from parts import fetch, page_file, tag

ROOT = Path(__file__).resolve().parents[1]


class Book:
    """All pages, what they refer to, and the files beside them."""

    def __init__(self, out: Path) -> None:
        self.out, self.previews, self.copied = out, {}, set()
        self.project = json.loads(fetch("/config.json"))["projects"][0]
        index = {"slug": self.project["index"], "title": self.project["title"], "level": 1}
        self.entries = [index, *self.project["pages"]]
        self.titles = {entry["slug"]: entry["title"] for entry in self.entries if entry.get("slug")}
        self.documents = {slug: json.loads(fetch(f"/content/{slug}.json")) for slug in self.titles}
        found = {slug: re.match(r"/notebooks/(\d+)_", d["location"]) for slug, d in self.documents.items()}
        #: A chapter's number is that of its file.
        self.numbers = {slug: int(match[1]) for slug, match in found.items() if match}
        references = json.loads(fetch("/myst.xref.json"))["references"]
        labels = {
            r["identifier"]: page_file(f"{r['url']}#{r.get('html_id', r['identifier'])}")
            for r in references
            if r.get("identifier", "").startswith("ssmbook.")
        }
        path = ROOT / "pages" / "api" / "names.json"
        names = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.objects = {
            name: labels[label.lower()] for name, label in names.items() if label.lower() in labels
        }

    def asset(self, url: str, name: str = "") -> str:
        """Copies a file that MyST serves; returns its address, relative to the pages."""
        if not url.startswith("/"):
            return url
        name = name or "files" + url
        if name not in self.copied:
            self.copied.add(name)
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            (self.out / name).write_bytes(fetch(url))
        return name

    def navigation(self, slug: str) -> str:
        """The list of pages, with the current one marked."""
        items = []
        for entry in self.entries:
            words = html.escape(entry["title"])
            if number := self.numbers.get(entry.get("slug")):
                words = f'<span class="number">{number}</span> {words}'
            if entry.get("slug"):
                words = tag(
                    "a",
                    words,
                    href=f"{entry['slug']}.html",
                    aria_current="page" if entry["slug"] == slug else None,
                )
            items.append(tag("li", words, class_=f"level{entry['level']}"))
        return "".join(items)

"""The finished site as one PDF: ``python theme/paper.py _build/html book.pdf CHROMIUM``.

The pages are joined in the order of the navigation (without the library's reference), printed by a headless Chromium,
and printed again with the page numbers that the first print gave to the table of contents.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from pypdf import PdfReader

STYLE = (Path(__file__).parent / "paper.css").read_text(encoding="utf-8")


def pages_of(site: Path) -> list[str]:
    """File names in the order of the navigation, without those of the library's reference."""
    listed = re.search(
        r'<nav id="toc".*?</nav>', (site / "index.html").read_text(encoding="utf-8"), re.DOTALL
    )
    return [
        name
        for name in re.findall(r'href="([^"]+\.html)"', listed[0] if listed else "")
        if not name.startswith("api-")
    ]


def article(site: Path, name: str, names: list[str]) -> str:
    """One page's text, with identifiers and links that are unique in the whole."""
    found = re.search(r"<article>(.*)</article>", (site / name).read_text(encoding="utf-8"), re.DOTALL)
    text = re.sub(
        r'<nav class="around".*?</nav>|<p class="sources">.*?</p>',
        "",
        found[1] if found else "",
        flags=re.DOTALL,
    )
    stem = name.removesuffix(".html")
    text = re.sub(r' id="([^"]+)"', rf' id="{stem}--\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{stem}--\1"', text)
    text = re.sub(r'href="([\w-]+)\.html(?:#([^"]+))?"', lambda m: link(m, names), text)
    text = text.replace("<details", "<details open").replace(' loading="lazy"', "")
    return f'<article id="{stem}">{text}</article>'


def link(match: re.Match[str], names: list[str]) -> str:
    """An address in the joined document; none where its page is not printed."""
    stem, fragment = match[1], match[2]
    if f"{stem}.html" not in names:
        return ""
    return f'href="#{stem}--{fragment}"' if fragment else f'href="#{stem}"'


def contents(texts: list[str], numbers: dict[str, int]) -> str:
    """The table of contents: titles and numbered sections."""
    items = []
    for text in texts:
        identifier = re.search(r'<article id="([^"]+)"', text)
        title = re.search(r"<h1>(.*?)</h1>", text, re.DOTALL)
        if identifier and title:
            chapter = re.sub(r'<span class="chapter">Chapter (\d+)</span>', r"\1&ensp;", title[1])
            items.append(("", identifier[1], chapter))
        for anchor, words in re.findall(
            r'<h2 id="([^"]+)">(<span class="number">.*?)<a href', text, re.DOTALL
        ):
            items.append(("section", anchor, words))
    rows = (
        f'<li class="{kind}"><a href="#{to}">{words}</a><span class="dots"></span>{numbers.get(to, "")}</li>'
        for kind, to, words in items
    )
    return f'<article><h1>Contents</h1><ol class="toc">{"".join(rows)}</ol></article>'


def print_pdf(chromium: str, page: Path, out: Path) -> None:
    """Print a page with a headless Chromium."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
        ]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={profile}", "--no-pdf-header-footer", "--generate-pdf-document-outline"]
        subprocess.run(
            [*command, f"--print-to-pdf={out}", page.as_uri()], check=True, capture_output=True, timeout=300
        )


def places_of(pdf: Path) -> dict[str, int]:
    """The page on which each anchor that is linked to stands; the first page counts as 1."""
    reader = PdfReader(pdf)
    return {
        name.lstrip("/"): number + 1
        for name, place in reader.named_destinations.items()
        if (number := reader.get_destination_page_number(place)) is not None
    }


def main(site: Path, out: Path, chromium: str) -> None:
    """Join the pages and print them twice."""
    names = pages_of(site)
    texts = [article(site, name, names) for name in names]
    head = re.search(r"<title>.*?· (.*?)</title>", (site / "index.html").read_text(encoding="utf-8"))
    title = head[1] if head else ""
    page = site / "print.html"
    numbers: dict[str, int] = {}
    for _ in range(2):
        body = f'<section class="cover"><h1>{title}</h1></section>{contents(texts, numbers)}{"".join(texts)}'
        page.write_text(
            f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{title}</title>'
            f'<link rel="stylesheet" href="book.css"><style>{STYLE}</style></head><body>{body}</body></html>',
            encoding="utf-8",
        )
        print_pdf(chromium, page, out)
        numbers = places_of(out)
    page.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3])

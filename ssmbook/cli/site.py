"""The command that builds the book's website and its PDF."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ssmbook.cli.values import print_facts
from ssmbook.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    command = commands.add_parser(
        "site",
        help="build the book as a website, or as a PDF",
        description=_site.__doc__,
        epilog="Example: ssmbook site --pdf\n\nLook at the pages with: "
        "python -m http.server -d _build/html. They open from a disk, too.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--pdf", action="store_true", help="also typeset the whole book as _build/book.pdf (needs Chromium)"
    )
    command.add_argument(
        "--root", type=Path, default=ROOT, help="folder of myst.yml (default: the checkout of this package)"
    )
    command.add_argument("--json", action="store_true", help="print the path of what was built as JSON")
    command.set_defaults(run=_site)


def _site(options: argparse.Namespace) -> None:
    """Build _build/html from the pages that myst.yml lists, without the internet: chapters as they are committed,
    and the library's reference from its docstrings. Strict: a broken reference, citation, image, link or role
    is listed and fails the build. Needs Node 18 or newer and the extra `site`."""
    root = options.root.resolve()
    if not (root / "myst.yml").is_file():
        raise InputError(
            f"{root / 'myst.yml'}: no such file; run this in a checkout of the book, or give --root"
        )
    myst = _tools()
    made = build_pdf(root, myst) if options.pdf else build_html(root, myst)
    print_facts(options.json, {"built": str(made)}, str(made))


def build_html(root: Path, myst: str) -> Path:
    """The website of a book's folder; returns its first page.

    Raises:
        InputError: MyST or the link check found a fault; all of them are on stderr.
    """
    write_reference(root)
    out = root / "_build" / "html"
    for folder in (out, root / "_build" / "site"):
        shutil.rmtree(folder, ignore_errors=True)
    log = run_myst(root, myst)
    faults = faults_of(log)
    if not faults and not (out / "index.html").is_file():
        faults = log.strip().splitlines()[-5:] or ["myst wrote no page"]
    refuse(faults or broken_links(out))
    return out / "index.html"


def build_pdf(root: Path, myst: str) -> Path:
    """The website, and from it the whole book as a PDF; returns the PDF's path.

    Raises:
        InputError: no Chromium, a fault in the book, or the print failed.
    """
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        raise InputError(
            "the PDF is printed by Chromium, which is missing; on Debian: apt-get install chromium"
        )
    out = root / "_build" / "book.pdf"
    out.unlink(missing_ok=True)
    site = build_html(root, myst).parent
    script = [sys.executable, str(root / "theme" / "paper.py"), str(site), str(out), chromium]
    done = subprocess.run(script, capture_output=True, text=True)
    if done.returncode or not out.is_file():
        raise InputError(
            f"{out}: was not printed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
        )
    return out


def write_reference(root: Path) -> None:
    """The library's reference as pages, where the book has the script for it."""
    script = root / "theme" / "api.py"
    if script.is_file():
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{script}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")


def run_myst(root: Path, myst: str) -> str:
    """Run ``myst build --html`` in a folder; its log, also kept as _build/myst.log."""
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [myst, "build", "--html", "--strict"],
        cwd=root,
        env={**os.environ, "PATH": here, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )
    log = done.stdout + done.stderr
    (root / "_build").mkdir(exist_ok=True)
    (root / "_build" / "myst.log").write_text(log, encoding="utf-8")
    return log if not done.returncode else log + f"\n⛔ myst build ended with code {done.returncode}"


def faults_of(log: str) -> list[str]:
    """The errors and warnings in MyST's log, each once."""
    marked = (line.strip() for line in log.splitlines() if line.startswith(("⛔", "⚠")))
    return list(dict.fromkeys(marked))


def refuse(faults: list[str]) -> None:
    """Print the faults and raise, if there are any."""
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        raise InputError(f"the book has {len(faults)} fault(s), listed above; mend them and build again")


def _tools() -> str:
    """MyST's command, when it and Node are there."""
    node = shutil.which("node")
    if node is None:
        raise InputError("the site needs Node 18 or newer; on Debian: apt-get install nodejs")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0] or 0) < 18:
        raise InputError(f"the site needs Node 18 or newer, and {node} is {version}; install a newer one")
    beside = Path(sys.executable).parent / "myst"
    myst = str(beside) if beside.exists() else shutil.which("myst")
    if myst is None:
        raise InputError(
            "the site needs the extra `site`: python -m pip install -c constraints.txt -e '.[site]'"
        )
    return myst


class _Links(HTMLParser):
    """The targets and the addresses in a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.addresses: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.targets.add(value)
            elif name in ("href", "src") and value and not (tag == "link" and value.startswith("data:")):
                self.addresses.add(value)


def broken_links(site: Path) -> list[str]:
    """Addresses within a site's pages that lead to no file, or to no place in it; links to the web are not tried."""
    pages = {page.name: _Links(page) for page in sorted(site.glob("*.html"))}
    faults = []
    for name, page in pages.items():
        for address in sorted(page.addresses):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = unquote(parts.path) or name
            if not (site / target).is_file():
                faults.append(f"⛔ {name}: the link {address!r} leads to no file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].targets:
                faults.append(f"⛔ {name}: the link {address!r} leads to no place in {target}")
    return faults

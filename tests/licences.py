"""The licences of everything that is installed for ssmbook, and whether each goes with its own (MIT).

    python -m tests.licences            # what `pip install ssmbook` brings
    python -m tests.licences --all      # and what its extras do

Names and licences are those of the installed packages' metadata. A package whose licence is not stated, or not known
here, fails the command, as does one that would bind a program that only imports it.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# A program may import what is under these and have a licence of its own; the second group asks for more only where the
# package itself is changed and handed on.
PERMISSIVE = (
    *(
        "MIT",
        "BSD",
        "0BSD",
        "Apache",
        "ISC",
        "PSF",
        "Python Software Foundation",
        "Python-2.0",
        "HPND",
        "Zlib",
        "ZPL",
    ),
    *(
        "Unlicense",
        "CC0",
        "Public Domain",
        "BSL-1.0",
        "Boost",
        "NCSA",
        "CNRI",
        "Historical Permission Notice",
    ),
    *("FreeBSD", "any-OSI"),
)
WEAK = (
    "MPL",
    "Mozilla Public License",
    "LGPL",
    "Lesser General Public License",
    "EPL",
    "Eclipse Public License",
)
BINDING = ("AGPL", "GPL", "General Public License", "Affero", "Proprietary", "Commercial")


def installed(extras: tuple[str, ...]) -> dict[str, metadata.Distribution]:
    """What ssmbook needs, directly or not, as far as it is installed."""
    found: dict[str, metadata.Distribution] = {}
    asked = [("ssmbook", extra) for extra in ("", *extras)]
    seen = set(asked)
    while asked:
        name, extra = asked.pop()
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[canonicalize_name(name)] = package
        for line in package.requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                for each in {"", *need.extras}:
                    if (wanted := (need.name, each)) not in seen:
                        seen.add(wanted)
                        asked.append(wanted)
    return dict(sorted(found.items()))


def licence(package: metadata.Distribution) -> str:
    """One line: the licence expression, the classifiers, or the first line of the licence field or file."""
    about = package.metadata
    classified = [
        c.rpartition(" :: ")[2] for c in about.get_all("Classifier", []) if c.startswith("License ::")
    ]
    classified = [name for name in classified if name != "OSI Approved"]
    stated = (about.get("License") or "").strip().partition("\n")[0]
    return about.get("License-Expression") or " / ".join(classified) or stated or _first_line(package)


def _first_line(package: metadata.Distribution) -> str:
    files = [file for file in package.files or () if file.name.upper().startswith(("LICENSE", "COPYING"))]
    text = files[0].read_text(encoding="utf-8").strip() if files else ""
    return text.partition("\n")[0]


def verdict(text: str) -> str:
    """ "permissive", "weak copyleft", "binding" or "not known"; of alternatives ("or", "/") the mildest counts."""
    order = ("permissive", "weak copyleft", "binding", "not known")
    parts = re.split(r"\s+OR\s+|\s*/\s*", text, flags=re.IGNORECASE)
    return min((_verdict(part) for part in parts), key=order.index)


def _verdict(text: str) -> str:
    """Of things that all hold ("and") the strictest counts."""
    if _names(text, BINDING) and not _names(text, WEAK) and " with " not in text.lower():
        return "binding"
    if _names(text, WEAK):
        return "weak copyleft"
    return "permissive" if _names(text, PERMISSIVE) or " with " in text.lower() else "not known"


def _names(text: str, licences: tuple[str, ...]) -> bool:
    return any(re.search(rf"\b{re.escape(name)}", text, re.IGNORECASE) for name in licences)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.licences", description=__doc__)
    parser.add_argument("--all", action="store_true", help="with all extras")
    extras = tuple(metadata.metadata("ssmbook").get_all("Provides-Extra", []))
    found = installed(extras if parser.parse_args().all else ())
    bad = []
    for name, package in found.items():
        text = licence(package)
        kind = verdict(text)
        print(f"{name:32} {package.version:16} {kind:14} {text[:80]}")
        if kind in ("binding", "not known"):
            bad.append(name)
    print(f"{len(found)} packages; {'all go with MIT' if not bad else 'not clear: ' + ', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

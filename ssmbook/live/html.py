"""The pages for browsers, ``view.html`` and ``page.html``, with the head that they share."""

from __future__ import annotations

from importlib.resources import files

SHARED = "<!-- common.html -->"  # where it goes


def page_text(name: str) -> str:
    """A page of this folder, whole."""
    folder = files("ssmbook.live")
    common = folder.joinpath("common.html").read_text(encoding="utf-8")
    return folder.joinpath(name).read_text(encoding="utf-8").replace(SHARED, common)

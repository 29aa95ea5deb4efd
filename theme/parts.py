"""What pages are put together from: files of MyST's content server, addresses, elements."""

import html
import os
import urllib.request


def fetch(path: str) -> bytes:
    """A file of MyST's content server."""
    with urllib.request.urlopen(os.environ["CONTENT_CDN"].rstrip("/") + path) as answer:
        return answer.read()


def page_file(url: str) -> str:
    """``/rates#sec`` → ``rates.html#sec``."""
    path, _, fragment = url.partition("#")
    return (path.strip("/") or "index") + ".html" + (f"#{fragment}" if fragment else "")


def tag(name: str, inside: str, **attributes: object) -> str:
    """An element; attributes that are None or empty are left out, ``class_`` is ``class``."""
    given = "".join(
        f' {k.rstrip("_").replace("_", "-")}="{html.escape(str(v))}"' for k, v in attributes.items() if v
    )
    return f"<{name}{given}>{inside}</{name}>"

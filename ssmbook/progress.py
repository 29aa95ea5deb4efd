"""Progress bars: one look, one switch (the environment variable TQDM_DISABLE), and none in a saved notebook."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any, TextIO

from tqdm import tqdm

KERNEL = "SSMBOOK_TERMINAL"  # for the processes that a notebook's kernel starts: the path of its terminal


def progress_bar(*arguments: Any, show: bool = True, **options: Any) -> tqdm:
    """``tqdm`` on the ``terminal``, with at most one update a second; without ``show`` it counts and draws nothing."""
    file = terminal()
    # An explicit disable=False would override TQDM_DISABLE.
    hidden: dict[str, Any] = {} if show and file is not None else {"disable": True}
    options = {"mininterval": 1.0, "file": file, "dynamic_ncols": True, **hidden, **options}
    return tqdm(*arguments, **options)


def tell(line: str) -> None:
    """A line like progress: on the ``terminal``, and not where bars are switched off."""
    file = terminal()
    if file is not None and not os.environ.get("TQDM_DISABLE"):
        print(line, file=file, flush=True)


def terminal() -> TextIO | None:
    """Where progress is told: stderr. What a notebook's kernel, or a process that it started, writes to stderr is
    saved with the notebook; there it is the stderr that the kernel was started with, None if that cannot be found."""
    copy = getattr(sys.stderr, "_original_stdstream_copy", None)  # of ipykernel, which captures descriptor 2
    if copy is not None:
        _append(copy)
        os.environ[KERNEL] = f"/proc/{os.getpid()}/fd/{copy}"
        return _open(copy)
    if hasattr(sys.stderr, "pub_thread"):  # ipykernel, which captures the object alone
        return sys.__stderr__
    return _open(os.environ[KERNEL]) if KERNEL in os.environ else sys.stderr


@functools.cache
def _append(descriptor: int) -> None:
    """Have all who share this descriptor write at the file's end, where it is one (``command 2> log``): a process that
    opens it by its path has a place of its own in it, and else one would overwrite what the other wrote."""
    try:
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    except (ImportError, OSError):  # not on this system, or not for what it is
        pass


@functools.cache
def _open(where: int | str) -> TextIO | None:
    try:
        file, mode = (os.dup(where), "w") if isinstance(where, int) else (where, "a")
        return open(file, mode, encoding="utf-8")
    except OSError:  # the kernel is no more, or there is no /proc
        return None

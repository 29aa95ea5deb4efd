"""Functions that numba compiles, kept on disk where a folder for them can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with a cache beside the module or in the user's cache folder.

    Where neither can be written, as with a package that is installed read-only and no home, each process compiles for
    itself. ``NUMBA_CACHE_DIR`` names another folder.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except (RuntimeError, OSError):  # numba finds no folder
            return numba.njit(**options)(function)

    return compiled

"""Functions that numba compiles, kept on disk where a folder for them can be written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with a cache beside the module or in the user's cache folder.

    Where neither can be written, as on a full disk or with a package that is installed read-only and no home, each
    process compiles for itself. ``NUMBA_CACHE_DIR`` names another folder.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            kept: Any = numba.njit(cache=True, **options)(function)
            if hasattr(kept, "_cache"):  # not with NUMBA_DISABLE_JIT
                save = kept._cache.save_overload
                kept._cache.save_overload = lambda *what: _if_possible(save, *what)
            return kept
        except (RuntimeError, OSError):  # numba finds no folder
            return numba.njit(**options)(function)

    return compiled


def _if_possible(save: Callable[..., None], *what: Any) -> None:
    with suppress(OSError):  # a full disk
        save(*what)

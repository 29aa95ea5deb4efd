"""Progress bars, on stderr: one look, and one switch (the environment variable TQDM_DISABLE) for all."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(*arguments: Any, show: bool = True, **options: Any) -> tqdm:
    """``tqdm`` with at most one update a second; without ``show`` it counts and draws nothing."""
    # An explicit disable=False would override TQDM_DISABLE.
    hidden: dict[str, Any] = {} if show else {"disable": True}
    options = {"mininterval": 1.0, "file": sys.stderr, "dynamic_ncols": True, **hidden, **options}
    return tqdm(*arguments, **options)

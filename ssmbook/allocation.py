"""Memory that long computations free is kept for their next tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3): from what size a block is mapped by itself, and how much free memory may stay at the top.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = {_M_MMAP_THRESHOLD: 1 << 30, _M_TRIM_THRESHOLD: (1 << 31) - 1}
# The most that glibc would choose by itself, and the double of it, as it would.
_USUAL = {_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: 64 << 20}

_holders = 0


@contextmanager
def memory_kept() -> Iterator[None]:
    """Keep freed memory within the process while this lasts, and give it back at the end.

    By default glibc gives large blocks back to the system as they are freed, and each tensor of the next step is mapped
    anew, page by page: about 25,000 times in a training step of the smallest detector. Does nothing where the C library
    is another one.
    """
    global _holders
    libc = _glibc()
    if libc is None:
        yield
        return
    _holders += 1
    _set(libc, _KEPT)
    try:
        yield
    finally:
        _holders -= 1
        if not _holders:
            _set(libc, _USUAL)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (TypeError, OSError):  # Windows has no such library
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def _set(libc: ctypes.CDLL, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        libc.mallopt(parameter, value)

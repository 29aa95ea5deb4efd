"""How sequences lie in memory, for kernels that take either order of axes, and either direction of time."""

from typing import NamedTuple

from torch import Tensor


class Rows(NamedTuple):
    """Row of sequence n at step k: base + n · sequence + k · step."""

    base: int
    sequence: int
    step: int


def state_rows(time_major: bool, N: int, L: int, reverse: bool) -> Rows:
    """Rows of [L, N] memory, or of [N, L], in the order of the scan."""
    sequence, step = (1, N) if time_major else (L, 1)
    return Rows((L - 1) * step, sequence, -step) if reverse else Rows(0, sequence, step)


def transition_rows(a: Tensor, N: int, L: int, reverse: bool) -> Rows:
    """Rows of contiguous transitions a [2P], [N, 1, 2P] or [N, L, 2P]; what is shared has stride 0."""
    if a.ndim == 1:
        return Rows(0, 0, 0)
    return Rows(0, 1, 0) if a.shape[1] == 1 else state_rows(False, N, L, reverse)


def is_time_major(x: Tensor) -> bool:
    """Whether x [N, L, C] is a transposed view of contiguous [L, N, C] (and not itself contiguous)."""
    return not x.is_contiguous() and x.transpose(0, 1).is_contiguous()


def flat(x: Tensor, time_major: bool) -> Tensor:
    """[N, L, C] → [rows, C] in the given order of memory; copies only where x lies otherwise."""
    return (x.transpose(0, 1) if time_major else x).flatten(0, 1)


def unflat(rows: Tensor, N: int, L: int, time_major: bool) -> Tensor:
    """The inverse of `flat`: [rows, C] → [N, L, C], a view."""
    C = rows.shape[-1]
    return rows.view(L, N, C).transpose(0, 1) if time_major else rows.view(N, L, C)

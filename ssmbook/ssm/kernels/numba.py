"""The recurrence and its adjoint on the CPU, compiled by numba, as torch.autograd functions.

    x_k = a x_{k−1} + b_k,   and its adjoint   g_k = ∂x_k + ā g_{k+1},   ∂b_k = g_k,   ∂a = Σ g_k x̄_{k−1}

Arrays are flat lists of rows [rows, 2, P] (real plane, imaginary plane). Where row (n, k) of a sequence lies
is given by a base and two strides, so that [N, L] and [L, N] memory, and both directions of time, run through
the same kernel without a copy. A transition that is shared between steps or sequences has stride 0.

The whole layer, `diagonal_ssm`, goes through its rows in pieces that stay in the cache between the matrix
product that writes them, the scan, and the matrix product that reads them. Without a graph the states of one
piece are all that is held.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssmbook.compiled import njit
from ssmbook.ssm.kernels.again import Scan, gradients_again, scan_adjoint
from ssmbook.ssm.kernels.planes import complex_of, from_planes
from ssmbook.ssm.kernels.rows import Rows, flat, is_time_major, state_rows, transition_rows, unflat

Parts = Callable[..., tuple[Tensor, Tensor]]  # u, a, b, c, d, x0, reverse → y and the last state

# Sequences are walked in blocks of about this many reals per time step: a block of the previous step is then
# still in the first-level cache when the next step reads it.
BLOCK_REALS = 4096
# A piece of the states, and the piece of their gradient beside it, stay in the outer caches.
PIECE_BYTES = 1 << 21


@njit(nogil=True)
def _forward(x, a, state, at, a_at, N, L, block):  # pragma: no cover
    """In place: x holds b on entry and the states on return; state [N, P] goes through all steps."""
    P = x.shape[2]
    for start in range(0, N, block):
        stop = min(start + block, N)
        for n in range(start, stop):
            r = at[0] + n * at[1]
            q = a_at[0] + n * a_at[1]
            for p in range(P):
                re, im = state[n, p].real, state[n, p].imag
                x[r, 0, p] += a[q, 0, p] * re - a[q, 1, p] * im
                x[r, 1, p] += a[q, 0, p] * im + a[q, 1, p] * re
        for k in range(1, L):
            for n in range(start, stop):
                r = at[0] + n * at[1] + k * at[2]
                q = a_at[0] + n * a_at[1] + k * a_at[2]
                s = r - at[2]
                for p in range(P):
                    re, im = x[s, 0, p], x[s, 1, p]
                    x[r, 0, p] += a[q, 0, p] * re - a[q, 1, p] * im
                    x[r, 1, p] += a[q, 0, p] * im + a[q, 1, p] * re
        for n in range(start, stop):
            r = at[0] + n * at[1] + (L - 1) * at[2]
            for p in range(P):
                state[n, p] = complex(x[r, 0, p], x[r, 1, p])


@njit(nogil=True)
def _backward(g, x, a, before, da, carry, at, a_at, N, L, block):  # pragma: no cover
    """In place: g holds ∂x on entry and ∂b on return; da is added to. before [N, P] is the state before
    the steps; carry [N, P] is the gradient of the state after them on entry, before them on return."""
    P = x.shape[2]
    for start in range(0, N, block):
        stop = min(start + block, N)
        for n in range(start, stop):
            r = at[0] + n * at[1] + (L - 1) * at[2]
            for p in range(P):
                g[r, 0, p] += carry[n, p].real
                g[r, 1, p] += carry[n, p].imag
        for k in range(L - 1, 0, -1):
            for n in range(start, stop):
                r = at[0] + n * at[1] + k * at[2]
                q = a_at[0] + n * a_at[1] + k * a_at[2]
                s = r - at[2]
                for p in range(P):
                    re, im = g[r, 0, p], g[r, 1, p]
                    da[q, 0, p] += re * x[s, 0, p] + im * x[s, 1, p]
                    da[q, 1, p] += im * x[s, 0, p] - re * x[s, 1, p]
                    g[s, 0, p] += a[q, 0, p] * re + a[q, 1, p] * im
                    g[s, 1, p] += a[q, 0, p] * im - a[q, 1, p] * re
        for n in range(start, stop):
            r = at[0] + n * at[1]
            q = a_at[0] + n * a_at[1]
            for p in range(P):
                re, im = g[r, 0, p], g[r, 1, p]
                da[q, 0, p] += re * before[n, p].real + im * before[n, p].imag
                da[q, 1, p] += im * before[n, p].real - re * before[n, p].imag
                carry[n, p] = complex(a[q, 0, p] * re + a[q, 1, p] * im, a[q, 0, p] * im - a[q, 1, p] * re)


class _Geometry(NamedTuple):
    """Where the rows of the states and of the transitions lie, and in which blocks they are walked."""

    at: Rows
    a_at: Rows
    N: int
    L: int
    block: int


def _geometry(a: Tensor, N: int, L: int, time_major: bool, reverse: bool) -> _Geometry:
    block = max(1, BLOCK_REALS // a.shape[-1]) if time_major else 1
    return _Geometry(state_rows(time_major, N, L, reverse), transition_rows(a, N, L, reverse), N, L, block)


def _planes(x: Tensor) -> np.ndarray:
    """Planes [..., 2P] as numpy rows [rows, 2, P], sharing memory."""
    return x.detach().view(-1, 2, x.shape[-1] // 2).numpy()


def _owned_state(x0: Tensor | None, like: Tensor, N: int, P: int) -> Tensor:
    """A state [N, P] to write to: a copy of x0, or zeros."""
    if x0 is None:
        return torch.zeros(N, P, dtype=complex_of(like.dtype))
    return x0.detach().resolve_conj().clone(memory_format=torch.contiguous_format)


def run_scan(a: Tensor, b: Tensor, x0: Tensor | None, reverse: bool) -> Tensor:
    """`ssmbook.ssm.kernels.dispatch.scan_planes` without a graph; x in the memory layout of b."""
    N, L, P2 = b.shape
    time_major, a = is_time_major(b), a.contiguous()
    x = flat(b, time_major).clone()
    state = _owned_state(x0, b, N, P2 // 2)
    _forward(_planes(x), _planes(a), state.numpy(), *_geometry(a, N, L, time_major, reverse))
    return unflat(x, N, L, time_major)


def run_adjoint(
    a: Tensor, x: Tensor, x0: Tensor | None, dx: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """∂a, ∂b and ∂x0 of `run_scan`, whose result was x."""
    N, L, P2 = x.shape
    time_major, a = is_time_major(x), a.contiguous()
    g, before = flat(dx, time_major).clone(), _owned_state(x0, x, N, P2 // 2)
    da, carry = torch.zeros_like(a), torch.zeros_like(before)
    arrays = _planes(g), _planes(flat(x, time_major)), _planes(a), before.numpy(), _planes(da), carry.numpy()
    _backward(*arrays, *_geometry(a, N, L, time_major, reverse))
    return da, unflat(g, N, L, time_major), carry


class _Scan(torch.autograd.Function):
    """`scan.scan_planes`."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, x0: Tensor | None, reverse: bool, scan: Scan) -> Tensor:
        ctx.reverse, ctx.scan, x = reverse, scan, run_scan(a, b, x0, reverse)
        ctx.save_for_backward(a, x, x0)
        return x

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:
        a, x, x0 = ctx.saved_tensors
        adjoint = partial(scan_adjoint, ctx.scan) if torch.is_grad_enabled() else run_adjoint
        da, db, dx0 = adjoint(a, x, x0, dx, ctx.reverse)
        return da, db, dx0 if ctx.needs_input_grad[2] else None, None, None


class _Piece(NamedTuple):
    """Sequences n0:n1 at steps k0:k1, which are the rows of ``rows``."""

    sequences: slice
    steps: slice
    rows: slice
    where: _Geometry


def _pieces(a: Tensor, N: int, L: int, time_major: bool, reverse: bool) -> Iterator[_Piece]:
    """Pieces of about PIECE_BYTES of states, contiguous in memory, in the order of the scan."""
    budget = max(1, PIECE_BYTES // (a.shape[-1] * a.element_size()))  # rows
    if time_major:
        sequences, steps = N, max(1, budget // N)
    else:
        sequences, steps = max(1, budget // L), min(L, budget)
    for n0 in range(0, N, sequences):
        n1 = min(n0 + sequences, N)
        starts = range(0, L, steps)
        for k0 in reversed(starts) if reverse else starts:
            k1 = min(k0 + steps, L)
            rows = slice(k0 * N, k1 * N) if time_major else slice(n0 * L + k0, (n1 - 1) * L + k1)
            where = _geometry(a, n1 - n0, k1 - k0, time_major, reverse)
            yield _Piece(slice(n0, n1), slice(k0, k1), rows, where)


def _run_ssm(
    rows: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, state: Tensor, pieces: list[_Piece], keep: bool
) -> tuple[Tensor, Tensor | None]:
    """rows [R, H] → y [R, H], and all states [R, 2P] to keep them; state [N, P] is advanced in place."""
    y = torch.empty_like(rows)
    longest = max(piece.rows.stop - piece.rows.start for piece in pieces)
    x = rows.new_empty(len(rows) if keep else longest, a.shape[-1])
    a_planes, states, b_T, c_T = _planes(a), state.numpy(), b.T, c.T
    for piece in pieces:
        u_part, y_part = rows[piece.rows], y[piece.rows]
        x_part = x[piece.rows] if keep else x[: len(u_part)]
        torch.mm(u_part, b_T, out=x_part)
        _forward(_planes(x_part), a_planes, states[piece.sequences], *piece.where)
        torch.mul(u_part, d, out=y_part).addmm_(x_part, c_T)
    return y, x if keep else None


class _SSM(torch.autograd.Function):
    """`scan.diagonal_ssm`: six matrix products and two scans."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        d: Tensor,
        x0: Tensor | None,
        reverse: bool,
        parts: Parts,
    ) -> tuple[Tensor, Tensor]:
        N, L, _ = u.shape
        ctx.parts = parts
        ctx.shape, ctx.time_major, ctx.reverse = (N, L), is_time_major(u), reverse
        ctx.pieces = list(_pieces(a, N, L, ctx.time_major, reverse))
        rows = flat(u, ctx.time_major)
        after = _owned_state(x0, u, N, len(a) // 2)
        y, x = _run_ssm(rows, a.contiguous(), b, c, d, after, ctx.pieces, keep=True)
        ctx.save_for_backward(u, a, b, c, d, x0, x)
        ctx.set_materialize_grads(False)
        return unflat(y, N, L, ctx.time_major), after

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, d_after: Tensor | None) -> tuple[Tensor | None, ...]:
        u, a, b, c, d, x0, x = ctx.saved_tensors
        if torch.is_grad_enabled():
            run = partial(ctx.parts, reverse=ctx.reverse)
            needed = ctx.needs_input_grad[:6]
            return *gradients_again(run, (u, a, b, c, d, x0), needed, (dy, d_after)), None, None
        rows, a = flat(u, ctx.time_major), a.contiguous()
        before = _owned_state(x0, rows, ctx.shape[0], len(a) // 2)
        dy_rows = torch.zeros_like(rows) if dy is None else flat(dy, ctx.time_major)
        carry = _owned_state(d_after, rows, *before.shape)
        du, db, dc, dd = (torch.empty_like(rows), *(torch.zeros_like(z) for z in (b, c, d)))
        da = torch.zeros_like(a, dtype=torch.float64)  # sums over all pieces
        longest = max(piece.rows.stop - piece.rows.start for piece in ctx.pieces)
        buffer = x.new_empty(longest, x.shape[1])
        for piece in reversed(ctx.pieces):
            u_part, dy_part, x_part = rows[piece.rows], dy_rows[piece.rows], x[piece.rows]
            g = torch.mm(dy_part, c, out=buffer[: len(u_part)])
            dc.addmm_(dy_part.T, x_part)
            start = _state_before(piece, x, before, ctx)
            da_part = torch.zeros_like(a)
            arrays = _planes(g), _planes(x_part), _planes(a), start.numpy(), _planes(da_part)
            _backward(*arrays, carry.numpy()[piece.sequences], *piece.where)
            da += da_part
            if ctx.needs_input_grad[0]:
                torch.mul(dy_part, d, out=du[piece.rows]).addmm_(g, b)
            db.addmm_(g.T, u_part)
            dd += (dy_part * u_part).sum(0)
        N, L = ctx.shape
        dx0 = carry if ctx.needs_input_grad[5] else None
        return unflat(du, N, L, ctx.time_major), da.to(a), db, dc, dd, dx0, None, None


def _state_before(piece: _Piece, x: Tensor, before: Tensor, ctx: Any) -> Tensor:
    """The states [n, P] from which a piece started."""
    N, L = ctx.shape
    k = piece.steps.stop if ctx.reverse else piece.steps.start - 1
    if not 0 <= k < L:
        return before[piece.sequences]
    return from_planes(unflat(x, N, L, ctx.time_major)[piece.sequences, k])


def scan_planes(a: Tensor, b: Tensor, x0: Tensor | None, reverse: bool, scan: Scan) -> Tensor:
    """See `ssmbook.ssm.kernels.dispatch.scan_planes`, which is the ``scan`` of gradients that have a graph."""
    return _Scan.apply(a, b, x0, reverse, scan)


def diagonal_ssm(
    u: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, x0: Tensor | None, reverse: bool, parts: Parts
) -> tuple[Tensor, Tensor]:
    """See `ssmbook.ssm.kernels.dispatch.diagonal_ssm`, whose ``ssm_of_parts`` gives gradients that have a graph."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (u, a, b, c, d, x0)):
        return _SSM.apply(u, a, b, c, d, x0, reverse, parts)
    N, L, _ = u.shape
    time_major = is_time_major(u)
    state = _owned_state(x0, u, N, len(a) // 2)
    pieces = list(_pieces(a, N, L, time_major, reverse))
    y, _ = _run_ssm(flat(u, time_major), a.contiguous(), b, c, d, state, pieces, keep=False)
    return unflat(y, N, L, time_major), state

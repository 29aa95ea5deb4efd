"""The recurrence and its adjoint on the GPU, in Triton, as a torch.autograd function.

A program takes one sequence and a block of modes through time, tile by tile: within a tile of steps the pairs
(a_k, b_k) are combined by an associative scan, (a, b) then (c, d) being (c a, c b + d); between tiles the
state is carried. Complex numbers are two reals. Rows may have any base and strides (`rows`).
"""

from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ssmbook.ssm.kernels.again import Scan, scan_adjoint
from ssmbook.ssm.kernels.planes import from_planes, to_planes
from ssmbook.ssm.kernels.rows import Rows, flat, is_time_major, state_rows, transition_rows, unflat

BLOCK_L, BLOCK_P = 32, 32  # steps and modes of a tile


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _then(a_re, a_im, b_re, b_im, c_re, c_im, d_re, d_im):
    """First x → a x + b, then x → c x + d."""
    return (
        c_re * a_re - c_im * a_im,
        c_re * a_im + c_im * a_re,
        c_re * b_re - c_im * b_im + d_re,
        c_re * b_im + c_im * b_re + d_im,
    )


@triton.jit
def _forward(
    b, a, x0, x, base, sequence, step, a_base, a_sequence, a_step, L, P,
    TILES: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """x_k = a_k x_{k−1} + b_k for one sequence and BLOCK_P modes. x0 [N, 2P] is the state before."""
    n = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = p < P
    re = tl.load(x0 + n * 2 * P + p, inside, 0.0)
    im = tl.load(x0 + n * 2 * P + P + p, inside, 0.0)
    lane = tl.arange(0, BLOCK_L)
    last = (lane == BLOCK_L - 1)[:, None]
    for tile in range(TILES):
        k = tile * BLOCK_L + lane
        here = (k < L)[:, None] & inside[None, :]
        row = (base + n * sequence + k * step)[:, None] * 2 * P + p[None, :]
        a_row = (a_base + n * a_sequence + k * a_step)[:, None] * 2 * P + p[None, :]
        # beyond the end a = 1 and b = 0, so that the last lane of every tile holds the state
        a_re, a_im = tl.load(a + a_row, here, 1.0), tl.load(a + a_row + P, here, 0.0)
        b_re, b_im = tl.load(b + row, here, 0.0), tl.load(b + row + P, here, 0.0)
        a_re, a_im, b_re, b_im = tl.associative_scan((a_re, a_im, b_re, b_im), 0, _then)
        x_re = a_re * re[None, :] - a_im * im[None, :] + b_re
        x_im = a_re * im[None, :] + a_im * re[None, :] + b_im
        tl.store(x + row, x_re, here)
        tl.store(x + row + P, x_im, here)
        re, im = tl.reduce(tl.where(last, x_re, 0.0), 0, _add), tl.reduce(tl.where(last, x_im, 0.0), 0, _add)


@triton.jit
def _backward(
    dx, x, a, x0, g, da, dx0, base, sequence, step, a_base, a_sequence, a_step, L, P,
    SHARED: tl.constexpr, TILES: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """g_k = ∂x_k + ā_{k+1} g_{k+1}, a scan backwards in time; ∂a_k = g_k x̄_{k−1}, ∂x0 = ā_0 g_0.

    Where steps share a transition (SHARED) da, [N, 2P], gets the sum of ∂a over the steps, else every ∂a_k.
    """
    n = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = p < P
    re, im = tl.full([BLOCK_P], 0.0, x.dtype.element_ty), tl.full([BLOCK_P], 0.0, x.dtype.element_ty)
    sum_re, sum_im = re, im
    lane = tl.arange(0, BLOCK_L)
    last = (lane == BLOCK_L - 1)[:, None]
    for tile in range(TILES):
        k = L - 1 - tile * BLOCK_L - lane  # later steps first
        here = (k >= 0)[:, None] & inside[None, :]
        row = (base + n * sequence + k * step)[:, None] * 2 * P + p[None, :]
        a_next = (a_base + n * a_sequence + (k + 1) * a_step)[:, None] * 2 * P + p[None, :]
        follows = here & (k < L - 1)[:, None]
        a_re, a_im = tl.load(a + a_next, follows, 1.0), -tl.load(a + a_next + P, follows, 0.0)
        d_re, d_im = tl.load(dx + row, here, 0.0), tl.load(dx + row + P, here, 0.0)
        a_re, a_im, d_re, d_im = tl.associative_scan((a_re, a_im, d_re, d_im), 0, _then)
        g_re = a_re * re[None, :] - a_im * im[None, :] + d_re
        g_im = a_re * im[None, :] + a_im * re[None, :] + d_im
        tl.store(g + row, g_re, here)
        tl.store(g + row + P, g_im, here)
        re, im = tl.reduce(tl.where(last, g_re, 0.0), 0, _add), tl.reduce(tl.where(last, g_im, 0.0), 0, _add)
        # the state before: a row of x, or x0 for the first step
        first = (k == 0)[:, None] & inside[None, :]
        start_at = n * 2 * P + p[None, :] + tl.full([BLOCK_L, 1], 0, tl.int64)
        earlier = row - step * 2 * P
        x_re = tl.load(x + earlier, here & (k > 0)[:, None], 0.0) + tl.load(x0 + start_at, first, 0.0)
        x_im = tl.load(x + earlier + P, here & (k > 0)[:, None], 0.0) + tl.load(x0 + start_at + P, first, 0.0)
        da_re, da_im = g_re * x_re + g_im * x_im, g_im * x_re - g_re * x_im
        if SHARED:
            sum_re += tl.reduce(tl.where(here, da_re, 0.0), 0, _add)
            sum_im += tl.reduce(tl.where(here, da_im, 0.0), 0, _add)
        else:
            a_row = (a_base + n * a_sequence + k * a_step)[:, None] * 2 * P + p[None, :]
            tl.store(da + a_row, da_re, here)
            tl.store(da + a_row + P, da_im, here)
    at = n * 2 * P + p
    if SHARED:
        tl.store(da + at, sum_re, inside)
        tl.store(da + at + P, sum_im, inside)
    a_row = (a_base + n * a_sequence) * 2 * P + p
    a_re, a_im = tl.load(a + a_row, inside, 0.0), tl.load(a + a_row + P, inside, 0.0)
    # beyond the end g passed through unchanged (a = 1), so re, im is g_0
    tl.store(dx0 + at, a_re * re + a_im * im, inside)
    tl.store(dx0 + at + P, a_re * im - a_im * re, inside)


def run_scan(a: Tensor, b: Tensor, x0: Tensor | None, reverse: bool) -> Tensor:
    """`ssmbook.ssm.kernels.dispatch.scan_planes` without a graph; x in the memory layout of b."""
    N, L, P2 = b.shape
    time_major = is_time_major(b)
    rows = flat(b, time_major).contiguous()
    before = b.new_zeros(N, P2) if x0 is None else to_planes(x0)
    x = torch.empty_like(rows)
    _launch(_forward, (rows, a.contiguous(), before, x), _where(a, N, L, time_major, reverse), N, L, P2 // 2)
    return unflat(x, N, L, time_major)


def run_adjoint(
    a: Tensor, x: Tensor, x0: Tensor | None, dx: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """∂a, ∂b and ∂x0 of `run_scan`, whose result was x."""
    N, L, P2 = x.shape
    time_major, a = is_time_major(x), a.contiguous()
    x_rows, dx_rows = flat(x, time_major), flat(dx, time_major).contiguous()
    before = x.new_zeros(N, P2) if x0 is None else to_planes(x0)
    g, dx0 = torch.empty_like(x_rows), torch.empty_like(before)
    shared = a.ndim == 1 or a.shape[1] == 1
    da = torch.empty_like(before if shared else a)
    arrays = (dx_rows, x_rows, a, before, g, da, dx0)
    _launch(_backward, arrays, _where(a, N, L, time_major, reverse), N, L, P2 // 2, SHARED=shared)
    if shared:
        da = da.sum(0) if a.ndim == 1 else da[:, None]
    return da, unflat(g, N, L, time_major), from_planes(dx0)


def _where(a: Tensor, N: int, L: int, time_major: bool, reverse: bool) -> tuple[Rows, Rows]:
    return state_rows(time_major, N, L, reverse), transition_rows(a, N, L, reverse)


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


def _launch(
    kernel: Any, arrays: tuple[Tensor, ...], where: tuple[Rows, Rows], N: int, L: int, P: int, **flags: bool
):
    """One program for each sequence and block of modes. TILES is a constant of the kernel, since the interpreter
    of triton 3.6 takes no argument for a loop's length."""
    steps = min(BLOCK_L, triton.next_power_of_2(L))
    tile = {"TILES": triton.cdiv(L, steps), "BLOCK_L": steps, "BLOCK_P": BLOCK_P}
    kernel[N, triton.cdiv(P, BLOCK_P)](*arrays, *where[0], *where[1], L, P, **flags, **tile)


def scan_planes(a: Tensor, b: Tensor, x0: Tensor | None, reverse: bool, scan: Scan) -> Tensor:
    """See `ssmbook.ssm.kernels.dispatch.scan_planes`, which is the ``scan`` of gradients that have a graph."""
    return _Scan.apply(a, b, x0, reverse, scan)

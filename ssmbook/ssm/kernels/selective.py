"""The selective recurrence and its adjoint on the CPU, compiled by numba, as a torch.autograd function.

    x_k = a_k x_{k−1} + Δ_k u_k B_k,   y_k = Σ_s C_k x_k,   a_k = exp(Δ_k A),      x of [H, S] for each sequence

The states of one sequence at a time are all that is held of x: the adjoint runs the recurrence again, as Mamba's
own kernel does (arXiv 2312.00752, §3.3). Kept between them is a, since an exponential costs more than reading it.

    g_k = C_k ∂y_k + a_{k+1} g_{k+1}
    ∂Δ_k = Σ_s g_k (u_k B_k + a_k A x_{k−1}),   ∂u_k = Σ_s g_k Δ_k B_k,   ∂B_k = Σ_h g_k Δ_k u_k,   ∂C_k = Σ_h ∂y_k x_k,
    ∂A = Σ_k g_k a_k Δ_k x_{k−1}
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmbook.compiled import njit
from ssmbook.ssm import plain
from ssmbook.ssm.kernels.again import gradients_again
from ssmbook.ssm.kernels.rows import flat, is_time_major, state_rows, unflat

# Sums may be reordered, so that they vectorise; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract"}


@njit(nogil=True, fastmath=FAST)
def _forward(u, step, a, B, C, state, y, at, N, L):  # pragma: no cover
    """u, step, y [rows, H]; a [rows, H, S]; B, C [rows, S]; state [N, H, S] goes through all steps."""
    H, S = state.shape[1], state.shape[2]
    zero = u.dtype.type(0)
    for n in range(N):
        for k in range(L):
            r = at[0] + n * at[1] + k * at[2]
            for h in range(H):
                v = step[r, h] * u[r, h]
                total = zero
                for s in range(S):
                    x = a[r, h, s] * state[n, h, s] + v * B[r, s]
                    state[n, h, s] = x
                    total += C[r, s] * x
                y[r, h] = total


@njit(nogil=True, fastmath=FAST)
def _backward(dy, u, step, a, B, C, A, before, carry, du, dstep, dB, dC, dA, at, L):  # pragma: no cover
    """Adds to dB, dC, dA (float64), fills du and dstep. before [N, H, S] is the state before the steps; carry is the
    gradient of the state after them on entry, before them on return."""
    N, H, S = before.shape
    zero, x = u.dtype.type(0), np.empty((L + 1, S), u.dtype)
    for n in range(N):
        for h in range(H):
            for s in range(S):
                x[0, s] = before[n, h, s]
            for k in range(L):
                r = at[0] + n * at[1] + k * at[2]
                v = step[r, h] * u[r, h]
                for s in range(S):
                    x[k + 1, s] = a[r, h, s] * x[k, s] + v * B[r, s]
            for k in range(L - 1, -1, -1):
                r = at[0] + n * at[1] + k * at[2]
                d, t, w = dy[r, h], step[r, h], u[r, h]
                to_input, to_step = zero, zero
                for s in range(S):
                    g = carry[n, h, s] + C[r, s] * d
                    moved = g * a[r, h, s]
                    dC[r, s] += d * x[k + 1, s]
                    dB[r, s] += g * t * w
                    to_input += g * B[r, s]
                    to_step += moved * A[h, s] * x[k, s]
                    dA[h, s] += moved * t * x[k, s]
                    carry[n, h, s] = moved
                du[r, h] = to_input * t
                dstep[r, h] = to_input * w + to_step


class _SelectiveScan(torch.autograd.Function):
    """`ssmbook.ssm.kernels.dispatch.selective_scan`."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, x0: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        N, L, H = u.shape
        time_major = is_time_major(u)
        at = state_rows(time_major, N, L, False)
        ctx.where = N, time_major, at, L
        rows = [flat(v, time_major).contiguous() for v in (u, step, B, C)]
        a = torch.exp(rows[1][..., None] * A)
        last = u.new_zeros(N, H, A.shape[1]) if x0 is None else x0.contiguous().clone()
        y = torch.empty_like(rows[0])
        u_, step_, B_, C_ = (v.numpy() for v in rows)
        _forward(u_, step_, a.numpy(), B_, C_, last.numpy(), y.numpy(), at, N, L)
        ctx.save_for_backward(u, step, A, B, C, x0, a)
        ctx.set_materialize_grads(False)
        return unflat(y, N, L, time_major), last

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, d_last: Tensor | None) -> tuple[Tensor | None, ...]:
        *arguments, a = ctx.saved_tensors
        if torch.is_grad_enabled():
            needed = ctx.needs_input_grad
            return gradients_again(plain.selective_scan, arguments, needed, (dy, d_last))
        u, step, A, B, C, x0 = arguments
        N, time_major, _, L = ctx.where
        before = u.new_zeros(N, *A.shape) if x0 is None else x0.contiguous()
        u, step, B, C = (flat(v, time_major).contiguous() for v in (u, step, B, C))
        dy = torch.zeros_like(u) if dy is None else flat(dy, time_major).contiguous()
        carry = torch.zeros_like(before) if d_last is None else d_last.contiguous().clone()
        du, dstep, dB, dC = (torch.zeros_like(v) for v in (u, step, B, C))
        dA = torch.zeros_like(A, dtype=torch.float64)
        tensors = (dy, u, step, a, B, C, A.contiguous(), before, carry, du, dstep, dB, dC, dA)
        arrays = [v.detach().numpy() for v in tensors]
        _backward(*arrays, *ctx.where[2:])
        du, dstep, dB, dC = (unflat(v, N, L, time_major) for v in (du, dstep, dB, dC))
        return du, dstep, dA.to(A), dB, dC, carry if ctx.needs_input_grad[5] else None


def selective_scan(
    u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, x0: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `ssmbook.ssm.kernels.dispatch.selective_scan`."""
    return _SelectiveScan.apply(u, step, A, B, C, x0)

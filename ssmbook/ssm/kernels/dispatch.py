"""The linear recurrence of a diagonal state-space layer: backends by device. The oracle is `ssmbook.ssm.plain.scan`.

    x_k = a ∘ x_{k−1} + b_k,   k = 0 … L − 1,   x_{−1} = x0

Inside the library a complex vector of P modes is a row of 2P reals, [Re | Im] ("planes"): matrix products
with the input and the output are then single real products, and the recurrence vectorises.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

from ssmbook.errors import InputError
from ssmbook.ssm import plain
from ssmbook.ssm.kernels.planes import from_planes, multiply_planes, to_planes
from ssmbook.ssm.kernels.rows import flat, is_time_major, unflat


def _scan_planes_loop(a: Tensor, b: Tensor, x0: Tensor | None, reverse: bool) -> Tensor:
    """`ssmbook.ssm.plain.scan` on planes; real arithmetic only, so that it compiles and exports."""
    L = b.shape[1]
    x_k, x = None if x0 is None else to_planes(x0), [b[:, 0]] * L
    for k in reversed(range(L)) if reverse else range(L):
        a_k = a if a.ndim == 1 else a[:, min(k, a.shape[1] - 1)]
        x_k = b[:, k] if x_k is None else multiply_planes(a_k, x_k) + b[:, k]
        x[k] = x_k
    return torch.stack(x, 1)


def is_transformed() -> bool:
    """Within a transform of torch.func (vmap, grad, …), which sees through plain operations only."""
    return torch._C._are_functorch_transforms_active()  # type: ignore[attr-defined]


def _is_eager() -> bool:
    return not torch.compiler.is_compiling() and not is_transformed()


def uses_numba(x: Tensor) -> bool:
    """Whether the numba kernels serve this tensor: on the CPU, float32 or float64, not compiled or transformed."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and _is_eager()


def uses_triton(x: Tensor) -> bool:
    """Whether the Triton kernels serve this [N, L, ·]: on a GPU for which torch brings Triton along, and for
    more than the single step that plain torch takes as fast."""
    return x.is_cuda and x.shape[1] > 1 and find_spec("triton") is not None and _is_eager()


def uses_operator(x: Tensor) -> bool:
    """Whether torch.compile gets the scan of x [N, L, ·] as one operator; an export gets a loop that it can write."""
    fits = x.dtype in (torch.float32, torch.float64) and (
        x.device.type == "cpu" or (x.is_cuda and find_spec("triton") is not None)
    )
    compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting() and not is_transformed()
    return fits and compiled and x.shape[1] > 1


def scan_planes(a: Tensor, b: Tensor, x0: Tensor | None = None, reverse: bool = False) -> Tensor:
    """`ssmbook.ssm.plain.scan` on planes: a [2P], [N, 1, 2P] or [N, L, 2P]; b, x [N, L, 2P]; x0 complex [N, P]."""
    if uses_numba(b):
        from ssmbook.ssm.kernels import numba as scan_numba

        return scan_numba.scan_planes(a, b, x0, reverse, scan_planes)
    if uses_triton(b):
        from ssmbook.ssm.kernels import triton as scan_triton

        return scan_triton.scan_planes(a, b, x0, reverse, scan_planes)
    if uses_operator(b):
        from ssmbook.ssm.kernels import compiled

        return compiled.scan_planes(a, b, x0, reverse)
    return _scan_planes_loop(a, b, x0, reverse)


def diagonal_scan(a: Tensor, bu: Tensor, x0: Tensor | None = None, reverse: bool = False) -> Tensor:
    """All states of x_k = a x_{k−1} + bu_k, with the fastest backend for the device.

    Args:
        a: the transitions, complex [P], or [N, L, P] where they differ between steps.
        bu: the input to each mode, complex [N, L, P].
        x0: the state before the first step, complex [N, P]; None is zero.
        reverse: run from the last step to the first.

    Returns:
        x, complex [N, L, P]. Gradients reach all three arguments.

    Raises:
        InputError: shapes that do not fit each other, or a tensor that is not complex.
    """
    if bu.ndim != 3 or not bu.is_complex():
        raise InputError(f"bu must be complex [N, L, P], not {bu.dtype} {tuple(bu.shape)}")
    N, L, P = bu.shape
    if tuple(a.shape) not in ((P,), (N, L, P)) or a.dtype != bu.dtype:
        raise InputError(
            f"a must be {bu.dtype} [{P}] or [{N}, {L}, {P}] to go with bu, not {a.dtype} {tuple(a.shape)}"
        )
    if x0 is not None and (tuple(x0.shape) != (N, P) or x0.dtype != bu.dtype):
        raise InputError(f"x0 must be {bu.dtype} [{N}, {P}] to go with bu, not {x0.dtype} {tuple(x0.shape)}")
    if bu.numel() == 0:
        return bu
    return from_planes(scan_planes(to_planes(a), to_planes(bu), x0, reverse))


def diagonal_ssm(
    u: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, x0: Tensor | None = None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """A whole time-invariant layer in planes: x_k = a x_{k−1} + b u_k, y_k = c x_k + d ∘ u_k.

    Args:
        u: input [N, L, H], of which [L, N, H] transposed is as good as contiguous.
        a: transition [2P].   b: input matrix [2P, H].   c: output matrix [H, 2P], (Re C, −Im C) side by side.
        d: feedthrough [H].   x0: state, complex [N, P], or None.

    Returns:
        y [N, L, H] in the memory layout of u, and the state, complex [N, P], after the last step of the scan.
    """
    if uses_numba(u) and len(u):  # whose pieces hold a sequence at least
        from ssmbook.ssm.kernels import numba as scan_numba

        return scan_numba.diagonal_ssm(u, a, b, c, d, x0, reverse, ssm_of_parts)
    return ssm_of_parts(u, a, b, c, d, x0, reverse)


def ssm_of_parts(
    u: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, x0: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """`diagonal_ssm` as two matrix products and `scan_planes`."""
    N, L, _ = u.shape
    time_major = is_time_major(u)
    rows = flat(u, time_major)
    x = scan_planes(a, unflat(rows @ b.T, N, L, time_major), x0, reverse)
    y = torch.addmm(rows * d, flat(x, time_major), c.T)
    return unflat(y, N, L, time_major), from_planes(x[:, 0 if reverse else -1])


def selective_scan(
    u: Tensor,
    step: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    x0: Tensor | None = None,
    step_scale: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """`ssmbook.ssm.plain.selective_scan` with the fastest backend: u, step [N, L, H], A [H, S], B, C [N, L, S],
    x0 [N, H, S] or None → y [N, L, H] in the memory layout of u, and the last state [N, H, S]. With another
    ``step_scale`` than 1 it is the plain one."""
    if isinstance(step_scale, Tensor) or step_scale != 1:
        return plain.selective_scan(u, step, A, B, C, x0, step_scale)
    if uses_numba(u) and u.shape[1] > 1:
        from ssmbook.ssm.kernels import selective

        return selective.selective_scan(u, step, A, B, C, x0)
    if uses_triton(u) or uses_operator(u):
        return _selective_by_scan(u, step, A, B, C, x0)
    return plain.selective_scan(u, step, A, B, C, x0)


def _selective_by_scan(
    u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, x0: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`selective_scan` with all states at once, as the real parts of a complex scan."""

    def planes(x: Tensor) -> Tensor:  # [..., H, S] → [..., 2 H S]
        return torch.cat([x.flatten(-2), torch.zeros_like(x.flatten(-2))], -1)

    a, b = torch.exp(step[..., None] * A), (step * u)[..., None] * B[:, :, None]
    x = scan_planes(planes(a), planes(b), None if x0 is None else from_planes(planes(x0)))
    x = x[..., : A.numel()].unflatten(-1, A.shape)
    return (x * C[:, :, None]).sum(-1), x[:, -1]

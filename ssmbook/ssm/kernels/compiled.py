"""The scan as one operator for torch.compile: a loop over the steps would be unrolled, and compile for minutes."""

from typing import Any

import torch
from torch import Tensor

from ssmbook.ssm.kernels.planes import from_planes, to_planes


def _backend(x: Tensor) -> Any:
    if x.is_cuda:
        from ssmbook.ssm.kernels import triton

        return triton
    from ssmbook.ssm.kernels import numba

    return numba


@torch.library.custom_op("ssmbook::scan", mutates_args=())
def _scan(a: Tensor, b: Tensor, x0: Tensor, reverse: bool) -> Tensor:
    return _backend(b).run_scan(a, b, from_planes(x0), reverse)


@torch.library.custom_op("ssmbook::scan_backward", mutates_args=())
def _scan_backward(
    a: Tensor, x: Tensor, x0: Tensor, dx: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    da, db, dx0 = _backend(x).run_adjoint(a, x, from_planes(x0), dx, reverse)
    return da, db, to_planes(dx0)


@_scan.register_fake
def _(a: Tensor, b: Tensor, x0: Tensor, reverse: bool) -> Tensor:
    return torch.empty_like(b)


@_scan_backward.register_fake
def _(a: Tensor, x: Tensor, x0: Tensor, dx: Tensor, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(a), torch.empty_like(x), torch.empty_like(x0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, _, x0, ctx.reverse = inputs
    ctx.save_for_backward(a, output, x0)


def _backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:
    a, x, x0 = ctx.saved_tensors
    return *torch.ops.ssmbook.scan_backward(a, x, x0, dx, ctx.reverse), None


_scan.register_autograd(_backward, setup_context=_keep)


def scan_planes(a: Tensor, b: Tensor, x0: Tensor | None, reverse: bool) -> Tensor:
    """See `ssmbook.ssm.kernels.dispatch.scan_planes`."""
    N, _, P2 = b.shape
    start = b.new_zeros(N, P2) if x0 is None else to_planes(x0)
    return torch.ops.ssmbook.scan(a, b, start, reverse)

"""Gradients that have a graph themselves: what the kernels' functions give where one is asked for (create_graph)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ssmbook.ssm.kernels.planes import conjugate_planes, from_planes, multiply_planes, to_planes

Scan = Callable[[Tensor, Tensor, Tensor | None, bool], Tensor]  # a, b, x0, reverse → x, in planes


def gradients_again(
    function: Callable[..., Sequence[Tensor]],
    arguments: Sequence[Tensor | None],
    needed: Sequence[bool],
    gradients: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """The gradients of the arguments that need one, by running ``function`` again, of differentiable parts."""
    with torch.enable_grad():
        # Views, so that an argument that depends on another one is not followed back to it.
        views = [None if x is None else x.view_as(x) for x in arguments]
        pairs = [(y, dy) for y, dy in zip(function(*views), gradients, strict=True) if dy is not None]
        wanted = [x for x, need in zip(views, needed, strict=True) if need and x is not None]
        outputs, cotangents = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, cotangents, create_graph=True, allow_unused=True))
    return tuple(
        next(found) if need and x is not None else None for x, need in zip(arguments, needed, strict=True)
    )


def scan_adjoint(
    scan: Scan, a: Tensor, x: Tensor, x0: Tensor | None, dx: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """∂a, ∂b and ∂x0 (complex) of x = scan(a, b, x0, reverse), as functions of all arguments.

    g_k = ∂x_k + ā_{k+1} g_{k+1} is a scan in the other direction; ∂b = g, ∂a = Σ g x̄_{k−1}, ∂x0 = ā_0 g_0.
    """
    conjugate = conjugate_planes(a)
    per_step = a.ndim == 3 and a.shape[1] == x.shape[1]
    back = conjugate.roll(1 if reverse else -1, 1) if per_step else conjugate
    g = scan(back, dx, None, not reverse)
    start = torch.zeros_like(x[:, :1]) if x0 is None else to_planes(x0)[:, None]
    earlier = torch.cat([x[:, 1:], start], 1) if reverse else torch.cat([start, x[:, :-1]], 1)
    da = multiply_planes(g, conjugate_planes(earlier))
    if not per_step:
        da = da.sum((0, 1)) if a.ndim == 1 else da.sum(1, keepdim=True)
    first = -1 if reverse else 0
    dx0 = multiply_planes(conjugate[:, first] if a.ndim == 3 else conjugate, g[:, first])
    return da, g, from_planes(dx0)

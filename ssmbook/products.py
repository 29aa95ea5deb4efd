"""Matrix products on the CPU, by the faster of the two libraries that PyTorch brings along."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Multiply-adds below which a call of oneDNN costs more than it saves.
_SMALLEST = 1 << 23


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b, as ``torch.nn.functional.linear``: x [..., K], weight [N, K], bias [N] → [..., N].

    In float32 on AMD's processors with AVX-512 the product is oneDNN's, and so are those of its gradients. Elsewhere it
    is PyTorch's own, and also where that has to be seen through: compiled, exported, under autocast or a transform of
    torch.func; and where oneDNN is switched off (``torch.backends.mkldnn.flags``). The two round differently.
    """
    if not (_fits(x, weight) and onednn_is_faster()):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    return onednn_linear(rows, weight, bias).view(*x.shape[:-1], len(weight))


class Linear(nn.Linear):
    """``torch.nn.Linear``, whose product is that of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


@cache
def onednn_is_faster() -> bool:
    """Whether this is a processor on which oneDNN's products in float32 take less time than MKL's.

    MKL, which PyTorch uses otherwise, keeps to AVX2 on AMD's processors, those with AVX-512 included; there oneDNN is
    2.2 to 2.8 times as fast. On AMD's earlier processors and on Intel's it was not. Asked of the processor's name, not
    of a clock: a training that goes on after a stop must round as before.
    """
    from llvmlite.binding import get_host_cpu_name  # part of numba

    return (
        torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and get_host_cpu_name().startswith("znver")
    )


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # first: what else is asked here would break the graph
        and not torch.jit.is_tracing()
        and x.numel() * len(weight) >= _SMALLEST
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and type(x) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
        and bool(torch.backends.mkldnn.enabled)
        and not torch._C._are_functorch_transforms_active()  # type: ignore[attr-defined]
    )


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` by oneDNN on whatever processor: float32, x [M, K], weight [N, K], bias [N] → [M, N]; differentiable
    as often as wanted."""
    if torch.is_grad_enabled():
        return _OneDnn.apply(x, weight, bias)
    return _product(x, weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not (weight.is_contiguous() or weight.T.is_contiguous()):
        weight = weight.contiguous()  # with other strides oneDNN takes 200 times as long
    # The operation to which torch.compile lowers a linear layer.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _OneDnn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = onednn_linear(dy, weight.T)
        if ctx.needs_input_grad[1]:
            # Σ dy x over the many rows, as the product whose result has the fewer columns: up to 2.2 times as fast.
            narrow = x.shape[1] < dy.shape[1]
            dw = onednn_linear(x.T, dy.T).T if narrow else onednn_linear(dy.T, x.T)
        if ctx.needs_input_grad[2]:
            db = dy.sum(0)
        return dx, dw, db

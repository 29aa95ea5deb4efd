"""Complex vectors as rows of reals, the layout that the kernels and the matrix products share.

A complex vector of P modes is a row of 2P reals, [Re | Im] ("planes").
"""

import torch
from torch import Tensor


def complex_of(dtype: torch.dtype) -> torch.dtype:
    """The complex dtype of a real one; torch's own method cannot be compiled."""
    return torch.complex128 if dtype == torch.float64 else torch.complex64


def to_planes(z: Tensor) -> Tensor:
    """Complex [..., P] → real [..., 2P], real parts first."""
    return torch.cat([z.real, z.imag], -1)


def from_planes(x: Tensor) -> Tensor:
    """Real [..., 2P] → complex [..., P]."""
    re, im = x.chunk(2, -1)
    return torch.complex(re, im)


def multiply_planes(a: Tensor, x: Tensor) -> Tensor:
    """Complex product of two plane tensors [..., 2P] that broadcast against each other."""
    (a_re, a_im), (x_re, x_im) = a.chunk(2, -1), x.chunk(2, -1)
    return torch.cat([a_re * x_re - a_im * x_im, a_re * x_im + a_im * x_re], -1)


def conjugate_planes(x: Tensor) -> Tensor:
    """The complex conjugate of planes [..., 2P]."""
    re, im = x.chunk(2, -1)
    return torch.cat([re, -im], -1)

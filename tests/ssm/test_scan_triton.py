"""The Triton kernels equal the loop: in Triton's interpreter without a GPU, on the GPU where there is one."""

import os

import pytest
import torch

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are defined

from ssmbook.ssm.kernels import triton as scan_triton  # noqa: E402
from ssmbook.ssm.kernels.dispatch import scan_planes  # noqa: E402
from ssmbook.ssm.kernels.planes import from_planes, to_planes  # noqa: E402
from ssmbook.ssm.plain import scan  # noqa: E402


def random_complex(*shape, scale=1.0):
    return (torch.randn(*shape, dtype=torch.complex128, device=DEVICE) * scale).requires_grad_()


def gradients(y, arguments):
    weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64, device=DEVICE).view(y.shape)
    loss = ((y * weight).real + (y * weight.flip(0)).imag).sum()
    return torch.autograd.grad(loss, arguments, materialize_grads=True)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    """The interpreter is slow: several tiles fit into a small case."""
    if DEVICE == "cpu":
        monkeypatch.setattr(scan_triton, "BLOCK_L", 4)
        monkeypatch.setattr(scan_triton, "BLOCK_P", 4)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("kind", ["shared", "per sequence", "per step"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 11, 5)])
def test_equals_the_loop(shape, kind, time_major, reverse):
    torch.manual_seed(0)
    N, L, P = shape
    a = random_complex(*{"shared": (P,), "per sequence": (N, 1, P), "per step": (N, L, P)}[kind], scale=0.5)
    b, x0 = random_complex(N, L, P), random_complex(N, P)
    planes = to_planes(b)
    if time_major:
        planes = planes.transpose(0, 1).contiguous().transpose(0, 1)
    x = from_planes(scan_triton.scan_planes(to_planes(a), planes, x0, reverse, scan_planes))
    expected = scan(a, b, x0, reverse)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(x, [a, b, x0]), gradients(expected, [a, b, x0]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_without_a_state():
    a, b = random_complex(3, scale=0.7), random_complex(2, 4, 3)
    x = from_planes(scan_triton.scan_planes(to_planes(a), to_planes(b), None, False, scan_planes))
    torch.testing.assert_close(x, scan(a, b), rtol=0, atol=1e-12)


def test_nan_stays_in_its_sequence():
    a, b = random_complex(2, scale=0.5).detach(), torch.ones(3, 4, 2, dtype=torch.complex128, device=DEVICE)
    b[1, 2, 0] = float("nan")
    nan = from_planes(scan_triton.scan_planes(to_planes(a), to_planes(b), None, False, scan_planes)).isnan()
    assert nan[1, 2:, 0].all()
    assert nan.sum() == 2

"""The scan: every backend equals the loop, gradients by finite differences, and the whole layer in planes."""

import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.ssm import diagonal_scan
from ssmbook.ssm.kernels import numba as scan_numba
from ssmbook.ssm.kernels.dispatch import _scan_planes_loop, diagonal_ssm, scan_planes
from ssmbook.ssm.kernels.planes import from_planes, to_planes
from ssmbook.ssm.plain import scan

SHAPES = [(1, 1, 1), (3, 1, 5), (2, 7, 3), (5, 4, 33), (70, 6, 64)]


def random_complex(*shape, scale=1.0):
    return (torch.randn(*shape, dtype=torch.complex128) * scale).requires_grad_()


def transitions(kind, N, L, P):
    return random_complex(
        *{"shared": (P,), "per sequence": (N, 1, P), "per step": (N, L, P)}[kind], scale=0.7
    )


def gradients(y, arguments):
    weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
    loss = ((y * weight).real + (y * weight.flip(0)).imag).sum()
    return torch.autograd.grad(loss, arguments, materialize_grads=True)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_diagonal_scan_equals_the_loop(shape, per_step, with_state, reverse):
    torch.manual_seed(0)
    N, L, P = shape
    a, bu = transitions("per step" if per_step else "shared", N, L, P), random_complex(N, L, P)
    x0 = random_complex(N, P) if with_state else None
    arguments = [x for x in (a, bu, x0) if x is not None]
    x, expected = diagonal_scan(a, bu, x0, reverse), scan(a, bu, x0, reverse)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(x, arguments), gradients(expected, arguments), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["shared", "per sequence", "per step"])
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("backend", [scan_planes, _scan_planes_loop])
def test_planes_equal_complex(kind, time_major, backend):
    torch.manual_seed(1)
    N, L, P = 4, 5, 6
    a, b, x0 = transitions(kind, N, L, P), random_complex(N, L, P), random_complex(N, P)
    b_planes = to_planes(b)
    if time_major:
        b_planes = b_planes.transpose(0, 1).contiguous().transpose(0, 1)
    x = from_planes(backend(to_planes(a), b_planes, x0, False))
    expected = scan(a, b, x0)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients(x, [a, b, x0]), gradients(expected, [a, b, x0]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def ssm_arguments(N, L, H, P, time_major=False, dtype=torch.float64):
    u = torch.randn(N, L, H, dtype=dtype)
    if time_major:
        u = u.transpose(0, 1).contiguous().transpose(0, 1)
    shapes = [(2 * P,), (2 * P, H), (H, 2 * P), (H,)]
    rest = [torch.randn(shape, dtype=dtype) * (0.6 if i == 0 else 1) for i, shape in enumerate(shapes)]
    return [x.requires_grad_() for x in (u, *rest, torch.randn(N, P, dtype=dtype.to_complex()))]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("piece_bytes", [1, 2000, scan_numba.PIECE_BYTES])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 4, 2), (37, 4, 6, 32), (2, 40, 3, 5)])
def test_diagonal_ssm_equals_the_equations(shape, piece_bytes, time_major, reverse, monkeypatch):
    monkeypatch.setattr(scan_numba, "PIECE_BYTES", piece_bytes)
    torch.manual_seed(2)
    arguments = ssm_arguments(*shape, time_major)
    u, a, b, c, d, x0 = arguments
    y, last = diagonal_ssm(*arguments, reverse=reverse)
    x = _scan_planes_loop(a, u @ b.T, x0, reverse)
    expected, expected_last = x @ c.T + d * u, from_planes(x[:, 0 if reverse else -1])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(last, expected_last, rtol=0, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(diagonal_ssm(*arguments, reverse=reverse), (y, last), rtol=0, atol=0)
    weights = torch.randn_like(y), torch.randn_like(last)
    ours = torch.autograd.grad([y, last], arguments, weights)
    theirs = torch.autograd.grad([expected, expected_last], arguments, weights)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-11, atol=1e-10)


def test_gradcheck():
    torch.manual_seed(3)
    assert torch.autograd.gradcheck(diagonal_ssm, ssm_arguments(3, 4, 2, 3))
    arguments = transitions("per step", 2, 3, 2), random_complex(2, 3, 2), random_complex(2, 2)
    assert torch.autograd.gradcheck(diagonal_scan, arguments)


def test_only_the_state_has_a_gradient():
    torch.manual_seed(4)
    arguments = ssm_arguments(3, 4, 2, 3)
    _, last = diagonal_ssm(*arguments)
    u, a, b, _, _, x0 = arguments
    expected = from_planes(_scan_planes_loop(a, u @ b.T, x0, False)[:, -1])
    for ours, theirs in zip(
        torch.autograd.grad(last.real.sum(), [u, a, b, x0]),
        torch.autograd.grad(expected.real.sum(), [u, a, b, x0]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_layout_follows_the_input():
    u, *rest = ssm_arguments(6, 3, 4, 2, time_major=True)
    y, _ = diagonal_ssm(u, *rest)
    assert y.transpose(0, 1).is_contiguous()
    y, _ = diagonal_ssm(u.detach().contiguous(), *rest)
    assert y.is_contiguous()


def test_float32_is_close_to_float64():
    torch.manual_seed(5)
    double = ssm_arguments(50, 30, 8, 16)
    to = {torch.float64: torch.float32, torch.complex128: torch.complex64}
    single = [x.detach().to(to[x.dtype]).requires_grad_() for x in double]
    results = []
    for arguments in (double, single):
        y, last = diagonal_ssm(*arguments)
        results.append([y, last, *torch.autograd.grad(y.sum() + last.imag.sum(), arguments)])
    for exact, ours in zip(*results, strict=True):
        assert (ours - exact).norm() <= 2e-6 * exact.norm()


def test_runs_repeat_exactly():
    torch.manual_seed(6)
    arguments = ssm_arguments(64, 9, 16, 16, dtype=torch.float32)
    first, second = (
        torch.autograd.grad(diagonal_ssm(*arguments)[0].square().sum(), arguments) for _ in range(2)
    )
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_nan_stays_in_its_sequence():
    a, bu = torch.full((2,), 0.5 + 0j), torch.ones(3, 4, 2, dtype=torch.complex64)
    bu[1, 2, 0] = float("nan")
    nan = diagonal_scan(a, bu).isnan()
    assert nan[1, 2:, 0].all()
    assert nan.sum() == 2


@pytest.mark.parametrize(
    ("a", "bu", "x0"),
    [
        ((3,), (2, 4), None),
        ((4,), (2, 4, 3), None),
        ((2, 1, 3), (2, 4, 3), None),
        ((3,), (2, 4, 3), (3, 3)),
        ((3,), (2, 4, 3), (2, 4)),
    ],
)
def test_wrong_shapes_are_named(a, bu, x0):
    arguments = [
        None if shape is None else torch.zeros(shape, dtype=torch.complex64) for shape in (a, bu, x0)
    ]
    wrong = x0 or (bu if len(bu) != 3 else a)
    with pytest.raises(InputError, match=str(list(wrong))[1:-1]):
        diagonal_scan(*arguments)


def test_wrong_dtypes_are_named():
    with pytest.raises(InputError, match="float32"):
        diagonal_scan(torch.zeros(3, dtype=torch.complex64), torch.zeros(2, 4, 3))
    with pytest.raises(InputError, match="complex128"):
        diagonal_scan(torch.zeros(3, dtype=torch.complex128), torch.zeros(2, 4, 3, dtype=torch.complex64))


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_nothing_to_scan_gives_nothing(shape):
    a, bu = torch.ones(shape[-1], dtype=torch.complex64), torch.ones(shape, dtype=torch.complex64)
    assert diagonal_scan(a, bu).shape == shape

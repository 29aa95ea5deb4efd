"""The zero-order hold where ΔΛ is small or 0: the quotient (e^z − 1)/z against a quotient in many digits."""

import mpmath
import pytest
import torch

from ssmbook.ssm import S4, S4D, S5, discretize
from ssmbook.ssm.zoh import NEAR, complex_zoh_gain, share_of_a_step

SIZES = [0.0, 1e-12, 1e-6, 1e-3, 0.1, NEAR * 0.999, NEAR * 1.001, 1.0, 20.0]
ANGLES = torch.linspace(1.58, 4.7, 7, dtype=torch.float64)  # Re z ≤ 0


def exact(z, derivative=False):
    with mpmath.workdps(60):
        z = mpmath.mpc(z.real, z.imag)
        if z == 0:
            return 0.5 if derivative else 1.0
        value = (mpmath.exp(z) * (z - 1) + 1) / z**2 if derivative else mpmath.expm1(z) / z
        return complex(value)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("size", SIZES)
def test_gain_and_gradient_are_exact_to_rounding(size, dtype):
    z = torch.polar(torch.full_like(ANGLES, size), ANGLES).to(dtype).requires_grad_()
    tolerance = 20 * torch.finfo(dtype).eps
    gain = complex_zoh_gain(z)
    for ours, point in zip(gain.tolist(), z.tolist(), strict=True):
        assert abs(ours - exact(point)) <= tolerance * abs(exact(point))
    (gradient,) = torch.autograd.grad(gain.real.sum(), z)
    for ours, point in zip(gradient.tolist(), z.tolist(), strict=True):
        expected = complex(exact(point, derivative=True)).conjugate()
        assert abs(ours - expected) <= 20 * tolerance * max(abs(expected), 0.01)


def exact_share(s, z):
    """The share of a step and its derivative, in many digits."""
    with mpmath.workdps(60):
        if z == 0:
            return s, s * (1 - s) / 2
        top, bottom = -mpmath.expm1(-s * mpmath.mpf(z)), -mpmath.expm1(-mpmath.mpf(z))
        slope = s * (1 - top) / bottom - (1 - bottom) * top / bottom**2
        return float(top / bottom), float(slope)


@pytest.mark.parametrize("s", [0.02, 0.5, 4.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_share_of_a_step_and_its_gradient_are_exact_down_to_nothing(dtype, s):
    eps = torch.finfo(dtype).eps
    z = torch.cat([torch.zeros(1), torch.logspace(-40, 1.5, 90)]).to(dtype).requires_grad_()
    s = float(torch.tensor(s, dtype=dtype))
    exact = torch.tensor([exact_share(s, point) for point in z.tolist()], dtype=torch.float64)
    for scale in (s, torch.tensor(s, dtype=dtype)):
        share = share_of_a_step(scale, z)
        (slope,) = torch.autograd.grad(share.sum(), z)
        torch.testing.assert_close(share.double(), exact[:, 0], rtol=4 * eps, atol=0)
        # From the tangent on, which begins at √ε / max(s, 1), terms of the size of s / z are subtracted.
        bound = 8 * eps**0.5 * s * max(s, 1)
        torch.testing.assert_close(slope.double(), exact[:, 1], rtol=0, atol=bound)


def test_gradcheck_of_the_share_of_a_step():
    z = torch.tensor([0.0, 1e-12, 1e-9, 1e-3, 1.0, 30.0], dtype=torch.float64, requires_grad=True)
    for s in (0.05, 4.0):
        assert torch.autograd.gradcheck(lambda z, s=s: share_of_a_step(s, z), z)


def test_a_mode_that_does_not_decay_integrates():
    gain = discretize(torch.tensor([-1e-6 + 0j, 0j]), torch.tensor([0.001, 0.001]), "zoh")[1]
    torch.testing.assert_close(gain, torch.tensor([0.001 + 0j, 0.001 + 0j]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("per_step", [False, True])
def test_a_layer_with_a_mode_at_zero_has_finite_gradients(per_step):
    layer = S5(3, 4, discretization="zoh")
    with torch.no_grad():
        layer.Lambda[0] = 0
    u = torch.randn(2, 5, 3)
    y, _ = layer(u, step_scale=torch.full((2, 5), 0.1) if per_step else 0.1)
    y.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert layer.Lambda.grad[0].any()


@pytest.mark.parametrize("make", [lambda: S4D(3, 8), lambda: S4(3, 8, mode="diag")])
def test_small_steps_in_float32_are_those_of_float64(make):
    """At 1e-4 of the step of training the quotient would lose four digits."""
    torch.manual_seed(0)
    layer, u = make(), torch.randn(2, 5, 3)
    rough = [layer(u, None, 1e-4)[1], layer(u, None, torch.full((2, 5), 1e-4))[1]]
    rough.append(torch.complex(*layer.real_step()(u[:, :1], None, 1e-4)[1].unbind(1)))
    fine = layer.double()
    u = u.double()
    exact = [fine(u, None, 1e-4)[1]] * 2 + [fine(u[:, :1], None, 1e-4)[1]]
    for ours, expected in zip(rough, exact, strict=True):
        assert (ours - expected).norm() <= 1e-6 * expected.norm()

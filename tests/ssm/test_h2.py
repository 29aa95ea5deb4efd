"""The H2 norm in closed form equals quadrature of its definition; its gradient equals finite differences."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from ssmbook.errors import InputError
from ssmbook.ssm import S4, S4D, S5
from ssmbook.ssm.h2 import h2_norm


def system(P=4, H=3, K=2, seed=0):
    torch.manual_seed(seed)
    Lambda = torch.complex(-torch.rand(P) - 0.1, torch.randn(P) * 2).to(torch.complex128)
    return Lambda, torch.randn(P, H, dtype=torch.complex128), torch.randn(K, P, dtype=torch.complex128)


def quadrature(Lambda, B, C, omega_min):
    """‖G‖ from the definition: G(jω) = ½ [C (jω − Λ)⁻¹ B + C̄ (jω − Λ̄)⁻¹ B̄]."""
    Lambda, B, C = (x.detach().numpy() for x in (Lambda, B, C))

    def integrand(omega):
        G = (C / (1j * omega - Lambda)) @ B + (C.conj() / (1j * omega - Lambda.conj())) @ B.conj()
        return (np.abs(G / 2) ** 2).sum() / np.pi

    poles = sorted({omega_min, *np.abs(Lambda.imag)[np.abs(Lambda.imag) > omega_min], omega_min + 50.0})
    parts = [quad(integrand, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for a, b in pairwise(poles)]
    return np.sqrt(sum(parts) + quad(integrand, poles[-1], np.inf, epsabs=1e-13, limit=200)[0])


@pytest.mark.parametrize("omega_min", [0.0, 0.5, 1.57, 6.0])
@pytest.mark.parametrize("seed", range(3))
def test_equals_quadrature(omega_min, seed):
    arguments = system(seed=seed)
    assert float(h2_norm(*arguments, omega_min)) == pytest.approx(quadrature(*arguments, omega_min), rel=1e-6)


def test_one_real_pole_by_hand():
    """G = b c/(jω + a): ‖G‖² above ω is (bc)²/(πa) · (π/2 − arctan(ω/a))."""
    a, b, c, omega = 0.7, 2.0, 3.0, 1.1
    one = torch.ones(1, 1, dtype=torch.complex128)
    expected = np.sqrt((b * c) ** 2 / (np.pi * a) * (np.pi / 2 - np.arctan(omega / a)))
    assert float(h2_norm(-a * one[0], b * one, c * one, omega)) == pytest.approx(expected, rel=1e-12)


def test_gradcheck():
    arguments = [x.requires_grad_() for x in system(P=3)]
    assert torch.autograd.gradcheck(lambda *x: h2_norm(*x, 0.8), arguments)


def test_systems_side_by_side_add_their_squares():
    parts = [system(seed=seed) for seed in range(3)]
    together = h2_norm(*(torch.stack(x) for x in zip(*parts, strict=True)), 0.5)
    assert float(together) ** 2 == pytest.approx(sum(float(h2_norm(*x, 0.5)) ** 2 for x in parts))


@pytest.mark.parametrize("conj_sym", [False, True])
def test_s5(conj_sym):
    """In units of one step: Λ' = ΔΛ, B' = ΔB; twice the response with conj_sym."""
    torch.manual_seed(0)
    layer = S5(3, 8, conj_sym=conj_sym).double()
    step = layer.log_step.exp()
    B, C = (torch.view_as_complex(x.detach()) for x in (layer.B, layer.C))
    expected = quadrature(step * layer.eigenvalues(), step[:, None] * B, C * (1 + conj_sym), 0.05)
    norm = layer.h2_norm(0.05)
    assert norm.item() == pytest.approx(expected, rel=1e-6)
    norm.backward()
    assert all(layer.get_parameter(name).grad.abs().sum() > 0 for name in ("Lambda", "B", "C", "log_step"))


def test_held_bandlimit_counts_only_what_passes():
    torch.manual_seed(0)
    free, held = S5(3, 32).double(), S5(3, 32, bandlimit=0.1).double()
    held.load_state_dict(free.state_dict())
    # the mask cuts modes at ω = πα: above it only the skirts of the others are left
    assert 0 < float(held.h2_norm(0.1 * np.pi)) < float(free.h2_norm(0.1 * np.pi))


@pytest.mark.parametrize("make", [lambda: S4D(3, 8), lambda: S4(3, 8, mode="diag")])
def test_siso_layers(make):
    torch.manual_seed(0)
    layer = make().double()
    A, B, C, step = (x.detach() for x in layer.kernel.values())
    squares = [
        quadrature(step[h] * A[h], step[h] * B[h, :, None], 2 * C[h, None], 0.3) ** 2
        for h in range(layer.width)
    ]
    assert float(layer.h2_norm(0.3)) == pytest.approx(np.sqrt(sum(squares)), rel=1e-6)


def test_what_has_no_norm():
    Lambda, B, C = system()
    with pytest.raises(InputError, match="at least 0"):
        h2_norm(Lambda, B, C, -1.0)
    with pytest.raises(InputError, match="Re λ < 0"):
        h2_norm(-Lambda, B, C, 0.0)
    with pytest.raises(InputError, match="causal"):
        S5(3, 4, bidirectional=True).h2_norm(1.0)
    with pytest.raises(InputError, match="poles"):
        S4(3, 4).h2_norm(1.0)


def test_where_it_is_0_its_gradient_is_0():
    layer = S5(4, 4, bandlimit=1e-9)
    norm = layer.h2_norm(0.1)
    norm.backward()
    assert float(norm.detach()) == 0
    assert all(p.grad is None or not p.grad.any() for p in layer.parameters())

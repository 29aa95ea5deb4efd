"""S4: the low-rank step is the dense bilinear step, the start is HiPPO-LegS, published parameters load."""

import numpy as np
import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.ssm import S4
from ssmbook.ssm.hippo import blocks_spectrum, hippo_legs
from ssmbook.ssm.s4 import dplr_step, orbit


def test_low_rank_step_is_the_dense_step():
    """Over all modes and their conjugates, A = diag(Λ) − P Pᴴ, solved densely."""
    torch.manual_seed(0)
    M, step = 4, torch.tensor([0.3], dtype=torch.float64)
    Lambda, P, B, x = (torch.randn(1, M, dtype=torch.complex128) for _ in range(4))
    Lambda = Lambda - 2
    u = torch.randn(1, dtype=torch.float64)
    full = {"Lambda": Lambda, "P": P, "B": B, "x": x}
    full = {name: torch.cat([z, z.conj()], 1)[0] for name, z in full.items()}
    A = torch.diag(full["Lambda"]) - torch.outer(full["P"], full["P"].conj())
    eye = torch.eye(2 * M, dtype=A.dtype)
    right = (eye + step * A / 2) @ full["x"] + step * full["B"] * u
    expected = torch.linalg.solve(eye - step * A / 2, right)
    z = dplr_step(x, u, Lambda, P, B, step)
    torch.testing.assert_close(z[0], expected[:M], rtol=0, atol=1e-12)
    torch.testing.assert_close(z[0].conj(), expected[M:], rtol=0, atol=1e-12)


def test_starts_as_hippo_legs():
    """The real systems of the start and of HiPPO-LegS have one impulse response, whatever the basis."""
    N, L, C = 8, 30, np.random.default_rng(0).normal(size=8)
    layer = S4(1, N).double()
    A, p = hippo_legs(N)
    step = float(layer.kernel.inv_dt.detach().exp())
    left = np.linalg.inv(np.eye(N) - step / 2 * A)
    A_bar, B_bar = left @ (np.eye(N) + step / 2 * A), left @ (step * np.sqrt(2) * p)
    expected = [C @ np.linalg.matrix_power(A_bar, k) @ B_bar for k in range(L)]
    V = blocks_spectrum(N, half=True)[1]
    with torch.no_grad():
        layer.kernel.C.copy_(torch.view_as_real(torch.as_tensor(C @ V))[None, None])
    kernel = layer.kernel.maps(torch.tensor(1.0, dtype=torch.float64), L).kernel[0]
    np.testing.assert_allclose(kernel.detach(), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_orbit_is_the_powers():
    torch.manual_seed(0)
    A, v = torch.randn(2, 3, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    rows = orbit(v, A, 11)
    assert rows.shape == (2, 11, 3)
    for k in range(11):
        expected = torch.einsum("hs,hst->ht", v, torch.linalg.matrix_power(A, k))
        torch.testing.assert_close(rows[:, k], expected)


def published(layer, length=None):
    arrays = {f"layer.{name}": value.detach().clone() for name, value in layer.named_parameters()}
    arrays = {name.replace("layer.output", "output"): value for name, value in arrays.items()}
    return arrays if length is None else arrays | {"layer.kernel.l_kernel": torch.tensor(length)}


@pytest.mark.parametrize("mode", ["dplr", "diag"])
def test_parameters_survive_a_round_trip(mode):
    layer, other = S4(3, 8, mode=mode), S4(3, 8, mode=mode)
    other.load_published(published(layer))
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), other.parameters(), strict=True))


def test_truncated_C_is_undone():
    """C (I − Ā^L), formed densely, comes back as C."""
    torch.manual_seed(0)
    layer, other, L = S4(2, 6).double(), S4(2, 6).double(), 12
    A_bar_T, _ = layer.kernel._dense(torch.tensor(1.0, dtype=torch.float64))
    C = torch.cat([layer.kernel.C[0, ..., 0], -layer.kernel.C[0, ..., 1]], -1)
    truncated = C - torch.einsum("ht,hst->hs", C, torch.linalg.matrix_power(A_bar_T, L))
    arrays = published(layer, L)
    arrays["layer.kernel.C"] = torch.stack([truncated[:, :3], -truncated[:, 3:]], -1)[None]
    other.load_published(arrays)
    torch.testing.assert_close(other.kernel.C, layer.kernel.C, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{"mode": "nplr"}, {"start": "lin"}, {"mode": "diag", "start": "random"}])
def test_bad_options_are_refused(options):
    with pytest.raises(InputError):
        S4(3, 8, **options)


def test_load_published_names_what_differs():
    layer = S4(3, 8)
    arrays = published(layer)
    del arrays["layer.kernel.P"]
    with pytest.raises(InputError, match=r"missing \['kernel.P'\]"):
        layer.load_published(arrays)

"""HiPPO-LegS: the matrix from its definition, and the decomposition that S5 starts from."""

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.ssm.hippo import blocks_spectrum, hippo_legs, legs_spectrum


def test_matrix_by_hand():
    A, p = hippo_legs(3)
    expected = [[-1, 0, 0], [-np.sqrt(3), -2, 0], [-np.sqrt(5), -np.sqrt(15), -3]]
    np.testing.assert_allclose(A, expected, rtol=1e-15)
    np.testing.assert_allclose(p, np.sqrt([0.5, 1.5, 2.5]), rtol=1e-15)


@pytest.mark.parametrize("size", [1, 2, 5, 16, 64])
def test_spectrum_reconstructs_the_normal_part(size):
    A, p = hippo_legs(size)
    S = A + np.outer(p, p)
    Lambda, V = legs_spectrum(size)
    np.testing.assert_allclose(V * Lambda @ V.conj().T, S, atol=1e-11 * size)
    np.testing.assert_allclose(V @ V.conj().T, np.eye(size), atol=1e-12)
    np.testing.assert_allclose(S @ S.T, S.T @ S, atol=1e-10 * size)  # normal
    np.testing.assert_array_equal(Lambda.real, -0.5)
    np.testing.assert_allclose(Lambda.imag, -Lambda.imag[::-1], atol=1e-11 * size)  # conjugate pairs


def test_known_eigenvalues():
    """For P = 2, S + ½ I is [[0, √3/2], [−√3/2, 0]]: λ = −½ ± i √3/2."""
    Lambda, _ = legs_spectrum(2)
    np.testing.assert_allclose(Lambda, [-0.5 - 0.75**0.5 * 1j, -0.5 + 0.75**0.5 * 1j], atol=1e-14)


def test_blocks_and_halves():
    Lambda, V = blocks_spectrum(12, 3)
    small, small_V = legs_spectrum(4)
    np.testing.assert_array_equal(Lambda, np.concatenate([small] * 3))
    np.testing.assert_array_equal(V[4:8, 4:8], small_V)
    assert not V[:4, 4:].any()
    half, half_V = blocks_spectrum(12, 3, half=True)
    assert half.shape == (6,)
    assert half_V.shape == (12, 6)
    assert (half.imag < 0).all()
    S = V * Lambda @ V.conj().T
    np.testing.assert_allclose(S, 2 * (half_V * half @ half_V.conj().T).real, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "blocks", "half"), [(5, 2, False), (4, 0, False), (5, 1, True), (6, 2, True)]
)
def test_sizes_that_do_not_divide(size, blocks, half):
    with pytest.raises(InputError, match=f"{size} does not divide into {blocks}"):
        blocks_spectrum(size, blocks, half)


def test_empty_size():
    with pytest.raises(InputError, match="at least 1"):
        hippo_legs(0)


def test_s4d_starts_by_hand():
    Lambda, _ = blocks_spectrum(6, start="lin")
    np.testing.assert_allclose(Lambda[3:], [-0.5, -0.5 + np.pi * 1j, -0.5 + 2 * np.pi * 1j])
    Lambda, _ = blocks_spectrum(4, start="inv")
    np.testing.assert_allclose(Lambda[2:].imag, [4 / np.pi * 3, 4 / np.pi / 3])


@pytest.mark.parametrize("start", ["inv", "lin"])
@pytest.mark.parametrize("half", [False, True])
def test_s4d_starts_are_real_systems(start, half):
    Lambda, V = blocks_spectrum(12, 2, half, start)
    S = V * Lambda @ V.conj().T
    if half:
        S = 2 * S.real
    assert np.abs(S.imag).max() < 1e-12
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvals(S).imag), np.sort(blocks_spectrum(12, 2, start=start)[0].imag)
    )


def test_unknown_start():
    with pytest.raises(InputError, match="random"):
        blocks_spectrum(4, start="random")

"""Where a diagonal state-space layer starts: the normal part of HiPPO-LegS, diagonalised.

HiPPO-LegS (Gu et al. 2020, arXiv 2008.07669) writes the past of a signal as coefficients of Legendre
polynomials; its state matrix A forgets slowly and at many time scales. A itself cannot be diagonalised
stably, but A = S − p pᵀ with S normal (S4, arXiv 2111.00396, Theorem 1), and S can: S = V Λ Vᴴ. S5
(arXiv 2208.04933, §3) starts from Λ and drops the rank-one term. S4D (arXiv 2206.11893) also starts from two
simpler spectra, "inv" and "lin".
"""

from functools import lru_cache
from typing import Literal

import numpy as np

from ssmbook.errors import InputError

Start = Literal["legs", "inv", "lin"]


def hippo_legs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """State matrix A [P, P] of HiPPO-LegS and p [P] that makes A + p pᵀ normal (arXiv 2111.00396, eq. 2).

    A_nk = −√(2n+1) √(2k+1) below the diagonal, −(n+1) on it, 0 above; p_n = √(n + ½). Both float64.
    """
    if size < 1:
        raise InputError(f"HiPPO-LegS needs a size of at least 1, not {size}")
    n = np.arange(size)
    root = np.sqrt(2 * n + 1.0)
    A = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0)
    return A, np.sqrt(n + 0.5)


@lru_cache(maxsize=16)
def legs_spectrum(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues Λ [P] and eigenvectors V [P, P] of S = A + p pᵀ, the normal part of HiPPO-LegS.

    S + ½ I is skew-symmetric, so −i (S + ½ I) is Hermitian: Re λ = −½ exactly, and Im λ (ascending, in
    conjugate pairs) and the unitary V come from its eigendecomposition. complex128, read-only.
    """
    A, p = hippo_legs(size)
    S = A + np.outer(p, p)
    imaginary, V = np.linalg.eigh(-1j * (S + 0.5 * np.eye(size)))
    Lambda = -0.5 + 1j * imaginary
    Lambda.flags.writeable = V.flags.writeable = False
    return Lambda, V


def s4d_spectrum(size: int, start: Literal["inv", "lin"]) -> tuple[np.ndarray, np.ndarray]:
    """The starts of S4D (arXiv 2206.11893, §4) as conjugate pairs: Λ [P] and unitary V [P, P].

    lin: λ_n = −½ + iπn;  inv: λ_n = −½ + i (P/π) (P/(2n+1) − 1);  n = 0 … P/2 − 1, conjugates first, as in
    `legs_spectrum`. V Λ Vᴴ is real: [[Re, −Im], [Im, Re]] of each λ.
    """
    if size % 2 or size < 2:
        raise InputError(f"the {start} start comes in conjugate pairs: its size must be even, not {size}")
    n, half = np.arange(size // 2), np.eye(size // 2)
    imaginary = np.pi * n if start == "lin" else size / np.pi * (size / (2 * n + 1) - 1)
    pairs = np.concatenate([half, 1j * half]) / np.sqrt(2)  # [P, P/2]
    Lambda = -0.5 + 1j * np.concatenate([-imaginary, imaginary])
    return Lambda, np.concatenate([pairs, pairs.conj()], 1)


def blocks_spectrum(
    size: int, blocks: int = 1, half: bool = False, start: Start = "legs"
) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum of ``blocks`` starts of size P/J side by side: Λ [P] and block-diagonal V [P, P].

    With ``half`` one of each conjugate pair is kept (the one with Im λ ≤ 0): Λ [P/2], V [P, P/2].
    """
    if start not in ("legs", "inv", "lin"):
        raise InputError(f'start must be "legs", "inv" or "lin", not {start!r}')
    if blocks < 1 or size % blocks or (half and (size // blocks) % 2):
        need = "blocks of an even size" if half else "blocks of equal size"
        raise InputError(f"a state of width {size} does not divide into {blocks} {need}")
    part = size // blocks
    Lambda, V = legs_spectrum(part) if start == "legs" else s4d_spectrum(part, start)
    if half:
        Lambda, V = Lambda[: part // 2], V[:, : part // 2]
    return np.tile(Lambda, blocks), np.kron(np.eye(blocks), V)

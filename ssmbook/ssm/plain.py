"""S5 and Mamba's S6 as they are defined, for a reader: loops. Slow; every faster version is tested against them.

S5:  x_k = Λ̄_k x_{k−1} + B̄_k u_k,   y_k = Re(C x_k) + D ∘ u_k         (Smith et al. 2023, arXiv 2208.04933, eq. 2)
S6:  x_k = exp(Δ_k A) x_{k−1} + Δ_k u_k B_k,   y_k = C_k x_k + D ∘ u_k        (Gu & Dao, arXiv 2312.00752, Algorithm 2)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssmbook.ssm.zoh import share_of_a_step


def scan(a: Tensor, bu: Tensor, x0: Tensor | None = None, reverse: bool = False) -> Tensor:
    """x_k = a_k x_{k−1} + bu_k, step by step: of any dtype, on any device.

    a [P], [N, 1, P] or [N, L, P]; bu [N, L, P]; x0 [N, P] (None: zeros) → x [N, L, P]. With ``reverse`` it runs from
    the last step to the first.
    """
    a = a.expand_as(bu)
    x = torch.zeros_like(bu[:, 0]) if x0 is None else x0
    steps = range(bu.shape[1])
    states = []
    for k in reversed(steps) if reverse else steps:
        x = a[:, k] * x + bu[:, k]
        states.append(x)
    return torch.stack(states[::-1] if reverse else states, 1)


def s5(
    u: Tensor,
    Lambda: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    log_step: Tensor,
    x0: Tensor | None = None,
    step_scale: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """S5 with the bilinear rule.

    Args:
        u: [N, L, H].
        Lambda, B, C: complex [P], [P, H], [H, P].
        D, log_step: [H], [P].
        x0: complex [N, P]; None: zeros.
        step_scale: a number, or [N, L]; of a selective S5 with its gate as a factor.

    Returns:
        y [N, L, H] and the state after the last step [N, P].
    """
    scale = torch.as_tensor(step_scale, dtype=u.dtype, device=u.device)
    step = scale[..., None] * log_step.exp()  # [P], or [N, L, P]
    Lambda_bar = (1 + step * Lambda / 2) / (1 - step * Lambda / 2)
    Bu = step / (1 - step * Lambda / 2) * (u.to(B.dtype) @ B.T)
    x = scan(Lambda_bar, Bu, x0)
    return (x @ C.T).real + D * u, x[:, -1]


def selective_scan(
    u: Tensor,
    step: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    x0: Tensor | None = None,
    step_scale: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """S6 without D ∘ u: each feature is a system of S real states with an input and an output of its own.

    Args:
        u, step: input and Δ, [N, L, H].
        A: [H, S], real and below 0; A discretised by zoh, B by Euler's rule, Δ_k B_k.
        B, C: [N, L, S], the same for all features.
        x0: [N, H, S]; None: zeros.
        step_scale: a number, [N, 1] or [N, L]: how many times as long as Δ a step is, see `zoh.share_of_a_step`.

    Returns:
        y [N, L, H] and the state after the last step [N, H, S].
    """
    x = u.new_zeros(len(u), *A.shape) if x0 is None else x0
    scales: Sequence[float | Tensor] = [step_scale] * u.shape[1]
    if isinstance(step_scale, Tensor):
        scales = step_scale.to(u).expand(u.shape[:2])[..., None, None].unbind(1)  # each [N, 1, 1]
    outputs = []
    for s, u_k, step_k, B_k, C_k in zip(scales, *(v.unbind(1) for v in (u, step, B, C)), strict=True):
        exponent = step_k[..., None] * A
        new = (step_k * u_k)[..., None] * B_k[:, None]
        if isinstance(s, Tensor) or s != 1:
            new = share_of_a_step(s, -exponent) * new
            exponent = s * exponent
        x = torch.exp(exponent) * x + new
        outputs.append((x * C_k[:, None]).sum(-1))
    return torch.stack(outputs, 1), x

"""Selective S5: S5 whose step depends on its input, so that time passes where something happens.

    Δ_k = step_scale · g(u_k) exp(log_step),   g(u) = 2σ(wᵀu + b)   in (0, 2)

In continuous time dx/dt = g(u) (Λ x + B u): where g is near 0 the state is held, and a change of rate is followed
by step_scale as in S5. A step that depends on the input is the selection of Mamba (arXiv 2312.00752, §3.2), there
with one step for each feature and with B and C from the input too; here it is one number for all modes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ssmbook.ssm.inputs import Arrays
from ssmbook.ssm.layer import Pieces
from ssmbook.ssm.real import RealSelectiveS5
from ssmbook.ssm.s5 import S5


class SelectiveS5(S5):
    """S5 with a gate on its step. It starts as S5: w = 0 and b = 0, so that g = 1.

    Args: those of `S5`. Parameters: those of `S5`, gate_weight w [H] and gate_bias b []. The H2 norm is that at g = 1.
    """

    gate_weight: Tensor
    gate_bias: Tensor

    def __init__(self, width: int, state_width: int, **options: Any) -> None:
        super().__init__(width, state_width, **options)
        self.gate_weight = nn.Parameter(torch.zeros(width))
        self.gate_bias = nn.Parameter(torch.zeros(()))

    def gate(self, u: Tensor) -> Tensor:
        """g of u [..., H] → [...], between 0 (the state is held) and 2."""
        return 2 * torch.sigmoid(u @ self.gate_weight + self.gate_bias)

    def load_published(self, arrays: Arrays) -> None:
        """As `S5.load_published`; the gate stays as it is where the arrays have none."""
        super().load_published({"gate_weight": self.gate_weight, "gate_bias": self.gate_bias, **arrays})

    def real_step(self) -> nn.Module:
        """The step in real arithmetic, see `ssmbook.ssm.real`."""
        return RealSelectiveS5(self)

    def step_flops(self) -> int:
        """S5's; 2 H + 3 for the gate; 13 P additions and multiplications for Λ̄ and Δ̄, anew for each sequence."""
        return super().step_flops() + 2 * self.width + 3 + 13 * self.modes

    def _run(
        self, u: Tensor, x0: Tensor | None, scale: float | Tensor, pieces: Pieces | None = None
    ) -> tuple[Tensor, Tensor]:
        if isinstance(scale, Tensor) and scale.ndim == 1:
            scale = scale[:, None]
        return self._run_varying(u, x0, scale * self.gate(u), pieces)

    _run_pieces = _run

"""A residual layer of a deep sequence model around a state-space layer (Smith et al. 2023, appendix G.1).

z = SSM(LN(x)),   g = GELU(z),   y = x + (W₁ g + b₁) ∘ σ(W₂ g + b₂)
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class SequenceLayer(nn.Module):
    """Norm, state-space layer, gated activation and residual, as in the paper's long-range experiments.

    Args:
        layer: the state-space layer: ``layer(u, state, step_scale) → (y, state)``, a `StateSpaceLayer`.
        width: H, its width.
    """

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.norm = nn.LayerNorm(width)
        self.value = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)

    def forward(
        self, x: Tensor, state: Any = None, step_scale: float | Tensor = 1.0, **pieces: Tensor | None
    ) -> tuple[Tensor, Any]:
        """x [N, L, H] → y [N, L, H] and the layer's state; state, step_scale, lengths and resets as the layer takes
        them."""
        z, state = self.layer(self.norm(x), state, step_scale, **pieces)
        g = F.gelu(z)
        return x + self.value(g) * self.gate(g).sigmoid(), state

"""A residual layer of a deep sequence model around a state-space layer (Smith et al. 2023, appendix G.1).

    z = SSM(LN(x)),    y = x + dropout(act(z))        (pre-norm; else y = LN(x + dropout(act(SSM(x)))))

The activations, with g = dropout(GELU(z)):  gelu: g;   full_glu: W₁g ∘ σ(W₂g);   half_glu1: g ∘ σ(W₂g);
half_glu2: z ∘ σ(W₂g).
"""

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ssmbook.errors import InputError

Activation = Literal["gelu", "full_glu", "half_glu1", "half_glu2"]


class SequenceLayer(nn.Module):
    """Norm, state-space layer, activation, dropout and residual; the state passes through.

    Args:
        layer: the state-space layer: ``layer(u, state, step_scale) → (y, state)``, a `StateSpaceLayer`.
        width: H, its width.
        activation: "full_glu" (as the paper's long-range experiments), "half_glu1", "half_glu2" or "gelu".
        dropout: probability, of whole features over a sequence (the same ones at every step).
        prenorm: normalise before the layer; else after the residual.
    """

    def __init__(
        self,
        layer: nn.Module,
        width: int,
        *,
        activation: Activation = "full_glu",
        dropout: float = 0.0,
        prenorm: bool = True,
    ):
        super().__init__()
        if activation not in ("gelu", "full_glu", "half_glu1", "half_glu2"):
            raise InputError(f"activation must be gelu, full_glu, half_glu1 or half_glu2, not {activation!r}")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be in [0, 1), not {dropout}")
        self.layer, self.activation, self.dropout, self.prenorm = layer, activation, dropout, prenorm
        self.norm = nn.LayerNorm(width)
        if activation == "full_glu":
            self.value = nn.Linear(width, width)
        if activation != "gelu":
            self.gate = nn.Linear(width, width)

    def forward(
        self, x: Tensor, state: Any = None, step_scale: float | Tensor = 1.0, **pieces: Tensor | None
    ) -> tuple[Tensor, Any]:
        """x [N, L, H] → y [N, L, H] and the layer's state; state, step_scale, lengths and resets as the layer takes
        them."""
        z, state = self.layer(self.norm(x) if self.prenorm else x, state, step_scale, **pieces)
        y = x + self._drop(self._activate(z))
        return y if self.prenorm else self.norm(y), state

    def step(self, x: Tensor, state: Any = None, step_scale: float | Tensor = 1.0) -> tuple[Tensor, Any]:
        """One step: x [N, H] → y [N, H] and the next state."""
        y, state = self(x[:, None], state, step_scale)
        return y[:, 0], state

    def _activate(self, z: Tensor) -> Tensor:
        g = self._drop(F.gelu(z))
        if self.activation == "gelu":
            return g
        value = self.value(g) if self.activation == "full_glu" else g if self.activation == "half_glu1" else z
        return value * self.gate(g).sigmoid()

    def _drop(self, x: Tensor) -> Tensor:
        """Dropout of features [N, L, H], one draw for all steps of a sequence."""
        return F.dropout1d(x.transpose(1, 2), self.dropout, self.training).transpose(1, 2)

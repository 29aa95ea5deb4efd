"""Which parameters of a model set its dynamics, for an optimiser that treats them differently.

Weight decay pulls Λ and log Δ towards values that mean nothing in particular, and time scales move with a smaller
learning rate than weights; S4 (arXiv 2111.00396), S5 (arXiv 2208.04933) and Mamba train them in a group of their own.
"""

from typing import Any

from torch import nn

from ssmbook.ssm.layer import StateSpaceLayer


def parameter_groups(model: nn.Module, learning_rate: float | None = None) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: the state-space parameters without weight decay, then all others.

    Args:
        model: a layer, or any network that holds some.
        learning_rate: of the state-space parameters; None leaves it to the optimiser.

    ``torch.optim.AdamW(parameter_groups(model, 1e-3), lr=4e-3, weight_decay=0.05)``. The state-space parameters are
    ``dynamics`` of each layer's class: those of A, B and Δ.
    """
    special = {
        id(layer.get_parameter(name)): layer.get_parameter(name)
        for layer in model.modules()
        if isinstance(layer, StateSpaceLayer)
        for name, _ in layer.named_parameters()
        if name in layer.dynamics
    }
    own: dict[str, Any] = {"params": list(special.values()), "weight_decay": 0.0}
    if learning_rate is not None:
        own["lr"] = learning_rate
    return [own, {"params": [p for p in model.parameters() if id(p) not in special]}]

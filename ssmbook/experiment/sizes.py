"""How large the networks are: parameters, and what one frame costs."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssmbook.detector import PRESETS, Detector
from ssmbook.detector.backbone import STRIDES
from ssmbook.detector.temporal import SSMBlock
from ssmbook.errors import InputError
from ssmbook.ssm import S5

#: The recurrences that are compared, in the order of the tables.
RECURRENCES = ("s5", "convlstm", "none")


def sizes_table(presets: Iterable[str], recurrences: Iterable[str] = RECURRENCES) -> pd.DataFrame:
    """Parameters and GFLOP a frame (batch 1, one step, twice the multiply-adds) of networks.

    Counted by PyTorch's counter, attention as the two products that it is; state-space layers, whose kernels it
    does not see, by their equations. Normalisations and activations do not count, as is usual.

    Returns:
        One row per preset and recurrence: input, parameters, backbone GFLOP, neck and head GFLOP, GFLOP.
    """
    rows = []
    for preset in presets:
        for recurrence in recurrences:
            model = Detector(**{**PRESETS[preset], "recurrence": recurrence}).eval()
            height, width = model.input_hw
            backbone, rest = (count / 1e9 for count in frame_flops(model))
            rows.append(
                {
                    "preset": preset,
                    "recurrence": recurrence,
                    "input": f"{height} × {width}",
                    "parameters": sum(parameter.numel() for parameter in model.parameters()),
                    "backbone GFLOP": backbone,
                    "neck and head GFLOP": rest,
                    "GFLOP": backbone + rest,
                }
            )
    return pd.DataFrame(rows)


@torch.no_grad()
def frame_flops(model: Detector) -> tuple[int, int]:
    """Floating-point operations of one frame: in the backbone, and in neck and head.

    Counted on the meta device, where nothing is computed.
    """
    model = copy.deepcopy(model)
    extra = 0
    for i, stage in enumerate(model.backbone.stages):
        pixels = (model.input_hw[0] // STRIDES[i]) * (model.input_hw[1] // STRIDES[i])
        if isinstance(block := stage.recurrence, SSMBlock):
            extra += pixels * layer_flops(block.layer)
            block.layer = _Free()
    model.to("meta")
    x = torch.zeros(1, 1, model.in_channels, *model.input_hw, dtype=torch.uint8, device="meta")
    counts = []
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            features, _ = model.features(x)
        counts.append(counter.get_total_flops() + extra)
        with FlopCounterMode(display=False) as counter:
            model.predict(features)
        counts.append(counter.get_total_flops())
    return counts[0], counts[1]


def layer_flops(layer: nn.Module) -> int:
    """Operations of a state-space layer in one step of one sequence, from its equations.

    S5 with H features and P complex modes: x = Λ̄ x + B̄ u takes 8 P + 4 P H (a complex product and sum for each
    mode, a real input for each of B̄'s 2 P real rows), and y = Re(C x) + D ∘ u takes 4 P H + 2 H.
    """
    if isinstance(layer, S5):
        H, P = layer.width, layer.modes
        return 8 * P + 8 * P * H + 2 * H
    raise InputError(f"the operations of a {type(layer).__name__} are not known")


class _Free(nn.Module):
    """In place of a layer that is counted otherwise."""

    def forward(self, u: torch.Tensor, state: Any, step_scale: Any) -> tuple[torch.Tensor, Any]:
        return u, state

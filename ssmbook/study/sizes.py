"""How large the networks are: parameters, and what one frame costs."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, cast

import pandas as pd
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssmbook.detector import PRESETS, RECURRENCES, Detector
from ssmbook.detector.backbone import MULTIPLIERS, STRIDES
from ssmbook.detector.recurrences import NoRecurrence, SSMBlock
from ssmbook.errors import InputError
from ssmbook.ssm import S4, S4D, S5, SelectiveS5
from ssmbook.ssm.s4 import S4DPLR
from ssmbook.study.profiles import training_for


def sizes_table(presets: Iterable[str], recurrences: Iterable[str] = RECURRENCES) -> pd.DataFrame:
    """Hyper-parameters, parameters and GFLOP a frame (batch 1, one step, twice the multiply-adds) of networks.

    Counted by PyTorch's counter, attention as the two products that it is; state-space layers, whose kernels it
    does not see, by their equations. Normalisations and activations do not count, as is usual.

    Returns:
        One row per preset and recurrence: the network's sizes, how the profiles train it (L windows of a chunk,
        chunks of a batch, learning rate), parameters, backbone GFLOP, neck and head GFLOP, GFLOP.
    """
    rows = []
    for preset in presets:
        training = training_for(preset)
        # All but the recurrence is the same in every row of a preset, and takes longest to count.
        shared, rest = _flops_without_recurrence(Detector(**{**PRESETS[preset], "recurrence": "none"}))
        for recurrence in recurrences:
            model = Detector(**{**PRESETS[preset], "recurrence": recurrence}).eval()
            backbone = shared + _recurrence_flops(model)
            rows.append(
                {
                    "preset": preset,
                    "recurrence": recurrence,
                    "input": " × ".join(map(str, model.input_hw)),
                    "partition": " × ".join(map(str, model.config["partition"])),
                    **{name: model.config[name] for name in ("embed_dim", "dim_head", "fpn_depth")},
                    "L": training.sequence_length,
                    "batch": training.batch_size,
                    "learning_rate": training.learning_rate,
                    "parameters": sum(parameter.numel() for parameter in model.parameters()),
                    "backbone GFLOP": backbone / 1e9,
                    "neck and head GFLOP": rest / 1e9,
                    "GFLOP": (backbone + rest) / 1e9,
                }
            )
    return pd.DataFrame(rows)


def frame_flops(model: Detector) -> tuple[int, int]:
    """Floating-point operations of one frame: in the backbone, and in neck and head."""
    backbone, rest = _flops_without_recurrence(model)
    return backbone + _recurrence_flops(model), rest


@torch.no_grad()
def _flops_without_recurrence(model: Detector) -> tuple[int, int]:
    """Counted on the meta device, where nothing is computed."""
    model = copy.deepcopy(model)
    for stage in model.backbone.stages:
        stage.recurrence = NoRecurrence()
    model.to("meta")
    x = torch.zeros(1, 1, model.in_channels, *model.input_hw, dtype=torch.uint8, device="meta")
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as backbone:
            features, _ = model.features(x)
        with FlopCounterMode(display=False) as rest:
            model.predict(features)
    return backbone.get_total_flops(), rest.get_total_flops()


@torch.no_grad()
def _recurrence_flops(model: Detector) -> int:
    """One step at every pixel of all stages."""
    total = 0
    blocks = [cast("nn.Module", stage.recurrence) for stage in model.backbone.stages]
    for block, stride, multiplier in zip(copy.deepcopy(blocks), STRIDES, MULTIPLIERS, strict=True):
        u = torch.zeros(1, 1, model.config["embed_dim"] * multiplier, device="meta")
        step = 0
        if isinstance(block, SSMBlock):
            step += layer_flops(block.layer)
            block.layer = _Free()
        with FlopCounterMode(display=False) as counter:
            block.to("meta")(u)
        height, width = (size // stride for size in model.input_hw)
        total += height * width * (step + counter.get_total_flops())
    return total


def layer_flops(layer: nn.Module) -> int:
    """Operations of a state-space layer in one step of one sequence, from its equations.

    S5 with H features and P complex modes: x = Λ̄ x + B̄ u takes 8 P + 4 P H (a complex product and sum for each
    mode, a real input for each of B̄'s 2 P real rows), and y = Re(C x) + D ∘ u takes 4 P H + 2 H.
    Selective S5: the gate takes 2 H + 3, and Λ̄ and Δ̄, anew at every pixel, 13 P additions and multiplications.

    S4D and S4 with M modes for each of H features: x = Ā x + B̄ u takes 10 H M, S4's rank-one term 10 H M more (see
    `ssmbook.live.export.RealS4DPLR`), y = 2 Re(C x) + D ∘ u takes 4 H M + 2 H, and the output layer H → 2H 4 H².
    """
    if isinstance(layer, SelectiveS5):
        H, P = layer.width, layer.modes
        return 21 * P + 8 * P * H + 4 * H + 3
    if isinstance(layer, S5):
        H, P = layer.width, layer.modes
        return 8 * P + 8 * P * H + 2 * H
    if isinstance(layer, S4D | S4):
        H, M = layer.state_shape
        return (24 if isinstance(layer.kernel, S4DPLR) else 14) * H * M + 2 * H + 4 * H * H
    raise InputError(f"the operations of a {type(layer).__name__} are not known")


class _Free(nn.Module):
    """In place of a layer that is counted otherwise."""

    def forward(self, u: torch.Tensor, state: Any, step_scale: Any) -> tuple[torch.Tensor, Any]:
        return u, state

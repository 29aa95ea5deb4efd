"""How large the networks are: parameters, and what one frame costs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import nullcontext
from functools import cache
from typing import Any, cast

import pandas as pd
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ssmbook.detector import PRESETS, RECURRENCES, Detector
from ssmbook.detector.config import STRIDES
from ssmbook.detector.recurrences import Recurrence
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
        for recurrence in recurrences:
            config: dict[str, Any] = {**PRESETS[preset], "recurrence": recurrence}
            # Ours need no weights to be counted; a recurrence of one's own may read those that it makes.
            with torch.device("meta") if recurrence in RECURRENCES else nullcontext():
                model = Detector(**config)
            backbone, rest = frame_flops(model)
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
    backbone, rest = _flops_without_recurrence(**{name: model.config[name] for name in SIZES})
    return backbone + _recurrence_flops(model), rest


SIZES = ("embed_dim", "dim_head", "fpn_depth", "num_classes", "input_hw", "partition", "in_channels")


@cache  # the same for all recurrences, and takes longest to count
@torch.no_grad()
def _flops_without_recurrence(**sizes: Any) -> tuple[int, int]:
    """Counted on the meta device, where nothing is computed."""
    with torch.device("meta"):
        model = Detector(**sizes, recurrence="none")
        x = torch.zeros(1, 1, model.in_channels, *model.input_hw, dtype=torch.uint8)
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as backbone:
            features, _ = model.features(x)
        with FlopCounterMode(display=False) as rest:
            model.predict(features)
    return backbone.get_total_flops(), rest.get_total_flops()


def _recurrence_flops(model: Detector) -> int:
    """One step at every pixel of all stages."""
    pixels = [math.prod(size // stride for size in model.input_hw) for stride in STRIDES]
    blocks = [cast("Recurrence", stage.recurrence) for stage in model.backbone.stages]
    return sum(n * block.step_flops() for n, block in zip(pixels, blocks, strict=True))

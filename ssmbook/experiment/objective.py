"""What a training minimises and by which rule: losses of chunks, AdamW, the one-cycle schedule, precision."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssmbook.detector import Detector, detach_states
from ssmbook.detector.backbone import STRIDES
from ssmbook.errors import InputError
from ssmbook.experiment.presets import Training

#: What products are computed in. fp32 is without TF32, as the published figures are.
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a model computes with that precision."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; it can be {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


class TrainingStep(nn.Module):
    """Chunks in, losses and the states after them out; a module, so that DDP can wrap it.

    Args:
        model: the detector.
        precision: a name of ``PRECISIONS``; weights stay float32.
        mask_ratio: the share of each frame's tokens that are masked, drawn from PyTorch's generator for the CPU;
            above 0 the model needs its ``mask_token``.
    """

    def __init__(self, model: Detector, precision: str = "fp32", mask_ratio: float = 0.0) -> None:
        super().__init__()
        self.model, self.precision, self.mask_ratio = model, precision, mask_ratio

    def forward(
        self, x: Tensor, frames: Tensor, targets: Tensor, states: Any = None
    ) -> tuple[dict[str, Tensor], Any]:
        """x [L, B, C, H, W], frames [M, 2], targets [M, G, 5], the states [B, …] that the chunks begin with."""
        with autocast(x.device, self.precision):
            mask = self._token_mask(x) if self.training else None
            features, states = self.model.features(x, states, token_mask=mask, frames=frames)
            losses = self.model.loss(features, targets, self._count)
        return losses, detach_states(states)

    def _token_mask(self, x: Tensor) -> Tensor | None:
        """Bool [L, B, h/4, w/4] with the same number of masked tokens in every frame; None masks nothing."""
        if not self.mask_ratio:
            return None
        height, width = (size // STRIDES[0] for size in self.model.input_hw)
        order = torch.rand(*x.shape[:2], height * width).argsort(
            -1
        )  # on the CPU: one generator to keep, see Fit
        mask = order < round(self.mask_ratio * height * width)
        return mask.unflatten(-1, (height, width)).to(x.device)

    def _count(self, foreground: int) -> float | Tensor:
        """Foreground anchors of all processes, at least 1, per process.

        DDP averages gradients over W processes: (1/W) Σ_r s_r / (n/W) = Σ_r s_r / n, with s_r the sum of
        process r's losses and n all foreground anchors: what one process gives with the whole batch.
        """
        if not dist.is_initialized():
            return max(1, foreground)
        total = torch.tensor(float(foreground), device=self.model.anchors.device)
        dist.all_reduce(total)
        return total.clamp(min=1) / dist.get_world_size()


def learning_rate_for(batch_size: int, base: float = 2e-4) -> float:
    """The rule for another batch: base · √(b / 8), where b chunks make one optimiser step in all."""
    return base * (batch_size / 8) ** 0.5


def optimizer_and_schedule(
    model: nn.Module, training: Training
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    """AdamW, and one cycle: linear up over ``warmup`` of the steps from 1/20 of the learning rate, linear down to
    1/200,000 of it."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=training.learning_rate,
        total_steps=training.steps,
        pct_start=training.warmup,
        div_factor=20,
        final_div_factor=1e4,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    return optimizer, schedule


def exact_float32() -> None:
    """Products in full float32 on any GPU: no TF32 in matrix products or convolutions (for the process)."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False

"""What a training run minimises and by which rule: losses of chunks, AdamW, the one-cycle schedule, precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from ssmbook.detector import Detector, detach_states
from ssmbook.detector.config import STRIDES
from ssmbook.detector.precision import autocast
from ssmbook.detector.recurrences import Recurrence
from ssmbook.errors import InputError
from ssmbook.lazy import Registry
from ssmbook.training.settings import Training


class TrainingStep(nn.Module):
    """Chunks in, losses and the states after them out; a module, so that DDP can wrap it.

    Args:
        model: the detector.
        training: of it count precision (weights stay float32); checkpointing; freeze, the part that keeps its
            weights and buffers; mask_ratio, the share of each frame's tokens that are masked, drawn from PyTorch's
            generator for the CPU, for which the model needs its ``mask_token``; and the weights of further terms of
            the loss, terms and h2_weight, see ``TERMS``.

    Raises:
        InputError: an unknown term; an H2 norm's weight below 0, or one for a model whose recurrences have no such
            norm, or without bandlimit.
    """

    def __init__(self, model: Detector, training: Training) -> None:
        super().__init__()
        self.model, self.precision = model, training.precision
        if training.checkpointing:
            model.backbone.checkpoint_blocks()
        self.frozen: list[nn.Module] = [getattr(model, training.freeze)] if training.freeze else []
        for part in self.frozen:
            part.requires_grad_(False)
        self.mask_ratio, self.terms = training.mask_ratio, dict(training.terms)
        if training.h2_weight:
            self.terms["h2_norm"] = training.h2_weight
        if "h2_norm" in self.terms:
            check_h2(model, self.terms["h2_norm"])
        for name in self.terms:
            TERMS.find(name)

    def train(self, mode: bool = True) -> TrainingStep:
        """Frozen parts stay in eval mode, so that no BatchNorm in them moves its statistics."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(
        self,
        x: Tensor,
        frames: Tensor,
        targets: Tensor,
        states: Any = None,
        step_scale: float | Tensor = 1.0,
    ) -> tuple[dict[str, Tensor], Any]:
        """x [L, B, C, H, W], frames [M, 2], targets [M, G, 5], the states [B, …] that the chunks begin with;
        step_scale as in ``Detector.features``."""
        with autocast(x.device, self.precision):
            mask = self._token_mask(x) if self.training else None
            features, states = self.model.features(x, states, step_scale, token_mask=mask, frames=frames)
            losses = self.model.loss(features, targets, self._count)
        for name, weight in self.terms.items():
            losses[name] = TERMS[name](self.model, features, targets).to(losses["loss"])
            losses["loss"] = losses["loss"] + weight * losses[name]
        return losses, detach_states(states)

    def _token_mask(self, x: Tensor) -> Tensor | None:
        """Bool [L, B, h/4, w/4] with the same number of masked tokens in every frame; None masks nothing."""
        if not self.mask_ratio:
            return None
        height, width = (size // STRIDES[0] for size in self.model.input_hw)
        # Drawn on the CPU: its generator is kept in every state to go on from.
        order = torch.rand(*x.shape[:2], height * width).argsort(-1)
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


def recurrences(model: Detector) -> list[Recurrence]:
    """The recurrences of a model's stages."""
    return [stage.recurrence for stage in model.backbone.stages]  # type: ignore[misc]


def check_h2(model: Detector, weight: float) -> None:
    """An InputError for a weight of an H2 norm that a model has not, or below 0."""
    limited = model.config.get("bandlimit") is not None
    if weight < 0 or not limited or not all(r.has_h2_norm for r in recurrences(model)):
        raise InputError(
            f"h2_weight is {weight}; it must be at least 0, and 0 for a model without bandlimit or whose "
            f"recurrence ({model.config['recurrence']}) has no H2 norm"
        )


def h2_norm(model: Detector, features: dict[int, Tensor], targets: Tensor) -> Tensor:
    """The sum of the recurrences' H2 norms above ω_min = πα, α the model's bandlimit: the second remedy of
    arXiv 2402.15584 against aliasing."""
    omega_min = math.pi * model.config["bandlimit"]
    return torch.stack([r.h2_norm(omega_min) for r in recurrences(model)]).sum()


#: Terms that a run may add to the detector's loss, by name: functions of the model, the labelled frames' features
#: {stage: [M, C, h, w]} and the targets [M, G, 5]. ``Training.terms`` gives their weights, ``h2_weight`` that of the
#: first.
TERMS: Registry[Callable[[Detector, dict[int, Tensor], Tensor], Tensor]] = Registry(
    "loss term", "ssmbook.training", {"h2_norm": "objective:h2_norm"}
)


def learning_rate_for(batch_size: int, base: float = 2e-4) -> float:
    """The rule for another batch: base · √(b / 8), where b chunks make one optimiser step in all."""
    return base * (batch_size / 8) ** 0.5


def optimizer_and_schedule(model: nn.Module, training: Training) -> tuple[torch.optim.AdamW, OneCycleLR]:
    """AdamW over the parameters that are trained, and one cycle: linear up over ``warmup`` of the steps from 1/20 of
    the learning rate, linear down to 1/200,000 of it."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    return optimizer, schedule_at(optimizer, training)


def schedule_at(optimizer: torch.optim.Optimizer, training: Training, step: int = 0) -> OneCycleLR:
    """The cycle of a run after some steps, whatever the optimiser's learning rate was before."""
    # One step of warm-up is none; PyTorch would divide by its length of 0.
    one_step = training.warmup * training.steps == 1
    warmup = math.nextafter(training.warmup, 0) if one_step else training.warmup
    schedule = OneCycleLR(
        optimizer,
        max_lr=training.learning_rate,
        total_steps=training.steps,
        pct_start=warmup,
        div_factor=20,
        final_div_factor=1e4,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    if step:  # the rate depends on the count alone
        schedule._step_count, schedule.last_epoch = step + 1, step - 1
        schedule.step()
    return schedule

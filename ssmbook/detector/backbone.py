"""The backbone: four stages, each a downsampling, attention, and a recurrence over time.

Source: RVT (arXiv 2212.05598), figure 3; S5-ViT (arXiv 2402.15584) puts a state-space block in the place of
the LSTM. Widths are embed_dim · (1, 2, 4, 8), strides 4, 8, 16, 32.
"""

from collections.abc import Mapping
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from ssmbook.detector.attention import AttentionBlock, recomputed
from ssmbook.detector.config import DetectorConfig
from ssmbook.detector.recurrences import make_recurrence, over_pixels

MULTIPLIERS = (1, 2, 4, 8)  # their widths in units of embed_dim
PART = 1 << 20  # about so many numbers of a map go through a checkpointed stage at once


class Stage(nn.Module):
    """One stage: overlapping convolution of stride s (kernel 2s − 1, padding s − 1), LayerNorm, window
    attention, grid attention, recurrence.

    Args:
        in_channels, channels: widths of input and output.
        stride: s.
        dim_head, partition: of the attention.
        recurrence, options: see ``make_recurrence``.
        mask_token: whether masked positions are replaced by a learnt vector after the LayerNorm.
        checkpointing: for the gradients, keep what enters the stage and its recurrence only, and run the rest
            again, a few frames at a time.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        dim_head: int,
        partition: tuple[int, int],
        recurrence: str,
        options: Mapping[str, Any],
        mask_token: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.downsample = nn.Conv2d(in_channels, channels, 2 * stride - 1, stride, stride - 1, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.mask_token = nn.Parameter(torch.zeros(channels)) if mask_token else None
        self.window = AttentionBlock(channels, dim_head, partition, "window")
        self.grid = AttentionBlock(channels, dim_head, partition, "grid")
        self.recurrence = make_recurrence(recurrence, channels, **options)

    def forward(
        self, x: Tensor, B: int, state: Any, step_scale: float | Tensor, token_mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """x [L·B, C_in, H, W] → tokens [L, B, H/s, W/s, C], and the state after the last step."""
        if self.checkpointing and torch.is_grad_enabled():
            tokens = self._part_by_part(x, token_mask).unflatten(0, (-1, B))
            return recomputed(over_pixels, self.recurrence, tokens, state, step_scale)
        tokens = self._frames(x, token_mask).unflatten(0, (-1, B))
        return over_pixels(self.recurrence, tokens, state, step_scale)

    def _frames(self, x: Tensor, token_mask: Tensor | None) -> Tensor:
        """What acts on each frame by itself: x [N, C_in, H, W] → tokens [N, H/s, W/s, C]."""
        tokens = self.norm(self.downsample(x).permute(0, 2, 3, 1))
        if token_mask is not None and self.mask_token is not None:
            tokens = torch.where(token_mask[..., None], self.mask_token, tokens)
        return self.grid(self.window(tokens))

    def _part_by_part(self, x: Tensor, token_mask: Tensor | None) -> Tensor:
        """``_frames``, of which little is in memory at any time."""
        numbers = self.norm.weight.numel() * x[0, 0].numel() // self.downsample.stride[0] ** 2  # of a frame
        parts = x.split(max(1, PART // numbers))
        masks = repeat(None) if token_mask is None else token_mask.split(len(parts[0]))
        return torch.cat([recomputed(self._frames, *part) for part in zip(parts, masks, strict=False)])


class Backbone(nn.Module):
    """Frames in, feature maps of four strides out, a state per stage carried along.

    Args:
        config: of the detector.
        checkpointing: see ``Stage``.
    """

    def __init__(self, config: DetectorConfig, checkpointing: bool = False) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        in_channels = config.in_channels
        for i, multiplier in enumerate(MULTIPLIERS):
            channels = config.embed_dim * multiplier
            stage = Stage(
                in_channels,
                channels,
                stride=4 if i == 0 else 2,
                dim_head=config.dim_head,
                partition=config.partition,
                recurrence=config.recurrence,
                options=config.options,
                mask_token=config.mask_token and i == 0,
                checkpointing=checkpointing,
            )
            self.stages.append(stage)
            in_channels = channels

    def checkpoint_blocks(self) -> None:
        """From now on compute the stages again for their gradients, see ``Stage``."""
        for stage in self.stages:
            stage.checkpointing = True  # type: ignore[assignment]

    def forward(
        self,
        x: Tensor,
        B: int,
        states: list[Any] | None = None,
        step_scale: float | Tensor = 1.0,
        token_mask: Tensor | None = None,
    ) -> tuple[dict[int, Tensor], list[Any]]:
        """x [L·B, C, H, W], token_mask [L, B, H/4, W/4] → tokens {1..4: [L, B, h, w, C]} and four states."""
        mask = None if token_mask is None else token_mask.flatten(0, 1)
        features, new_states = {}, []
        for i, stage in enumerate(self.stages):
            tokens, state = stage(x, B, states[i] if states else None, step_scale, mask if i == 0 else None)
            features[i + 1] = tokens
            new_states.append(state)
            x = tokens.flatten(0, 1).permute(0, 3, 1, 2)  # [L·B, C, h, w], channels last in memory
        return features, new_states

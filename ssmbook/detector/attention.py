"""Window and grid attention: a linear cost in the pixels, local and global by turns.

Source: MaxViT (arXiv 2204.01697), multi-axis attention, as RVT (arXiv 2212.05598) uses it:

    x ← x + γ₁ · Attn(n₁(x)),    x ← x + γ₂ · MLP(n₂(x)).

Tokens are channels last, [N, H, W, C]. A partition cuts them into groups of p_h · p_w tokens that attend to
each other only; everything else in the block acts on single tokens.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssmbook.products import Linear, linear

GAMMA = 1e-5  # γ at the start: a block begins near the identity


def window_partition(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Contiguous p_h × p_w tiles: [N, H, W, C] → [N·groups, p_h·p_w, C]."""
    return rearrange(x, "n (gh ph) (gw pw) c -> (n gh gw) (ph pw) c", ph=size[0], pw=size[1])


def window_merge(groups: Tensor, size: tuple[int, int], hw: tuple[int, int]) -> Tensor:
    """The inverse of ``window_partition`` for an image of hw = (H, W) tokens."""
    gh, gw = hw[0] // size[0], hw[1] // size[1]
    return rearrange(groups, "(n gh gw) (ph pw) c -> n (gh ph) (gw pw) c", gh=gh, gw=gw, ph=size[0])


def grid_partition(x: Tensor, size: tuple[int, int]) -> Tensor:
    """p_h × p_w tokens that lie H/p_h rows and W/p_w columns apart: [N, H, W, C] → [N·groups, p_h·p_w, C]."""
    return rearrange(x, "n (ph gh) (pw gw) c -> (n gh gw) (ph pw) c", ph=size[0], pw=size[1])


def grid_merge(groups: Tensor, size: tuple[int, int], hw: tuple[int, int]) -> Tensor:
    """The inverse of ``grid_partition`` for an image of hw = (H, W) tokens."""
    gh, gw = hw[0] // size[0], hw[1] // size[1]
    return rearrange(groups, "(n gh gw) (ph pw) c -> n (ph gh) (pw gw) c", gh=gh, gw=gw, ph=size[0])


PARTITIONS = {"window": (window_partition, window_merge), "grid": (grid_partition, grid_merge)}


class SelfAttention(nn.Module):
    """softmax(q kᵀ / √d) v within each group, [groups, T, C] → [groups, T, C], with C / dim_head heads.

    The C → 3C layer's output is ordered head by head and within a head q, k, v.
    """

    def __init__(self, channels: int, dim_head: int) -> None:
        super().__init__()
        self.dim_head = dim_head
        self.qkv = Linear(channels, 3 * channels)
        self.out = Linear(channels, channels)

    def forward(self, x: Tensor, gamma: Tensor | None = None) -> Tensor:
        """x [groups, T, C] → [groups, T, C], times gamma [C] where it is given."""
        q, k, v = self._project(x)  # each [groups, heads, T, d]
        y = F.scaled_dot_product_attention(q, k, v)
        return scaled_linear(self.out, y.transpose(1, 2).flatten(2), gamma)

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        d = self.dim_head
        if not torch.is_grad_enabled():
            return self.qkv(x).unflatten(-1, (-1, 3 * d)).transpose(1, 2).chunk(3, -1)
        # The order q of all heads, k, v lets the three gradients be laid side by side without another copy.
        weight, bias = (
            p.unflatten(0, (-1, 3, d)).transpose(0, 1).flatten(0, 2) for p in (self.qkv.weight, self.qkv.bias)
        )
        qkv = linear(x, weight, bias).unflatten(-1, (3, -1, d))  # [groups, T, 3, heads, d]
        return tuple(part.transpose(1, 2) for part in qkv.unbind(2))


def scaled_linear(layer: nn.Linear, x: Tensor, gamma: Tensor | None) -> Tensor:
    """γ ∘ layer(x) as (γ ∘ W) x + γ ∘ b: the scale costs a pass over the weights, not one over the tokens."""
    if gamma is None:
        return layer(x)
    return linear(x, gamma[:, None] * layer.weight, gamma * layer.bias)


def add_to(change: Tensor, x: Tensor) -> Tensor:
    """x + change, into the memory of ``change``, which nobody else needs; x keeps its precision."""
    return change.add_(x) if change.dtype == x.dtype else x + change


def recomputed(function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments), of which the gradients need the arguments alone: what lies between is computed again
    when they come."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


class AttentionBlock(nn.Module):
    """Attention within a partition, then the MLP: [N, H, W, C] → [N, H, W, C].

    Args:
        channels: C, a multiple of ``dim_head``.
        dim_head: width d of a head.
        partition: (p_h, p_w), tokens of a group; they divide H and W.
        kind: ``"window"`` (whose input is normalised already, so n₁ is the identity) or ``"grid"``.
    """

    def __init__(self, channels: int, dim_head: int, partition: tuple[int, int], kind: str) -> None:
        super().__init__()
        self.partition, self.kind = partition, kind
        self.norm1 = nn.Identity() if kind == "window" else nn.LayerNorm(channels)
        self.attention = SelfAttention(channels, dim_head)
        self.gamma1: nn.Parameter | None = nn.Parameter(torch.full((channels,), GAMMA))
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(Linear(channels, 4 * channels), nn.GELU(), Linear(4 * channels, channels))
        self.gamma2: nn.Parameter | None = nn.Parameter(torch.full((channels,), GAMMA))

    def forward(self, x: Tensor) -> Tensor:
        split, merge = PARTITIONS[self.kind]
        groups = split(x, self.partition)  # [N·groups, T, C]; all that follows acts within a group or a token
        groups = add_to(self.attention(self.norm1(groups), self.gamma1), groups)
        groups = add_to(recomputed(self._change_by_mlp, groups), groups)
        return merge(groups, self.partition, (x.shape[1], x.shape[2]))

    def _change_by_mlp(self, groups: Tensor) -> Tensor:
        enlarge, activation, reduce = self._mlp()
        return scaled_linear(reduce, activation(enlarge(self.norm2(groups))), self.gamma2)

    def _mlp(self) -> tuple[nn.Linear, nn.GELU, nn.Linear]:
        return cast("tuple[nn.Linear, nn.GELU, nn.Linear]", tuple(self.mlp))

    @torch.no_grad()
    def fold_gamma(self) -> None:
        """Make γ₁ and γ₂ part of the layers before them, for a block that is only run."""
        for layer, gamma in ((self.attention.out, self.gamma1), (self._mlp()[2], self.gamma2)):
            if gamma is not None:
                layer.weight.mul_(gamma[:, None])
                layer.bias.mul_(gamma)
        self.gamma1 = self.gamma2 = None

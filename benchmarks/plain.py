"""The detector as its equations read, and nothing cleverer: the oracle of the fast one, and the baseline of its speed.

Complex tensors in S5 and a scan of logarithmic depth, softmax written out, partitions by einops, maps contiguous and
channels first for every convolution, an assignment that goes image by image and box by box. Parameters have the names
of `ssmbook.detector.Detector`, so that `plain_like(model)` takes over its weights.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

STRIDES = (8, 16, 32)  # of the maps that the head sees
WINDOW = "n (gh ph) (gw pw) c -> (n gh gw) (ph pw) c"
GRID = "n (ph gh) (pw gw) c -> (n gh gw) (ph pw) c"


class Attention(nn.Module):
    """softmax(q kᵀ / √d) v, heads in the order q, k, v within a head."""

    def __init__(self, channels: int, dim_head: int) -> None:
        super().__init__()
        self.dim_head = dim_head
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "g t (m d) -> g m t d", d=3 * self.dim_head).chunk(3, -1)
        weights = (q @ k.transpose(-1, -2) * self.dim_head**-0.5).softmax(-1)
        return self.out(rearrange(weights @ v, "g m t d -> g t (m d)"))


class Block(nn.Module):
    """x ← x + γ₁ Attn(n₁(x)), x ← x + γ₂ MLP(n₂(x))."""

    def __init__(self, channels: int, dim_head: int, partition: tuple[int, int], pattern: str) -> None:
        super().__init__()
        self.partition, self.pattern = partition, pattern
        self.norm1 = nn.Identity() if pattern == WINDOW else nn.LayerNorm(channels)
        self.attention = Attention(channels, dim_head)
        self.gamma1 = nn.Parameter(torch.empty(channels))
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.gamma2 = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        n, (ph, pw) = len(x), self.partition
        gh, gw = x.shape[1] // ph, x.shape[2] // pw
        groups = rearrange(self.norm1(x), self.pattern, ph=ph, pw=pw)
        back = " -> ".join(reversed(self.pattern.split(" -> ")))
        y = rearrange(self.attention(groups), back, n=n, gh=gh, gw=gw, ph=ph, pw=pw)
        x = x + y * self.gamma1
        return x + self.mlp(self.norm2(x)) * self.gamma2


class S5(nn.Module):
    """x_k = Λ̄ x_{k−1} + B̄ u_k, y_k = Re(C x_k) + D ∘ u_k, bilinear, as many modes as features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        shapes = {"Lambda": (width, 2), "B": (width, width, 2), "C": (width, width, 2)}
        for name, shape in {**shapes, "D": (width,), "log_step": (width,)}.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))

    def forward(self, u: Tensor, state: Tensor | None, step_scale: float) -> tuple[Tensor, Tensor]:
        Lambda, B, C = (torch.view_as_complex(p) for p in (self.Lambda, self.B, self.C))
        step = step_scale * self.log_step.exp()
        half = step * Lambda / 2
        Lambda_bar, B_bar = (1 + half) / (1 - half), (step / (1 - half))[:, None] * B
        Bu = u.to(B.dtype) @ B_bar.T  # [N, L, P]
        if state is not None:
            Bu = torch.cat([Bu[:, :1] + (Lambda_bar * state)[:, None], Bu[:, 1:]], 1)
        x = scan(Lambda_bar, Bu)
        return (x @ C.T).real + self.D * u, x[:, -1]


def scan(a: Tensor, b: Tensor) -> Tensor:
    """x_k = a x_{k−1} + b_k in log₂ L rounds: after the one of distance d, x_k sums its last 2d terms."""
    distance, x = 1, b
    while distance < b.shape[1]:
        x = torch.cat([x[:, :distance], x[:, distance:] + a * x[:, :-distance]], 1)
        distance, a = 2 * distance, a * a
    return x


class Recurrence(nn.Module):
    """a = LN₁(x), z = GELU(S5(a)) + a, b = LN₂(z), out = W_dec GEGLU(W_enc b) + b."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.layer = S5(channels)
        self.encode = nn.Linear(channels, 2 * channels, bias=False)
        self.decode = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, state: Tensor | None, step_scale: float) -> tuple[Tensor, Tensor]:
        a = self.norm1(x)
        y, state = self.layer(a, state, step_scale)
        b = self.norm2(F.gelu(y) + a)
        value, gate = self.encode(b).chunk(2, -1)
        return self.decode(value * F.gelu(gate)) + b, state


class Stage(nn.Module):
    """Convolution, LayerNorm, window attention, grid attention, S5 at every pixel."""

    def __init__(
        self, inputs: int, channels: int, stride: int, dim_head: int, partition: tuple[int, int]
    ) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(inputs, channels, 2 * stride - 1, stride, stride - 1, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.window = Block(channels, dim_head, partition, WINDOW)
        self.grid = Block(channels, dim_head, partition, GRID)
        self.recurrence = Recurrence(channels)

    def forward(self, x: Tensor, B: int, state: Tensor | None, step_scale: float) -> tuple[Tensor, Tensor]:
        """x [L·B, C, H, W] → [L·B, C', H/s, W/s]; the state is [B, P, H/s, W/s]."""
        x = self.norm(rearrange(self.downsample(x), "n c h w -> n h w c"))
        x = self.grid(self.window(x))
        h, w = x.shape[1:3]
        if state is not None:
            state = rearrange(state, "b p h w -> (b h w) p")
        u = rearrange(x, "(l b) h w c -> (b h w) l c", b=B)
        y, state = self.recurrence(u, state, step_scale)
        y = rearrange(y, "(b h w) l c -> (l b) c h w", b=B, h=h, w=w).contiguous()
        return y, rearrange(state, "(b h w) p -> b p h w", b=B, h=h, w=w)


class Backbone(nn.Module):
    def __init__(self, inputs: int, embed_dim: int, dim_head: int, partition: tuple[int, int]) -> None:
        super().__init__()
        widths = [inputs, *(embed_dim * m for m in (1, 2, 4, 8))]
        self.stages = nn.ModuleList(
            Stage(widths[i], widths[i + 1], 2 if i else 4, dim_head, partition) for i in range(4)
        )


class Conv(nn.Sequential):
    """Convolution without bias, BatchNorm, SiLU."""

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, (kernel - 1) // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.activation = nn.SiLU()


class CSP(nn.Module):
    """Two 1 × 1 convolutions to half the width, one through bottlenecks; joined by a third."""

    def __init__(self, inputs: int, channels: int, bottlenecks: int) -> None:
        super().__init__()
        half = channels // 2
        self.deep, self.shallow, self.join = (
            Conv(inputs, half, 1),
            Conv(inputs, half, 1),
            Conv(2 * half, channels, 1),
        )
        self.bottlenecks = nn.Sequential(
            *(nn.Sequential(Conv(half, half, 1), Conv(half, half, 3)) for _ in range(bottlenecks))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([self.bottlenecks(self.deep(x)), self.shallow(x)], 1))


class Neck(nn.Module):
    """Top down, then bottom up."""

    def __init__(self, c2: int, c3: int, c4: int, n: int) -> None:
        super().__init__()
        self.reduce4, self.down3 = Conv(c4, c3, 1), CSP(2 * c3, c3, n)
        self.reduce3, self.down2 = Conv(c3, c2, 1), CSP(2 * c2, c2, n)
        self.stride2, self.up3 = Conv(c2, c2, 3, 2), CSP(2 * c2, c3, n)
        self.stride3, self.up4 = Conv(c3, c3, 3, 2), CSP(2 * c3, c4, n)

    def forward(self, x2: Tensor, x3: Tensor, x4: Tensor) -> list[Tensor]:
        def up(x: Tensor) -> Tensor:
            return F.interpolate(x, scale_factor=2, mode="nearest-exact")

        f4 = self.reduce4(x4)
        p3 = self.down3(torch.cat([up(f4), x3], 1))
        f3 = self.reduce3(p3)
        y2 = self.down2(torch.cat([up(f3), x2], 1))
        y3 = self.up3(torch.cat([self.stride2(y2), f3], 1))
        return [y2, y3, self.up4(torch.cat([self.stride3(y3), f4], 1))]


class Head(nn.Module):
    """Per level a stem, a class branch and a box branch."""

    def __init__(self, widths: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        h = 256 * widths[-1] // 1024
        self.stems = nn.ModuleList(Conv(width, h, 1) for width in widths)
        self.class_convs, self.box_convs = (
            nn.ModuleList(nn.Sequential(Conv(h, h, 3), Conv(h, h, 3)) for _ in widths) for _ in range(2)
        )
        self.class_out, self.box_out, self.objectness_out = (
            nn.ModuleList(nn.Conv2d(h, n, 1) for _ in widths) for n in (num_classes, 4, 1)
        )

    def forward(self, levels: list[Tensor]) -> Tensor:
        """→ raw [M, A, 5 + classes]: box 4, objectness, classes."""
        raw = []
        for i, x in enumerate(levels):
            x = self.stems[i](x)
            of_class, of_box = self.class_convs[i](x), self.box_convs[i](x)
            parts = [self.box_out[i](of_box), self.objectness_out[i](of_box), self.class_out[i](of_class)]
            raw.append(torch.cat(parts, 1).flatten(2))
        return torch.cat(raw, 2).transpose(1, 2)


class PlainDetector(nn.Module):
    """See the module. Arguments as `Detector`'s; a recurrence other than S5 it does not have."""

    def __init__(
        self,
        *,
        embed_dim: int,
        dim_head: int,
        fpn_depth: float,
        num_classes: int,
        input_hw: tuple[int, int],
        partition: tuple[int, int],
        in_channels: int = 20,
        **_: Any,
    ) -> None:
        super().__init__()
        self.input_hw = input_hw
        widths = (2 * embed_dim, 4 * embed_dim, 8 * embed_dim)
        self.backbone = Backbone(in_channels, embed_dim, dim_head, partition)
        self.neck = Neck(*widths, round(3 * fpn_depth))
        self.head = Head(widths, num_classes)

    def features(
        self, x: Tensor, states: list[Tensor] | None = None, step_scale: float = 1.0
    ) -> tuple[dict[int, Tensor], list[Tensor]]:
        """x [L, B, C, H, W] → maps {1..4: [L, B, C, h, w]} and the four states."""
        L, B, _, H, W = x.shape
        x = F.pad(
            x.flatten(0, 1).to(self.head.box_out[0].bias), (0, self.input_hw[1] - W, 0, self.input_hw[0] - H)
        )
        maps, new = {}, []
        for i, stage in enumerate(self.backbone.stages):
            x, state = stage(x, B, states[i] if states else None, step_scale)
            maps[i + 1] = x.unflatten(0, (L, B))
            new.append(state)
        return maps, new

    def predict(self, maps: dict[int, Tensor]) -> Tensor:
        """Maps [..., C, h, w] → [..., A, 5 + classes]: cx, cy, w, h, objectness, classes."""
        raw = self._raw(maps)
        boxes = decode(raw[..., :4], self._anchors(raw))
        return torch.cat([boxes, raw[..., 4:].sigmoid()], -1).unflatten(0, maps[2].shape[:-3])

    def loss(self, maps: dict[int, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Maps {2, 3, 4: [M, C, h, w]} of labelled frames, targets [M, G, 5]."""
        raw = self._raw(maps)
        return loss(raw, self._anchors(raw), targets)

    def _raw(self, maps: dict[int, Tensor]) -> Tensor:
        return self.head(self.neck(*(maps[i].flatten(0, -4) for i in (2, 3, 4))))

    def _anchors(self, raw: Tensor) -> Tensor:
        """[A, 3]: column, row, stride."""
        levels = []
        for s in STRIDES:
            rows, columns = torch.meshgrid(
                torch.arange(self.input_hw[0] // s), torch.arange(self.input_hw[1] // s), indexing="ij"
            )
            levels.append(torch.stack([columns, rows, torch.full_like(rows, s)], -1).flatten(0, 1))
        return torch.cat(levels).to(raw)


def plain_like(model: nn.Module) -> PlainDetector:
    """The plain detector with the sizes, the weights, the device and the mode of a `Detector` with S5."""
    plain = PlainDetector(**model.config).to(next(model.parameters()))
    plain.load_state_dict(model.state_dict())
    return plain.train(model.training)


def decode(raw: Tensor, anchors: Tensor) -> Tensor:
    return torch.cat(
        [(raw[..., :2] + anchors[:, :2]) * anchors[:, 2:], raw[..., 2:].exp() * anchors[:, 2:]], -1
    )


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Of boxes cx, cy, w, h that broadcast against each other."""
    low = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    shared = (high - low).clamp(min=0).prod(-1)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared + 1e-16)


@torch.no_grad()
def assign(raw: Tensor, anchors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SimOTA for one image, raw [A, 5 + classes], targets [G, 5]: foreground anchors [F], rows of their boxes, IoUs."""
    centre = (anchors[:, :2] + 0.5) * anchors[:, 2:]
    near = ((targets[:, None, 1:3] - centre).abs() < 1.5 * anchors[:, 2:]).all(-1)  # [G, A]
    candidates = near.any(0).nonzero().squeeze(1)
    raw, near = raw[candidates], near[:, candidates]
    overlap = iou(targets[:, None, 1:], decode(raw[:, :4], anchors[candidates]))  # [G, K]
    p = (raw[:, 5:].sigmoid() * raw[:, 4:5].sigmoid()).sqrt()
    onehot = F.one_hot(targets[:, 0].long(), p.shape[-1]).to(p)
    p, onehot = torch.broadcast_tensors(p, onehot[:, None])
    cost = F.binary_cross_entropy(p, onehot, reduction="none").sum(-1)
    cost = cost - 3 * (overlap + 1e-8).log() + 1e6 * ~near
    taken = torch.zeros_like(near)
    for g in range(len(targets)):
        most = min(10, overlap.shape[1])
        k = max(1, int(overlap[g].topk(most).values.sum()))
        taken[g, cost[g].topk(min(k, most), largest=False).indices] = True
    for a in (taken.sum(0) > 1).nonzero().squeeze(1).tolist():
        taken[:, a] = False
        taken[cost[:, a].argmin(), a] = True
    rows, columns = taken.nonzero(as_tuple=True)
    return candidates[columns], rows, overlap[rows, columns]


def loss(raw: Tensor, anchors: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """5 · (1 − IoU²) + objectness + class, each summed and divided by the number of foreground anchors."""
    overlaps, classes, wanted = [], [], []
    foreground = torch.zeros_like(raw[..., 4])
    count = boxes = 0
    for m in range(len(raw)):
        real = targets[m][targets[m].sum(-1) != 0]
        boxes += len(real)
        if len(real) == 0:
            continue
        anchor, row, matched = assign(raw[m].float(), anchors, real)
        foreground[m, anchor] = 1
        count += len(anchor)
        overlaps.append(iou(decode(raw[m, anchor, :4], anchors[anchor]), real[row, 1:]))
        classes.append(raw[m, anchor, 5:])
        wanted.append(F.one_hot(real[row, 0].long(), raw.shape[-1] - 5) * matched[:, None])
    bce = F.binary_cross_entropy_with_logits
    divisor = max(1, count)
    zero = raw.sum() * 0
    box = 5 * (1 - torch.cat(overlaps) ** 2).sum() / divisor if overlaps else zero
    cls = bce(torch.cat(classes), torch.cat(wanted), reduction="sum") / divisor if classes else zero
    conf = bce(raw[..., 4], foreground, reduction="sum") / divisor
    return {
        "loss": box + conf + cls,
        "iou_loss": box,
        "conf_loss": conf,
        "cls_loss": cls,
        "num_fg": count / max(1, boxes),
    }

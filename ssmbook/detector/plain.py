"""S5-ViT as its equations read, for a reader: functions of tensors, one after the other, and no class.

    counts → 4 × (convolution, window attention, grid attention, recurrence) → neck → head → boxes

Source: S5-ViT (arXiv 2402.15584), which is RVT (arXiv 2212.05598, figure 3) with S5 in the place of its LSTM. Slow;
`Detector` computes the same faster and is tested against it. ``p`` holds parameters by name, nested as the network is,
``config`` its sizes:

    p = nested(model.state_dict())
    maps, states = features(x, p, model.config)
    predictions = predict(maps, p, model.config)
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ssmbook.detector.recurrences import map_states
from ssmbook.errors import InputError
from ssmbook.ssm.plain import s5

Parameters = Mapping[str, Any]  # tensors, and dictionaries of them
Config = Mapping[str, Any]
RECURRENCES = ("s5", "s5-selective", "convlstm")  # those that are written here


def features(
    x: Tensor, p: Parameters, config: Config, states: list[Any] | None = None, step_scale: float = 1.0
) -> tuple[dict[int, Tensor], list[Any]]:
    """Frames x [L, B, C, H, W] → maps {1..4: [L, B, C', h, w]} of strides 4, 8, 16, 32, and the stages' states.

    The states after one chunk are those that the next begins with; None starts from zero.

    Raises:
        InputError: a recurrence or an option of it that is not written here.
    """
    check(config)
    H, W = config["input_hw"]
    x = F.pad(x, (0, W - x.shape[4], 0, H - x.shape[3]))  # zeros at the right and at the bottom
    maps, new_states = {}, []
    for i, of_stage in enumerate(p["backbone"]["stages"].values()):
        state = states[i] if states else None
        x, state = stage(x, of_stage, config, 4 if i == 0 else 2, state, step_scale)
        maps[i + 1] = x
        new_states.append(state)
    return maps, new_states


def predict(maps: Mapping[int, Tensor], p: Parameters, config: Config) -> Tensor:
    """Maps {2, 3, 4: [L, B, C, h, w]} → [L, B, A, 5 + classes]: cx, cy, w, h in pixels, objectness, classes."""
    raw = raw_output({i: maps[i].flatten(0, 1) for i in (2, 3, 4)}, p)  # [L·B, A, 5 + classes]
    boxes = decode(raw[..., :4], anchors(config["input_hw"]).to(raw))
    return torch.cat([boxes, raw[..., 4:].sigmoid()], -1).unflatten(0, maps[2].shape[:2])


def raw_output(maps: Mapping[int, Tensor], p: Parameters, training: bool = False) -> Tensor:
    """Maps {2, 3, 4: [M, C, h, w]} → [M, A, 5 + classes]: box, objectness and classes before exp and σ."""
    return head(neck(maps[2], maps[3], maps[4], p["neck"], training), p["head"], training)


def nested(parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """Parameters by the parts of their names: "window.norm2.bias" becomes ["window"]["norm2"]["bias"]."""
    tree: dict[str, Any] = {}
    for name, value in parameters.items():
        *path, last = name.split(".")
        branch = tree
        for step in path:
            branch = branch.setdefault(step, {})
        branch[last] = value
    return tree


def check(config: Config) -> None:
    """InputError for a recurrence or an option that is not written here."""
    if (name := config["recurrence"]) not in RECURRENCES:
        raise InputError(f"recurrence is {name!r}; the plain detector has {', '.join(RECURRENCES)}")
    held = config.get("bandlimit") is not None and config["bandlimit_mode"] == "held"
    if held or config.get("clip_eigs") or config.get("low_pass") or config["carry"] != "exact":
        raise InputError(
            "the plain detector has no held bandlimit, no clip_eigs, no low_pass, and only the exact carry"
        )


# a stage


def stage(
    x: Tensor, p: Parameters, config: Config, stride: int, state: Any, step_scale: float
) -> tuple[Tensor, Any]:
    """One stage of RVT (figure 3): x [L, B, C, H, W] → [L, B, C', H/s, W/s]; state [B, ·, H/s, W/s]."""
    L = len(x)
    tokens = downsample(x.flatten(0, 1), p, stride)  # [L·B, h, w, C']
    h, w = tokens.shape[1:3]
    tokens = attention_block(tokens, p["window"], config, "n (gh ph) (gw pw) c -> (n gh gw) (ph pw) c")
    tokens = attention_block(tokens, p["grid"], config, "n (ph gh) (pw gw) c -> (n gh gw) (ph pw) c")
    u = rearrange(tokens, "(l b) h w c -> (b h w) l c", l=L)  # every pixel has a sequence of its own
    state = map_states(lambda s: rearrange(s, "b c h w -> (b h w) c"), state)
    run = convlstm if config["recurrence"] == "convlstm" else s5_block
    y, state = run(u, p["recurrence"], state, step_scale)
    state = map_states(lambda s: rearrange(s, "(b h w) c -> b c h w", h=h, w=w), state)
    return rearrange(y, "(b h w) l c -> l b c h w", h=h, w=w), state


def downsample(x: Tensor, p: Parameters, stride: int) -> Tensor:
    """Convolution whose patches overlap (kernel 2s − 1), then LayerNorm: [N, C, H, W] → [N, H/s, W/s, C']."""
    weight = p["downsample"]["weight"]  # [C', C, 2s − 1, 2s − 1]
    x = F.conv2d(x.to(weight.dtype), weight, stride=stride, padding=stride - 1)
    return layer_norm(x.permute(0, 2, 3, 1), p["norm"])


def attention_block(x: Tensor, p: Parameters, config: Config, partition: str) -> Tensor:
    """x ← x + γ₁ Attn(n₁(x)), x ← x + γ₂ MLP(n₂(x)), x [N, H, W, C] (MaxViT, arXiv 2204.01697).

    ``partition`` says which tokens attend to each other: those of a p_h × p_w tile (window), or p_h × p_w tokens
    spread evenly over the whole image (grid). The window's input is normalised already, so its n₁ is the identity.
    """
    (ph, pw), (H, W) = config["partition"], x.shape[1:3]
    sizes = {"ph": ph, "pw": pw, "gh": H // ph, "gw": W // pw}
    back = " -> ".join(reversed(partition.split(" -> ")))
    normed = layer_norm(x, p["norm1"]) if "norm1" in p else x
    y = attention(rearrange(normed, partition, **sizes), p["attention"], config["dim_head"])
    x = x + p["gamma1"] * rearrange(y, back, **sizes)
    hidden = F.gelu(linear(layer_norm(x, p["norm2"]), p["mlp"]["0"]))  # [N, H, W, 4C]
    return x + p["gamma2"] * linear(hidden, p["mlp"]["2"])


def attention(x: Tensor, p: Parameters, d: int) -> Tensor:
    """softmax(q kᵀ / √d) v of the tokens of each group: [G, T, C] → [G, T, C], with C / d heads."""
    q, k, v = rearrange(linear(x, p["qkv"]), "g t (heads three d) -> three g heads t d", three=3, d=d)
    weights = (q @ k.transpose(-1, -2) / d**0.5).softmax(-1)  # [G, heads, T, T]
    return linear(rearrange(weights @ v, "g heads t d -> g t (heads d)"), p["out"])


# the recurrences: u [N, L, C] → [N, L, C], and the state after the last step


def s5_block(u: Tensor, p: Parameters, x0: Tensor | None, step_scale: Any) -> tuple[Tensor, Tensor]:
    """a = LN₁(u), z = GELU(S5(a)) + a, b = LN₂(z), out = W_dec (v · GELU(g)) + b with (v, g) = W_enc b.

    Selective S5 multiplies each step's time by g(a) = 2σ(wᵀa + bias), see `ssmbook.ssm.selective`.
    """
    a = layer_norm(u, p["norm1"])
    layer = p["layer"]
    if "gate_weight" in layer:
        step_scale = step_scale * 2 * torch.sigmoid(a @ layer["gate_weight"] + layer["gate_bias"])  # [N, L]
    Lambda, B, C = (torch.view_as_complex(layer[name]) for name in ("Lambda", "B", "C"))
    y, x = s5(a, Lambda, B, C, layer["D"], layer["log_step"], x0, step_scale)
    b = layer_norm(F.gelu(y) + a, p["norm2"])
    value, gate = linear(b, p["encode"]).chunk(2, -1)
    return linear(value * F.gelu(gate), p["decode"]) + b, x


def convlstm(u: Tensor, p: Parameters, state: Any, step_scale: float) -> tuple[Tensor, Any]:
    """RVT's LSTM, f, i, o = σ(W [u; h] + b), c ← f^s c + (1 − f^s) / (1 − f) · i tanh(W_c [u; h] + b_c), h ← o tanh c,
    as published at the step s = 1."""
    h, c = state or (torch.zeros_like(u[:, 0]), torch.zeros_like(u[:, 0]))  # [N, C] each
    outputs = []
    for u_t in u.unbind(1):
        f, i, o, g = linear(torch.cat([u_t, h], -1), p["gates"]).chunk(4, -1)  # [N, C] each
        f = f.sigmoid()
        c = f**step_scale * c + (1 - f**step_scale) / (1 - f) * i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, 1), (h, c)


# neck and head: YOLOX (arXiv 2107.08430)


def neck(x2: Tensor, x3: Tensor, x4: Tensor, p: Parameters, training: bool = False) -> list[Tensor]:
    """PAFPN: top down, then bottom up. Maps [M, C, h, w] of strides 8, 16, 32 → maps of the same shapes."""
    f4 = conv_block(x4, p["reduce4"], 1, training)
    p3 = csp_block([twice(f4), x3], p["down3"], training)
    f3 = conv_block(p3, p["reduce3"], 1, training)
    y2 = csp_block([twice(f3), x2], p["down2"], training)
    y3 = csp_block([conv_block(y2, p["stride2"], 2, training), f3], p["up3"], training)
    y4 = csp_block([conv_block(y3, p["stride3"], 2, training), f4], p["up4"], training)
    return [y2, y3, y4]


def csp_block(maps: list[Tensor], p: Parameters, training: bool) -> Tensor:
    """Two 1 × 1 convolutions to half the width, one followed by bottlenecks (1 × 1, 3 × 3); joined by a third."""
    x = torch.cat(maps, 1)
    deep, shallow = (conv_block(x, p[name], 1, training) for name in ("deep", "shallow"))
    for bottleneck in p.get("bottlenecks", {}).values():
        deep = two_convs(deep, bottleneck, training)
    return conv_block(torch.cat([deep, shallow], 1), p["join"], 1, training)


def head(levels: list[Tensor], p: Parameters, training: bool = False) -> Tensor:
    """Per level a stem, then a class branch and a box branch: [M, C, h, w] each → raw [M, A, 5 + classes]."""
    raw = []
    for i, x in zip("012", levels, strict=True):
        x = conv_block(x, p["stems"][i], 1, training)
        of_class = two_convs(x, p["class_convs"][i], training)
        of_box = two_convs(x, p["box_convs"][i], training)
        box, objectness = conv(of_box, p["box_out"][i]), conv(of_box, p["objectness_out"][i])
        outputs = torch.cat([box, objectness, conv(of_class, p["class_out"][i])], 1)
        raw.append(rearrange(outputs, "m d h w -> m (h w) d"))
    return torch.cat(raw, 1)


def anchors(input_hw: tuple[int, int]) -> Tensor:
    """The cells of all three levels, row by row: [A, 3] of column, row, stride."""
    levels = []
    for stride in (8, 16, 32):
        rows, columns = (torch.arange(size // stride) for size in input_hw)
        cells = torch.cartesian_prod(rows, columns).flip(-1)  # [h·w, 2]
        levels.append(F.pad(cells, (0, 1), value=stride))
    return torch.cat(levels)


def decode(raw: Tensor, cells: Tensor) -> Tensor:
    """(cx, cy) = (raw + (column, row)) · stride, (w, h) = exp(raw) · stride: raw [M, A, 4] → boxes [M, A, 4]."""
    stride = cells[:, 2:]
    return torch.cat([(raw[..., :2] + cells[:, :2]) * stride, raw[..., 2:].exp() * stride], -1)


# layers


def linear(x: Tensor, p: Parameters) -> Tensor:
    return F.linear(x, p["weight"], p.get("bias"))


def layer_norm(x: Tensor, p: Parameters) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], p["weight"], p["bias"])


def conv(x: Tensor, p: Parameters, stride: int = 1) -> Tensor:
    return F.conv2d(x, p["weight"], p.get("bias"), stride, p["weight"].shape[-1] // 2)


def conv_block(x: Tensor, p: Parameters, stride: int, training: bool) -> Tensor:
    """Convolution, BatchNorm (in training with the batch's own statistics), SiLU."""
    x = conv(x, p["conv"], stride)
    norm = p["norm"]
    mean, var = (None, None) if training else (norm["running_mean"], norm["running_var"])
    return F.silu(F.batch_norm(x, mean, var, norm["weight"], norm["bias"], training))


def two_convs(x: Tensor, p: Parameters, training: bool) -> Tensor:
    return conv_block(conv_block(x, p["0"], 1, training), p["1"], 1, training)


def twice(x: Tensor) -> Tensor:
    """Twice the size, every pixel repeated: [M, C, h, w] → [M, C, 2h, 2w]."""
    return x.repeat_interleave(2, -2).repeat_interleave(2, -1)

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-detector)=
# # The detector
#
# How does a stack of counts become boxes, and where in the network does its memory sit? This chapter takes the detector apart,
# part by part: attention, pyramid, head, the assignment of predictions to boxes, and the losses. Each part is written
# out before it is imported.
#
# After this chapter you can
#
# - draw the network, with the shape of every array that flows through it;
# - write attention within a group, and say what window and grid attention cost;
# - decode a prediction, assign predictions to boxes with SimOTA, and compute the loss by hand;
# - choose a size for a camera of yours.
#
# The detector is S5-ViT [@zubic2024], which is RVT [@gehrig2023rvt] with the layer of [chapter 3](#ch-layers) in place of an LSTM.
# [Chapter 7](#ch-training) trains it, and [chapter 8](#ch-evaluation) scores it.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %% tags=["hide-input"]
import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ssmbook import plots
from ssmbook.detector import PRESETS, RECURRENCES, input_sizes, nms
from ssmbook.detector.assignment import simota
from ssmbook.detector.attention import SelfAttention, grid_partition, window_partition
from ssmbook.detector.boxes import anchor_grid, decode
from ssmbook.detector.head import detection_loss
from ssmbook.drawings import network as drawings
from ssmbook.events import BOX_DTYPE
from ssmbook.study import PAPER_TABLE_1, Workspace, in_words, sizes_table, write_table

plots.style()
workspace = Workspace(profile, data_dir)
_ = torch.manual_seed(0)

# %% [markdown]
# (sec-overview)=
# ## The whole on one page
#
# Four **stages** look at smaller and smaller pictures of the same frame, at strides 4, 8, 16 and 32. Each stage
# downsamples with a convolution, lets pixels attend to each other within windows and across a grid, and then carries its memory one step on, with one S5 layer for all pixels and a state for each. A **neck** joins the
# maps of strides 8, 16 and 32 in a pyramid, and a **head** turns every position of them into a box.

# %% tags=["hide-input"]
#| label: fig-architecture
#| caption: >-
#|   S5-ViT, base, on a Gen1 frame padded to 256 × 320; arrays are [channels, height, width]. Orange is learnt; blue is the only part that knows of time. The head's three levels give one box for each of their 1,680 positions: objectness, two classes, centre and size.
#| alt: A column of four stages with convolution, two attentions and S5; arrows to a three-level pyramid, three heads, and the boxes.
preset = PRESETS["gen1-base"]
H, W = preset["input_hw"]
shapes = {i: (preset["embed_dim"] * 2 ** (i - 1), H >> (i + 1), W >> (i + 1)) for i in (1, 2, 3, 4)}
positions = sum(shapes[i][1] * shapes[i][2] for i in (2, 3, 4))
fig = drawings.architecture(shapes, (20, H, W), positions, preset["num_classes"])
_ = plots.save(fig, workspace.figures / "architecture.png")
print(f"{positions} positions, {sum(math.prod(shape) for shape in shapes.values())} complex numbers of state")

# %% [markdown]
# In the code a chunk is $[L, B, C, H, W]$: $L$ windows of $B$ sequences. Every stage returns a map and its state, and the state goes into the next chunk. Here is the network of this profile on a chunk of two windows:

# %%
model = workspace.new_model().eval()
height, width = workspace.sensor.frame_size
x = torch.randint(0, 3, (2, 1, model.in_channels, height, width), dtype=torch.uint8)
with torch.no_grad():
    features, states = model.features(x)
pd.DataFrame(
    {
        stage: {
            "map [L, B, C, h, w]": str(list(feature.shape)),
            "state [B, P, h, w]": str(list(state.shape)),
            "of": str(state.dtype)[6:],
        }
        for (stage, feature), state in zip(features.items(), states, strict=True)
    }
).T.rename_axis("stage")

# %% [markdown]
# (sec-downsampling)=
# ## Downsampling
#
# A stage begins with a convolution without bias, whose patches overlap: stride $s$ (4, then 2), kernel $2s - 1$, padding $s - 1$. A side of $n$ pixels becomes
#
# $$ n' = \left\lfloor \frac{n + 2(s - 1) - (2s - 1)}{s} \right\rfloor + 1 = \left\lceil \frac ns \right\rceil , $$ (eq-conv-size)
#
# so that input sides that are multiples of 32 divide evenly all the way down; frames are padded with zeros at the right and bottom. A LayerNorm over the channels follows. In the released networks its output can be replaced at some positions by one learnt vector (token masking), which the default training does not use.

# %%
sides = {n: [n] for n in (256, 320, 100)}
for row in sides.values():
    for s in (4, 2, 2, 2):
        row.append((row[-1] + 2 * (s - 1) - (2 * s - 1)) // s + 1)
pd.DataFrame(sides, index=["input", *(f"stage {i}" for i in (1, 2, 3, 4))]).T.rename_axis("side")

# %% [markdown]
# (sec-attention)=
# ## Attention, within windows and across a grid
#
# In attention each of $T$ tokens, here the positions of a map with their features, takes a weighted mean over all of them. With queries, keys and values, linear in the tokens, [@vaswani2017, eq. 1]
#
# $$ \mathrm{Attn}(q, k, v) = \mathrm{softmax}\!\left( \frac{q\,k^\top}{\sqrt d} \right) v, \qquad q, k, v \in \mathbb R^{T \times d} , $$ (eq-attention)
#
# for each of several heads of width $d$; the heads' outputs are joined and mixed by one more linear layer.


# %%
def attention(tokens, qkv, out, d: int):
    """The equation above for tokens [groups, T, C] with C/d heads; qkv and out are linear layers."""
    G, T, C = tokens.shape
    q, k, v = qkv(tokens).view(G, T, C // d, 3, d).permute(3, 0, 2, 1, 4)  # each [G, heads, T, d]
    scores = q @ k.transpose(-1, -2) / math.sqrt(d)  # [G, heads, T, T]
    return out((scores.softmax(-1) @ v).transpose(1, 2).reshape(G, T, C))


layer = SelfAttention(channels=32, dim_head=16)
tokens = torch.randn(6, 20, 32)
with torch.no_grad():
    same = torch.allclose(attention(tokens, layer.qkv, layer.out, 16), layer(tokens), rtol=0, atol=1e-5)
print("equals the library's:", same)

# %% [markdown]
# Among all $n$ pixels of a map this costs $O(n^2)$. MaxViT [@tu2022, on multi-axis attention] lets each pixel attend within a group of $T = p_h p_w$ only, and uses two partitions one after the other. **Window** groups are contiguous tiles; **grid** groups take tokens that lie $H/p_h$ rows and $W/p_w$ columns apart. The group of the token in row $y$ and column $x$ is
#
# $$ g_{\mathrm{window}}(y, x) = \left( \left\lfloor \tfrac{y}{p_h} \right\rfloor, \left\lfloor \tfrac{x}{p_w} \right\rfloor \right) , $$ (eq-window-group)
#
# $$ g_{\mathrm{grid}}(y, x) = \left( y \bmod \tfrac{H}{p_h},\; x \bmod \tfrac{W}{p_w} \right) . $$ (eq-grid-group)
#
# The products of {eq}`eq-attention` then take
#
# $$ F = 4\,n\,T\,C \quad\text{instead of}\quad 4\,n^2\,C $$ (eq-attention-cost)
#
# operations: linear in the pixels. Where a tile holds a token of every grid group, every pixel has heard from every other after one of each, by way of one in its tile: so it is on Gen1 in all stages, on 1 Mpx from stage 3 on ({numref}`ex-two-blocks`).

# %%
rows, columns = torch.meshgrid(torch.arange(8), torch.arange(10), indexing="ij")
groups = {
    "window": (rows // 4) * 2 + columns // 5,
    "grid": (rows % 2) * 2 + columns % 2,
}
place = torch.stack([rows, columns], -1)[None].float()  # [1, 8, 10, 2]: each token is its own place
checks = {}
for name, partition in (("window", window_partition), ("grid", grid_partition)):
    members = partition(place, (4, 5))  # [groups, 20, 2]
    numbers = groups[name][members[..., 0].long(), members[..., 1].long()]
    checks[f"{name}: as the formula says"] = (
        bool((numbers == numbers[:, :1]).all()) and len(numbers[:, 0].unique()) == 4
    )
stage1 = shapes[1][1] * shapes[1][2]
checks[f"stage 1 of {stage1} pixels: cheaper by"] = f"{stage1 / math.prod(preset['partition']):.0f} times"
pd.Series(checks, name="result").to_frame()

# %% tags=["hide-input"]
#| label: fig-partitions
#| caption: >-
#|   The group of one token (orange) on a map of 8 × 10 with groups of 4 × 5, by {eq}`eq-window-group` and {eq}`eq-grid-group`. Window attention is local, grid attention global and sparse.
#| alt: Two grids of squares; in the first a contiguous block is orange, in the second every second square of every second row.
_ = plots.save(
    drawings.partitions((8, 10), {name: g.numpy() for name, g in groups.items()}),
    workspace.figures / "partitions.png",
)
print("tokens of the group:", in_words({name: int((g == g[1, 1]).sum()) for name, g in groups.items()}))

# %% [markdown]
# A block adds to its input first the attention and then a small network that acts on each token, both scaled by learnt factors $\gamma$ per channel that begin at $10^{-5}$, so that the block begins close to the identity [@gehrig2023rvt, on the recurrent stage]:
#
# $$ x \leftarrow x + \gamma_1 \circ \mathrm{Attn}(n_1(x)), \qquad x \leftarrow x + \gamma_2 \circ \mathrm{MLP}(n_2(x)) , $$ (eq-residual)
#
# with an MLP $C \to 4C \to C$ and a GELU. $n_2$ is a LayerNorm; $n_1$ is one in the grid block and the identity in the window block, whose input is normalised already.
#
# (sec-recurrence)=
# ## One memory for each pixel
#
# Then time. All pixels are treated alike and separately: a map $[L, B, h, w, C]$ is seen as $B\,h\,w$ sequences of length $L$ and goes through the block {eq}`eq-block` around S5. A pixel's state therefore never moves. If an object moves on, what is known of it stays in the state of the place where it *was*, and the attention of the next stage or frame has to bring both together.
#
# The recurrence can be exchanged: `s5`, `s5-selective`, `s4d`, `s4`, `mamba`, `none`, which forgets every frame, and RVT's `convlstm`, whose gates see input and hidden state [@shi2015, which has peepholes besides; with 1 × 1 convolutions in @gehrig2023rvt]:
#
# $$ \begin{gathered} c_k = f \circ c_{k-1} + i \circ \tanh(g), \quad h_k = o \circ \tanh(c_k), \\ (f, i, o, g) = W\,[x_k; h_{k-1}] + b , \end{gathered} $$ (eq-convlstm)
#
# with a σ on $f$, $i$ and $o$. How far does an output look, in space and back in time? The gradient of one output with respect to the input tells.

# %%
seeded = torch.Generator().manual_seed(3)
frames = torch.rand(4, 1, model.in_channels, height, width, generator=seeded).requires_grad_()
maps, _ = model.features(frames)
h, w = maps[2].shape[3:]
maps[2][-1, 0, :, h // 2, w // 2].sum().backward()
size = frames.grad[:, 0].abs().sum(1)  # [4, H, W]
ago = {
    name: size[k].numpy()
    for k, name in ((3, "the same frame"), (2, "the frame before"), (0, "three frames ago"))
}
pd.DataFrame(
    {
        name: {
            "pixels that matter": int((m > 0).sum()),
            "relative to the same frame": f"{float(m.sum() / size[3].sum()):.0e}",
        }
        for name, m in ago.items()
    }
).T

# %% tags=["hide-input"]
#| label: fig-reach
#| caption: >-
#|   Where one output of stage 2 looks in an untrained network: size of the gradient, dark is strong, eight decades. The convolutions see a small patch; attention reaches, faintly at first (γ is 10⁻⁵), its tile and its grid; the state keeps the same places of earlier frames in view.
#| alt: Three pictures with a dark patch in the middle and a fainter regular pattern around it.
_ = plots.save(drawings.reach(ago), workspace.figures / "reach.png")

# %% [markdown]
# With an exact {term}`carry` it makes no difference where the stream is cut, as {numref}`sec-carry` showed for the layer alone:

# %%
with torch.no_grad():
    first, carried = model.features(x[:1])
    second, _ = model.features(x[1:], carried)
difference = max(float((second[s] - features[s][1:]).abs().max() / features[s].abs().max()) for s in features)
print("one frame at a time equals a chunk, relative difference below 1e-4:", difference < 1e-4)

# %% [markdown]
# (sec-pyramid)=
# ## The pyramid
#
# Fine maps know where, coarse maps know what. A feature pyramid passes context down to the fine maps [@lin2017], and a path aggregation network passes positions up again [@liu2018]. With $x_2, x_3, x_4$ the maps of strides 8, 16 and 32, $\uparrow$ doubling and $\downarrow$ a convolution of stride 2, the neck of [@ge2021yolox] reads
#
# $$ \begin{gathered} f_0 = w_1 x_4, \qquad p_1 = \mathrm{CSP}[\uparrow\! f_0, x_3], \\ f_1 = w_2 p_1, \qquad o_2 = \mathrm{CSP}[\uparrow\! f_1, x_2] , \end{gathered} $$ (eq-top-down)
#
# $$ o_3 = \mathrm{CSP}[\downarrow\! o_2, f_1], \qquad o_4 = \mathrm{CSP}[\downarrow\! o_3, f_0] , $$ (eq-bottom-up)
#
# where $w_1$ and $w_2$ are 1 × 1 convolutions, $[\cdot, \cdot]$ joins channels, and CSP is a block that sends one half of its channels through a few small convolutions and lets the other half pass. Every convolution here has a BatchNorm and a SiLU.

# %% tags=["hide-input"]
#| label: fig-pyramid
#| caption: >-
#|   The neck, {eq}`eq-top-down` from the bottom left upwards and {eq}`eq-bottom-up` on the right downwards. Its three outputs have the shapes of its three inputs.
#| alt: Three rows of boxes; orange arrows go up on the left half, blue arrows go down on the right half.
_ = plots.save(drawings.pyramid(), workspace.figures / "pyramid.png")

# %%
with torch.no_grad():
    inputs = [features[i].flatten(0, 1) for i in (2, 3, 4)]
    outputs = model.neck(*inputs)
pd.DataFrame(
    {"in": [str(list(m.shape)) for m in inputs], "out": [str(list(m.shape)) for m in outputs]},
    index=["stride 8", "stride 16", "stride 32"],
)

# %% [markdown]
# (sec-head)=
# ## The head
#
# The head of YOLOX [@ge2021yolox, sec. 2.1] has no anchor boxes. Each position of each map predicts one box, with class and geometry computed in separate branches.

# %% tags=["hide-input"]
#| label: fig-head
#| caption: >-
#|   The decoupled head of one level. Its last layers are plain 1 × 1 convolutions.
#| alt: One input splits into a class branch and a box branch, which ends in objectness and in centre and size.
_ = plots.save(drawings.head_flow(2), workspace.figures / "head.png")

# %% [markdown]
# The raw numbers $(r_x, r_y, r_w, r_h)$ at column $i$, row $j$ of a map of stride $s$ mean
#
# $$ c_x = (r_x + i)\,s, \qquad c_y = (r_y + j)\,s, \qquad w = e^{r_w} s, \qquad h = e^{r_h} s , $$ (eq-decode)
#
# and the scores go through σ. The biases of the scores start at
#
# $$ b = \log \frac{\pi}{1 - \pi}, \qquad \pi = 0.01 , $$ (eq-prior)
#
# so that $\sigma(b) = \pi$: an untrained head claims almost nothing, and the many empty positions do not dominate the loss.

# %%
anchors = anchor_grid(model.input_hw, (8, 16, 32))  # [A, 3]: column, row, stride
raw = torch.randn(1, len(anchors), 4)
column, row, stride = anchors.unbind(-1)
by_hand = torch.stack(
    [
        (raw[..., 0] + column) * stride,
        (raw[..., 1] + row) * stride,
        raw[..., 2].exp() * stride,
        raw[..., 3].exp() * stride,
    ],
    -1,
)
with torch.no_grad():
    predictions = model.predict(features)
scores = predictions[..., 4:]
pd.Series(
    {
        "decoded by hand equals the library's": torch.allclose(by_hand, decode(raw, anchors)),
        "predictions [L, B, A, 5 + classes]": str(list(predictions.shape)),
        "mean score of an untrained head": f"{float(scores.mean()):.2f}",
        "detections above 0.1": sum(len(rows) for rows in nms(predictions, confidence=0.1)),
    },
    name="result",
).to_frame()

# %% tags=["hide-input"]
#| label: fig-anchors
#| caption: >-
#|   The positions of the three levels, and two boxes. Since *near* is counted in strides, each level offers a box about nine positions, whatever its size; stride 32 has only four here.
#| alt: Three panels with dots on grids of growing spacing and the same two boxes.
truth = np.zeros(2, BOX_DTYPE)
for field, values in {"x": (10, 34), "y": (22, 14), "w": (24, 10), "h": (14, 30), "class_id": (0, 1)}.items():
    truth[field] = values
_ = plots.save(drawings.anchors((64, 64), (8, 16, 32), truth), workspace.figures / "anchors.png")
print("positions:", in_words({f"stride {s}": (64 // s) ** 2 for s in (8, 16, 32)}))

# %% [markdown]
# (sec-simota)=
# ## Which prediction answers for which box
#
# In training each box needs predictions that answer for it. {term}`SimOTA` [@ge2021yolox, sec. 2.1; a simplification of @ge2021ota] chooses them anew at every step, from what the network predicts. It needs the overlap of two boxes,
#
# $$ \mathrm{IoU}(a, b) = \frac{|a \cap b|}{|a \cup b|} , $$ (eq-pair-iou)
#
# and a cost for each pair of a box $g$ and a position $a$ [@ge2021yolox, eq. 1, with λ = 3]:
#
# $$ \begin{gathered} c_{ga} = \sum_{\mathrm{class}} \mathrm{BCE}\bigl( \sqrt{\sigma(\mathrm{cls})\,\sigma(\mathrm{obj})},\; \text{one-hot}_g \bigr) \\ {} - 3 \log \mathrm{IoU}_{ga} + 10^6\, [a \text{ not near } g] . \end{gathered} $$ (eq-cost)
#
# *Near* means that the position's centre lies within 1.5 strides of the box's centre in $x$ and in $y$; positions that are near no box take no part. ($10^{-8}$ is added to the IoU, so that the logarithm stays finite.) Box $g$ takes its $k_g$ cheapest, where
#
# $$ k_g = \max\!\left(1, \left\lfloor \textstyle\sum_{\text{10 largest}} \mathrm{IoU}_{ga} \right\rfloor \right) : $$ (eq-dynamic-k)
#
# the better the predictions already are, the more of them answer. A position that several boxes take goes to the box for which it costs least. For one frame, as written:


# %%
def iou(a, b):
    """The equation above of boxes [..., 4] (cx, cy, w, h) that broadcast."""
    low = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    shared = (high - low).clamp(min=0).prod(-1)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)


def assign(boxes, objectness, classes, truth, anchors):
    """SimOTA for one frame: boxes [A, 4], logits [A] and [A, C], truth [G, 5] → row of truth for each anchor, or −1."""
    centres = (anchors[:, :2] + 0.5) * anchors[:, 2:]
    near = ((truth[:, None, 1:3] - centres).abs() < 1.5 * anchors[:, 2:]).all(-1)  # [G, A]
    candidate = near.any(0)
    overlap = iou(truth[:, None, 1:], boxes[None]) * candidate  # [G, A]
    p = (classes.sigmoid() * objectness.sigmoid()[:, None]).sqrt()  # [A, C]
    onehot = F.one_hot(truth[:, 0].long(), classes.shape[1]).float()  # [G, C]
    bce = -(onehot[:, None] * p.log() + (1 - onehot[:, None]) * (1 - p).log()).sum(-1)
    cost = bce - 3 * (overlap + 1e-8).log() + 1e6 * ~near
    cost[:, ~candidate] = math.inf
    taken = torch.zeros_like(near)
    for g in range(len(truth)):
        k = max(1, int(overlap[g].topk(10).values.sum()))  # the equation above
        taken[g, cost[g].topk(min(k, int(candidate.sum())), largest=False).indices] = True
    cheapest = torch.where(taken.sum(0) > 1, cost.argmin(0), taken.int().argmax(0))
    return torch.where(taken.any(0), cheapest, -1), near


targets = torch.tensor([[0.0, 22, 29, 24, 14], [1.0, 39, 29, 10, 30]])  # class, cx, cy, w, h
A = len(anchors_64 := anchor_grid((64, 64), (8, 16, 32)))
centre = (anchors_64[:, :2] + 0.5) * anchors_64[:, 2:]
owner = (centre[:, None] - targets[:, 1:3]).norm(dim=-1).argmin(1)
noise = torch.randn(A, 4, generator=torch.Generator().manual_seed(1))
guess = (
    torch.cat([centre + 0.3 * (targets[owner, 1:3] - centre), targets[owner, 3:]], -1) + 2 * noise
)  # a network in training
guess[:, 2:] = guess[:, 2:].clamp(min=2)
objectness, classes = torch.zeros(A), torch.zeros(A, 2)
rows, near = assign(guess, objectness, classes, targets, anchors_64)
library, matched = simota(guess[None], objectness[None], classes[None], targets[None], anchors_64)
print("equals the library's:", torch.equal(rows, library[0]))
pd.DataFrame(
    {"candidates": near.sum(1).tolist(), "chosen": [int((rows == g).sum()) for g in range(2)]},
    index=["car", "pedestrian"],
)

# %% tags=["hide-input"]
#| label: fig-assignment
#| caption: >-
#|   SimOTA on one frame with a car (orange) and a pedestrian (green). Left, the positions near each; right, those that were chosen, from several levels.
#| alt: Two panels with the same two boxes; many marked positions around the centres on the left, few on the right.
chosen = torch.stack([rows == g for g in range(2)])
fig = drawings.assignment((64, 64), centre.numpy(), near.numpy(), chosen.numpy(), targets[:, 1:].numpy())
_ = plots.save(fig, workspace.figures / "assignment.png")
for g, name in enumerate(("car", "pedestrian")):
    print(f"strides of the chosen, {name}:", *sorted(anchors_64[chosen[g], 2].int().tolist()))

# %% [markdown]
# (sec-losses)=
# ## The losses
#
# Let $\mathcal F$ be the chosen (foreground) positions of a batch. Three losses are summed over the batch and divided by $|\mathcal F|$, at least 1 [@ge2021yolox; the released code of @zubic2024]. The box loss compares overlaps,
#
# $$ \mathcal L_{\mathrm{box}} = \frac{1}{|\mathcal F|} \sum_{a \in \mathcal F} \bigl( 1 - \mathrm{IoU}_a^2 \bigr) . $$ (eq-box-loss)
#
# The class loss is a binary cross entropy of each class against a target that is the overlap, not 1: a box that fits badly should get a low class score,
#
# $$ \mathcal L_{\mathrm{cls}} = \frac{1}{|\mathcal F|} \sum_{a \in \mathcal F} \sum_{\mathrm{class}} \mathrm{BCE}\bigl( \sigma(\mathrm{cls}_a),\; \text{one-hot}_a \cdot \mathrm{IoU}_a \bigr) . $$ (eq-class-loss)
#
# The objectness loss goes over *all* positions, foreground or not,
#
# $$ \mathcal L_{\mathrm{obj}} = \frac{1}{|\mathcal F|} \sum_{a} \mathrm{BCE}\bigl( \sigma(\mathrm{obj}_a),\; [a \in \mathcal F] \bigr) , $$ (eq-objectness-loss)
#
# and the total is
#
# $$ \begin{gathered} \mathcal L = 5\,\mathcal L_{\mathrm{box}} + \mathcal L_{\mathrm{obj}} + \mathcal L_{\mathrm{cls}} , \\ \mathrm{BCE}(p, q) = -q \log p - (1 - q) \log (1 - p) . \end{gathered} $$ (eq-total-loss)

# %%
raw_boxes = torch.cat(
    [guess[:, :2] / anchors_64[:, 2:] - anchors_64[:, :2], (guess[:, 2:] / anchors_64[:, 2:]).log()], -1
)
raw = torch.cat([raw_boxes, objectness[:, None], classes], -1)[None]  # [1, A, 7]
found = detection_loss(raw, anchors_64, targets[None])
fg = rows >= 0
overlap = iou(guess[fg], targets[rows[fg], 1:])
bce = F.binary_cross_entropy
onehot = F.one_hot(targets[rows[fg], 0].long(), 2) * overlap[:, None]
ours = {
    "5 · box": 5 * (1 - overlap**2).sum() / fg.sum(),
    "objectness": bce(objectness.sigmoid(), fg.float(), reduction="sum") / fg.sum(),
    "class": bce(classes[fg].sigmoid(), onehot, reduction="sum") / fg.sum(),
}
library = {"5 · box": found["iou_loss"], "objectness": found["conf_loss"], "class": found["cls_loss"]}
pd.DataFrame({"by hand": ours, "library": library}).astype(float).round(3)

# %% tags=["hide-input"]
#| label: fig-losses-shapes
#| caption: >-
#|   Left, the box loss {eq}`eq-box-loss`: its slope vanishes where boxes do not overlap, which is why candidates must be near. Right, the cross entropy over the score for three targets; its minimum (dot) lies at the target, so that the class score learns the overlap.
#| alt: Left three curves over the overlap; right three curves with minima at 0.3, 0.7 and 1.
overlaps, p = np.linspace(0, 1, 101), np.linspace(0.005, 0.995, 199)
curves = {f"target {q:g}": -q * np.log(p) - (1 - q) * np.log(1 - p) for q in (0.3, 0.7, 1.0)}
_ = plots.save(
    drawings.losses(overlaps, 1 - overlaps**2, 2 * overlaps, p, curves), workspace.figures / "loss_shapes.png"
)
print("minima:", in_words({name: f"at {p[values.argmin()]:.2f}" for name, values in curves.items()}))

# %% [markdown]
# (sec-nms)=
# ## One box for each object
#
# Several positions answer for one object, by design. At inference detections below a minimum score are dropped, and {term}`non-maximum suppression` keeps the best of the rest: in falling order of $\mathrm{score} = \sigma(\mathrm{obj}) \cdot \sigma(\mathrm{cls})$, a box removes those of its class that overlap it by more than 0.45,
#
# $$ \begin{gathered} \text{keep } i \iff \nexists\, j \text{ kept}: \\ \mathrm{score}_j > \mathrm{score}_i, \quad \mathrm{class}_j = \mathrm{class}_i, \quad \mathrm{IoU}_{ij} > 0.45 . \end{gathered} $$ (eq-nms)


# %%
def suppress(boxes, scores, labels, limit: float = 0.45) -> list[int]:
    """The equation above: the kept boxes [K, 4], best first."""
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(labels[i] != labels[j] or iou(boxes[i], boxes[j]) <= limit for j in kept):
            kept.append(i)
    return kept


made = torch.cat(
    [
        guess,
        torch.full((A, 1), 0.9),
        F.one_hot(owner, 2) * (0.3 + 0.6 * torch.rand(A, 1, generator=torch.Generator().manual_seed(2))),
    ],
    -1,
)
made = made[fg]
kept = suppress(made[:, :4], made[:, 4] * made[:, 5:].max(-1).values, made[:, 5:].argmax(-1))
[detections] = nms(made)
print(
    "by hand, in the same order as the library's:",
    torch.allclose(made[kept, 5:].max(-1).values, detections[:, 5]),
)
print(f"{len(made)} boxes before, {len(detections)} after")

# %% tags=["hide-input"]
#| label: fig-suppression
#| caption: >-
#|   The chosen predictions of {numref}`fig-assignment` with made-up scores, before and after suppression {eq}`eq-nms`. Boxes of one class that overlap by less than the limit both stay.
#| alt: Left several overlapping boxes with scores, right fewer.
everything = nms(made, iou=1.0)[0]
_ = plots.save(
    drawings.suppression((64, 64), everything.numpy(), detections.numpy()),
    workspace.figures / "suppression.png",
)

# %% [markdown]
# The whole network stands once more in `ssmbook.detector.plain`, as functions without classes, in the order of this chapter; it is what the fast version is tested against, in outputs and gradients.
#
# (sec-sizes)=
# ## Sizes
#
# Presets are plain keyword arguments: `embed_dim`, `dim_head` and `fpn_depth` make small and base, the input and its
# partition Gen1 and 1 Mpx ("gen4"). The recurrence is exchanged and the rest stays: `s5` and `s4d` are the rows S5-ViT
# and S4D-ViT of the paper, `convlstm` is RVT, which also comes in tiny. Parameters and operations are counted, not quoted; a GFLOP is $10^9$ multiplications or additions, for one frame.

# %%
#| label: tbl-presets
#| tbl-cap: >-
#|   What a preset sets, and the operations of neck and head, which no recurrence changes.
presets = ["gen1-small", "gen1-base", "gen4-small", "gen4-base"]
rvt_only = sizes_table(["gen1-tiny", "gen4-tiny"], ["convlstm"])
sizes = pd.concat([sizes_table(presets, RECURRENCES), rvt_only], ignore_index=True)
_ = write_table(workspace.tables / "sizes.csv", sizes, profile=profile)
by_preset = sizes.drop_duplicates("preset").set_index("preset")
by_preset[["input", "partition", "embed_dim", "neck and head GFLOP"]].round(2)

# %%
#| label: tbl-sizes
#| tbl-cap: >-
#|   Networks of every size and recurrence. State-space layers count as one step of their recurrence; a dash is not a preset.
sizes["parameters (M)"] = sizes["parameters"] / 1e6
counts = {
    name: sizes.pivot(index="preset", columns="recurrence", values=name).loc[
        by_preset.index, list(RECURRENCES)
    ]
    for name in ("parameters (M)", "backbone GFLOP")
}
by_recurrence = pd.concat(counts).rename_axis(index=["", "preset"], columns=None)
by_recurrence.map(lambda value: f"{value:.2f}" if math.isfinite(value) else "–")

# %% tags=["hide-input"]
#| label: fig-sizes
#| caption: >-
#|   Parameters and operations of the networks on Gen1. The recurrence changes both by little: in the base network it holds less than a sixth of the parameters.
#| alt: Two dot plots with a row for each recurrence; the dots of a preset lie nearly above each other.
_ = plots.save(drawings.sizes(sizes[sizes["preset"].str.startswith("gen1")]), workspace.figures / "sizes.png")
base = sizes[sizes["preset"] == "gen1-base"].set_index("recurrence")
print(
    f"gen1-base: S5 adds {(base['parameters']['s5'] - base['parameters']['none']) / 1e6:.1f} million parameters to none, ConvLSTM {(base['parameters']['convlstm'] - base['parameters']['none']) / 1e6:.1f}"
)

# %% [markdown]
# For comparison, figures **quoted from Table 1 of the paper** [@zubic2024] (T4 GPU, batch 1, 20 Hz; the last column
# counts parameters in millions):

# %%
#| label: tbl-paper
#| tbl-cap: >-
#|   Quoted from Table 1 of the paper, not ours.
PAPER_TABLE_1

# %% [markdown]
# Our counts agree with the parameters of S5-ViT and RVT; for S4D-ViT-B {numref}`tbl-sizes` has more than the paper.
#
# The input and the attention's groups follow from the size of the sensor by one rule: each side of the input is the smallest
# multiple of $32k$ that holds the frame's, and the side of a group is that of the input divided by $32k$, with the smallest $k$ for which no
# side of a group is above 10. So a camera of any size has a network:

# %%
pd.DataFrame({f"{h} × {w}": input_sizes(h, w) for h, w in [(240, 304), (360, 640), (260, 346), (480, 640)]}).T

# %% [markdown]
# Released weights fit these networks. `load_checkpoint` takes the files of S5-ViT and RVT, of
# which only tensors are read and nothing is run; [chapter 8](#ch-evaluation) says what to expect of them.
#
# ## What was learnt
#
# Attention mixes space within a frame, at a cost linear in the pixels {eq}`eq-attention-cost`; a layer at each pixel mixes time, and is the only part that a `step_scale` reaches. A pyramid joins scales, a head makes a box of each position {eq}`eq-decode`, SimOTA decides which of them learn from which box {eq}`eq-cost`, and three losses teach them {eq}`eq-total-loss`.
# [Chapter 7](#ch-training) feeds all this with streams.
#
# ## Exercises
#
# :::{exercise} How many operations?
# :label: ex-attention-cost
# Count the operations of {eq}`eq-attention-cost` for the two blocks of stage 1 of gen1-base, and what global attention would take instead. Check the number of one block with PyTorch's counter.
# :::
#
# :::{solution} ex-attention-cost
# :class: dropdown
# ```{literalinclude} solutions/06_detector.py
# :start-after: # %% ex-attention-cost
# :end-before: # %% ex-two-blocks
# ```
# :::
#
# :::{exercise} From everywhere to everywhere
# :label: ex-two-blocks
# Show that after one window and one grid block every pixel depends on every other, for a map of 8 × 10 with groups of 4 × 5. Is it still true if the sides of the map are twice as long and the groups stay? Four times?
# :::
#
# :::{solution} ex-two-blocks
# :class: dropdown
# ```{literalinclude} solutions/06_detector.py
# :start-after: # %% ex-two-blocks
# :end-before: # %% ex-no-overlap
# ```
# :::
#
# :::{exercise} A prediction that misses
# :label: ex-no-overlap
# A foreground prediction does not overlap its box at all. What are its box loss, the gradient of it, and the target of its class? What moves it, then?
# :::
#
# :::{solution} ex-no-overlap
# :class: dropdown
# ```{literalinclude} solutions/06_detector.py
# :start-after: # %% ex-no-overlap
# :end-before: # %% ex-prior
# ```
# :::
#
# :::{exercise} What an untrained head costs
# :label: ex-prior
# A frame has 1,680 positions, of which 10 are foreground. What is the objectness loss {eq}`eq-objectness-loss` at the start if the raw scores are their biases, with those of {eq}`eq-prior` and with 0?
# :::
#
# :::{solution} ex-prior
# :class: dropdown
# ```{literalinclude} solutions/06_detector.py
# :start-after: # %% ex-prior
# :end-before: # %% ex-own-camera
# ```
# :::
#
# :::{exercise} A camera of your own
# :label: ex-own-camera
# Make the small network for a camera of 260 × 346 px with one class, and run one empty frame through it. How many boxes does it predict, and how many parameters differ from gen1-small?
# :::
#
# :::{solution} ex-own-camera
# :class: dropdown
# ```{literalinclude} solutions/06_detector.py
# :start-after: # %% ex-own-camera
# ```
# :::
#
# ## Further reading
#
# @gehrig2023rvt describe the backbone, @zubic2024 the change to S5, @tu2022 the attention. @ge2021yolox is the source of neck, head and assignment, and @ge2021ota of the idea behind it; @lin2017 and @liu2018 are the two pyramids.

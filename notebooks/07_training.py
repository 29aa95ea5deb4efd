# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-training)=
# # Training
#
# A recording lasts a minute, 1,200 windows; the memory of a GPU holds a few dozen with all that their gradients need.
# How does a network that is supposed to remember learn from pieces? This chapter cuts recordings into chunks, says
# what the cut costs, and trains the detector of [chapter 6](06_detector.ipynb).
#
# After it you can
#
# - choose the length of chunks, the sampling and a burn-in, and say which gradients are lost;
# - read the first loss of a run and know whether the network is wired up correctly;
# - train on simulated scenes here, or on Gen1 and 1 Mpx on a GPU node, and go on where a run was stopped;
# - fine-tune a released checkpoint for other classes and another sensor.
#
# On a GPU node the same chapter trains the paper's network, and so does the command line, on as many GPUs as it is
# given ([chapter 12](12_scaling.ipynb)):
#
# ```
# papermill notebooks/07_training.ipynb out.ipynb -p profile gen1-base -p data_dir /path/to/gen1
# ssmbook train --profile gen1-base --data-dir /path/to/gen1 --devices 4
# ```

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
representation: str = ""  # traces, mixeddensity_stack or stacked_histogram; the profile's by default
accelerator: str = "auto"  # Lightning's: auto, cpu, gpu
devices: int = 1  # processes on this machine, a device each
workers: int = 1  # processes that train, a model each at a time, on one machine without a GPU
logger: str = "csv"  # where metrics go besides metrics.csv: tensorboard or wandb

# %% tags=["hide-input"]
import json
import math
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Image

from ssmbook import plots
from ssmbook.dataset import Sensor, find_sequences
from ssmbook.dataset.augment import Flip, ZoomIn, ZoomOut
from ssmbook.detector import fine_tune, input_sizes, load_checkpoint
from ssmbook.drawings import training as drawings
from ssmbook.study import Workspace, answers, get_profile, in_words, train_models
from ssmbook.study.workspace import book_root
from ssmbook.training import Training, TrainingStep, learning_rate_for, optimizer_and_schedule, read_metrics

plots.style()
workspace = Workspace(profile, data_dir, representation=representation, logger=logger)

# %% [markdown]
# ## A chunk and its labels
#
# A chunk is $L$ consecutive windows, a batch $B$ chunks side by side. Few windows have labels: on Gen1 one in five.
# The batch holds all windows once, and for each labelled one its place (step, slot) and its boxes. Features of windows
# without a label are computed, since the state passes through them, but neck and head see labelled windows alone.

# %%
batch = workspace.training_batch()
L, B, C, H, W = batch.x.shape
described = {
    "windows of a chunk, L": L,
    "chunks, B": B,
    "frame [C, H, W]": f"{C} × {H} × {W}",
    "labelled windows": len(batch.frames),
    "boxes in them": sum(map(len, batch.labels)),
}
pd.Series(described, name="a batch of this profile").to_frame()

# %% tags=["hide-input"]
#| label: fig-batch
#| caption: Four labelled windows of one training batch, with their boxes. Step and slot say where in the batch they are.
#| alt: Four small pictures of red and blue events with coloured boxes around cars and pedestrians.
fig, axes = plt.subplots(1, 4, figsize=(plots.WIDTH_IN, 2.0))
picks = torch.linspace(0, len(batch.frames) - 1, 4).long().tolist()
for ax, m in zip(axes, picks, strict=True):
    step, slot = batch.frames[m].tolist()
    plots.show_frame(ax, batch.x[step, slot].numpy(), f"step {step}, slot {slot}", workspace.represent)
    plots.show_boxes(ax, batch.labels[m], workspace.sensor.classes)
_ = plots.save(fig, workspace.figures / "training_batch.png")

# %% [markdown]
# ## Truncated backpropagation
#
# The loss at window $j$ depends on the weights $\theta$ through every step before it. By the chain rule the gradient
# is a sum over the steps at which the weights acted [@werbos1990],
#
# $$ \frac{\partial \ell_j}{\partial \theta} = \sum_{i \le j} \frac{\partial \ell_j}{\partial x_j}
#    \Bigl( \prod_{m=i+1}^{j} \frac{\partial x_m}{\partial x_{m-1}} \Bigr) \frac{\partial x_i}{\partial \theta} , $$ (eq-bptt)
#
# and for a diagonal state-space layer the product is $\bar\Lambda^{\,j-i}$: what a mode has forgotten has no gradient
# either. Truncation [@williams1990] keeps the terms of the same chunk, $i \ge i_0$ with $i_0$ its first window. {numref}`fig-bptt` shows the two
# directions: values may flow from chunk to chunk, gradients stop at the seam.

# %% tags=["hide-input"]
#| label: fig-bptt
#| caption: >-
#|   Three chunks of a stream. The state's value goes on (blue); the gradient of a loss goes back to the start of its own chunk (red) and
#|   is cut there.
#| alt: Three groups of five steps in a row. Blue arrows go right through all of them; red arrows go left within each group and end in a bar at its start.
fig = drawings.truncation_diagram()
_ = plots.save(fig, workspace.figures / "bptt.png")

# %% [markdown]
# What is lost can be computed for one mode. Let it decay by $\bar\lambda = e^{-1/T}$ a step, with a time constant of
# $T$ windows, under a constant input. The whole gradient of the state with respect to $\bar\lambda$ is in proportion
# to $\sum_{m \ge 1} m\,\bar\lambda^{m-1}$: an input $m$ steps ago has passed through the transition $m$ times. A loss
# $n$ steps into its chunk sees at most $n$ of these passages, for every input if the state was carried, and for the
# inputs of the chunk alone if it started from zero. The shares that are kept are
#
# $$ \begin{gathered} S_n^{\mathrm{carried}} = \frac{\sum_{m} \min(m, n)\,\bar\lambda^{m-1}}{\sum_{m} m\,\bar\lambda^{m-1}} = 1 - \bar\lambda^{\,n} , \\
#    S_n^{\mathrm{zero}} = 1 - \bar\lambda^{\,n-1} \bigl( 1 + (n - 1)(1 - \bar\lambda) \bigr) , \end{gathered} $$ (eq-share)
#
# so that carrying the value helps the gradient, too. Here are the formulas beside what autograd finds on graphs that
# are cut.


# %%
def kept_share(T: float, n: int, carried: bool) -> float:
    """Share of a mode's gradient that a loss n steps into its chunk has."""
    decay = math.exp(-1 / T)
    return 1 - decay**n if carried else 1 - decay ** (n - 1) * (1 + (n - 1) * (1 - decay))


def kept_by_autograd(T: float, n: int, carried: bool, steps: int = 400) -> float:
    """The same from two graphs, one of them cut n steps before the end."""
    slopes = []
    for cut in (None, steps - n):
        decay = torch.tensor(math.exp(-1 / T), dtype=torch.float64, requires_grad=True)
        x = torch.zeros((), dtype=torch.float64)
        for j in range(steps):
            if j == cut:
                x = x.detach() if carried else torch.zeros_like(x)
            x = decay * x + 1
        slopes.append(torch.autograd.grad(x, decay)[0].item())
    return slopes[1] / slopes[0]


rows = {
    (n, "carried" if carried else "zero"): (kept_share(20, n, carried), kept_by_autograd(20, n, carried))
    for n in (5, 20, 60)
    for carried in (True, False)
}
check = pd.DataFrame(rows, index=["formula", "autograd"]).T
check.rename_axis(["n, T = 20", "start"]).round(3)

# %% [markdown]
# The formula says which memories a chunk can teach. Averaged over the places of the labels in a chunk of $L$:

# %%
lengths, constants = (5, 10, 21, 100), (2, 10, 40, 200)
means = pd.DataFrame(
    {
        (start, f"T = {T}"): [
            np.mean([kept_share(T, n, start == "carried") for n in range(1, L + 1)]) for L in lengths
        ]
        for start in ("carried", "zero")
        for T in constants
    },
    index=pd.Index(lengths, name="L"),
)
means.round(2)

# %% tags=["hide-input"]
#| label: fig-share
#| caption: >-
#|   Share of the gradient of a mode's decay that a chunk keeps, {eq}`eq-share`, averaged over label places, with the state carried (solid) and
#|   from zero (dashed). Dotted: the chunks of 1 Mpx and Gen1.
#| alt: Four rising curves; a mode of two windows is learnt within ten steps, one of 200 windows hardly within a hundred.
fig = drawings.share_curves(kept_share, constants=(2, 10, 40, 200), marks=(10, 21))
_ = plots.save(fig, workspace.figures / "kept_share.png")
for start in ("carried", "zero"):
    print(
        f"a mode of 2 s in chunks of 21 windows, {start}: {means.loc[21, (start, 'T = 40')]:.0%} of its gradient"
    )

# %% [markdown]
# The gradient of a slow mode is thus small, and also biased: what a change of the mode does to losses beyond the chunk is missing
# from it, so that a detector learns what helps within a second. That a trained S5 nevertheless remembers for longer
# ([chapter 10](10_memory.ipynb)) is owed to its start, whose modes are slow before any training ([chapter 3](03_state_space_layers.ipynb)).
#
# ## What a chunk costs
#
# Why not take longer chunks? Because everything between a window's frame and its loss is kept until the gradient has
# passed, so that memory grows as
#
# $$ \text{memory} \approx m_0 + m_1\,L\,B , $$ (eq-chunk-memory)
#
# with weights, gradients and the optimizer's moments in $m_0$. One can pay with time instead: activation checkpointing keeps what
# enters a stage and its recurrence, and computes the rest again, a few frames at a time, when the gradient comes: a second forward pass where a step
# has one forward and two of its size backward, so that arithmetic grows by up to a third. The committed
# benchmark of the detector gives what it costs here, for the small network of Gen1 with $L = 21$ and one chunk, on a
# CPU.

# %%
rows = {
    row["row"]: row
    for row in json.loads((book_root() / "benchmarks" / "results" / "detector_cpu.json").read_text())["rows"]
}
step_ms, memory_mb = rows["training step, L = 21, fp32"], rows["peak memory, MB, ours"]
costs = pd.DataFrame(
    {
        "s a step": [step_ms["plain"] / 1e3, step_ms["ours"] / 1e3, step_ms["checkpointing"] / 1e3],
        "peak memory (GB)": [
            memory_mb["plain"] / 1e3,
            memory_mb["ours"] / 1e3,
            rows["peak memory, MB, checkpointing"]["ours"] / 1e3,
        ],
    },
    index=["plain PyTorch", "this library", "this library, checkpointing"],
)
costs.round(2)

# %% [markdown]
# `ssmbook train --checkpointing` halves the memory for about a fifth more time; the weights that it learns are the same. Without it this library
# computes only its widest layers, the MLPs, again.
#
# The scan itself keeps its states and nothing else ([chapter 4](04_scans.ipynb)). What fills the memory are the maps of the
# first stages, and they fill it whether or not a window has a label. A chunk of 21 windows with four labels therefore
# costs about five times what its four labelled windows would cost alone, and that is the price of a memory of one second.
#
# ## Random chunks, streams, burn-in
#
# There are three ways to begin a chunk ({numref}`fig-sampling`). A **random chunk** ends at a label drawn at random
# and starts from zero. A **stream** runs through its recording chunk after chunk and starts from the state that the
# last one left, as it will be in use; but consecutive batches are then alike, and the state was computed with weights
# that have changed since. The released code takes half of each batch from either
# ("mixed" sampling). **Burn-in** [@kapturowski2019] is a third way: before a random chunk, some windows of its true past are run without gradient, to fill the state with the present
# weights.

# %% tags=["hide-input"]
#| label: fig-sampling
#| caption: Where a chunk's state comes from, from zero, from the chunk before, or from a burn-in. Grey windows are run without a gradient.
#| alt: Three rows of squares for windows. Random chunk, five coloured squares after a zero; stream, chunks one after another linked by arrows; burn-in, grey squares before five coloured ones.
fig = drawings.sampling_diagram()
_ = plots.save(fig, workspace.figures / "sampling.png")

# %% [markdown]
# How long must a burn-in be? The recurrence is linear in its state, so that a wrong start fades by itself,
#
# $$ x_j - x_j^{\mathrm{true}} = \bar\Lambda^{\,j}\,(x_0 - x_0^{\mathrm{true}}) , $$ (eq-forget)
#
# and after $n$ windows a mode of time constant $T$ still has $e^{-n/T}$ of the error. With the modes of S5's start, whose time
# constants reach 2,000 windows, that can take long. Here is the whole detector
# of this profile (as it starts, untrained): the difference of its features from those with the whole past, on the
# last window of a recording.

# %%
sequence = find_sequences(workspace.preprocessed() / "train")[0]
past = torch.from_numpy(sequence.frames(0, len(sequence)))[:, None]
fresh = workspace.new_model("s5").eval()
with torch.no_grad():
    true_features, _ = fresh.features(past)
    rows = {}
    for n in (0, 1, 2, 5, 10):
        features, _ = fresh.features(past[-1 - n :])
        rows[n] = {
            f"stage {i}": float((features[i][-1] - true_features[i][-1]).norm() / true_features[i][-1].norm())
            for i in features
        }
pd.DataFrame(rows).T.rename_axis("windows of burn-in").round(3)

# %% [markdown]
# All these windows lie a stride apart. A network that shall run at many rates can meet them in training: on the *mixed* grid strides of
# 50 ms are cut into up to ten equal steps, or up to four make one, at random, and `step_scale` follows every step, those of the burn-in
# too (`Training(mixed_rates="true")`, `ssmbook preprocess --grid mixed`). {numref}`sec-trained-rates` has what that brings.
#
# ## The first loss
#
# Before anything is trained the loss can be predicted, and a wrong wiring shows at once. The head starts with biases
# of $-\log 99$, so that every objectness and every class score is $\sigma(-\log 99) = 0.01$ ([chapter 6](06_detector.ipynb)).
# With $A$ anchors a frame, $M$ labelled frames and $n$ foreground anchors the objectness loss is then near
#
# $$ \ell_{\mathrm{obj}} \approx \frac{1}{n} \bigl[ (MA - n)\,(-\log 0.99) + n\,(-\log 0.01) \bigr] , $$ (eq-first-loss)
#
# where the second term is $-\log 0.01 = 4.6$ for any $n$, and the first is 0.01 times the number of anchors without an object for each
# anchor with one: it dominates where objects are few. The box loss is below 5, its weight. (The last
# layers have random weights beside their biases, so scores scatter around 0.01; the prediction is for their bias
# alone.)

# %%
step = TrainingStep(workspace.new_model("s5"), workspace.training("s5")).train()
with torch.no_grad():
    losses, _ = step(batch.x, batch.frames, batch.targets)
boxes = sum(map(len, batch.labels))
n = round(float(losses["num_fg"]) * boxes)
anchors = len(step.model.anchors) * len(batch.frames)
expected = ((anchors - n) * -math.log(0.99) + n * -math.log(0.01)) / n
first = {"foreground anchors": n, "all anchors": anchors, "objectness, predicted": expected}
first |= {
    "objectness, measured": float(losses["conf_loss"]),
    "box (below 5)": float(losses["iou_loss"]),
    "class": float(losses["cls_loss"]),
}
pd.Series(first, name="before the first step").round(2).to_frame()

# %% [markdown]
# As training goes on, objectness usually falls first, since "nothing here" is right nearly everywhere; the box loss follows
# when scores begin to pick places; the class loss last. A loss that does not fall from its first value in some hundred
# steps points to a fault; one that falls to the value for "nothing anywhere" ({numref}`ex-nothing`) and stays there, often to a learning
# rate that is too high. The number of foreground anchors is logged beside the losses, as a multiple of the number of
# boxes. It begins near one for each box, because the boxes of an untrained network overlap the true ones little and SimOTA gives every box at
# least one anchor; when it rises, boxes have begun to be detected, since by {eq}`eq-dynamic-k` a box gets the more anchors the better
# they overlap it. A loss goes up and down with the number of boxes in a batch and with their size, so compare means
# over some hundred steps and not single values, and compare runs by their validation AP and not by their loss.
#
# ## Rule and schedule
#
# Weights are updated by AdamW [@loshchilov2019, alg. 2]: with the gradient $g$, moments $m$ and $v$, and $\hat m$ and $\hat v$ the moments corrected for
# their start at 0,
#
# $$ \begin{gathered} m \leftarrow \beta_1 m + (1 - \beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\,g^2, \\
#    \theta \leftarrow \theta - \eta_t \Bigl( \frac{\hat m}{\sqrt{\hat v} + \epsilon} + w\,\theta \Bigr) , \end{gathered} $$ (eq-adamw)
#
# with weight decay $w = 0$ as published. Gradients are first clipped, each number by itself,
#
# $$ g \leftarrow \max(-1,\, \min(1,\, g)) , $$ (eq-clip)
#
# and the learning rate runs through one cycle of straight lines [@smith2019, on the one-cycle policy] over $N$ steps: up from a
# twentieth of its maximum in the first share $p$ of them, then down to nearly nothing,
#
# $$ \eta_t = \eta \cdot \begin{cases}
#    \frac1{20} + \frac{19}{20}\,\frac{t}{pN} & t \le pN \\[2pt]
#    1 - \frac{t - pN}{N - pN} & t > pN \end{cases} , \qquad \eta = 2 \cdot 10^{-4} \sqrt{b / 8} , $$ (eq-one-cycle)
#
# where $b$ chunks make a step, over all devices. The next cell compares it with PyTorch's own, {numref}`fig-schedule` draws it.


# %%
def one_cycle(t: np.ndarray, steps: int, share: float) -> np.ndarray:
    """The learning rate as a share of its maximum."""
    up = share * steps - 1  # PyTorch counts the last step of the rise as its top
    return np.where(t <= up, 1 / 20 + 19 / 20 * t / up, 1 - (t - up) / (steps - 1 - up))


short = Training(steps=400, warmup=0.1, learning_rate=1.0)
weights = torch.nn.Linear(1, 1)
optimizer, schedule = optimizer_and_schedule(weights, short)
seen = []
for _ in range(short.steps):
    seen.append(schedule.get_last_lr()[0])
    optimizer.step()
    schedule.step()
apart = np.abs(one_cycle(np.arange(400), 400, 0.1) - np.array(seen)).max()
print(f"the formula and PyTorch's schedule differ by less than 1e-4 of the maximum: {apart < 1e-4}")

# %% tags=["hide-input"]
#| label: fig-schedule
#| caption: "The learning rate over a run, {eq}`eq-one-cycle`, for the published schedule (p = 0.005) and the one of the simulated profiles (p = 0.1)."
#| alt: Two curves over steps that rise to one, one at once and one within a tenth of the run, and fall in a straight line to zero.
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.2))
share = np.linspace(0, 1, 1000)
for p, colour, look in ((0.005, plots.BLUE, "-"), (0.1, plots.ORANGE, "--")):
    _ = ax.plot(share, one_cycle(share * 9999, 10_000, p), look, color=colour, label=f"p = {p:g}")
_ = ax.set(xlabel="share of the run", ylabel="learning rate / maximum")
_ = ax.legend(frameon=False)
_ = plots.save(fig, workspace.figures / "schedule.png")
print("learning rate:", in_words({f"batch {b}": f"{learning_rate_for(b):.1e}" for b in (2, 8, 16, 64)}))

# %% [markdown]
# The settings of this profile, and those of the released code on both sets, which are the same for the small and the
# base network:

# %%
settings = {
    name: asdict(get_profile(name).training) for name in dict.fromkeys((profile, "gen1-base", "gen4-base"))
}
shown = [
    "steps",
    "batch_size",
    "sequence_length",
    "learning_rate",
    "weight_decay",
    "warmup",
    "clip",
    "sampling",
    "augment",
    "precision",
]
pd.DataFrame(settings).loc[shown].map(
    lambda value: f"{value:.3g}" if isinstance(value, float) else f"{value}"
)

# %% [markdown]
# Models can only be compared if none is held back by its learning rate. The simulated profiles have the same for all, the best of three for selective S5
# and for the ConvLSTM. Plain S5 is two AP better at half of it (on the test split its three seeds differ by one). Twice of it is far too much for all, and the ConvLSTM learns
# nothing by it. One seed each is no proof.

# %%
#| label: tbl-learning-rates
#| tbl-cap: >-
#|   AP × 100 on the validation split of the study by model and learning rate, windows of 50 ms, first seed, 600 steps
#|   (`benchmarks/learning_rates.py`).
found = pd.DataFrame(
    json.loads((book_root() / "benchmarks" / "results" / "learning_rates.json").read_text())["rows"]
)
found["model"] = found["model"].map(answers.MODEL_NAMES)
answers.printed(100 * found.pivot(index="model", columns="learning_rate", values="AP"))

# %% [markdown]
# ## Augmentation
#
# Frames and boxes are flipped and zoomed together. A flip maps a box by
#
# $$ x \leftarrow W - 1 - x - w , $$ (eq-flip)
#
# and a zoom by $f$ cuts a window of $W/f \times H/f$ (in) or pastes the frame at $1/f$ of its size (out). A random
# chunk draws anew each time; a stream draws once for each unbroken piece of a recording, since a world that is mirrored between two chunks
# would be a poor thing to remember.

# %% tags=["hide-input"]
#| label: fig-augment
#| caption: One labelled window as it is, flipped, zoomed in and zoomed out, with its boxes.
#| alt: Four versions of one picture of events; the boxes move with the objects.
frame, labels = batch.x[tuple(batch.frames[0].tolist())], batch.labels[0]
versions = {
    "as it is": None,
    "flip": Flip(),
    "zoom in, 1.5": ZoomIn(W // 8, H // 8, 1.5),
    "zoom out, 1.2": ZoomOut(W // 12, H // 12, 1.2),
}
fig, axes = plt.subplots(1, 4, figsize=(plots.WIDTH_IN, 2.0))
for ax, (name, transform) in zip(axes, versions.items(), strict=True):
    moved = frame if transform is None else transform.frames(frame)
    moved_boxes = labels if transform is None else transform.boxes(labels, H, W)
    plots.show_frame(ax, moved.numpy(), name, workspace.represent)
    plots.show_boxes(ax, moved_boxes)
_ = plots.save(fig, workspace.figures / "augment.png")
twice = Flip().boxes(Flip().boxes(labels, H, W), H, W)
print("a flip undoes itself:", bool(np.allclose(twice["x"], labels["x"], atol=1e-3)))

# %% [markdown]
# ## The run
#
# `Workspace.train` returns a finished run as it is and goes on with an interrupted one; on a CPU it ends with the same
# weights, bit for bit, as if nothing had happened. In `runs/<model>` of the data folder lie `model.ckpt`, the best and
# the last state, the metrics, the provenance, and a picture for each validation. The provenance names the commit, the
# settings, the seed, the data with a hash of its parameters, versions, hardware and time; a run whose settings differ
# from those in its folder is not continued but put aside under another name.
#
# Two settings may change on purpose. `ssmbook train --extend --steps 1000` goes on with a run, ended or not, from its
# weights, the optimizer's moments and the position in the data; `--learning-rate` may be another one. From there on the
# learning rate is what one cycle over all the steps has at each step: a run of 500 steps that is extended to 1000 goes
# on near half the maximum and falls to zero again. Any other difference is refused, and named. A run that `--patience`
# ended early goes on with a larger one, or 0, as if it had always had it.
#
# Two runs with one seed give the same network on a CPU. Two seeds do not, and on small sets they differ by more than
# many a published improvement; the study of this book trains every model three times and shows the range
# ([chapter 9](09_rates.ipynb)). Whoever compares two models by one run each compares two seeds.

# %%
if workers > 1:
    train_models(workspace, workers)
for model in workspace.profile.variants:
    checkpoint = workspace.train(model, accelerator, devices)
    print(f"{model}: {checkpoint.name}, {len(read_metrics(checkpoint.parent))} rows of metrics")

# %% tags=["nbval-ignore-output", "hide-input"]
#| label: fig-losses
#| caption: "Parts of the training loss over the steps of this profile's S5 (left) and the sum for all its models (right). The smoke profile trains for twelve steps: enough to see that the loss falls, and no more."
#| alt: Left, a line each for box, objectness and class; right, one line for each model; the sums end lower than they begin.
fig, (left, right) = plt.subplots(1, 2)
metrics = read_metrics(workspace.run(workspace.profile.variants[0]))
for part, colour in (("iou", plots.BLUE), ("conf", plots.ORANGE), ("cls", plots.GREEN)):
    _ = left.plot(
        metrics[f"train/{part}_loss"].dropna(),
        color=colour,
        label={"iou": "box", "conf": "objectness", "cls": "class"}[part],
    )
for model in workspace.profile.variants:
    losses = read_metrics(workspace.run(model))["train/loss"].dropna()
    _ = right.plot(losses, color=plots.MODEL_COLOURS[model], label=model)
_ = left.set(xlabel="step", ylabel="loss")
_ = right.set(xlabel="step", ylabel="sum")
for ax in (left, right):
    _ = ax.legend(frameon=False)
_ = plots.save(fig, workspace.figures / "losses.png")

# %%
falls = {
    m: float(read_metrics(workspace.run(m))["train/loss"].dropna().diff().sum()) < 0
    for m in workspace.profile.variants
}
print("the loss fell from the first step to the last:", in_words(falls))

# %% [markdown]
# Each validation also leaves a picture: ground truth solid, detections above a score of 0.3 dashed, and the curves
# below.

# %% tags=["nbval-ignore-output"]
#| label: fig-panel
#| caption: The panel that a run writes at each validation. Above, labelled windows of the validation split with boxes; below, the parts of the loss, the AP of each validation, and the learning rate with the windows per second (dotted).
#| alt: Pictures of events with boxes above three small plots of losses, average precision and learning rate.
panels = sorted((workspace.run(workspace.profile.variants[0]) / "panels").glob("*.png"))
Image(str(panels[-1]))

# %% [markdown]
# ## Your own classes, your own sensor
#
# A released checkpoint, or one of yours, can be the start for another task. Here the sensor is larger, and there are three
# classes instead of two. `fine_tune` keeps all weights but those of the class layer, and the groups of the attention follow the new
# size by the rule of [chapter 6](06_detector.ipynb). Nothing else in the network knows how large a frame is: convolutions
# slide, attention acts within groups, and the recurrence sits at every pixel.

# %%
start = workspace.run(workspace.profile.variants[0]) / "model.ckpt"
camera = replace(Sensor.simulated(width=96, height=80), classes=("car", "pedestrian", "bicycle"))
tuned = fine_tune(start, num_classes=len(camera.classes), **input_sizes(*camera.frame_size))
before, after = load_checkpoint(start).state_dict(), tuned.state_dict()
new = sorted(name for name in after if not torch.equal(before[name], after[name]))
print(f"{len(after) - len(new)} of {len(after)} tensors are kept; new are the {len(new)} of the class layer:")
print(*new, sep="\n")

# %% [markdown]
# On the command line that is `ssmbook train --init CKPT --sensor camera.yaml --data-dir …`. With `--freeze backbone`
# neck and head alone learn: the backbone keeps its weights and buffers bit for bit, and a step takes less time and
# memory. Here are a few steps of the whole network from the trained weights, at a tenth of the learning rate and in a run folder of
# their own:

# %%
few = replace(workspace.profile.training, steps=4, validate_every=4)
few = replace(few, learning_rate=few.learning_rate / 10)
own = Workspace(replace(workspace.profile, training=few), data_dir, representation=representation)
tuned_model = own.train(accelerator=accelerator, init=start, name="fine_tuned")
print(f"{tuned_model.parent.name}: {len(read_metrics(tuned_model.parent))} rows of metrics")

# %% [markdown]
# Four further settings are worth knowing. `accumulate` adds the gradients of several batches before a step, so that a
# batch of eight fits a GPU that holds two; the foreground anchors are then counted per part. `precision` computes
# products in 16 bits ([chapter 8](08_evaluation.ipynb) shows what that costs in AP). `mask_ratio` replaces a share of the first
# stage's tokens by a learnt vector, as the released code of RVT can. And `h2_weight` adds the norm {eq}`eq-h2` of
# [chapter 5](05_time_scale.ipynb) above $\omega_{\mathrm{min}} = \pi\alpha$ to the loss, summed over all S5 layers and multiplied by that weight; it is the variant `s5-h2`
# of the study, whose eigenvalues are clipped because the norm means nothing for a mode that grows.
#
# ## What was learnt
#
# - Values may cross the seam between chunks, gradients do not; {eq}`eq-share` says what a chunk can teach about a
#   mode.
# - Streams and burn-in train on states as they will be in use; random chunks alone start from zero.
# - The first loss is predictable {eq}`eq-first-loss`.
# - A checkpoint can be fine-tuned for another sensor and other classes; one layer is new.
#
# ## Exercises
#
# :::{exercise} How long must a chunk be?
# :label: ex-chunk
# From {eq}`eq-share`, how many windows into its chunk must a loss be to have nine tenths of the gradient of a mode
# with a time constant of 20 windows, with the state carried and from zero? And with 200?
# :::
# :::{solution} ex-chunk
# :class: dropdown
# ```{literalinclude} solutions/07_training.py
# :start-after: # %% ex-chunk
# :end-before: # %% ex-burn
# ```
# :::
#
# :::{exercise} How long must a burn-in be?
# :label: ex-burn
# A layer's slowest mode has $\Delta|\mathrm{Re}\,\lambda| = 0.005$. After how many windows of burn-in is one per cent
# of a wrong start left? Check it with `ssmbook.ssm.S5`.
# :::
# :::{solution} ex-burn
# :class: dropdown
# ```{literalinclude} solutions/07_training.py
# :start-after: # %% ex-burn
# :end-before: # %% ex-clip
# ```
# :::
#
# :::{exercise} Clipping by value and by norm
# :label: ex-clip
# Clip the gradient $(3, 0.5)$ by value {eq}`eq-clip`, and by norm, that is divided by its length where that is above 1. Which of the two changes its direction? What does AdamW
# make of the difference?
# :::
# :::{solution} ex-clip
# :class: dropdown
# ```{literalinclude} solutions/07_training.py
# :start-after: # %% ex-clip
# :end-before: # %% ex-nothing
# ```
# :::
#
# :::{exercise} The loss of "nothing anywhere"
# :label: ex-nothing
# A network says objectness $q$ everywhere. Which $q$ minimises the objectness loss {eq}`eq-objectness-loss` with $n$ foreground among $A$
# anchors, and what is the loss there for $n = 20$, $A = 5040$?
# :::
# :::{solution} ex-nothing
# :class: dropdown
# ```{literalinclude} solutions/07_training.py
# :start-after: # %% ex-nothing
# ```
# :::
#
# ## Further reading
#
# Backpropagation through time and its truncation go back to @werbos1990 and @williams1990; burn-in for recurrent
# states to @kapturowski2019. AdamW is @loshchilov2019, the one-cycle schedule [@smith2019]. The recipe is that of
# @gehrig2023rvt, which [@zubic2024] took over.

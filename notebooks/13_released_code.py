# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-released-code)=
# # What the released code does
#
# A published figure is a measurement of the code that produced it. The code released with @zubic2024 differs from
# the paper's equations in several places, and some of them decide what its figures measure. This chapter runs each
# difference on weights in the released format, says what it does to a number in the paper, and says what cannot be
# known without the data.
#
# After it you can
#
# - show that the state handed from chunk to chunk has no effect there, and repair it in one line;
# - say which past a published detection has seen, in seconds;
# - tell which comparisons in the paper are like for like;
# - choose the options of this library that reproduce a published figure, and those that improve on it.
#
# None of this is an accusation. The authors published code, weights and preprocessed data, which is why the
# differences can be found at all; and [chapter 9](09_rates.ipynb) shows, on simulated streets, that the idea of the paper holds
# once the state is carried and the step follows.
#
# ## How it is known
#
# The released code was read and run beside this library. Its outputs on small networks with random weights lie in
# `tests/data`, and the tests compare features, predictions, losses, gradients, preprocessed bytes and average
# precision with them. The code itself is not part of the book: where a rule of it matters, the rule is written out
# below and run. With a checkpoint of your own as the parameter, the sections that look at weights look at yours.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
checkpoint: str = ""  # a released checkpoint of S5-ViT; a small random one in that format by default

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from ssmbook import plots
from ssmbook.dataset.labels import find_label_frames, window_ends
from ssmbook.detector import load_checkpoint
from ssmbook.drawings import released
from ssmbook.evaluation import score_boxes
from ssmbook.evaluation.average_precision import RECALL
from ssmbook.events import Events, StackedHistogram
from ssmbook.ssm import S5, diagonal_scan, discretize
from ssmbook.ssm.s5 import passes_band
from ssmbook.study import Workspace

plots.style()
workspace = Workspace(profile, data_dir)
case = released.small_case("s5vit_mini_gen1")
file = checkpoint or case.path
options = {} if checkpoint else case.sizes
model = load_checkpoint(file, None if checkpoint else "gen1-small", **options).eval()
height, width = model.input_hw
x = case.x if not checkpoint else torch.randint(0, 3, (5, 1, 20, height, width), dtype=torch.uint8)
pd.Series(
    {name: str(model.config[name]) for name in ("input_hw", "embed_dim", "recurrence", "bandlimit")}
).to_frame("value")

# %% [markdown]
# The first thing to check is that this is the same network. Here are the features that the released code computed from
# the same frames, against ours, as the largest difference relative to the largest feature.

# %%
with torch.no_grad():
    features, states = model.features(x)
if checkpoint:
    print("no recorded outputs for a checkpoint of your own")
else:
    apart = {
        f"stage {i}": float((features[i] - case.features[i]).abs().max() / case.features[i].abs().max())
        for i in features
    }
    print("all stages agree within 3e-6:", all(value < 3e-6 for value in apart.values()))

# %% [markdown]
# ## The state that is handed on has no effect
#
# A scan combines pairs $(a_i, b_i)$ by the associative operator of [@blelloch1990, on recurrences; @smith2023s5, on parallel scans, and app. H],
#
# $$ (a_i, b_i) \bullet (a_j, b_j) = (a_j a_i,\; a_j b_i + b_j) , $$ (eq-released-scan)
#
# and returns the second halves. Unrolled, the state after step $j$ is
#
# $$ x_j = \sum_{i \le j} \Bigl( \prod_{l = i+1}^{j} a_l \Bigr)\, b_i , $$ (eq-released-unrolled)
#
# in which $a_0$ does not occur: the first transition multiplies what was before the first step, and a scan starts from
# nothing. The released code hands its state over by multiplying exactly this factor,
#
# $$ a_0 \leftarrow a_0\, x_{\mathrm{prev}} . $$ (eq-released-carry)
#
# Whatever $x_{\mathrm{prev}}$ is, it ends in a number that no returned state contains. {numref}`fig-released-scan` draws the
# place.

# %% tags=["hide-input"]
#| label: fig-released-scan
#| caption: >-
#|   Where a state can enter a scan. Released code: into the first transition, which leads to no output (red). Right: into the first
#|   input (blue), {eq}`eq-right-carry`.
#| alt: A chain of four steps with inputs from below and states above. A red arrow enters the first transition and stops; a blue arrow enters the first input and reaches all states.
fig = released.scan_diagram()
_ = plots.save(fig, workspace.figures / "released_scan.png")

# %%
a = torch.polar(torch.full((5,), 0.9), torch.linspace(0, 1, 5)).expand(1, 8, 5).clone()
b = torch.randn(1, 8, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
x_prev = torch.randn(1, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
as_released = a.clone()
as_released[:, 0] *= x_prev
difference = (diagonal_scan(as_released, b) - diagonal_scan(a, b)).abs().max().item()
print(f"largest difference that a random state makes: {difference:g}")

# %% [markdown]
# The right place is the input of the first step,
#
# $$ b_0 \leftarrow b_0 + a_0\, x_{\mathrm{prev}} . $$ (eq-right-carry)

# %%
repaired = b.clone()
repaired[:, 0] += a[:, 0] * x_prev
print(
    "one line repairs it:", torch.allclose(diagonal_scan(a, repaired), diagonal_scan(a, b, x_prev), atol=1e-6)
)

# %% [markdown]
# In the whole detector the two behaviours are the option `carry`: `"published"` does in effect what the released code
# does, `"exact"` carries the state. Split a recording of five windows after the third and look at the last two: how
# far are the features from those of one long pass?


# %%
def split_difference(carry: str) -> dict[str, float]:
    """Features after a cut against those of one pass, relative to the largest."""
    detector = load_checkpoint(file, None if checkpoint else "gen1-small", carry=carry, **options).eval()
    with torch.no_grad():
        whole, _ = detector.features(x)
        _, states = detector.features(x[:3])
        parts, _ = detector.features(x[3:], states)
    return {f"stage {i}": float((parts[i] - whole[i][3:]).abs().max() / whole[i].abs().max()) for i in whole}


split = pd.DataFrame({carry: split_difference(carry) for carry in ("published", "exact")})
split.rename_axis("cut after window 3").round(4)

# %% [markdown]
# RVT, whose memory is a ConvLSTM [@gehrig2023rvt], passes its state correctly in the code that this one was forked
# from. The same cut on a small RVT in its released format:

# %%
rvt_case = released.small_case("rvt_mini_gen1")
rvt = load_checkpoint(rvt_case.path, "gen1-small", **rvt_case.sizes).eval()
with torch.no_grad():
    whole, _ = rvt.features(rvt_case.x)
    _, rvt_states = rvt.features(rvt_case.x[:3])
    carried, _ = rvt.features(rvt_case.x[3:], rvt_states)
    from_zero, _ = rvt.features(rvt_case.x[3:])
gap = {
    name: max(float((parts[i] - whole[i][3:]).abs().max() / whole[i].abs().max()) for i in whole)
    for name, parts in {"state carried": carried, "from zero": from_zero}.items()
}
pd.Series(gap, name="RVT, largest difference").round(4).to_frame()

# %% [markdown]
# So the published comparison of S5-ViT with RVT compares a memory of one chunk with a memory of the whole recording.
# That speaks for S5 where it wins, and it means that its figures could not show what a carried state is for.
#
# ## Which past a published detection has seen
#
# With chunks of $L$ windows that touch, $\delta$ seconds each, a window at place $j$ of its chunk has seen
#
# $$ T_j = (j + 1)\,\delta , \qquad 0 \le j < L , $$ (eq-history)
#
# seconds, and on average over places $(L + 1)\,\delta / 2$. Only the last window of a chunk has the full $L\delta$.

# %%
rows = []
for name, length, stride_ms in (
    ("Gen1, stride 50 ms", 21, 50),
    ("Gen1, stride 125 ms", 21, 125),
    ("1 Mpx, stride 50 ms", 10, 50),
    ("Gen1, true rate 200 Hz", 21, 5),
    ("one window at a time", 1, 50),
):
    rows.append((name, length, length * stride_ms / 1000, (length + 1) / 2 * stride_ms / 1000))
pd.DataFrame(rows, columns=["setting", "L", "longest past (s)", "mean past (s)"]).set_index("setting").round(
    3
)

# %% [markdown]
# Not every window has a label. Evaluation starts $L - 1$ windows before the first label and goes on in consecutive
# chunks of 21, and Gen1 has a label at every fifth window, so that labels fall on all places of a chunk in turn.
# {numref}`fig-history` counts the pasts of the labelled windows of a minute of recording.

# %% tags=["hide-input"]
#| label: fig-history
#| caption: >-
#|   The past that labelled windows have seen when each chunk starts from zero, for one minute of Gen1 (L = 21, a label every 250 ms,
#|   windows every 50 ms). With the state carried it grows to a minute.
#| alt: A histogram spread evenly between 0.05 and 1.05 seconds.
pasts = released.pasts_of_labels(length=21, windows_per_label=5, seconds=60, stride_s=0.05)
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.2))
_ = ax.hist(pasts, bins=np.arange(0.025, 1.1, 0.05), color=plots.BLUE, rwidth=0.8)
_ = ax.set(xlabel="seconds of the past that the window has seen", ylabel="labelled windows")
_ = plots.save(fig, workspace.figures / "history.png")
print(
    f"median past of a labelled window: {np.median(pasts):.2f} s; below a quarter of a second: {(pasts < 0.25).mean():.0%}"
)

# %% [markdown]
# An object that has been at rest in the picture for longer than that has left no event in the past of its chunk, and no
# network can know of it. The time at rest of objects is measured in [chapter 8](08_evaluation.ipynb).
#
# ## The time scale cannot follow the rate
#
# @zubic2024 scales $\Delta$ with the rate. In the released detector the argument ends at the layer: nothing in the
# network passes one to it, so that whatever this code computes, it computes with `step_scale` 1. Here it is an argument of
# the detector. How much it changes the features of these weights, at a tenth:

# %%
with torch.no_grad():
    scaled, _ = model.features(x, step_scale=0.1)
pd.Series(
    {f"stage {i}": float((scaled[i] - features[i]).norm() / features[i].norm()) for i in features},
    name="change of the features at step_scale 0.1",
).round(3).to_frame()

# %% [markdown]
# What the argument should be for each kind of input is derived in [chapter 5](05_time_scale.ipynb).
#
# ## Windows at a higher "frequency"
#
# Preprocessing in the released code has a window length as an option and a stride of 50 ms as a constant. At "200 Hz"
# it makes windows of 5 ms, still 20 a second: the {term}`held stride`. The share of the recording that falls into a
# window at all is
#
# $$ \frac{w}{\delta} = \frac{50\ \text{ms}/k}{50\ \text{ms}} = \frac1k , $$ (eq-held-share)
#
# and the rest is never seen.

# %%
#| label: tbl-held-share
#| tbl-cap: The published rates as its preprocessing makes them.
published = pd.DataFrame({"rate in the paper (Hz)": [20, 40, 80, 100, 200]})
published["window (ms)"] = 1000 / published["rate in the paper (Hz)"]
published["windows a second"] = 20
published["events seen (%)"] = 100 * published["window (ms)"] / 50
published

# %% [markdown]
# On Gen1 the script places windows differently again. It lays
#
# $$ n \cdot \Bigl\lfloor \frac{100\ \text{ms}}{\text{stride}} \Bigr\rfloor $$ (eq-published-grid)
#
# windows between two labels, where $n$ counts label intervals, as if these were 100 ms long. On 1 Mpx they are; Gen1
# is labelled every 250 ms. The library has both grids (`grid="published"`, `"exact"`), so the consequence can be
# computed from the label times of two seconds.

# %%
times = np.arange(250_000, 2_250_001, 250_000)
frames, intervals = find_label_frames(times, 250_000)
grids = {grid: window_ends(frames, intervals, 50_000, grid)[0] for grid in ("exact", "published")}
rows = []
for grid, ends in grids.items():
    between = np.diff(ends[ends >= times[0]]) / 1000
    rows.append(
        (
            grid,
            float(np.median(between)),
            1000 / float(np.median(between)),
            100 * 50 / float(np.median(between)),
        )
    )
pd.DataFrame(rows, columns=["grid", "stride (ms)", "rate (Hz)", "events seen (%)"]).set_index("grid").round(1)

# %% tags=["hide-input"]
#| label: fig-grids
#| caption: >-
#|   Windows of 50 ms (bars) between labels every 250 ms (triangles), on the exact grid and on the grid of the released script.
#| alt: Two rows of bars over a time axis. The upper row is gapless; in the lower row bars are 125 ms apart with gaps between them.
fig = released.grid_timeline(grids, times, window_us=50_000)
_ = plots.save(fig, workspace.figures / "grids.png")
for grid, ends in grids.items():
    print(f"{grid} grid: {np.count_nonzero((ends > 250_000) & (ends <= 500_000))} windows between two labels")

# %% [markdown]
# Whether the published Gen1 figures come from such a set is not known: the authors say that the preprocessed set that
# they offer was made by an earlier script. `ssmbook evaluate` prints the grid of the set that it reads, so whoever has
# the set can see.
#
# ## Bins and counts
#
# A stacked histogram divides a window into bins. The released code measures bins from the first to the last event *of
# the window*, not over the window,
#
# $$ \text{bin} = \min\Bigl( n - 1,\; \Bigl\lfloor n\,\frac{t - t_{\mathrm{first}}}{t_{\mathrm{last}} - t_{\mathrm{first}}} \Bigr\rfloor \Bigr) , $$ (eq-released-bins)
#
# so that a single early noise event moves the bins of all others. The library does the same, since the released
# weights expect it. In a window with a burst from 30 to 35 ms, and the same window with one more event at 0 ms:

# %%
burst = 30_000 + 50 * np.arange(101)


def bins_of(t: np.ndarray) -> np.ndarray:
    """Events in each of the ten bins."""
    zero = np.zeros(len(t))
    events = Events(t.astype(np.int64), zero.astype(np.uint16), zero.astype(np.uint16), zero.astype(np.uint8))
    return StackedHistogram(bins=10, height=1, width=1, count_cutoff=255)(events)[:10, 0, 0]


pd.DataFrame(
    {"burst alone": bins_of(burst), "with one event at 0 ms": bins_of(np.append(0, burst))},
    index=range(1, 11),
).rename_axis("bin").T

# %% [markdown]
# Counts are kept in 8 bits and wrap before they are clamped at 10 (the option that does this is called fast mode and
# is the default):
#
# $$ c_{\mathrm{released}} = \min(c \bmod 256,\ 10), \qquad c_{\mathrm{here}} = \min(c,\ 10) . $$ (eq-wrap)
#
# A pixel with 256 events in a bin of 5 ms comes out as 0. That is a faulty pixel, hardly a lamp ({numref}`ex-wrap`); with windows
# of seconds, as those of a fixed number of events can be, a lamp does it, too. This is the one rule of preprocessing that
# the library does not copy. {numref}`fig-wrap` shows both.


# %%
def stored(count: int) -> int:
    """What the library stores for that many events of one pixel in one bin."""
    t = np.zeros(count, np.int64)
    events = Events(t, t.astype(np.uint16), t.astype(np.uint16), t.astype(np.uint8))
    return int(StackedHistogram(bins=10, height=1, width=1)(events).max()) if count else 0


counts = [0, 5, 10, 100, 255, 256, 258, 300, 512, 600]
wrapped = pd.DataFrame(
    {"released": [min(c % 256, 10) for c in counts], "here": [stored(c) for c in counts]}, index=counts
)
wrapped.rename_axis("events").T

# %% tags=["hide-input"]
#| label: fig-wrap
#| caption: "What is stored for a number of events of one pixel in one bin, {eq}`eq-wrap`."
#| alt: The line of this library stays at 10; the released one drops to zero at 256 and 512 and climbs again.
every = np.arange(0, 601)
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.0))
_ = ax.plot(every, np.minimum(every % 256, 10), color=plots.RED, label="released")
_ = ax.plot(every, np.minimum(every, 10), "--", color=plots.BLUE, label="here")
_ = ax.set(xlabel="events", ylabel="stored count", ylim=(-0.5, 12.5))
_ = ax.legend(frameon=False, ncols=2, loc="upper right")
_ = plots.save(fig, workspace.figures / "wrap.png")
print(
    f"counts from 1 to 600 that differ: {np.count_nonzero(every % 256 != every)}, of which {np.count_nonzero((every % 256 < 10) & (every > 9))} visibly"
)

# %% [markdown]
# ## The mask acts once
#
# The released detector applies its band limit with $\alpha = 0.5$ when it is built, by setting columns of $C$ to zero,
# and trains $C$ freely afterwards ([chapter 5](05_time_scale.ipynb)). In a checkpoint one can therefore count how many modes
# lie above the limit and still reach the output.

# %%
rows = []
for i, stage in enumerate(model.backbone.stages, 1):
    layer = stage.recurrence.layer
    Lambda, step = layer.eigenvalues().detach(), layer.log_step.detach().exp()
    fast = ~passes_band(Lambda, step, 0.5)
    heard = layer.C.detach().abs().sum((0, 2)) > 0
    rows.append((i, len(Lambda), int(fast.sum()), int((fast & heard).sum())))
pd.DataFrame(rows, columns=["stage", "modes", "above the limit", "of these, in the output"]).set_index(
    "stage"
)

# %% [markdown]
# The weights of the small file are random and stand for nothing; on a released checkpoint the last column is the
# answer to whether the mask is still there after training.
#
# ## Eigenvalues that may grow
#
# A mode decays only if $\mathrm{Re}\,\lambda < 0$. The original S5 code can clip it; the released detector does not,
# so training may push a mode over the edge. By the bilinear rule
#
# $$ |\bar\Lambda|^2 = \frac{(1 + \Delta\,\mathrm{Re}\lambda/2)^2 + (\Delta\,\mathrm{Im}\lambda/2)^2}
#    {(1 - \Delta\,\mathrm{Re}\lambda/2)^2 + (\Delta\,\mathrm{Im}\lambda/2)^2} > 1
#    \iff \mathrm{Re}\,\lambda > 0 . $$ (eq-growth)
#
# A chunk of 21 windows that starts from zero hides this: there is little time to grow. A stream does not.

# %%
rows = []
for real in (-0.5, -1e-4, 0.05, 0.5):
    size = discretize(torch.tensor([complex(real, 3.0)]), torch.tensor(0.1))[0].abs().item()
    rows.append((real, size**21, size**1200, size**12000))
growth = pd.DataFrame(
    rows, columns=["Re λ", "a chunk of 21", "a minute (1,200)", "ten minutes (12,000)"]
).set_index("Re λ")
growth.map("{:.2g}".format)

# %% [markdown]
# With `clip_eigs=True` this library holds $\mathrm{Re}\,\lambda \le -10^{-4}$. In the loaded weights:

# %%
largest = {
    f"stage {i}": float(s.recurrence.layer.Lambda.detach()[:, 0].max())
    for i, s in enumerate(model.backbone.stages, 1)
}
summary = pd.Series(largest, name="largest Re λ").to_frame()
summary["grows"] = summary["largest Re λ"] > 0
summary.round(3)

# %% tags=["hide-input"]
#| label: fig-growth
#| caption: >-
#|   Size of a mode of $\mathrm{Re}\,\lambda = 0.05$, $\Delta = 0.1$ that is driven by noise: in chunks that start from zero it looks harmless
#|   (blue), in a stream it grows without bound (red).
#| alt: The blue curve saws between zero and a few; the red curve grows exponentially.
fig = released.growth(real=0.05, windows=2000, chunk=21)
_ = plots.save(fig, workspace.figures / "growth.png")

# %% [markdown]
# ## What ranks detections
#
# Average precision orders detections by a score. The head gives two numbers, the objectness $o$ and the class score
# $c$, and YOLOX [@ge2021yolox] ranks by
#
# $$ s = o \cdot c . $$ (eq-score)
#
# The released evaluation passes on the column of $c$ alone. What that costs depends on how often the network is sure
# of a class where there is no object. An illustration with made detections, chosen so that it costs much: half of the boxes of
# the simulated test set are detected, and there are as many false alarms, all with high class scores, told apart by
# objectness only.

# %%
truth = [boxes for batch in workspace.streams("test") for boxes in batch.labels]
found = released.made_detections(truth, workspace.sensor, seed=0)
busiest = int(np.bincount(np.concatenate(truth)["class_id"]).argmax())
curves = {}
for name in ("product", "class"):
    scored = [boxes.copy() for boxes, _, _ in found]
    for boxes, (_, objectness, class_score) in zip(scored, found, strict=True):
        boxes["class_confidence"] = objectness * class_score if name == "product" else class_score
    curves[name] = score_boxes(truth, scored, workspace.sensor)
pd.Series(
    {f"ranked by {name}": 100 * s.metrics["AP_50"] for name, s in curves.items()}, name="AP50 × 100"
).round(1).to_frame()

# %% tags=["hide-input"]
#| label: fig-score
#| caption: "Precision over recall of the same made detections, ranked by {eq}`eq-score` and by the class score alone."
#| alt: The curve for the product stays at precision one up to a recall of a half; the curve for the class score alone lies lower.
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.4))
for (name, scores), colour in zip(curves.items(), (plots.BLUE, plots.RED), strict=True):
    _ = ax.plot(RECALL, scores.curve(busiest), color=colour, label=f"ranked by {name}")
_ = ax.set(xlabel="recall", ylabel="precision at IoU 0.5", ylim=(0, 1.02))
_ = ax.legend(frameon=False)
_ = plots.save(fig, workspace.figures / "score.png")

# %% [markdown]
# On a checkpoint `ssmbook evaluate --score product` and `--score class` give both.
#
# ## What is not there
#
# Three more things were found. The **H2 term** of the paper's loss is in no file; its value for loaded
# weights can be computed here all the same (`ssmbook.ssm.h2`). **Options of the layer** raise errors when they are
# used: factorised $B$ and $C$, a degree other than 1, the liquid variant, and zero-order hold inside the detector. **Dependencies**:
# the data loader needs data pipes that torchdata removed in version 0.10, a W&B account and a GPU.

# %%
norms = {
    f"stage {i}": s.recurrence.layer.h2_norm(math.pi * 0.5).item() if largest[f"stage {i}"] < 0 else math.nan
    for i, s in enumerate(model.backbone.stages, 1)
}
pd.Series(norms, name="H2 norm above πα, α = 0.5").round(3).to_frame()

# %%
_ = torch.manual_seed(0)
zoh = S5(16, 16, discretization="zoh")
with torch.no_grad():
    y, _ = zoh(torch.randn(1, 100, 16))
print("zero-order hold runs here, finite:", bool(y.isfinite().all()))

# %% [markdown]
# ## What it means for the paper's figures
#
# | finding | figures that it concerns | direction |
# |---|---|---|
# | state without effect | all of S5-ViT | lower than the method can reach where objects rest; about equal where they move, on the streets of [chapter 10](10_memory.ipynb) |
# | one window at a time | timing at batch 1 | measured without a memory |
# | `step_scale` not reachable | all rates above 20 Hz | lower for inputs that look as in training; for held windows it should not follow anyway |
# | held stride | all rates above 20 Hz | a test of sparser frames, not of a higher rate |
# | windows every 125 ms | Gen1, if that script made the set | unknown |
# | wrapped counts | all | small: only pixels with 256 events or more in a bin |
# | mask once | the rows with $\alpha$ | an effect of the start, not of the trained network |
# | no H2 term | the H2 rows | cannot be repeated |
# | eigenvalues free | none published | unsafe in long streams |
# | class score ranks | all | unknown without the weights |
#
# Figures **quoted**: @zubic2024 gives 47.7 mAP on Gen1 for S5-ViT-B, and an independent replication
# [@replication2026] found 47.72 with the released checkpoint, so that the released code reproduces the published number at
# 20 Hz. Those of the higher rates it did not reach. How a detector without these faults does at
# other rates and on objects at rest is the subject of [chapter 9](09_rates.ipynb) and [chapter 10](10_memory.ipynb).
#
# ## What was learnt
#
# - A state can be handed on, pass every check of shapes, and have no effect; only a test of *values*, chunked against
#   whole, finds that.
# - The published rates, as the released preprocessing makes them, are a test of shorter windows 20 times a second, from a
#   state of at most one chunk.
# - This library reproduces each rule where weights depend on it (`carry="published"`, `grid="published"`,
#   `score="class"`) and repairs it by default.
#
# ## Exercises
#
# :::{exercise} Repair by hand
# :label: ex-repair
# Take the layer of `ssmbook.ssm.plain.s5`, run a sequence in two chunks with the state of the first written into the *first
# input* of the second by {eq}`eq-right-carry`, and show that the result is that of one pass.
# :::
# :::{solution} ex-repair
# :class: dropdown
# ```{literalinclude} solutions/13_released_code.py
# :start-after: # %% ex-repair
# :end-before: # %% ex-past
# ```
# :::
#
# :::{exercise} The past on 1 Mpx
# :label: ex-past
# On 1 Mpx chunks have 10 windows of 50 ms and every second window has a label. What is the mean past of a labelled
# window in the released evaluation?
# :::
# :::{solution} ex-past
# :class: dropdown
# ```{literalinclude} solutions/13_released_code.py
# :start-after: # %% ex-past
# :end-before: # %% ex-wrap
# ```
# :::
#
# :::{exercise} Which window wraps
# :label: ex-wrap
# A lamp flickers at 100 Hz and causes 8 ON events at a pixel in each period. From which window length on does a bin of a
# tenth of the window wrap? And how many events a second does it take with windows of 50 ms?
# :::
# :::{solution} ex-wrap
# :class: dropdown
# ```{literalinclude} solutions/13_released_code.py
# :start-after: # %% ex-wrap
# :end-before: # %% ex-edge
# ```
# :::
#
# :::{exercise} How close to the edge
# :label: ex-edge
# With $\Delta = 0.1$, up to which positive $\mathrm{Re}\,\lambda$ does a mode grow by less than one per cent in a
# chunk of 21 windows? By how much does it then grow in an hour?
# :::
# :::{solution} ex-edge
# :class: dropdown
# ```{literalinclude} solutions/13_released_code.py
# :start-after: # %% ex-edge
# ```
# :::
#
# ## Further reading
#
# The paper is @zubic2024, the detector that it builds on @gehrig2023rvt, the layer [@smith2023s5]. Parallel scans,
# and why their first element is special, are explained by @blelloch1990. The protocol of the evaluation is that of
# @perot2020 over COCO [@lin2014].

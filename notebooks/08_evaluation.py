# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-evaluation)=
# # Evaluation
#
# The Prophesee protocol: only labelled windows count, boxes of the first half second and small boxes are left
# out, and what remains is scored by COCO's average precision over IoU 0.50 to 0.95. Sequences run as streams,
# the state carried from chunk to chunk.
#
# A released checkpoint of S5-ViT or RVT on a preprocessed set is one line; so is one of your own:
#
# ```
# ssmbook evaluate gen1_base.ckpt --data /path/to/gen1
# papermill notebooks/06_evaluation.ipynb out.ipynb -p profile gen1-base -p data_dir /path/to/gen1 \
#     -p checkpoint gen1_base.ckpt
# ```
#
# **Which figure to expect.** In the released code of S5-ViT the state that goes from chunk to chunk has no effect: its
# mAP is that of chunks (21 windows on Gen1, 10 on 1 Mpx) that each start from zero, with detections ranked by
# class score alone. That is the row `published` here. In the row `exact` the state is carried, as the
# equation has it. For RVT, whose code does carry its state, `exact` is the published way. Quoted: the paper gives
# 47.7 on Gen1 for S5-ViT-B, and someone else's evaluation of the released checkpoint gave 47.72 (AP50 75.28, car
# 63.88, pedestrian 31.56).

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
representation: str = ""  # traces, mixeddensity_stack or stacked_histogram; the profile's by default
checkpoint: str = ""  # a released checkpoint, or one of yours; the profile's trained detectors by default
score: str = ""  # what ranks detections: product or class; ours by product, released ones by class by default

# %%
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ssmbook import plots
from ssmbook.evaluation import ap_by_rest, ap_by_size, evaluate_boxes
from ssmbook.evaluation.average_precision import RECALL
from ssmbook.study import Workspace, ap_by_precision, evaluate_checkpoint, score_table, write_table

plots.style()
book = Workspace(profile, data_dir, representation=representation)

# %% [markdown]
# ## The protocol, checked on itself
#
# Ground truth against itself must give 1, and against nothing 0.

# %%
streams = book.streams("test")
truth = [boxes for batch in streams for boxes in batch.labels]
height, width = book.sensor.frame_size
perfect = evaluate_boxes(truth, truth, book.sensor, height, width)
nothing = evaluate_boxes(truth, [boxes[:0] for boxes in truth], book.sensor, height, width)
perfect["AP"], nothing["AP"]

# %% [markdown]
# A tenth of the box's size to the side is a small error, and costs much: the higher IoU thresholds fail.

# %%
moved = [boxes.copy() for boxes in truth]
for boxes in moved:
    boxes["x"] += 0.1 * boxes["w"]
shifted = evaluate_boxes(truth, moved, book.sensor, height, width)
round(shifted["AP"], 1), round(shifted["AP_50"], 1)

# %% [markdown]
# ## The detectors on the test split
#
# S5 with both carries. `score` says what ranks detections: the class score alone, as published, or its product with
# objectness.

# %% tags=["nbval-ignore-output"]
files = (
    {Path(checkpoint).stem: checkpoint}
    if checkpoint
    else {name: book.train(name) for name in book.profile.variants}
)
sensor = "" if checkpoint else book.sensor
results = {}
for name, file in files.items():
    found = evaluate_checkpoint(file, book.preprocessed(), sensor=sensor, score=score)
    results |= {(name, carry): result for carry, result in found.items()}
table = score_table(results)
table.index.names = ["model", "carry"]
_ = write_table(
    book.tables / "evaluation.csv",
    table,
    profile=profile,
    checkpoint=checkpoint,
    score=score or "by checkpoint",
)
table.round(1)

# %% [markdown]
# ## What a faster arithmetic costs
#
# Published figures are in float32 without TF32, and so is everything else in this book. `--precision bf16` or `fp16`,
# of `ssmbook train` and of `ssmbook evaluate`, computes products and convolutions in 16 bits and leaves weights, the scan and
# the losses in float32. The same weights, evaluated in each, with the state carried through whole recordings:

# %% tags=["nbval-ignore-output"]
options = {"sensor": sensor, "score": score}
costs = pd.concat(
    {name: ap_by_precision(file, book.preprocessed(), **options) for name, file in files.items()},
    names=["model"],
)
_ = write_table(
    book.tables / "precision.csv",
    costs,
    profile=profile,
    checkpoint=checkpoint,
    score=score or "by checkpoint",
)
costs.round(2)

# %% [markdown]
# Activation checkpointing (`Detector(checkpointing=True)`) saves memory in training and has no row: its losses and
# gradients are those without it.

# %% [markdown]
# ## Where precision goes
#
# Precision against recall of each class at IoU 0.5: what the AP at that threshold is the mean of.

# %% tags=["nbval-ignore-output"]
result = next(result for (_, carry), result in results.items() if carry == "exact")
fig, axes = plt.subplots(1, len(result.sensor.classes), sharey=True, squeeze=False)
for c, ax in enumerate(axes[0]):
    for (name, carry), other in results.items():
        _ = ax.plot(RECALL, other.scores.curve(c), label=f"{name}, {carry}")
    _ = ax.set(title=result.sensor.classes[c], xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
_ = axes[0, 0].set_ylabel("precision at IoU 0.5")
_ = axes[0, 0].legend(frameon=False, fontsize=7)
_ = plots.save(fig, book.figures / "precision_recall.png")

# %% [markdown]
# ## Size, and time at rest
#
# An object that stands still in the picture makes no events, and only a state remembers it. **Time at rest** is
# measured from the labels: an object (a `track_id`) has moved when the centre of its box lies a pixel or more from
# where it was when it last moved; its time at rest is that since then. Boxes of other kinds are ignored; detections
# that match nothing count in every kind, so a rare kind has a lower AP for that alone: compare the models, not
# the kinds.

# %% tags=["nbval-ignore-output"]
diagonal = float(np.hypot(result.height, result.width))
size_edges = [diagonal * share for share in (0, 0.1, 0.2, 0.3, 0.5, 1)]
rest_edges = [0, 0.1, 0.25, 0.5, 1, 2, np.inf]
fig, (left, right) = plt.subplots(1, 2, sharey=True)
for (name, carry), other in results.items():
    by_size, by_rest = ap_by_size(other, size_edges), ap_by_rest(other, rest_edges)
    for ax, kinds in ((left, by_size), (right, by_rest)):
        known = kinds[kinds["AP_50"] >= 0]
        _ = ax.plot(known.index, 100 * known["AP_50"], "o-", label=f"{name}, {carry}")
_ = left.set_xticks(range(5), [f"{a:.0f}–{b:.0f}" for a, b in pairwise(size_edges)], fontsize=7)
_ = right.set_xticks(range(6), [f"{a:g}–{b:g}" for a, b in pairwise(rest_edges[:-1])] + ["2–"], fontsize=7)
_ = left.set(xlabel="diagonal of the box (px)", ylabel="AP50 × 100", ylim=(0, None))
_ = right.set(xlabel="time at rest (s)")
_ = right.legend(frameon=False, fontsize=7)
_ = plots.save(fig, book.figures / "kinds.png")

# %% tags=["nbval-ignore-output"]
kinds = pd.concat(
    {"size": ap_by_size(result, size_edges), "rest": ap_by_rest(result, rest_edges)}, names=["kind"]
)
_ = write_table(book.tables / "kinds.csv", kinds.reset_index(level=0), profile=profile, checkpoint=checkpoint)
kinds.round(2)

# %% [markdown]
# AP against the rate of the windows is the subject of the next chapter.

# %% [markdown]
# ## What they see
#
# Solid boxes are ground truth, dashed ones are detections above a score of 0.3. Windows are half a second apart;
# an object that has stopped leaves no events, and only the state remembers it.

# %% tags=["nbval-ignore-output"]
frames = [m for m, name in enumerate(result.sequences) if name == result.sequences[-1]]
picks = [frames[i] for i in np.linspace(0, len(frames) - 1, 6).astype(int)]
times = [int(result.ground_truth[m]["t"][0]) for m in picks]
pictures = book.frames_at("test", result.sequences[-1], times)

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(2, 3, figsize=(plots.WIDTH_IN, 3.8))
for ax, m, picture in zip(axes.flat, picks, pictures, strict=True):
    found = result.detections[m]
    plots.show_frame(ax, picture, f"{result.ground_truth[m]['t'][0] / 1e6:.2f} s", book.represent)
    plots.show_boxes(ax, result.ground_truth[m], book.sensor.classes)
    plots.show_boxes(ax, found[found["class_confidence"] > 0.3], scores=True, dashed=True)
_ = plots.save(fig, book.figures / "detections.png")

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Evaluation
#
# The Prophesee protocol: only labelled windows count, boxes of the first half second and small boxes are left
# out, and what remains is scored by COCO's average precision over IoU 0.50 to 0.95. Sequences run as streams,
# the state carried from chunk to chunk.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ssmbook import plots
from ssmbook.experiment import Workspace, evaluate, evaluate_boxes, write_table

plots.style()
book = Workspace(profile, data_dir)

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
# ## The trained detectors on the test split

# %% tags=["nbval-ignore-output"]
results = {}
for recurrence in book.profile.recurrences:
    model = book.model(recurrence)
    results[recurrence] = evaluate(model, book.streams("test"), book.sensor, progress=recurrence)
table = pd.DataFrame({name: result.metrics for name, result in results.items()}).T
table.index.name = "recurrence"
_ = write_table(book.tables / "evaluation.csv", table, profile=profile)
(100 * table).round(1)

# %% [markdown]
# ## What they see
#
# Solid boxes are ground truth, dashed ones are detections above a score of 0.3. Windows are half a second apart;
# an object that has stopped leaves no events, and only the state remembers it.

# %% tags=["nbval-ignore-output"]
result = next(iter(results.values()))
frames = [m for m, name in enumerate(result.sequences) if name == result.sequences[-1]]
picks = [frames[i] for i in np.linspace(0, len(frames) - 1, 6).astype(int)]
times = [int(result.ground_truth[m]["t"][0]) for m in picks]
pictures = book.frames_at("test", result.sequences[-1], times)

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(2, 3, figsize=(plots.WIDTH_IN, 3.8))
for ax, m, picture in zip(axes.flat, picks, pictures, strict=True):
    found = result.detections[m]
    plots.show_histogram(ax, picture, f"{result.ground_truth[m]['t'][0] / 1e6:.2f} s")
    plots.show_boxes(ax, result.ground_truth[m], book.sensor.classes)
    plots.show_boxes(ax, found[found["class_confidence"] > 0.3], scores=True, dashed=True)
_ = plots.save(fig, book.figures / "detections.png")

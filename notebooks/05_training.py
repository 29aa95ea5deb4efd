# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Training
#
# Each training sample is a random chunk: $L$ windows that end at a labelled one. The state starts from zero,
# every labelled window of the chunk gives a loss, and the gradient runs back through all $L$ steps. The
# schedule is the published one: AdamW, one cycle with linear annealing, gradients clipped by value.
#
# On a GPU node with the Gen1 set, the same chapter trains the paper's network:
#
# ```
# papermill notebooks/05_training.ipynb out.ipynb -p profile gen1-base -p data_dir /path/to/gen1
# ```

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
accelerator: str = "auto"  # Lightning's: auto, cpu, gpu

# %%
from dataclasses import asdict

import matplotlib.pyplot as plt
import pandas as pd
import torch

from ssmbook import plots
from ssmbook.experiment import Workspace, read_metrics

plots.style()
book = Workspace(profile, data_dir)

# %% [markdown]
# ## What is trained, and how long

# %%
pd.Series(asdict(book.profile.training), name=profile).to_frame()

# %% [markdown]
# A chunk of the training set, with all its labels: the batch holds the windows once, and for each labelled
# window its index (step, slot) and its boxes.

# %%
batch = book.training_batch()
tuple(batch.x.shape), tuple(batch.targets.shape[1:]), batch.frames.shape[1]

# %%
fig, axes = plt.subplots(1, 4, figsize=(plots.WIDTH_IN, 2.0))
picks = torch.linspace(0, len(batch.frames) - 1, 4).long().tolist()
for ax, m in zip(axes, picks, strict=True):
    step, slot = batch.frames[m].tolist()
    plots.show_histogram(ax, batch.x[step, slot].numpy(), f"window {step}, slot {slot}")
    plots.show_boxes(ax, batch.labels[m], book.sensor.classes)
_ = plots.save(fig, book.figures / "training_batch.png")

# %% [markdown]
# ## Training the models of this profile
#
# A finished training is not repeated; an interrupted one goes on where it stopped. Model, metrics and
# provenance lie in `runs/<recurrence>` of the data folder.

# %%
for recurrence in book.profile.recurrences:
    checkpoint = book.train(recurrence, accelerator)
    print(recurrence, checkpoint.name)

# %% [markdown]
# ## How it went

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2)
for recurrence in book.profile.recurrences:
    metrics = read_metrics(book.run(recurrence))
    _ = left.plot(metrics["train/loss"].dropna(), label=recurrence)
    _ = right.plot(100 * metrics["val/AP"].dropna(), "o-", label=recurrence)
_ = left.set(xlabel="step", ylabel="training loss")
_ = right.set(xlabel="step", ylabel="validation AP × 100")
_ = left.legend(frameon=False)
_ = plots.save(fig, book.figures / "training.png")

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
# A training batch is half random chunks, $L$ windows that end at a labelled one, and half streams, whose slots run
# through recordings chunk after chunk. A random chunk's state starts from zero, a stream's from where the
# chunk before has left it, cut off from its graph. Every labelled window gives a loss, and the gradient runs
# back through all $L$ steps. The schedule is the published one: AdamW, one cycle with linear annealing,
# gradients clipped by value.
#
# On a GPU node with the Gen1 set, the same chapter trains the paper's network; the command line does, too, on
# as many GPUs and nodes as `srun` or `torchrun` starts (`examples/slurm.sh`):
#
# ```
# papermill notebooks/05_training.ipynb out.ipynb -p profile gen1-base -p data_dir /path/to/gen1
# ssmbook train --profile gen1-base --data-dir /path/to/gen1 --devices 4
# ```

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
representation: str = ""  # traces, mixeddensity_stack or stacked_histogram; the profile's by default
accelerator: str = "auto"  # Lightning's: auto, cpu, gpu
devices: int = 1  # processes on this machine, a device each

# %%
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Image

from ssmbook import plots
from ssmbook.dataset import Sensor
from ssmbook.detector import fine_tune, input_sizes, load_checkpoint
from ssmbook.study import Workspace, get_profile
from ssmbook.training import learning_rate_for, read_metrics

plots.style()
book = Workspace(profile, data_dir, representation=representation)

# %% [markdown]
# ## What is trained, and how long

# %%
pd.DataFrame({name: asdict(get_profile(name).training) for name in (profile, "gen1-small", "gen4-small")})

# %% [markdown]
# The `gen1` and `gen4` columns are the hyper-parameters of the released code, of base as of small. The learning
# rate belongs to a batch of $b$ chunks over all devices and accumulated batches, and another batch takes
# another rate, $2 \cdot 10^{-4} \sqrt{b / 8}$:

# %%
{b: f"{learning_rate_for(b):.2e}" for b in (2, 4, 8, 12, 16, 32, 64)}

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
    plots.show_frame(ax, batch.x[step, slot].numpy(), f"window {step}, slot {slot}", book.represent)
    plots.show_boxes(ax, batch.labels[m], book.sensor.classes)
_ = plots.save(fig, book.figures / "training_batch.png")

# %% [markdown]
# ## Training the models of this profile
#
# A finished training is not repeated; an interrupted one goes on where it stopped, and ends with the same
# weights as if it had not been, on a CPU bit for bit. In `runs/<model>` of the data folder (`runs/<model>_seed=<n>` for
# other seeds than 0) lie `model.ckpt`, the best and the last state, metrics, provenance, and a picture for each
# validation. `ssmbook reproduce --profile study --dry-run` says how long the models of a profile take.

# %%
for seed in book.seeds:
    for model in book.profile.variants:
        checkpoint = book.with_seed(seed).train(model, accelerator, devices)
        print(model, checkpoint.name)

# %% [markdown]
# ## How it went

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2)
for model in book.profile.variants:
    metrics = read_metrics(book.run(model))
    _ = left.plot(metrics["train/loss"].dropna(), label=model)
    _ = right.plot(100 * metrics["val/AP"].dropna(), "o-", label=model)
_ = left.set(xlabel="step", ylabel="training loss")
_ = right.set(xlabel="step", ylabel="validation AP × 100")
_ = left.legend(frameon=False)
_ = plots.save(fig, book.figures / "training.png")

# %% [markdown]
# What the last validation saw: ground truth solid, detections above a score of 0.3 dashed; below, the parts of the
# loss, validation AP, and learning rate and speed.

# %% tags=["nbval-ignore-output"]
panels = sorted((book.run(book.profile.variants[0]) / "panels").glob("*.png"))
Image(str(panels[-1]))

# %% [markdown]
# ## Your own classes, your own sensor
#
# A released or own checkpoint is a beginning for another task. Here the sensor is larger, and what was two
# classes is three. `fine_tune` keeps all weights but those of the class layer, which is new, and the partition
# follows the new size. Nothing else in the network knows how large a frame is.

# %%
start = book.run(book.profile.variants[0]) / "model.ckpt"
camera = replace(Sensor.simulated(width=96, height=80), classes=("car", "pedestrian", "bicycle"))
tuned = fine_tune(start, num_classes=len(camera.classes), **input_sizes(*camera.frame_size))
{key: tuned.config[key] for key in ("input_hw", "partition", "num_classes", "recurrence")}

# %%
before, after = load_checkpoint(start).state_dict(), tuned.state_dict()
sorted(name for name in after if not torch.equal(before[name], after[name]))

# %% [markdown]
# On the command line that is `ssmbook train --init CKPT --sensor camera.yaml --data-dir …`. A few steps from the trained
# weights, at a tenth of the rate, as a training of its own beside the first:

# %%
short = replace(book.profile.training, steps=4, validate_every=4)
short = replace(short, learning_rate=short.learning_rate / 10)
own = Workspace(replace(book.profile, training=short), data_dir)
tuned_model = own.train(accelerator=accelerator, init=start, name="fine_tuned")
tuned_model.name, len(read_metrics(tuned_model.parent))

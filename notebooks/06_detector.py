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
# Four stages look at smaller and smaller pictures of the same frame, at strides 4, 8, 16 and 32. Each stage
# downsamples with a convolution, lets pixels attend to each other within windows and across a grid (MaxViT,
# Tu et al. 2022), and then carries its memory one step on: an S5 layer per pixel here, a ConvLSTM in RVT
# (Gehrig and Scaramuzza 2023). A feature pyramid joins strides 8, 16 and 32, and the head of YOLOX (Ge et al.
# 2021) turns every position of them into a box.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %%
import pandas as pd
import torch

from ssmbook.detector import RECURRENCES, input_sizes, nms
from ssmbook.study import PAPER_TABLE_1, Workspace, sizes_table, write_table

book = Workspace(profile, data_dir)
_ = torch.manual_seed(0)

# %% [markdown]
# ## Sizes
#
# Presets are plain keyword arguments: `embed_dim`, `dim_head` and `fpn_depth` make small and base, the input and its
# partition Gen1 and 1 Mpx ("gen4"). The recurrence is exchanged and the rest stays: `s5` and `s4d` are the rows S5-ViT
# and S4D-ViT of the paper, `convlstm` is RVT, which also comes in tiny, and `none` forgets every frame. A training
# takes chunks of $L$ windows, a batch of $b$ chunks in all, and the learning rate $2 \cdot 10^{-4} \sqrt{b / 8}$. Parameters
# and operations are counted, not quoted.

# %%
presets = ["gen1-small", "gen1-base", "gen4-small", "gen4-base"]
rvt_only = sizes_table(["gen1-tiny", "gen4-tiny"], ["convlstm"])
sizes = pd.concat([sizes_table(presets, RECURRENCES), rvt_only], ignore_index=True)
_ = write_table(book.tables / "sizes.csv", sizes, profile=profile)
sizes.round({"learning_rate": 6, "backbone GFLOP": 2, "neck and head GFLOP": 2, "GFLOP": 2})

# %% [markdown]
# A GFLOP is $10^9$ multiplications or additions, for one frame at batch 1. The state-space layers count as one step
# of their recurrence. Released weights fit these networks: `load_checkpoint` takes the files of S5-ViT and RVT, of
# which only tensors are read and nothing is run.
#
# The size of the input and the attention's groups follow the sensor by one rule: the input is the least
# multiple of $32k$ that holds the frame, and a group has input / $32k$ tokens, with the least $k$ for which no
# side of it is above 10. So a camera of any size has a network:

# %%
pd.DataFrame({f"{h} × {w}": input_sizes(h, w) for h, w in [(240, 304), (360, 640), (260, 346), (480, 640)]}).T

# %% [markdown]
# For comparison, figures **quoted from Table 1 of the paper** (T4 GPU, batch 1, 20 Hz); the last column
# counts parameters in millions.

# %%
PAPER_TABLE_1

# %% [markdown]
# ## One frame's way through the network
#
# A chunk is $[L, B, 20, H, W]$: $L$ windows of $B$ sequences. Every stage returns a feature map and its state, which
# goes into the next chunk.

# %%
model = book.new_model().eval()
H, W = book.sensor.frame_size
x = torch.randint(0, 3, (2, 1, 20, H, W), dtype=torch.uint8)
with torch.no_grad():
    features, states = model.features(x)
{stage: tuple(feature.shape) for stage, feature in features.items()}

# %% [markdown]
# S5's state is one complex vector per pixel, as wide as the stage.

# %%
[(tuple(state.shape), str(state.dtype)) for state in states]

# %% [markdown]
# The head predicts centre, size, objectness and classes for every anchor; non-maximum suppression keeps
# the best of those that overlap. An untrained head is sure of nothing:

# %%
with torch.no_grad():
    predictions = model.predict(features)
kept = nms(predictions, confidence=0.1)
tuple(predictions.shape), [len(rows) for rows in kept]

# %% [markdown]
# ## Chunks, or one frame at a time
#
# With the exact carry it makes no difference where the stream is cut.

# %%
with torch.no_grad():
    first, carried = model.features(x[:1])
    second, _ = model.features(x[1:], carried)
max(float((second[s] - features[s][1:]).abs().max() / features[s].abs().max()) for s in features) < 1e-4

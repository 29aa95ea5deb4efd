# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-tensors)=
# # Preprocessing
#
# A network wants tensors. This chapter cuts a stream of events into windows, turns each into a stack of histograms,
# decides which windows have a label, and writes a sequence to disk in the layout of the published sets.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
representation: str = ""  # traces, mixeddensity_stack or stacked_histogram; the profile's by default

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml

from ssmbook import plots
from ssmbook.dataset import EvaluationStreams, describe, find_sequences, get_sensor, preprocess
from ssmbook.events import MixedDensityStack, StackedHistogram, open_events
from ssmbook.study import Workspace
from ssmbook.study.workspace import book_root

plots.style()
book = Workspace(profile, data_dir, representation=representation)

# %% [markdown]
# ## Sensors
#
# What differs between cameras and label sets fits in a few numbers. A camera of yours is a YAML file with the same
# keys.

# %%
keys = ["width", "height", "classes", "label_interval_ms", "min_diagonal", "min_side", "downsample"]
sensors = {name: get_sensor(name) for name in ("gen1", "gen4")} | {profile: book.sensor}
pd.DataFrame({name: {key: getattr(sensor, key) for key in keys} for name, sensor in sensors.items()}).round(2)

# %% [markdown]
# ## Two representations
#
# A *stacked histogram* counts events per pixel, polarity and time bin. Its ten bins divide the time between the first and
# the last event of the window, $b = \lfloor 10\,(t - t_0)/(t_1 - t_0) \rfloor$ (the last event's is 9, not 10), and a
# count stays at 10.

# %%
path = sorted((book.raw() / "train").glob("*_td*"))[0]
with open_events(path) as recording:
    window = recording.read(450_000, 500_000)
height, width = book.sensor.height, book.sensor.width
histogram = StackedHistogram(bins=10, height=height, width=width)(window)
histogram.shape, int(histogram.sum()) == len(window)

# %% [markdown]
# A *mixed density stack* sums polarities over ever longer stretches of the window: its last channel holds the
# whole window, the one before it the first half, then the first quarter.

# %%
density = MixedDensityStack(bins=10, height=height, width=width)(window)
density.shape, int(density[-1].sum()) == int(2 * window.p.sum(dtype=np.int64)) - len(window)

# %%
fig, axes = plt.subplots(2, 5, figsize=(plots.WIDTH_IN, 3.0))
for k, ax in enumerate(axes[0]):
    both = histogram[[2 * k, 2 * k + 1]].sum(0), histogram[[10 + 2 * k, 11 + 2 * k]].sum(0)
    plots.show_image(ax, plots.polarity_image(both[1], both[0]), f"bins {2 * k} and {2 * k + 1}")
for ax, channel in zip(axes[1], (5, 6, 7, 8, 9), strict=True):
    on, off = np.maximum(density[channel], 0), np.maximum(-density[channel], 0)
    plots.show_image(ax, plots.polarity_image(on, off), f"density, channel {channel}")
_ = plots.save(fig, book.figures / "representations.png")

# %% [markdown]
# ## Windows and label frames
#
# Labels come on their own grid. A window must end at every label, so windows are laid backwards from the first label
# and then between labels, here one window of 50 ms every 50 ms.

# %%
folder = book.preprocessed()
sequence = find_sequences(folder / "train")[0]
sequence.timestamps_us[:5].tolist(), sequence.label_frames[:5].tolist(), sequence.label_times_us[:5].tolist()

# %% [markdown]
# The released script puts its windows elsewhere: it counts two of them per label interval, and on Gen1 that interval
# is 250 ms, so windows of 50 ms come every 125 ms, at 8 Hz and not at 20. `preprocess(grid="published")` does
# as it did; the default is the exact grid.
#
# ## What is on disk

# %%
for split in ("train", "val", "test"):
    print(f"{split}: {describe(find_sequences(folder / split))}")

# %%
fig, axes = plt.subplots(1, 4, figsize=(plots.WIDTH_IN, 2.0))
for ax, i in zip(axes, np.linspace(0, len(sequence.label_frames) - 1, 4).astype(int).tolist(), strict=True):
    frame = sequence.frames(sequence.label_frames[i], sequence.label_frames[i] + 1)[0]
    plots.show_frame(ax, frame, f"{sequence.label_times_us[i] / 1e6:.2f} s", book.represent)
    plots.show_boxes(ax, sequence.labels_at(i), book.sensor.classes)
_ = plots.save(fig, book.figures / "sequence.png")

# %% [markdown]
# ## Your own recordings
#
# A camera of yours needs one YAML file and one folder:
#
# - the YAML gives `width`, `height` and `classes`; with numbered label files also `label_interval_ms`, and
#   `eval_skip_us: 0` where boxes of the first half second count in evaluation;
# - the folder has `train`, `val` and `test` (any of them) with recordings, `<name>_td.dat`, `_td.h5`, `_td.npy`,
#   `<name>.raw` or `.aedat4`, and beside each its boxes: `<name>_bbox.npy` as Prophesee's, `<name>_bbox.json` in COCO's
#   format, or a folder `<name>_bbox` with a YOLO txt for each labelled frame.
#
# COCO and YOLO know no time, so it is stated: an image of a COCO file has `timestamp_us`, or `frame` with a
# `frame_rate` in Hz in the file's `info`; a YOLO file is named by its time, `000100000us.txt`, or by a number counted in
# label intervals. Times of events and boxes are µs from the start of the recording.
#
# Here it is done with five windows of PEDRo (Boretti et al., CVPR workshops 2023), people seen by a moving
# DAVIS346, where they are at hand, and else with windows of the recordings above. Each is 40 ms of events, an array of
# $t, x, y, p$, and the boxes at its end.

# %%
pedro = book_root().parent / "shared" / "recordings" / "pedro"
own = book.folder / "own" / ("pedro" if pedro.is_dir() else "simulated")
if pedro.is_dir():
    camera = {"width": 346, "height": 260, "classes": ["person"]}
    texts = sorted(pedro.glob("yolo/*/*.txt"))
    arrays = [np.load(pedro / "numpy" / p.parent.name / f"{p.stem}.npy") for p in texts]
    clips = {p.stem: (a, p.read_text()) for p, a in zip(texts, arrays, strict=True)}
else:
    camera = {"width": width, "height": height, "classes": list(book.sensor.classes)}
    clips = {}
    for i, t in enumerate(sequence.label_times_us[-5:].tolist(), len(sequence.label_times_us) - 5):
        with open_events(path) as recording:
            ev = recording.read(t - 40_000, t + 1)
        boxes = sequence.labels_at(i)
        shares = [(b["x"] + b["w"] / 2, b["y"] + b["h"] / 2, b["w"], b["h"]) for b in boxes]
        rows = zip(boxes["class_id"], np.array(shares) / [width, height, width, height], strict=True)
        text = "\n".join(f"{c} {' '.join(map(str, row))}" for c, row in rows)
        clips[f"clip{i}"] = np.stack([ev.t, ev.x, ev.y, ev.p], axis=1), text

# %% [markdown]
# On disk each window becomes a recording that ends at 100 ms, its label frame.

# %%
for name, (events, text) in clips.items():
    labels = own / "raw" / "val" / f"{name}_bbox"
    labels.mkdir(parents=True, exist_ok=True)
    (labels / "000100000us.txt").write_text(text)
    events[:, 0] += 100_000 - events[-1, 0]
    np.save(labels.with_name(f"{name}_td.npy"), events)
_ = (own / "camera.yaml").write_text(yaml.safe_dump(camera))

# %% [markdown]
# Windows are laid backwards from the label in strides; with a stride of 100 ms that gives one for each recording.

# %%
summary = preprocess(own / "raw", own / "set", sensor=own / "camera.yaml", window_ms=40, stride_ms=100)
len(summary.done) + len(summary.skipped)

# %%
batch = EvaluationStreams(find_sequences(own / "set" / "val"), length=1, batch_size=5)[0]
fig, axes = plt.subplots(1, 5, figsize=(plots.WIDTH_IN, 1.6))
for (_, slot), boxes in zip(batch.frames.tolist(), batch.labels, strict=True):
    plots.show_frame(axes[slot], batch.x[0, slot].numpy(), batch.sequences[slot])
    plots.show_boxes(axes[slot], boxes, camera["classes"])
_ = plots.save(fig, book.figures / "own.png")

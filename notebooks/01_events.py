# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-events)=
# # Events
#
# An event camera has no frames. Each pixel watches the logarithm of its light by itself, and when that has changed
# by a threshold since the last time, it reports where, when, and whether up or down: an event $(t, x, y, p)$,
# stamped in microseconds. What stands still is not seen at all.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
recording: str = ""  # a recording of yours: DAT, EVT2, EVT3, AEDAT4, HDF5 or npy; simulated by default
window_ms: float = 50.0  # the stretch of it that is drawn

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ssmbook import plots
from ssmbook.events import Events, open_events, read_boxes
from ssmbook.events.simulate import DEMO_SCENE, PixelArray, PixelModel, SimulatedSequence
from ssmbook.study import Workspace

plots.style()
book = Workspace(profile, data_dir)

# %% [markdown]
# ## A recording
#
# `open_events` reads many formats and finds out which one from the content. Stamps come out sorted, polarity as 0 and
# 1, and a recording may be larger than memory. Without a recording of yours, this is the first of the raw set.

# %%
path = recording or next(iter(sorted((book.raw() / "train").glob("*_td*"))))
with open_events(path) as source:
    events = source.read(source.start_us, source.end_us + 1)
    width, height = source.width or int(events.x.max()) + 1, source.height or int(events.y.max()) + 1
(width, height), len(events), events[:3]

# %%
window_us = round(1000 * window_ms)
middle = int(events.t[0] + events.t[-1] - window_us) // 2
window = events[(events.t >= middle) & (events.t < middle + window_us)]
fig, (left, right) = plt.subplots(1, 2, width_ratios=(1, 1.2))
plots.show_events(left, window, height, width, f"{len(window)} events in {window_ms:g} ms: ON blue, OFF red")
_ = right.hist((events.t - events.t[0]) / 1e6, bins=60)
_ = right.set(xlabel="time (s)", ylabel="events per bin")
_ = plots.save(fig, book.figures / "recording.png")

# %% [markdown]
# ## One pixel
#
# A pixel keeps the log intensity of its last event as a reference, $L_{ref}$, and makes an event when
#
# $$ L(t) \ge L_{ref} + \theta_{on} \quad (p = 1) \qquad\text{or}\qquad L(t) \le L_{ref} - \theta_{off} \quad (p = 0) , $$
#
# after which $L_{ref}$ is $L(t)$. Thresholds differ from pixel to pixel, a pixel rests for a moment after each event, and
# some events have no cause. Here is one ideal pixel in front of a light that swells and fades.

# %%
times_ms = np.arange(1, 201)
light = np.sin(times_ms / 200 * 2 * np.pi).astype(np.float32)
ideal = PixelModel(threshold=0.25, spread=0, noise_hz=0, hot_share=0)
pixel = PixelArray(ideal, np.zeros((1, 1), np.float32), np.random.default_rng(0))
fired = pixel.expose(light[:, None, None], 0, 200_000)
int(fired.p.sum()), len(fired)

# %%
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.2))
_ = ax.plot(times_ms, light, color=plots.GREY, label="log intensity")
for polarity, colour, name in ((1, plots.BLUE, "ON"), (0, plots.RED, "OFF")):
    stamps = fired.t[fired.p == polarity] / 1000
    _ = ax.plot(stamps, np.interp(stamps, times_ms, light), "o", color=colour, markersize=4, label=name)
_ = ax.set(xlabel="time (ms)")
_ = ax.legend(frameon=False)
_ = plots.save(fig, book.figures / "pixel.png")

# %% [markdown]
# ## A street to film
#
# The Gen1 and 1 Mpx sets are too large to come with a book. A simulator stands in for them: procedural
# streets with cars and pedestrians that enter, cross, come nearer, hide each other, and stop for a while. A moment is
# rendered every millisecond, and in between log intensity goes in a straight line, so stamps are finer than that.
# The labels know where a stopped car is. The events do not: remembering is the detector's task.

# %%
drive = SimulatedSequence(DEMO_SCENE, seed=3)
chunks = list(drive.events())
picks_us = (500_000, 1_500_000, 2_500_000)
len(drive.street.actors), sum(map(len, chunks)), len(drive.boxes())

# %%
fig, axes = plt.subplots(2, 3, figsize=(plots.WIDTH_IN, 3.7))
for column, t in zip(axes.T, picks_us, strict=True):
    plots.show_image(column[0], np.exp(drive.frames(np.array([t]))[0]), f"{t / 1e6:g} s")
    plots.show_events(column[1], chunks[t // 50_000 - 1], DEMO_SCENE.height, DEMO_SCENE.width)
    for ax in column:
        plots.show_boxes(ax, drive.street.boxes_at(t))
_ = plots.save(fig, book.figures / "simulated_street.png")

# %% [markdown]
# ## Does it look like events?
#
# Put it beside a real recording: give one as the parameter `recording`, and the first figure shows that while
# the last shows the simulator. Three measures compare the two: the share of ON events (real sensors are near one
# half), the share of events that the busiest tenth of the pixels makes (edges see much, most pixels see little), and
# the middle of the times between two events of one pixel.


# %%
def measures(events, width: int, height: int) -> dict[str, float]:
    pixel = events.y.astype(np.int64) * width + events.x
    counts = np.sort(np.bincount(pixel, minlength=width * height))
    order = np.argsort(pixel, kind="stable")
    between = np.diff(events.t[order])[np.diff(pixel[order]) == 0]
    busiest = counts[-len(counts) // 10 :].sum() / counts.sum()
    return {"ON": events.p.mean(), "busiest tenth": busiest, "ms between": np.median(between) / 1000}


# %%
simulated = measures(Events.concatenate(chunks), DEMO_SCENE.width, DEMO_SCENE.height)
pd.DataFrame({"this recording": measures(events, width, height), "simulated street": simulated}).T.round(1)

# %% [markdown]
# ## The raw set
#
# A set lies in `raw/{train,val,test}` in Gen1's own format: a `_td.dat` of events and a `_bbox.npy` of boxes
# per recording. Everything after this chapter reads those files and would not notice real ones.

# %%
for split in ("train", "val", "test"):
    files = sorted((book.raw() / split).glob("*_bbox.npy"))
    print(f"{split}: {len(files)} recordings, {sum(len(read_boxes(file)) for file in files)} boxes")

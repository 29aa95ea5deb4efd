# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-live)=
# # Live: from your recording to boxes
#
# How does one get from the events of a camera to boxes on a screen, as they happen, in a memory that does not grow?
# This chapter runs the detector one step at a time, shows that nothing is lost by that, computes how old a box is when
# it appears, writes a video, and exports the step for programs that know neither Python nor complex numbers.
#
# After it you can
#
# - run a trained or released detector on a recording of yours, and write boxes or a video;
# - feed events as a camera delivers them, in pieces of any size, late ones included;
# - say how old the information in a box is, and which rate a given machine can keep up with;
# - export one step with its state as `torch.export` or ONNX.
#
# It needs a trained detector ([chapter 7](07_training.ipynb)), a released checkpoint or the network that comes along
# ({numref}`sec-real`), and the representation that it was trained on ([chapter 2](02_tensors.ipynb)). On the command line the whole
# chapter is
#
# ```
# ssmbook detect drive.raw model.ckpt --video boxes.gif
# ssmbook time model.ckpt
# ssmbook export model.ckpt step.onnx
# ```

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
checkpoint: str = ""  # a detector; the one that this profile trains by default
recording: str = ""  # a recording of the detector's sensor; the first of the test set by default
logger: str = "csv"  # where the metrics of training runs go besides metrics.csv: tensorboard or wandb

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
from PIL import Image

from ssmbook import plots
from ssmbook.detector import PRESETS, load_checkpoint
from ssmbook.drawings import live as drawings
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, Events, open_events, read_boxes
from ssmbook.live import StreamingDetector, box_video, synthetic_frames, time_detector
from ssmbook.live.default import DEFAULT, STATISTICS, Familiar, default_record, window_statistics
from ssmbook.live.export import ExportedStep, step_and_arguments
from ssmbook.live.windows import EventWindows
from ssmbook.study import Workspace
from ssmbook.study.workspace import book_root

plots.style()
workspace = Workspace(profile, data_dir, logger=logger)
file = checkpoint or workspace.train()
model = load_checkpoint(file).eval()
path = recording or min((workspace.raw() / "test").glob("*_td*"))
with open_events(path) as source:
    events = source.read(source.start_us, source.end_us + 1)
print(f"{len(events):,} events in {(events.t[-1] - events.t[0]) / 1e6:.2f} s")

# %% [markdown]
# ## The loop
#
# {numref}`fig-live-loop` shows what happens at each step. Events collect in a window; when its end has passed the
# window becomes a frame; the network takes the frame and the state that it left at the step before; the head's
# predictions are thinned to boxes. As a function it is
#
# $$ (y_j,\; x_j) = F(\text{frame}_j,\; x_{j-1}; \; s), $$ (eq-live-step)
#
# with the state $x$ as argument and result, and `step_scale` $s$ ([chapter 5](05_time_scale.ipynb)) as a further argument.
# Everything that the network knows of the past is in $x$.

# %% tags=["hide-input"]
#| label: fig-live-loop
#| caption: >-
#|   One step of live detection, {eq}`eq-live-step`. Blue: what is kept from step to step.
#| alt: Boxes from left to right for events, window, frame, network, non-maximum suppression and boxes; an arrow loops from the network back to itself through the state.
fig = drawings.loop_diagram()
_ = plots.save(fig, workspace.figures / "live_loop.png")

# %% [markdown]
# `StreamingDetector` is this loop. It takes any number of events and returns the boxes of the windows that they
# complete.

# %%
stream = StreamingDetector(model, workspace.sensor, confidence=0.001)
cut = len(events) // 3
first, rest = events[:cut], events[cut:]
print(
    f"{len(first):,} events complete {len(stream.push(first))} windows; the window in progress holds {stream.windows.held} events"
)
print(f"{len(rest):,} more complete {len(stream.push(rest, now_us=int(events.t[-1])))}")

# %% [markdown]
# A camera delivers pieces as its driver pleases. That must make no difference: windows are cut by the events' own
# stamps. The same recording in pieces of four sizes:


# %%
def detect_in_pieces(size: int) -> np.ndarray:
    """All boxes of the recording, pushed in pieces of that many events."""
    stream = StreamingDetector(model, workspace.sensor, confidence=0.001, first_end_us=50_000)
    found = []
    for i in range(0, len(events), size):
        found += stream.push(events[i : i + size])
    found += stream.push(Events.empty(), now_us=int(events.t[-1]))
    return np.concatenate([np.zeros(0, BOX_DTYPE), *(d.boxes for d in found)])


whole = detect_in_pieces(len(events))
pieces = {size: detect_in_pieces(size) for size in (5000, 997, 100)}
pd.Series(
    {f"pieces of {size}": len(b) == len(whole) and bool((b == whole).all()) for size, b in pieces.items()},
    name="the same boxes",
).to_frame()

# %% [markdown]
# {numref}`fig-held` watches the events that the stream holds while a recording passes. They rise within a window and
# fall at its end; nothing grows.

# %% tags=["hide-input"]
#| label: fig-held
#| caption: Events that a stream holds while the recording is pushed in pieces of 50, and the number of windows that it has completed.
#| alt: A saw-tooth curve that stays below a bound over the whole recording, and a rising staircase.
stream = StreamingDetector(model, workspace.sensor)
times_s, held_events, done = [], [], [0]
for i in range(0, len(events), 50):
    done.append(done[-1] + sum(1 for _ in stream.windows.push(events[i : i + 50])))
    times_s.append((events.t[min(i + 49, len(events) - 1)] - events.t[0]) / 1e6)
    held_events.append(stream.windows.held)
fig = drawings.held(times_s, held_events, done[1:])
_ = plots.save(fig, workspace.figures / "held.png")
print(f"at most {max(held_events)} of {len(events):,} events are held at a time")

# %% [markdown]
# ## Faster than trained
#
# The rate is an argument: `StreamingDetector(model, sensor, rate_hz=100)`. Windows then overlap and the time scale follows,
# unless `mode` and `follow` say otherwise, for the class as for `ssmbook detect`. What fits together was derived in
# [chapter 5](05_time_scale.ipynb), and for a stream it comes down to three cases. A detector on **traces** can be run at any rate, with the time scale following. One on **histograms**
# should be given sliding windows, as long as in training and overlapping, with the time scale following; each event is
# then held for as long as a window lasts and counted in several. That goes for a ConvLSTM, too: its
# forget gates follow {eq}`eq-rates-lstm-step`, and without that it forgets faster in seconds. The third case is the one that suggests itself
# first, shorter windows one after another, which give the network frames unlike those of its training
# ({numref}`sec-rate-modes`).
#
# Apart from the step scale the network knows nothing of time. If the camera pauses, it is right to step through the gap
# with empty windows, as the stream does by itself when it is given the time; one long step over the gap is not the same
# ({numref}`fig-long-step`). A computer that falls behind cannot afford that: windows are dropped, and with `follow`
# the next step is as long as the time that has passed, $s$ times the number of strides.
#
# ## One step at a time loses nothing
#
# Training runs whole chunks through the network. Live, it gets one frame after another. For an exact carry
# ([chapter 3](03_state_space_layers.ipynb)) these are two ways to compute the same numbers, which is worth checking in float64
# on the network as it will run.

# %%
exact = load_checkpoint(file).eval().double()
frames = torch.from_numpy(np.stack([f for _, f in StreamingDetector(model, workspace.sensor).frames(events)]))
with torch.no_grad():
    chunk = exact.predict(exact.features(frames[:, None].double())[0])[:, 0]
    states, one_by_one = None, []
    for frame in frames:
        features, states = exact.features(frame[None, None].double(), states)
        one_by_one.append(exact.predict(features)[0, 0])
difference = (torch.stack(one_by_one) - chunk).abs().max().item()
print(f"{len(frames)} frames, chunk against step by step: equal within 1e-9: {difference < 1e-9}")

# %% [markdown]
# With the released code's carry the same test fails, and a detector that runs one frame at a time has no memory at all
# ([chapter 13](13_released_code.ipynb)).
#
# ## What is kept
#
# The memory of a live detector is the events of the window in progress and the states. Stage $i$ has a state of $P_i$
# complex numbers at each of its $h_i w_i$ positions, 8 bytes each,
#
# $$ \text{bytes} = 8 \sum_{i=1}^{4} P_i\, h_i w_i , \qquad h_i w_i = \frac{HW}{(4 \cdot 2^{i-1})^2} , $$ (eq-state-bytes)
#
# and neither depends on how long the camera has been running. $P_i$ equals the width of the stage, which doubles where
# the number of positions falls to a quarter, so that the first stage holds most of the memory.

# %%
rows = {}
for name in ("gen1-small", "gen1-base", "gen4-base"):
    height, width = PRESETS[name]["input_hw"]
    parts = [8 * PRESETS[name]["embed_dim"] * 2**i * height * width // (4 * 2**i) ** 2 for i in range(4)]
    rows[name] = {
        **{f"stage {i + 1} (MB)": part / 1e6 for i, part in enumerate(parts)},
        "all (MB)": sum(parts) / 1e6,
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# The formula against the states of the loaded detector:

# %%
held = sum(state.numel() * state.element_size() for state in states) // 2  # they are in double precision here
height, width = model.input_hw
formula = sum(8 * model.config["embed_dim"] * 2**i * height * width // (4 * 2**i) ** 2 for i in range(4))
print(f"held: {held:,} bytes, by the formula: {formula:,}")

# %% [markdown]
# ## Made ready to run
#
# Two things in a trained network are constants that follow a linear map and can be multiplied into it once. A
# BatchNorm after a convolution without bias [@ioffe2015, alg. 2] becomes a convolution with other weights and a bias,
#
# $$ W' = \frac{\gamma}{\sqrt{\sigma^2 + \varepsilon}}\, W, \qquad b' = \beta - \frac{\gamma\,\mu}{\sqrt{\sigma^2 + \varepsilon}} , $$ (eq-fold)
#
# with its running mean $\mu$ and variance $\sigma^2$, and the per-channel scales $\gamma_1, \gamma_2$ of the attention
# blocks go into the last linear layer of each branch. `StreamingDetector` does both, on a copy. The predictions stay
# the same up to rounding:

# %%
live = StreamingDetector(model, workspace.sensor)
with torch.no_grad():
    plain = model.predict(model.features(frames[:1, None])[0])[0, 0]
folded = live.step(frames[0])
apart = ((folded - plain).abs().amax(0) / (plain.amax(0) - plain.amin(0)).clamp(min=1e-6)).max().item()
print(f"folded against plain, in parts of each column's range: below 1e-4: {apart < 1e-4}")

# %% [markdown]
# ## How old is a box?
#
# Let windows end every $\delta$ seconds and a step take $c$ seconds. An event at a random moment waits for the end of its
# window, on average half a stride, and then for the computation. When the box appears, that event is
#
# $$ \begin{gathered} \text{age} = \delta\,U + c , \qquad U \sim \text{uniform}(0, 1), \\
#    \text{mean} = \tfrac{\delta}{2} + c, \qquad \text{at most } \delta + c \end{gathered} $$ (eq-age)
#
# old. And the box stays on the screen until the next one, so that what one looks at is older by another half stride on
# average. A higher rate makes information fresher until the machine no longer keeps up. Then steps queue: with $e_j$
# the end of window $j$, its box is ready at
#
# $$ r_j = \max(e_j,\; r_{j-1}) + c , $$ (eq-ready)
#
# which for $c > \delta$ falls behind by $c - \delta$ at every step. @li2020 measure detectors by what is known at
# any moment, latency included;
# {eq}`eq-ready` is their setting for one machine. [Chapter 8](08_evaluation.ipynb) does the same for average precision.


# %%
def ready(ends_s: np.ndarray, compute_s: float) -> np.ndarray:
    """When each window's boxes are ready, for one machine that takes windows in turn."""
    done, out = -np.inf, []
    for end in ends_s:
        done = max(end, done) + compute_s
        out.append(done)
    return np.array(out)


rows = []
for rate in (20, 50, 100, 200):
    ends = np.arange(1, 10 * rate + 1) / rate
    for compute_ms in (4, 8, 16):
        age = 1000 * (ready(ends, compute_ms / 1000) - ends)
        rows.append((compute_ms, f"{rate} Hz", age[-1] + 500 / rate))
after = pd.DataFrame(rows, columns=["compute (ms)", "rate", "age"]).pivot(
    index="compute (ms)", columns="rate", values="age"
)
after = after[["20 Hz", "50 Hz", "100 Hz", "200 Hz"]]
after.rename_axis(columns="mean age of an event at its box after 10 s (ms)").round(1)

# %% [markdown]
# Read along a row: fresher and fresher, until $c > \delta$, where after ten seconds boxes are seconds old.
# {numref}`fig-age` draws {eq}`eq-age` over the rates at which each machine keeps up, and {numref}`fig-backlog` the
# queue beyond.

# %% tags=["hide-input"]
#| label: fig-age
#| caption: "Mean age {eq}`eq-age` of an event when its box appears, for four times of computation; a line ends where the machine no longer keeps up."
#| alt: Four falling curves that flatten towards the computing time and end with a dot at the rate of one over that time.
fig = drawings.age_over_rate(compute_ms=(2, 5, 10, 20))
_ = plots.save(fig, workspace.figures / "age.png")
for compute_ms in (2, 5, 10, 20):
    print(
        f"{compute_ms} ms a step: up to {1000 / compute_ms:g} Hz, where the mean age is {1.5 * compute_ms:g} ms"
    )

# %% tags=["hide-input"]
#| label: fig-backlog
#| caption: How far boxes lag behind the ends of their windows, {eq}`eq-ready`, at 100 Hz.
#| alt: Lines for 8 and 10 ms a step are flat; lines for 11 and 15 ms rise without end.
fig = drawings.backlog(ready, rate_hz=100, compute_ms=(8, 10, 11, 15))
_ = plots.save(fig, workspace.figures / "backlog.png")
ends = np.arange(1, 1001) / 100
for compute_ms in (8, 11, 15):
    print(
        f"{compute_ms} ms a step: {1000 * (ready(ends, compute_ms / 1000) - ends)[-1]:.0f} ms behind after 10 s at 100 Hz"
    )

# %% [markdown]
# Which rate to choose follows from the same two terms. Going from 20 to 100 Hz with 8 ms a step takes the mean age
# from 33 to 13 ms; going on to 125 Hz, where that machine is busy all the time, gains one millisecond more. Half a
# stride is soon smaller than the computation, and then a smaller network makes boxes fresher than a higher rate does.
# Energy speaks against rate, too: every step costs the same, whether anything moved or not, and a frame-based detector
# gives away what an event camera saves in a quiet scene.
#
# How long does this detector take here? `time_detector` measures it by the protocol of Table 1 of [@zubic2024]: batch
# 1, one window after the other; here with the state carried. The numbers are those of the machine on which the chapter
# ran last; `score_off` is the largest difference of a score from the first row's.

# %% tags=["nbval-ignore-output"]
times = time_detector(model, synthetic_frames(model), count=40, progress=False)
times.set_index("timed").round(1)

# %% [markdown]
# **Quoted** for comparison [@zubic2024, Table 1, on a T4 GPU]: 8.16 ms for S5-ViT-B on Gen1 and 9.57 ms on 1 Mpx, 10.2 and 11.9
# ms for RVT-B. By {eq}`eq-ready` such a machine keeps up with 122 windows a second on Gen1, and no more.
#
# ## Clocks
#
# A stream is cut by time stamps, and stamps of real cameras have faults. What the library does with each is a
# decision, which can be watched on the window cutter alone:


# %%
def event(*stamps_us: int) -> Events:
    """Events at the origin with these stamps."""
    zero = np.zeros(len(stamps_us))
    return Events(
        np.array(stamps_us, np.int64), zero.astype(np.uint16), zero.astype(np.uint16), zero.astype(np.uint8)
    )


def outcome(*pushes: Events, now_us: int | None = None) -> str:
    """What a cutter of 50 ms windows answers to some pushes."""
    cutter = EventWindows(50_000, 50_000, first_end_us=50_000)
    try:
        done = [(end, len(window)) for part in pushes for end, window in cutter.push(part, now_us)]
    except InputError as error:
        return f"refused: {str(error).split(';')[0]}"
    windows = ", ".join(f"{n} in the window to {end // 1000} ms" for end, n in done) or "no window yet"
    return windows + (f"; {cutter.stale} dropped" if cutter.stale else "")


cases = {
    "nothing after the window's end": outcome(event(10_000, 20_000)),
    "the clock says 60 ms": outcome(event(10_000, 20_000), now_us=60_000),
    "an event is 5 ms late": outcome(event(10_000, 40_000, 35_000, 60_000)),
    "an event is 150 ms late": outcome(event(10_000, 40_000, 200_000, 45_000, 201_000)),
    "the clock jumps by two minutes": outcome(event(10_000, 120_000_000)),
}
pd.options.display.max_colwidth = 120
pd.Series(cases, name="answer").to_frame()

# %% [markdown]
# A camera that sees nothing sends nothing, so a window can only be closed by the clock: pass `now_us` whenever the
# driver says that all events up to a time have been delivered. A car that has stopped in a quiet street is detected in a
# window without a single event, if the state remembers it.
#
# ## A video
#
# `box_video` takes the frames as they come and writes a GIF (or mp4, where ffmpeg is there), so that an hour of
# recording needs no more memory than a second. The detector of the smoke profile has been trained for seconds, and its
# boxes are not worth a look; to show what a video looks like, the boxes drawn in {numref}`fig-video` are the
# recording's labels.

# %%
labels = np.zeros(0, BOX_DTYPE)
if not recording:
    labels = read_boxes(min(path.parent.glob(f"{path.name.split('_td')[0]}_bbox*")))
video = workspace.folder / "found.gif"
with box_video(video, workspace.sensor, windows_per_s=20) as show:
    for end, frame in StreamingDetector(model, workspace.sensor).frames(events):
        show(frame, end, labels[np.abs(labels["t"] - end) < 25_000])
with Image.open(video) as picture:
    print(
        f"{picture.n_frames} pictures of {picture.width} × {picture.height}, one every {picture.info['duration']} ms"
    )

# %% tags=["hide-input"]
#| label: fig-video
#| caption: The last picture of the video. Boxes are labels, named and scored as detections would be.
#| alt: A frame of blue and red events on white, with coloured boxes and class names around the moving objects.
fig = drawings.video_picture(video)
_ = plots.save(fig, workspace.figures / "video.png")

# %% [markdown]
# (sec-real)=
# ## On real recordings
#
# For whoever has a recording and no network, one comes along: `ssmbook detect drive.raw` needs no checkpoint. It is
# selective S5, trained by `ssmbook train --profile camera --recurrence s5-selective` on simulated streets in which
# everything that a camera's owner chooses differs from sequence to sequence: the size of objects in pixels, their speed,
# the motion of the camera, contrast, and the pixels' thresholds, noise, leak and bandwidth. Its record says what it was
# made of, and how well it does on streets of the same kind.

# %%
record = default_record()
lines = {
    "command": record["command"],
    "simulated streets (min)": record["minutes"],
    "validation AP": record["validation"]["AP"],
    "validation AP_50": record["validation"]["AP_50"],
    "minimum score": record["confidence"],
    "F1 at that score, IoU 0.5": record["validation_f1"],
    "MB": DEFAULT.stat().st_size / 1e6,
}
pd.Series(
    {name: round(v, 2) if isinstance(v, float) else v for name, v in lines.items()}, name="the network"
).to_frame()

# %% [markdown]
# What is that worth on a real camera? Objects of a 1 Mpx sensor have more pixels than any in training. Frames are
# therefore made smaller until they have at most three times the pixels of those in training: only every second, or
# every fourth, row and column of the camera's pixels is kept, which are the events that a sensor of lower resolution would
# have. (Summed over n × n pixels, a frame would have n² times the events.) The bound of three was chosen after a look
# at these nine recordings, so that the counts below are no test of it. {numref}`tbl-found`
# counts the boxes in nine public recordings of five cameras. These are not part of the book; whoever has them repeats
# the table and {numref}`fig-found` by `python benchmarks/recordings.py FOLDER`.

# %%
#| label: tbl-found
#| tbl-cap: >-
#|   What the network that comes along detects on real recordings, read from a committed file. People are labelled ones,
#|   covered by a box of any class with IoU ≥ 0.5, and by one that says pedestrian; dashes where nothing is labelled.
found = pd.read_csv(book_root() / "data" / "tables" / "recordings" / "found.csv")
counts = ["windows", "unlike training", "cars", "pedestrians", "people", "covered", "as people"]
table = found.set_index(["shows", "recording"])[counts]
table.astype("Int64").astype(object).where(table.notna(), "–")

# %% [markdown]
# :::{figure} ../figures/recordings/found.png
# :label: fig-found
# :alt: Nine pictures of events on white with boxes; the boxes lie on some objects and on much that is none.
# For each recording of {numref}`tbl-found` the window with the most boxes: orange cars, green pedestrians, dashed the labels.
# :::

# %%
labelled = found[found["people"] > 0]
print(
    f"{labelled['covered'].sum():.0f} of {labelled['people'].sum():.0f} labelled people are covered, by "
    f"{labelled['cars'].sum() + labelled['pedestrians'].sum()} boxes in {labelled['windows'].sum()} windows"
)

# %% [markdown]
# Good and bad lie close together in {numref}`fig-found`. Two of the labelled people are detected at about their place
# and size; the others, fainter, larger or cut off, are not or only in parts, and most boxes in these windows cover nobody. The person before the DVXplorer is nearer than any in training and gets boxes on parts. A grille, leaves on
# the ground and the sparks are called cars, while in 9 ms of a drive and on the cut-out car no box reaches the minimum
# score. Resolution, noise, thresholds and motion were varied in
# training; what things look like was not, since simulated cars and people are all drawn by one rule
# ([chapter 1](01_events.ipynb)). For a use beyond a first look, fine-tune on labels of the camera's own ([chapter 7](07_training.ipynb)) or
# take a released checkpoint ([chapter 8](08_evaluation.ipynb)). Nine labelled people are a sanity check and no measure.
#
# A network says nothing of what it does not know: its scores are as high on sparks as on people. What can be said
# beforehand is whether the events look like those of training at all. `Familiar` compares three statistics of each
# window with their highest values over all training windows: events per pixel, events per pixel that fired, and the
# share of these with both polarities. The second and third see flicker and fire, in which a pixel fires again and
# again, in both polarities. `ssmbook detect` counts the windows that exceed one of them and says that their boxes cannot
# be trusted, and no box at all where half of the windows do. Where none does it says nothing, which is no promise: the
# three numbers do not see what is in the picture.

# %%
represent = workspace.represent
moving = np.stack([frame for _, frame in StreamingDetector(model, workspace.sensor).frames(events)])
flicker = np.zeros_like(moving[:1])
flicker[:, ::2, 20:40, 20:40] = 3  # a lamp
rows = {"highest in training": record["highest"]}
for name, shown in (("this recording, highest", moving), ("a lamp", flicker)):
    each = pd.DataFrame([window_statistics(*represent.polarities(frame)) for frame in shown])
    rows[name] = each.max().to_dict()
pd.DataFrame(rows).rename(index=STATISTICS).round(2)

# %%
seen = Familiar(record["highest"], represent)
for frame in (*moving, flicker[0]):
    seen(frame, 0, labels[:0])
print(seen)

# %% [markdown]
# ## A camera of your own
#
# Your own camera needs two things: a YAML file with `width`, `height` and `classes` ([chapter 2](02_tensors.ipynb)), and a
# checkpoint trained or fine-tuned for it
# ([chapter 7](07_training.ipynb)). In a program of yours the loop is
#
# ```python
# model = load_checkpoint("model.ckpt").cuda()
# stream = StreamingDetector(model, "camera.yaml", rate_hz=100)
# for batch in camera:  # arrays t, x, y, p from the camera's SDK
#     for t_us, boxes in stream.push(Events(batch.t, batch.x, batch.y, batch.p), now_us=batch.end):
#         draw(boxes)
# ```
#
# On a GPU the step runs as one CUDA graph. `stream.reset()` begins another recording.
#
# Four things that go wrong in the field look like faults of the network. *Saturation*: a camera that sees rain, a
# fluorescent lamp or its own vibration sends more events than its cable carries, and drops some; counts are then lower
# than in training and time stamps have holes. *Bias settings*: thresholds that differ from those of the training data
# change the density of events by factors; record with the settings that you will use. *Polarity and orientation*: a
# sensor that is mounted upside down, or a driver that swaps ON and OFF, gives frames that look plausible and
# detections that do not. *Clocks*: two devices, or one that was restarted, do not share a zero. The first thing to do
# with a new camera is therefore to look: `ssmbook info` and the pictures of [chapter 1](01_events.ipynb) on a minute of its
# recording, and only then the detector.
#
# ## Export
#
# Other runtimes know no complex numbers. A complex state of $P$ modes is then a pair of real planes, and one step of
# the diagonal recurrence is
#
# $$ \begin{pmatrix} \mathrm{Re}\,x_j \\ \mathrm{Im}\,x_j \end{pmatrix} =
#    \begin{pmatrix} \mathrm{Re}\bar\Lambda & -\mathrm{Im}\bar\Lambda \\ \mathrm{Im}\bar\Lambda & \mathrm{Re}\bar\Lambda \end{pmatrix} \circ
#    \begin{pmatrix} \mathrm{Re}\,x_{j-1} \\ \mathrm{Im}\,x_{j-1} \end{pmatrix} +
#    \begin{pmatrix} \mathrm{Re}\,\bar B \\ \mathrm{Im}\,\bar B \end{pmatrix} u_j , $$ (eq-planes)
#
# the usual representation of a complex number by a real matrix. `ExportedStep` is {eq}`eq-live-step` in this form: a
# frame and the planes go in, predictions and the new planes come out. With `step_scale=None` the scale is an input,
# too, so that one file serves every rate.

# %%
step = ExportedStep(model, step_scale=None).eval()
start = step.start()
pd.DataFrame({"input": step.names(), "shape": [" × ".join(map(str, s.shape)) for s in start]}).set_index(
    "input"
)

# %% [markdown]
# The exported program against the detector, over all frames of the recording, as the largest difference in parts of
# each column's range:

# %%
height, width = frames.shape[2:]
program = torch.export.export(*step_and_arguments(model, (height, width), step_scale=None)).module()
planes, largest, states = start, 0.0, None
with torch.no_grad():
    for frame in frames[:8]:
        predictions, *planes = program(frame[None], torch.tensor(1.0), *planes)
        features, states = model.features(frame[None, None], states)
        wanted = model.predict(features)[0]
        spread = (wanted.amax((0, 1)) - wanted.amin((0, 1))).clamp(min=1e-6)
        largest = max(largest, ((predictions - wanted).abs().amax((0, 1)) / spread).max().item())
print(f"exported against plain, eight steps: below 1e-4: {largest < 1e-4}")

# %% [markdown]
# `ssmbook export model.ckpt step.onnx` writes the same step as ONNX (it needs the extra `export`). Its runtime then
# has to do three things that are not in the file: make frames, keep the planes from one call to the next, and suppress
# overlapping boxes. With `--batch any` the number of cameras is left open, and `--layer 3` writes the layer of stage 3 alone.
#
# ## What was learnt
#
# - One step with its state as argument and result is all that a live detector needs {eq}`eq-live-step`; it computes
#   what whole chunks compute.
# - Its memory is bounded by one window of events and {eq}`eq-state-bytes`.
# - An event is $\delta/2 + c$ old on average when its box appears; a machine keeps up as long as $c \le \delta$.
# - A window without events is closed by the clock, so tell the stream what time it is.
#
# ## Exercises
#
# :::{exercise} The freshest rate
# :label: ex-freshest
# Your machine needs 8 ms a step. Which rate gives the lowest mean age that it can sustain, and how old are events
# then? And what if boxes need another 10 ms on a wire, during which the machine is free?
# :::
# :::{solution} ex-freshest
# :class: dropdown
# ```{literalinclude} solutions/11_live.py
# :start-after: # %% ex-freshest
# :end-before: # %% ex-behind
# ```
# :::
#
# :::{exercise} Falling behind
# :label: ex-behind
# At 100 Hz with 12 ms a step, how far behind is the stream after a minute? Drop every sixth window: is it still
# behind?
# :::
# :::{solution} ex-behind
# :class: dropdown
# ```{literalinclude} solutions/11_live.py
# :start-after: # %% ex-behind
# :end-before: # %% ex-fold
# ```
# :::
#
# :::{exercise} Fold a BatchNorm
# :label: ex-fold
# Apply {eq}`eq-fold` to a convolution and a BatchNorm with random statistics, and compare the two in evaluation mode.
# :::
# :::{solution} ex-fold
# :class: dropdown
# ```{literalinclude} solutions/11_live.py
# :start-after: # %% ex-fold
# :end-before: # %% ex-planes
# ```
# :::
#
# :::{exercise} Planes
# :label: ex-planes
# Run {eq}`eq-planes` for ten steps next to the complex recurrence and show that they agree.
# :::
# :::{solution} ex-planes
# :class: dropdown
# ```{literalinclude} solutions/11_live.py
# :start-after: # %% ex-planes
# ```
# :::
#
# ## Further reading
#
# @li2020 define what it means to perceive in time. @gallego2022 survey event cameras and what their latency is
# good for. The timing protocol is that of @gehrig2023rvt and @zubic2024; batch normalisation is @ioffe2015.

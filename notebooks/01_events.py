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
# What does an event camera report, and can a simulated stream stand in for a real one? This chapter answers both. It
# builds a pixel from its equation, adds what real pixels do besides, looks at a recording from several sides, and then
# measures a simulated street against two real recordings. The simulator is needed because the driving
# sets that the detector is made for are too large to come with a book; how far it can be trusted has to be measured.
#
# After this chapter you can
#
# - say from the brightness in front of a pixel how many events it emits, and when;
# - name what a real pixel adds: mismatch, refractory time, noise, a low-pass;
# - open a recording in any of the common formats, and look at it in space and time;
# - judge a simulator by six measures of a stream.
#
# Symbols are those of the [notation](../pages/notation.md). The [next chapter](#ch-tensors) turns events into the arrays that a network takes.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
recording: str = ""  # a recording of yours: DAT, EVT2, EVT3, AEDAT4, HDF5 or npy; simulated by default
window_ms: float = 50.0  # the stretch of it that is drawn

# %% tags=["hide-input"]
import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd

from ssmbook import plots
from ssmbook.drawings import camera
from ssmbook.events import Events, open_events, read_boxes
from ssmbook.events.pixel_statistics import pixel_statistics
from ssmbook.events.simulate import DEMO_SCENE, PIXELS, PixelArray, PixelModel, SimulatedSequence
from ssmbook.study import Workspace, in_words
from ssmbook.study.workspace import book_root

plots.style()
workspace = Workspace(profile, data_dir)

# %% [markdown]
# (sec-pixel)=
# ## A pixel that reports change
#
# A frame camera exposes all pixels together and reads them out at a fixed rate, whether or not anything has changed. An
# event camera has no exposure and no rate. Each of its pixels works alone: it watches the logarithm of the light that
# falls on it,
#
# $$ L(t) = \log I(t) , $$ (eq-log)
#
# and compares it with a reference, which is the value at its own last event [@lichtsteiner2008, on the pixel; @gallego2022, on the principle of operation].
# When the difference reaches a {term}`contrast threshold` $\theta$, the pixel fires: it emits an {term}`event`
#
# $$ e_i = (t_i, x_i, y_i, p_i), \qquad p_i \in \{0, 1\} , $$ (eq-event)
#
# with a time stamp in microseconds, its column and row, and a polarity that says whether the light rose or fell. The condition
# is [@gallego2022, on the principle of operation]
#
# $$ \begin{gathered} L(t_i) - L_{\mathrm{ref}} = \begin{cases} +\theta_{\mathrm{on}} & \Rightarrow\; p_i = 1 \text{ (ON)} \\
#    -\theta_{\mathrm{off}} & \Rightarrow\; p_i = 0 \text{ (OFF)} \end{cases}
#    \\[1.2em] \text{and then}\qquad L_{\mathrm{ref}} \leftarrow L(t_i) . \end{gathered} $$ (eq-threshold)
#
# The logarithm makes the pixel respond to *relative* change: an edge beyond which the light is twice as strong causes the same
# events in sunlight and in shade. And because nothing fires while nothing changes, what stands still is not seen at all. That single fact is why
# the detector of this book needs a memory.

# %% tags=["hide-input"]
#| label: fig-pixel-principle
#| caption: >-
#|   The pixel of an event camera, after [@lichtsteiner2008, on the pixel's circuit]. Light passes a logarithm {eq}`eq-log`; the difference to the
#|   memorised reference is compared with two thresholds {eq}`eq-threshold`; each event moves the reference.
#| alt: Block diagram from light to events with logarithm, difference, two comparators, and a reset of the reference.
_ = plots.save(camera.pixel_principle(), workspace.figures / "pixel_principle.png")

# %% [markdown]
# How many events does a change cause? While the light rises from $t_0$ to $t_1$ without falling in between, the reference climbs in
# steps of $\theta_{\mathrm{on}}$, so that a pixel whose reference starts at $L(t_0)$ emits
#
# $$ N = \left\lfloor \frac{L(t_1) - L(t_0)}{\theta_{\mathrm{on}}} \right\rfloor $$ (eq-count)
#
# ON events, which follows from {eq}`eq-threshold` by counting, and likewise OFF events for a fall. Here is one ideal pixel in front of a light whose
# logarithm goes once through a sine of amplitude 1. With $\theta = 0.3$ the formula predicts 3 ON events on the way
# up and $\lfloor 1.9 / 0.3 \rfloor = 6$ OFF events on the way down from 0.9. On the way back from −0.9 to 0 two more ON events come; the third would come
# at 0 itself, which the light reaches at the very end.

# %%
times_ms = np.arange(1, 201)
light = np.sin(times_ms / 200 * 2 * np.pi).astype(np.float32)
ideal = PixelModel(threshold=0.3, spread=0, noise_hz=0, hot_share=0, refractory_us=0)


def expose(model: PixelModel, levels: np.ndarray, seed: int = 0) -> Events:
    """Events of one row of pixels, whose references start at 0, under levels [K, pixels] of one per ms."""
    pixels = PixelArray(model, np.zeros((1, levels.shape[1]), np.float32), np.random.default_rng(seed))
    pixels.reference[:] = 0
    return pixels.expose(levels[:, None], 0, 1000 * len(levels))


fired = expose(ideal, light[:, None])
runs = np.split(fired.p, np.flatnonzero(np.diff(fired.p.astype(int))) + 1)
print("in order:", ", ".join(f"{len(run)} {'ON' if run[0] else 'OFF'}" for run in runs))

# %% tags=["hide-input"]
#| label: fig-one-pixel
#| caption: >-
#|   One ideal pixel, $\theta = 0.3$: the reference follows the log intensity in steps of a threshold, and each step is an event.
#|   Around the extremes, where the light hardly changes, nothing is reported for longest.
#| alt: A sine of log intensity with a staircase behind it; ON events where it rises, OFF events where it falls.
_ = plots.save(camera.one_pixel(times_ms, light, fired, 0.3), workspace.figures / "one_pixel.png")
longest = int(np.diff(fired.t).max()) // 1000
print(f"{len(fired)} events in 200 ms; the longest pause is {longest} ms, around a maximum or minimum")

# %% [markdown]
# (sec-edges)=
# ## What moves is an edge
#
# In a scene the light on a pixel changes mostly because an edge moves across it. While the brightness of the moving pattern stays the same,
# the change in a short time $\Delta t$ is [@gallego2022, on events from a moving edge]
#
# $$ \Delta L \approx -\nabla L \cdot v \, \Delta t , $$ (eq-brightness)
#
# with the gradient $\nabla L$ of the picture and the velocity $v$ in px/s. An edge that moves along its own direction causes no
# events; one that moves at right angles to it causes most. Dividing by the threshold gives a pixel's event rate,
#
# $$ r \approx \frac{|\nabla L \cdot v|}{\theta} , $$ (eq-rate)
#
# a rate that grows with contrast and speed. But the edge also leaves the pixel sooner. Each pixel sees the whole step $c$ of log
# intensity once, and by {eq}`eq-count` emits $\lfloor c / \theta \rfloor$ events however fast the edge was: a stream has *more
# events per second* when the scene is faster, and *as many events per edge and pixel*. Here a bright bar with edges of
# contrast $c = 1$ crosses a row of 64 pixels at two speeds.

# %%
columns = np.arange(64)


def bar(speed_px_s: float) -> np.ndarray:
    """Log intensity [200, 64] of a bar of 12 px with soft edges, from the left border on."""
    front = speed_px_s * times_ms[:, None] / 1000 - 2 - columns
    rise = np.clip(front / 3 + 0.5, 0, 1) - np.clip((front - 12) / 3 + 0.5, 0, 1)
    return rise.astype(np.float32)


bars = {f"{speed} px/s": expose(ideal, bar(speed)) for speed in (400, 800)}
rows = {}
for name, events in bars.items():
    middle = events[events.x == 20]
    rows[name] = {
        "events of column 20": len(middle),
        "from (ms)": middle.t[0] / 1000,
        "to (ms)": middle.t[-1] / 1000,
    }
pd.DataFrame(rows).T.round(1).rename_axis("speed")

# %% tags=["hide-input"]
#| label: fig-moving-edge
#| caption: >-
#|   A bar crosses a row of pixels. Its leading edge brightens (blue), its trailing edge darkens (red). At twice the speed
#|   the lines are twice as steep, and each pixel emits as many events in half the time, as {eq}`eq-rate` says.
#| alt: Two panels of events, column over time; two slanted bands, steeper in the second panel.
_ = plots.save(camera.moving_edges(bars), workspace.figures / "moving_edge.png")
per_pixel = {name: len(events) / len(np.unique(events.x)) for name, events in bars.items()}
print(
    "events per pixel that saw the bar:",
    in_words({name: f"{value:.1f}" for name, value in per_pixel.items()}),
)

# %% [markdown]
# An event stream can therefore be read as a picture of moving edges, and this is what a network learns
# from. Turned around, {eq}`eq-threshold` says what a stream does *not* hold: absolute brightness, texture within a
# uniform patch, and everything at rest.
#
# (sec-real-pixels)=
# ## What real pixels do besides
#
# A sensor's pixels are analogue circuits. Six deviations from {eq}`eq-threshold` matter enough that simulators
# model them [@rebecq2018esim; @hu2021v2e].
#
# **Mismatch.** Each pixel has thresholds of its own, $\theta_i = \theta (1 + s\,\xi_i)$ with $\xi_i$ normal: an edge comes
# out ragged. v2e assumes $\theta = 0.2$ and $s = 0.15$ [@hu2021v2e].
#
# **Refractory time.** After an event a pixel is blind for a {term}`refractory time` $T_r$: a crossing within it moves the reference and
# emits nothing. While $L$ changes at a constant speed, crossings come $\tau = \theta / |\dot L|$ apart, and the pixel emits
#
# $$ r = \frac{1}{\tau \, \max(1, \lceil T_r / \tau \rceil)} \;\le\; \frac{1}{T_r} $$ (eq-refractory)
#
# events per second, which follows by counting the crossings that fall into the blind time.
#
# **Noise.** Some events have no cause: thermal shot noise in the dark, and a leak that slowly lowers the reference and so fires
# ON events in still light. As a Poisson process, which shot noise nearly is, noise of rate $\nu$ leaves a pixel silent in a window $w$ with probability
#
# $$ P(N = 0) = e^{-\nu w} . $$ (eq-poisson)
#
# **Hot pixels** fire all the time, at a hundred events per second and more.
#
# **Bandwidth.** The photoreceptor is slow in the dark. It is a low-pass whose cutoff grows with the intensity [@hu2021v2e],
#
# $$ \dot L_f(t) = 2\pi f_c(I) \, \bigl( L(t) - L_f(t) \bigr) , $$ (eq-lowpass)
#
# and the comparators see $L_f$ instead of $L$. This is the first differential equation of the book with a state, $L_f$. In
# the form $\dot x = a x + b u$ it has $a = -2\pi f_c$ and $b = 2\pi f_c$, and [chapter 3](#ch-layers) solves it for any constant $a$ and $b$.
#
# **Readout.** Events leave the chip one after another through an arbiter, with a latency and its jitter.
#
# The simulator holds all of these in one record, [`PixelModel`](#ssmbook.events.simulate.pixel.PixelModel), each with a
# parameter that switches it off, and the presets of other simulators by name.

# %%
#| label: tbl-pixels
#| tbl-cap: >-
#|   Pixel models by name: the book's own, the defaults of v2e, ESIM and IEBCS, and a DAVIS346 in bright and dim light. Rates are
#|   events per second and pixel; v2e's shot noise of 0.001 is rounded to 0. ESIM and IEBCS vary the threshold from event to event instead of between pixels.
shown = ["threshold", "spread", "refractory_us", "noise_hz", "shot_hz", "leak_hz", "cutoff_hz", "latency_us"]
pd.DataFrame({name: {key: asdict(model)[key] for key in shown} for name, model in PIXELS.items()}).T.round(2)

# %% [markdown]
# The same sine as above, seen by 20 pixels of each kind. Compare each row with the first.

# %%
many = np.repeat(light[:, None], 20, 1)
kinds = {
    "ideal": ideal,
    "mismatch": replace(ideal, spread=0.2),
    "refractory": replace(ideal, refractory_us=20_000),
    "noise": replace(ideal, noise_hz=10.0),
    "low-pass": replace(ideal, cutoff_hz=5.0, white=1.0),
}
seen = {name: expose(model, many) for name, model in kinds.items()}
pd.Series(
    {name: len(events) / 20 for name, events in seen.items()}, name="events per pixel"
).to_frame().rename_axis("pixel")

# %% tags=["hide-input"]
#| label: fig-effects
#| caption: >-
#|   Twenty pixels of each kind under the log intensity above. Mismatch spreads the times, a refractory time drops the events that follow
#|   another too soon, noise adds events without a cause, and a low-pass {eq}`eq-lowpass` delays the events and takes the extremes away.
#| alt: A sine above five rasters of events; mismatch and noise break the alignment of the twenty pixels, the refractory time and the low-pass leave fewer events.
split = {name: [events[events.x == i] for i in range(20)] for name, events in seen.items()}
_ = plots.save(camera.effects(times_ms, light, split), workspace.figures / "effects.png")
delay = {
    name: round(float(seen[name].t[seen[name].p == 0].mean() / 1000), 1) for name in ("ideal", "low-pass")
}
print(f"mean time of the OFF events: {delay['ideal']} ms ideal, {delay['low-pass']} ms behind the low-pass")

# %% [markdown]
# (sec-frames)=
# ## Frames against events
#
# A frame camera samples. Between two frames it sees nothing, and during an exposure it blurs what moves. An event camera does neither:
# its resolution in time is that of the stamps, and its rate follows the scene.

# %% tags=["hide-input"]
#| label: fig-frames-events
#| caption: >-
#|   A point that swings to and fro. Left, frames: each shows a blurred stretch of the path, and the turning points may fall between two of them.
#|   Right, events: each move of 2 px is reported when it happens; at the turning points there is nothing to report.
#| alt: Left a dashed curve with a few broad bars; right the same curve covered by points, blue where it rises, red where it falls.
_ = plots.save(camera.frames_and_events(), workspace.figures / "frames_events.png")

# %% [markdown]
# The price is a data rate that is not known beforehand. Frames of $H \times W$ pixels of one byte, $f$ per second, need
# $D_{\mathrm{frames}} = f\,H\,W$ bytes per second, while events of $b$ bytes each need
#
# $$ D_{\mathrm{events}} = b\,N / T = b\,H\,W\,\bar r , $$ (eq-data-rate)
#
# where $N$ events come in a time $T$, and $\bar r$ is the mean event rate of a pixel. With 8 bytes an event, as in Gen1's files, the two are equal at
# $\bar r = f/8$: for 30 frames per second at 3.75 events per second and pixel. The real recordings that are measured below have more than
# that, and the simulated streets have less.
#
# (sec-recording)=
# ## A recording
#
# [`open_events`](#ssmbook.events.open_events) reads fourteen formats and detects the format from the content (N-MNIST, which has no header, from the ending `.bin`). Stamps come
# out sorted, polarity as 0 and 1, and a recording may be larger than memory. Without a recording of yours (the parameter
# `recording`), this is the first one of the simulated set.

# %%
path = recording or next(iter(sorted((workspace.raw() / "train").glob("*_td*"))))
with open_events(path) as source:
    events = source.read(source.start_us, source.end_us + 1)
    width, height = source.width or int(events.x.max()) + 1, source.height or int(events.y.max()) + 1
seconds = (events.t[-1] - events.t[0]) / 1e6
print(f"{width} × {height} px, {len(events)} events in {seconds:.2f} s, {events.p.mean():.0%} ON")
pd.DataFrame({name: getattr(events, name)[:4] for name in "txyp"})

# %% tags=["hide-input"]
#| label: fig-recording
#| caption: >-
#|   Left, the events of a window from the middle of the recording as a picture: ON blue, OFF red. Right, the event rate over the whole recording, in bins of a sixtieth of it.
#| alt: Left a picture of coloured edges on white; right a step curve of the event rate over time.
window_us = round(1000 * window_ms)
middle = int(events.t[0] + events.t[-1] - window_us) // 2
window = events[(events.t >= middle) & (events.t < middle + window_us)]
counts, edges = np.histogram((events.t - events.t[0]) / 1e6, bins=60)
words = f"{len(window)} events in {window_ms:g} ms"
_ = plots.save(
    camera.recording(window, (edges[:-1], counts / np.diff(edges)), (width, height), words),
    workspace.figures / "recording.png",
)
print(
    f"mean rate {len(events) / seconds:.0f} events per second, at most {counts.max() / (edges[1] - edges[0]):.0f}"
)

# %% [markdown]
# A picture throws the time away. In space and time an edge that moves draws a surface, whose slope is its
# speed; noise is dust around it. Everything that the representations of [chapter 2](#ch-tensors) do is to cut, count or smooth this cloud.

# %% tags=["hide-input"]
#| label: fig-cloud
#| caption: >-
#|   The same stream as a cloud of points in time, column and row. Moving edges draw slanted sheets; single points are noise. An object that stops ends its sheet.
#| alt: Three-dimensional scatter of blue and red points that form slanted sheets along the time axis.
part = events[(events.t >= middle) & (events.t < middle + 6 * window_us)]
_ = plots.save(camera.cloud(part, (width, height)), workspace.figures / "cloud.png")
print(f"{len(part)} events of {6 * window_ms:g} ms")

# %% [markdown]
# (sec-street)=
# ## A street to film
#
# The sets that the paper trains on are Gen1 [@detournemire2020] and 1 Mpx [@perot2020], hours of driving. A
# simulator stands in for them here: procedural streets with cars and pedestrians that enter, cross, come nearer, hide each other, and stop for a while. A moment is
# rendered every millisecond, log intensity is interpolated linearly in between, as in ESIM [@rebecq2018esim], and {eq}`eq-threshold` is solved for the time
# of each crossing, so that stamps are finer than a millisecond. The same seed gives the same bytes.

# %%
drive = SimulatedSequence(replace(DEMO_SCENE, duration_s=1.6), seed=3)
chunks = list(drive.events())
picks_us = (300_000, 900_000, 1_500_000)
print(
    f"{len(drive.street.actors)} actors, {sum(map(len, chunks))} events, {len(drive.boxes())} boxes in {drive.scene.duration_s:g} s"
)

# %% tags=["hide-input"]
#| label: fig-street
#| caption: >-
#|   A simulated street at three moments. Above, what a frame camera would see, with the labels; below, the events of the 50 ms before.
#|   A label stays where its object is, even when the object has stopped and emits no events.
#| alt: Two rows of three pictures; grey streets with boxes above, coloured events with the same boxes below.
_ = plots.save(camera.street(drive, chunks, picks_us), workspace.figures / "simulated_street.png")

# %% [markdown]
# The labels know where a stopped car is. The events do not: remembering is the detector's task, and [chapter 10](#ch-memory) measures how long it can.
#
# (sec-verdict)=
# ## Does it look like events?
#
# A picture convinces too easily. Six measures of a stream can be compared instead, at equal duration:
#
# - the **rate** per pixel, $\bar r = N / (H W T)$;
# - the **share of ON** events;
# - the **silent** share: pixels without an event in a window;
# - the **busiest tenth**: which share of the events comes from the tenth of the pixels with most. With counts sorted upwards,
#   $n_{(1)} \le \dots \le n_{(HW)}$, the share of the quietest $q\,HW$ pixels is the Lorenz curve
#
#   $$ \mathcal{L}(q) = \frac{\sum_{i \le q\,HW} n_{(i)}}{\sum_i n_{(i)}} , $$ (eq-lorenz)
#
#   and the busiest tenth has $1 - \mathcal L(0.9)$;
# - the **median interval** between two successive events of one pixel;
# - the **supported** share: events with another one in the eight pixels around theirs within the 5 ms before. Edges
#   support their events, noise does not.
#
# [`pixel_statistics`](#ssmbook.events.pixel_statistics.pixel_statistics) computes them. Of the recording above:

# %%
#| label: tbl-own-statistics
#| tbl-cap: >-
#|   The measures of the recording of this chapter, in windows of the chosen length.
starts = range(int(events.t[0]), int(events.t[-1]) - window_us, window_us)
windows = [events[(events.t >= start) & (events.t < start + window_us)] for start in starts]
measures = ["rate_hz", "on_share", "silent_share", "busiest_share", "interval_ms", "supported_share"]
found = asdict(pixel_statistics(windows, width, height, window_us))
pd.DataFrame({"this recording": {name: found[name] for name in measures}}).T.round(2)

# %% [markdown]
# Two real recordings were measured in the same way beside simulated windows of the same length: a street seen from a
# car by a 1280 × 720 sensor, 8.8 ms of it, and people seen by a moving DAVIS346, five windows of 40 ms. The recordings
# are not part of this book, so the table below is read from a committed file, which `python benchmarks/realism.py FOLDER --json FILE` writes again, with the hashes of the recordings.

# %%
#| label: tbl-realism
#| tbl-cap: >-
#|   Real recordings, and simulated streets seen by the book's pixels and by v2e's, in windows of equal length.
realism = json.loads((book_root() / "benchmarks" / "results" / "realism.json").read_text())["rows"]
table = pd.DataFrame(realism).set_index(["window_ms", "name"])[measures]
table.round(2)

# %% tags=["hide-input"]
#| label: fig-realism
#| caption: >-
#|   Left, Lorenz curves {eq}`eq-lorenz`: real streams spread over more pixels than simulated ones. Right, how the times between
#|   a pixel's events are distributed. Solid lines are windows of 40 ms, dashed ones of 8.8 ms.
#| alt: Two panels of curves; on the left the simulated curves lie below the real ones, on the right they lie close together.
_ = plots.save(camera.real_and_simulated(realism), workspace.figures / "realism.png")
forty = table.loc[40.0].round(2)
print(f"rate, real over simulated, 40 ms: {forty['rate_hz'].iloc[0] / forty['rate_hz'].iloc[1]:.1f}")

# %% [markdown]
# The verdict of the numbers is mixed, and it should be kept in mind in every later chapter.
#
# - *Right:* the balance of ON and OFF, and the times between the events of one pixel, which agree within a factor of two.
# - *Wrong:* the simulated street is emptier. It has a fifth of the events per pixel of the people and a thirtieth of those of the
#   drive, because in it only actors and a faint background move, while a real camera moves as a whole and every texture fires.
# - *Wrong:* fewer of its events are supported by a neighbour. With few edges, the noise weighs more: the book's pixels emit 0.3 noise events per
#   second, a third of the rate in the table.
#
# A detector trained on such streets has an easier background and less of a signal than one trained on real driving. Comparisons *between* models at equal data
# carry over in direction at best; absolute precision does not. The rates of [chapter 9](#ch-rates) are compared in that sense only.
#
# (sec-raw)=
# ## The raw set
#
# A set lies in `raw/{train,val,test}` in Gen1's own format: a `_td.dat` of events and a `_bbox.npy` of boxes
# per recording. All later chapters read those files, and work unchanged on real ones.

# %%
#| label: tbl-raw
#| tbl-cap: >-
#|   The raw set of this profile.
files = {split: sorted((workspace.raw() / split).glob("*_bbox.npy")) for split in ("train", "val", "test")}
pd.DataFrame(
    {
        split: {"recordings": len(paths), "boxes": sum(len(read_boxes(path)) for path in paths)}
        for split, paths in files.items()
    }
).T

# %% [markdown]
# ## What was learnt
#
# A pixel fires when its log intensity has changed by a threshold since its last event {eq}`eq-threshold`. Edges that move cause events, at a rate that grows with
# contrast and speed {eq}`eq-rate`; what stands still causes none. Real pixels add mismatch, blind time, noise and a low-pass. A
# simulated street is right in polarity and timing, and too empty. The next step is [chapter 2](#ch-tensors), or, for the memory itself, [chapter 3](#ch-layers).
#
# ## Exercises
#
# :::{exercise} Counting thresholds
# :label: ex-count
# The log intensity of a pixel rises from 0 to 2.3 and falls back to 0.5. Predict the number of ON and OFF events for $\theta_{\mathrm{on}} = 0.4$ and
# $\theta_{\mathrm{off}} = 0.3$ with {eq}`eq-count`, and check it with a `PixelArray`.
# :::
#
# :::{solution} ex-count
# :class: dropdown
# ```{literalinclude} solutions/01_events.py
# :start-after: # %% ex-count
# :end-before: # %% ex-refractory
# ```
# :::
#
# :::{exercise} The fastest pixel
# :label: ex-refractory
# A light rises steadily by 100 units of log intensity per second. How many events per second does a pixel with $\theta = 0.25$ emit
# without a refractory time, and with one of 6 ms? Compare with {eq}`eq-refractory`.
# :::
#
# :::{solution} ex-refractory
# :class: dropdown
# ```{literalinclude} solutions/01_events.py
# :start-after: # %% ex-refractory
# :end-before: # %% ex-silent
# ```
# :::
#
# :::{exercise} A silent sensor
# :label: ex-silent
# Pixels emit noise at 0.3 events per second. Which share of them is silent in a window of 50 ms, by {eq}`eq-poisson`, and how many events
# does a still scene of 304 × 240 pixels give per window? Check both with a simulated sensor.
# :::
#
# :::{solution} ex-silent
# :class: dropdown
# ```{literalinclude} solutions/01_events.py
# :start-after: # %% ex-silent
# :end-before: # %% ex-lowpass
# ```
# :::
#
# :::{exercise} The low-pass as a state
# :label: ex-lowpass
# Write {eq}`eq-lowpass` as a recurrence $x_k = \bar a x_{k-1} + \bar b u_k$ that is exact for an input that stays constant within a step of 1 ms,
# with $f_c = 30$ Hz. After which time has the pixel seen half of a sudden step? Which of the two numbers $\bar a$, $\bar b$ change if the same pixel is
# computed in steps of another length, as the {term}`step_scale` of later chapters makes them?
# :::
#
# :::{solution} ex-lowpass
# :class: dropdown
# ```{literalinclude} solutions/01_events.py
# :start-after: # %% ex-lowpass
# ```
# :::
#
# ## Further reading
#
# @lichtsteiner2008 describe the sensor that started the field; its section II is the source of {numref}`fig-pixel-principle`. @gallego2022 survey cameras,
# models and uses. @hu2021v2e measure and model what real pixels do, and @rebecq2018esim simulate events from rendered scenes with adaptive sampling.
# @detournemire2020 and @perot2020 describe Gen1 and 1 Mpx.

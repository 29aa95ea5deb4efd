# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-tensors)=
# # From events to tensors
#
# A network wants arrays of a fixed shape at fixed times; a camera gives a list of events of any length. Which arrays, and at which times?
# The choice looks like plumbing, and decides more about rates than any layer does: what a frame holds when it is made ten times as often is settled here.
#
# After this chapter you can
#
# - lay windows so that one ends at every label, and say what the published grid does instead;
# - write five representations from their formulas, and compare what each remembers;
# - say which of them change when the rate changes;
# - turn a recording of your own, with its boxes, into a set that the detector trains on.
#
# It builds on the events of [chapter 1](#ch-events). Its last representation, {term}`traces`, is the first state-space layer of the book, and [chapter 3](#ch-layers) continues from there.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
representation: str = ""  # traces, mixeddensity_stack or stacked_histogram; the profile's by default
own_raw: str = ""  # a folder of yours with train, val or test in it; made from the simulated set by default
own_sensor: str = ""  # the YAML file of its camera

# %% tags=["hide-input"]
import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from ssmbook import plots
from ssmbook.dataset import EvaluationStreams, describe, find_sequences, get_sensor, preprocess
from ssmbook.dataset.labels import find_label_frames, window_ends
from ssmbook.drawings import tensors as drawings
from ssmbook.events import MixedDensityStack, StackedHistogram, Traces, open_events
from ssmbook.study import Workspace
from ssmbook.study.workspace import book_root

plots.style()
workspace = Workspace(profile, data_dir, representation=representation)
height, width = workspace.sensor.height, workspace.sensor.width
path = sorted((workspace.raw() / "train").glob("*_td*"))[0]
with open_events(path) as recording:
    events = recording.read(0, 900_000)


def between(start_us: int, end_us: int):
    """The events with start ≤ t ≤ end."""
    return events[(events.t >= start_us) & (events.t <= end_us)]


# %% [markdown]
# (sec-windows)=
# ## Windows and strides
#
# A {term}`window` is the stretch of time whose events become one frame. With windows of duration $w$, the frame that ends at $t_k$ is made of [@gehrig2023rvt, on event processing]
#
# $$ \mathcal{W}_k = \{\, i : t_k - w \le t_i \le t_k \,\} , $$ (eq-window)
#
# and the times $t_k$ lie a {term}`stride` apart. Window and stride are two things. The **stride** sets the {term}`rate` at which the network steps; the **window** sets how much of the past a single frame shows.
# (Events on an edge that two windows share belong to both.)
# The published networks have both at 50 ms, 20 Hz. To run at $k$ times that rate there are three modes with windows:
#
# | mode | window | stride | each event is counted |
# |---|---|---|---|
# | {term}`held <held stride>` | 50/k ms | 50 ms | once, or never |
# | {term}`true <true rate>` | 50/k ms | 50/k ms | once |
# | {term}`sliding <sliding windows>` | 50 ms | 50/k ms | k times |

# %% tags=["hide-input"]
#| label: fig-windows
#| caption: >-
#|   The three modes at twice the rate, below the windows of training. Held windows leave gaps, and the network steps no faster; true windows are short; sliding windows overlap.
#| alt: Four rows of bars along a time axis, with triangles where the network steps.
modes = {"training": (50.0, 50.0), "held": (25.0, 50.0), "true": (25.0, 25.0), "sliding": (50.0, 25.0)}
_ = plots.save(drawings.windows(modes, 400), workspace.figures / "windows.png")
rows = {}
for name, (window_ms, stride_ms) in modes.items():
    ends = np.arange(50_000 + round(1000 * stride_ms), 850_001, round(1000 * stride_ms))
    used = sum(len(between(int(end - 1000 * window_ms) + 1, int(end))) for end in ends)
    rows[name] = {
        "steps per second": 1000 / stride_ms,
        "events used, of all": used / len(between(50_001, 850_000)),
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# A window can also be cut by count: the last $N$ events before its end,
#
# $$ \mathcal{W}_k = \{\, i : i_k - N < i \le i_k \,\}, \qquad i_k = \max \{\, i : t_i \le t_k \,\} , $$ (eq-count-window)
#
# so that its duration follows the scene. `preprocess(window_events=5000)` makes them, also at a fixed stride.
#
# (sec-labels)=
# ## Label frames
#
# Boxes are annotated at some times only, 4 Hz on Gen1 and about 10 Hz on 1 Mpx as used [@detournemire2020; @perot2020]. A {term}`label frame` is such a time, and a window has to end exactly there.
# The first box time at or after 100 ms is one. Label times jitter, so a later box time $t$ counts as a label frame if its distance to the previous label frame, $t'$, is close to a multiple of the base interval $T_b$ (250 ms on Gen1), as in the released code of [@zubic2024]:
#
# $$ \bigl| (t - t') - n\,T_b \bigr| \le 2\ \text{ms}, \qquad n = \mathrm{round}\!\left( \frac{t - t'}{T_b} \right) \ge 1 . $$ (eq-label-frame)
#
# Windows are then laid backwards from the first label frame while they end after 0, without the earliest of them, and in equal steps between label frames, as many as come closest to the stride $d$:
#
# $$ m = \max\!\left(1,\; \mathrm{round}\!\left( \frac{t - t'}{d} \right)\right) \quad\text{windows between } t' \text{ and } t . $$ (eq-window-ends)

# %%
times = np.array([37_000, 250_000, 501_500, 640_000, 750_300, 1_000_000])  # µs
frames, intervals = find_label_frames(times, 250_000)
ends, where = window_ends(frames, intervals, 50_000)
table = pd.DataFrame(
    {"label frame": np.isin(times, frames)}, index=pd.Index(times / 1000, name="box time (ms)")
)
print(f"{int(where[0])} windows before the first label frame, then {', '.join(map(str, np.diff(where)))}")
table

# %% tags=["hide-input"]
#| label: fig-label-timeline
#| caption: >-
#|   Windows of 50 ms laid for these label frames. Every label frame is the end of a window {eq}`eq-window-ends`; the box at 640 ms is off the grid of 250 ms {eq}`eq-label-frame` and is left out (as is the one at 37 ms, which comes too early), and nothing is laid after the last label.
#| alt: A time axis with overlapping bars, and vertical lines for four label frames and one dropped box.
fig = drawings.label_timeline(ends / 1000, (frames / 1000).tolist(), 50, [640.0])
_ = plots.save(fig, workspace.figures / "label_timeline.png")
print(f"{len(ends)} windows, {len(frames)} of them at a label")

# %% [markdown]
# The released script lays its windows differently. It counts $n \lfloor 100\ \text{ms} / d \rfloor$ of them between two label frames, which is right where labels are 100 ms apart. On Gen1 they are 250 ms apart, so
# that only two windows of 50 ms fall into 250 ms: they come every
#
# $$ \frac{T_b}{\lfloor 100\ \text{ms} / d \rfloor} = \frac{250}{2} = 125\ \text{ms} , $$ (eq-published-ends)
#
# at 8 Hz and not at 20, and 60 % of the events fall between them. The default here is the exact grid; `preprocess(grid="published")` does as the script. [Chapter 13](13_released_code.ipynb) has the details.

# %%
published, _ = window_ends(frames, intervals, 50_000, grid="published")
pd.DataFrame(
    {
        name: {
            "windows": len(e),
            "ms between them, after the first label": float(np.median(np.diff(e[e >= frames[0]]))) / 1000,
        }
        for name, e in (("exact", ends), ("published", published))
    }
).T.rename_axis("grid")

# %% [markdown]
# (sec-histogram)=
# ## Counting: stacked histograms
#
# The representation of RVT and S5-ViT counts events per pixel, polarity and time bin [@gehrig2023rvt, on event processing]. Its $n$ bins divide the time between the window's first and last event,
#
# $$ b_i = \min\!\left( \left\lfloor n\, \frac{t_i - t_{\mathrm{first}}}{t_{\mathrm{last}} - t_{\mathrm{first}}} \right\rfloor,\; n - 1 \right) , $$ (eq-bin)
#
# $$ H_{p,b}(x, y) = \min\!\left( \sum_{i \in \mathcal W} [p_i = p]\,[b_i = b]\,[x_i = x]\,[y_i = y],\; c \right) , $$ (eq-histogram)
#
# where $[\cdot]$ is 1 if the statement holds and else 0, and a count saturates at $c = 10$. With ten bins and two polarities that makes 20 channels.


# %%
def stacked(ev, bins: int, cutoff: int = 10) -> np.ndarray:
    """The equations above, as written."""
    share = (ev.t - ev.t[0]).astype(np.float32) / np.float32(max(ev.t[-1] - ev.t[0], 1))
    b = np.minimum(bins * share, bins - 1).astype(int)
    counts = np.zeros((2 * bins, height, width), int)
    np.add.at(counts, (ev.p.astype(int) * bins + b, ev.y, ev.x), 1)
    return np.minimum(counts, cutoff).astype(np.uint8)


window = between(450_000, 500_000)
histogram = StackedHistogram(bins=10, height=height, width=width)
print("equals the library's, byte for byte:", np.array_equal(stacked(window, 10), histogram(window)))
print(
    f"shape {histogram(window).shape}, {len(window)} events, sum of the counts {int(histogram(window).sum())}"
)

# %% [markdown]
# Note that the bins divide the time between the first and last *event*, not between the window's ends. In a sparse window the same bin covers a different stretch of time. [Chapter 13](13_released_code.ipynb) asks when that matters.
#
# A **mixed density stack**, in the form of RVT, sums polarities over ever longer stretches of the window. (That of @nam2022
# halves the number of events, and keeps the latest.) The last channel holds the whole window, the one before it the first half,
# then the first quarter:
#
# $$ \begin{gathered} M_k(x, y) = \sum_{i \in \mathcal W} (2 p_i - 1)\, [x_i = x]\,[y_i = y]\; \bigl[ a_i < 2^{-(n - 1 - k)} \bigr] , \\ a_i = \frac{t_i - t_{\mathrm{first}}}{t_{\mathrm{last}} - t_{\mathrm{first}}} , \qquad k = 0, \dots, n - 1 . \end{gathered} $$ (eq-density)
#
# The last event, whose quotient is 1, counts in the last channel too, and sums are clamped to ±32.


# %%
def mixed_density(ev, bins: int, cutoff: int = 32) -> np.ndarray:
    """The equation above: each event goes to the first bin that holds it, and channels are running sums."""
    share = (ev.t - ev.t[0]).astype(np.float32) / np.float32(max(ev.t[-1] - ev.t[0], 1))
    depth = np.log(np.clip(share, 1e-6, np.float32(1 - 1e-6)).astype(float)).astype(np.float32) / np.float32(
        np.log(0.5)
    )
    b = np.minimum(np.maximum(np.float32(bins) - depth, 0).astype(int), bins - 1)
    sums = np.zeros((bins, height, width), int)
    np.add.at(sums, (b, ev.y, ev.x), 2 * ev.p.astype(int) - 1)
    return np.clip(np.cumsum(sums, 0), -cutoff, cutoff).astype(np.int8)


density = MixedDensityStack(bins=10, height=height, width=width)
print("equals the library's, byte for byte:", np.array_equal(mixed_density(window, 10), density(window)))

# %% tags=["hide-input"]
#| label: fig-bins
#| caption: >-
#|   The same window as a stacked histogram {eq}`eq-histogram`, two bins together (above), and as a mixed density stack {eq}`eq-density`, its last five channels (below). ON is blue, OFF is red. The histogram shows motion from bin to bin, the stack accumulates it.
#| alt: Two rows of five small pictures with blue and red edges; the lower row becomes fuller to the right.
fig = drawings.bins(histogram(window).astype(int), density(window).astype(int), histogram)
_ = plots.save(fig, workspace.figures / "representations.png")

# %% [markdown]
# (sec-voxel)=
# ## Interpolating: voxel grids and time surfaces
#
# Two other representations are common. A **voxel grid** divides each event between the two bins that are nearest in time [@zhu2019, on the input representation]:
#
# $$ t_i^* = (n - 1)\, \frac{t_i - t_{\mathrm{first}}}{t_{\mathrm{last}} - t_{\mathrm{first}}} , $$ (eq-voxel-time)
#
# $$ V_b(x, y) = \sum_{i \in \mathcal W} (2 p_i - 1)\, [x_i = x]\,[y_i = y]\, \max(0,\, 1 - |b - t_i^*|) . $$ (eq-voxel)
#
# Its sum is that of the polarities, and it varies continuously with the stamps. A **time surface** keeps the last event of each pixel only, and lets it fade [@lagorce2017]:
#
# $$ \begin{gathered} S_p(x, y; t) = e^{-(t - T_p(x, y; t)) / \tau}, \\ T_p(x, y; t) = \max \{\, t_i \le t : x_i = x,\, y_i = y,\, p_i = p \,\} . \end{gathered} $$ (eq-surface)


# %%
def voxel_grid(ev, bins: int) -> np.ndarray:
    """The equations above."""
    t = (bins - 1) * (ev.t - ev.t[0]) / max(ev.t[-1] - ev.t[0], 1)
    low, sign = np.floor(t).astype(int), 2.0 * ev.p - 1
    V = np.zeros((bins, height, width))
    np.add.at(V, (low, ev.y, ev.x), sign * (1 - (t - low)))
    np.add.at(V, (np.minimum(low + 1, bins - 1), ev.y, ev.x), sign * (t - low))
    return V


def time_surface(ev, t_us: int, tau_ms: float) -> np.ndarray:
    """The equation above; ``ev`` in order of time."""
    last = np.full((2, height, width), -np.inf)
    last[ev.p, ev.y, ev.x] = ev.t  # later events overwrite earlier ones
    return np.exp(-(t_us - last) / (1000 * tau_ms))


V, surface = voxel_grid(window, 10), time_surface(between(0, 500_000), 500_000, 20)
pd.Series(
    {
        "sum of the voxel grid": V.sum(),
        "sum of the polarities": float((2.0 * window.p - 1).sum()),
        "largest value of the surface": surface.max(),
    },
    name="value",
).round(2).to_frame()

# %% [markdown]
# (sec-traces)=
# ## A layer at every pixel: traces
#
# Histograms, stacks and grids forget everything when the next window begins. A time surface forgets all events but the last. A **trace** forgets no event at once, but all of them gradually: it is a
# leaky integrator, raised by one by each event (a unit impulse $\delta$),
#
# $$ \dot s_k(t) = -\frac{s_k(t)}{\tau_k} + \sum_i \delta(t - t_i) , $$ (eq-trace-ode)
#
# for each pixel, each polarity and a few time constants $\tau_k$. (The book's constants are 2.5, 5, 10 and 20 ms; {numref}`tbl-taus` says why.) This is a state-space model, $\dot x = A x + B u$, $y = C x + D u$ ({eq}`eq-ode` of the next chapter), with
#
# $$ A = \mathrm{diag}(-1/\tau_1, \dots, -1/\tau_K), \quad B = (1, \dots, 1)^\top, \quad C = I, \quad D = 0 , $$ (eq-trace-matrices)
#
# driven by impulses; diagonal from the start, with real eigenvalues and nothing to learn. For impulses the integral of {eq}`eq-solution` is a sum, and there is no discretisation error at all:
#
# $$ s_k(t) = \sum_{t_i \le t} e^{-(t - t_i) / \tau_k} . $$ (eq-trace-solution)
#
# Leaky integrators of events are an old idea, and are covariant to a change of time scale [@pedersen2024]; a bank of them at every pixel as the input of a detector we have not found elsewhere, and the [rates chapter](#ch-rates) measures what that is worth.

# %% tags=["hide-input"]
#| label: fig-trace-cell
#| caption: >-
#|   A trace as a layer. Events drive a state {eq}`eq-trace-ode`, which can be read at any time; a logarithm fits it into a byte {eq}`eq-quantise`.
#| alt: Three boxes in a row, events into a differential equation, into a rounding, into a byte.
_ = plots.save(drawings.trace_cell(), workspace.figures / "trace_cell.png")

# %% [markdown]
# The sum over all past events need not be computed. Between two events of a pixel the state only decays, so it is enough to keep, with each pixel, its state and the time of its last event:
#
# $$ s_k \leftarrow s_k\, e^{-(t_i - t_{i-1}) / \tau_k} + 1 . $$ (eq-trace-step)
#
# That is a recurrence $x \leftarrow \bar a\,x + \bar b$ with a step of its own for each event, $\Delta = t_i - t_{i-1}$. Its factor $\bar a = e^{-\Delta/\tau_k}$ is that of zero-order hold {eq}`eq-zoh`; but since the input is an impulse and not held over the step, $\bar b = 1$. For storage the value is compressed by a logarithm,
#
# $$ q_k = \min\bigl(255,\; \mathrm{round}(16 \ln(1 + s_k))\bigr) , $$ (eq-quantise)
#
# whose levels are finest at small values, where most values are.


# %%
def traces_by_sum(ev, t_us: int, taus_ms) -> np.ndarray:
    """The equations above: uint8 [2K, H, W], channel p·K + k."""
    s = np.zeros((2, len(taus_ms), height, width))
    for k, tau in enumerate(taus_ms):
        np.add.at(s[:, k], (ev.p, ev.y, ev.x), np.exp(-(t_us - ev.t) / (1000 * tau)))
    return np.minimum(np.floor(16 * np.log1p(s) + 0.5), 255).astype(np.uint8).reshape(-1, height, width)


def trace_step(s: float, age_ms: float, tau_ms: float) -> float:
    """The equation above: the state after an event that comes ``age_ms`` after the one before."""
    return s * np.exp(-age_ms / tau_ms) + 1


traces = Traces(height=height, width=width)
traces.push(between(0, 500_000))
frame = traces.read(500_000)
by_sum = traces_by_sum(between(0, 500_000), 500_000, traces.taus_ms)
print(f"shape {frame.shape}; bytes that differ from the sum: {int((frame != by_sum).sum())} of {frame.size}")

# %% [markdown]
# One pixel by itself shows the recurrence. Here is the busiest one, its ON events, and its traces. The longer the time constant, the more a trace is a count, and the shorter, the more it is a time surface.

# %%
flat = between(0, 900_000)
busiest = np.bincount((flat.y.astype(int) * width + flat.x)[flat.p == 1]).argmax()
stamps_ms = flat.t[(flat.y.astype(int) * width + flat.x == busiest) & (flat.p == 1)] / 1000
t_ms = np.arange(0, 900, 0.5)
curves = {}
for tau in traces.taus_ms:
    s, last, values, events_left = 0.0, 0.0, [], list(stamps_ms)
    for t in t_ms:
        while events_left and events_left[0] <= t:
            s, last = trace_step(s, events_left[0] - last, tau), events_left.pop(0)
        values.append(s * np.exp(-(t - last) / tau))
    curves[tau] = np.array(values)
pd.DataFrame(
    {f"τ = {tau:g} ms": {"largest": s.max(), "mean": s.mean()} for tau, s in curves.items()}
).T.round(2)

# %% tags=["hide-input"]
#| label: fig-one-pixel-traces
#| caption: >-
#|   ON events of one pixel (ticks) and its traces by {eq}`eq-trace-step`. Each event adds one; the mean of a trace is the event rate times its time constant.
#| alt: Four sawtooth curves over ticks on a time axis; the ones with long time constants pile up higher.
_ = plots.save(drawings.one_pixel_traces(stamps_ms, t_ms, curves), workspace.figures / "traces.png")
rate = len(stamps_ms) / 900
print(
    f"{len(stamps_ms)} events; rate · τ = {rate * 20:.2f} for 20 ms, and the mean of that trace is {curves[20.0].mean():.2f}"
)

# %% [markdown]
# How long should the longest trace last? Too long, and an object drags a trail of what it passed, in which its front is
# hard to tell. {numref}`tbl-taus` has the answer of a detector, on the validation split of the study's set. With 40 ms boxes
# were found, but lay badly: what is missing is missing at an IoU of 0.75. What is older than the traces is a matter of the
# network's own state, which can choose what it keeps.

# %% tags=["nbval-ignore-output"]
#| label: tbl-taus
#| tbl-cap: >-
#|   Validation AP × 100 of selective S5 by the longest time constant of its traces, each the double of the one before, from 2.5 ms. One
#|   training each of 600 steps, from `benchmarks/traces.py`; seeds of one setting differ by some AP, too ({numref}`tbl-study-spread`).
found = json.loads((book_root() / "benchmarks" / "results" / "traces.json").read_text())["rows"]
pd.DataFrame(
    {
        f"{row['taus_ms'][-1]:g} ms": {
            "channels": row["channels"],
            **{name: round(100 * row[name], 1) for name in ("AP", "AP_50", "AP_75")},
        }
        for row in found
    }
).T.rename_axis("longest").astype({"channels": int})

# %% [markdown]
# The study's streets have long stops. Where hardly anything stops, a window is the better input, at both rates, and a trace no less the same at both:

# %%
#| label: tbl-driving
#| tbl-cap: >-
#|   AP × 100 on the test split of the simulated set `demo`, by input and rate, the time scale following; mean over the seeds
#|   (`ssmbook sweep examples/driving.yaml`).
driving = pd.read_csv(book_root() / "data" / "tables" / "driving" / "rates.csv")
print(driving["seed"].nunique(), "seeds")
(100 * driving.pivot_table("AP", ["model", "mode"], "rate_hz")).round(1)

# %% [markdown]
# (sec-compare)=
# ## What each remembers
#
# Once the bins are fixed, and before values saturate or are rounded, all of these are linear in the events, except the time surface. So each channel can be described by one function: how much an event weighs, by its age when the frame is made. Those functions are the kernels of the representation, as {eq}`eq-kernel` will be of a layer.

# %% tags=["hide-input"]
#| label: fig-weights
#| caption: >-
#|   Weight of an event by its age, a curve for each channel (a frame at age 0, a window of 50 ms that is full of events). Histogram: boxes. Mixed density: the oldest part is counted most often. Voxel grid: triangles. Time surface: an exponential, of the last event only. Traces: exponentials, without an end.
#| alt: Five panels of curves over age; boxes, growing steps, triangles, one exponential, and four exponentials.
age = np.linspace(0, 60, 601)
share = 1 - age / 50  # place in the window, from 0 to 1
inside = (share >= 0) & (share <= 1)
named = {
    "stacked histogram": [inside & (np.clip(np.floor(10 * share), 0, 9) == b) for b in range(10)],
    "mixed density": [inside & (share <= 2.0 ** -(9 - k)) for k in range(6, 10)],
    "voxel grid": [inside * np.maximum(0, 1 - np.abs(b - 9 * share)) for b in range(10)],
    "time surface": [np.exp(-age / 20)],
    "traces": [np.exp(-age / tau) for tau in traces.taus_ms],
}
_ = plots.save(
    drawings.weights(
        age, {name: [np.asarray(c, float) for c in channels] for name, channels in named.items()}
    ),
    workspace.figures / "weights.png",
)
pd.Series(
    {
        name: float(sum(np.asarray(c, float)[age > 50.01].sum() for c in channels)) > 0
        for name, channels in named.items()
    },
    name="sees beyond 50 ms",
).to_frame()

# %% tags=["hide-input"]
#| label: fig-representations
#| caption: >-
#|   The same moment in five representations: the histogram summed over its bins, the last channel of the stack and bin 5 of the grid (ON minus OFF), and one channel of the surface and of the traces (ON alone). The surface fades, but never to zero.
#| alt: Five small pictures of the same scene with edges of different softness.
on_traces = frame.astype(float)[len(traces.taus_ms) :]
images = {
    "histogram": histogram(window).astype(float)[10:].sum(0) - histogram(window).astype(float)[:10].sum(0),
    "mixed density": density(window).astype(float)[-1],
    "voxel grid, bin 5": V[5],
    "surface, 20 ms": surface[1],
    "trace, 20 ms": on_traces[3],
}
_ = plots.save(drawings.side_by_side(images), workspace.figures / "five.png")
pd.Series(
    {name: float((np.abs(image) > 0).mean()) for name, image in images.items()},
    name="pixels that are not zero",
).round(3).to_frame()

# %% [markdown]
# (sec-rate-free)=
# ## What changes with the rate
#
# Now the question of the book. Make frames ten times as often: what does the network see? Below, the mean of a frame, at the same seven moments, over the rate.

# %%
moments = np.arange(150_000, 850_000, 100_000)
rates = [20, 40, 100, 200]


def mean_frame(make, rate: int, held: bool) -> float:
    length = round(50_000 * (20 / rate if held else 1))
    return float(np.mean([make(between(int(t) - length, int(t))).sum(dtype=float) for t in moments]))


def mean_of_traces(rate: int) -> float:
    own, done, sums = Traces(height=height, width=width), 0, []
    for t in range(0, 850_001, 1_000_000 // rate):  # read at every step of that rate
        own.push(events[(events.t > done) & (events.t <= t)])
        done, value = t, own.read(t)
        if t in moments:
            sums.append(value.sum(dtype=float))
    return float(np.mean(sums))


sizes = {
    "histogram, short windows (held or true)": [mean_frame(histogram, rate, True) for rate in rates],
    "histogram, sliding windows": [mean_frame(histogram, rate, False) for rate in rates],
    "traces": [mean_of_traces(rate) for rate in rates],
}
relative = {name: (rates, [value / values[0] for value in values]) for name, values in sizes.items()}
pd.DataFrame({name: dict(zip(rates, values, strict=True)) for name, (_, values) in relative.items()}).T.round(
    3
)

# %% tags=["hide-input"]
#| label: fig-reading-rates
#| caption: >-
#|   The mean of a frame over the rate, relative to 20 Hz. Short windows empty in proportion; sliding windows and traces, whose lines coincide, stay as they were in training.
#| alt: Three lines over the rate; two stay at one, the third falls towards a tenth.
_ = plots.save(drawings.reading_rates(relative), workspace.figures / "reading_rates.png")

# %% [markdown]
# At 200 Hz a short window holds about a tenth of the events: the network is shown a kind of frame that it has never seen. Sliding windows and traces look as in training. But both show each event in ten times as many frames, so that what the *state* behind them integrates grows, unless its step shrinks with the rate ([chapter 5](05_time_scale.ipynb)).
# A trace touches each event only once to do so, where a sliding window has to count it again for every frame. In fact a trace cannot know the rate at which it is read: reading changes nothing.

# %%
often, seldom = Traces(height=height, width=width), Traces(height=height, width=width)
for t in range(5_000, 500_001, 5_000):
    often.push(events[(events.t > t - 5_000) & (events.t <= t)])
    at_200_hz = often.read(t)
seldom.push(events[(events.t > 0) & (events.t <= 500_000)])
print("read 100 times or once, equal bytes:", np.array_equal(at_200_hz, seldom.read(500_000)))

# %% [markdown]
# (sec-disk)=
# ## On disk, and into batches
#
# [`preprocess`](#ssmbook.dataset.preprocess) reads each recording once and writes a sequence: frames $[T, C, H, W]$ as bytes, the time of each, and the labels with the index of their frame, in the layout of the published sets. What differs between cameras and label sets fits in a few numbers:

# %%
#| label: tbl-sensors
#| tbl-cap: >-
#|   The sensors of Gen1 and 1 Mpx (gen4), and this profile's. Boxes with a smaller diagonal or side (px) are dropped in preprocessing; evaluation has limits of its own, on 1 Mpx larger ones.
keys = ["width", "height", "classes", "label_interval_ms", "min_diagonal", "min_side", "downsample"]
sensors = {name: get_sensor(name) for name in ("gen1", "gen4")} | {profile: workspace.sensor}
rows = {name: {key: getattr(sensor, key) for key in keys} for name, sensor in sensors.items()}
for row in rows.values():
    row |= {"classes": ", ".join(row["classes"]), "downsample": "yes" if row["downsample"] else "no"}
    row["label_interval_ms"] = row["label_interval_ms"] or "as labelled"
pd.DataFrame(rows).map(lambda value: value if isinstance(value, str) else f"{round(value, 2):g}")

# %%
folder = workspace.preprocessed()
sequence = find_sequences(folder / "train")[0]
for split in ("train", "val", "test"):
    print(f"{split}: {describe(find_sequences(folder / split))}")
pd.DataFrame(
    {
        "label at (ms)": sequence.label_times_us[:4] / 1000,
        "its frame": sequence.label_frames[:4],
        "which ends at (ms)": sequence.timestamps_us[sequence.label_frames[:4]] / 1000,
    }
)

# %% tags=["hide-input"]
#| label: fig-shapes
#| caption: >-
#|   From the stream to the batch, with shapes. A chunk is $L$ consecutive frames; a batch stacks $B$ chunks of different sequences, and the next batch goes on with the next chunk of each, so that states can be carried.
#| alt: Points, then a row of stacked sheets, then a grid of smaller stacks, and a box for the network.
_ = plots.save(drawings.shapes(), workspace.figures / "shapes.png")

# %% tags=["hide-input"]
#| label: fig-sequence
#| caption: >-
#|   Frames of one preprocessed sequence at four of its label frames, with the boxes that the detector is to find.
#| alt: Four pictures of the same street at different times with boxes.
picks = np.linspace(0, len(sequence.label_frames) - 1, 4).astype(int).tolist()
pictures = [
    (
        sequence.frames(sequence.label_frames[i], sequence.label_frames[i] + 1)[0],
        sequence.labels_at(i),
        f"{sequence.label_times_us[i] / 1e6:.2f} s",
    )
    for i in picks
]
_ = plots.save(
    drawings.frames(pictures, workspace.sensor.classes, workspace.represent),
    workspace.figures / "sequence.png",
)
print("boxes in these frames:", ", ".join(str(len(boxes)) for _, boxes, _ in pictures))

# %% [markdown]
# How streams and random chunks are drawn from these files is the subject of [chapter 7](#ch-training).
#
# (sec-own)=
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
# Give the two as the parameters `own_raw` and `own_sensor`. PEDRo [@boretti2023], for example, comes as isolated windows of 40 ms with YOLO boxes. Without a folder of yours, this cell writes such windows from the simulated set: arrays of $t, x, y, p$ that end at 100 ms, each with a text file of boxes.

# %%
if not own_raw:
    own_raw, own_sensor = str(workspace.folder / "own" / "raw"), str(workspace.folder / "own" / "camera.yaml")
    for i in range(len(sequence.label_times_us) - 5, len(sequence.label_times_us)):
        t = int(sequence.label_times_us[i])
        with open_events(path) as recording:
            ev = recording.read(t - 40_000, t + 1)
        labels = workspace.folder / "own" / "raw" / "val" / f"clip{i}_bbox"
        labels.mkdir(parents=True, exist_ok=True)
        np.save(labels.with_name(f"clip{i}_td.npy"), np.stack([ev.t + 100_000 - t, ev.x, ev.y, ev.p], axis=1))
        rows = [
            (
                int(b["class_id"]),
                (b["x"] + b["w"] / 2) / width,
                (b["y"] + b["h"] / 2) / height,
                b["w"] / width,
                b["h"] / height,
            )
            for b in sequence.labels_at(i)
        ]
        (labels / "000100000us.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    camera = {"width": width, "height": height, "classes": list(workspace.sensor.classes)}
    _ = (workspace.folder / "own" / "camera.yaml").write_text(yaml.safe_dump(camera))
print(f"a folder with {len(list(Path(own_raw).rglob('*_td*')))} recordings and their boxes")

# %% [markdown]
# Windows are laid backwards from the label in strides; with a stride of 100 ms that gives one for each recording.

# %%
summary = preprocess(
    own_raw, workspace.folder / "own" / "set", sensor=own_sensor, window_ms=40, stride_ms=100
)
batch = EvaluationStreams(find_sequences(workspace.folder / "own" / "set" / "val"), length=1, batch_size=5)[0]
print(f"{len(summary.done) + len(summary.skipped)} recordings; a batch of frames {tuple(batch.x.shape)}")

# %% tags=["hide-input"]
#| label: fig-own
#| caption: >-
#|   The recordings of this folder as frames, with their boxes as the loader gives them.
#| alt: A row of small event pictures with boxes.
pictures = [
    (batch.x[0, slot].numpy(), boxes, batch.sequences[slot])
    for (_, slot), boxes in zip(batch.frames.tolist(), batch.labels, strict=True)
]
_ = plots.save(drawings.frames(pictures, get_sensor(own_sensor).classes, None), workspace.figures / "own.png")
print("boxes:", sum(len(boxes) for _, boxes, _ in pictures))

# %% [markdown]
# ## What was learnt
#
# A window says how much of the past a frame shows {eq}`eq-window`, a stride how often a frame is made. A window must end at every label. Histograms, stacks and grids count within a window and forget at its border; traces are a state-space layer at every pixel {eq}`eq-trace-ode`, and are the same function of the past at any rate.
# What a *learnt* state-space layer does with such frames begins in [chapter 3](#ch-layers).
#
# ## Exercises
#
# :::{exercise} Which mode loses events?
# :label: ex-lost-events
# Events arrive evenly. Which share of them does each mode of {numref}`fig-windows` use at 100 Hz, and how often is each counted? What does the published grid of Gen1 use?
# :::
#
# :::{solution} ex-lost-events
# :class: dropdown
# ```{literalinclude} solutions/02_tensors.py
# :start-after: # %% ex-lost-events
# :end-before: # %% ex-conserve
# ```
# :::
#
# :::{exercise} Nothing gets lost
# :label: ex-conserve
# State for each representation but the time surface a sum that equals a property of the events whatever they are, as long as nothing saturates, and check it on random events.
# :::
#
# :::{solution} ex-conserve
# :class: dropdown
# ```{literalinclude} solutions/02_tensors.py
# :start-after: # %% ex-conserve
# :end-before: # %% ex-trace-layer
# ```
# :::
#
# :::{exercise} Traces as S5
# :label: ex-trace-layer
# Bin the events of one pixel into steps of 1 ms, and compute its trace as a linear recurrence $x_k = \bar a\,x_{k-1} + \bar b\,u_k$ of the counts $u_k$, with $\bar a = e^{-\Delta/\tau}$ and $\bar b = 1$; [`diagonal_scan`](#ssmbook.ssm.diagonal_scan) runs such recurrences. How far is it from the exact trace {eq}`eq-trace-solution`, and why?
# :::
#
# :::{solution} ex-trace-layer
# :class: dropdown
# ```{literalinclude} solutions/02_tensors.py
# :start-after: # %% ex-trace-layer
# :end-before: # %% ex-saturate
# ```
# :::
#
# :::{exercise} How long is a byte?
# :label: ex-saturate
# At which event rate does a trace of 20 ms reach 255 by {eq}`eq-quantise`? What is the smallest change of $s$ that one level can show near $s = 0$ and near $s = 100$?
# :::
#
# :::{solution} ex-saturate
# :class: dropdown
# ```{literalinclude} solutions/02_tensors.py
# :start-after: # %% ex-saturate
# ```
# :::
#
# ## Further reading
#
# @gehrig2023rvt describe stacked histograms in a detector, @nam2022 mixed densities, @zhu2019 voxel grids and @lagorce2017 hierarchies of time surfaces. @perot2020 compare inputs for a recurrent detector. @gallego2022 have a section on representations.

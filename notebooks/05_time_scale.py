# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-time-scale)=
# # Time scale, rates and aliasing
#
# A layer is trained on windows that come 20 times a second and is then run at 200. What has to change, what changes by
# itself, and can one say beforehand whether a change will help? This chapter answers for the linear part of the
# network, where answers are exact, and gives a table of predictions that [chapter 9](09_rates.ipynb) tests on whole
# detectors.
#
# After it you can
#
# - set `step_scale` for a given input, and say what happens if you leave it at 1;
# - compute what a layer does to each frequency, in hertz, at any rate;
# - say which modes alias, and what the two masks and the H2 norm do about it;
# - predict, for each mode of making frames at a higher rate, the sign of the effect of {term}`step_scale`.
#
# You need the recurrence and the two discretisation rules of [chapter 3](03_state_space_layers.ipynb), and the representations
# of [chapter 2](02_tensors.ipynb). As $k$ is the ratio of two rates here, steps are counted by $j$, and the imaginary unit is $i$.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
rate_hz: float = 200.0  # the rate that is compared with the one of training, 20 Hz

# %% tags=["hide-input"]
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from ssmbook import plots
from ssmbook.dataset import window_and_stride
from ssmbook.drawings import sliders, time_scale
from ssmbook.ssm import S5, discretize, frequency_response
from ssmbook.ssm.s5 import passes_band
from ssmbook.study import Workspace, in_words

plots.style()
workspace = Workspace(profile, data_dir)
torch.set_default_dtype(torch.float64)

BASE_S = 0.05  # window and stride in training, W
k = rate_hz * BASE_S  # how much faster than in training
print(f"{rate_hz:g} Hz is {k:g} times the rate of training")

# %% [markdown]
# ## Two clocks
#
# A state-space layer has a clock of its own. Its equation is written in a unit of time that nobody fixes, and the
# learnt step $\Delta$ says how much of that time passes from one frame to the next. The recording has another clock,
# in seconds, and frames come $\delta$ seconds apart. In training, one frame is $W = 50$ ms and one step is $\Delta$;
# the exchange rate between the clocks is $\Delta / W$ and the weights rely on it.
#
# At $k$ times the rate frames are $\delta = W/k$ apart. The exchange rate stays the same if every step is shortened by
# the same factor. @smith2023s5 and @zubic2024 write this as a factor $s$ on the step, `step_scale`,
#
# $$ \Delta' = s\,\Delta, \qquad s = \frac{\delta}{W} = \frac{20\ \text{Hz}}{\text{rate}} , $$ (eq-step-scale)
#
# so that after $k$ steps of $\Delta/k$ a mode has decayed as after one step of $\Delta$. For zero-order hold
# [@smith2023s5, sec. 3, on the parameterisation] this is exact; for the bilinear rule [@gu2022s4, eq. 3] it holds up to the rule's own error:
#
# $$ \begin{gathered} \bar\Lambda(s\Delta)^{1/s} = e^{\Delta\Lambda} \quad\text{(zoh)}, \\
#    \bar\Lambda(s\Delta)^{1/s} = e^{\Delta\Lambda}\bigl(1 + \tfrac{s^2}{12}(\Delta\Lambda)^3 + \dots\bigr) \quad\text{(bilinear)}. \end{gathered} $$ (eq-composition)
#
# A run with $s = 1/k$ is said to **follow** the rate; one with $s = 1$, the step of training, does not.
#
# The error of the bilinear rule is a number one can look at. For a mode that decays over ten frames and turns once in 40,
# here is how far $k$ short steps are from one long one.

# %%
mode = torch.tensor([-0.1 + 2j * math.pi / 40])  # ΔΛ at the rate of training
one_step = torch.exp(mode)
rows = []
for method in ("zoh", "bilinear"):
    for ratio in (1, 2, 5, 10, 50):
        bar, _ = discretize(mode, torch.tensor(1 / ratio), method)
        rows.append((method, ratio, float((bar**ratio - one_step).abs())))
composed = pd.DataFrame(rows, columns=["rule", "k", "error"]).pivot(index="rule", columns="k", values="error")
composed.map("{:.0e}".format)

# %% [markdown]
# The entry for bilinear at $k = 1$ is not an error of the rate: it is how far the rule is from the exponential at the
# rate of training, to which the weights have adapted. What counts for a change of rate is the difference from there,
# and that is of the same size.
#
# {numref}`fig-pulse` shows the same for a whole layer of 64 modes. A pulse of half a second is fed at 20 Hz and at the
# higher rate; with $s = 1/k$ the responses lie close together, with $s = 1$ the layer forgets $k$ times too soon.

# %%
_ = torch.manual_seed(0)
layer = S5(width=16, state_width=64)


def pulse_response(layer: S5, rate_hz: float, step_scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Time in seconds and feature 0 of the response to half a second of ones."""
    steps = round(6 * rate_hz)
    pulse = torch.zeros(1, steps, 16)
    pulse[:, : round(rate_hz / 2)] = 1.0
    with torch.no_grad():
        y = layer(pulse, step_scale=step_scale)[0] - layer.D * pulse
    return torch.arange(1, steps + 1) / rate_hz, y[0, :, 0]


# %%
def apart(layer: S5, step_scale: float) -> float:
    """Largest distance of the two rates as a share of the largest response."""
    every = round(k)
    (_, slow), (_, fast) = pulse_response(layer, 20, 1.0), pulse_response(layer, rate_hz, step_scale)
    return float((fast[every - 1 :: every] - slow).abs().max() / slow.abs().max())


# %% tags=["hide-input"]
#| label: fig-pulse
#| caption: >-
#|   The response of one feature to a pulse of 0.5 s. With the scale of {eq}`eq-step-scale` the layer at the higher rate follows
#|   the one at 20 Hz; without it, the same weights run on a clock that is $k$ times too fast.
#| alt: Dots at 20 Hz lie on a solid line at 200 Hz with step_scale 0.1; a dashed line with step_scale 1 falls to zero much sooner.
settings = (20, 1.0, "o"), (rate_hz, 1 / k, "-"), (rate_hz, 1.0, "--")
fig, ax = plt.subplots()
for rate, scale, look in settings:
    _ = ax.plot(*pulse_response(layer, rate, scale), look, ms=3, label=f"{rate:g} Hz, step_scale {scale:g}")
_ = ax.set(xlabel="time (s)", ylabel="response of feature 0")
_ = ax.legend(frameon=False)
_ = plots.save(fig, workspace.figures / "pulse.png")
print(
    "distance from 20 Hz, in peaks:",
    in_words({f"step_scale {s:g}": f"{apart(layer, s):.2f}" for s in (1 / k, 1.0)}),
)


# %% [markdown]
# The distance that is left with the right scale, printed above, comes from the fast modes, for which a step
# of 1/20 s is too long. Later sections look at them.
#
# ## What a layer does to each frequency
#
# A linear layer answers a sinusoid with a sinusoid of the same frequency. What it does is therefore known once its
# gain at each frequency is known. Put $u_j = e^{i\omega j}$ into the recurrence
# $x_j = \bar\Lambda x_{j-1} + \bar B u_j$ and ask for a state that turns along, $x_j = X e^{i\omega j}$: then
# $X = (1 - \bar\Lambda e^{-i\omega})^{-1} \bar B$. The real part in $y = \mathrm{Re}(Cx)$ adds the conjugate, so that
# [@oppenheim2010, on the frequency response of linear systems]
#
# $$ G(\omega) = \tfrac12\Bigl[ C\,(1 - \bar\Lambda e^{-i\omega})^{-1} \bar B
#    + \overline{C\,(1 - \bar\Lambda e^{i\omega})^{-1} \bar B} \Bigr] , \qquad
#    f = \frac{\omega}{2\pi}\cdot\text{rate} . $$ (eq-response)
#
# In code that is three lines; the library's `ssmbook.ssm.frequency_response` adds masks, checks and gradients.


# %%
def response(Lambda, step, B, C, omega):
    """G(ω) of a bilinear layer, [..., H, H]."""
    Lambda_bar, gain = discretize(Lambda, step)
    B_bar = gain[:, None] * B

    def half(w):
        return (C / (1 - Lambda_bar * torch.exp(-1j * w)[..., None])[..., None, :]) @ B_bar / 2

    return half(omega) + half(-omega).conj()


with torch.no_grad():
    parts = (
        layer.eigenvalues(),
        layer.log_step.exp(),
        *(torch.view_as_complex(p) for p in (layer.B, layer.C)),
    )
    omega = torch.linspace(0, math.pi, 50)
    same = torch.allclose(response(*parts, omega), frequency_response(layer, omega), atol=1e-12)
print(f"the three lines agree with the library: {same}")

# %% [markdown]
# A formula is best checked against what it predicts. Feed a cosine of 1 Hz, sampled at 20 Hz, into feature 0, wait until the
# start is forgotten, and compare amplitude and phase of the output with $G$.

# %%
f, steps = 1.0, 20_000
omega_1 = torch.tensor(2 * math.pi * f / 20)
u = torch.zeros(1, steps, 16)
u[0, :, 0] = torch.cos(omega_1 * torch.arange(steps))
with torch.no_grad():
    y = (layer(u)[0] - layer.D * u)[0, -2000:]
    G = frequency_response(layer, omega_1)[:, 0]
turn = torch.exp(-1j * omega_1 * torch.arange(steps - 2000, steps))
measured = 2 * (turn[:, None] * y).mean(0)  # the amplitude of e^{iωj} in y
pd.DataFrame(
    {
        "gain, formula": G.abs(),
        "gain, measured": measured.abs(),
        "phase (rad), formula": G.angle(),
        "phase (rad), measured": measured.angle(),
    }
).rename_axis("feature").head(3).round(4)

# %% [markdown]
# {numref}`fig-response-hz` draws the gain of all features together, $\|G\|_F$, over frequency in hertz. With the scale
# the peaks stay where they are, up to a few hertz. Without it the whole curve moves to $k$ times the frequency. Close
# to 10 Hz, half of 20 Hz, even the right scale does not help: up there a layer that steps at 20 Hz shows its modes in
# the wrong place.


# %%
def gain_over_hz(layer: S5, rate_hz: float, step_scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Frequencies in Hz up to half the rate, and ‖G‖ over all features there."""
    omega = torch.logspace(-3, 0, 800) * math.pi
    with torch.no_grad():
        return omega * rate_hz / (2 * math.pi), torch.linalg.matrix_norm(
            frequency_response(layer, omega, step_scale)
        )


# %% tags=["hide-input"]
#| label: fig-response-hz
#| caption: >-
#|   Frequency response of one layer at two rates, {eq}`eq-response`. Each peak is a mode. Following the rate keeps the peaks at
#|   their frequencies; not following moves them all by the factor $k$.
#| alt: Three curves of gain over frequency. Two agree up to about 5 Hz; the third is the same shape shifted to ten times the frequency.
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 3.2))
looks = (plots.BLUE, "-"), (plots.ORANGE, "--"), (plots.GREY, "-")
for (rate, scale, _), (colour, look) in zip(settings, looks, strict=True):
    words = f"{rate:g} Hz, step_scale {scale:g}"
    _ = ax.loglog(*gain_over_hz(layer, rate, scale), look, color=colour, lw=1, label=words)
_ = ax.axvline(10, color="black", ls=":", lw=0.8, label="half of 20 Hz")
_ = ax.set(xlabel="frequency (Hz)", ylabel="$\\|G\\|_F$", xlim=(0.05, rate_hz / 2))
_ = ax.legend(frameon=False)
_ = plots.save(fig, workspace.figures / "response.png")
for rate, scale, _ in settings:
    hz, gain = gain_over_hz(layer, rate, scale)
    print(f"{rate:g} Hz, step_scale {scale:g}: the highest peak lies at {hz[gain.argmax()]:.2f} Hz")

# %% [markdown]
# One value of $G$ deserves its own equation. At $\omega = 0$, a constant input, both rules give
# $\bar B / (1 - \bar\Lambda) = -\Lambda^{-1} B$ and the step cancels:
#
# $$ G(0) = -\mathrm{Re}\,(C \Lambda^{-1} B) \quad\text{for every } \Delta \text{ and every } s . $$ (eq-dc)
#
# So `step_scale` has no influence on the value at which a layer settles under an input that does not change; only on how soon it
# does. Whatever else a higher rate does to a constant input, it does before the layer.

# %%
with torch.no_grad():
    zero = torch.tensor(0.0)
    gains = {
        f"step_scale {s:g}": torch.linalg.matrix_norm(frequency_response(layer, zero, s)).item()
        for s in (1, 0.1, 0.01)
    }
pd.Series(gains, name="‖G(0)‖").round(6).to_frame()

# %% [markdown]
# ## What a frame contains at a higher rate
#
# The layer is half of the story. The other half is the frame, and there are four modes of making frames at $k$ times the
# rate, the three of {numref}`sec-windows` and traces. A histogram has a window $w$ and a {term}`stride` $\delta$; traces ([chapter 2](02_tensors.ipynb)) have time constants
# instead of a window. {numref}`tbl-modes` lists the modes for the rate of this chapter.

# %%
#| label: tbl-modes
#| tbl-cap: Four modes of making frames at $k$ times the rate. $n = w/\delta$ is how many frames an event is counted in, on average; for traces, relative to training.
rows = [("trained", 1000 * BASE_S, 1000 * BASE_S)]
rows += [(mode, *window_and_stride(mode, rate_hz)) for mode in ("held", "true", "sliding")]
modes = pd.DataFrame(rows, columns=["mode", "window w (ms)", "stride δ (ms)"])
modes["n = w/δ"] = modes["window w (ms)"] / modes["stride δ (ms)"]
modes["frames a second"] = 1000 / modes["stride δ (ms)"]
traces_row = pd.DataFrame([("traces", math.nan, 1000 / rate_hz, k, rate_hz)], columns=modes.columns)
pd.concat([modes, traces_row]).set_index("mode").round(2).astype(object).fillna("–")

# %% [markdown]
# {numref}`fig-modes-timeline` draws them. In the **held** mode most events fall between windows and are never seen:
# this is what the released preprocessing does at its higher "frequencies" (see [chapter 13](13_released_code.ipynb)). In the **true**
# mode each event is seen once, in a frame that holds $1/k$ of the usual number. In the **sliding** mode frames look as
# in training, and each event is seen in $k$ of them. So it is with **traces**, where its weight fades from frame to frame.
#
# To follow means $s = 1/k$ in all four, although frames come $k$ times as often in the last three alone: held windows have
# $\delta = W$, and by {eq}`eq-step-scale` $s = 1$. Who takes the length of the window for the rate sets $1/k$ there, too.

# %% tags=["hide-input"]
#| label: fig-modes-timeline
#| caption: >-
#|   Windows of the four modes over 150 ms, at four times the rate of training for legibility. Bars are windows, dots the moments at
#|   which the network steps, the vertical line one event; the number says in how many frames it is counted.
#| alt: Five rows of horizontal bars over a time axis. Held has short bars with gaps, true short bars without gaps, sliding long overlapping bars, traces decaying curves.
fig = time_scale.mode_timeline(ratio=4)
_ = plots.save(fig, workspace.figures / "modes_timeline.png")

# %% [markdown]
# Let $e(t)$ be the density of events at a pixel, in events a second. A histogram's entry at step $j$ and its Fourier
# transform are
#
# $$ u_j = \int_{t_j - w}^{t_j} e(t)\,dt, \qquad U(f) = E(f)\; w\,\mathrm{sinc}(f w)\, e^{-i\pi f w} , $$ (eq-box)
#
# with $\mathrm{sinc}\,z = \sin(\pi z) / (\pi z)$, a moving sum that is then read every $\delta$ seconds; and a trace of time constant $\tau$ is
#
# $$ u_j = \int_{-\infty}^{t_j} e(t)\, e^{-(t_j - t)/\tau}\,dt, \qquad U(f) = E(f)\; \frac{\tau}{1 + 2\pi i f \tau} , $$ (eq-trace)
#
# in which neither a window nor the rate occurs. That is what it means for a representation to be free of the rate.
#
# ## One event, two numbers
#
# What does the layer answer to one event? The event adds 1 to $n = w/\delta$ frames (in the held mode: it is counted
# in one frame with probability $n = 1/k$). Each of these adds $\bar B \approx s\Delta B$ to the state, and the state
# decays by $\bar\Lambda \approx e^{s\Delta\Lambda}$ a step, with $1/\delta$ steps a second. For modes that are slow
# compared to the window the sum is
#
# $$ h(t) = a \; \mathrm{Re}\bigl( C\, e^{\rho\,\Delta\Lambda\, t/W}\, \Delta B \bigr), \qquad
#    \rho = s\,\frac{W}{\delta}, \qquad a = s\,\frac{w}{\delta} , $$ (eq-event-kernel)
#
# which is this book's form; the kernel itself is [@gu2022s4, eq. 5]. Two numbers describe every setting:
# $\rho$, the speed of the layer's clock against the one of training, and $a$, the height of the answer to one event.
# In training both are 1. Their quotient is the area under the answer, and the step scale is not in it:
#
# $$ \int_0^\infty h(t)\,dt \;\propto\; \frac{a}{\rho} = \frac{w}{W} . $$ (eq-area)
#
# The step scale trades height against duration at constant area. It cannot replace events that the frame does not
# hold. For traces $w/\delta$ becomes $\tau/\delta$, and relative to training $a = s\,W/\delta$, with area 1.

# %%
way = pd.DataFrame(
    {"W/δ": [1, k, k, k], "w/δ": [1 / k, 1, k, k]}, index=["held", "true", "sliding", "traces"]
)
predicted = pd.concat(
    {
        name: pd.DataFrame({"ρ": s * way["W/δ"], "a": s * way["w/δ"], "area": way["w/δ"] / way["W/δ"]})
        for name, s in {"step_scale 1/k": 1 / k, "step_scale 1": 1.0}.items()
    },
    axis=1,
)
predicted.rename_axis("mode").round(3)

# %% [markdown]
# Read the left half. For sliding windows and traces, following gives $\rho = 1$ and $a = 1$: the layer computes the
# same function of the events as in training. Not following gives a clock that is $k$ times too fast and an answer that
# is $k$ times too high. For held windows it is the other way round: frames still come 20 times a second, so $s = 1$
# keeps the clock right, and following would make it $k$ times too slow and the answer, already weak, weaker again. For
# the true rate no choice is right: following keeps durations and loses height, not following keeps height and loses
# duration.
#
# Do real recurrences agree? One mode with a time constant of half a second is enough to measure. One event at a time comes at each of 100
# moments between two steps; height and duration are read from the mean answer.

# %%
Delta = 0.2
one_mode = S5(width=1, state_width=1)
for name, value in {"Lambda": [[-0.5, 0.0]], "B": [[[1.0, 0.0]]], "C": [[[1.0, 0.0]]], "D": [0.0]}.items():
    one_mode.get_parameter(name).data = torch.tensor(value)
one_mode.log_step.data = torch.tensor([math.log(Delta)])
print(f"time constant in training: {BASE_S / (0.5 * Delta):.2f} s")


# %%
def event_answer(window: float, stride: float, step_scale: float, tau: float = 0.0) -> dict[str, float]:
    """Area and duration (s) of the mean answer of ``one_mode`` to one event; seconds, with τ > 0 a trace."""
    slowest = stride / (0.5 * Delta * step_scale)  # time constant in seconds
    t = stride * torch.arange(round(12 * slowest / stride))
    phases = (torch.arange(100) + 0.5) / 100  # the event falls anywhere between two steps
    late = t[None] - stride * phases[:, None]
    if tau:
        u = torch.exp(-late.clamp(min=0) / tau) * (late >= 0) * BASE_S / tau
    else:
        u = ((late >= 0) & (late < window)).double()
    with torch.no_grad():
        h = one_mode(u[..., None], step_scale=step_scale)[0][..., 0].mean(0)
    area, mean = h.sum() * stride, (h * t).sum() / h.sum()
    return {"area": float(area), "duration": float(((h * (t - mean) ** 2).sum() / h.sum()).sqrt())}


trained = event_answer(BASE_S, BASE_S, 1.0)
rows = []
for mode, frames in {"held": "held", "true": "true", "sliding": "sliding", "traces": "true"}.items():
    window, stride = (ms / 1000 for ms in window_and_stride(frames, rate_hz))
    for scale in (1 / k, 1.0):
        answer = event_answer(window, stride, scale, tau=0.02 if mode == "traces" else 0.0)
        rho, area = trained["duration"] / answer["duration"], answer["area"] / trained["area"]
        rows.append((mode, f"step_scale {scale:g}", rho, rho * area, area))
measured = pd.DataFrame(rows, columns=["mode", "", "ρ", "a", "area"]).set_index(["mode", ""]).unstack()
measured = measured.swaplevel(axis=1).reindex(
    columns=[(f"step_scale {s:g}", x) for s in (1 / k, 1.0) for x in ("ρ", "a", "area")]
)
measured.loc[["held", "true", "sliding", "traces"]].round(2)

# %% [markdown]
# The measured table is the predicted one, to the accuracy of "slow compared to the window": where the layer runs $k$
# times too fast its time constant is 50 ms, as long as the window itself, and there the numbers are a few per cent
# off.
#
# ## The sign of step_scale's effect
#
# A network was trained at $(\rho, a) = (1, 1)$. Take the distance from there, in octaves, as a measure of how foreign
# a setting is:
#
# $$ d = |\log_2 \rho| + |\log_2 a| . $$ (eq-distance)
#
# Following is predicted to help where it makes $d$ smaller, and to hurt where it makes it larger. {numref}`tbl-sign` says so for the four modes.

# %%
#| label: tbl-sign
#| tbl-cap: The distance {eq}`eq-distance` from the setting of training, and what following is predicted to do.
distance = pd.DataFrame(
    {
        name: predicted[name][["ρ", "a"]].apply(np.log2).abs().sum(axis=1)
        for name in predicted.columns.levels[0]
    }
)
difference = distance["step_scale 1/k"] - distance["step_scale 1"]
distance["following is predicted to"] = np.select(
    [difference < -1e-9, difference > 1e-9], ["help", "hurt"], "trade"
)
distance.rename_axis("mode").round(1)

# %% [markdown]
# The true rate is the interesting row: both settings are equally far, in different directions. Which one a detector
# minds more is not a matter of the layer. An edge that has just passed is strong and recent, so its height decides; a
# car that stopped two seconds ago is remembered or not, so there duration decides. A test set of moving objects should
# prefer $s = 1$ at the true rate, and one of objects at rest $s = 1/k$. {numref}`fig-plane` shows all settings in one
# plane.

# %% tags=["hide-input"]
#| label: fig-plane
#| caption: >-
#|   The settings of {eq}`eq-event-kernel` in the plane of clock and height; training is at the centre. Filled markers follow the
#|   rate, open ones do not. On a diagonal the area {eq}`eq-area` is constant, and `step_scale` moves a setting along its diagonal only.
#| alt: A plane with logarithmic axes. Sliding and traces with following lie at the centre; other settings lie one or two decades away along diagonals.
fig = time_scale.setting_plane(predicted)
_ = plots.save(fig, workspace.figures / "setting_plane.png")

# %% [markdown]
# An independent replication with the released weights gives figures to compare with. They are **quoted**
# [@replication2026], and measured with a state that starts from zero every 21 windows ([chapter 13](13_released_code.ipynb)), so
# durations beyond a second cannot show in them.
#
# | setting (quoted, Gen1 mAP) | following | not following | predicted |
# |---|---|---|---|
# | true rate, $k = 2$ | 44.51 | 45.37 | trade |
# | true rate, $k = 10$ | 19.96 | 29.67 | trade |
# | held, window 12 ms, $k \approx 4$ | 30.1 | 38.4 | following hurts |
#
# The sign is right where theory has one, and where it has none the data of moving cars prefers the height, as argued.
# The author of the replication concluded that scaling $\Delta$ never helped. With {numref}`tbl-sign` one can say
# why: the two modes that were run are the two for which following is not the remedy. The modes for which
# it is one, sliding windows and traces, are what [chapter 9](09_rates.ipynb) runs.
#
# ## What the linear theory leaves out
#
# Three things in a real network are not linear in the frame. *Normalisation*: the first LayerNorm divides by the
# spread of a pixel's features, so a frame with $1/k$ of the counts everywhere would come out as before. A true-rate
# frame is not a fainter picture, though; it is a thinner one, in which most pixels are empty. *The direct path*:
# $D \circ u$ and the residual pass the frame on at once, whatever the state does; thin frames reach the head through
# it. *Saturation*: counts are clamped at 10, so sliding windows on very active pixels hold less than the sum.
#
# How much of a frame is thin is easily counted. Here are the shares of pixels with any event, over windows of one
# simulated recording.

# %%
recording_windows = time_scale.window_fill(workspace, windows_ms=(50.0, 25.0, 10.0, 5.0))
recording_windows.round(3)

# %% [markdown]
# A window a tenth as long has a tenth of the events but more than a tenth of the pixels: counts fall to 0 or 1, and
# what was a shade becomes a dot. That is the part which no factor on a step repairs.
#
# ## From events to output, at every frequency
#
# {eq}`eq-event-kernel` speaks of slow modes. For all of them, multiply {eq}`eq-box` or {eq}`eq-trace` with
# {eq}`eq-response`:
#
# $$ \frac{Y(f)}{E(f)} = \underbrace{H(f)}_{\text{frame}} \; \underbrace{G(2\pi f \delta;\, s)}_{\text{layer}}, \qquad
#    H(f) = w\,\mathrm{sinc}(fw) \ \text{ or } \ \frac{\tau}{1 + 2\pi i f\tau} . $$ (eq-end-to-end)
#
# {numref}`fig-end-to-end` draws its modulus, relative to training at $f \to 0$. The grey curve is training. For
# sliding windows and traces the curve that follows lies on the grey one up to a few hertz; for held windows the one
# that does not follow is parallel to it, lower by the factor $k$. The left ends of the curves, in the table above
# them, are the areas of {eq}`eq-area`.


# %%
def end_to_end(mode: str, step_scale: float, tau: float = 0.02) -> tuple[torch.Tensor, torch.Tensor]:
    """Frequencies in Hz and |Y/E| over all features, divided by its value in training at 0 Hz."""
    frames = "true" if mode in ("traces", "trained") else mode
    rate = 20.0 if mode == "trained" else rate_hz
    window, stride = (ms / 1000 for ms in window_and_stride(frames, rate))
    f = torch.logspace(-3, math.log10(0.499 / stride), 500)
    H = (
        tau / torch.sqrt(1 + (2 * math.pi * f * tau) ** 2)
        if mode == "traces"
        else window * torch.sinc(f * window)
    )
    unit = tau if mode == "traces" else BASE_S
    with torch.no_grad():
        G = torch.linalg.matrix_norm(frequency_response(layer, 2 * math.pi * f * stride, step_scale))
        rest = torch.linalg.matrix_norm(frequency_response(layer, torch.tensor(0.0)))
    return f, H.abs() * G / (unit * rest)


# %% tags=["hide-input"]
#| label: fig-end-to-end
#| caption: >-
#|   Gain from events to output, {eq}`eq-end-to-end`, for the four modes. Grey: training. Solid: following the rate. Dashed: not
#|   following.
#| alt: Four panels of gain over frequency. In sliding and traces the solid curve lies on the grey one; in held the dashed one runs parallel below it; in true neither fits.
fig = time_scale.end_to_end_panels(end_to_end, k)
_ = plots.save(fig, workspace.figures / "end_to_end.png")
ends = {
    mode: {f"step_scale {s:g}": float(end_to_end(mode, s)[1][0]) for s in (1 / k, 1.0)}
    for mode in time_scale.MODES
}
pd.DataFrame(ends).T.rename_axis("gain at 0.001 Hz").round(2)

# %% [markdown]
# ## Aliasing, in the frame and in the state
#
# Samples that are $\delta$ apart cannot tell a frequency $f$ from $|f - m/\delta|$ for any whole $m$
# [@oppenheim2010, on periodic sampling]. There are two places where that happens. One is the frame: {eq}`eq-box` is read every
# $\delta$ seconds, and the window is all that protects it. A window as long as the stride has its first zero at
# $1/\delta$ and weakens what folds back; a window of $1/k$ of the stride lets nearly everything through.
#
# $$ f_{\text{seen}} = \min_m \Bigl| f - \frac{m}{\delta} \Bigr| , \qquad
#    \text{weight} = |\mathrm{sinc}(f w)| . $$ (eq-alias-fold)

# %%
flicker_hz = 18.0  # something that flickers, seen at 20 Hz
rows = []
for mode in ("trained", "held", "true", "sliding"):
    window, stride = (
        ms / 1000
        for ms in window_and_stride(
            "true" if mode == "trained" else mode, 20.0 if mode == "trained" else rate_hz
        )
    )
    seen = min(abs(flicker_hz - m / stride) for m in range(10))
    rows.append((mode, seen, float(np.abs(np.sinc(flicker_hz * window)))))
pd.DataFrame(rows, columns=["mode", "18 Hz is seen as (Hz)", "with weight"]).set_index("mode").round(2)

# %% [markdown]
# The held mode is the worst of all: the flicker of 18 Hz appears at 2 Hz with nearly its full strength, where training had
# damped it. The second place is the state. By zero-order hold, a mode that turns by more than half a turn a step is the same, at that
# rate, as a slower one, and training at 20 Hz cannot tell them apart. {numref}`fig-alias` shows a mode of 13 Hz that
# passes for one of 7 Hz at 20 Hz and turns at its own 13 Hz at 200 Hz. How fast a mode of $f$ hertz turns in the recurrence is
# the angle of $\bar\Lambda$; for the two rules it is [@oppenheim2010, on the bilinear transformation, for the second]
#
# $$ \text{zoh:}\quad \omega_d = \Delta\,\mathrm{Im}\lambda \bmod 2\pi, \qquad
#    \text{bilinear:}\quad \omega_d = 2 \arctan\frac{\Delta\,\mathrm{Im}\lambda}{2} , $$ (eq-warp)
#
# so zero-order hold (zoh) folds at half the rate, and bilinear bends towards half the rate, which it never reaches: there no two modes become one,
# but a fast mode turns too slowly at 20 Hz and faster at a higher rate.


# %%
def seen_hz(hz, rate_hz: float, method: str) -> torch.Tensor:
    """How fast a mode that turns ``hz`` times a second turns in the recurrence."""
    bar, _ = discretize(
        2j * math.pi * torch.atleast_1d(torch.as_tensor(hz)), torch.tensor(1 / rate_hz), method
    )
    return bar.angle().abs() * rate_hz / (2 * math.pi)


pd.DataFrame(
    {
        f"{method}, {rate:g} Hz": {
            f"{hz} Hz": seen_hz(float(hz), rate, method).item() for hz in (1, 5, 9, 13, 40)
        }
        for rate in (20, rate_hz)
        for method in ("zoh", "bilinear")
    }
).rename_axis("a mode of").round(2)

# %% tags=["hide-input"]
#| label: fig-alias
#| caption: >-
#|   Left, a mode of 13 Hz and one of 7 Hz have the same samples at 20 Hz. Right, the frequency at which a mode is seen,
#|   {eq}`eq-warp`, at both rates and with both rules.
#| alt: Left, two decaying cosines through the same dots. Right, zoh curves fold down at half the rate while bilinear curves bend towards it.
fig = time_scale.aliasing(seen_hz, rate_hz)
_ = plots.save(fig, workspace.figures / "aliasing.png")
for rate in (20, rate_hz):
    print(f"a mode of 13 Hz, by zoh at {rate:g} Hz, is seen at {seen_hz(13.0, rate, 'zoh').item():.1f} Hz")

# %% [markdown]
# ## Two masks
#
# @zubic2024 therefore keeps a mode only if it turns slowly enough for the rate,
#
# $$ \frac{\Delta'\,|\mathrm{Im}\,\lambda|}{2\pi} < \frac{\alpha}{2} , \qquad \Delta' = s \Delta, $$ (eq-mask)
#
# where $\alpha = 1$ is Nyquist's limit and the paper uses 0.5. The rule can be applied in two ways. The released code
# sets the columns of $C$ of the other modes to zero **once**, when the layer is built. Here it can also be **held** at
# every call, with the step then in use. As long as nothing is trained and the scale is 1, the two are the same layer;
# one step of gradient descent separates them, since nothing keeps a zero of $C$ at zero.


# %%
def build(bandlimit: float | None, mode: str = "held") -> S5:
    _ = torch.manual_seed(0)  # the same weights each time
    return S5(16, 64, bandlimit=bandlimit, bandlimit_mode=mode)


once = build(0.5, "once")
before = int(once.C.detach().abs().sum((0, 2)).count_nonzero())
once(torch.randn(1, 50, 16))[0].square().sum().backward()
with torch.no_grad():
    once.C -= 0.01 * once.C.grad
after = int(once.C.abs().sum((0, 2)).count_nonzero())
pd.Series(
    {"at the start": before, "after one step": after}, name="modes of 64 that reach the output"
).to_frame()

# %% [markdown]
# The held mask follows the rate: at $s = 1/k$ it lets modes through that turn $k$ times as fast, as {eq}`eq-mask`
# says, because the higher rate can show them. {numref}`fig-masks` counts them. Mind what that means for a network
# trained at 20 Hz with a held mask: at 200 Hz the output has modes in it that have never been trained. To keep the same modes at
# every rate, use $\alpha/k$
# ({numref}`ex-mask-rate`).

# %% tags=["hide-input"]
#| label: fig-masks
#| caption: >-
#|   Left, how many modes reach the output as `step_scale` changes. Middle and right, the responses at both rates; dotted is
#|   the limit $\alpha/2$ of the rate.
#| alt: Left, the held mask passes all modes at small scales and fewer than half at large ones; the one-off mask is flat. Right, two response plots where masked curves fall beyond the limit.
fig = time_scale.masks(build, gain_over_hz, rate_hz)
_ = plots.save(fig, workspace.figures / "mask.png")
Lambda, steps = layer.eigenvalues().detach(), layer.log_step.detach().exp()
kept = {f"step_scale {s:g}": int(passes_band(Lambda, s * steps, 0.5).sum()) for s in (10, 1, 0.1, 0.01)}
kept |= {f"step_scale {1 / k:g}, α / k": int(passes_band(Lambda, steps / k, 0.5 / k).sum())}
pd.Series(kept, name="modes that pass, α = 0.5").to_frame()

# %% [markdown]
# The slower the modes that are left, the better the two rates agree on the pulse of {numref}`fig-pulse`:

# %%
shares = {str(alpha): apart(build(alpha, "once"), 1 / k) for alpha in (None, 0.5, 0.25, 0.1)}
pd.Series(shares, name="distance of the two rates").rename_axis("α").round(3).to_frame()

# %% [markdown]
# ## The H2 norm
#
# The second remedy of @zubic2024 is a penalty on what a layer passes above a frequency. The paper gives no closed
# form and the released code does not contain the term; this book's definition, for the continuous layer in units of
# one step, is
#
# $$ \|G\|_{\omega_{\mathrm{min}}}^2 = \frac1\pi \int_{\omega_{\mathrm{min}}}^\infty \|G(i\omega)\|_F^2\, d\omega . $$ (eq-h2)
#
# Over the poles $\mu$ of the layer in that unit, $\Delta\lambda$ and their conjugates, with residues $R_q$ and $\langle \cdot, \cdot \rangle$ the product of
# matrices that belongs to $\|\cdot\|_F$, it is a double sum, so that no integral has to be computed in training (`ssmbook.ssm.h2`):
#
# $$ \|G\|_{\omega_{\mathrm{min}}}^2 = \sum_{q,r} \langle R_q, R_r\rangle\, \frac{i}{\pi}\,
#    \frac{\overline{\kappa_q} - \kappa_r}{\overline{\mu_q} + \mu_r} , \qquad \kappa = \log(\omega_{\mathrm{min}} + i\mu) . $$ (eq-h2-closed)
#
# The closed form against the integral on a fine grid:

# %%
small = build(None)
with torch.no_grad():
    lam = small.eigenvalues() * small.log_step.exp()
    B = torch.view_as_complex(small.B) * small.log_step.exp()[:, None]
    C = torch.view_as_complex(small.C)
    omega = torch.logspace(math.log10(0.5), 4, 8_000)
    G = (C / (1j * omega[:, None, None] - lam)) @ B
    G = (G + ((C / (-1j * omega[:, None, None] - lam)) @ B).conj()) / 2
    integral = torch.sqrt(torch.trapezoid(torch.linalg.matrix_norm(G) ** 2, omega) / math.pi)
pd.Series(
    {"closed form": small.h2_norm(0.5).item(), "integral": integral.item()}, name="‖G‖ above 0.5"
).round(4).to_frame()

# %% [markdown]
# A mask at $\alpha$ corresponds to $\omega_{\mathrm{min}} = \pi\alpha$. {numref}`fig-h2` shows what each mask leaves above its
# own limit: only the skirts of the modes below. Only with $\mathrm{Re}\,\lambda < 0$ for every mode is the norm the energy of what the layer answers to an
# impulse, and {eq}`eq-h2-closed` right; so a network that is trained with it has its eigenvalues clipped (`clip_eigs`).

# %% tags=["hide-input"]
#| label: fig-h2
#| caption: "H2 norm {eq}`eq-h2` above a frequency, for masks at three α. Dots: $\\omega_{\\mathrm{min}} = \\pi\\alpha$."
#| alt: Four falling curves; each mask's curve drops steeply just before its dot.
fig = time_scale.h2_curves(build)
_ = plots.save(fig, workspace.figures / "h2.png")
for alpha in (1.0, 0.5, 0.25):
    print(
        f"α = {alpha:g}: {build(alpha).h2_norm(math.pi * alpha).item():.4f} is left above {math.pi * alpha:.2f}"
    )

# %% [markdown]
# ## Steps of unequal length
#
# Nothing in the equation asks for equal steps. `step_scale` may be an array with one factor a step, the time since the
# frame before in units of $W$. With zero-order hold and an input that is constant in between, it then makes no
# difference how time is cut, because
#
# $$ \begin{gathered} e^{\Delta_1\Lambda}\,e^{\Delta_2\Lambda} = e^{(\Delta_1 + \Delta_2)\Lambda}, \\
#    \int_0^{\Delta_1 + \Delta_2} e^{r\Lambda}\,dr = e^{\Delta_2\Lambda} \int_0^{\Delta_1} e^{r\Lambda}\,dr + \int_0^{\Delta_2} e^{r\Lambda}\,dr . \end{gathered} $$ (eq-semigroup)
#
# In the second line, what came in during the first step has been carried through the second.


# %%
def cut(method: str) -> float:
    """Largest difference between 20 even steps and the same second cut at random, as a share."""
    _ = torch.manual_seed(1)
    layer = S5(8, 32, discretization=method)
    even = torch.randn(1, 20, 8)
    pieces = torch.randint(1, 4, (20,))
    shares = torch.cat([torch.softmax(torch.randn(int(n)), 0) for n in pieces])[None]
    uneven = even.repeat_interleave(pieces, dim=1)
    with torch.no_grad():
        y_even = layer(even)[0]
        y_cut = layer(uneven, step_scale=shares)[0][:, pieces.cumsum(0) - 1]
    return float((y_even - y_cut).abs().max() / y_even.abs().max())


pd.Series({method: cut(method) for method in ("zoh", "bilinear")}, name="largest difference").map(
    "{:.0e}".format
).to_frame()

# %% [markdown]
# The bilinear rule, which the detector uses, is close but not exact, and it has a trap: for a very long step
# $\bar\Lambda \to -1$ and not to 0. Over a gap that is much longer than its time constant a mode hardly fades; it flips its sign.
# {numref}`fig-long-step` shows both rules. A stream with long pauses should therefore be stepped through them, not
# over them.

# %% tags=["hide-input"]
#| label: fig-long-step
#| caption: "What is left after one long step, $|\\bar\\Lambda|$, with both rules, of a mode with a time constant of one second ($\\lambda = -\\tfrac12$, $\\Delta = 0.1$). By zero-order hold it is gone; by the bilinear rule it comes back with the opposite sign."
#| alt: The zoh curve falls to zero; the bilinear curve dips to zero once and rises again to one.
gap_s = np.logspace(-2, 2.5, 300)
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.4))
for (rule, left), colour in zip(
    time_scale.step_decay(gap_s).items(), (plots.ORANGE, plots.BLUE), strict=True
):
    _ = ax.semilogx(gap_s, left, color=colour, label=rule)
_ = ax.set(xlabel="length of the step (s)", ylabel="$|\\bar\\Lambda|$")
_ = ax.legend(frameon=False)
_ = plots.save(fig, workspace.figures / "long_step.png")
for rule, left in time_scale.step_decay(np.array([5.0, 60.0])).items():
    print(f"{rule}: {left[0]:.2f} of the mode is left after 5 s, {left[1]:.2f} after a minute")

# %% [markdown]
# ## Move it yourself
#
# In JupyterLab the next cell has sliders for the rate, the scale and the mask, and recomputes the kernel and the
# response. On the page you see its first picture; [Figures that move](../pages/moving.md) has one that needs no
# kernel.

# %% tags=["nbval-ignore-output"]
#| label: fig-sliders
#| caption: "Kernel and frequency response of a layer under rate, `step_scale` and $\\alpha$; with sliders in JupyterLab."
#| alt: Left, an impulse response over time; right, a gain over frequency, each with the curve at 20 Hz in grey.
sliders(
    time_scale.kernel_and_response,
    rate_hz=(10.0, 1000.0, rate_hz),
    step_scale=(0.02, 2.0, 1 / k),
    alpha=(0.05, 1.5, 1.0),
)

# %% [markdown]
# ## What was learnt
#
# - `step_scale` keeps the exchange rate between the layer's clock and the recording's, and so the time constants in
#   seconds {eq}`eq-step-scale`.
# - It has no influence on where a layer settles under a constant input {eq}`eq-dc`, and trades height against duration at constant area
#   {eq}`eq-area`.
# - Following the rate is right for inputs that do not depend on the rate, sliding windows and traces; wrong for held
#   windows; and at the true rate it exchanges one error for another.
# - Modes that are too fast for the rate of training turn at another speed there than at a higher rate. A mask that is held follows the rate; one
#   that is applied once is gone after the first gradient step.
#
# ## Exercises
#
# :::{exercise} A brighter true rate
# :label: ex-true-brighter
# At the true rate, multiply every frame by $k$ and follow. What are $\rho$ and $a$? Check it on `one_mode`. Why may a
# detector still fail?
# :::
# :::{solution} ex-true-brighter
# :class: dropdown
# ```{literalinclude} solutions/05_time_scale.py
# :start-after: # %% ex-true-brighter
# :end-before: # %% ex-slower
# ```
# :::
#
# :::{exercise} Slower than trained
# :label: ex-slower
# At 5 Hz the scale is 4. How many of the 64 modes of a layer turn by more than half a turn a step there, and how many
# at 20 Hz? Which of the remedies is of use?
# :::
# :::{solution} ex-slower
# :class: dropdown
# ```{literalinclude} solutions/05_time_scale.py
# :start-after: # %% ex-slower
# :end-before: # %% ex-mask-rate
# ```
# :::
#
# :::{exercise} One mask for all rates
# :label: ex-mask-rate
# Show that a held mask with $\alpha/k$ at $k$ times the rate keeps exactly the modes that $\alpha$ keeps at the rate
# of training.
# :::
# :::{solution} ex-mask-rate
# :class: dropdown
# ```{literalinclude} solutions/05_time_scale.py
# :start-after: # %% ex-mask-rate
# :end-before: # %% ex-warp
# ```
# :::
#
# :::{exercise} Undo the warping
# :label: ex-warp
# With {eq}`eq-warp`, find the $\mathrm{Im}\,\lambda$ that makes a bilinear mode turn at exactly 4 Hz at 20 Hz. At
# which frequency does it turn at 200 Hz with the scale that follows?
# :::
# :::{solution} ex-warp
# :class: dropdown
# ```{literalinclude} solutions/05_time_scale.py
# :start-after: # %% ex-warp
# ```
# :::
#
# ## Further reading
#
# The discretisations and the convolution view are in @gu2022s4 and, for many inputs and outputs, [@smith2023s5];
# sampling, aliasing and the bilinear map in any book on signals, such as that of @oppenheim2010. @pedersen2024 show that
# banks of leaky integrators are covariant to a scaling of time, which is the property that traces use. The detector
# that this chapter takes apart is that of @zubic2024.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-rates)=
# # Trained at 20 Hz, run at 5 to 1,000
#
# An event camera has no frame rate. The rate of a detector is a choice of whoever runs it: a parked car needs no more than a
# look now and then, a child that runs into the street needs every one of the next fifty milliseconds. **Can one set of
# weights, trained at 20 Hz, serve all of these rates?** The paper that this book follows asked the question first
# [@zubic2024]. In the code released with it no state goes from one chunk to the next ([chapter 13](13_released_code.ipynb)); here the
# state is carried, and the answer is measured on scenes in which carrying it matters.
#
# After this chapter you will be able to
#
# - say what changes for a network when its rate changes, and tell four modes of running faster apart,
# - derive how a state-space layer follows the rate, and how an LSTM can be made to,
# - predict for a given input whether `step_scale` helps or harms, and check the prediction,
# - name the paths by which a rate reaches the output, and tell by experiment what the input and what the state lose.
#
# It needs the layer of [chapter 3](03_state_space_layers.ipynb), the step scale of [chapter 5](05_time_scale.ipynb), and the average precision of
# [chapter 8](08_evaluation.ipynb).

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
representation: str = ""  # traces, mixeddensity_stack or stacked_histogram; the profile's by default
workers: int = 1  # processes that train and evaluate, a model each at a time
logger: str = "csv"  # where the metrics of training runs go besides metrics.csv: tensorboard or wandb

# %% tags=["hide-input"]
import json
import math

import pandas as pd

from ssmbook import plots
from ssmbook.dataset import window_and_stride
from ssmbook.drawings import study as drawn
from ssmbook.study import (
    QUOTED_RATES,
    Workspace,
    answers,
    of_all_seeds,
    pivot,
    read_arms,
    run_arms,
    write_table,
)
from ssmbook.study.arms import LONGER, MAIN, MIXED, VARIANTS
from ssmbook.study.questions import CAUSES, ask, collect_answers
from ssmbook.study.workspace import book_root

plots.style()
pd.options.display.max_rows = 100
pd.options.display.width = 120
workspace = Workspace(profile, data_dir, representation=representation, logger=logger)
study = Workspace("study")
rates, rest = read_arms(study), read_arms(study, "rest.csv")
carried = rates[rates["mode"].isin(["sliding", "traces"]) & (rates["carry"] == "exact")]
main = carried[carried["model"].isin(MAIN)]
sliding = carried[carried["mode"] == "sliding"]

# %% [markdown]
# (sec-answer)=
# ## The answer
#
# The study trains every model at 20 Hz on simulated streets in which all objects stop for one to three seconds while the
# background rests (the *memory set* of [chapter 10](10_memory.ipynb)). Each is trained with three seeds and run at other rates.

# %% tags=["hide-input"]
#| label: fig-answer
#| caption: >-
#|   Left and middle: AP_common over the rate, inputs *sliding* and *traces*, state carried. Where the time scale follows
#|   (solid), selective S5 and S5 keep their AP from 20 to 1,000 Hz, and a ConvLSTM most of it; where it does not (dashed), they lose it. Right: AP by the
#|   time for which an object has been at rest, at 20 Hz.
#|   Lines are means over the seeds, bands and bars their range.
#| alt: >-
#|   Three panels. Left and middle, average precision over the rate from 5 to 1,000 Hz on a logarithmic axis, one colour a model. Right, average
#|   precision over the time at rest, solid lines with the state carried above dotted ones without.
_ = plots.save(drawn.answer(rates, rest), study.figures / "answer.png")
seeds = main.groupby("model")["seed"].nunique()
print("seeds:", ", ".join(f"{answers.MODEL_NAMES[name]} {count}" for name, count in seeds.items()))

# %% [markdown]
# In numbers:

# %%
#| label: tbl-answer
#| tbl-cap: >-
#|   AP_common × 100 at 20 Hz, and the difference to it at other rates; means over the seeds that were run at both, state
#|   carried. `step_scale` 1/k follows the rate, 1 does not.
answers.printed(answers.changes(main))

# %% [markdown]
# A state-space layer whose step follows the rate detects at ten times the rate
# of training what it learnt; with the same weights and the same input, but a step that does not follow, it loses three tenths to
# half of its AP, so that the step is the cause. At 1,000 Hz, fifty times that rate, neither loses more than half an AP. It is the clock that must
# follow, whatever the layer: a ConvLSTM as published has none and loses ten AP at 200 Hz; with forget gates that follow ({numref}`sec-rate-modes`) it loses
# two, on what moves, and none if trained for longer ({numref}`tbl-longer`); two of three seeds learnt to keep what rests, and keep it. *Not* shown is that this holds at 5 Hz
# ({numref}`sec-slower`) or on real recordings: scenes are simulated, the network is small, three
# seeds are few. Trained for longer, selective S5 has 60 AP and keeps it ({numref}`sec-longer`).
#
# The input counts as the layer does. Traces raise two of three S5 by two to six AP and lower the third by one; selective S5 gains at 5 Hz alone. Without long stops both lose by them ({numref}`tbl-driving`).
# One of three ConvLSTMs did not learn. Without a recurrence AP is the same at every rate.
#
# ### How to read AP_common
#
# Labels come every 50 ms, and a detector is scored at those label frames at which one of its windows ends: from 20 Hz on all
# of them, at 5 Hz one in four. Scores on different frames should not be subtracted. {term}`AP_common` takes, at every rate,
# the frames that the lowest rate $r_0$ of the table has,
#
# $$ \mathcal F = \{\, t_0 + n / r_0 : n = 0, 1, 2, \dots \,\} , \qquad
#    \mathrm{AP\_common} = \mathrm{AP} \text{ on } \mathcal F , $$ (eq-ap-common)
#
# with $t_0$ the first label frame of a sequence.
#
# (sec-rate-modes)=
# ## Four modes of running faster
#
# In training, a window holds the events of 50 ms and a new one comes every 50 ms. At $k$ times the rate:
#
# | mode | window | a new one every | what is new to the network |
# |---|---|---|---|
# | held | $50/k$ ms | 50 ms | sparser windows |
# | true | $50/k$ ms | $50/k$ ms | sparser windows, shorter steps |
# | sliding | 50 ms | $50/k$ ms | shorter steps alone |
# | traces | – | $50/k$ ms | shorter steps alone |
#
# The mode *held* is what the released preprocessing makes when it is asked for shorter windows. In *sliding*, windows overlap: each looks as it did in training, and each event is counted $k$ times. *Traces* are
# [the leaky integrators of chapter 2](02_tensors.ipynb), read more often; each event is touched once, and what is read is the
# same function of the past at every rate.
#
# For each mode, the time scale of a state-space layer can follow the rate or stay as it was trained. In continuous time
# the layer is [@smith2023s5, eq. 1]
#
# $$ \dot x(t) = \Lambda x(t) + B u(t) , $$ (eq-rates-ode)
#
# and what a network computes is its discretisation with a step $\Delta$. Training finds $\Lambda$ and $\Delta$ together, for a
# step that means 50 ms. At $k$ times the rate a step means $50/k$ ms, hence
#
# $$ \Delta_k = \frac{\Delta}{k} , \qquad \bar\Lambda_k = e^{\Lambda \Delta / k} = \bar\Lambda^{1/k} , $$ (eq-rates-follow)
#
# which is the argument `step_scale` $= 1/k$ of [the layer](#ssmbook.ssm.S5). After the $k$ short steps that make up one step of
# training, a state that is left alone has decayed by $\bar\Lambda_k^{\,k} = \bar\Lambda$: as much as it did in training. Without following, it has
# decayed by $\bar\Lambda^k$, so that a half-life of one second becomes one of a hundred milliseconds at 200 Hz. A ConvLSTM has no $\Delta$. Its forget gate multiplies the cell by some $f \in (0, 1)$ at every step, whatever a step
# means. If the gate stays as it was in training, the cell has the time constant
#
# $$ \tau_k = -\frac{50\ \text{ms}}{k \ln f} , $$ (eq-rates-lstm)
#
# and forgets $k$ times faster in seconds. But $f$ is a decay over *one* step [@tallec2018], and over a $k$-th of it the cell decays by $f^{1/k}$.
# Under the same gates, what one step of training does is done in $k$ steps of
#
# $$ c_j = f^{1/k}\, c_{j-1} + \frac{1 - f^{1/k}}{1 - f}\; i \tanh g , $$ (eq-rates-lstm-step)
#
# the solution over $50/k$ ms of a linear equation whose solution over 50 ms is {eq}`eq-convlstm`. This is what `step_scale` does in the book's
# ConvLSTM; {numref}`fig-answer` shows what it is worth, and {numref}`fig-rest-fast` on which objects.
#
# (sec-worked)=
# ## A worked example: when does following help?
#
# The *input* of the layer follows too, if the input is a rate and not an amount. A step of length $\Delta_k$ adds $\Delta_k B u$ to the
# state, and $k$ of them with the same $u$ add what one step of training did. That holds in the modes sliding and traces, in which a frame
# looks the same at every rate. In the modes held and true a frame holds $1/k$ of the events.
#
# For one mode this can be computed by hand. Take a real one with a time constant of $\tau$ seconds. An object
# moves for $t_m$ seconds, causing events evenly, and then rests for $t_r$. Let a frame hold the events of a window $w$ (for traces
# read $w = W$, the window of training) and come every $\delta$ seconds. With the clock's speed
#
# $$ \rho = s\, \frac{W}{\delta} , \qquad s = \texttt{step\_scale}, \quad W = 50\ \text{ms} , $$ (eq-worked-clock)
#
# as in {eq}`eq-event-kernel`, the state fills towards a level in proportion to $w$ and then decays, both $\rho$ times as fast as
# in training. Relative to its value in training it is
#
# $$ \frac{x(t_r)}{x_{\mathrm{train}}(t_r)} = \frac{w}{W} \cdot \frac{1 - e^{-\rho t_m / \tau}}{1 - e^{-t_m / \tau}} \cdot
#    e^{-(\rho - 1)\, t_r / \tau} . $$ (eq-worked)
#
# The first factor is the input's, the other two are the clock's. Here it is at 200 Hz, for $\tau = t_m = t_r = 1$ s, by the
# recurrence and by the formula.

# %%
TAU_S, MOVING_S, RESTING_S, RATE_HZ = 1.0, 1.0, 1.0, 200.0


def windows_of(mode: str, rate_hz: float) -> tuple[float, float]:
    """Window and stride in seconds; traces look as in training at any rate."""
    window, stride = (ms / 1000 for ms in window_and_stride("sliding" if mode == "traces" else mode, rate_hz))
    return window, stride


def run_mode(mode: str, rate_hz: float, step_scale: float) -> list[float]:
    """The state of one mode, step by step with zero-order hold, while an object moves and then rests."""
    window, stride = windows_of(mode, rate_hz)
    kept = math.exp(-step_scale * 0.05 / TAU_S)
    moving, resting = round(MOVING_S / stride), round(RESTING_S / stride)
    x, states = 0.0, [0.0]
    for amount in [window / 0.05] * moving + [0.0] * resting:
        x = kept * x + (1 - kept) * amount
        states.append(x)
    return states


def by_formula(mode: str, rate_hz: float, step_scale: float, rest_s: float) -> float:
    """The equation above."""
    window, stride = windows_of(mode, rate_hz)
    rho = step_scale * 0.05 / stride
    filled = (1 - math.exp(-rho * MOVING_S / TAU_S)) / (1 - math.exp(-MOVING_S / TAU_S))
    return window / 0.05 * filled * math.exp(-(rho - 1) * rest_s / TAU_S)


# %%
#| label: tbl-worked
#| tbl-cap: >-
#|   The state relative to training {eq}`eq-worked`, when the object stops and one second later, with `step_scale` 1/k and 1. Following
#|   should help where it brings the state nearer to 1, on a logarithmic scale, and harm where it takes it further away.
MODES = ("held", "true", "sliding", "traces")
trained = run_mode("sliding", 20.0, 1.0)
largest, rows = 0.0, {}
for mode in MODES:
    row = {}
    for moment, rest_s in {"at the stop": 0.0, "1 s later": RESTING_S}.items():
        for name, scale in {"1/k": 20.0 / RATE_HZ, "1": 1.0}.items():
            states = run_mode(mode, RATE_HZ, scale)
            stride = windows_of(mode, RATE_HZ)[1]
            here = states[round((MOVING_S + rest_s) / stride)] / trained[round((MOVING_S + rest_s) / 0.05)]
            formula = by_formula(mode, RATE_HZ, scale, rest_s)
            largest = max(largest, abs(here / formula - 1))
            row[f"{moment}, {name}"] = formula
    for moment in ("at the stop", "1 s later"):
        nearer = abs(math.log(row[f"{moment}, 1/k"])) - abs(math.log(row[f"{moment}, 1"]))
        row[f"following, {moment}"] = "helps" if nearer < -0.01 else "harms" if nearer > 0.01 else "equal"
    rows[mode] = row
print(f"recurrence and formula agree within {largest:.0e}")
worked = pd.DataFrame(rows).T.rename_axis("mode")
worked.map(lambda value: value if isinstance(value, str) else f"{value:.2g}")

# %% tags=["hide-input"]
#| label: fig-worked
#| caption: >-
#|   The same mode over time, relative to its level in training. The object moves until 1 s (grey) and then rests. Solid lines follow the rate, dashed
#|   ones do not; the thin black line is training. Only where frames look as in training does following give back the curve of training.
#| alt: Four panels, one a mode. In sliding and traces the solid line lies on the thin black one and the dashed one falls at once; in held and true both are far below.
curves = {
    mode: {
        name: (run_mode(mode, RATE_HZ, scale), windows_of(mode, RATE_HZ)[1])
        for name, scale in (("1/k", 0.1), ("1", 1.0))
    }
    for mode in MODES
}
_ = plots.save(drawn.worked_example(curves, (trained, 0.05), MOVING_S), workspace.figures / "worked.png")

# %% [markdown]
# *Held*: frames still come 20 times a second, so the clock is right as it is, and following makes
# it ten times too slow. *True*: following keeps the clock and loses the height; not following fills the state faster, so that
# it stands somewhat higher at the stop, and has lost everything a second later. *Sliding* and *traces*: following is right, and not following forgets.
#
# In the study:

# %%
#| label: tbl-following
#| tbl-cap: >-
#|   AP × 100 at 200 Hz with the time scale following minus the same without; positive where following helps. At rest: for 0.5 to 1 s.
#|   Beside it the prediction of {numref}`tbl-worked`. Study, mean over the seeds, state carried.
effect = answers.printed(answers.effect_of_following(rates, rest, RATE_HZ))
predicted = worked[["following, at the stop", "following, 1 s later"]].rename(
    columns=lambda name: f"predicted{name[9:]}"
)
effect.join(predicted, on="mode")

# %% [markdown]
# The prediction is of a sign, not of a size. In sliding and traces
# it holds, except for what moves before a ConvLSTM, whose gates read an output of 5 ms ago, not 50, and, by one AP, before Mamba's form. In held and true all have AP 1 to 12 either way, of 39 to 50: most of the frame is lost there before any clock
# counts. Of what is left following takes from moving objects, as predicted, but not for S5 in held.
#
# (sec-runs)=
# ## The arms of this profile
#
# An arm is a model, a mode, a choice for the time scale, and a choice for the state.

# %%
#| label: tbl-arms
#| tbl-cap: The arms that this profile runs, with the window and the stride of each.
arms = [
    (arm.name, f"{rate:g} Hz", *window_and_stride(arm.mode, rate))
    for arm in workspace.profile.arms
    for rate in arm.rates_hz
]
pd.DataFrame(arms, columns=["arm", "rate", "window (ms)", "stride (ms)"]).set_index(["arm", "rate"])

# %% [markdown]
# The networks of the profile `smoke` have learnt next to nothing; {numref}`fig-own-rates` shows the study's instead.

# %% tags=["nbval-ignore-output"]
own = run_arms(workspace, workers=workers)
if profile != "study":
    _ = write_table(workspace.tables / "rates.csv", own, profile=profile)
print(f"{len(own)} runs of {own['model'].nunique()} models at {own['rate_hz'].nunique()} rates")
pivot(own) if profile != "smoke" else None

# %% tags=["nbval-ignore-output", "hide-input"]
#| label: fig-own-rates
#| caption: >-
#|   AP over the rate with the state carried, a panel for each mode. Solid where the time scale follows, dashed where it does not or there is none. Vertical bars are the range over the seeds.
#| alt: One panel for each mode of running faster, average precision over the rate, one line for each arm.
shown = rates[rates["model"].isin(MAIN)] if profile == "smoke" else own
_ = plots.save(
    plots.rate_panels(of_all_seeds(shown[shown["carry"] == "exact"])), workspace.figures / "rates_exact.png"
)

# %% [markdown]
# (sec-study-rates)=
# ## The study's tables
#
# All arms that have been computed. Not everything is crossed with everything (a dash was not computed, or not with all seeds of its row);
# `ssmbook reproduce --profile study --dry-run` lists what is missing.

# %%
#| label: tbl-study-rates
#| tbl-cap: AP × 100 by arm and rate, study profile, test split, mean over the seeds, detections ranked by the product score.
answers.printed(answers.by_rate(rates))

# %%
#| label: tbl-study-spread
#| tbl-cap: The standard deviation over the seeds of the same table, where there are several.
answers.printed(answers.by_rate(rates, statistic="std").dropna(how="all"))

# %% [markdown]
# {term}`Seeds <seed>` differ by several AP: compare a model with *itself* at two rates.
# %% [markdown]
# (sec-controls)=
# ## Two controls
#
# Where the step does not follow, the dashed lines of {numref}`fig-answer`, AP falls: the time scale matters.
# With every chunk from zero ({term}`carry` published) the network sees at most the last ten windows: if AP falls, older ones mattered.

# %%
#| label: tbl-carry
#| tbl-cap: AP × 100 with the state carried (exact) and with every chunk from zero (published), where both were run; mean over the seeds.
answers.printed(answers.worth_of_the_state(rates))

# %% [markdown]
# (sec-rate-causes)=
# ## Input, state, direct path
#
# What changes AP with the rate? A stage of the detector hands on {eq}`eq-block`
#
# $$ z_k = \underbrace{\mathrm{GELU}\bigl( \mathrm{Re}(C x_k) + D \circ a_k \bigr)}_{\text{state, and skip } D} +
#    \underbrace{a_k}_{\text{residual}} , \qquad x_k = \bar\Lambda\, x_{k-1} + \bar B\, a_k , $$ (eq-rate-paths)
#
# so that the rate acts in three places ({numref}`fig-rate-paths`).
#
# - **The input** $a_k$ itself: a frame with fewer events is another picture, as in the modes held and true.
# - **The state**: $\bar\Lambda$ and $\bar B$ per step, which following corrects, and what was written to it by all frames before.
# - **The direct path**: $D$ and the residual pass the present frame on at once, whatever the step. If it is thin, the head sees a thin frame.

# %% tags=["hide-input"]
#| label: fig-rate-paths
#| caption: >-
#|   From a frame to a stage's output {eq}`eq-rate-paths`. Green: where the time scale acts. What the two grey paths carry, it cannot correct.
#| alt: A frame branches into three arrows, one through a box with the state, one through a box with D, one straight; they are added.
_ = plots.save(drawn.rate_paths(), workspace.figures / "rate_paths.png")

# %% [markdown]
# Hold one of them at 20 Hz. *Input of 20 Hz* repeats each frame until the next 50 ms are
# over, under a state that steps 200 times a second; *state of 20 Hz* advances the state every 50 ms only, under the fast input. What
# makes a loss at 200 Hz go away was its cause. Two further replacements are checks: without events from the start the state stays
# empty, too; the state of another sequence is a wrong memory.

# %%
#| label: tbl-causes
#| tbl-cap: >-
#|   AP × 100 at 200 Hz, input sliding, following, with something else in the place of input or state; of all boxes, and by time at rest. Study, as many seeds as
#|   the last column says.
replaced = answers.replaced(answers.read_if_there(study, "causes.csv"))
answers.printed(replaced) if len(replaced) else print(
    "not computed yet: ssmbook reproduce 09 --profile study"
)

# %% [markdown]
# A state that advances every 50 ms costs less than one AP. Repeated frames cost three, more than running at 20 Hz does, for they
# reach the state late. Without events nothing is detected, under the state of another sequence hardly a box.
#
# (sec-slower)=
# ## Slower than trained
#
# Why is 5 Hz harder than 200? Sliding windows stay 50 ms long. Below 20 Hz they no longer touch, and the share of the recording that any window sees is
#
# $$ \text{share seen} = \min\Bigl(1, \frac{w}{\delta}\Bigr) , \qquad \delta = \frac{1}{\text{rate}} , $$ (eq-share-seen)
#
# a quarter at 5 Hz. What happens in the other three quarters is lost, and following the rate cannot make up for events that were never
# counted, by {eq}`eq-area`. Three more things get worse. A step of 200 ms is four steps of training, so that a mode that turned by a quarter of a turn now
# turns by a whole one; the bilinear rule bends the fastest ones {eq}`eq-warp`, and {numref}`tbl-slower` counts those beyond half a turn. The gate of
# selective S5 is read once in 200 ms. And an object moves four times as far.

# %%
#| label: tbl-slower
#| tbl-cap: >-
#|   By rate, input sliding, time scale following: the share of the recording that is seen {eq}`eq-share-seen`, how far an object of 60 px/s moves
#|   between two frames, and how many modes of an untrained S5 detector of this profile turn by more than half a turn in one step.
s5 = workspace.new_model("s5")
rows = {}
for rate in (5.0, 10.0, 20.0, 40.0, 200.0):
    window, stride = window_and_stride("sliding", rate)
    scaled = answers.time_constants(s5, step_scale=20.0 / rate)
    rows[f"{rate:g} Hz"] = {
        "share seen (%)": 100 * min(1.0, window / stride),
        "moves by (px)": 60 / rate,
        "modes beyond half a turn": int(scaled["beyond_half_turn"].sum()),
        "of": int(scaled["modes"].sum()),
    }
pd.DataFrame(rows).T.astype({"modes beyond half a turn": int, "of": int})

# %% [markdown]
# Traces have no window, and on them every model with a state loses less at 5 Hz ({numref}`tbl-answer`). Several longest time constants
# ({numref}`tbl-slower-traces`) tell how much of the loss is the first problem, for the other three stay.

# %% tags=["nbval-ignore-output"]
#| label: tbl-slower-traces
#| tbl-cap: >-
#|   AP_common × 100 of selective S5 at 20 Hz, and the difference to it at other rates, by the longest time constant of its traces;
#|   following, state carried, one seed (`benchmarks/traces.py`).
found = json.loads((book_root() / "benchmarks" / "results" / "traces.json").read_text())["rows"]
rows = {f"to {row['taus_ms'][-1]:g} ms": 100 * pd.Series(row["rates"]) for row in found}
by_length = pd.DataFrame(rows).T
changes = by_length.drop(columns="20").sub(by_length["20"], axis=0).add_prefix("Δ ").add_suffix(" Hz")
pd.concat([by_length["20"].rename("20 Hz"), changes], axis=1).round(1).rename_axis("traces")

# %% [markdown]
# The longest lose next to nothing at 5 Hz, which fits that windows lose there what none saw. Elsewhere they are weakest.
#
# (sec-trained-rates)=
# ## Trained for many rates
#
# Can the mode *true* be learnt, and do many rates in training help at 5 Hz? On the mixed grid of [chapter 7](07_training.ipynb) the network meets steps
# of 5 to 200 Hz, and its time scale follows each.

# %%
#| label: tbl-mixed
#| tbl-cap: >-
#|   AP_common × 100 of models trained at 20 Hz and at mixed rates, on windows as long as their steps (*true*) and on traces; following, state
#|   carried.
both = (*MIXED, *(VARIANTS[name].recurrence for name in MIXED))
exact = rates[
    rates["mode"].isin(["true", "traces"]) & (rates["carry"] == "exact") & rates["model"].isin(both)
]
answers.printed(answers.changes(answers.following(exact)))

# %% [markdown]
# In windows of 5 ms selective S5 falls from 50 to 4 AP. Trained for them, S5 keeps nearly half of its AP, also in chunks of 30, selective S5 a quarter,
# and a ConvLSTM three quarters of the 23 that it learns, with seeds from 12 to 36. With skip and $D$ behind a low-pass, S5 gains at 5 Hz and nothing at 200: what fails is convolution and attention
# before the layer, which see 5 ms. On traces all keep their AP from 20 to 200 Hz, and S5 at 5 Hz, too, for it hardly
# remembers: at rest for 0.5 to 1 s its AP_50 is 12 and not 38. All but the ConvLSTM on traces are worse at 20 Hz, by 7 to 19 AP.
#
# (sec-trained-there)=
# ## Trained there
#
# Would training at the rate itself be better, on chunks with as many labels and seconds of past?

# %%
#| label: tbl-one-for-all
#| tbl-cap: AP_common × 100 of selective S5 trained at 20 Hz, following, and trained at the rate itself. Input sliding, state carried.
answers.printed(answers.one_for_all(rates))

# %% [markdown]
# At 5 Hz it is worth three of nine AP, with seeds from −2 to 8. At 10 Hz it is worth one of two, at 40 Hz
# nothing, at 200 Hz half an AP: upwards one set of weights serves.
#
# (sec-higher)=
# ## What a higher rate is for
#
# If AP is the same at 20 and at 200 Hz, why run at 200? That AP asks what a detector knows at the end of a window;
# a user asks at any moment. {term}`Streaming AP <streaming AP>`, {eq}`eq-streaming`, scores at each moment what is known by then
# [@li2020, on streaming accuracy]: detections of the newest window whose computation has ended. On average these are
#
# $$ \bar a = \frac{\delta}{2} + \text{latency} $$ (eq-mean-age)
#
# old: 25 ms at 20 Hz, in which a car at 80 px/s moves 2 px, and 2.5 ms at 200 Hz, before any latency.

# %%
#| label: tbl-streaming
#| tbl-cap: >-
#|   Streaming AP × 100 of selective S5, mean over the seeds, scored every 7 ms, by rate and latency: of all boxes, and of objects at rest, slower and
#|   faster than 30 px/s. Input sliding, time scale following, state carried. Steps may overlap: the latency does not limit the rate.
if profile == "study":
    for seed in workspace.seeds:
        ask(workspace.with_seed(seed), "s5-selective", causes=CAUSES)
    _ = collect_answers(workspace)
streaming = answers.read_if_there(study, "streaming.csv")
columns = ["AP", "AP_rest", "AP_slow", "AP_fast"]
if len(streaming):
    streaming = 100 * streaming.groupby(["latency_ms", "rate_hz"])[columns].mean()
answers.printed(streaming)

# %% [markdown]
# From 20 to 200 Hz all boxes gain three AP, most of it by 40 Hz; fast objects four to five, objects at rest two and a half, whatever the latency.
#
# The same in milliseconds: how long after an object enters the frame, or starts again after a rest, does its first right box come?

# %%
#| label: tbl-delays
#| tbl-cap: >-
#|   Mean time in ms until an object has its first right box (IoU 0.5, at the score of highest F1 on the validation split), from its entry and from its
#|   start after rest, by latency and rate. Selective S5, mean over the seeds; nearly all were detected, `onsets` says of how many.
delays = answers.read_if_there(study, "delays.csv")
if len(delays):
    several = delays[delays["kind"] != "return"].astype({"onsets": int})  # one object alone comes back
    delays = several.pivot_table("mean_ms", ["kind", "onsets", "latency_ms"], "rate_hz").round().astype(int)
delays

# %% [markdown]
# An entry takes long, since at first only a sliver is in view; a start after rest does not: the state
# still holds the box. At 200 Hz means are 10 to 20 ms lower, of few objects.
#
# (sec-other-arms)=
# ## Other layers, masks and norms
#
# The study also runs the layers of [chapter 4](04_scans.ipynb) and the two remedies of [chapter 5](05_time_scale.ipynb) against aliasing: the mask
# that is *held* in training and follows the rate, {eq}`eq-mask`, and the H2 norm in the loss, {eq}`eq-h2`.

# %%
#| label: tbl-other-arms
#| tbl-cap: AP_common × 100 of the other variants at 20 Hz, and the difference at other rates; input sliding, state carried. Study.
others = answers.changes(sliding[~sliding["model"].isin((*MAIN, *LONGER))])
answers.printed(others) if len(others) else print("not computed yet: ssmbook reproduce 09 --profile study")

# %% [markdown]
# Compare along a row: at 20 Hz seeds differ as much as layers do, but those whose step depends on the input lie above all others. Where the step follows, all keep their AP, Mamba too,
# once its input has the share of {eq}`eq-rates-lstm-step`: nothing aliases that did not at 20 Hz, and the mask and the norm have nothing left to mend. Where it does
# not follow, all fall, and seeds of one model by amounts that differ more than those of two models. Neither mask nor norm replaces following.
#
# (sec-quoted)=
# ## What others measured
#
# The first rows are **quoted, not ours**: the paper's figures [@zubic2024] as others quote them, and those of an independent replication with the
# released checkpoint [@replication2026], on Gen1. There every chunk starts from zero ([chapter 13](13_released_code.ipynb)): those figures measure what
# the present chunk of 21 frames holds, and ours, below them, a state that has seen the whole recording.

# %%
#| label: tbl-quoted
#| tbl-cap: >-
#|   AP × 100 by rate. Quoted: Gen1; of the paper only the ends were recovered, and the replication's windows of 12 ms stand in the column of 80 Hz. This book:
#|   simulated streets, state carried, mean over the seeds.
ours = answers.by_rate(main).droplevel("carry").reset_index().assign(source="this book")
compared = (
    pd.concat([QUOTED_RATES, ours])
    .reindex(columns=list(QUOTED_RATES))
    .set_index(["source", "model", "mode", "step_scale"])
)
answers.printed(compared)

# %% [markdown]
# Compare *along a row*, not between sources. The paper scales the step with the rate. In the replication that lowers AP, as {numref}`tbl-worked` says for moving objects; and Mamba loses about as much as S5, so that the loss is hardly one of the layer.
#
# (sec-own-rates)=
# ## Repeat it
#
# ```
# ssmbook reproduce                                         # 10 to 30 minutes: selective S5 and ConvLSTM
# ssmbook reproduce 09 --profile study -p workers 2         # all arms and seeds: hours
# ssmbook reproduce 09 --profile gen1-base --data-dir GEN1  # on Gen1, preprocessed or raw
# ssmbook reproduce 09 --profile mine.yaml                  # arms of your own
# ```
#
# ## What was learnt
#
# - A rate is a choice. What must not change with it is what a frame means and how fast the state decays *in seconds*.
# - Following the rate keeps the second, {eq}`eq-rates-follow`; sliding windows and traces keep the first.
# - On the simulated streets, sliding windows with the step following keep AP from 20 to 1,000 Hz, {numref}`tbl-answer`.
# - Whether following helps is a matter of the input: {eq}`eq-worked` predicts the sign for each mode.
# - Below the rate of training windows no longer touch, {eq}`eq-share-seen`, and no time scale brings back what was not seen.
# - An LSTM forgets $k$ times faster at $k$ times the rate, {eq}`eq-rates-lstm`, unless its forget gates follow, {eq}`eq-rates-lstm-step`.
#
# ## Exercises
#
# :::{exercise} Half-lives
# :label: ex-halflife
# A mode of S5 has $\bar\lambda = 0.98$ per step at 20 Hz. What is its half-life in seconds? What is it at 200 Hz with
# `step_scale` 1, and with `step_scale` 1/10?
# :::
# :::{solution} ex-halflife
# :class: dropdown
# ```{literalinclude} solutions/09_rates.py
# :start-after: # %% ex-halflife
# :end-before: # %% ex-amount
# ```
# :::
#
# :::{exercise} Rate or amount
# :label: ex-amount
# Let $u$ count events. Show with the recurrence of one real mode that at $k$ times the rate, in the mode true and without
# following, the state after 50 ms is nearly what it was in training if the mode is slow, and say when it is not.
# :::
# :::{solution} ex-amount
# :class: dropdown
# ```{literalinclude} solutions/09_rates.py
# :start-after: # %% ex-amount
# :end-before: # %% ex-break-even
# ```
# :::
#
# :::{exercise} Where the two errors are equal
# :label: ex-break-even
# At the true rate with $k = 10$ and $\tau = t_m = 1$ s, after which time at rest are following and not following equally far from training, by {eq}`eq-worked`?
# Which objects should a test set have for following to win?
# :::
# :::{solution} ex-break-even
# :class: dropdown
# ```{literalinclude} solutions/09_rates.py
# :start-after: # %% ex-break-even
# :end-before: # %% ex-yaml
# ```
# :::
#
# :::{exercise} An arm of your own
# :label: ex-yaml
# Write a profile in YAML with one more variant, S5 with `state_gain` 3, run at 20 and 100 Hz, and list its arms.
# :::
# :::{solution} ex-yaml
# :class: dropdown
# ```{literalinclude} solutions/09_rates.py
# :start-after: # %% ex-yaml
# ```
# :::
#
# ## Further reading
#
# The question and its first answer are [@zubic2024]; S5, whose step can be scaled after training, is [@smith2023s5]; the replication is
# [@replication2026]. Inputs that scale with time are the subject of [@pedersen2024], perception while the world moves on that of [@li2020]. What the state holds is the subject of [chapter 10](10_memory.ipynb).

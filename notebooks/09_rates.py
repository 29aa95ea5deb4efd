# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-rates)=
# # Trained at 20 Hz, run at 5 to 200
#
# An event camera has no frame rate. The rate of a detector is a choice of whoever runs it: a parked car needs no more than a
# look now and then, a child that runs into the street needs every one of the next fifty milliseconds. **Can one set of
# weights, trained at 20 Hz, serve all of these rates?** The paper that this book follows asked the question first
# [@zubic2024]. Its answer rested on a state that was never carried from one chunk to the next; here the state is carried, and
# the answer is measured on scenes in which carrying it matters.
#
# After this chapter you will be able to
#
# - say what changes for a network when its rate changes, and tell four modes of running faster apart,
# - derive why a state-space layer can follow the rate and a ConvLSTM cannot,
# - read the study's tables, and repeat any of their rows.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
representation: str = ""  # traces, mixeddensity_stack or stacked_histogram; the profile's by default
workers: int = 1  # processes that train and evaluate, a model each at a time
logger: str = "csv"  # where the metrics of training runs go besides metrics.csv: tensorboard or wandb

# %% tags=["hide-input"]
import pandas as pd

from ssmbook import plots
from ssmbook.dataset import window_and_stride
from ssmbook.drawings import study as drawn
from ssmbook.study import Workspace, pivot, read_arms, run_arms, write_table
from ssmbook.study.questions import CAUSES, ask, collect_answers

plots.style()
pd.options.display.max_rows = 100
workspace = Workspace(profile, data_dir, representation=representation, logger=logger)
study = Workspace("study")
rates, rest = read_arms(study), read_arms(study, "rest.csv")

# %% [markdown]
# (sec-answer)=
# ## The answer
#
# The study trains every model at 20 Hz on simulated streets in which all objects stop for one to three seconds while nothing
# else moves (the *memory set* of [](10_memory.ipynb)). Each is trained with several seeds, and then run, without
# being trained again, at other rates.

# %% tags=["hide-input"]
#| label: fig-answer
#| caption: >-
#|   The answer of the book. Left: AP over the rate, input *sliding*, state carried. Where the time scale follows the rate (solid),
#|   selective S5 and S5 keep their AP from 20 to 200 Hz; where it does not (dashed), they lose it. A ConvLSTM has no time scale
#|   that could follow. Right: AP of objects that have been at rest for a time, at 20 Hz. Lines are means over the seeds, bands and
#|   bars their range.
#| alt: >-
#|   Two panels. Left, average precision over the rate from 5 to 200 Hz on a logarithmic axis, one colour a model. Right, average
#|   precision over the time at rest, solid lines with the state carried above dotted ones without.
_ = plots.save(drawn.answer(rates, rest), study.figures / "answer.png")
seeds = rates.groupby("model")["seed"].nunique()
print("seeds:", ", ".join(f"{drawn.MODEL_NAMES[name]} {count}" for name, count in seeds.items()))

# %% [markdown]
# In numbers: AP at each rate minus AP at 20 Hz of the same weights, on the label frames that all rates have.

# %%
#| label: tbl-answer
#| tbl-cap: >-
#|   AP × 100 at 20 Hz, and the difference to it at other rates, means over the seeds. Input sliding, state carried.
common = pivot(rates[(rates["mode"] == "sliding") & (rates["carry"] == "exact")], "AP_common")
others = [rate for rate in (5.0, 10.0, 40.0, 100.0, 200.0) if rate in common]
answer = common[others].sub(common[20.0], axis=0).add_prefix("Δ ").add_suffix(" Hz")
answer.insert(0, "AP at 20 Hz", common[20.0])
answer.droplevel(["input", "mode", "carry"]).round(1)

# %% [markdown]
# Two things are shown here, and a third is not. A linear recurrence whose step follows the rate detects at ten times its
# rate what it learnt, from the same weights; and the same weights fail when the step does not follow, so that it is the
# step that does it and not the input. What is *not* shown is that this holds on real recordings: the scenes are simulated,
# the network is small, and training is short. [](#sec-own-rates) says how to repeat it on Gen1.
#
# Why 5 Hz is harder than 200 is a matter of the input as well as of the state: a window of 50 ms every 200 ms leaves three quarters of
# the events out.
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
# The mode *held* is what the released preprocessing makes when it is asked for shorter windows, *true* is what most readers
# think of first. In *sliding*, windows overlap: each looks as it did in training, and each event is counted $k$ times. *Traces* are
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
# decayed by $\bar\Lambda^k$, so that a mode with a half-life of one second is left with a half-life of a hundred milliseconds
# at 200 Hz. A ConvLSTM has no $\Delta$. Its forget gate multiplies the cell by some $f \in (0, 1)$ at every step, whatever a step
# means, and so at $k$ times the rate it forgets
#
# $$ \tau_k = -\frac{50\ \text{ms}}{k \ln f} $$ (eq-rates-lstm)
#
# $k$ times faster in seconds, which {numref}`fig-answer` shows.
#
# The *input* of the layer follows too, if the input is a rate and not an amount. A step of length $\Delta_k$ adds $\Delta_k B u$ to the
# state, and $k$ of them with the same $u$ add what one step of training did. That holds in the modes sliding and traces, in which a frame looks
# the same at every rate. In the mode true a frame holds $1/k$ of the events; then $k$ steps add $1/k$ of what they should when the
# step follows, and the right amount when it does not. [](05_time_scale.ipynb) derives from this the sign of what `step_scale` does in each
# mode, which explains why the paper reports that following helps and an independent replication that it harms.
#
# (sec-runs)=
# ## The arms of this profile
#
# An arm is a model, a mode, a choice for the time scale, and a choice for the state. Label frames stay where they are whatever the
# rate, so that every arm is scored on the same ones. Below 20 Hz a detector passes over label frames; `AP_common` is the AP
# on those that all rates have.

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
# The test split goes through the network once for each arm and rate. With exact {term}`carry` the state goes from a sequence's first window to its
# last; with published carry every chunk starts from zero.

# %% tags=["nbval-ignore-output"]
#| label: tbl-own-rates
#| tbl-cap: AP × 100 of this profile's arms. With the profile `smoke`, which only tests the machinery, they mean nothing.
own = run_arms(workspace, workers=workers)
if profile != "study":
    _ = write_table(workspace.tables / "rates.csv", own, profile=profile)
pivot(own)

# %% tags=["nbval-ignore-output", "hide-input"]
#| label: fig-own-rates
#| caption: The arms of this profile with the state carried, a panel for each mode. Vertical bars are the range over the seeds.
#| alt: One panel for each mode of running faster, average precision over the rate, one line for each arm.
_ = plots.save(plots.rate_panels(own[own["carry"] == "exact"]), workspace.figures / "rates_exact.png")

# %% [markdown]
# (sec-study-rates)=
# ## The study's tables
#
# All arms that have been computed, means over the seeds. An empty place was not computed: not everything is crossed with
# everything, so that the study stays within some sixteen hours of one core (`ssmbook reproduce --profile study --dry-run` lists
# what it has and what is missing).

# %%
#| label: tbl-study-rates
#| tbl-cap: AP × 100 by arm and rate, study profile, test split, mean over the seeds, detections ranked by the product score.
pivot(rates)

# %%
#| label: tbl-study-spread
#| tbl-cap: The standard deviation over the seeds of the same table, where there are several.
pivot(rates, statistic="std").dropna(how="all")

# %% [markdown]
# Seeds differ by several AP, which is more than many a published improvement. A comparison of two models from one run each
# says little; a comparison of *one* model with itself at two rates, as in {numref}`tbl-answer`, is far sharper, since the weights and
# the label frames are the same on both sides.
#
# (sec-rate-carry)=
# ## What carrying the state is worth
#
# With published carry the network sees at most the last ten windows, half a second at 20 Hz. The difference between the two
# is what older windows contribute.

# %%
#| label: tbl-carry
#| tbl-cap: AP × 100 at 20 Hz with the state carried (exact) and with every chunk from zero (published).
at_base = rates[(rates["rate_hz"] == 20) & (rates["mode"].isin(["sliding", "traces"]))]
follows = at_base["model"].isin(at_base.loc[at_base["step_scale"] == "1/k", "model"])
carried = at_base[(at_base["step_scale"] == "1/k") | ~follows].pivot_table(
    index=["model", "input"], columns="carry", values="AP", sort=False
)
(100 * carried).assign(difference=lambda t: t["exact"] - t["published"]).round(1)

# %% [markdown]
# (sec-higher)=
# ## What a higher rate is for
#
# If AP is the same at 20 and at 200 Hz, why run at 200? Because that AP asks what a detector knows at the end of a window, and
# a user asks at any moment. Streaming AP ([](08_evaluation.ipynb)) scores at each moment what is known by then [@li2020, eq. 1]: detections of the newest window whose computation has ended.
# At 20 Hz these are up to 50 ms old, and a car at 80 px/s has moved 4 px by then.

# %%
#| label: tbl-streaming
#| tbl-cap: >-
#|   Streaming AP × 100 of selective S5, scored every 7 ms, by rate and latency: of all boxes, and of objects at rest, slower and faster
#|   than 30 px/s. Input sliding, time scale following, state carried.
if profile == "study":
    ask(workspace.with_seed(workspace.seeds[0]), "s5-selective", causes=CAUSES)
    _ = collect_answers(workspace)
streaming = read_arms(study, "streaming.csv")
columns = ["AP", "AP_rest", "AP_slow", "AP_fast"]
(100 * streaming.groupby(["latency_ms", "rate_hz"])[columns].mean()).round(1)

# %% [markdown]
# The gain is that of fast objects, and it grows with the latency that comes on top: what is old already must not be older still. Objects at rest
# gain little, and on this set, where many boxes rest, the whole gains less than they do.
#
# (sec-quoted)=
# ## What others measured
#
# For comparison, figures **quoted by others, not ours**: on Gen1, from 20 to 200 Hz, the paper gives 47.71 to 39.84 for S5-ViT and 47.16
# to 8.35 for RVT [@zubic2024]. An independent replication with the released checkpoint at the true rate found 29.67 at ten times
# the rate, and 19.96 with `step_scale`. In neither did S5's state go from one chunk to the next: the released
# code starts every chunk from zero ([](13_released_code.ipynb)). So those figures measure a window of 21 frames at a finer sampling,
# and {numref}`fig-answer` measures a state.
#
# (sec-own-rates)=
# ## Repeat it
#
# Each command goes on where it was interrupted, and a model whose rows stand in the committed table is not trained again.
#
# ```
# ssmbook reproduce                                         # half an hour: selective S5 and ConvLSTM
# ssmbook reproduce 09 --profile study -p workers 2         # all arms and seeds: hours
# ssmbook reproduce 09 --profile gen1-base --data-dir GEN1  # on Gen1, preprocessed or raw
# ssmbook reproduce 09 --profile mine.yaml                  # arms of your own
# ```
#
# ## What was learnt
#
# - A rate is a choice. What must not change with it is what a frame means and how fast the state decays *in seconds*.
# - Following the rate keeps the second, {eq}`eq-rates-follow`; sliding windows and traces keep the first.
# - A recurrence without a time scale forgets $k$ times faster at $k$ times the rate, {eq}`eq-rates-lstm`.
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
# The question and its first answer are [@zubic2024]; S5, whose step can be scaled after training, is [@smith2023s5]. What a
# detector's rate is worth when the world moves on while it computes is streaming perception, [](08_evaluation.ipynb).

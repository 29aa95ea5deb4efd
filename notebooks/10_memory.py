# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-memory)=
# # Memory: what the state holds, and for how long
#
# A car stops at a crossing. Nothing of it moves, so that it causes no events; all that a sensor reports from there is noise.
# **Does the detector still know the car?** It can, if it carries a state and has learnt to leave it alone. This chapter measures
# how long, looks at what a gate on the step does, and then takes the layer out of the detector and gives it a task that is nothing but
# long.
#
# After this chapter you will be able to
#
# - read AP by the time for which an object has been at rest, and say what carries it,
# - explain why a gate on the step makes a state last without slowing it down,
# - train a layer to remember, and tell how far back it looks.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %% tags=["hide-input"]
from dataclasses import asdict

import matplotlib.pyplot as plt
import pandas as pd
import torch

from ssmbook import plots
from ssmbook.drawings import study as drawn
from ssmbook.drawings.stopping import draw_gate, draw_stop
from ssmbook.study import Workspace, read_arms, write_table
from ssmbook.study.long_range import LSTM, S5Stack, delay_task, parameter_count, run_in_chunks, train_delay

plots.style()
workspace = Workspace(profile, data_dir)
study = Workspace("study")
rest = read_arms(study, "rest.csv")
sizes = workspace.profile.long_range
colours = {"S5": plots.BLUE, "LSTM": plots.ORANGE}

# %% [markdown]
# (sec-memory-set)=
# ## A set on which memory counts
#
# On most driving sets a memory of half a second is enough, for most of what is labelled moves. So a simulated set was made in which every object stops
# inside the frame, for one to three seconds, while the background rests. Labels go on while the object rests, as they do in Gen1 and
# 1 Mpx. The time at rest of a box is counted from the last moment at which its centre had moved by a pixel. With the
# state carried and without:

# %% tags=["hide-input"]
#| label: tbl-rest
#| tbl-cap: >-
#|   AP_50 × 100 by seconds at rest, at 20 Hz, mean over the seeds, with the state carried (exact) and with each chunk of ten windows from
#|   zero (published).
base = rest[(rest["rate_hz"] == 20) & (rest["mode"].isin(["sliding", "traces"]))]
scaled = base["model"].isin(base.loc[base["step_scale"] == "1/k", "model"])
base = base[(base["step_scale"] == "1/k") | ~scaled]
words = {
    low: f"> {low:g}" if high >= 60 else f"{low:g}–{high:g}"
    for low, high in zip(rest["from"], rest["to"], strict=True)
}
table = base.pivot_table(index=["model", "input", "carry"], columns="from", values="AP_50", sort=False)
(100 * table.sort_index(axis=1)).rename(columns=words).rename(columns={words[0.0]: "moving"}).round(0)

# %% [markdown]
# From zero, every model is blind to what has rested for longer than its ten windows, for in half a second without events there is nothing to see.
# That is what the released code does with its state ([](13_released_code.ipynb)), and what its published figures measure.
# With the state carried the models differ, and they differ more the longer an object rests.
#
# At 200 Hz the same seconds are ten times as many steps:

# %% tags=["hide-input"]
#| label: fig-rest-fast
#| caption: >-
#|   AP by time at rest at 200 Hz, state carried. A model whose step follows the rate remembers for as many seconds as at 20 Hz,
#|   {numref}`fig-answer`; the ConvLSTM forgets ten times faster in seconds, {eq}`eq-rates-lstm`.
#| alt: Average precision over time at rest at 200 Hz, one line for each model.
fig, ax = plt.subplots(figsize=(4.6, 3.0))
fast = rest[(rest["rate_hz"] == 200) & (rest["mode"] == "sliding") & (rest["carry"] == "exact")]
drawn.over_rest(ax, fast)
_ = ax.set(ylabel="AP × 100")
_ = plots.save(fig, study.figures / "rest_200.png")

# %% [markdown]
# (sec-stop)=
# ## One stop
#
# The longest stop of the test split, as four detectors see it, from a quarter of a second before it to two and a quarter seconds after. Dashed boxes are labels,
# solid ones detections with a score of at least 0.3.
#
# :::{figure} ../figures/study/stopping.png
# :label: fig-stopping
# :alt: Film strip of six moments in four rows; events vanish when the object stops, and boxes remain only in some rows.
# One object stops at 0 ms. Its events vanish, and with them the detections of whoever does not remember.
# :::

# %%
if profile == "study":
    rows = [
        ("s5-selective", 20.0, True),
        ("s5-selective", 200.0, True),
        ("s5-selective", 200.0, False),
        ("convlstm", 200.0, False),
    ]
    _ = plots.save(draw_stop(workspace, rows), study.figures / "stopping.png")
    _ = plots.save(draw_gate(workspace), study.figures / "gate.png")

# %% [markdown]
# (sec-gate)=
# ## A state that holds
#
# Why does S5 forget what rests, though its modes are slow enough to hold it? In {eq}`eq-rates-ode` the state
# decays at a rate that does not ask what happens. A mode that forgets quickly follows a moving car well and loses a standing one; a slow mode keeps the
# standing car and smears the moving one. *Selective* S5 lets the input decide how much time passes: its step is
#
# $$ \Delta_k = \texttt{step\_scale} \cdot g(u_k)\, e^{\texttt{log\_step}} , \qquad g(u) = 2\,\sigma(w^\top u + b) \in (0, 2) , $$ (eq-gate)
#
# one number at each pixel and frame, from the same input that the layer sees, at a cost of $H + 1$ parameters a stage. In continuous time this is
#
# $$ \dot x(t) = g(u(t))\, \bigl( \Lambda x(t) + B u(t) \bigr) , $$ (eq-gated-ode)
#
# an S5 whose clock runs at the speed $g$: near $g = 0$ the state is held, whatever its modes are, and at $g = 1$ it is S5. Since $g$
# multiplies the step, following the rate works as before: `step_scale` multiplies the same step. A step that depends on the input is the
# selection of Mamba [@gu2023mamba, sec. 3.2]; there each feature has a step of its own and $B$ and $C$ depend on the input too.
#
# :::{figure} ../figures/study/gate.png
# :label: fig-gate
# :alt: Maps of the gate in four stages at six moments; where events are, its value differs from where nothing happens.
# What the gates have learnt, over the stop of {numref}`fig-stopping`: $g(u)$ of {eq}`eq-gate` at each position of the four stages. Where it is low, the state
# is held.
# :::
#
# (sec-delay)=
# ## The layer by itself: the delay task
#
# In the detector the state-space layer is one part of many. Here it is taken out: no events, no pictures, only a task whose
# whole difficulty is that it is long. It needs no download, and in the `demo` profile it takes about a minute.
#
# At every step the model says what its input was `delay` steps ago (Voelker et al. 2019; "continuous copying" in
# arXiv 2206.12037). The input is noise that turns at most once in `period` steps, so that the `delay` steps in
# between are 2 · delay / period numbers that nobody can guess, and all must be held at all times. A model that always
# answers 0 has a mean squared error of 1. The sizes of this profile:

# %%
pd.Series(asdict(sizes), name=profile).to_frame()

# %%
task = {"length": sizes.length, "delay": sizes.delay, "period": sizes.period}
u, target = delay_task(sizes.test_sequences, **task, generator=torch.Generator().manual_seed(sizes.seed + 1))
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.4))
_ = ax.plot(u[0], color=plots.GREY, label="input")
_ = ax.plot(range(sizes.delay, sizes.length), target[0], color=plots.RED, label="right answer")
_ = ax.set(xlabel="step", title=f"one sequence: the input, and what to say {sizes.delay} steps later")
_ = ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
_ = plots.save(fig, workspace.figures / "delay_task.png")

# %% [markdown]
# ## Two models of one size
#
# `S5Stack` is a linear encoder, residual layers around S5 (norm, S5, gated activation: `ssmworkspace.ssm.SequenceLayer`)
# and a linear decoder. It is linear in time: whatever is remembered passes through $\bar\Lambda$ alone, and all that is
# nonlinear happens within a step. `LSTM` is `torch.nn.LSTM` with the same decoder. The parameters of each:

# %%
_ = torch.manual_seed(sizes.seed)
models = {"S5": S5Stack(sizes.width, sizes.state_width, sizes.depth), "LSTM": LSTM(sizes.hidden)}
pd.Series({name: parameter_count(model) for name, model in models.items()}, name="parameters").to_frame()

# %% [markdown]
# ## Training
#
# Both see the same new sequences at every step, equally many, with the same schedule.

# %% tags=["nbval-ignore-output"]
training = {"batch_size": sizes.batch_size, "steps": sizes.steps, "learning_rate": sizes.learning_rate}
logs = {name: train_delay(model, **task, **training, seed=sizes.seed) for name, model in models.items()}

# %%
fig, (left, right) = plt.subplots(1, 2, width_ratios=[3, 1])
for name, log in logs.items():
    _ = left.semilogy(log["loss"].rolling(5, min_periods=1).mean(), color=colours[name], label=name)
    _ = right.bar(name, log["ms"].median(), color=colours[name])
_ = left.axhline(1, color=plots.GREY, ls="--", label="always 0")
_ = left.set(xlabel="training step", ylabel="mean squared error", title="loss, mean of 5 steps")
_ = left.legend(frameon=False)
_ = right.set(ylabel="ms", title="time of a step")
_ = plots.save(fig, workspace.figures / "long_range_training.png")

# %% [markdown]
# The error on sequences that neither has seen, and the median time of a training step:

# %% tags=["nbval-ignore-output"]
answers = {name: run_in_chunks(model, u, sizes.length)[:, sizes.delay :] for name, model in models.items()}
table = pd.DataFrame(
    {
        "parameters": {name: parameter_count(model) for name, model in models.items()},
        "test error": {name: (y - target).square().mean().item() for name, y in answers.items()},
        "ms per step": {name: log["ms"].median() for name, log in logs.items()},
    }
).rename_axis("model")
_ = write_table(workspace.tables / "long_range.csv", table, profile=profile)
table

# %% [markdown]
# ## What each remembers
#
# Above, the answers to one unseen sequence. Below, where each model looks: how strongly its last answer depends on
# the input of so many steps ago. A model that has learnt the task looks back by the delay, at the dotted line. (In
# the `smoke` profile neither has: it trains for ten steps.)

# %%
looks = {}
for name, model in models.items():
    x = u.clone().requires_grad_()
    model(x)[0][:, -1].sum().backward()
    looks[name] = x.grad.abs().mean(0)[:, 0].flip(0)

# %%
fig, (above, below) = plt.subplots(2, 1, figsize=(plots.WIDTH_IN, 4.4))
_ = above.plot(
    range(sizes.delay, sizes.length), target[0], color="black", lw=3, alpha=0.3, label="right answer"
)
for name, y in answers.items():
    _ = above.plot(range(sizes.delay, sizes.length), y[0], color=colours[name], lw=1.2, label=name)
    _ = below.plot(looks[name], color=colours[name], label=name)
_ = above.set(xlabel="step", ylabel="answer", title="answers to an unseen sequence")
_ = below.axvline(sizes.delay, color="black", ls=":")
_ = below.set(xlabel="steps ago", ylabel="|∂ answer / ∂ input|", title="what the last answer depends on")
_ = above.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
_ = plots.save(fig, workspace.figures / "long_range_memory.png")

# %% [markdown]
# ## As a stream
#
# The stack need not see a sequence at once. Its state is `state_width` / 2 complex numbers a layer, whatever has gone
# before, and carrying it gives the answers of one long pass, in chunks of 17 steps and step by step (True where they are equal):

# %%
stack, few = models["S5"].double(), u[:4].double()
whole = run_in_chunks(stack, few, sizes.length)
equal = {
    chunk: torch.allclose(run_in_chunks(stack, few, chunk), whole, rtol=0, atol=1e-8) for chunk in (17, 1)
}
pd.Series(equal, name="equals one pass").rename_axis("steps in a chunk").to_frame()

# %% [markdown]
# Nor must a stream end where the training sequences ended. Here is one ten times as long, the state carried throughout.
# If the state neither drifts nor grows, the error stays where it was:

# %%
length = 10 * sizes.length
generator = torch.Generator().manual_seed(sizes.seed + 2)
u_long, target_long = delay_task(8, length, sizes.delay, sizes.period, generator)
error = {
    name: (run_in_chunks(model.float(), u_long, sizes.length)[:, sizes.delay :] - target_long).square()
    for name, model in models.items()
}

# %%
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.6))
for name, square in error.items():
    smooth = pd.Series(square.mean(0)).rolling(sizes.delay).mean()
    _ = ax.semilogy(range(sizes.delay, length), smooth, color=colours[name], label=name)
_ = ax.axvline(sizes.length, color="black", ls=":", label="length in training")
_ = ax.set(
    xlabel="step",
    ylabel="mean squared error",
    title=f"a stream of {length} steps, mean of {sizes.delay} steps",
)
_ = ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
_ = plots.save(fig, workspace.figures / "long_range_stream.png")

# %% [markdown]
# ## What was learnt
#
# - What rests causes no events; a detector knows it from its state or not at all, {numref}`tbl-rest`.
# - A gate on the step lets time stand still where nothing happens, {eq}`eq-gated-ode`, and leaves following the rate as it was.
# - A linear state holds hundreds of numbers over hundreds of steps, in chunks, step by step, and over streams longer than any in training.
#
# ## Exercises
#
# :::{exercise} Holding
# :label: ex-hold
# A mode has a half-life of 0.5 s at $g = 1$. How low must the gate be for it to keep 90 % of its state over 3 s?
# :::
# :::{solution} ex-hold
# :class: dropdown
# ```{literalinclude} solutions/10_memory.py
# :start-after: # %% ex-hold
# :end-before: # %% ex-gate-rate
# ```
# :::
#
# :::{exercise} The gate and the rate
# :label: ex-gate-rate
# Show with `SelectiveS5` that with a constant input, two steps with `step_scale` 1/2 leave a held state as one step with 1 does.
# :::
# :::{solution} ex-gate-rate
# :class: dropdown
# ```{literalinclude} solutions/10_memory.py
# :start-after: # %% ex-gate-rate
# :end-before: # %% ex-capacity
# ```
# :::
#
# :::{exercise} Capacity
# :label: ex-capacity
# The delay task holds 2 · delay / period numbers. How many does the `demo` profile ask for, and how many real numbers has the state of its stack?
# :::
# :::{solution} ex-capacity
# :class: dropdown
# ```{literalinclude} solutions/10_memory.py
# :start-after: # %% ex-capacity
# ```
# :::
#
# ## Further reading
#
# HiPPO, where the memory of these layers comes from, is [@gu2020hippo]; selection is [@gu2023mamba]; what linear recurrences need in order to remember is
# [@orvieto2023]; the LSTM is [@hochreiter1997], its forget gate [@gers2000].

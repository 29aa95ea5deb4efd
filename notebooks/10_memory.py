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
# - say what the state of a detector holds, in numbers, and how long each part of it lasts in seconds,
# - read AP by the time for which an object has been at rest, and say what carries it,
# - explain why a gate on the step makes a state last without slowing it down, and read a picture of gates,
# - say which memories a chunk of half a second can teach, and what burn-in adds,
# - train a layer to remember, and tell how far back it looks.
#
# It needs the modes of [chapter 3](03_state_space_layers.ipynb), the truncation of [chapter 7](07_training.ipynb) and the rates of [chapter 9](09_rates.ipynb).

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %% tags=["hide-input"]
import math
from dataclasses import asdict

import matplotlib.pyplot as plt
import pandas as pd
import torch

from ssmbook import plots
from ssmbook.drawings import study as drawn
from ssmbook.drawings.stopping import draw_gate, draw_stop
from ssmbook.study import Workspace, answers, read_arms, write_table
from ssmbook.study.arms import LONGER
from ssmbook.study.long_range import LSTM, S5Stack, delay_task, parameter_count, run_in_chunks, train_delay
from ssmbook.study.questions import ask_weights, collect_answers

plots.style()
pd.options.display.width = 120
workspace = Workspace(profile, data_dir)
study = Workspace("study")
rest = read_arms(study, "rest.csv")
sizes = workspace.profile.long_range
colours = {"S5": plots.BLUE, "LSTM": plots.ORANGE}

# %% [markdown]
# (sec-state-holds)=
# ## What a state holds
#
# A frame is a picture of the last 50 ms. What the detector knows beyond them stands in its states and nowhere else: each stage keeps, at each of
# its positions, $P$ complex numbers $x$ that [chapter 3](#ch-layers) has derived, and hands them from frame to frame by {eq}`eq-recurrence`. In
# all that is
#
# $$ N_{\mathrm{state}} = \sum_{i=1}^{4} h_i\, w_i \cdot 2 P_i , \qquad (h_i, w_i) = \frac{(H, W)}{2^{i+1}} , \quad P_i = C_i , $$ (eq-state-size)
#
# real numbers, with twice the modes and a quarter of the positions from stage to stage. A position of stage 1 sees 4 × 4 pixels and remembers fine
# things; one of stage 4 sees 32 × 32 and remembers that there is something. The state does not move: if an object moves on, what was
# written about it stays at its old place and fades, and is written anew at the next.

# %%
#| label: tbl-state-size
#| tbl-cap: The state of this profile's S5 detector by stage, in real numbers {eq}`eq-state-size`, beside the numbers of one frame.
fresh = workspace.new_model("s5").eval()
height, width = fresh.input_hw
constants = answers.time_constants(fresh).set_index("stage")
sizes_of = pd.DataFrame(
    {
        "positions": [f"{height >> (i + 1)} × {width >> (i + 1)}" for i in constants.index],
        "modes": constants["modes"],
    },
    index=constants.index,
)
numbers = [(height >> (i + 1)) * (width >> (i + 1)) * 2 * modes for i, modes in constants["modes"].items()]
sizes_of["numbers"] = numbers
print(f"in all {sum(numbers):,} numbers; a frame has {fresh.in_channels * height * width:,}")
sizes_of

# %% [markdown]
# (sec-seconds)=
# ## How long a mode lasts, in seconds
#
# A mode that nothing is written to decays by $|\bar\lambda| \approx e^{\Delta\,\mathrm{Re}\,\lambda}$ a step, {eq}`eq-memory`. With a step of 50 ms and the
# rate followed, its time constant is
#
# $$ \tau = \frac{50\ \text{ms}}{\Delta\, |\mathrm{Re}\,\lambda|} , \qquad
#    \text{and a share } q \text{ is left after} \quad t_q = \tau \ln \frac1q , $$ (eq-seconds)
#
# in *seconds*, at any rate; that is the point of following. How much of a past input comes out again is another question. By {eq}`eq-kernel` a unit input
# $n$ steps ago adds $K_n = \mathrm{Re}(C \bar\Lambda^n \bar B)$ to the output, beside the direct path, which adds the present frame itself. As one number,
#
# $$ e_n = \frac{\lVert \mathrm{Re}(C\, \bar\Lambda^n \bar B) \rVert_F}{\sqrt H} \qquad \text{(the direct path has } 1\text{).} $$ (eq-echo)
#
# Both follow from the weights alone. For a detector before any training:

# %%
#| label: tbl-constants
#| tbl-cap: >-
#|   Time constants {eq}`eq-seconds` in seconds (10 %, 50 % and 90 % of the modes lie below), and the echo {eq}`eq-echo` of an
#|   input 50 ms and 1 s ago, of an untrained S5 detector.
words = {
    "seconds_10": "10 %",
    "seconds_50": "median",
    "seconds_90": "90 %",
    "echo_50_ms": "echo, 50 ms",
    "echo_1_s": "echo, 1 s",
}
constants.drop(columns="beyond_half_turn").rename(columns=words).round(3)

# %% [markdown]
# The modes are slow: half of them last for seconds, with no training at all, since S5 starts them so {eq}`eq-step-start`. But the echo is weak, less than a
# hundredth of the direct path. A car that has stopped is therefore *in* the state of every S5, as a weak signal; training decides whether the layers after it
# use that signal. In the study's trained detectors:

# %%
#| label: tbl-trained-constants
#| tbl-cap: The same of the study's trained detectors; of selective S5 at $g = 1$, that is without its gate. Means over those seeds that the table's file names.
if profile == "study":
    ask_weights(workspace)
    _ = collect_answers(workspace)
trained = answers.read_if_there(study, "memory.csv")
if len(trained):
    trained = trained.rename(columns=words).groupby(["model", "stage"])[list(words.values())].mean()
trained.round(3) if len(trained) else print("not computed yet: ssmbook reproduce 10 --profile study")

# %% [markdown]
# Training leaves the modes slow and makes the echo of S5's stages 2 to 4 thirty to a hundred times stronger; that of selective S5, which starts ten times louder,
# two to five times. But both models end with slow modes and an audible echo, and
# {numref}`tbl-rest` will show that only one of them remembers for a second: the weights of the layer alone do not tell which.
#
# (sec-memory-set)=
# ## A set on which memory counts
#
# Where nearly all that is labelled moves, a memory of half a second is enough, and AP says nothing of a longer one. So a simulated set was made in
# which every object stops inside the frame, for one to three seconds, while the background rests. Labels go on while the object rests, as they do in
# Gen1 and 1 Mpx. The time at rest of a box is counted from the last label at which its centre had moved by a pixel, {eq}`eq-rest`. With the
# state carried and without:

# %% tags=["hide-input"]
#| label: tbl-rest
#| tbl-cap: >-
#|   AP_50 × 100 by seconds at rest, at 20 Hz, mean over the seeds, with the state carried (exact) and with each chunk of ten windows from
#|   zero (published).
answers.printed(answers.by_time_at_rest(rest[~rest["model"].isin(LONGER)]), 0)

# %% [markdown]
# From zero, every model is blind to what has rested for longer than its ten windows.
# That is what the released code does with its state ([chapter 13](13_released_code.ipynb)). On moving objects the two carries of the state-space models hardly differ.
# With the state carried the models differ most on objects that rest for half a second to two; beyond two seconds all lose most of their AP.
#
# Does memory last for a number of steps, or of seconds? At 200 Hz the same seconds are ten times as many steps:

# %% tags=["hide-input"]
#| label: fig-rest-fast
#| caption: >-
#|   AP by time at rest at 200 Hz, state carried. Where the step follows the rate (solid), selective S5 (black), S5 (blue) and the ConvLSTM (orange) remember for
#|   as many seconds as at 20 Hz, {numref}`fig-answer`; where it does not (dashed), what rests for a tenth of a second is all but lost, as {eq}`eq-rates-lstm` lets
#|   expect. Grey is without a recurrence.
#| alt: Average precision over time at rest at 200 Hz, two lines for each model; the dashed ones fall at once.
fig, ax = plt.subplots(figsize=(4.6, 3.0))
fast = rest[(rest["rate_hz"] == 200) & (rest["mode"] == "sliding") & (rest["carry"] == "exact")]
drawn.over_rest(ax, fast, unscaled=True)
_ = ax.set(ylabel="AP × 100")
_ = plots.save(fig, study.figures / "rest_200.png")

# %% [markdown]
# (sec-stop)=
# ## One stop
#
# The longest stop of the test split, as two detectors see it in five settings, from a quarter of a second before it to two and a quarter seconds after. Dashed
# boxes are labels, solid ones detections with a score of 0.3 or more, green pedestrians and orange cars.
#
# :::{figure} ../figures/study/stopping.png
# :label: fig-stopping
# :alt: Film strip of six moments in five rows; events vanish when the object stops, and right boxes remain only in some rows.
# A pedestrian stops at 0 ms. The events vanish, and what is left of them is noise. Selective S5 holds the box for two seconds at 20 Hz and, with the step
# following, at 200 Hz (first two rows), and so does a ConvLSTM whose gates follow (fourth row); without following it slips away or is gone at once, and false
# boxes come in its place. Seed 1.
# :::

# %%
if profile == "study":
    rows = [
        ("s5-selective", 20.0, True),
        ("s5-selective", 200.0, True),
        ("s5-selective", 200.0, False),
        ("convlstm", 200.0, True),
        ("convlstm", 200.0, False),
    ]
    shown = workspace.with_seed(1)
    _ = plots.save(draw_stop(shown, rows), study.figures / "stopping.png")
    _ = plots.save(draw_gate(shown), study.figures / "gate.png")

# %% [markdown]
# (sec-stages)=
# ## Which stage remembers?
#
# Four stages have a state each. To see which one a detection relies on, cut one: start its state from zero at every chunk and
# carry the other three.

# %%
#| label: tbl-stages
#| tbl-cap: >-
#|   AP × 100 at 20 Hz, of all boxes and by time at rest, with the state of some stages from zero at each chunk of ten windows. Study, as
#|   many seeds as the last column says.
answers.printed(answers.replaced(answers.read_if_there(study, "causes.csv"), stages=True))

# %% [markdown]
# A stage whose cut changes nothing remembers nothing that is needed; one whose cut costs the resting objects, and these alone, is where stopped cars are
# kept. Here that is stage 2, with each seed: its cut costs what cutting all four costs; stage 1 holds what rests for long. A position of stage 2 sees
# 8 × 8 pixels, fine enough to say where an object is.
#
# (sec-gate)=
# ## A state that holds
#
# Why does S5 forget what rests, though its modes are slow enough to hold it ({numref}`tbl-trained-constants`)? A reason can be read from {eq}`eq-rates-ode`:
# the state decays at the same rate whatever happens. A mode that forgets quickly follows a moving car well and loses a standing one; a slow mode keeps the
# standing car and smears the moving one, and noise is written on top of both. *Selective* S5 lets the input decide how much time passes: its step is
#
# $$ \Delta_k = \texttt{step\_scale} \cdot g(u_k)\, e^{\texttt{log\_step}} , \qquad g(u) = 2\,\sigma(w^\top u + b) \in (0, 2) , $$ (eq-gate)
#
# one number at each position and frame, from the same input that the layer sees, at a cost of $H + 1$ parameters a stage. In continuous time this is
#
# $$ \dot x(t) = g(u(t))\, \bigl( \Lambda x(t) + B u(t) \bigr) , $$ (eq-gated-ode)
#
# an S5 whose clock runs at the speed $g$: near $g = 0$ the state is held, whatever its modes are, and at $g = 1$ it is S5. Since $g$
# multiplies the step, following the rate works as before: `step_scale` multiplies the same step. A step that depends on the input is the
# selection of Mamba [@gu2023mamba, sec. 3.2]; there each feature has a step of its own and $B$ and $C$ depend on the input too.
#
# The study's selective S5 has a second difference from its S5: its $C$ starts ten times larger (`state_gain` 10), so that the state is heard beside the
# direct path from the start. Each without the other:

# %%
#| label: tbl-gate-alone
#| tbl-cap: >-
#|   AP × 100 at 20 Hz, of all boxes and by seconds at rest, of S5 and selective S5 with either start of $C$. Study, input sliding, state carried, the same
#|   seeds throughout.
models = ("s5", "s5-gain-10", "s5-selective-gain-1", "s5-selective")
answers.printed(answers.side_by_side(read_arms(study), rest, models))

# %% [markdown]
# The gate holds what rests, whatever the start of $C$; the louder state alone does not. Both together are best, also on what moves.
#
# :::{figure} ../figures/study/gate.png
# :label: fig-gate
# :alt: Maps of the gate in four stages at six moments; where events are, its value differs from where nothing happens.
# What the gates of one model have learnt, over the stop of {numref}`fig-stopping`: $g(u)$ of {eq}`eq-gate` at each position of the four stages. Where it is low
# (dark), the state is held; stage 2 does so nearly everywhere but at the moving object.
# :::
#
# *Along a row*, from the moving object (left) to the resting one: a stage that uses its gate for memory is bright where
# the object's events are and dark as soon as they cease, so that what was written while the object moved is not overwritten by noise afterwards.
# *Down a column*: not every stage does so. A stage of one brightness everywhere and at all times selects nothing: it has merely learnt other time
# constants, those of {numref}`tbl-trained-constants` divided by its $g$.
#
# With a gate of $g$ the time constant {eq}`eq-seconds` becomes
#
# $$ \tau_g = \frac{\tau}{g} , $$ (eq-held-seconds)
#
# so that a gate of 0.02 turns a time constant of half a second into 25 s. And because $\bar B$ has the factor $g$ as well, what comes in while
# the gate is low is hardly written: noise erases little and adds little.

# %%
#| label: tbl-gate
#| tbl-cap: >-
#|   A mode with $\tau = 0.5$ s after a second of rest, by the gate: the share of its state that is left, and the share of one noise frame that is written to it,
#|   relative to $g = 1$.
gates = pd.Series([1.0, 0.3, 0.1, 0.02], name="g")
step = 0.05 / 0.5  # ΔΛ of a step of 50 ms
pd.DataFrame(
    {
        "time constant (s)": 0.5 / gates,
        "left after 1 s": [math.exp(-g / 0.5) for g in gates],
        "written by a frame": [(1 - math.exp(-g * step)) / (1 - math.exp(-step)) for g in gates],
    }
).set_index(gates).round(3)

# %% [markdown]
# (sec-teaching)=
# ## How a memory of seconds is taught in half a second
#
# The study trains on chunks of $L = 10$ windows, 0.5 s, and yet selective S5 holds a car for one second to two. Two things make that possible.
#
# **Burn-in** shows them the situation. A random chunk that starts from zero never contains a car that has been resting for longer than the chunk:
# from the first to the last of its windows the car has no events, so that no weights whatever could detect it, and the loss teaches to ignore such
# labels. With {term}`burn-in` of up to 40 windows the state arrives filled with what happened in the two seconds before, and the label can be met.
#
# **Truncation** {eq}`eq-bptt` still cuts the gradient at the chunk's start. What is kept of the gradient of a decay is $1 - \bar\lambda^n$ after
# $n$ windows, {eq}`eq-share`: little for slow modes, but of the right sign, since the *value* of the state is the true one. And a gate needs no long gradient. Whether
# to hold or to overwrite is decided at this window, from this frame, and whether that was right shows at the labels of the same chunk.

# %%
#| label: tbl-teaching
#| tbl-cap: >-
#|   What a chunk of ten windows can teach about a mode: the share of the gradient of its decay that is kept, averaged over the places of the labels, with
#|   the state carried in and with the chunk from zero {eq}`eq-share`; and the share of the state from before the chunk that is left at its middle.
rows = {}
for seconds in (0.1, 0.5, 2.0, 10.0):
    decay = math.exp(-0.05 / seconds)
    places = range(1, 11)
    rows[f"{seconds:g} s"] = {
        "carried": sum(1 - decay**n for n in places) / 10,
        "from zero": sum(1 - decay ** (n - 1) * (1 + (n - 1) * (1 - decay)) for n in places) / 10,
        "left from before": decay**5,
    }
pd.DataFrame(rows).T.rename_axis("time constant").round(3)

# %% [markdown]
# The columns of gradients fall for slow modes, but the last one rises: what is to be remembered is *there*, to be read with a full gradient.
#
# (sec-longer)=
# ## Taught for longer
#
# The study's 600 steps are few. Some of its models after 2,000 and 8,000:

# %%
#| label: tbl-longer
#| tbl-cap: >-
#|   AP_common × 100 at 20 Hz after the study's 600 steps of training and after more, and the difference at other rates. Input sliding, state
#|   carried, as many seeds as the last column says.
answers.printed(answers.changes(answers.trained_longer(read_arms(study))))

# %%
#| label: tbl-longer-rest
#| tbl-cap: AP × 100 of the same models by seconds at rest, at 20 Hz.
answers.printed(answers.by_time_at_rest(answers.trained_longer(rest), metric="AP"))

# %% [markdown]
# With 2,000 steps selective S5 gains ten AP, and more on what rests: where an object has stood for one to two seconds AP is
# 41 and not 23, beyond two seconds 21 and not 7. The short memory of {numref}`tbl-rest` is one of short training.
# S5 gains twelve AP and next to none on what has rested for two seconds: that takes a gate. The answer of [chapter 9](09_rates.ipynb) holds: at
# 200 Hz S5 and selective S5 stay within an AP where their step follows, and lose 19 to 38 where it does not. Of three ConvLSTMs one got
# stuck (AP 1); the others lose 12 and 17 at 200 Hz as published and nothing with gates that follow, and the better one remembers as selective S5 does. At 5 Hz S5 and selective S5 lose
# more, for they have learnt windows that touch. After 8,000 steps (seed 0 alone: AP 60, not 61) what rests is detected worse again: 72 short drives are few.
#
# (sec-carries)=
# ## Exact and published carry, once more
#
# In a stream of windows the state of a mode at window $k$, carried exactly, and with
# chunks of $L$ windows from zero, is
#
# $$ x_k^{\mathrm{exact}} = \sum_{i \le k} \bar\lambda^{\,k-i}\, \bar b\, u_i , \qquad
#    x_k^{\mathrm{published}} = \sum_{i = L \lfloor k / L \rfloor}^{k} \bar\lambda^{\,k-i}\, \bar b\, u_i . $$ (eq-two-carries)
#
# The second has no terms from before its chunk, however slow the mode is. For a constant input the first fills to its level, and the second to a saw
# tooth that reaches $1 - \bar\lambda^L$ of it: a tenth of the level or less for modes of five seconds and more.


# %%
def carried_state(tau_s: float, moving: int, windows: int, chunk: int = 0) -> list[float]:
    """A mode's state under an input of 1 for ``moving`` windows and then 0; chunks of that length start from zero."""
    decay, x, states = math.exp(-0.05 / tau_s), 0.0, []
    for k in range(windows):
        if chunk and k % chunk == 0:
            x = 0.0
        x = decay * x + (1 - decay) * (k < moving)
        states.append(x)
    return states


level = {
    name: carried_state(2.0, moving=20, windows=80, chunk=chunk)
    for name, chunk in (("exact", 0), ("published", 10))
}
print(f"one second after the stop: exact {level['exact'][39]:.2f}, published {level['published'][39]:.2f}")

# %% tags=["hide-input"]
#| label: fig-carries
#| caption: >-
#|   The state of a mode of 2 s that sees an object for one second (grey) and then nothing, with exact carry and with chunks of ten windows from zero {eq}`eq-two-carries`. From zero
#|   nothing is left of the object half a second after it stopped, whatever the time constant is.
#| alt: One curve rises for a second and decays slowly over three more; a saw tooth rises within each half second, falls to zero at its end, and stays at zero after the object has stopped.
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.2))
_ = ax.axvspan(0, 1, color=plots.GREY, alpha=0.15, lw=0)
for name, look in (("exact", "-"), ("published", ":")):
    _ = ax.plot(
        [0.05 * (k + 1) for k in range(80)], level[name], look, color=plots.BLUE, label=f"{name} carry"
    )
_ = ax.set(xlabel="time (s)", ylabel="state, 1 when full")
_ = ax.legend(frameon=False)
_ = plots.save(fig, workspace.figures / "carries.png")

# %% [markdown]
# (sec-delay)=
# ## The layer by itself: the delay task
#
# In the detector the state-space layer is one part of many. Here it is taken out: no events, no pictures, only a task whose
# whole difficulty is that it is long.
#
# At every step the model says what its input was `delay` steps ago
# [@voelker2019; @gu2023train, on continuous copying]. The input is noise whose fastest wave turns once in `period` steps, so that the `delay` steps in
# between are
#
# $$ N_{\mathrm{held}} = \frac{2 \cdot \text{delay}}{\text{period}} $$ (eq-delay-numbers)
#
# numbers that nobody can guess, a real and an imaginary part for each frequency, and all must be held at all times. A model that always
# answers 0 has a mean squared error of 1. The sizes of this profile:

# %%
#| label: tbl-delay-sizes
#| tbl-cap: The delay task and its models in this profile.
pd.Series({name: f"{value:g}" for name, value in asdict(sizes).items()}, name=profile).to_frame()

# %% tags=["hide-input"]
#| label: fig-delay-task
#| caption: One sequence of the delay task, the input (grey) and the right answer (red), which is the same curve later.
#| alt: A smooth random curve, and the same curve shifted to the right by the delay.
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
# `S5Stack` is a linear encoder, residual layers around S5 (norm, S5, gated activation: `ssmbook.ssm.SequenceLayer`)
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

# %% tags=["hide-input"]
#| label: fig-delay-training
#| caption: Training on the delay task. Left, the loss; an answer of always 0 lies at the dashed line. Right, the time of a training step on this machine.
#| alt: Left two falling curves of loss on a logarithmic axis; right two bars.
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
# The error on sequences that neither has seen, and the median time of a training step. In the profile `smoke` the models train for ten
# steps at a tenth of the length, so that the table has the study's errors beside its own: there, after 250 steps over a delay of 500, the S5 stack
# has learnt the task, and the LSTM of the same size is still no better than an answer of always 0. Both were trained once, at one learning rate.

# %% tags=["nbval-ignore-output"]
#| label: tbl-delay
#| tbl-cap: The delay task. An error of 1 is that of always answering 0.
said = {name: run_in_chunks(model, u, sizes.length)[:, sizes.delay :] for name, model in models.items()}
table = pd.DataFrame(
    {
        "parameters": {name: parameter_count(model) for name, model in models.items()},
        "test error": {name: (y - target).square().mean().item() for name, y in said.items()},
        "ms per step": {name: log["ms"].median() for name, log in logs.items()},
    }
).rename_axis("model")
_ = write_table(workspace.tables / "long_range.csv", table, profile=profile)
committed = answers.read_if_there(study, "long_range.csv")
known = {profile: table}
if len(committed):
    known["study"] = committed.set_index("model")[["parameters", "test error"]]
pd.concat(known, axis=1).round(4)

# %% [markdown]
# ## What each remembers
#
# Above, the answers to one unseen sequence. Below, where each model looks: how strongly its last answer depends on
# each input before it. A model that has learnt the task looks back by the delay, at the dotted line. (In
# the `smoke` profile neither has: it trains for ten steps.)

# %%
looks = {}
for name, model in models.items():
    x = u.clone().requires_grad_()
    model(x)[0][:, -1].sum().backward()
    looks[name] = x.grad.abs().mean(0)[:, 0].flip(0)

# %% tags=["hide-input"]
#| label: fig-delay-memory
#| caption: >-
#|   Above, the answers to an unseen sequence. Below, the gradient of the last answer with respect to the inputs before it; the dotted line is the
#|   delay.
#| alt: Above a grey curve and two coloured ones; below two curves of sensitivity over steps ago, with a dotted vertical line.
fig, (above, below) = plt.subplots(2, 1, figsize=(plots.WIDTH_IN, 4.4))
_ = above.plot(
    range(sizes.delay, sizes.length), target[0], color="black", lw=3, alpha=0.3, label="right answer"
)
for name, y in said.items():
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
# ## Why the LSTM finds it hard
#
# An LSTM's cell is a sum that its forget gate scales, {eq}`eq-convlstm`. To hold a number for $d$ steps a gate must stay within about $1/d$ of 1. Along the cell, the
# gradient that reaches back over $d$ steps is the product of all gates in between [@hochreiter1997; @gers2000],
#
# $$ \frac{\partial c_k}{\partial c_{k-d}} = \prod_{i = k-d+1}^{k} f_i , $$ (eq-lstm-gradient)
#
# which at the start of training, with $f \approx \tfrac12$, is $2^{-d}$: there is nothing to learn from. A linear state-space layer starts with modes that last for twenty
# to two thousand steps, {eq}`eq-memory` and {eq}`eq-step-start`, so that its gradient reaches back from the first step of training on. That it cannot decide *what* to
# keep is no loss on this task, where everything must be kept. On the street it is one: that is what the gate is for ({numref}`sec-gate`), and it fits that two of three ConvLSTMs, whose
# gates can hold a car, beat every plain S5 on what has rested for more than half a second at 20 Hz ({numref}`tbl-rest`).

# %%
#| label: tbl-lstm-gradient
#| tbl-cap: The share of the gradient that reaches over the delay of this profile and of the study, by the forget gate {eq}`eq-lstm-gradient`, and by the time constant of a mode in steps.
delays = {profile: sizes.delay, "study": study.profile.long_range.delay}
reach = {f"forget gate {f:g}": {name: f**d for name, d in delays.items()} for f in (0.5, 0.9, 0.99, 0.999)}
reach |= {f"mode of {n} steps": {name: math.exp(-d / n) for name, d in delays.items()} for n in (100, 1000)}
pd.DataFrame(reach).T.rename(columns=lambda name: f"{delays[name]} steps").map("{:.1e}".format)

# %% [markdown]
# ## Longer than in training
#
# A stream goes on where the training sequences ended. Two things can go wrong there. A mode that training has led to $\mathrm{Re}\,\lambda > 0$
# grows, {eq}`eq-growth`, unseen in one sequence; the stack therefore holds its modes below zero (`clip_eigs`). And in training every sequence
# began from zero: what slow modes keep of anything older is new to the layers that read them. {term}`Burn-in` shows it to them. A second stack
# is trained after up to three lengths of past, which fill its state without gradient.

# %%
_ = torch.manual_seed(sizes.seed)
filled = S5Stack(sizes.width, sizes.state_width, sizes.depth)
_ = train_delay(filled, **task, **training, burn_in=3 * sizes.length, seed=sizes.seed)
streamed = {"S5": models["S5"], "S5, burn-in": filled, "LSTM": models["LSTM"]}
length = 10 * sizes.length
generator = torch.Generator().manual_seed(sizes.seed + 2)
u_long, target_long = delay_task(8, length, sizes.delay, sizes.period, generator)
error = {
    name: (run_in_chunks(model.float(), u_long, sizes.length)[:, sizes.delay :] - target_long)
    .square()
    .mean(0)
    for name, model in streamed.items()
}
every = sizes.delay // 10  # steps, of which the table has the mean
stream = pd.DataFrame({name: each.unflatten(0, (-1, every)).mean(1) for name, each in error.items()})
stream.index = pd.Index(sizes.delay + every * (1 + stream.index), name="step")
_ = write_table(workspace.tables / "long_range_stream.csv", stream, profile=profile)

# %% [markdown]
# In the profile `smoke` figure and table are the study's.

# %%
#| label: fig-delay-stream
#| caption: The error over a stream ten times as long as the sequences of training (dotted line), the state carried throughout.
#| alt: Three curves of error over the steps of a long stream; one rises after the dotted line, one stays low, one is high throughout.
committed = answers.read_if_there(study, "long_range_stream.csv")
if profile == "smoke" and len(committed):
    stream, sizes = committed.set_index("step"), study.profile.long_range
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.6))
for name, square in stream.rolling(10).mean().items():
    _ = ax.semilogy(square, color=colours.get(name, plots.GREEN), label=name)
_ = ax.axvline(sizes.length, color="black", ls=":", label="length in training")
_ = ax.set(xlabel="step", ylabel="mean squared error", title=f"means of {sizes.delay} steps")
_ = ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
_ = plots.save(fig, workspace.figures / "long_range_stream.png")

# %%
#| label: tbl-delay-stream
#| tbl-cap: Mean squared error in the first length of the stream, and in its second half.
parts = {"first length": stream.loc[: sizes.length], "second half": stream.loc[5 * sizes.length :]}
pd.DataFrame({name: part.mean() for name, part in parts.items()}).round(3)

# %% [markdown]
# The first stack is right for one length and then has six tenths of the error of always answering 0: nothing grows, yet little is left of what was learnt.
# With burn-in its error stays near a tenth of that, ten lengths long. The detector's burn-in has the same reason.
#
# ## What was learnt
#
# - A detector's memory is a few numbers at each position of each stage, {eq}`eq-state-size`; how long they last and how strongly
#   they reach the output follows from the weights, {eq}`eq-seconds` and {eq}`eq-echo`.
# - What rests causes no events; a detector knows it from its state or not at all, {numref}`tbl-rest`.
# - A gate on the step lets time stand still where nothing happens, {eq}`eq-gated-ode`, and leaves following the rate as it was.
# - Burn-in shows training the states that occur in use; truncation keeps the gradient of what is decided within a chunk.
# - A linear state can hold ten numbers over five hundred steps, {numref}`tbl-delay`; in chunks and step by step it gives the answers of one pass.
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
# :end-before: # %% ex-from-zero
# ```
# :::
#
# :::{exercise} From zero
# :label: ex-from-zero
# Up to which share of its level does a mode of 2 s fill in a chunk of ten windows that starts from zero, by {eq}`eq-two-carries`, and in one of 21? How long would a chunk have to be for nine
# tenths?
# :::
# :::{solution} ex-from-zero
# :class: dropdown
# ```{literalinclude} solutions/10_memory.py
# :start-after: # %% ex-from-zero
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
# [@orvieto2023]; the LSTM is [@hochreiter1997], its forget gate [@gers2000]; burn-in is [@kapturowski2019]. How the state is carried live, one window at a time, is shown in
# [chapter 11](11_live.ipynb).

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-memory)=
# # Long sequences: the layer by itself
#
# In the detector the state-space layer is one part of many, and a chunk is 10 or 21 windows long. This chapter
# takes the layer out: no events, no pictures, only a task whose whole difficulty is that it is long. It needs
# no download, and in the `demo` profile it takes about a minute.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %%
from dataclasses import asdict

import matplotlib.pyplot as plt
import pandas as pd
import torch

from ssmbook import plots
from ssmbook.study import Workspace, write_table
from ssmbook.study.long_range import LSTM, S5Stack, delay_task, parameter_count, run_in_chunks, train_delay

plots.style()
book = Workspace(profile, data_dir)
sizes = book.profile.long_range
colours = {"S5": plots.BLUE, "LSTM": plots.ORANGE}

# %%
pd.Series(asdict(sizes), name=profile).to_frame()

# %% [markdown]
# ## The delay task
#
# At every step the model says what its input was `delay` steps ago (Voelker et al. 2019; "continuous copying" in
# arXiv 2206.12037). The input is noise that turns at most once in `period` steps, so that the `delay` steps in
# between are 2 · delay / period numbers that nobody can guess, and all must be held at all times. Whoever always
# says 0 has a mean squared error of 1.

# %%
task = {"length": sizes.length, "delay": sizes.delay, "period": sizes.period}
u, target = delay_task(sizes.test_sequences, **task, generator=torch.Generator().manual_seed(sizes.seed + 1))
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.4))
_ = ax.plot(u[0], color=plots.GREY, label="input")
_ = ax.plot(range(sizes.delay, sizes.length), target[0], color=plots.RED, label="right answer")
_ = ax.set(xlabel="step", title=f"one sequence: the input, and what to say {sizes.delay} steps later")
_ = ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
_ = plots.save(fig, book.figures / "delay_task.png")

# %% [markdown]
# ## Two models of one size
#
# `S5Stack` is a linear encoder, residual layers around S5 (norm, S5, gated activation: `ssmbook.ssm.SequenceLayer`)
# and a linear decoder. It is linear in time: whatever is remembered passes through $\bar\Lambda$ alone, and all that is
# nonlinear happens within a step. `LSTM` is `torch.nn.LSTM` with the same decoder. The parameters of each:

# %%
_ = torch.manual_seed(sizes.seed)
models = {"S5": S5Stack(sizes.width, sizes.state_width, sizes.depth), "LSTM": LSTM(sizes.hidden)}
{name: parameter_count(model) for name, model in models.items()}

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
_ = plots.save(fig, book.figures / "long_range_training.png")

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
_ = write_table(book.tables / "long_range.csv", table, profile=profile)
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
_ = plots.save(fig, book.figures / "long_range_memory.png")

# %% [markdown]
# ## As a stream
#
# The stack need not see a sequence at once. Its state is `state_width` / 2 complex numbers a layer, whatever has gone
# before, and carrying it gives the answers of one long pass, in chunks of 17 steps and step by step:

# %%
stack, few = models["S5"].double(), u[:4].double()
whole = run_in_chunks(stack, few, sizes.length)
[bool(torch.allclose(run_in_chunks(stack, few, chunk), whole, rtol=0, atol=1e-8)) for chunk in (17, 1)]

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
_ = plots.save(fig, book.figures / "long_range_stream.png")

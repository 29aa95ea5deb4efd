# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-scaling)=
# # Scaling out
#
# How long do Gen1 and the 1 Mpx set take, from raw events to a score, on one node, on eight, on sixty-four? And what has to
# be right so that many machines compute what one would? This chapter answers the first question with a model whose
# assumptions are parameters of the chapter, and the second one by running each piece here, small.
#
# After it you can
#
# - preprocess a set on a Dask cluster, and say how long the slowest worker takes;
# - train on several GPUs and nodes with the loss of a single one, and set the learning rate for the batch;
# - share a study out to processes, a Dask cluster or a SLURM job array, and watch it;
# - submit a job under SLURM that goes on where it was stopped, and choose how often it saves;
# - estimate node-hours before you ask for them.
#
# Everything here is a matter of the pipeline and not of the model: whatever recurrence of [chapter 6](06_detector.ipynb) is
# trained, by the rules of [chapter 7](07_training.ipynb), the same counts apply.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
gpu_tflops: float = 19.5  # float32 peak of one GPU without TF32, in 10^12 a second; that of an A100
utilisation: float = 0.3  # share of the peak that training reaches; assumed, measure it on your GPU
gpus_per_node: int = 4  # GPUs of a node
cores_per_node: int = 32  # CPU cores of a node, for preprocessing
link_gb_per_s: float = 20.0  # between nodes, for the exchange of gradients; assumed

# %% tags=["hide-input"]
import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import torch

from ssmbook import plots
from ssmbook.cli import main
from ssmbook.dataset import find_sequences, preprocess
from ssmbook.drawings import scaling
from ssmbook.study import Workspace, get_profile, run_arms, sizes_table
from ssmbook.study.arms import MAIN
from ssmbook.study.forecast import Nodes, forecast
from ssmbook.study.profiles import main_arms
from ssmbook.study.sweep import status
from ssmbook.study.workspace import book_root
from ssmbook.training import learning_rate_for

plots.style()
workspace = Workspace(profile, data_dir)
measured = book_root() / "benchmarks" / "results"
print("GPU-seconds for 1 PFLOP by these parameters:", round(1e15 / (gpu_tflops * 1e12 * utilisation)))

# %% [markdown]
# ## What there is to do
#
# The sizes of the two sets are **quoted** from @detournemire2020 and @perot2020. How long a core takes for them is **measured**,
# by the committed benchmark of preprocessing, on generated recordings of the same density
# (`benchmarks/preprocess.py`). Everything else is computed from these. Where a recording's length matters it is a
# minute, as the names of Gen1's files say.

# %%
#| label: tbl-work
#| tbl-cap: The two sets, and preprocessing them on one core with windows of 50 ms.
benchmark = {r["sensor"]: r for r in json.loads((measured / "preprocess_cpu.json").read_text())["recordings"]}
hours = {"gen1": 39.32, "gen4": 14.65}  # quoted
work = pd.DataFrame({"hours of recording (quoted)": hours})
work["recordings of a minute"] = (60 * work.iloc[:, 0]).round().astype(int)
per_second = {s: b["programs"]["ours"]["seconds"] / b["seconds"] for s, b in benchmark.items()}
work["core-seconds a minute (measured)"] = [60 * per_second[s] for s in work.index]
work["core-hours"] = work.iloc[:, 0] * [per_second[s] for s in work.index]
megabytes = {s: b["programs"]["ours"]["written_mb"] / b["seconds"] for s, b in benchmark.items()}
grid_hz = {"gen1": 8, "gen4": 20}  # windows a second on the published grid, which the benchmark uses
work["GB written"] = [3.6 * hours[s] * megabytes[s] * 20 / grid_hz[s] for s in work.index]
work.rename_axis("set").round(1)

# %% [markdown]
# ## Independent pieces: preprocessing
#
# Recordings know nothing of each other, so that $m$ workers can take one each until none is left. The time until the
# last one is done cannot be shorter than the longest recording, nor than an equal share, and when the longest are
# given out first it is not much longer [@graham1969, on decreasing order]:
#
# $$ \max\Bigl(p_{\mathrm{max}},\; \frac1m \sum_i p_i\Bigr) \;\le\; T_m \;\le\; \Bigl(\frac43 - \frac{1}{3m}\Bigr)\, T_m^{*} , $$ (eq-makespan)
#
# with $T^*_m$ the best schedule there is. {numref}`fig-gantt` shows a small case.


# %%
def schedule(durations: np.ndarray, workers: int) -> list[list[float]]:
    """Durations by worker, the longest first to whoever has the least to do."""
    lanes: list[list[float]] = [[] for _ in range(workers)]
    for p in sorted(durations.tolist(), reverse=True):
        min(lanes, key=sum).append(p)
    return lanes


durations = np.random.default_rng(1).lognormal(0.5, 0.8, 14)
lanes = schedule(durations, 4)
makespan, bound = max(map(sum, lanes)), max(durations.max(), durations.sum() / 4)
print(f"four workers: done after {makespan:.2f}; no schedule is faster than {bound:.2f}")

# %% tags=["hide-input"]
#| label: fig-gantt
#| caption: "Fourteen recordings on four workers, longest first. Dashed: the lower bound of {eq}`eq-makespan`."
#| alt: Four rows of bars of different lengths that end at nearly the same time, shortly after a dashed line.
fig = scaling.gantt(lanes, bound)
_ = plots.save(fig, workspace.figures / "gantt.png")

# %% [markdown]
# Some of the work is not shared: starting processes, importing, reading the list of files. With a share $\sigma$ that
# stays serial, the speed-up by $m$ workers is [@amdahl1967]
#
# $$ S(m) = \frac{1}{\sigma + (1 - \sigma)/m} . $$ (eq-amdahl)
#
# The start of two processes takes a second or two in that benchmark. {numref}`fig-makespan` puts both together for the two
# sets.


# %%
def preprocessing_s(sensor: str, workers: int) -> float:
    """Seconds for a whole set on that many cores: the start, then minutes of recording, one a core."""
    minutes = int(work.loc[sensor, "recordings of a minute"])
    start = benchmark[sensor]["workers"]["start"]["2" if workers > 1 else "1"]
    return start + math.ceil(minutes / workers) * 60 * per_second[sensor]


table = pd.DataFrame(
    {
        f"{m} cores" if m > 1 else "1 core": {s: preprocessing_s(s, m) / 60 for s in hours}
        for m in (1, 8, 32, 256, 2048)
    }
)
table.rename_axis("minutes for the set").round(1)

# %% tags=["hide-input"]
#| label: fig-makespan
#| caption: "Speed-up of preprocessing over the number of cores. It ends where every core has one recording: {eq}`eq-makespan`, left term."
#| alt: Two curves along the diagonal that flatten, one at about nine hundred cores and one at about two thousand.
fig = scaling.speed_up(preprocessing_s, tuple(hours))
_ = plots.save(fig, workspace.figures / "makespan.png")
for sensor in hours:
    print(
        f"{sensor}: on 1,024 cores {preprocessing_s(sensor, 1) / preprocessing_s(sensor, 1024):.0f} times as fast as on one"
    )

# %% [markdown]
# On a cluster the workers are Dask's: `ssmbook preprocess RAW OUT --scheduler tcp://host:8786`, or the same call with
# a client in Python. A worker that is killed fails its recording and no other, and the same call made again makes only
# what is missing. Here is a cluster of two threads in this process, and a comparison with one process: the sets must
# be equal in every byte.

# %%
from distributed import Client

raw = workspace.raw()
with tempfile.TemporaryDirectory() as folder:
    alone, together = Path(folder) / "alone", Path(folder) / "together"
    options = {"sensor": workspace.sensor, "splits": ("val", "test"), "progress": False}
    one = preprocess(raw, alone, **options)
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        two = preprocess(raw, together, client=client, **options)
    frames = [
        {s.name: s.frames(0, len(s)) for split in ("val", "test") for s in find_sequences(out / split)}
        for out in (alone, together)
    ]
same = all(np.array_equal(frames[0][name], frames[1][name]) for name in frames[0])
print(f"{len(one.done)} sequences by one process, {len(two.done)} by the cluster; equal: {same}")

# %% [markdown]
# A worker needs little memory, and hardly more for a long recording than for a short one, since events are read in blocks and
# frames are written as they are done (the benchmark's peak is below 280 MB); a window with very many events adds theirs.
# What limits a node is more often its disk: {numref}`tbl-work` says how much is written. Two things keep such a run
# honest. A sequence appears under its name when it is whole, by one rename, so that a reader never sees half of one;
# and the folder carries the parameters that it was made with, so that a second run with another window refuses to mix
# with the first.
#
# ## One model, many GPUs
#
# In data-parallel training each of $W$ processes has the same weights and a share of the batch; gradients are
# averaged, and all take the same step. That gives the step of a single process with the whole batch only if the loss
# is a mean over the batch in which every share weighs alike. The detector's is not: it is a sum over foreground
# anchors, divided by their number ([chapter 6](06_detector.ipynb)), and that number differs from process to process. What must
# be computed is $\sum_r s_r / n$, with $s_r$ the sum of process $r$ and $n = \sum_r n_r$ all foreground anchors.
# Averaging the gradients of $s_r / n_r$ gives something else. Averaging those of $W s_r / n$ gives the right thing:
#
# $$ \frac1W \sum_{r=1}^{W} \nabla \frac{W s_r}{n} = \nabla\, \frac{\sum_r s_r}{n} . $$ (eq-ddp-loss)
#
# So each process has to know $n$, which is one number exchanged before the backward pass
# (`ssmbook.training.TrainingStep`). The example has two processes, one with a crowded street and one with an empty
# one.

# %%
anchors = {
    "process 1": torch.tensor([2.0, 3.0, 1.0, 2.0, 4.0, 3.0, 2.0, 3.0]),
    "process 2": torch.tensor([5.0]),
}
one_process = torch.cat(list(anchors.values())).mean().item()
n = sum(map(len, anchors.values()))
naive = np.mean([losses.mean().item() for losses in anchors.values()])
right = np.mean([(2 * losses.sum() / n).item() for losses in anchors.values()])
pd.Series(
    {"one process": one_process, "mean of the means": naive, "each sum · W / n": right}, name="loss"
).round(3).to_frame()

# %% [markdown]
# The same care is due wherever something is counted over a batch: a mean over labelled frames, a batch normalisation
# (whose means and variances are taken over all processes on GPUs), or average precision, which is not a mean over
# processes at all: the boxes of all processes are gathered and scored once ([chapter 8](08_evaluation.ipynb)).
#
# The test `tests/training/test_distributed.py` holds the whole detector to this: two processes end with the weights of
# one.
#
# Exchanging gradients costs time. In a ring, each of $W$ processes sends and receives [@patarasuk2009, on the lower bound]
#
# $$ t_{\mathrm{ring}} = \frac{2 (W - 1)}{W} \cdot \frac{4\,N}{\beta} $$ (eq-ring)
#
# with $N$ parameters of four bytes and a link of $\beta$ bytes a second, which is nearly independent of $W$. Set
# against that is the arithmetic. A forward pass of $F$ operations a frame makes about $3F$ with its backward pass, so
# a step of $b$ chunks of $L$ windows takes
#
# $$ t_{\mathrm{step}} = \frac{3\,F\,L\,b}{W \cdot \eta \cdot \text{peak}} + t_{\mathrm{ring}} , $$ (eq-step-time)
#
# at a utilisation $\eta$. $F$ is counted, not guessed:

# %%
sizes = sizes_table(["gen1-base", "gen4-base"], ["s5"]).set_index("preset")
step_table = pd.DataFrame(
    {
        "GFLOP a frame": sizes["GFLOP"],
        "parameters (M)": sizes["parameters"] / 1e6,
        "windows a step": sizes["L"] * sizes["batch"],
        "TFLOP a step": 3 * sizes["GFLOP"] * sizes["L"] * sizes["batch"] / 1e3,
    }
)
step_table["s on one GPU"] = step_table["TFLOP a step"] / (gpu_tflops * utilisation)
step_table["ms to exchange gradients, 8 GPUs"] = 2 * 7 / 8 * 4e3 * sizes["parameters"] / (link_gb_per_s * 1e9)
step_table.round(2)


# %%
def step_seconds(preset: str, gpus: int, batch: int) -> float:
    """A step with ``batch`` chunks on that many GPUs."""
    row = sizes.loc[preset]
    flop = 3e9 * row["GFLOP"] * row["L"] * batch
    exchange = 2 * (gpus - 1) / gpus * 4 * row["parameters"] / (link_gb_per_s * 1e9)
    return flop / (gpus * gpu_tflops * 1e12 * utilisation) + exchange


# %% tags=["hide-input"]
#| label: fig-step
#| caption: "Time of a step, {eq}`eq-step-time`. Solid: the published batch is shared. Dashed: two chunks a GPU, so that the batch grows."
#| alt: Solid lines fall with the number of GPUs until the published batch gives one chunk to each; dashed lines are flat.
fig = scaling.step_time(step_seconds, {"gen1-base": 8, "gen4-base": 12})
_ = plots.save(fig, workspace.figures / "step_time.png")
for preset, batch in (("gen1-base", 8), ("gen4-base", 12)):
    share = 1 - step_seconds(preset, 1, batch) / batch * 1 / step_seconds(preset, batch, batch)
    print(f"{preset}: with one chunk on each of {batch} GPUs, {share:.0%} of a step is exchange")

# %% [markdown]
# Where one process and many still differ is the order of additions, and with it the last bits of every number; over
# many steps such differences grow into other weights of the same quality, as another seed gives them. A run with a
# given number of processes repeats itself, and so does the order of its data: which chunk is in which batch follows
# from the seed and the step alone, whatever the number of workers that read ahead.
#
# ## More GPUs than chunks
#
# The published batch on Gen1 has eight chunks, half of them streams, so at most four processes can share it, with one
# random chunk and one stream each. (One chunk a GPU, as far as {numref}`fig-step` goes, needs another sampling.) More GPUs need a larger batch, and a larger batch another learning rate. The rule
# of the released code and of this library is the square root,
#
# $$ \text{lr}(b) = 2 \cdot 10^{-4} \sqrt{b / 8} , $$ (eq-sqrt-rule)
#
# which suits AdamW [@malladi2022]: where noise dominates the gradient, a step is as long as the learning rate, whatever $b$, so that over
# as many chunks, which are $1/b$ as many steps, noise adds the same variance to a weight; and the mean of $b$ chunks, $\sqrt b$ times clearer,
# moves it as far. How well that holds far from eight is not known for this network.

# %%
rows = []
for nodes in (1, 2, 8, 64):
    batch = max(8, 2 * nodes * gpus_per_node)
    rows.append(
        (nodes, nodes * gpus_per_node, batch, f"{learning_rate_for(batch):.1e}", round(400_000 * 8 / batch))
    )
pd.DataFrame(rows, columns=["nodes", "GPUs", "batch", "learning rate", "steps for as many chunks"]).set_index(
    "nodes"
)

# %% [markdown]
# ## Feeding them
#
# A GPU that takes $t_{\mathrm{step}}$ for its share reads $L b / (W t_{\mathrm{step}})$ windows a second. How many of Gen1's size one process of the loader
# gives was measured by its benchmark; beside it is what a GPU needs:

# %%
loader = {
    r["where"] + (", augmented" if r["augment"] else ""): r["ours"]
    for r in json.loads((measured / "loader_cpu.json").read_text())["rows"]
}
need = {p: sizes.loc[p, "L"] * 2 / step_seconds(p, 8, 16) for p in sizes.index}
feeding = pd.Series(
    {
        **{f"loader, {k} (measured)": v for k, v in loader.items()},
        **{f"a GPU training {k} needs": v for k, v in need.items()},
    }
)
feeding.round(0).astype(int).rename("windows a second").to_frame()

# %% [markdown]
# One worker process feeds a GPU that trains on Gen1 three times over; what remains is the file system. By {numref}`tbl-work`, at 20 windows a
# second, a window of Gen1 takes some 25 kB on disk and one of 1 Mpx some 130 kB, so that 64 GPUs read a quarter to
# half a gigabyte a second together. A parallel file system gives that; its metadata may be the limit, for a set is more
# than ten thousand small files. [Pack it, and unpack it on each node](../pages/using.md).
#
# ## Evaluation
#
# A stream is sequential: with the state carried, window $j$ needs the state after window $j - 1$. Evaluation is
# parallel over recordings and no further, so its time is at least that of the longest recording,
#
# $$ T \ge \max_i n_i \cdot t_{\mathrm{window}} , $$ (eq-stream-bound)
#
# with $n_i$ windows of recording $i$. A minute at 20 Hz has 1,200, at 200 Hz 12,000. All recordings of a split can run
# side by side in one batch, which is what fills a GPU here. (Published carry cuts recordings into chunks and could
# share those too, at the price of the memory.)
#
# ## Many runs
#
# The cheapest way to use many GPUs is not to share a run at all. A study trains several models with several seeds, and
# these know nothing of each other: eight variants with three seeds are twenty-four jobs of one GPU each, with the
# published batch, the published learning rate, and no exchange of gradients. By {eq}`eq-step-time` this is also the only
# arrangement that loses nothing: sharing a run buys time to the first result, not results per GPU-hour. Share one when
# the first result is urgent, or when a chunk does not fit into one GPU; otherwise run seeds side by side, which a
# comparison needs in any case ([chapter 7](07_training.ipynb)).
#
# `ssmbook sweep` shares a profile's models out, one at a time, each with all of its evaluations:
#
# ```bash
# ssmbook sweep study --workers 8                                      # processes of this machine
# ssmbook sweep study --executor dask --scheduler tcp://node1:8786     # a Dask cluster, e.g. dask-jobqueue's
# export SBATCH_PARTITION=gpu SBATCH_TIMELIMIT=24:00:00
# ssmbook sweep gen1-base --data-dir "$data" --executor slurm          # a job array, a task for each model
# ssmbook sweep gen1-base --data-dir "$data" --status --watch          # which are done, where the others run, how far
# ```
#
# All processes share one data folder, and each model has a lock in it: a file that its holder touches every
# hundred seconds. On the holder's machine the lock is free as soon as its process is dead; elsewhere, when it has not been
# touched for five minutes. So a node that dies costs no more than what its model has not saved, the same command again does
# what is missing, and it may be given on several machines at once. Where the disk is not shared, each machine has a folder of its own, and
# `--collect FOLDER …` makes the tables of all of them.
#
# The experiment itself is a file of a few lines. This one has two variants, one seed and two rates: two models,
# four rows.

# %%
experiment = """
base: smoke
seeds: [0]
training: {steps: 2, validate_every: 2}
arms:
  - {variant: s5, mode: sliding, follow: true, rates_hz: [20, 40]}
  - {variant: none, mode: sliding, rates_hz: [20, 40]}
"""
temporary = tempfile.TemporaryDirectory()
smoke = Workspace("smoke", data_dir if profile == "smoke" else "")
shared = {"raw": smoke.raw(), "sets": smoke.preprocessed().parent}  # simulated once, for all three
places = {way: Path(temporary.name) / way for way in ("sweep", "papermill", "JupyterLab")}
for place in places.values():
    (place / "data" / "mine").mkdir(parents=True)
    (place / "myst.yml").touch()  # a book of its own, in which the tables lie
    (place / "mine.yaml").write_text(experiment)
    for name, folder in shared.items():
        (place / "data" / "mine" / name).symlink_to(folder.resolve())

# %% [markdown]
# It is run in three ways. First as a sweep by two processes, as one would on a cluster; `main` is what the shell's
# `ssmbook` calls:

# %%
with contextlib.chdir(places["sweep"]):
    with contextlib.redirect_stdout(io.StringIO()):
        main(["sweep", "mine.yaml", "--device", "cpu", "--workers", "2"])
    table = status(Workspace("mine.yaml"))
table[["unit", "state", "step", "steps", "cells", "of"]].set_index("unit")

# %% [markdown]
# Then by papermill, as a notebook whose parameters cell names the file. Any chapter is run so
# (`ssmbook reproduce 09 --profile mine.yaml` does it for [chapter 9](09_rates.ipynb)); here it is a notebook of two cells.

# %%
cell = nbformat.v4.new_code_cell
notebook = nbformat.v4.new_notebook(
    cells=[
        cell('profile: str = "smoke"', metadata={"tags": ["parameters"]}),
        cell(
            "from ssmbook.study import Workspace, run_arms\n"
            'run_arms(Workspace(profile), device="cpu", progress=False)'
        ),
    ]
)
place = places["papermill"]
nbformat.write(notebook, place / "mine.ipynb")
words = ["mine.ipynb", "done.ipynb", "-k", "python3", "--language", "python", "-p", "profile", "mine.yaml"]
_ = subprocess.run([sys.executable, "-m", "papermill", *words], cwd=place, check=True, capture_output=True)

# %% [markdown]
# And here, as in JupyterLab, where the second of these cells is run by hand:

# %%
with contextlib.chdir(places["JupyterLab"]):
    run_arms(Workspace("mine.yaml"), device="cpu", progress=False)
csv = {way: (place / "data" / "tables" / "mine" / "rates.csv").read_text() for way, place in places.items()}
print(csv["sweep"].count("\n") - 1, "rows; equal:", len(set(csv.values())) == 1)
temporary.cleanup()

# %% [markdown]
# What two processes gain over one on one machine of two cores is **measured** by `benchmarks/scaling.py`, each command
# from its start to its end. By {eq}`eq-amdahl`, importing and starting are the serial share. A sweep should have least of
# it, for its processes start once and then need nothing of each other; a training of 60 steps most, for its second
# process is started by the first, when that has imported everything.

# %% tags=["nbval-ignore-output"]
#| label: tbl-processes
#| tbl-cap: Preprocessing, one training run and a sweep, by one process and by two, of one thread each. Measured.
if (measured / "scaling_cpu.json").exists():
    rows = pd.DataFrame(json.loads((measured / "scaling_cpu.json").read_text())["rows"])
    processes = rows.pivot(index="part", columns="processes", values="seconds").loc[
        list(rows["part"].unique())
    ]
    processes.columns = [f"s by {n}" for n in processes.columns]
    processes["times as fast"] = rows[rows["processes"] == 2].set_index("part")["times"]
    shown = processes.round(2)
else:
    shown = "not measured here yet: python benchmarks/scaling.py"
shown

# %% [markdown]
# ## SLURM, and being stopped
#
# The script of the examples trains on two nodes; `srun` starts one process a GPU, and Lightning's Fabric finds the
# others from SLURM's variables.
#
# ```{literalinclude} ../examples/slurm.sh
# :language: bash
# ```
#
# A job ends at its limit. Two minutes before, SLURM sends SIGTERM; the run saves its state, with the place in the data
# and the generators, and ends. Submitted again it goes on with the very next batch, and the weights at the end are
# those of an uninterrupted run (`tests/training/test_train.py` stops one and compares, bit for bit on a CPU).
#
# Nodes also fail without a word. What is lost then is the time since the last saved state, half an interval on
# average. With a cost $C$ of saving and a mean time $M$ between failures, the best interval is [@young1974]
#
# $$ T_{\mathrm{opt}} = \sqrt{2\,C\,M} , \qquad \text{lost share} \approx \frac{C}{T} + \frac{T}{2M} . $$ (eq-young)


# %%
def lost_share(interval_s: np.ndarray | float, cost_s: float, between_h: float) -> np.ndarray | float:
    """What saving and failures cost together, as a share of the time."""
    return cost_s / interval_s + interval_s / (2 * 3600 * between_h)


cost_s = 1.0  # to write about 220 MB: weights and two moments of 18 M parameters
rows = []
for nodes in (1, 8, 64):
    between_h = 24 * 365 / nodes  # a failure a node and year, assumed
    best = math.sqrt(2 * cost_s * 3600 * between_h)
    rows.append((nodes, between_h, best / 60, 100 * lost_share(best, cost_s, between_h)))
pd.DataFrame(rows, columns=["nodes", "hours between failures", "best interval (min)", "lost (%)"]).set_index(
    "nodes"
).round(2)

# %% tags=["hide-input"]
#| label: fig-young
#| caption: "What saving and failures cost over the interval between saved states, {eq}`eq-young`; the dots are its minimum."
#| alt: Three curves, each falling to a minimum and rising again, with the minimum further left for more nodes.
fig = scaling.lost(lost_share, cost_s, nodes=(1, 8, 64))
_ = plots.save(fig, workspace.figures / "young.png")
every = get_profile("gen1-base").training.save_every
print(
    f"saved every {every:,} steps, that is every {every * step_seconds('gen1-base', 4, 8) / 60:.0f} minutes on four GPUs"
)

# %% [markdown]
# ## One node, eight, sixty-four
#
# All together for one network, with the parameters at the top of the chapter. Training keeps the number of chunks; two are
# on a GPU at any time (three for 1 Mpx on one node, whose published batch is twelve). Evaluation is one pass over the test
# split (an eighth of the recordings, assumed) at 20 Hz, batched, by {eq}`eq-step-time` without its backward part.


# %%
#| label: tbl-nodes
#| tbl-cap: Hours for each set on 1, 8 and 64 nodes. Computed from the assumptions of this chapter, not measured.
def hours_for(sensor: str, nodes: int) -> dict[str, float]:
    """Preprocessing, training and evaluation in hours."""
    preset, gpus = f"{sensor}-base", nodes * gpus_per_node
    row = sizes.loc[preset]
    batch = max(int(row["batch"]), 2 * gpus)
    steps = 400_000 * row["batch"] / batch
    windows = hours[sensor] / 8 * 3600 * 20
    minutes_each = math.ceil(windows / 1200 / gpus)
    evaluation = minutes_each * 1200 * row["GFLOP"] * 1e9 / (gpu_tflops * 1e12 * utilisation)
    return {
        "preprocessing": preprocessing_s(sensor, nodes * cores_per_node) / 3600,
        "training": steps * step_seconds(preset, gpus, batch) / 3600,
        "evaluation": evaluation / 3600,
    }


everything = pd.DataFrame({(s, nodes): hours_for(s, nodes) for s in hours for nodes in (1, 8, 64)}).T
everything["node-hours"] = everything.sum(axis=1) * everything.index.get_level_values(1)
everything.rename_axis(["set", "nodes"]).round(2)

# %% tags=["hide-input"]
#| label: fig-nodes
#| caption: "Hours by part, from {numref}`tbl-nodes`. Training is nearly all of it and shares nearly perfectly; preprocessing ends with its longest recording."
#| alt: Grouped bars on a logarithmic axis; training bars are far higher than those of preprocessing and evaluation and fall with the number of nodes.
fig = scaling.node_hours(everything)
_ = plots.save(fig, workspace.figures / "nodes.png")

# %% [markdown]
# In a study each of many models has a GPU of its own. {numref}`tbl-study-nodes` is for a study of the four networks of
# the book's main table, with three seeds each, at 5 to 200 Hz, as `ssmbook sweep PROFILE --dry-run` computes it: with the
# files of a set it counts their windows and bytes, without them it uses the published lengths, as here. Twelve models
# keep three nodes of four GPUs busy; of sixty-four nodes the others are idle.

# %%
#| label: tbl-study-nodes
#| tbl-cap: Twelve models on 1, 8 and 64 nodes. Computed from published lengths and the assumptions of this chapter, not measured.
assumed = Nodes(gpus_per_node, cores_per_node, gpu_tflops, utilisation)
arms = tuple(arm for variant in MAIN for arm in main_arms(variant, "sliding"))
studies, memory = {}, {}
for name in ("gen1-base", "gen4-base"):
    found = forecast(Workspace(replace(get_profile(name), arms=arms, seeds=(0, 1, 2))), nodes=assumed)
    studies[name], memory[name] = found.table, (found.gpu_gb, found.disk_gb, found.size.raw_gb)
pd.concat(studies, names=["profile"]).round(1)

# %% [markdown]
# Each GPU needs memory for weights, gradients, two moments, and the activations of a batch, which are counted on a chunk
# of one and of two windows:

# %%
pd.DataFrame(memory, index=["GB of each GPU", "GB of sets and runs", "GB raw"]).T.round(0).astype(int)

# %% [markdown]
# These tables are as good as their assumptions, and the utilisation matters most. At 0.3 of the float32 peak the
# published training of the base network takes a node of four GPUs a day or two. Measure yours before you ask for
# hours: `python benchmarks/gpu.py` times a training step, and `utilisation` is a parameter of this chapter. What no
# parameter covers is whether the network learns as well with a batch sixty-four times as large; the rows of 64 nodes
# in {numref}`tbl-nodes` say how long it would take, not what would come out.
#
# ## What was learnt
#
# - Preprocessing and evaluation are parallel over recordings and end with the longest.
# - Data-parallel training needs the number of foreground anchors of all processes in each loss {eq}`eq-ddp-loss`.
# - The exchange of gradients is small for a network of this size; the batch is what limits the number of GPUs.
# - A run that is stopped goes on as if it had not been.
# - Models of a study share nothing but a folder: they are the pieces to give to nodes.
#
# ## Exercises
#
# :::{exercise} Longest first is not best
# :label: ex-lpt
# Find durations for two workers on which the rule of `schedule` is not optimal. By how much does {eq}`eq-makespan`
# allow it to be off?
# :::
# :::{solution} ex-lpt
# :class: dropdown
# ```{literalinclude} solutions/12_scaling.py
# :start-after: # %% ex-lpt
# :end-before: # %% ex-mean
# ```
# :::
#
# :::{exercise} The mean of means
# :label: ex-mean
# Show with autograd that averaging the gradients of $s_r/n_r$ differs from the gradient of the whole, and that
# {eq}`eq-ddp-loss` does not.
# :::
# :::{solution} ex-mean
# :class: dropdown
# ```{literalinclude} solutions/12_scaling.py
# :start-after: # %% ex-mean
# :end-before: # %% ex-serial
# ```
# :::
#
# :::{exercise} The serial share
# :label: ex-serial
# Let two workers be 1.28 times as fast as one on sixteen recordings. By {eq}`eq-amdahl`, which share is serial, and how
# fast can any number of workers be?
# :::
# :::{solution} ex-serial
# :class: dropdown
# ```{literalinclude} solutions/12_scaling.py
# :start-after: # %% ex-serial
# :end-before: # %% ex-interval
# ```
# :::
#
# :::{exercise} Save less often
# :label: ex-interval
# Saving takes 20 s on a slow file system and 64 nodes fail once a year each. What does saving every minute cost, and
# what the best interval?
# :::
# :::{solution} ex-interval
# :class: dropdown
# ```{literalinclude} solutions/12_scaling.py
# :start-after: # %% ex-interval
# ```
# :::
#
# ## Further reading
#
# Bounds for list scheduling are due to @graham1969, the limit of shared work to @amdahl1967, the ring to
# @patarasuk2009, the interval of saving to @young1974. @malladi2022 derive learning rates for large
# batches. The data sets are @detournemire2020 and @perot2020.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-evaluation)=
# # Evaluation
#
# A detector says where it believes objects to be, and how sure it is. How good that is, every table of the field says
# in one number: COCO's average precision under the Prophesee protocol. To compare two such numbers one has to know what
# they count and what they leave out. This chapter builds the number from its definitions, in forty lines that give the
# same as the library, and then asks what it hides.
#
# After it you can
#
# - compute intersection over union, precision, recall and AP by hand, and say what each threshold forgives;
# - apply the protocol, and know which boxes it never looks at;
# - break a score down by class, size and time at rest, and score a detector at the moment when its boxes are known;
# - evaluate a released checkpoint and know which figure to expect.
#
# It evaluates what [chapter 7](07_training.ipynb) has trained. For a checkpoint of yours, or a released one, two lines do the
# same:
#
# ```
# ssmbook evaluate gen1_base.ckpt --data /path/to/gen1
# papermill notebooks/08_evaluation.ipynb out.ipynb -p profile gen1-base -p data_dir /path/to/gen1 -p checkpoint gen1_base.ckpt
# ```

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, study, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default
representation: str = ""  # traces, mixeddensity_stack or stacked_histogram; the profile's by default
checkpoint: str = ""  # a released checkpoint, or one of yours; the profile's trained detectors by default
score: str = ""  # what ranks detections: product or class; ours by product, released ones by class by default
logger: str = "csv"  # where the metrics of training runs go besides metrics.csv: tensorboard or wandb

# %% tags=["hide-input"]
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ssmbook import plots
from ssmbook.drawings import evaluation as drawings
from ssmbook.evaluation import ap_by_rest, ap_by_size, evaluate_boxes, score_boxes, time_at_rest
from ssmbook.evaluation.average_precision import RECALL
from ssmbook.evaluation.protocol import prophesee_filter
from ssmbook.events import BOX_DTYPE
from ssmbook.events.simulate import DEMO_SCENE, SimulatedSequence
from ssmbook.study import (
    Workspace,
    answers,
    ap_by_precision,
    evaluate_checkpoint,
    in_words,
    read_arms,
    score_table,
    write_table,
)

plots.style()
workspace = Workspace(profile, data_dir, representation=representation, logger=logger)
sensor = workspace.sensor

# %% [markdown]
# ## Intersection over union
#
# How well does a box $a$ fit a box $b$? By the share of their common area in the area that either covers [@lin2014],
#
# $$ \mathrm{IoU}(a, b) = \frac{|a \cap b|}{|a \cup b|} = \frac{|a \cap b|}{|a| + |b| - |a \cap b|} , $$ (eq-iou)
#
# which is 1 for equal boxes, 0 for disjoint ones, and does not depend on the unit of length.


# %%
def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes x, y, w, h: [..., 4] and [..., 4] → [...]."""
    width = np.minimum(a[..., 0] + a[..., 2], b[..., 0] + b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 1] + a[..., 3], b[..., 1] + b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    return shared / (a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - shared)


# %% [markdown]
# A box of the right size that lies a share $d$ of its width to the side has
#
# $$ \mathrm{IoU} = \frac{1 - d}{1 + d} , $$ (eq-iou-shift)
#
# so that a shift by a third of the width already brings it down to a half, and 0.95 allows a 39th of the width: less
# than a pixel for any object narrower than 39 pixels.

# %%
box = np.array([0.0, 0.0, 30.0, 20.0])
shifts = np.array([0.0, 1 / 39, 1 / 19, 1 / 7, 1 / 3, 0.6])
measured = [float(iou(box, box + np.array([d * 30, 0, 0, 0]))) for d in shifts]
pd.DataFrame({"shift / width": shifts, "IoU": measured, "formula": (1 - shifts) / (1 + shifts)}).round(3)

# %% tags=["hide-input"]
#| label: fig-iou
#| caption: "What an IoU looks like: a box (black), and boxes shifted to the side by {eq}`eq-iou-shift` (blue) or too large by the same measure (orange)."
#| alt: Four panels with a black rectangle and a blue and an orange one, at IoU 0.95, 0.75, 0.5 and 0.25; the rectangles drift apart.
fig = drawings.iou_panels((0.95, 0.75, 0.5, 0.25))
_ = plots.save(fig, workspace.figures / "iou.png")

# %% [markdown]
# ## Right, wrong, missed
#
# Fix a threshold, say IoU 0.5. In each labelled frame, and for each class by itself, detections take turns in falling
# order of their score. Each takes the free box that it overlaps most, if that overlap reaches the threshold; then it
# is *right* and the box is taken. Otherwise it is *wrong*: a box that is detected twice counts one right and one wrong.
# Boxes that nobody takes are *missed*. Among the detections above some score, let $r$ be right and $w$ wrong, and let
# there be $g$ boxes to find:
#
# $$ \text{precision} = \frac{r}{r + w}, \qquad \text{recall} = \frac{r}{g} . $$ (eq-precision-recall)


# %%
def judge(truth: np.ndarray, found: np.ndarray, threshold: float) -> np.ndarray:
    """Which detections of one frame and class are right. Boxes: structured arrays with x, y, w, h."""
    corners = [np.stack([b[key] for key in "xywh"], -1).astype(float) for b in (truth, found)]
    free, right = np.ones(len(truth), bool), np.zeros(len(found), bool)
    for d in np.argsort(-found["class_confidence"], kind="stable"):
        overlaps = np.where(free, iou(corners[0], corners[1][d]), -1) if len(truth) else np.zeros(0)
        if len(overlaps) and overlaps.max() >= threshold:
            free[overlaps.argmax()], right[d] = False, True
    return right


# %% [markdown]
# An example with numbers. Two cars, five detections:

# %%
cars = drawings.boxes_of([(10, 10, 30, 20), (60, 12, 28, 20)])
five = drawings.boxes_of(
    [(11, 10, 30, 20), (60, 16, 28, 20), (12, 11, 30, 20), (90, 5, 20, 20), (61, 13, 28, 20)],
    scores=(0.9, 0.8, 0.7, 0.6, 0.5),
)
example = pd.DataFrame(
    {
        "score": five["class_confidence"].round(1),
        "right at 0.5": judge(cars, five, 0.5),
        "right at 0.75": judge(cars, five, 0.75),
    }
)
for t in (0.5, 0.75):
    right = example[f"right at {t}"].cumsum()
    example[f"precision at {t}"] = right / np.arange(1, 6)
    example[f"recall at {t}"] = right / 2
example.round(2)

# %% [markdown]
# The second detection sits 4 pixels too low. At 0.75 it is wrong, and the fifth one, with the lowest score, is right
# in its place; at 0.5 it has taken the box, and the fifth is wrong. Which detection is right depends on the threshold,
# on the order, and on the others.
#
# ## Average precision
#
# Lower the score at which one stops, and recall rises while precision mostly falls. AP is the area under that curve,
# made monotone and read at 101 places [@lin2014], as `pycocotools` does:
#
# $$ p(\rho) = \max_{\text{recall} \ge \rho} \text{precision}, \qquad
#    \mathrm{AP}_t = \frac{1}{101} \sum_{i=0}^{100} p\Bigl(\frac{i}{100}\Bigr) , $$ (eq-ap-threshold)
#
# where a recall that is never reached counts with 0. The number in tables is the mean over ten thresholds and all
# classes,
#
# $$ \mathrm{AP} = \frac{1}{|\mathcal{C}|} \sum_{c \in \mathcal{C}} \frac{1}{10} \sum_{t = 0.50, 0.55, \dots, 0.95} \mathrm{AP}_t(c) . $$ (eq-ap)


# %%
def average_precision(truth: list[np.ndarray], found: list[np.ndarray], classes: int) -> float:
    """AP by its definition: lists of boxes, one array for each frame."""
    values = []
    for c in range(classes):
        of_class = [(t[t["class_id"] == c], f[f["class_id"] == c]) for t, f in zip(truth, found, strict=True)]
        count = sum(len(t) for t, _ in of_class)
        if not count:
            continue
        scores = np.concatenate([f["class_confidence"] for _, f in of_class])
        order = np.argsort(-scores, kind="stable")
        for threshold in np.linspace(0.5, 0.95, 10):
            right = np.concatenate([judge(t, f, threshold) for t, f in of_class])[order].cumsum()
            recall, precision = right / count, right / np.arange(1, len(right) + 1)
            best = np.maximum.accumulate(precision[::-1])[::-1]
            values.append(
                np.mean([best[recall >= r][0] if (recall >= r).any() else 0 for r in np.linspace(0, 1, 101)])
            )
    return float(np.mean(values))


# %% [markdown]
# To try it, a detector is needed whose faults are known. This one is *made*: it knows the boxes of the simulated test
# set and spoils them. It misses small objects and those that have been at rest for long, places boxes with an error,
# and invents some. No number that it gets is a result; it is here because the smoke profile's own detectors have
# learnt next to nothing.

# %%
streams = workspace.streams("test")
labelled = [
    (boxes, batch.sequences[int(slot)])
    for batch in streams
    for boxes, slot in zip(batch.labels, batch.frames[:, 1], strict=True)
]
truth, sequences = [boxes for boxes, _ in labelled], [name for _, name in labelled]
rest = time_at_rest(truth, sequences)
made = drawings.made_detector(truth, rest, sensor, seed=0)
counted = [prophesee_filter(boxes, sensor) for boxes in truth]
print(
    f"{len(truth)} labelled frames with {sum(map(len, truth))} boxes; the made detector gives {sum(map(len, made))}"
)

# %% [markdown]
# The definition against the library, on the boxes that count in the protocol (below):

# %%
kept = [i for i, boxes in enumerate(counted) if len(boxes)]
ours = average_precision(
    [counted[i] for i in kept], [prophesee_filter(made[i], sensor) for i in kept], len(sensor.classes)
)
library = evaluate_boxes(truth, made, sensor, *sensor.frame_size)
print(
    f"AP × 100: forty lines {100 * ours:.3f}, library {100 * library['AP']:.3f}; equal: {abs(ours - library['AP']) < 1e-9}"
)

# %% tags=["hide-input"]
#| label: fig-pr
#| caption: "Precision over recall of the made detector at three thresholds, as {eq}`eq-ap-threshold` reads it. The area under a curve is its AP."
#| alt: Three staircase curves that start at precision one and fall; the higher the threshold the earlier they end.
scores = score_boxes(truth, made, sensor)
busiest = int(np.bincount(np.concatenate(counted)["class_id"]).argmax())
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.7))
for t, colour in ((0.5, plots.BLUE), (0.75, plots.ORANGE), (0.9, plots.RED)):
    _ = ax.plot(RECALL, scores.curve(busiest, t), color=colour, label=f"IoU {t:g}")
    print(f"{sensor.classes[busiest]}, IoU {t:g}: AP × 100 = {100 * scores.curve(busiest, t).mean():.1f}")
_ = ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
_ = ax.legend(frameon=False)
_ = plots.save(fig, workspace.figures / "pr.png")

# %% [markdown]
# Four properties follow from the definition. Only the *order* of scores matters: squaring them changes nothing. A
# wrong detection with a low score costs little, one with a high score much. A duplicate is a wrong detection. And the
# mean over thresholds is strict about position: a shift by a tenth of the width, IoU 0.82, loses the three thresholds
# above that, and with them 30 of 100.


# %%
def squared(frames: list[np.ndarray]) -> list[np.ndarray]:
    """The same boxes with other scores in the same order."""
    out = [boxes.copy() for boxes in frames]
    for boxes in out:
        boxes["class_confidence"] **= 2
    return out


moved = [boxes.copy() for boxes in truth]
for boxes in moved:
    boxes["x"] += 0.1 * boxes["w"]
twice = [np.concatenate([boxes, boxes]).astype(BOX_DTYPE) for boxes in truth]
variants = {
    "ground truth against itself": truth,
    "made detector": made,
    "made, scores squared": squared(made),
    "truth, a tenth to the side": moved,
    "truth, each box twice": twice,
}
rows = {name: evaluate_boxes(truth, frames, sensor, *sensor.frame_size) for name, frames in variants.items()}
(100 * pd.DataFrame(rows).T[["AP", "AP_50", "AP_75"]]).round(1)

# %% [markdown]
# ## The protocol
#
# @detournemire2020 and @perot2020 score only labelled frames, and not all boxes in them. A box or detection counts
# if
#
# $$ t > 0.5\ \text{s}, \qquad \sqrt{w^2 + h^2} \ge d_{\mathrm{min}}, \qquad \min(w, h) \ge s_{\mathrm{min}} , $$ (eq-filter)
#
# with $d_{\mathrm{min}} = 30$ and $s_{\mathrm{min}} = 10$ pixels on Gen1, 60 and 20 on 1 Mpx (halved where its frames are), and in
# proportion on the simulated sensors here. Frames without a box that counts are not looked at, whatever is detected in
# them. {numref}`fig-protocol` shows what that leaves out of this test set.

# %% tags=["hide-input"]
#| label: fig-protocol
#| caption: "Boxes of the test set by width and height. Grey ones do not count: too early, too small in the diagonal (arc) or in a side (lines), {eq}`eq-filter`."
#| alt: A scatter of box sizes; grey points lie near the origin below an arc and two lines.
fig = drawings.protocol_scatter(truth, sensor)
_ = plots.save(fig, workspace.figures / "protocol.png")
every = np.concatenate(truth)
early = every["t"] <= sensor.eval_skip_us
small = len(every) - len(prophesee_filter(every, sensor)) - early.sum()
print(
    f"of {len(every)} boxes {early.sum()} are too early, {small} more too small; {len(prophesee_filter(every, sensor))} count"
)

# %% [markdown]
# A check worth making with any evaluator is the first row of the table above: ground truth against itself must give 100.
# The toolbox that came with the data sets was reported to give 0 on 1 Mpx, because of its default tolerance in time:
# an error of the evaluator that looks like one of the detector. Sequences run as streams, their state carried from
# chunk to chunk, and each labelled frame is scored once.
#
# ## The detectors of this profile
#
# A state-space model is evaluated with both carries: `exact` hands the state from chunk to chunk, `published` starts each from zero
# ([chapter 13](13_released_code.ipynb)). The tables are written with their provenance. Scores of the smoke profile, whose networks
# have seen a dozen batches, are not shown, since they are not results; the committed pages show those of the study
# instead, whose simulated streets are described in [chapter 10](10_memory.ipynb).

# %%
files = (
    {Path(checkpoint).stem: checkpoint}
    if checkpoint
    else {n: workspace.train(n) for n in workspace.profile.variants[:4]}
)
camera = "" if checkpoint else sensor
results = {}
for name, file in files.items():
    found = evaluate_checkpoint(file, workspace.preprocessed(), sensor=camera, score=score, progress=False)
    results |= {(name, carry): result for carry, result in found.items()}
table = score_table(results)
table.index.names = ["model", "carry"]
given = {"profile": profile, "checkpoint": checkpoint, "score": score or "by checkpoint"}
_ = write_table(workspace.tables / "evaluation.csv", table, **given)
print(f"{len(results)} evaluations:", *(f"{name}, {carry} carry" for name, carry in results), sep="\n  ")

# %%
#| label: tbl-evaluation
#| tbl-cap: AP × 100 at 20 Hz by the protocol, ranked by the product score. On these pages the study's models, means over the seeds.
study = Workspace("study")
drawings.shown(table, answers.at_training_rate(read_arms(study)), profile)

# %% [markdown]
# ## What ranks
#
# The head gives an objectness and a score for each class, and YOLOX [@ge2021yolox] ranks by their product; the
# released evaluation of S5-ViT ranks by the class score alone. `score` chooses: `product` is the default for this
# book's networks, `class` for released ones, whose published figures rank so. What it can cost is shown in
# [chapter 13](13_released_code.ipynb).
#
# ## What lower precision costs
#
# All figures are in float32 without TF32. `ssmbook evaluate --precision bf16`, or `fp16`, computes products and
# convolutions in 16 bits and leaves weights, scan and losses in float32. The same weights in each, on the validation split, on which
# one would choose:

# %%
#| label: tbl-precision
#| tbl-cap: AP × 100 on the validation split in each precision. On these pages of the study's selective S5, one seed.
first = next(iter(files))
options = {"split": "val", "sensor": camera, "score": score, "progress": False}
costs = ap_by_precision(files[first], workspace.preprocessed(), **options)
_ = write_table(workspace.tables / "precision.csv", costs, **given)
of_study = (
    answers.read_if_there(study, "precision.csv").set_index("precision").dropna(axis="columns", how="all")
)
drawings.shown(costs, of_study, profile)

# %% [markdown]
# The differences in {numref}`tbl-precision` are less than a tenth of those between two seeds: the state is summed up in float32, and
# what is rounded before it averages out. What it saves in time `ssmbook time` measures on your machine.
#
# ## Size, class, and time at rest
#
# One number hides what is missed. COCO's size classes ($< 32^2$, $< 96^2$ pixels, above) fit photographs; on an event
# camera of 304 × 240 pixels nearly all is small or medium, so this book uses the diagonal in steps of its own. More
# telling here is a kind that photographs do not have: how long an object has been at rest. Let $c_i$ be the centre of
# its box at its label $i$, at time $t_i$. It has moved when it is a pixel or more from where it was when it last moved,
# at label $m_{i-1}$; its first label counts as moving:
#
# $$ m_i = \begin{cases} i & \lVert c_i - c_{m_{i-1}} \rVert \ge 1\ \text{px} \\ m_{i-1} & \text{otherwise} \end{cases} , \qquad
#    \tau_i = t_i - t_{m_i} . $$ (eq-rest)
#
# An object with $\tau = 0$ causes events; one with $\tau = 2$ s has caused none for two seconds, and only a state
# knows of it. The AP of a kind ignores the boxes of other kinds, but not detections that match nothing, so a rare kind
# has a lower AP for that alone: compare models within a kind, not kinds with each other.

# %%
by_rest = ap_by_rest(drawings.as_evaluation(truth, made, sequences, sensor), [0, 0.1, 0.3, np.inf])
by_rest.set_index(["from", "to"]).round(2)

# %% tags=["hide-input"]
#| label: fig-kinds
#| caption: "AP50 of the made detector by the diagonal of boxes and by their time at rest. It was made to miss small and resting objects, and the breakdown finds that."
#| alt: Two bar charts; bars rise with size and fall with time at rest.
result = drawings.as_evaluation(truth, made, sequences, sensor)
edges = [float(np.hypot(*sensor.frame_size)) * share for share in (0, 0.1, 0.2, 0.3, 1)]
fig = drawings.kinds(ap_by_size(result, edges), by_rest)
_ = plots.save(fig, workspace.figures / "kinds.png")
by_class = {name: f"{100 * value:.1f}" for name, value in result.scores.per_class.items() if value >= 0}
print("AP × 100 by class:", in_words(by_class))

# %% [markdown]
# The same breakdown of trained detectors. Read it down a column: what a model loses from `exact` to `published` carry
# is what its state is worth for objects that have been at rest for so long.

# %%
#| label: tbl-kinds
#| tbl-cap: AP50 × 100 by seconds at rest. On these pages the study's models at 20 Hz, means over the seeds.
kinds = {
    f"{n}, {c}": ap_by_rest(r, [0, 0.1, 0.3, np.inf]).set_index(["from", "to"])["AP_50"]
    for (n, c), r in results.items()
}
kinds_table = pd.DataFrame(kinds).where(lambda v: v >= 0) * 100
_ = write_table(workspace.tables / "kinds.csv", kinds_table, **given)
drawings.shown(kinds_table, answers.by_time_at_rest(read_arms(study, "rest.csv")), profile)

# %% [markdown]
# ## How sure is the number?
#
# A test set is a sample, and a score on it has an error of its own beside that of the seed. An estimate that needs no
# theory is the bootstrap [@efron1979]: draw as many units from the test set as it has, with replacement, score them,
# and repeat. The spread of the scores,
#
# $$ \widehat{\mathrm{se}} = \sqrt{\frac{1}{R - 1} \sum_{r=1}^{R} \bigl( \mathrm{AP}^{(r)} - \overline{\mathrm{AP}} \bigr)^2 } , $$ (eq-bootstrap)
#
# estimates the standard error. The unit should be what is independent: recordings, not frames, since the frames of one
# recording show the same cars. With the few recordings of the smoke profile only frames can be drawn, which makes the
# error look smaller than it is.

# %%
rng = np.random.default_rng(0)
drawn = []
for _ in range(40):
    picks = rng.integers(len(truth), size=len(truth))
    drawn.append(
        100
        * evaluate_boxes([truth[i] for i in picks], [made[i] for i in picks], sensor, *sensor.frame_size)[
            "AP"
        ]
    )
bootstrap = {
    "AP × 100": 100 * library["AP"],
    "standard error": float(np.std(drawn, ddof=1)),
    "frames": len(truth),
    "recordings": len(set(sequences)),
}
pd.Series(bootstrap, name="made detector").round(1).to_frame()

# %% [markdown]
# The error falls with the square root of the number of units. Before two detectors are said to differ, their
# difference should be set against its own error, from draws of the same recordings for both, and against the range
# over seeds ([chapter 7](07_training.ipynb)); few papers print either.
#
# Two more things are worth remembering when a table is read. The mean is over classes and not over boxes, so that the
# pedestrians of Gen1, a ninth of its boxes (228,123 cars and 27,658 pedestrians, **quoted** [@detournemire2020]), make
# half of its score. And AP does not ask whether scores mean anything: a detector whose 0.3 is right nine times in ten
# and one whose 0.9 is right three times in ten can have the same AP. Whoever acts on a single detection needs a
# threshold, and has to choose it on the validation split.
#
# ## When is it known?
#
# AP compares a frame's boxes with what was there at the end of its window, as if they were known at once and as if
# nothing were asked between frames. @li2020 ask at any moment $t$ what is known by then: the newest boxes
# whose computation has ended,
#
# $$ \hat{b}(t) = b_{j(t)}, \qquad j(t) = \max\{\, j : e_j + \text{latency} \le t \,\} , $$ (eq-streaming)
#
# with $e_j$ the end of window $j$, and score those against the objects at $t$. A perfect detector then loses, too: by the
# time its boxes are out the car is elsewhere. How much, depends on the rate, on the latency, and on how fast things
# move. The simulator knows every box at every moment, so the price of staleness can be computed without any detector.
# Rate and latency are set independently here, as if steps could overlap; where one machine computes them in turn, the
# rate ends at one over the time of a step, and boxes queue beyond, {eq}`eq-ready`.

# %%
drive = SimulatedSequence(DEMO_SCENE, seed=3)
moments = np.arange(600_000, 2_900_000, 7_000)  # every 7 ms, which divides no stride


@cache
def boxes_at(t_us: int) -> np.ndarray:
    """The objects of the drive at a time."""
    return drive.street.boxes_at(t_us)


def known_boxes(rate_hz: float, latency_ms: float) -> list[np.ndarray]:
    """What a perfect detector's screen shows at each moment."""
    stride = 1e6 / rate_hz
    steps = np.floor((moments - 1000 * latency_ms) / stride)
    out = []
    for t, step in zip(moments, steps, strict=True):
        boxes = boxes_at(int(step * stride)).copy()
        boxes["t"] = t
        boxes["class_confidence"] = 1
        out.append(boxes)
    return out


there = [boxes_at(int(t)) for t in moments]
rates, latencies = (5, 10, 20, 50, 100, 200), (0, 10, 25, 50)
camera_sensor = drawings.demo_sensor()
perfect = pd.DataFrame(
    {
        f"{lat} ms": [100 * evaluate_boxes(there, known_boxes(r, lat), camera_sensor)["AP"] for r in rates]
        for lat in latencies
    },
    index=pd.Index([f"{r} Hz" for r in rates], name="AP × 100 at a latency of"),
)
perfect.round(1)

# %% tags=["hide-input"]
#| label: fig-streaming
#| caption: "Streaming AP of a perfect detector over its rate, for four latencies, on one simulated drive. What it lacks to 100 is staleness alone."
#| alt: Four rising curves that flatten beyond 50 Hz; longer latencies lie lower.
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.7))
for name, colour in zip(perfect.columns, (plots.BLUE, plots.GREEN, plots.ORANGE, plots.RED), strict=True):
    _ = ax.semilogx(rates, perfect[name], "o-", color=colour, label=f"latency {name}")
_ = ax.set_xticks(rates, [str(r) for r in rates])
_ = ax.minorticks_off()
_ = ax.set(xlabel="rate (Hz)", ylabel="streaming AP × 100")
_ = ax.legend(frameon=False)
_ = plots.save(fig, workspace.figures / "streaming.png")
print(
    f"from 20 to 200 Hz without latency: {perfect.loc['20 Hz', '0 ms']:.1f} to {perfect.loc['200 Hz', '0 ms']:.1f}"
)

# %% [markdown]
# This is what a higher rate is good for, and the only measure of this chapter in which it can win: AP at the labels is
# the same for a perfect detector at every rate. [Chapter 11](11_live.ipynb) says which latency a machine has, and [chapter 9](09_rates.ipynb) scores
# trained detectors so.
#
# ## Released checkpoints, and what to expect
#
# `ssmbook download checkpoints` fetches the released networks, `ssmbook evaluate` scores them. Figures below are **quoted**,
# on the test splits.
#
# | network | set | setting | mAP | source |
# |---|---|---|---|---|
# | S5-ViT-B | Gen1 | as published: `--carry published --score class` | 47.7 | [@zubic2024, Table 1] |
# | the same, evaluated by others | Gen1 | as published | 47.72 (AP50 75.28, car 63.88, pedestrian 31.56) | [@replication2026] |
# | S5-ViT-B | 1 Mpx | as published | 47.8 | [@zubic2024, Table 1] |
# | S5-ViT-S | Gen1 / 1 Mpx | as published | 46.6 / 46.5 | [@zubic2024, Table 1] |
# | RVT-B | Gen1 / 1 Mpx | `--carry exact --score class` | 47.2 / 47.4 | [@gehrig2023rvt] |
#
# For S5-ViT the row `published` of your output should come near these and the row `exact` need not: the network was
# trained and selected with chunks that start from zero. Before you compare, look at the line that `ssmbook evaluate`
# prints about the set: windows every 125 ms are another test than windows every 50 ms ([chapter 13](13_released_code.ipynb)).
#
# ## What was learnt
#
# - AP is the mean of precisions at 101 recalls, ten overlaps and all classes; only the order of scores matters.
# - The protocol leaves out the first half second, small boxes, and frames that have no others.
# - A breakdown by time at rest asks what a memory is for; COCO's size classes do not.
# - Streaming AP charges for what AP passes over: the time until a box is known.
#
# ## Exercises
#
# :::{exercise} How far may a box be off?
# :label: ex-off
# A car of 40 × 20 pixels. How many pixels to the side does IoU 0.5 forgive, how many 0.75 and 0.95? And if the box is
# also a tenth too wide and high, with the same centre?
# :::
# :::{solution} ex-off
# :class: dropdown
# ```{literalinclude} solutions/08_evaluation.py
# :start-after: # %% ex-off
# :end-before: # %% ex-order
# ```
# :::
#
# :::{exercise} Only the order
# :label: ex-order
# Show with `evaluate_boxes` that any strictly increasing function of the scores leaves AP as it is, and that rounding
# them to one digit need not.
# :::
# :::{solution} ex-order
# :class: dropdown
# ```{literalinclude} solutions/08_evaluation.py
# :start-after: # %% ex-order
# :end-before: # %% ex-false
# ```
# :::
#
# :::{exercise} The price of a false alarm
# :label: ex-false
# Ten boxes, all detected with score 0.9. Add one false alarm, with score 0.95 and with score 0.5. What is AP50 in either
# case?
# :::
# :::{solution} ex-false
# :class: dropdown
# ```{literalinclude} solutions/08_evaluation.py
# :start-after: # %% ex-false
# :end-before: # %% ex-stale
# ```
# :::
#
# :::{exercise} Stale boxes
# :label: ex-stale
# A car of 40 pixels width crosses at 200 pixels a second. How old may a perfect box be until its IoU is below 0.5, and
# how old below 0.75? Which rate keeps it always above 0.75 at a latency of 10 ms?
# :::
# :::{solution} ex-stale
# :class: dropdown
# ```{literalinclude} solutions/08_evaluation.py
# :start-after: # %% ex-stale
# ```
# :::
#
# ## Further reading
#
# AP in this form is COCO's [@lin2014]; the protocol for event cameras is that of @detournemire2020 and @perot2020.
# Streaming perception is @li2020. The scores of the field are collected by [@zubic2024, Table 1].

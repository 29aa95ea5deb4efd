"""Evaluation of a detector over streams of frames, its state carried along, by the Prophesee protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from ssmbook.allocation import memory_kept
from ssmbook.dataset import Batch, EvaluationStreams, Sensor, get_sensor
from ssmbook.detector import Detector, nms, reset_states
from ssmbook.detector.precision import autocast, exact_float32
from ssmbook.detector.recurrences import get_recurrence
from ssmbook.errors import InputError
from ssmbook.evaluation.interventions import Intervention, run_steps
from ssmbook.evaluation.protocol import Scores, score_boxes
from ssmbook.events import BOX_DTYPE
from ssmbook.progress import progress_bar

SCORES = ("product", "class")


def to_boxes(
    detections: Sequence[torch.Tensor | np.ndarray], t_us: Sequence[int] | np.ndarray, score: str = "product"
) -> list[np.ndarray]:
    """Detections as the boxes of the raw files, one array per frame.

    Args:
        detections: per frame ``[K, 7]``: x1, y1, x2, y2, objectness, class score, class, as ``nms`` gives.
        t_us: the time of each frame in µs.
        score: what becomes ``class_confidence``, by which AP ranks: ``"product"`` is objectness times
            class score; ``"class"`` is the class score alone, as the published code ranks.

    Returns:
        One array of ``BOX_DTYPE`` per frame.
    """
    _check_score(score)
    if len(detections) != len(t_us):
        raise InputError(f"{len(detections)} frames of detections, but {len(t_us)} times")
    frames = []
    for rows, t in zip(detections, t_us, strict=True):
        values = torch.as_tensor(rows).detach().to("cpu", torch.float32).numpy()
        if values.size and (values.ndim != 2 or values.shape[1] != 7):
            raise InputError(f"detections of a frame must be [K, 7], not {list(values.shape)}")
        x1, y1, x2, y2, objectness, class_score, class_id = values.reshape(-1, 7).T
        boxes = np.zeros(len(x1), dtype=BOX_DTYPE)
        boxes["t"] = t
        boxes["x"], boxes["y"], boxes["w"], boxes["h"] = x1, y1, x2 - x1, y2 - y1
        boxes["class_id"] = class_id
        boxes["class_confidence"] = objectness * class_score if score == "product" else class_score
        frames.append(boxes)
    return frames


def _check_score(score: str) -> None:
    if score not in SCORES:
        raise InputError(f"score is {score!r}; it can be 'product' or 'class'")


class Steps(NamedTuple):
    """Detections in the windows of one sequence: times_us [K], where the windows end; boxes: K arrays."""

    times_us: np.ndarray
    boxes: list[np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """What a streaming evaluation detected, one array of boxes per labelled frame, and the score of all.

    Frames are in the order of their sequences' names and of time, however they were dealt to batches.
    """

    scores: Scores
    ground_truth: list[np.ndarray]
    detections: list[np.ndarray]
    sequences: list[str]  # the name of each frame's sequence
    height: int  # of the frames
    width: int
    sensor: Sensor
    score: str = "product"  # what ranked the detections, see ``to_boxes``
    steps: dict[str, Steps] = field(default_factory=dict)  # by sequence: of all frames, labelled or not
    other: list[np.ndarray] = field(
        default_factory=list
    )  # of each frame's detections: the score not ranked by

    @property
    def metrics(self) -> dict[str, float]:
        """``AP`` and its kin in 0..1, as ``evaluate_boxes`` gives them."""
        return self.scores.metrics

    def ranked_by(self, score: str) -> Evaluation:
        """The same detections ranked by another score, see ``to_boxes``, without running the network again.

        It has no ``steps``.
        """
        _check_score(score)
        if score == self.score:
            return self
        if len(self.other) != len(self.detections):
            raise InputError(f"this evaluation holds one score alone; evaluate with score={score!r}")
        detections = [boxes.copy() for boxes in self.detections]
        for boxes, confidence in zip(detections, self.other, strict=True):
            boxes["class_confidence"] = confidence
        scores = score_boxes(self.ground_truth, detections, self.sensor, self.sensor.downsample)
        own = [boxes["class_confidence"] for boxes in self.detections]
        return replace(self, scores=scores, detections=detections, score=score, steps={}, other=own)


class StreamingEvaluator:
    """Runs a detector over a stream of chunks, its state carried from one to the next, and scores it.

    Args:
        model: with ``carry="published"`` every chunk starts from zero, whatever is carried to it.
        sensor: whose protocol; its ``downsample`` says whether frames are at half size.
        step_scale: time between windows in units of that in training (S5's Δ is multiplied by it).
        trained_us: time between windows in training, in µs. Where it is given, step_scale follows the data instead:
            each step is as long as the time since the window before it, whatever the grid, and over gaps.
        confidence, iou: of the non-maximum suppression.
        score: what ranks detections, see ``to_boxes``.
        intervene: what changes input and state of each step, the outermost first, see ``interventions``; batches are
            then those of ``every_window``.

    Raises:
        InputError: another step_scale than 1, or trained_us, with a recurrence that has no time scale.
    """

    def __init__(
        self,
        model: Detector,
        sensor: str | Sensor,
        *,
        step_scale: float = 1.0,
        trained_us: float | None = None,
        confidence: float = 0.001,
        iou: float = 0.45,
        score: str = "product",
        intervene: Sequence[Intervention] = (),
    ) -> None:
        self.model, self.sensor = model, get_sensor(sensor)
        recurrence = model.config["recurrence"]
        if (step_scale != 1 or trained_us is not None) and not get_recurrence(recurrence).has_time_scale:
            raise InputError(
                f"recurrence {recurrence!r} has no time scale and cannot follow a rate; evaluate it at step_scale 1"
            )
        self.step_scale, self.trained_us = step_scale, trained_us
        self.confidence, self.iou, self.score = confidence, iou, score
        self.intervene = tuple(intervene)
        self.states: list | None = None
        self.height = self.width = 0
        self.frames: list[_Frame] = []

    @torch.no_grad()
    def push(self, batch: Batch) -> list[np.ndarray]:
        """Detect in one chunk; returns the boxes of its labelled frames. The model must be in eval mode."""
        self.height, self.width = batch.x.shape[-2:]
        states = reset_states(self.states, batch.first)
        scale = self.step_scale if self.trained_us is None else batch.step_scale(self.trained_us)
        if self.intervene:
            features, self.states = run_steps(self.model, batch, states, scale, self.intervene)
        else:
            features, self.states = self.model.features(batch.x, states, scale, frames=batch.frames)
        if len(batch.frames) == 0:
            return []
        rows = [r.cpu().numpy() for r in nms(self.model.predict(features), self.confidence, self.iou)]
        times = batch.times_us.tolist()
        boxes = to_boxes(rows, times, self.score)
        product = self.score == "product"
        other = [r[:, 5].copy() if product else r[:, 4] * r[:, 5] for r in rows]
        names = [batch.sequences[slot] for slot in batch.frames[:, 1].tolist()]
        self.frames += map(_Frame, names, times, batch.labels, boxes, other)
        return boxes

    def result(self) -> Evaluation:
        """The score of all that was pushed."""
        return self._score([(self.frames, (self.height, self.width))])

    def gather(self) -> Evaluation:
        """The score of all that was pushed in any process: of all boxes at once, not a mean of scores."""
        own = self.frames, (self.height, self.width)
        if not dist.is_initialized():
            return self._score([own])
        parts: list = [None] * dist.get_world_size()
        dist.all_gather_object(parts, own)
        return self._score(parts)

    def _score(self, parts: list[tuple[list[_Frame], tuple[int, int]]]) -> Evaluation:
        # A frame that several processes saw counts once.
        by_time = {(f.sequence, f.t_us): f for frames, _ in parts for f in frames}
        frames = [by_time[key] for key in sorted(by_time)]
        labelled = [f for f in frames if len(f.truth)]
        if not labelled:
            raise InputError("no labelled frame was evaluated: the split is empty")
        names, _, truth, detected, other = map(list, zip(*labelled, strict=True))
        height, width = max(size for _, size in parts)
        scores = score_boxes(truth, detected, self.sensor, self.sensor.downsample)
        steps = {}
        for name, group in groupby(frames, key=lambda f: f.sequence):
            _, times, _, boxes, _ = zip(*group, strict=True)
            steps[name] = Steps(np.array(times, np.int64), list(boxes))
        return Evaluation(
            scores, truth, detected, names, height, width, self.sensor, self.score, steps, other
        )


class _Frame(NamedTuple):
    """One frame that was detected in; ``truth`` is empty where it has no label."""

    sequence: str
    t_us: int
    truth: np.ndarray
    detected: np.ndarray
    other: np.ndarray  # [K], the score that does not rank


def every_window(streams: EvaluationStreams) -> Iterator[Batch]:
    """The batches of streams with all windows as frames to detect in, at the times at which they end.

    ``labels`` are empty arrays where a window has no label.
    """
    nothing = np.zeros(0, BOX_DTYPE)
    for step, batch in enumerate(streams):
        ends = {
            (i, slot): int(t)
            for slot, key in enumerate(streams.keys(step))
            if key is not None
            for i, t in enumerate(streams.sequences[key.sequence].timestamps_us[key.start : key.stop])
        }
        frames = sorted(ends)
        labels = dict(zip(map(tuple, batch.frames.tolist()), batch.labels, strict=True))
        yield batch._replace(
            frames=torch.tensor(frames, dtype=torch.int64),
            times_us=torch.tensor([ends[frame] for frame in frames], dtype=torch.int64),
            labels=[labels.get(frame, nothing) for frame in frames],
        )


@contextmanager
def _eval_mode(model: Detector) -> Iterator[None]:
    """The model in eval mode; after that, each of its modules is in its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def evaluate(
    model: Detector,
    batches: EvaluationStreams | Iterable[Batch],
    sensor: str | Sensor,
    *,
    step_scale: float = 1.0,
    trained_us: float | None = None,
    score: str = "product",
    every_step: bool = False,
    intervene: Sequence[Intervention] = (),
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    progress: str | None = None,
) -> Evaluation:
    """Streaming evaluation of one model over one split: ``StreamingEvaluator`` over all ``batches``.

    Args:
        model: runs in eval mode, and is left in the mode that it was in.
        batches: ``EvaluationStreams``; ``batch.first`` says which slots start a new sequence.
        step_scale, trained_us, score, intervene: see ``StreamingEvaluator``.
        every_step: detect in every window, not in labelled ones alone; AP is of the labelled ones as ever, and
            ``Evaluation.steps`` has all. Needs ``EvaluationStreams``; so it is, too, where something intervenes.
        device: where the model runs.
        precision: what products are computed in: ``"fp32"``, ``"bf16"`` or ``"fp16"``; the weights stay float32.
            fp32 is without TF32, from then on in the whole process, see ``exact_float32``.
        progress: the label of a progress bar; none without.
    """
    evaluator = StreamingEvaluator(
        model.to(device),
        sensor,
        step_scale=step_scale,
        trained_us=trained_us,
        score=score,
        intervene=intervene,
    )
    total = len(batches) if isinstance(batches, Sized) else None
    if every_step or intervene:
        if not isinstance(batches, EvaluationStreams):
            raise InputError(f"every_step needs EvaluationStreams, not a {type(batches).__name__}")
        batches = every_window(batches)
    bar = progress_bar(
        batches, desc=progress, unit="chunk", show=progress is not None, leave=False, total=total
    )
    if precision == "fp32":
        exact_float32()
    with memory_kept(), _eval_mode(model):
        for batch in bar:
            with autocast(torch.device(device), precision):
                evaluator.push(batch.to(device))
    return evaluator.result()

"""The Prophesee protocol: box filters, then COCO's average precision, over streams of frames.

Source: the evaluation of the Gen1 and 1 Mpx automotive detection sets, as the event-camera detectors
report it. Only labelled frames count; what the filters leave is scored by pycocotools.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssmbook.dataset import Batch, Sensor, get_sensor
from ssmbook.detector import Detector, nms, reset_states
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE
from ssmbook.progress import progress_bar

METRICS = ("AP", "AP_50", "AP_75", "AP_S", "AP_M", "AP_L")


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
    if score not in ("product", "class"):
        raise InputError(f"score is {score!r}; it can be 'product' or 'class'")
    if len(detections) != len(t_us):
        raise InputError(f"{len(detections)} frames of detections, but {len(t_us)} times")
    frames = []
    for rows, t in zip(detections, t_us, strict=True):
        x1, y1, x2, y2, objectness, class_score, class_id = (
            np.asarray(rows, dtype=np.float32).reshape(-1, 7).T
        )
        boxes = np.zeros(len(x1), dtype=BOX_DTYPE)
        boxes["t"] = t
        boxes["x"], boxes["y"], boxes["w"], boxes["h"] = x1, y1, x2 - x1, y2 - y1
        boxes["class_id"] = class_id
        boxes["class_confidence"] = objectness * class_score if score == "product" else class_score
        frames.append(boxes)
    return frames


def prophesee_filter(boxes: np.ndarray, sensor: Sensor, downsampled: bool = False) -> np.ndarray:
    """The boxes that count: later than the first half second, and not too small.

    ``t > sensor.skip_us``, ``w² + h² ≥ diagonal²``, ``w ≥ side`` and ``h ≥ side``; the lengths are halved
    when the frames are the sensor's at half size.
    """
    scale = 0.5 if downsampled else 1.0
    diagonal, side = scale * sensor.eval_min_diagonal, scale * sensor.eval_min_side
    w, h = boxes["w"], boxes["h"]
    keep = (boxes["t"] > sensor.eval_skip_us) & (w**2 + h**2 >= diagonal**2) & (w >= side) & (h >= side)
    return boxes[keep]


def evaluate_boxes(
    ground_truth: Sequence[np.ndarray],
    detections: Sequence[np.ndarray],
    sensor: str | Sensor = "gen1",
    height: int = 240,
    width: int = 304,
    downsampled: bool = False,
) -> dict[str, float]:
    """Average precision of detections by the Prophesee protocol.

    Args:
        ground_truth, detections: one array of ``BOX_DTYPE`` per labelled frame, in the same order;
            detections are ranked by ``class_confidence``.
        sensor: its classes and evaluation filters.
        height, width: of the evaluated frame in pixels.
        downsampled: the frame is the sensor's at half size, so the filters are halved.

    Returns:
        ``AP`` (over IoU 0.50:0.05:0.95), ``AP_50``, ``AP_75`` and ``AP_S``, ``AP_M``, ``AP_L`` (COCO's size
        classes) in 0..1; −1 where no ground truth is left to score, as COCO has it.
    """
    sensor = get_sensor(sensor)
    if len(ground_truth) != len(detections):
        raise InputError(f"{len(ground_truth)} frames of ground truth, but {len(detections)} of detections")
    images: list[dict] = []
    annotations: list[dict] = []
    results: list[dict] = []
    for truth, found in zip(ground_truth, detections, strict=True):
        truth = prophesee_filter(truth, sensor, downsampled)
        if len(truth) == 0:  # a frame without a box to find is not counted, whatever is detected in it
            continue
        image_id = len(images) + 1
        images.append({"id": image_id, "height": height, "width": width})
        # COCO takes an annotation with id 0 for "not matched": ids start at 1.
        annotations += [
            {**row, "id": len(annotations) + i, "iscrowd": 0}
            for i, row in enumerate(_coco_rows(truth, image_id), 1)
        ]
        found = prophesee_filter(found, sensor, downsampled)
        scores = found["class_confidence"].tolist()
        results += [{**row, "score": s} for row, s in zip(_coco_rows(found, image_id), scores, strict=True)]
    if not annotations:
        return dict.fromkeys(METRICS, -1.0)
    categories = [{"id": i, "name": name} for i, name in enumerate(sensor.classes, 1)]
    return _coco_metrics({"images": images, "annotations": annotations, "categories": categories}, results)


def _coco_rows(boxes: np.ndarray, image_id: int) -> list[dict]:
    x, y, w, h = (boxes[name].astype(np.float64) for name in "xywh")
    xywh = np.stack([x, y, w, h], axis=1).tolist()
    return [
        {"image_id": image_id, "category_id": int(c) + 1, "bbox": box, "area": box[2] * box[3]}
        for box, c in zip(xywh, boxes["class_id"], strict=True)
    ]


def _coco_metrics(dataset: dict, results: list[dict]) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports to stdout
        truth = COCO()
        truth.dataset = {"info": {}, **dataset}
        truth.createIndex()
        found = COCO()
        for i, row in enumerate(results, 1):
            row.update(id=i, iscrowd=0)
        found.dataset = {"info": {}, **dataset, "annotations": results}
        found.createIndex()
        scorer = COCOeval(truth, found, "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return dict(zip(METRICS, (float(s) for s in scorer.stats[:6]), strict=True))


@dataclass(frozen=True)
class Evaluation:
    """What a streaming evaluation found: one array of boxes per labelled frame, and the metrics of all."""

    metrics: dict[str, float]
    ground_truth: list[np.ndarray]
    detections: list[np.ndarray]
    sequences: list[str]  # the name of each frame's sequence


class StreamingEvaluator:
    """Runs a detector over a stream of chunks, its state carried from one to the next, and scores it.

    Args:
        model: with ``carry="published"`` every chunk starts from zero, whatever is carried to it.
        sensor: whose protocol; its ``downsample`` says whether frames are at half size.
        step_scale: time between windows in units of that in training (S5's Δ is multiplied by it).
        confidence, iou: of the non-maximum suppression.
        score: what ranks detections, see ``to_boxes``.
    """

    def __init__(
        self,
        model: Detector,
        sensor: str | Sensor,
        *,
        step_scale: float = 1.0,
        confidence: float = 0.001,
        iou: float = 0.45,
        score: str = "product",
    ) -> None:
        self.model, self.sensor = model, get_sensor(sensor)
        self.step_scale, self.confidence, self.iou, self.score = step_scale, confidence, iou, score
        self.states: list | None = None
        self.height = self.width = 0
        self.truth: list[np.ndarray] = []
        self.found: list[np.ndarray] = []
        self.sequences: list[str] = []

    @torch.no_grad()
    def push(self, batch: Batch) -> list[np.ndarray]:
        """Detect in one chunk; returns the boxes of its labelled frames. The model must be in eval mode."""
        self.height, self.width = batch.x.shape[-2:]
        states = reset_states(self.states, batch.first)
        features, self.states = self.model.features(batch.x, states, self.step_scale, frames=batch.frames)
        if len(batch.frames) == 0:
            return []
        rows = nms(self.model.predict(features), self.confidence, self.iou)
        boxes = to_boxes([r.cpu() for r in rows], batch.times_us.tolist(), self.score)
        self.found += boxes
        self.truth += batch.labels
        self.sequences += [batch.sequences[slot] for slot in batch.frames[:, 1].tolist()]
        return boxes

    def result(self) -> Evaluation:
        """The score of all that was pushed."""
        if not self.truth:
            raise InputError("no labelled frame was evaluated: the split is empty")
        metrics = evaluate_boxes(
            self.truth, self.found, self.sensor, self.height, self.width, self.sensor.downsample
        )
        return Evaluation(metrics, self.truth, self.found, self.sequences)


def evaluate(
    model: Detector,
    batches: Iterable[Batch],
    sensor: str | Sensor,
    *,
    step_scale: float = 1.0,
    score: str = "product",
    device: str | torch.device = "cpu",
    progress: str | None = None,
) -> Evaluation:
    """Streaming evaluation of one model over one split: ``StreamingEvaluator`` over all ``batches``.

    Args:
        batches: ``EvaluationStreams``; ``batch.first`` says which slots start a new sequence.
        device: where the model runs.
        progress: the label of a progress bar; none without.
    """
    evaluator = StreamingEvaluator(model.to(device).eval(), sensor, step_scale=step_scale, score=score)
    for batch in progress_bar(batches, desc=progress, unit="chunk", show=progress is not None, leave=False):
        evaluator.push(batch.to(device))
    return evaluator.result()

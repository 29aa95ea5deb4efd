"""Boxes of an evaluation as files that other tools read: Prophesee's npy, and COCO's json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ssmbook.evaluation.protocol import prophesee_filter
from ssmbook.evaluation.streaming import Evaluation
from ssmbook.events import BOX_DTYPE, write_boxes
from ssmbook.files import atomic_write


def save_boxes(result: Evaluation, folder: str | Path) -> list[Path]:
    """Write what an evaluation found; returns the files.

    ``<sequence>_bbox.npy``: all detections of a sequence, as the raw labels are kept (``BOX_DTYPE``).
    ``ground_truth.json``, ``detections.json``: COCO's annotations and results, of what the protocol counts:
    COCO's own evaluation of the two gives the same AP. Times and sequences are among the images.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    names = np.array(result.sequences)
    for name in dict.fromkeys(result.sequences):
        boxes = np.concatenate([result.detections[i] for i in np.flatnonzero(names == name)])
        files.append(folder / f"{name}_bbox.npy")
        write_boxes(files[-1], boxes.astype(BOX_DTYPE))  # joined arrays lose the gaps between fields
    truth, detected = coco_dictionaries(result)
    for stem, content in (("ground_truth", truth), ("detections", detected)):
        files.append(folder / f"{stem}.json")
        with atomic_write(files[-1]) as file:
            file.write(json.dumps(content).encode())
    return files


def coco_dictionaries(result: Evaluation) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the protocol counts, as COCO's annotation dictionary and list of results."""
    sensor = result.sensor
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    frames = zip(result.sequences, result.ground_truth, result.detections, strict=True)
    for name, truth, detected in frames:
        truth = prophesee_filter(truth, sensor, sensor.downsample)
        if len(truth) == 0:
            continue
        image_id = len(images) + 1
        size = {"height": result.height, "width": result.width}
        images.append({"id": image_id, "sequence": name, "t_us": int(truth["t"][0]), **size})
        for row in _rows(truth, image_id):
            annotations.append({**row, "id": len(annotations) + 1, "iscrowd": 0})
        detected = prophesee_filter(detected, sensor, sensor.downsample)
        scores = detected["class_confidence"].tolist()
        results += [{**row, "score": s} for row, s in zip(_rows(detected, image_id), scores, strict=True)]
    categories = [{"id": i, "name": name} for i, name in enumerate(sensor.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def _rows(boxes: np.ndarray, image_id: int) -> list[dict[str, Any]]:
    xywh = np.stack([boxes[name].astype(np.float64) for name in "xywh"], axis=1).tolist()
    return [
        {"image_id": image_id, "category_id": int(c) + 1, "bbox": box, "area": box[2] * box[3]}
        for box, c in zip(xywh, boxes["class_id"], strict=True)
    ]

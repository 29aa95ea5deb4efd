"""The Prophesee protocol over many frames, ours against pycocotools behind the same filters: one command.

    python benchmarks/evaluation.py                 # 10,000 frames with 40 detections each
    python benchmarks/evaluation.py --frames 1000 --json benchmarks/results/evaluation.json

pycocotools' path is what evaluations of event-camera detectors do: filter each frame, make COCO's dictionaries, run
COCOeval. Times are the best of several interleaved rounds; both must give the same six numbers.
"""

import argparse
import contextlib
import io
import time
from pathlib import Path

import numpy as np
from measuring import circumstances, write_results
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssmbook.dataset import get_sensor
from ssmbook.evaluation import evaluate_boxes
from ssmbook.evaluation.protocol import prophesee_filter
from ssmbook.events import BOX_DTYPE

Frames = list[np.ndarray]
HEIGHT, WIDTH = 240, 304


def random_frames(frames: int, detections: int, seed: int = 0) -> tuple[Frames, Frames]:
    """1 to 6 boxes a frame, and detections of which half lie near them."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for frame in range(frames):
        boxes = random_boxes(rng, int(rng.integers(1, 7)))
        rows = random_boxes(rng, detections)
        near = rng.integers(0, len(boxes), detections // 2)
        for name in "xywh":
            rows[name][: len(near)] = boxes[name][near] + rng.normal(0, 4, len(near))
        rows["class_id"][: len(near)] = boxes["class_id"][near]
        boxes["t"] = rows["t"] = 1_000_000 + 50_000 * frame
        truth.append(boxes)
        found.append(rows)
    return truth, found


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    boxes = np.zeros(count, BOX_DTYPE)
    boxes["x"], boxes["y"] = rng.uniform(0, 240, count), rng.uniform(0, 180, count)
    boxes["w"], boxes["h"] = rng.uniform(15, 120, count), rng.uniform(15, 90, count)
    boxes["class_id"], boxes["class_confidence"] = rng.integers(0, 2, count), rng.uniform(0, 1, count)
    return boxes


def ours(truth: Frames, found: Frames) -> list[float]:
    return list(evaluate_boxes(truth, found, "gen1", HEIGHT, WIDTH).values())


def with_pycocotools(truth: Frames, found: Frames) -> list[float]:
    sensor = get_sensor("gen1")
    images: list[dict] = []
    sides: tuple[list[dict], list[dict]] = ([], [])
    for frames in zip(truth, found, strict=True):
        kept = [prophesee_filter(boxes, sensor) for boxes in frames]
        if len(kept[0]) == 0:
            continue
        images.append({"id": len(images) + 1, "height": HEIGHT, "width": WIDTH})
        for boxes, rows in zip(kept, sides, strict=True):
            for box in boxes:
                x, y, w, h = (float(box[name]) for name in "xywh")
                rows.append(
                    {
                        "id": len(rows) + 1,
                        "image_id": len(images),
                        "category_id": int(box["class_id"]) + 1,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                        "score": float(box["class_confidence"]),
                    }
                )
    categories = [{"id": i, "name": name} for i, name in enumerate(sensor.classes, 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth_and_found = []
        for rows in sides:
            coco = COCO()
            coco.dataset = {"info": {}, "images": images, "categories": categories, "annotations": rows}
            coco.createIndex()
            truth_and_found.append(coco)
        scorer = COCOeval(*truth_and_found, "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer.stats[:6].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--detections", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    truth, found = random_frames(options.frames, options.detections)
    ours(truth[:10], found[:10])  # compiles
    contestants = {"ours": ours, "pycocotools": with_pycocotools}
    best = dict.fromkeys(contestants, float("inf"))
    numbers = {}
    for _ in range(options.repeats):
        for name, call in contestants.items():
            start = time.perf_counter()
            numbers[name] = call(truth, found)
            best[name] = min(best[name], time.perf_counter() - start)
    difference = float(np.abs(np.subtract(*numbers.values())).max())
    assert difference < 1e-6, numbers
    ratio = best["pycocotools"] / best["ours"]
    print(f"{options.frames} frames, {options.detections} detections each; AP {numbers['ours'][0]:.4f}")
    for name, seconds in best.items():
        print(f"{name:12} {seconds:8.2f} s")
    print(f"ratio {ratio:.1f}, largest difference {difference:.1e}")
    if options.json:
        settings = {"frames": options.frames, "detections": options.detections, "repeats": options.repeats}
        result = {**settings, "seconds": best, "ratio": ratio, "difference": difference}
        write_results(options.json, circumstances("cpu") | result)


if __name__ == "__main__":
    main()

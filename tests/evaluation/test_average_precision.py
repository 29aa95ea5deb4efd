"""Average precision over all frames at once gives pycocotools' numbers."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssmbook.dataset import Sensor
from ssmbook.errors import InputError
from ssmbook.evaluation import evaluate_boxes, score_boxes
from ssmbook.evaluation.protocol import METRICS, prophesee_filter
from ssmbook.events import BOX_DTYPE

SENSOR = Sensor(
    name="test", width=200, height=150, classes=("a", "b", "c"), eval_min_diagonal=12, eval_min_side=4
)


def pycocotools_scores(ground_truth, detections, sensor, ignored=None):
    """The published path: filters frame by frame, then COCOeval. Returns it with its summary.

    ``ignored`` marks boxes of the ground truth as COCO's crowd; frames without another box do not count.
    """
    images, annotations, results = [], [], []
    ignored = ignored or [np.zeros(len(truth), bool) for truth in ground_truth]
    for boxes, found, crowd in zip(ground_truth, detections, ignored, strict=True):
        truth, found = prophesee_filter(boxes, sensor), prophesee_filter(found, sensor)
        regions = prophesee_filter(boxes[crowd], sensor).tolist()
        if len(truth) == len(regions):
            continue
        image_id = len(images) + 1
        images.append({"id": image_id, "height": sensor.height, "width": sensor.width})
        for rows, out in ((truth, annotations), (found, results)):
            for row in rows:
                box = [float(row[name]) for name in "xywh"]
                entry = {"image_id": image_id, "category_id": int(row["class_id"]) + 1, "bbox": box}
                entry |= {"area": box[2] * box[3], "id": len(out) + 1}
                entry["iscrowd"] = int(out is annotations and row.tolist() in regions)
                out.append({**entry, "score": float(row["class_confidence"])})
    categories = [{"id": i, "name": name} for i, name in enumerate(sensor.classes, 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for rows in (annotations, results):
            sides.append(COCO())
            sides[-1].dataset = {"info": {}, "images": images, "categories": categories, "annotations": rows}
            sides[-1].createIndex()
        scorer = COCOeval(*sides, "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


def random_boxes(rng, count, whole_pixels, levels):
    """Boxes of all of COCO's sizes; with few score levels there are ties, with whole pixels equal overlaps."""
    boxes = np.zeros(count, BOX_DTYPE)
    boxes["t"] = rng.integers(0, 2_000_000)
    boxes["x"], boxes["y"] = rng.uniform(0, 150, count), rng.uniform(0, 100, count)
    boxes["w"], boxes["h"] = 2 * rng.lognormal(2.5, 1, count), 2 * rng.lognormal(2.5, 1, count)
    if whole_pixels:
        for name in "xywh":
            boxes[name] = np.round(boxes[name] / 8) * 8
    boxes["class_id"] = rng.integers(0, len(SENSOR.classes), count)
    boxes["class_confidence"] = np.round(rng.uniform(0, 1, count) * levels) / levels
    return boxes


def random_case(seed):
    """Frames with and without boxes and detections; detections near the boxes, doubled, and far from them."""
    rng = np.random.default_rng(seed)
    whole, levels = bool(seed % 2), (3, 1000)[seed // 2 % 2]
    truth, found = [], []
    for _ in range(rng.integers(1, 30)):
        boxes = random_boxes(rng, rng.integers(0, 6), whole, levels)
        near = np.repeat(boxes, rng.integers(0, 4, len(boxes)))
        if not whole:
            for name in "xywh":
                near[name] += rng.normal(0, 2, len(near))
        near["class_confidence"] = np.round(rng.uniform(0, 1, len(near)) * levels) / levels
        far = random_boxes(rng, rng.integers(0, 150) if rng.random() < 0.1 else 2, whole, levels)
        far["t"] = boxes["t"][0] if len(boxes) else far["t"]
        detections = np.concatenate([near, far])
        truth.append(boxes)
        found.append(rng.permutation(detections))
    return truth, found


def nan_for_none(reference):
    """COCO's six metrics, its −1 for nothing to find as NaN."""
    return [value if value > -1 else np.nan for value in reference.stats[:6].tolist()]


@pytest.mark.parametrize("seed", range(24))
def test_random_cases_equal_pycocotools(seed):
    truth, found = random_case(seed)
    reference = pycocotools_scores(truth, found, SENSOR)
    metrics = evaluate_boxes(truth, found, SENSOR, SENSOR.height, SENSOR.width)
    assert list(metrics.values()) == pytest.approx(nan_for_none(reference), abs=1e-6, nan_ok=True)
    if reference.eval:
        scores = score_boxes(truth, found, SENSOR)
        np.testing.assert_allclose(scores.precision, reference.eval["precision"][..., -1], rtol=0, atol=1e-9)
        np.testing.assert_allclose(scores.recall, reference.eval["recall"][..., -1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_ignored_regions_are_pycocotools_crowds(seed):
    """Many detections lie in the regions, which are boxes of random cases grown to twice their size."""
    truth, found = random_case(seed)
    rng = np.random.default_rng(seed)
    ignored = [rng.random(len(boxes)) < 0.4 for boxes in truth]
    for boxes, region in zip(truth, ignored, strict=True):
        for name in "wh":
            boxes[name][region] *= 2
    reference = pycocotools_scores(truth, found, SENSOR, ignored)
    metrics = evaluate_boxes(truth, found, SENSOR, ignored=ignored)
    assert list(metrics.values()) == pytest.approx(nan_for_none(reference), abs=1e-6, nan_ok=True)
    plain = evaluate_boxes(truth, found, SENSOR)
    assert sum(map(np.sum, ignored)) == 0 or plain != metrics


def test_a_detection_in_an_ignored_region_is_neither_right_nor_wrong():
    """Two detections lie wholly in a region, and would halve the precision as false ones."""
    truth = random_boxes(np.random.default_rng(0), 2, False, 10)
    truth["t"], truth["class_id"] = 1_000_000, 0
    truth["x"], truth["y"], truth["w"], truth["h"] = [0, 100], 0, [40, 90], [40, 90]
    false = np.repeat(truth[1:], 2)
    false["w"], false["h"], false["class_confidence"] = 30, 30, 1
    right = truth[:1].copy()
    right["class_confidence"] = 0.5
    found = [np.concatenate([right, false])]
    ignored = [np.array([False, True])]
    assert evaluate_boxes([truth], found, SENSOR, ignored=ignored)["AP"] == pytest.approx(1)
    assert evaluate_boxes([truth[:1]], found, SENSOR)["AP"] == pytest.approx(1 / 3)
    assert evaluate_boxes([truth], [right], SENSOR, ignored=ignored)["AP"] == pytest.approx(1)
    assert np.isnan(evaluate_boxes([truth[1:]], found, SENSOR, ignored=[ignored[0][1:]])["AP"])
    with pytest.raises(InputError, match="one bool a box"):
        evaluate_boxes([truth], found, SENSOR, ignored=[ignored[0][1:]])


def test_more_than_a_hundred_detections_of_a_class_do_not_count():
    truth = random_boxes(np.random.default_rng(0), 1, False, 10)
    truth["t"], truth["w"], truth["h"], truth["class_id"] = 1_000_000, 30, 30, 0
    noise = np.repeat(truth, 100)
    noise["x"], noise["class_confidence"] = 150, 0.9
    hit = truth.copy()
    hit["class_confidence"] = 0.1
    assert evaluate_boxes([truth], [np.concatenate([noise, hit])], SENSOR)["AP"] == 0
    assert evaluate_boxes([truth], [np.concatenate([noise[1:], hit])], SENSOR)["AP"] == pytest.approx(0.01)


def test_classes_and_curves_are_parts_of_the_mean():
    truth, found = random_case(2)
    scores = score_boxes(truth, found, SENSOR)
    assert np.mean(list(scores.per_class.values())) == pytest.approx(scores.metrics["AP"])
    curves = [scores.curve(c, 0.75).mean() for c in range(3)]
    assert np.mean(curves) == pytest.approx(scores.metrics["AP_75"])
    assert (np.diff(scores.curve(0)) <= 0).all()


def test_a_single_hit_among_two_boxes():
    """One of two boxes found: precision 1 up to recall ½, that is at 51 of 101 recalls."""
    truth = np.zeros(2, BOX_DTYPE)
    truth["t"], truth["x"], truth["w"], truth["h"] = 1_000_000, [0, 100], 40, 40
    metrics = evaluate_boxes([truth], [truth[:1]], SENSOR)
    assert metrics == pytest.approx(
        dict.fromkeys(METRICS, 51 / 101) | {"AP_S": np.nan, "AP_L": np.nan}, nan_ok=True
    )

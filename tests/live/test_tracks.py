"""Ids follow objects; association equals its definition, written as a loop."""

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE
from ssmbook.live.tracks import Tracker, pairwise_iou


def boxes_of(rows, t_us=0):
    """Rows of x, y, w, h, class."""
    boxes = np.zeros(len(rows), BOX_DTYPE)
    for name, column in zip(("x", "y", "w", "h", "class_id"), zip(*rows, strict=True), strict=False):
        boxes[name] = column
    boxes["t"] = t_us
    return boxes


def plain_iou(a, b):
    width = min(a["x"] + a["w"], b["x"] + b["w"]) - max(a["x"], b["x"])
    height = min(a["y"] + a["h"], b["y"] + b["h"]) - max(a["y"], b["y"])
    shared = max(width, 0) * max(height, 0)
    union = a["w"] * a["h"] + b["w"] * b["h"] - shared
    return shared / union if union > 0 else 0.0


def plain_update(tracks, boxes, iou, next_id):
    """Greedy association as a loop: ids of the boxes."""
    ids = [0] * len(boxes)
    while True:
        free = [t for t in tracks if t["track_id"] not in ids]
        pairs = [
            (plain_iou(track, box), -int(track["track_id"]), -j)
            for track in free
            for j, box in enumerate(boxes)
            if ids[j] == 0 and track["class_id"] == box["class_id"] and plain_iou(track, box) >= iou
        ]
        if not pairs:
            break
        _, track_id, j = max(pairs)
        ids[-j] = -track_id
    for j, each in enumerate(ids):
        if each == 0:
            ids[j], next_id = next_id, next_id + 1
    return ids


def test_two_objects_that_cross_keep_their_ids():
    tracker, seen = Tracker(), []
    for k in range(20):
        found = tracker.update(
            boxes_of([(5 * k, 10, 20, 20, 0), (100 - 5 * k, 25, 20, 20, 0)], 50_000 * k), 50_000 * k
        )
        seen.append(found["track_id"].tolist())
    assert seen == [[1, 2]] * 20
    assert tracker.count == 2


def test_association_equals_the_loop():
    rng = np.random.default_rng(0)
    for _ in range(200):
        tracker = Tracker(iou=0.2)
        rows = np.column_stack(
            [rng.integers(0, 40, (8, 2)), rng.integers(5, 30, (8, 2)), rng.integers(0, 2, 8)]
        )
        tracks = tracker.update(boxes_of(rows), 0)
        moved = rows + np.column_stack([rng.integers(-6, 7, (8, 4)), np.zeros((8, 1), int)])
        moved[:, 2:4] = moved[:, 2:4].clip(1)
        boxes = boxes_of(
            moved[rng.permutation(8)[: rng.integers(0, 9)]] if rng.random() < 0.9 else [], 50_000
        )
        expected = plain_update(tracks, boxes, 0.2, 9)
        overlaps = [plain_iou(a, b) for a in tracks for b in boxes if plain_iou(a, b) >= 0.2]
        found = tracker.update(boxes, 50_000)
        if len(set(overlaps)) == len(overlaps):  # equal overlaps may be matched in either order
            assert found["track_id"].tolist() == expected
        np.testing.assert_allclose(
            pairwise_iou(tracks, boxes),
            [[plain_iou(a, b) for b in boxes] for a in tracks] or np.zeros((8, 0)),
            atol=1e-12,
        )


def test_a_track_waits_for_an_object_that_stops():
    box = [(10, 10, 20, 20, 0)]
    tracker = Tracker(patience_us=500_000)
    assert tracker.update(boxes_of(box, 0), 0)["track_id"].tolist() == [1]
    for k in range(1, 10):
        tracker.update(boxes_of([]), 50_000 * k)
    assert tracker.update(boxes_of(box, 500_000), 500_000)["track_id"].tolist() == [1]
    for k in range(11, 22):
        tracker.update(boxes_of([]), 50_000 * k)
    assert tracker.update(boxes_of(box, 1_100_000), 1_100_000)["track_id"].tolist() == [2]
    assert tracker.update(boxes_of([(10, 10, 20, 20, 1)], 1_150_000), 1_150_000)["track_id"].tolist() == [3]


def test_memory_is_that_of_the_last_tracks_and_odd_boxes_pass():
    tracker = Tracker(patience_us=100_000)
    rng = np.random.default_rng(0)
    for k in range(300):
        found = tracker.update(boxes_of(rng.integers(1, 400, (5, 5)), 50_000 * k), 50_000 * k)
        assert len(set(found["track_id"].tolist())) == 5
    assert len(tracker._tracks) <= 5 * 4
    odd = boxes_of([(0, 0, np.inf, 5, 0), (0, 0, 0, 0, 0), (0, 0, np.nan, 1, 0)])
    assert len(tracker.update(odd, 0)) == 3
    for options in ({"iou": 0}, {"iou": 1.5}, {"patience_us": -1}):
        with pytest.raises(InputError, match="a tracker with iou"):
            Tracker(**options)

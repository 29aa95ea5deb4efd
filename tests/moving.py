"""Boxes that move, and a detector that sees them as they are when its windows end."""

import numpy as np

from ssmbook.dataset import Sensor
from ssmbook.evaluation.moments import boxes_at
from ssmbook.evaluation.streaming import Steps
from ssmbook.events import BOX_DTYPE

SENSOR = Sensor("test", 200, 150, ("a", "b"), label_interval_ms=50)


def moving(times_us, speed=100.0, size=20.0, x0=10.0, class_id=0, track_id=0):
    """A box that goes ``speed`` px/s to the right."""
    boxes = np.zeros(len(times_us), BOX_DTYPE)
    boxes["t"], boxes["class_id"], boxes["track_id"] = times_us, class_id, track_id
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = x0 + speed * np.asarray(times_us) / 1e6, 40, size, size
    boxes["class_confidence"] = 1
    return boxes


def perfect(boxes, times_us):
    """A detector that gives the boxes at the ends of its windows."""
    return Steps(np.asarray(times_us), boxes_at(boxes, np.asarray(times_us)))

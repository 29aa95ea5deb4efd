"""The detector: events in, boxes out, a state carried along."""

from ssmbook.detector.boxes import nms
from ssmbook.detector.checkpoint import (
    find_preset,
    fine_tune,
    get_preset,
    load_checkpoint,
    save_checkpoint,
)
from ssmbook.detector.model import Detector
from ssmbook.detector.presets import PRESETS, input_sizes
from ssmbook.detector.recurrences import RECURRENCES, detach_states, reset_states
from ssmbook.detector.trained_on import TrainedOn

__all__ = [
    "PRESETS",
    "RECURRENCES",
    "Detector",
    "TrainedOn",
    "detach_states",
    "find_preset",
    "fine_tune",
    "get_preset",
    "input_sizes",
    "load_checkpoint",
    "nms",
    "reset_states",
    "save_checkpoint",
]

"""The detector: events in, boxes out, a state carried along."""

from typing import TYPE_CHECKING

from ssmbook.detector.presets import PRESETS, input_sizes
from ssmbook.detector.recurrences.registry import RECURRENCES
from ssmbook.lazy import lazily

if TYPE_CHECKING:
    from ssmbook.detector.boxes import nms
    from ssmbook.detector.checkpoint import (
        find_preset,
        fine_tune,
        get_preset,
        load_checkpoint,
        save_checkpoint,
    )
    from ssmbook.detector.model import Detector
    from ssmbook.detector.recurrences.states import detach_states, reset_states
    from ssmbook.detector.trained_on import TrainedOn

_HOMES = {
    "Detector": "model",
    "TrainedOn": "trained_on",
    "detach_states": "recurrences.states",
    "find_preset": "checkpoint",
    "fine_tune": "checkpoint",
    "get_preset": "checkpoint",
    "load_checkpoint": "checkpoint",
    "nms": "boxes",
    "reset_states": "recurrences.states",
    "save_checkpoint": "checkpoint",
}

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

__getattr__ = lazily(__name__, _HOMES)

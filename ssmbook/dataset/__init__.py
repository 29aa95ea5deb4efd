"""Sequences on disk, and loaders.

What needs torch is imported when it is first asked for: a process that preprocesses does without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssmbook.dataset.estimate import estimate
from ssmbook.dataset.grid import describe, stride_of
from ssmbook.dataset.layout import Sequence, find_sequences
from ssmbook.dataset.preprocess import SequencesFailed, preprocess, preprocess_sets
from ssmbook.dataset.sensor import Sensor, get_sensor

if TYPE_CHECKING:
    from ssmbook.dataset.loader import EventDataModule
    from ssmbook.dataset.schedule import EvaluationStreams, TrainingSchedule
    from ssmbook.dataset.sequences import Batch, Chunks

_LAZY = {
    "Batch": "sequences",
    "Chunks": "sequences",
    "EvaluationStreams": "schedule",
    "EventDataModule": "loader",
    "TrainingSchedule": "schedule",
}

__all__ = [
    "Batch",
    "Chunks",
    "EvaluationStreams",
    "EventDataModule",
    "Sensor",
    "Sequence",
    "SequencesFailed",
    "TrainingSchedule",
    "describe",
    "estimate",
    "find_sequences",
    "get_sensor",
    "preprocess",
    "preprocess_sets",
    "stride_of",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)

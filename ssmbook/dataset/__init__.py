"""Sequences on disk, and loaders. Each name is imported when it is first asked for."""

from typing import TYPE_CHECKING

from ssmbook.lazy import lazily

if TYPE_CHECKING:
    from ssmbook.dataset.estimation import estimate
    from ssmbook.dataset.grid import describe, stride_of, window_and_stride
    from ssmbook.dataset.layout import Sequence, find_sequences
    from ssmbook.dataset.loader import EventDataModule
    from ssmbook.dataset.preprocessing import SequencesFailed, preprocess, preprocess_sets
    from ssmbook.dataset.schedule import EvaluationStreams, TrainingSchedule
    from ssmbook.dataset.sensor import Sensor, get_sensor
    from ssmbook.dataset.sequences import Batch, Chunks

_HOMES = {
    "Batch": "sequences",
    "Chunks": "sequences",
    "EvaluationStreams": "schedule",
    "EventDataModule": "loader",
    "Sensor": "sensor",
    "Sequence": "layout",
    "SequencesFailed": "preprocessing",
    "TrainingSchedule": "schedule",
    "describe": "grid",
    "estimate": "estimation",
    "find_sequences": "layout",
    "get_sensor": "sensor",
    "preprocess": "preprocessing",
    "preprocess_sets": "preprocessing",
    "stride_of": "grid",
    "window_and_stride": "grid",
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
    "window_and_stride",
]

__getattr__ = lazily(__name__, _HOMES)

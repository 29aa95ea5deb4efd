"""The recurrence of a stage: what runs over time at every pixel by itself."""

from ssmbook.detector.recurrences.blocks import (
    RECURRENCES,
    STATE_SPACE,
    ConvLSTM,
    NoRecurrence,
    SSMBlock,
    detach_states,
    make_recurrence,
    map_states,
    over_pixels,
    reset_states,
)

__all__ = [
    "RECURRENCES",
    "STATE_SPACE",
    "ConvLSTM",
    "NoRecurrence",
    "SSMBlock",
    "detach_states",
    "make_recurrence",
    "map_states",
    "over_pixels",
    "reset_states",
]

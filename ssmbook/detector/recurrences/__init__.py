"""The recurrence of a stage: what runs over time at every pixel by itself. One file each, and a registry."""

from ssmbook.detector.recurrences.convlstm import ConvLSTM
from ssmbook.detector.recurrences.mamba import MambaBlock
from ssmbook.detector.recurrences.none import NoRecurrence
from ssmbook.detector.recurrences.registry import (
    REGISTRY,
    Recurrence,
    get_recurrence,
    make_recurrence,
    options_of,
    register,
)
from ssmbook.detector.recurrences.s4 import S4Block
from ssmbook.detector.recurrences.s4d import S4DBlock
from ssmbook.detector.recurrences.s5 import S5Block
from ssmbook.detector.recurrences.s5_selective import SelectiveS5Block
from ssmbook.detector.recurrences.ssm_block import SSMBlock, StateSpaceBlock
from ssmbook.detector.recurrences.states import detach_states, map_states, over_pixels, reset_states

#: The recurrences of the library, in the order of the tables.
RECURRENCES = ("s5", "s5-selective", "s4d", "s4", "mamba", "convlstm", "none")

__all__ = [
    "RECURRENCES",
    "REGISTRY",
    "ConvLSTM",
    "MambaBlock",
    "NoRecurrence",
    "Recurrence",
    "S4Block",
    "S4DBlock",
    "S5Block",
    "SSMBlock",
    "SelectiveS5Block",
    "StateSpaceBlock",
    "detach_states",
    "get_recurrence",
    "make_recurrence",
    "map_states",
    "options_of",
    "over_pixels",
    "register",
    "reset_states",
]

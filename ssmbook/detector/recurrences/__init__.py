"""The recurrence of a stage: what runs over time at every pixel by itself. One file each, and a registry."""

from typing import TYPE_CHECKING

from ssmbook.detector.recurrences.registry import (
    RECURRENCES,
    REGISTRY,
    get_recurrence,
    make_recurrence,
    options_of,
    register,
)
from ssmbook.lazy import lazily

if TYPE_CHECKING:
    from ssmbook.detector.recurrences.base import Recurrence
    from ssmbook.detector.recurrences.convlstm import ConvLSTM
    from ssmbook.detector.recurrences.mamba import MambaBlock
    from ssmbook.detector.recurrences.none import NoRecurrence
    from ssmbook.detector.recurrences.s4 import S4Block
    from ssmbook.detector.recurrences.s4d import S4DBlock
    from ssmbook.detector.recurrences.s5 import S5Block
    from ssmbook.detector.recurrences.s5_selective import SelectiveS5Block
    from ssmbook.detector.recurrences.ssm_block import SSMBlock, StateSpaceBlock
    from ssmbook.detector.recurrences.states import (
        detach_states,
        map_states,
        over_pixels,
        reset_states,
        tensors_of,
    )

_HOMES = {
    "ConvLSTM": "convlstm",
    "MambaBlock": "mamba",
    "NoRecurrence": "none",
    "Recurrence": "base",
    "S4Block": "s4",
    "S4DBlock": "s4d",
    "S5Block": "s5",
    "SSMBlock": "ssm_block",
    "SelectiveS5Block": "s5_selective",
    "StateSpaceBlock": "ssm_block",
    "detach_states": "states",
    "map_states": "states",
    "over_pixels": "states",
    "reset_states": "states",
    "tensors_of": "states",
}

__getattr__ = lazily(__name__, _HOMES)

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
    "tensors_of",
]

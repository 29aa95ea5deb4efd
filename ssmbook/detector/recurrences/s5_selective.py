"""Selective S5, see `ssmbook.ssm.selective`; the gate sees LN₁(x)."""

from ssmbook.detector.recurrences.s5 import S5Block
from ssmbook.ssm import SelectiveS5


class SelectiveS5Block(S5Block):
    """Options: those of `S5`."""

    kind = SelectiveS5

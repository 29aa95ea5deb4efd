"""S4, a state-space model with a diagonal-plus-low-rank state matrix for each feature."""

from ssmbook.detector.recurrences.s4d import STATE_WIDTH
from ssmbook.detector.recurrences.ssm_block import StateSpaceBlock
from ssmbook.ssm import S4


class S4Block(StateSpaceBlock):
    """Option: ``state_gain`` of `S4`."""

    def __init__(self, channels: int, *, state_gain: float = 1.0) -> None:
        super().__init__(S4(channels, STATE_WIDTH, state_gain=state_gain), channels)

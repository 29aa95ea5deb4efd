"""S4D, a diagonal state-space model for each feature."""

from typing import Literal

from ssmbook.detector.recurrences.ssm_block import StateSpaceBlock
from ssmbook.ssm import S4D

STATE_WIDTH = 64  # of each feature's own system; what the published S4 and S4D start with


class S4DBlock(StateSpaceBlock):
    """Options: those of `S4D`."""

    def __init__(
        self,
        channels: int,
        *,
        bandlimit: float | None = None,
        bandlimit_mode: Literal["held", "once"] = "held",
        state_gain: float = 1.0,
    ) -> None:
        layer = S4D(
            channels, STATE_WIDTH, bandlimit=bandlimit, bandlimit_mode=bandlimit_mode, state_gain=state_gain
        )
        super().__init__(layer, channels)

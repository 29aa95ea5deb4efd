"""Mamba's selective layer S6, see `ssmbook.ssm.s6`: Δ, B and C are selected by LN₁(x)."""

from ssmbook.detector.recurrences.ssm_block import StateSpaceBlock
from ssmbook.ssm import S6

STATE_WIDTH = 16  # of each feature's own system, as in the paper


class MambaBlock(StateSpaceBlock):
    """Option: ``state_gain`` of `S6`.

    The convolution and the gate of a Mamba block are left out; the gated MLP is that of the other recurrences. The
    layer has C (50 + 2 ⌈C/16⌉) parameters (S5: 4 C (C + 1)): with 64 channels 3,712, and 16,256 with the MLP (29,184).
    """

    def __init__(self, channels: int, *, state_gain: float = 1.0) -> None:
        super().__init__(S6(channels, STATE_WIDTH, state_gain=state_gain), channels)

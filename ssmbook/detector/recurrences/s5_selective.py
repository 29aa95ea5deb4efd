"""Selective S5, see `ssmbook.ssm.selective`; the gate sees LN₁(x)."""

from typing import Literal

from ssmbook.detector.recurrences.registry import register
from ssmbook.detector.recurrences.ssm_block import StateSpaceBlock
from ssmbook.ssm import SelectiveS5


@register("s5-selective")
class SelectiveS5Block(StateSpaceBlock):
    """Options: those of `SelectiveS5`."""

    def __init__(
        self,
        channels: int,
        *,
        bandlimit: float | None = 0.5,
        bandlimit_mode: Literal["held", "once"] = "once",
        clip_eigs: bool = False,
        state_gain: float = 1.0,
    ) -> None:
        options = {"bandlimit": bandlimit, "bandlimit_mode": bandlimit_mode, "clip_eigs": clip_eigs}
        super().__init__(SelectiveS5(channels, channels, state_gain=state_gain, **options), channels)  # type: ignore[arg-type]

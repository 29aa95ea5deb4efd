"""S5; as published, modes above half of Nyquist's limit are masked once, at the start."""

from typing import ClassVar, Literal

from torch import Tensor

from ssmbook.detector.recurrences.ssm_block import StateSpaceBlock
from ssmbook.ssm import S5


class S5Block(StateSpaceBlock):
    """Options: those of `S5`."""

    has_h2_norm = True
    kind: ClassVar[type[S5]] = S5

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
        layer = self.kind(channels, channels, state_gain=state_gain, **options)  # type: ignore[arg-type]
        super().__init__(layer, channels)

    def h2_norm(self, omega_min: float) -> Tensor:
        return self.layer.h2_norm(omega_min)

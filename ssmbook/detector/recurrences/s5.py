"""S5; as published, modes above half of Nyquist's limit are masked once, at the start."""

from typing import ClassVar, Literal

from torch import Tensor

from ssmbook.detector.recurrences.base import Scale, State
from ssmbook.detector.recurrences.low_pass import LowPass
from ssmbook.detector.recurrences.ssm_block import StateSpaceBlock
from ssmbook.ssm import S5


class S5Block(StateSpaceBlock):
    """Options: those of `S5`, and low_pass: D and the skip beside the layer see `LowPass` of a in the place of a, so
    that all that a frame tells passes through something which the time scale reaches.
    """

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
        low_pass: bool = False,
    ) -> None:
        options = {"bandlimit": bandlimit, "bandlimit_mode": bandlimit_mode, "clip_eigs": clip_eigs}
        layer = self.kind(channels, channels, state_gain=state_gain, **options)  # type: ignore[arg-type]
        super().__init__(layer, channels)
        self.low_pass = LowPass(channels) if low_pass else None

    def over_time(self, a: Tensor, state: State, step_scale: Scale) -> tuple[Tensor, Tensor, State]:
        if self.low_pass is None:
            return super().over_time(a, state, step_scale)
        own, mean = state or (None, None)
        y, _, own = super().over_time(a, own, step_scale)
        direct, mean = self.low_pass(a, mean, step_scale)
        return y + self.layer.D * (direct - a), direct, (own, mean)

    def state_widths(self) -> dict[str, int]:
        own = super().state_widths()
        return own if self.low_pass is None else {**own, "_mean": self.channels}

    def step_flops(self) -> int:
        """The filter's 3 C, and D's again with its difference, another 3 C."""
        return super().step_flops() + (0 if self.low_pass is None else 6 * self.channels)

    def h2_norm(self, omega_min: float) -> Tensor:
        return self.layer.h2_norm(omega_min)

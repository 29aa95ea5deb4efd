"""No recurrence, for comparison."""

from torch import Tensor

from ssmbook.detector.recurrences.base import Recurrence, Scale, State


class NoRecurrence(Recurrence):
    """Every frame by itself: the output is the input, and there is no state."""

    def __init__(self, channels: int = 0) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor, state: State = None, step_scale: Scale = 1.0) -> tuple[Tensor, State]:
        return x, None

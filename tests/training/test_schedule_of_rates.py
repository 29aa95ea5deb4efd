"""The one-cycle learning rate, from its shortest warm-up on."""

import pytest
from torch import nn

from ssmbook.training import Training, optimizer_and_schedule
from ssmbook.training.objective import schedule_at


@pytest.mark.parametrize(("steps", "warmup"), [(10, 0.1), (30, 0.1), (5, 0.1), (10, 0.5)])
def test_the_rate_reaches_its_maximum_and_falls(steps, warmup):
    training = Training(steps=steps, warmup=warmup, learning_rate=1.0)
    optimizer, schedule = optimizer_and_schedule(nn.Linear(1, 1), training)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    assert max(rates) <= 1
    assert max(rates) > 0.8
    assert rates[-1] < 1e-3


@pytest.mark.parametrize("step", [0, 1, 3, 4, 17, 20])
def test_the_rate_after_some_steps_is_that_of_having_taken_them(step):
    """Bit for bit, and whatever an earlier cycle has left in the optimiser."""
    training = Training(steps=20, warmup=0.2, learning_rate=0.01)
    walked, schedule = optimizer_and_schedule(nn.Linear(1, 1), training)
    walked.step()
    for _ in range(step):
        schedule.step()
    jumped, _ = optimizer_and_schedule(nn.Linear(1, 1), Training(steps=7, learning_rate=0.5))
    jumped.step()
    again = schedule_at(jumped, training, step)
    assert again.get_last_lr() == schedule.get_last_lr() == [jumped.param_groups[0]["lr"]]
    if step < 20:
        for each in (schedule, again):
            each.step()
        assert again.get_last_lr() == schedule.get_last_lr()

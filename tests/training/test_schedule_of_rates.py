"""The one-cycle learning rate, from its shortest warm-up on."""

import pytest
from torch import nn

from ssmbook.training import Training, optimizer_and_schedule


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

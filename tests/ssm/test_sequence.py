"""The residual layer: its equation, the state through it, a task that needs memory."""

import pytest
import torch
import torch.nn.functional as F

from ssmbook.ssm import S4D, S5, SequenceLayer


def test_equations():
    torch.manual_seed(0)
    model = SequenceLayer(S5(4, 6), 4)
    x = torch.randn(2, 5, 4)
    z, state = model.layer(model.norm(x))
    g = F.gelu(z)
    y, last = model(x)
    torch.testing.assert_close(y, x + model.value(g) * model.gate(g).sigmoid())
    torch.testing.assert_close(last, state)


@pytest.mark.parametrize("layer", [lambda: S5(4, 6), lambda: S4D(4, 6)])
def test_whole_is_stepwise(layer):
    torch.manual_seed(0)
    model = SequenceLayer(layer(), 4).double()
    x, state, steps = torch.randn(2, 7, 4, dtype=torch.float64), None, []
    for k in range(7):
        y, state = model(x[:, k : k + 1], state, 0.5)
        steps.append(y)
    whole, last = model(x, step_scale=0.5)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-10)


def test_learns_to_remember():
    """The first of 30 inputs, asked for at the end: a layer that trains and carries solves it."""
    torch.manual_seed(0)
    encode, decode = torch.nn.Linear(1, 16), torch.nn.Linear(16, 1)
    model = SequenceLayer(S5(16, 16), 16)
    parameters = [*encode.parameters(), *decode.parameters(), *model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(150):
        x = torch.zeros(64, 30, 1)
        x[:, 0] = torch.randn(64, 1)
        loss = (decode(model(encode(x))[0][:, -1]) - x[:, 0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1

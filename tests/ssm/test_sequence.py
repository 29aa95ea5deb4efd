"""The residual layer: its equations for every activation, the state through it, a task that needs memory."""

import pytest
import torch
import torch.nn.functional as F

from ssmbook.errors import InputError
from ssmbook.ssm import S4D, S5, SequenceLayer

ACTIVATIONS = {
    "gelu": lambda m, z, g: g,
    "full_glu": lambda m, z, g: m.value(g) * m.gate(g).sigmoid(),
    "half_glu1": lambda m, z, g: g * m.gate(g).sigmoid(),
    "half_glu2": lambda m, z, g: z * m.gate(g).sigmoid(),
}


@pytest.mark.parametrize("prenorm", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equations(activation, prenorm):
    torch.manual_seed(0)
    model = SequenceLayer(S5(4, 6), 4, activation=activation, prenorm=prenorm)
    x = torch.randn(2, 5, 4)
    z, state = model.layer(model.norm(x) if prenorm else x)
    expected = x + ACTIVATIONS[activation](model, z, F.gelu(z))
    y, last = model(x)
    torch.testing.assert_close(y, expected if prenorm else model.norm(expected))
    torch.testing.assert_close(last, state)


@pytest.mark.parametrize("layer", [lambda: S5(4, 6), lambda: S4D(4, 6)])
def test_whole_is_stepwise(layer):
    torch.manual_seed(0)
    model = SequenceLayer(layer(), 4).double()
    x, state, steps = torch.randn(2, 7, 4, dtype=torch.float64), None, []
    for k in range(7):
        y, state = model.step(x[:, k], state, 0.5)
        steps.append(y)
    whole, last = model(x, step_scale=0.5)
    torch.testing.assert_close(torch.stack(steps, 1), whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-10)


def test_dropout_takes_whole_features():
    torch.manual_seed(0)
    model = SequenceLayer(S5(64, 4), 64, activation="gelu", dropout=0.5)
    x = torch.randn(3, 5, 64)
    dropped = (model(x)[0] - x) == 0
    assert (dropped == dropped[:, :1]).all()
    assert 0.5 < dropped.float().mean() < 0.95
    assert not ((model.eval()(x)[0] - x) == 0).any()


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


def test_bad_options_are_refused():
    with pytest.raises(InputError, match="relu"):
        SequenceLayer(S5(4, 4), 4, activation="relu")
    with pytest.raises(InputError, match="dropout"):
        SequenceLayer(S5(4, 4), 4, dropout=1.5)

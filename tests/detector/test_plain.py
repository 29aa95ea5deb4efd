"""The detector against benchmarks/plain.py, the same network written as its equations read."""

import math

import pytest
import torch
from plain import plain_like

from tests.detector.test_model import assert_same, counts, make

FRAMES = torch.tensor([[1, 0], [1, 1], [3, 0]])
TARGETS = torch.zeros(3, 3, 5, dtype=torch.float64)
TARGETS[0, 0] = torch.tensor([0.0, 20, 24, 18, 12])
TARGETS[0, 1] = torch.tensor([1.0, 23, 26, 20, 30])  # overlaps the first, so that they contend for anchors
TARGETS[2, 2] = torch.tensor([1.0, 50, 12, 9, 14])


def pair(**options):
    """Ours and the plain one with the same weights, in float64."""
    ours = make(**options).double()
    for m in ours.modules():
        if isinstance(m, torch.nn.BatchNorm2d):  # not the identity
            torch.nn.init.normal_(m.running_mean, std=0.1)
            torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
    for layer, stride in zip(ours.head.box_out, (8, 16, 32), strict=True):
        torch.nn.init.normal_(layer.weight, std=0.02)
        torch.nn.init.constant_(layer.bias, math.log(18 / stride))  # boxes overlap: a target takes several
    return ours, plain_like(ours)


@pytest.mark.parametrize("step_scale", [1.0, 0.1])
def test_features_states_and_predictions(step_scale):
    ours, plain = pair()
    x = counts(5, 2, 60, 56)
    with torch.no_grad():
        states = None, None
        for chunk in x.split([3, 2]):
            got, expected = (
                m.features(chunk, s, step_scale) for m, s in zip((ours, plain), states, strict=True)
            )
            states = got[1], expected[1]
            assert_same(got[0], expected[0])
            assert_same(*states)
        torch.testing.assert_close(ours.predict(got[0]), plain.predict(expected[0]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("train", [True, False])
def test_losses_and_gradients(train):
    ours, plain = pair()
    x = counts(4, 2)
    found = []
    for model in (ours, plain):
        model.train(train)
        maps, _ = model.features(x)
        losses = model.loss({i: f[*FRAMES.unbind(-1)] for i, f in maps.items()}, TARGETS)
        losses["loss"].backward()
        values = {n: float(torch.as_tensor(v).detach()) for n, v in losses.items()}
        found.append((values, dict(model.named_parameters())))
    (losses, gradients), (expected, plain_gradients) = found
    assert losses["num_fg"] > 1
    for name, value in expected.items():
        assert losses[name] == pytest.approx(value, rel=1e-6), name  # matched IoUs are float32
    for name, parameter in plain_gradients.items():
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(gradients[name].grad, parameter.grad, rtol=0, atol=1e-6 * scale, msg=name)


def test_frames_without_a_box():
    ours, plain = pair()
    x = counts(1, 2)
    losses = []
    for model in (ours, plain):
        maps, _ = model.features(x)
        losses.append(model.loss({i: f[0] for i, f in maps.items()}, torch.zeros(2, 1, 5))["loss"].detach())
    torch.testing.assert_close(*losses)

"""The detector against its plain version, the same network written as its equations read."""

import math

import pytest
import torch

from ssmbook.detector import plain, plain_loss
from ssmbook.errors import InputError
from tests.detector.test_model import assert_same, counts, make

FRAMES = torch.tensor([[1, 0], [1, 1], [3, 0]])
TARGETS = torch.zeros(3, 3, 5, dtype=torch.float64)
TARGETS[0, 0] = torch.tensor([0.0, 20, 24, 18, 12])
TARGETS[0, 1] = torch.tensor([1.0, 23, 26, 20, 30])  # overlaps the first, so that they contend for anchors
TARGETS[2, 2] = torch.tensor([1.0, 50, 12, 9, 14])


def make_double(**options):
    """A detector in float64 of which every parameter counts."""
    model = make(**options).double()
    for name, parameter in model.named_parameters():
        if "gate_" in name:
            torch.nn.init.normal_(parameter)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):  # not the identity
            torch.nn.init.normal_(m.running_mean, std=0.1)
            torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
    for layer, stride in zip(model.head.box_out, (8, 16, 32), strict=True):
        torch.nn.init.normal_(layer.weight, std=0.02)
        torch.nn.init.constant_(layer.bias, math.log(18 / stride))  # boxes overlap: a target takes several
    return model


@pytest.mark.parametrize("recurrence", plain.RECURRENCES)
@pytest.mark.parametrize("step_scale", [1.0, 0.1])
def test_features_states_and_predictions(recurrence, step_scale):
    model = make_double(recurrence=recurrence)
    p, config = plain.nested(model.state_dict()), model.config
    x = counts(5, 2, 60, 56)
    states, plain_states = None, None
    with torch.no_grad():
        for chunk in x.split([3, 2]):
            maps, states = model.features(chunk, states, step_scale)
            plain_maps, plain_states = plain.features(chunk, p, config, plain_states, step_scale)
            assert_same(maps, plain_maps)
            assert_same(states, plain_states)
        expected = plain.predict(plain_maps, p, config)
        torch.testing.assert_close(model.predict(maps), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [{"recurrence": "s4d"}, {"bandlimit_mode": "held"}, {"clip_eigs": True}, {"carry": "published"}],
)
def test_what_it_does_not_have_is_refused(options):
    model = make(**options)
    with pytest.raises(InputError, match="plain detector"):
        plain.features(counts(1, 1), plain.nested(model.state_dict()), model.config)


def losses_and_gradients(losses, model):
    losses["loss"].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return {name: float(value.detach()) for name, value in losses.items()}, gradients


@pytest.mark.parametrize("train", [True, False])
def test_losses_and_gradients(train):
    model = make_double().train(train)
    p = plain.nested(dict(model.named_parameters()) | dict(model.named_buffers()))
    x = counts(4, 2)
    maps, _ = plain.features(x, p, model.config)
    labelled = {i: f[*FRAMES.unbind(-1)] for i, f in maps.items()}
    expected, expected_gradients = losses_and_gradients(
        plain_loss.loss(labelled, TARGETS, p, model.config, train), model
    )
    maps, _ = model.features(x, frames=FRAMES)
    losses, gradients = losses_and_gradients(model.loss(maps, TARGETS), model)
    assert losses["num_fg"] > 1
    for name, value in expected.items():
        assert losses[name] == pytest.approx(value, rel=1e-6), name  # matched IoUs are float32
    for name, gradient in expected_gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-6 * scale, msg=name)


def test_frames_without_a_box():
    model = make_double()
    p = plain.nested(model.state_dict())
    maps = {i: f[0] for i, f in model.features(counts(1, 2))[0].items()}
    empty = torch.zeros(2, 1, 5)
    expected = plain_loss.loss(maps, empty, p, model.config, training=False)
    torch.testing.assert_close(model.loss(maps, empty)["loss"], expected["loss"])

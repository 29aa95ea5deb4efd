"""What an optimiser needs of a layer: groups of parameters, and a floor that training can leave again."""

import pytest
import torch

from ssmbook.detector import PRESETS, Detector
from ssmbook.ssm import S5, SequenceLayer, parameter_groups
from ssmbook.ssm.s5 import MIN_DECAY
from tests.ssm.test_layer import LAYERS, H, make

DYNAMICS = {
    "s5": {"Lambda", "B", "log_step"},
    "s4d": {"kernel.log_dt", "kernel.log_A_real", "kernel.A_imag"},
    "s4": {"kernel.A_real", "kernel.A_imag", "kernel.B", "kernel.P", "kernel.inv_dt"},
    "s4 diag": {"kernel.A_real", "kernel.A_imag", "kernel.B", "kernel.inv_dt"},
    "s6": {"A_log", "D", "dt_proj.bias"},
}


@pytest.mark.parametrize("kind", LAYERS)
def test_dynamics_are_a_group_without_decay(kind):
    layer = make(kind)
    own, rest = layer.parameter_groups(1e-3)
    names = {id(p): name for name, p in layer.named_parameters()}
    assert {names[id(p)] for p in own["params"]} == DYNAMICS.get(kind, DYNAMICS["s5"])
    assert sorted(names[id(p)] for group in (own, rest) for p in group["params"]) == sorted(names.values())
    optimizer = torch.optim.AdamW([own, rest], lr=4e-3, weight_decay=0.5)
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(1e-3, 0), (4e-3, 0.5)]
    assert "lr" not in layer.parameter_groups()[0]


@pytest.mark.parametrize(
    "make_model", [lambda: SequenceLayer(S5(H, 8), H), lambda: Detector(**PRESETS["sim-smoke"])]
)
def test_a_network_s_layers_are_found(make_model):
    model = make_model()
    own, rest = parameter_groups(model, 1e-3)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)].rpartition(".")[2] for p in own["params"]}
    assert found == {"Lambda", "B", "log_step"}
    assert len(own["params"]) + len(rest["params"]) == len(names)


def test_a_held_mode_is_led_back_below_the_floor_and_not_further_above():
    layer = S5(2, 3, clip_eigs=True)
    with torch.no_grad():
        layer.Lambda[:, 0] = torch.tensor([0.5, 0.5, -0.5])
    assert layer.eigenvalues().real[:2].tolist() == pytest.approx([-MIN_DECAY] * 2)
    weights = torch.tensor([1.0, -1.0, -1.0])
    (layer.eigenvalues().real * weights).sum().backward()
    assert layer.Lambda.grad[:, 0].tolist() == [1.0, 0.0, -1.0]


def test_training_leaves_the_floor_again():
    torch.manual_seed(0)
    layer = S5(2, 3, clip_eigs=True)
    with torch.no_grad():
        layer.Lambda[:, 0] = 0.05
    optimizer = torch.optim.SGD([layer.Lambda], lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        (layer.eigenvalues().real + 0.5).square().sum().backward()
        optimizer.step()
    assert float((layer.eigenvalues().detach().real + 0.5).abs().max()) < 0.01

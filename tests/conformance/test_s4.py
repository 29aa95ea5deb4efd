"""S4D and S4 equal the layers of state-spaces/s4: kernels, outputs by convolution and recurrence, gradients.

Their gradients were computed in float32 through phases Δ·Im A·l of many turns, which leaves 7e-6 of rounding.
"""

import numpy as np
import pytest
import torch

from ssmbook.ssm import S4, S4D


def load(path):
    with np.load(path) as data:
        case = {name: torch.as_tensor(data[name]) for name in data.files}
    return case, {name.removeprefix("param/"): v for name, v in case.items() if name.startswith("param/")}


def assert_close(ours, theirs, tolerance):
    """Within ``tolerance`` of the largest reference value."""
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def kernel(layer, L):
    return layer.kernel.maps(torch.tensor(1.0, dtype=torch.float64), L).kernel


@pytest.mark.parametrize("index", [0, 1])
def test_s4d(conformance, index):
    case, parameters = load(conformance(f"s4d_{index}.npz"))
    layer = S4D(int(case["H"]), int(case["N"])).double()
    layer.load_published(parameters)
    assert_close(kernel(layer, int(case["L"])), case["K"], 2e-6)
    u = case["u"].double().transpose(1, 2).requires_grad_()
    y, _ = layer(u)
    assert_close(y.transpose(1, 2), case["y"], 2e-6)
    (y.transpose(1, 2) * case["dy"]).sum().backward()
    pairs = [(u.grad.transpose(1, 2), case["du"])]
    pairs += [(layer.get_parameter(name).grad, case[f"grad/{name}"]) for name in parameters]
    for ours, theirs in pairs:
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize(("name", "mode"), [("s4_dplr_0", "dplr"), ("s4_diag_1", "diag")])
def test_s4(conformance, name, mode):
    case, parameters = load(conformance(f"{name}.npz"))
    layer = S4(int(case["H"]), int(case["N"]), mode=mode).double()
    layer.load_published(parameters)
    L = int(case["L"])
    assert_close(kernel(layer, L), case["K"][0], 2e-6)
    u = case["u"].double().transpose(1, 2)
    y, _ = layer(u)
    assert_close(y.transpose(1, 2), case["y"], 2e-6)
    steps, state = [], None
    for k in range(L):
        y_k, state = layer.step(u[:, k], state)
        steps.append(y_k)
    assert_close(torch.stack(steps, 2), case["y_step"], 2e-6)

"""S5 equals the layer of ssms_event_cameras and the JAX layer of its authors: outputs, states, gradients."""

import numpy as np
import pytest
import torch

from ssmbook.ssm import S5


def load(path):
    with np.load(path) as data:
        return {
            name: torch.as_tensor(data[name]) for name in data.files if data[name].dtype.kind in "fib"
        } | {name: str(data[name]) for name in data.files if data[name].dtype.kind == "U"}


def parameters(case, prefix):
    return {name.removeprefix(prefix): value for name, value in case.items() if name.startswith(prefix)}


def assert_close(ours, theirs, tolerance):
    """Within ``tolerance`` of the largest reference value."""
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def assert_gradients(ours, theirs):
    assert (ours.reshape(theirs.shape) - theirs).norm() <= 3e-6 * theirs.norm()


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("index", range(6))
def test_released_layer(conformance, index, time_major):
    case = load(conformance(f"s5_block_{index}.npz"))
    dim, scale = int(case["dim"]), float(case["step_scale"])
    layer = S5(dim, dim).double()
    layer.load_published(parameters(case, "param/s5.seq."))
    u = case["u"].double()
    u = (u.transpose(0, 1).contiguous().transpose(0, 1) if time_major else u).requires_grad_()
    y, state = layer(u, step_scale=scale)
    assert_close(y, case["y_s5"], 2e-6)
    expected = torch.complex(case["state_re"], case["state_im"])
    assert (state - expected).abs().max() <= 1e-6 * expected.abs().max()
    (y * case["dy"]).sum().backward()
    assert_gradients(u.grad, case["du"])
    for name, gradient in parameters(case, "grad_s5/s5.seq.").items():
        assert_gradients(layer.get_parameter(name).grad, gradient)


@pytest.mark.parametrize("index", range(4))
def test_jax_layer(conformance, index):
    case = load(conformance(f"s5_jax_{index}.npz"))
    options = {name: bool(case[name]) for name in ("conj_sym", "bidirectional", "clip_eigs")}
    layer = S5(
        int(case["H"]),
        int(case["P"]),
        blocks=int(case["blocks"]),
        discretization=case["discretization"],
        **options,
    ).double()
    layer.load_published(parameters(case, "param/"))
    u = case["u"].double()[None].requires_grad_()
    y, _ = layer(u, step_scale=float(case["step_rescale"]))
    assert_close(y[0], case["y"], 2e-6)
    (y[0] * case["dy"]).sum().backward()
    assert_gradients(u.grad[0], case["du"])
    gradients = parameters(case, "grad/")
    for name, ours in published_gradients(layer).items():
        if name in gradients:
            assert_gradients(ours, gradients.pop(name))
    assert not gradients


def published_gradients(layer):
    """The gradients of our parameters under the names of the JAX layer."""
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    real, imag = gradients.pop("Lambda").unbind(-1)
    first, second = gradients["C"][:, : layer.modes], gradients["C"][:, layer.modes :]
    return gradients | {"Lambda_re": real, "Lambda_im": imag, "C1": first, "C2": second}

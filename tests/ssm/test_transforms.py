"""The layers under torch.func, differentiated twice, and compiled."""

import pytest
import torch

from ssmbook.ssm import S5, S6
from ssmbook.ssm.kernels.dispatch import _scan_planes_loop, diagonal_ssm, scan_planes, selective_scan
from tests.ssm.test_layer import H, L, inputs, make
from tests.ssm.test_scan import ssm_arguments

KINDS = ["s5", "s5, zoh, conj_sym, held", "s5-selective", "s4d", "s4", "s6"]


@pytest.mark.parametrize("kind", KINDS)
def test_vmap_is_a_loop(kind):
    layer = make(kind)
    u = torch.randn(4, 2, L, H, dtype=torch.float64)
    y, last = torch.func.vmap(lambda u: layer(u))(u)
    for i in range(4):
        expected = layer(u[i])
        torch.testing.assert_close(y[i], expected[0], rtol=0, atol=1e-11)
        torch.testing.assert_close(last[i], expected[1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_torch_func_are_autograd_s(kind):
    """Also one for each sequence, as vmap over grad gives them."""
    layer = make(kind)
    u = torch.randn(3, L, H, dtype=torch.float64)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters, u):
        return torch.func.functional_call(layer, parameters, (u[None],))[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, u)
    for n in range(3):
        expected = torch.autograd.grad(layer(u[n : n + 1])[0].square().sum(), list(layer.parameters()))
        for name, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(each[name][n], gradient, rtol=1e-9, atol=1e-9)


def test_the_jacobian_is_that_of_autograd():
    layer = make("s5")
    u = torch.randn(1, 3, H, dtype=torch.float64)
    ours = torch.func.jacrev(lambda u: layer(u)[0])(u)
    expected = torch.autograd.functional.jacobian(lambda u: layer(u)[0], u)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.func.jacfwd(lambda u: layer(u)[0])(u), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["shared", "per sequence", "per step"])
def test_the_scan_can_be_differentiated_twice(kind, reverse):
    torch.manual_seed(0)
    N, L, P = 2, 3, 2
    shape = {"shared": (2 * P,), "per sequence": (N, 1, 2 * P), "per step": (N, L, 2 * P)}[kind]
    a, b = torch.randn(shape, dtype=torch.float64) / 2, torch.randn(N, L, 2 * P, dtype=torch.float64)
    x0 = torch.randn(N, P, dtype=torch.complex128)
    given = [x.requires_grad_() for x in (a, b, x0)]
    assert torch.autograd.gradgradcheck(lambda a, b, x0: scan_planes(a, b, x0, reverse), given)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_whole_layer_can_be_differentiated_twice(reverse):
    torch.manual_seed(0)
    run = lambda *x: diagonal_ssm(*x, reverse=reverse)  # noqa: E731
    assert torch.autograd.gradgradcheck(run, ssm_arguments(2, 3, 2, 2))


def test_the_selective_scan_can_be_differentiated_twice():
    torch.manual_seed(0)
    N, L, H, S = 2, 3, 2, 2
    u, step, B, C = (torch.rand(N, L, size, dtype=torch.float64) + 0.1 for size in (H, H, S, S))
    given = [u, step, -torch.rand(H, S).double(), B, C, torch.randn(N, H, S, dtype=torch.float64)]
    assert torch.autograd.gradgradcheck(selective_scan, [x.requires_grad_() for x in given])


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_penalty_trains(kind):
    """The second derivative reaches every parameter, and is that of the loop."""
    layer = make(kind)
    u, state = inputs(layer)
    u.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(u, state)[0].pow(3).sum(), u, create_graph=True)
    given = list(layer.parameters())
    ours = torch.autograd.grad(gradient.square().sum(), given, materialize_grads=True)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def penalty(parameters):
        def loss(u):
            return torch.func.functional_call(layer, parameters, (u, state))[0].pow(3).sum()

        return torch.func.grad(loss)(u.detach()).square().sum()

    expected = torch.func.grad(penalty)(parameters)
    for found, wanted in zip(ours, expected.values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


def compiled_nodes(layer, steps, counts):
    """A layer compiled without a code generator; the numbers of operations of its graphs go to ``counts``."""
    from torch._dynamo.backends.common import aot_autograd

    def count(graph, _):
        counts.append((steps, len(graph.graph.nodes)))
        return graph.forward

    torch._dynamo.reset()
    return torch.compile(layer, backend=aot_autograd(fw_compiler=count, bw_compiler=count), fullgraph=True)


@pytest.mark.parametrize("make_layer", [lambda: S5(4, 6, bandlimit=0.5), lambda: S6(4, 3)])
def test_compiled_graphs_do_not_grow_with_the_sequence(make_layer):
    torch.manual_seed(0)
    layer, counts = make_layer(), []
    for steps in (12, 256):
        run, u = compiled_nodes(layer, steps, counts), torch.randn(2, steps, 4)
        expected, last = layer(u)
        y, state = run(u)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)
        ours = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
        wanted = torch.autograd.grad(expected.square().sum(), list(layer.parameters()))
        for a, b in zip(ours, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    sizes = {steps: sorted(n for s, n in counts if s == steps) for steps in (12, 256)}
    assert len(sizes[12]) == 2  # forward and backward
    assert sizes[12] == sizes[256]


def test_the_loop_is_what_an_export_gets():
    """Plain real operations; with complex ones the layer could not be written as ONNX."""
    layer = S5(4, 6, bandlimit=0.5).eval()

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, u):
            return self.layer(u)[0]

    u = torch.randn(2, 5, 4)
    program = torch.export.export(Net(), (u,))
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert not any(isinstance(v, torch.Tensor) and v.is_complex() for v in values)
    torch.testing.assert_close(program.module()(u), layer(u)[0], rtol=1e-5, atol=1e-5)


def test_the_operator_is_the_loop():
    torch.manual_seed(0)
    from ssmbook.ssm.kernels.compiled import scan_planes as operator

    N, L, P = 3, 5, 4
    a, b = torch.randn(2 * P).double() / 2, torch.randn(L, N, 2 * P).double().transpose(0, 1)
    x0 = torch.randn(N, P, dtype=torch.complex128)
    given = [x.requires_grad_() for x in (a, b, x0)]
    for reverse in (False, True):
        x, expected = operator(a, b, x0, reverse), _scan_planes_loop(a, b, x0, reverse)
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)
        weights = torch.randn_like(x)
        ours, wanted = (torch.autograd.grad(y, given, weights) for y in (x, expected))
        for found, right in zip(ours, wanted, strict=True):
            torch.testing.assert_close(found, right, rtol=0, atol=1e-11)

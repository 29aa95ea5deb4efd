"""Products by oneDNN: those of PyTorch, gradients too, and only where they are meant."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import grad

from ssmbook import products
from ssmbook.detector import PRESETS, Detector

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch is built without oneDNN"
)
ROUNDING = 2e-6  # of the largest value: float32, sums of up to 700 terms


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Rows of each product by oneDNN, as if this were a processor that it is faster on."""
    rows, product = [], products._product
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "_SMALLEST", 1)
    monkeypatch.setattr(products, "_product", lambda x, *rest: rows.append(len(x)) or product(x, *rest))
    return rows


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() <= ROUNDING * b.abs().max())


@pytest.mark.parametrize("seed", range(12))
def test_values_and_gradients_are_those_of_float64(seed):
    torch.manual_seed(seed)
    M, K, N = (int(n) for n in torch.randint(1, 700, (3,)))
    x = torch.randn(K, M).T if seed % 2 else torch.randn(M, K)
    weight = torch.randn(N, 2 * K)[:, :K] if seed % 3 else torch.randn(N, K)
    inputs = [x, weight] if seed % 4 == 3 else [x, weight, torch.randn(N)]
    dy = torch.randn(M, N)
    for z in inputs:
        z.requires_grad_()
    wide = [z.double() for z in inputs]
    right = F.linear(*wide)
    ours = products.onednn_linear(*inputs)
    assert close(ours.double(), right)
    for got, want in zip(grad(ours, inputs, dy), grad(right, wide, dy.double()), strict=True):
        assert got.shape == want.shape
        assert close(got.double(), want)


def test_gradients_of_gradients():
    torch.manual_seed(0)
    inputs = [torch.randn(n, m, requires_grad=True) for n, m in ((30, 8), (5, 8))]

    def second(product):
        first = grad(product(*inputs).square().sum(), inputs, create_graph=True)
        return grad(sum(z.square().sum() for z in first), inputs)

    for got, want in zip(second(products.onednn_linear), second(F.linear), strict=True):
        assert close(got, want)


def test_a_layer_of_any_leading_shape_uses_it(calls):
    layer = products.Linear(6, 4)
    x = torch.randn(2, 3, 5, 6)
    assert close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert calls == [30]
    assert layer(x.transpose(0, 2)).shape == (5, 3, 2, 4)
    assert layer(torch.zeros(0, 6)).shape == (0, 4)


def test_it_is_left_where_it_is_not_meant(calls, monkeypatch):
    x, weight = torch.randn(8, 6), torch.randn(4, 6)
    products.linear(x.double(), weight.double())
    products.linear(x.bfloat16(), weight.bfloat16())
    assert products.linear(x.to("meta"), weight.to("meta")).shape == (8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(x, weight).dtype == torch.bfloat16
    torch.func.vmap(products.linear, (0, None))(x[:, None], weight)
    torch.func.jacrev(products.linear)(x, weight)
    module = products.Linear(6, 4).requires_grad_(False)
    program, trace = torch.export.export(module, (x,)), torch.jit.trace(module, x, check_trace=False)
    assert "mkldnn" not in str(program.graph) + str(trace.graph)
    monkeypatch.setattr(products, "_SMALLEST", 8 * 6 * 4 + 1)
    products.linear(x, weight)
    monkeypatch.setattr(products, "_SMALLEST", 1)
    monkeypatch.setattr(products, "onednn_is_faster", lambda: False)
    products.linear(x, weight)
    assert not calls


def test_a_part_of_a_weight_is_no_slower():
    """With rows further apart than they are long, oneDNN falls back to plain loops."""
    x, weight = torch.randn(4000, 64), torch.randn(256, 128)

    def seconds(part):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            products.onednn_linear(x, part)
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(weight[:, :64]) < 20 * seconds(weight[:, :64].contiguous())


@pytest.mark.parametrize("recurrence", ["s5-selective", "convlstm", "s4d"])
def test_a_detector_computes_the_same(calls, monkeypatch, recurrence):
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"] | {"recurrence": recurrence})
    x = torch.randint(0, 5, (3, 2, model.in_channels, *model.input_hw), dtype=torch.uint8)

    def gradients():
        features, _ = model.features(x)
        loss = sum(f.square().mean() for f in features.values())
        return grad(loss, list(model.backbone.parameters()), allow_unused=True)

    ours = gradients()
    assert calls
    monkeypatch.setattr(products, "onednn_is_faster", lambda: False)
    for got, want in zip(ours, gradients(), strict=True):
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * float(want.abs().max() + 1e-12))


def test_torch_compile_sees_through_it():
    """In one graph, with a state too."""
    torch.manual_seed(0)
    layer, rows = products.Linear(6, 4), torch.randn(5, 6)
    model = Detector(**PRESETS["sim-smoke"]).eval()
    x = torch.randint(0, 5, (2, 1, model.in_channels, *model.input_hw), dtype=torch.uint8)

    def run(x, states=None):
        features, states = model.features(x, states)
        return model.predict(features), *states

    for function, arguments in ((layer, (rows,)), (run, (x, list(run(x)[1:])))):
        torch.compiler.reset()
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        with torch.no_grad():
            torch.testing.assert_close(compiled(*arguments), function(*arguments), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:TF32")
def test_one_dnn_can_be_switched_off(calls):
    x, weight = torch.randn(8, 6), torch.randn(4, 6)
    with torch.backends.mkldnn.flags(enabled=False):
        products.linear(x, weight)
    assert not calls
    products.linear(x, weight)
    assert calls == [8]

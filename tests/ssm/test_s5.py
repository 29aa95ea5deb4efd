"""S5: whole = chunked = step by step for every option, its start, its discretisation, and what it refuses."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.ssm import S5
from ssmbook.ssm.discretization import discretize
from ssmbook.ssm.hippo import blocks_spectrum
from ssmbook.ssm.s5 import passes_band

OPTIONS = [
    {"discretization": method, "conj_sym": conj, "clip_eigs": clip, "bandlimit": band, "blocks": blocks}
    for (method, conj), (clip, band, blocks) in product(
        product(("bilinear", "zoh"), (False, True)), ((False, None, 1), (True, 0.2, 2))
    )
]
N, L, H, P = 3, 11, 5, 8


def make(**options):
    torch.manual_seed(0)
    layer = S5(H, P, **options).double()
    with torch.no_grad():  # larger steps, so that the state matters and the discretisations differ
        layer.log_step += 2
        layer.C *= 30
    return layer


def scales(kind):
    """step_scale of a whole run, and of its steps from ``start`` to ``stop``."""
    torch.manual_seed(1)
    if kind == "number":
        return 0.5, lambda start, stop: 0.5
    if kind == "sequence":
        scale = torch.rand(N, dtype=torch.float64) + 0.2
        return scale, lambda start, stop: scale
    scale = torch.rand(N, L, dtype=torch.float64) + 0.2
    return scale, lambda start, stop: scale[:, start:stop]


def results(layer, u, state, runs):
    """y and last state of consecutive runs, and the gradients of a loss on both."""
    u, state = u.clone().requires_grad_(), state.clone().requires_grad_()
    carried, outputs = state, []
    for run in runs:
        y, carried = run(u, carried)
        outputs.append(y)
    y = torch.cat(outputs, 1)
    loss = y.square().sum() + (carried * (1 - 2j)).real.sum()
    return [y, carried, *torch.autograd.grad(loss, [u, state, *layer.parameters()])]


@pytest.mark.parametrize("kind", ["number", "sequence", "step"])
@pytest.mark.parametrize("options", OPTIONS)
def test_whole_is_chunked_is_stepwise(options, kind):
    layer = make(**options)
    whole_scale, part = scales(kind)
    u = torch.randn(N, L, H, dtype=torch.float64)
    state = torch.randn(N, layer.modes, dtype=torch.complex128)

    def chunk(start, stop):
        return lambda u, x: layer(u[:, start:stop], x, part(start, stop))

    def step(k):
        def run(u, x):
            scale = part(k, k + 1)
            y, x = layer.step(u[:, k], x, scale[:, 0] if kind == "step" else scale)
            return y[:, None], x

        return run

    whole = results(layer, u, state, [lambda u, x: layer(u, x, whole_scale)])
    chunked = results(layer, u, state, [chunk(0, 4), chunk(4, 5), chunk(5, L)])
    stepwise = results(layer, u, state, [step(k) for k in range(L)])
    for a, b, c in zip(whole, chunked, stepwise, strict=True):
        tolerance = 1e-10 * max(1.0, float(a.detach().abs().max()))
        torch.testing.assert_close(b, a, rtol=0, atol=tolerance)
        torch.testing.assert_close(c, a, rtol=0, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"conj_sym": True, "bandlimit": 0.2}])
def test_equal_scales_are_one_scale(options):
    layer = make(**options)
    u = torch.randn(N, L, H, dtype=torch.float64)
    expected, state = layer(u, step_scale=0.5)
    for scale in (torch.tensor(0.5), torch.full((N,), 0.5), torch.full((N, L), 0.5)):
        y, last = layer(u, step_scale=scale)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)
        if state is not None:
            torch.testing.assert_close(last, state, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["number", "step"])
def test_bidirectional_is_two_layers(kind):
    both, forward, backward = make(bidirectional=True), make(), make()
    with torch.no_grad():
        for layer, half in ((forward, both.C[:, :P]), (backward, both.C[:, P:])):
            for name, value in both.named_parameters():
                layer.get_parameter(name).copy_(half if name == "C" else value)
        backward.D.zero_()
    u = torch.randn(N, L, H, dtype=torch.float64)
    scale, _ = scales(kind)
    reversed_scale = scale.flip(1) if kind == "step" else scale
    expected = forward(u, step_scale=scale)[0] + backward(u.flip(1), step_scale=reversed_scale)[0].flip(1)
    y, state = both(u, step_scale=scale)
    assert state is None
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)


def test_gradient_of_step_scale():
    layer = make(conj_sym=True)
    u = torch.randn(2, 3, H, dtype=torch.float64)
    for shape in ((), (2,), (2, 3)):
        scale = (torch.rand(shape, dtype=torch.float64) + 0.5).requires_grad_()
        assert torch.autograd.gradcheck(lambda s: layer(u, step_scale=s), scale)


@pytest.mark.parametrize("method", ["bilinear", "zoh"])
def test_discretisation_approaches_the_ode(method):
    """One mode driven by sin t: halving the step quarters the error; halves it where zoh holds the input."""
    Lambda, T = torch.tensor([-0.5 + 3j], dtype=torch.complex128), 2.0

    def error(steps):
        step = T / steps
        a, gain = discretize(Lambda, torch.tensor(step), method)
        x = torch.zeros(1, dtype=torch.complex128)
        for k in range(steps):
            # the bilinear rule sees the mean of the input at both ends of the step
            t = (k + (0.5 if method == "bilinear" else 0)) * step
            x = a * x + gain * math.sin(t)
        w = Lambda[0]
        exact = (torch.exp(w * T) - w * math.sin(T) - math.cos(T)) / (w**2 + 1)
        return float((x - exact).abs())

    order = math.log2(error(200) / error(400))
    assert order == pytest.approx(2 if method == "bilinear" else 1, abs=0.1)


def test_published_start():
    torch.manual_seed(0)
    H, P = 96, 128
    layer = S5(H, P)
    B, C = (torch.view_as_complex(x.detach()) for x in (layer.B, layer.C))
    Lambda = np.linalg.eigvals(legs_normal_part(P))
    ours = torch.view_as_complex(layer.Lambda.detach()).numpy()
    np.testing.assert_allclose(np.sort(ours.imag), np.sort(Lambda.imag), atol=1e-4 * P)
    np.testing.assert_allclose(ours.real, -0.5, atol=1e-6)
    # V is unitary, so the mean squares of B₀ (real) and C₀ (complex) are those of B and C
    assert float(B.abs().square().mean()) == pytest.approx(0.599 / P, rel=0.03)
    assert float(C.abs().square().mean()) == pytest.approx(2 * 0.599 / (H * P), rel=0.03)
    assert 0 <= layer.D.min() < 0.1
    assert 0.9 < layer.D.max() < 1
    assert math.log(1e-3) <= layer.log_step.min() < math.log(1.5e-3)
    assert math.log(0.5e-1) < layer.log_step.max() <= math.log(1e-1)


def legs_normal_part(P):
    n = np.arange(P)
    A = -np.tril(np.sqrt(np.outer(2 * n + 1, 2 * n + 1)), -1) - np.diag(n + 1.0)
    return A + np.outer(np.sqrt(n + 0.5), np.sqrt(n + 0.5))


@pytest.mark.parametrize("start", ["inv", "lin"])
def test_other_starts(start):
    layer = S5(4, 12, blocks=3, start=start)
    expected = np.sort(blocks_spectrum(12, 3, start=start)[0].imag)
    np.testing.assert_allclose(np.sort(layer.Lambda[:, 1].detach()), expected, rtol=1e-6, atol=1e-6)
    # the start is a real system: the two modes of a pair have conjugate rows of B
    B = torch.view_as_complex(layer.B.detach())
    torch.testing.assert_close(B[:2], B[2:4].conj())


def test_start_of_blocks_and_halves():
    layer = S5(4, 12, blocks=3)
    parts = layer.Lambda.detach().view(3, 4, 2)
    assert torch.equal(parts[0], parts[1])
    assert torch.equal(parts[0], parts[2])
    half = S5(4, 12, blocks=3, conj_sym=True)
    assert half.Lambda.shape == (6, 2)
    assert half.B.shape == (6, 4, 2)
    assert half.C.shape == (4, 6, 2)
    assert (half.Lambda[:, 1] < 0).all()


def test_bandlimit_once_trains_freely():
    torch.manual_seed(0)
    layer = S5(4, 64, bandlimit=0.05, bandlimit_mode="once")
    outside = ~passes_band(torch.view_as_complex(layer.Lambda), layer.log_step.exp(), 0.05)
    assert 0 < outside.sum() < 64
    assert not layer.C[:, outside].any()
    assert layer.C[:, ~outside].any()
    layer(torch.randn(2, 5, 4))[0].sum().backward()
    assert layer.C.grad[:, outside].any()


def test_bandlimit_held_follows_the_step():
    torch.manual_seed(0)
    layer = make(bandlimit=0.3)
    u = torch.randn(N, L, H, dtype=torch.float64)
    for scale in (0.25, 1.0, 4.0):
        keep = passes_band(layer.eigenvalues(), scale * layer.log_step.exp(), 0.3)
        free = make()
        with torch.no_grad():
            free.C *= keep[:, None]
        expected, state = free(u, step_scale=scale)
        y, last = layer(u, step_scale=scale)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(last, state, rtol=0, atol=1e-12)
    counts = [
        int(passes_band(layer.eigenvalues(), s * layer.log_step.exp(), 0.3).sum()) for s in (0.25, 1.0, 4.0)
    ]
    assert counts[0] > counts[1] > counts[2] > 0


def test_clip_eigs_holds_the_real_part():
    layer = make(clip_eigs=True)
    with torch.no_grad():
        layer.Lambda[:3, 0] = 0.5
    assert float(layer.eigenvalues().real.max().detach()) == pytest.approx(-1e-4)
    _, state = layer(torch.zeros(1, 3000, H, dtype=torch.float64), torch.ones(1, P, dtype=torch.complex128))
    assert state.abs().max() < 1


def test_stream_of_an_hour_stays_bounded():
    """72 chunks of 10,000 steps: one hour at 200 Hz. A constant input settles at its fixed point."""
    layer = S5(1, 4).double()
    chunk = torch.ones(1, 10_000, 1, dtype=torch.float64)
    state = None
    with torch.no_grad():
        for _ in range(72):
            _, state = layer(chunk, state)
    a, gain = discretize(layer.eigenvalues(), layer.log_step.exp())
    fixed = gain * torch.view_as_complex(layer.B)[:, 0] / (1 - a)
    torch.testing.assert_close(state[0], fixed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fused", [False, True])
def test_evaluation_sees_every_step_of_the_optimiser(fused):
    """A fused optimiser writes parameters without counting a version, and so does ``.data.copy_``."""
    layer, u = make(bandlimit=0.3), torch.randn(N, L, H, dtype=torch.float64)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01, fused=fused)

    def assert_current():
        reloaded = make(bandlimit=0.3)
        reloaded.load_state_dict(layer.state_dict())
        with torch.no_grad():
            for x in (u, u[:, :1]):
                torch.testing.assert_close(layer.eval()(x)[0], reloaded.train()(x)[0], rtol=0, atol=1e-12)

    for _ in range(3):
        assert_current()
        layer.train()(u)[0].square().sum().backward()
        optimizer.step()
    for parameter in layer.parameters():
        parameter.data.copy_(parameter.detach() * 1.1)
        assert_current()


def test_frozen_layers_equal_others():
    layer, other = make(bandlimit=0.3).eval(), make(bandlimit=0.3)
    layer.freeze()
    u, state = torch.randn(N, L, H, dtype=torch.float64), torch.randn(N, P, dtype=torch.complex128)

    def assert_equal(scale=1.0):
        for x in (u, u[:, :1]):
            for y, expected in zip(layer(x, state, scale), other(x, state, scale), strict=True):
                torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)

    with torch.no_grad():
        for scale in (1.0, 0.5, 0.5, 1.0, torch.tensor(0.3, dtype=torch.float64)):
            assert_equal(scale)
        for value in other.parameters():
            value.mul_(1.1)
            layer.load_state_dict(other.state_dict())
            assert_equal()
        other.B.mul_(2)
        layer.load_published(dict(other.named_parameters()))
        assert_equal()
        assert layer.float()(u.float())[0].dtype == torch.float32
        assert layer.double()(u)[0].dtype == torch.float64
    with torch.inference_mode():
        layer(u)
    assert not layer(u)[0].requires_grad


def test_nan_gives_nan():
    layer = S5(2, 4)
    u = torch.zeros(2, 5, 2)
    u[0, 2, 1] = float("nan")
    y, _ = layer(u)
    assert y[0, 2:].isnan().all()
    assert not y[0, :2].isnan().any()
    assert not y[1].isnan().any()


def test_autocast_runs_in_the_precision_of_the_parameters():
    layer, u = S5(3, 4), torch.randn(2, 5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = layer(u.bfloat16())
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, layer(u.bfloat16().float())[0])
    assert state.dtype == torch.complex64


def test_exports_to_the_same_numbers():
    layer, u = S5(3, 4).eval(), torch.randn(2, 5, 3)
    state = torch.randn(2, 4, dtype=torch.complex64)
    program = torch.export.export(layer, (u, state))
    for ours, expected in zip(program.module()(u, state), layer(u, state), strict=True):
        torch.testing.assert_close(ours, expected)


def bad_calls():
    u, f = torch.zeros(2, 5, 3), torch.zeros
    return [
        ({"u": f(2, 3)}, r"\[2, 3\]"),
        ({"u": f(2, 5, 4)}, r"\[2, 5, 4\]"),
        ({"u": f(2, 0, 3)}, r"\[2, 0, 3\]"),
        ({"u": u.double()}, "float64"),
        ({"u": u, "state": f(3, 4, dtype=torch.complex64)}, r"\[2, 4\].*\[3, 4\]"),
        ({"u": u, "state": f(2, 4)}, "float32"),
        ({"u": u, "step_scale": 0.0}, "above 0 and finite, not 0"),
        ({"u": u, "step_scale": float("nan")}, "above 0"),
        ({"u": u, "step_scale": float("inf")}, "finite"),
        ({"u": u, "step_scale": torch.tensor([1.0, float("inf")])}, "finite"),
        ({"u": u, "step_scale": "fast"}, "number"),
        ({"u": u, "step_scale": None}, "number"),
        ({"u": u, "step_scale": torch.tensor([1.0, -1.0])}, "above 0 and finite, not -1"),
        ({"u": u, "step_scale": torch.ones(5)}, r"\[2, 5\], not \[5\]"),
    ]


@pytest.mark.parametrize(("call", "message"), bad_calls())
def test_bad_calls_name_the_shapes(call, message):
    with pytest.raises(InputError, match=message):
        S5(3, 4)(**call)


@pytest.mark.parametrize(
    "options",
    [
        {"state_width": 5, "conj_sym": True},
        {"blocks": 3},
        {"width": 0},
        {"discretization": "euler"},
        {"bandlimit": 0.0},
        {"bandlimit": "0.5"},
        {"bandlimit": float("inf")},
        {"bandlimit_mode": "sometimes"},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(InputError):
        S5(**{"width": 3, "state_width": 4} | options)


def test_bidirectional_refuses_state_and_step():
    layer = S5(3, 4, bidirectional=True)
    with pytest.raises(InputError, match="whole sequence"):
        layer.step(torch.zeros(2, 3))
    with pytest.raises(InputError, match="whole sequence"):
        layer(torch.zeros(2, 5, 3), torch.zeros(2, 4, dtype=torch.complex64))


def test_step_refuses_a_sequence():
    with pytest.raises(InputError, match=r"\[2, 5, 3\]"):
        S5(3, 4).step(torch.zeros(2, 5, 3))


def test_load_published_names_what_differs():
    layer = S5(3, 4)
    arrays = {name: value.detach().numpy() for name, value in S5(3, 4).named_parameters()}
    layer.load_published(arrays)
    assert all(np.array_equal(layer.get_parameter(name).detach(), value) for name, value in arrays.items())
    with pytest.raises(InputError, match=r"missing \['B'\]"):
        layer.load_published({name: value for name, value in arrays.items() if name != "B"})
    with pytest.raises(InputError, match=r"unknown \['E'\]"):
        layer.load_published(arrays | {"E": arrays["D"]})
    with pytest.raises(InputError, match=r"B must be \[4, 3, 2\], not \[4, 3\]"):
        layer.load_published(arrays | {"B": arrays["B"][..., 0]})


@pytest.mark.parametrize("kind", ["sequence", "step"])
def test_scales_of_numpy_are_taken(kind):
    layer, u = make(), torch.randn(N, L, H, dtype=torch.float64)
    scale = torch.rand((N,) if kind == "sequence" else (N, L), dtype=torch.float64) + 0.2
    expected = layer(u, None, scale)
    for other in (scale.numpy(), scale.tolist()):
        assert all(torch.equal(x, y) for x, y in zip(layer(u, None, other), expected, strict=True))


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("scale", [1.0, torch.ones(0)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_sequences_give_no_sequences(steps, scale, bidirectional):
    layer = S5(H, P, bidirectional=bidirectional)
    for u in (torch.zeros(0, steps, H), torch.zeros(steps, 0, H).transpose(0, 1)):
        y, state = layer(u, None, scale)
        y.sum().backward()
        with torch.no_grad():
            assert layer.eval()(u, None, scale)[0].shape == y.shape == u.shape
        assert bidirectional or state.shape == (0, P)
        layer.train()


class Shared(S5):
    """Whatever a frozen layer keeps, another thread at once replaces by what it made for its own scale."""

    kept = others = None

    @property
    def _frozen(self):
        return self.kept

    @_frozen.setter
    def _frozen(self, value):
        self.kept = self.others or value


def test_a_frozen_layer_in_threads_takes_the_scale_that_it_was_asked_for():
    layer, u = Shared(3, 4), torch.randn(2, 5, 3)
    layer.freeze()
    with torch.no_grad():
        expected, _ = layer(u, None, 0.5)
        layer(u, None, 2.0)
        layer.others = layer.kept
        assert torch.equal(layer(u, None, 0.5)[0], expected)

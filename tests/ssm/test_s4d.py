"""S4D, and what it shares with S4: convolution = recurrence, carried states, gradients, bad input."""

import math

import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.ssm import S4, S4D
from ssmbook.ssm.siso import CHUNK, run_chunks, run_steps, toeplitz

LAYERS = {
    "s4d": lambda H, N: S4D(H, N),
    "s4d-inv": lambda H, N: S4D(H, N, start="inv"),
    "s4-dplr": lambda H, N: S4(H, N),
    "s4-diag": lambda H, N: S4(H, N, mode="diag"),
}
N, H, STATE = 3, 4, 8


def make(kind):
    torch.manual_seed(0)
    return LAYERS[kind](H, STATE).double()


def random_state(layer):
    return torch.randn(N, H, layer.system.modes, dtype=torch.complex128)


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


@pytest.mark.parametrize("L", [9, CHUNK + 7, 2 * CHUNK])
@pytest.mark.parametrize("kind", LAYERS)
def test_whole_is_chunked_is_stepwise(kind, L):
    layer = make(kind)
    u, state = torch.randn(N, L, H, dtype=torch.float64), random_state(layer)

    def step(k):
        def run(u, x):
            y, x = layer.step(u[:, k], x, 0.5)
            return y[:, None], x

        return run

    cuts = [(0, 4), (4, 5), (5, L)]
    whole = results(layer, u, state, [lambda u, x: layer(u, x, 0.5)])
    chunked = results(layer, u, state, [lambda u, x, s=s: layer(u[:, slice(*s)], x, 0.5) for s in cuts])
    stepwise = results(layer, u, state, [step(k) for k in range(L)])
    for a, b, c in zip(whole, chunked, stepwise, strict=True):
        tolerance = 1e-10 * max(1.0, float(a.detach().abs().max()))
        torch.testing.assert_close(b, a, rtol=0, atol=tolerance)
        torch.testing.assert_close(c, a, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", LAYERS)
def test_no_state_is_the_zero_state(kind):
    layer = make(kind)
    u = torch.randn(N, 5, H, dtype=torch.float64)
    for ours, expected in zip(layer(u), layer(u, torch.zeros_like(random_state(layer))), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_scales_per_sequence_and_per_step(kind):
    """Each sequence by itself, each step by itself, with its own number, is the reference."""
    layer = make(kind)
    L = 6
    u, state = torch.randn(N, L, H, dtype=torch.float64), random_state(layer)
    scale = torch.rand(N, L, dtype=torch.float64) + 0.5
    y, last = layer(u, state, scale[:, 0])
    for n in range(N):
        y_n, last_n = layer(u[n : n + 1], state[n : n + 1], float(scale[n, 0]))
        torch.testing.assert_close(y[n : n + 1], y_n, rtol=0, atol=1e-11)
        torch.testing.assert_close(last[n : n + 1], last_n, rtol=0, atol=1e-11)
    y, last = layer(u, state, scale)
    for k in range(L):
        y_k, state = layer.step(u[:, k], state, scale[:, k])
        torch.testing.assert_close(y[:, k], y_k, rtol=0, atol=1e-12)
    torch.testing.assert_close(last, state, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_chunks_equal_steps_before_the_output_layer(kind):
    layer = make(kind)
    u, state = torch.randn(N, 70, H, dtype=torch.float64), random_state(layer)
    scale = torch.tensor(1.0, dtype=torch.float64)
    ours, expected = run_chunks(u, state, layer.system, scale), run_steps(u, state, layer.system, scale)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", LAYERS)
def test_gradcheck(kind):
    layer = make(kind)
    u, state = torch.randn(2, 3, H, dtype=torch.float64), random_state(layer)[:2]
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        layer, (u.requires_grad_(), state.requires_grad_(), scale), fast_mode=True
    )
    names, values = zip(*layer.named_parameters(), strict=True)

    def call(*values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (u.detach(),))

    assert torch.autograd.gradcheck(call, values, fast_mode=True)


def test_kernel_is_the_formula():
    layer = make("s4d")
    C, A = (
        torch.view_as_complex(layer.kernel.C),
        torch.complex(-layer.kernel.log_A_real.exp(), layer.kernel.A_imag),
    )
    dt = layer.kernel.log_dt.exp()[:, None]
    kernel = layer.kernel.maps(torch.tensor(1.0, dtype=torch.float64), 20).kernel
    for k in range(20):
        terms = C * (torch.exp(dt * A) - 1) / A * torch.exp(dt * A * k)
        torch.testing.assert_close(kernel[:, k], 2 * terms.sum(-1).real)


def test_toeplitz_convolves():
    kernel, u = torch.randn(2, 7), torch.randn(2, 7)
    expected = [sum(kernel[:, j] * u[:, k - j] for j in range(k + 1)) for k in range(7)]
    y = (toeplitz(kernel) @ u[..., None])[..., 0]
    torch.testing.assert_close(y, torch.stack(expected, 1))


def test_start():
    torch.manual_seed(0)
    layer = S4D(200, 16)
    assert (layer.kernel.log_A_real.exp() - 0.5).abs().max() < 1e-6
    expected = math.pi * torch.arange(8.0).expand(200, 8)
    torch.testing.assert_close(layer.kernel.A_imag.detach(), expected)
    assert math.log(1e-3) <= layer.kernel.log_dt.min() < math.log(1.5e-3)
    assert math.log(0.7e-1) < layer.kernel.log_dt.max() <= math.log(1e-1)
    assert float(layer.kernel.C.detach().square().sum(-1).mean()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("kind", LAYERS)
def test_bad_calls_name_the_shapes(kind):
    layer, u = LAYERS[kind](H, STATE), torch.zeros(2, 5, H)
    with pytest.raises(InputError, match=r"\[2, 5, 3\]"):
        layer(u[..., :3])
    with pytest.raises(InputError, match="float64"):
        layer(u.double())
    with pytest.raises(InputError, match=r"\[2, 4, 4\].*\[3, 4, 4\]"):
        layer(u, torch.zeros(3, 4, 4, dtype=torch.complex64))
    with pytest.raises(InputError, match="above 0"):
        layer(u, step_scale=0.0)
    with pytest.raises(InputError, match=r"\[2, 5, 4\]"):
        layer.step(u)


@pytest.mark.parametrize("kind", LAYERS)
def test_odd_states_are_refused(kind):
    with pytest.raises(InputError, match="even"):
        LAYERS[kind](4, 7)


@pytest.mark.parametrize("kind", LAYERS)
def test_autocast_runs_in_the_precision_of_the_parameters(kind):
    layer, u = LAYERS[kind](H, STATE), torch.randn(2, 5, H)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = layer(u.bfloat16())
    assert y.dtype == torch.float32
    assert state.dtype == torch.complex64
    torch.testing.assert_close(y, layer(u.bfloat16().float())[0])


def test_a_long_stream_stays_bounded():
    layer = S4(2, 8).double()
    u, state = torch.ones(1, 64 * 50, 2, dtype=torch.float64), None
    with torch.no_grad():
        for _ in range(5):
            _, state = layer(u, state)
    assert state.isfinite().all()
    assert state.abs().max() < 100


@pytest.mark.parametrize("mode", ["held", "once"])
def test_bandlimit_masks_fast_modes(mode):
    """As in S5: held, it follows the step; once, it is part of the start."""
    torch.manual_seed(0)
    layer = S4D(3, 16, bandlimit=0.1, bandlimit_mode=mode).double()
    torch.manual_seed(0)
    free = S4D(3, 16).double()
    u = torch.randn(2, 6, 3, dtype=torch.float64)
    A, _, C, step = free.kernel.values()
    for scale in (1.0, 0.25):
        limit = scale if mode == "held" else 1.0
        keep = limit * step[:, None] * A.imag.abs() / (2 * torch.pi) < 0.05
        assert 0 < keep.sum() < keep.numel()
        masked = S4D(3, 16).double()
        masked.load_state_dict(free.state_dict())
        with torch.no_grad():
            masked.kernel.C.copy_(torch.view_as_real(C * keep))
        for s in (scale, torch.full((2, 6), scale, dtype=torch.float64)):
            expected, state = masked(u, None, s)
            y, last = layer(u, None, s)
            torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
            torch.testing.assert_close(last, state, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_any_memory_format_computes_the_same(kind):
    layer, u = LAYERS[kind](H, STATE), torch.randn(2, 5, H)
    expected = layer(u)[0]
    torch.testing.assert_close(layer.to(memory_format=torch.channels_last)(u)[0], expected)
    torch.testing.assert_close(layer.real_step()(u[:, :1], None, 1.0)[0], expected[:, :1])

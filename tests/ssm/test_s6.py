"""S6, Mamba's layer: the equations with a loop, carried states, gradients, its start, bad input."""

import pytest
import torch
import torch.nn.functional as F

from ssmbook.errors import InputError
from ssmbook.ssm import S6, plain
from ssmbook.ssm.kernels.dispatch import selective_scan
from ssmbook.ssm.zoh import share_of_a_step

N, L, H, S = 3, 7, 20, 5  # of rank 2
SCALES = {
    "number": 0.5,
    "sequence": torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64),
    "step": torch.linspace(0.2, 2, N * L, dtype=torch.float64).view(N, L),
}


def make(**options):
    torch.manual_seed(0)
    layer = S6(H, S, **options).double()
    with torch.no_grad():
        layer.dt_proj.bias += 2  # as if trained: steps that differ, and a state that is heard
    return layer


def inputs():
    torch.manual_seed(1)
    return torch.randn(N, L, H, dtype=torch.float64), torch.randn(N, H, S, dtype=torch.float64)


def equations(layer, u, x0, scale):
    """Algorithm 2, with each matrix by its name."""
    V, W_B, W_C = layer.x_proj.weight.split([2, S, S])
    step = F.softplus(u @ V.T @ layer.dt_proj.weight.T + layer.dt_proj.bias)
    y, last = plain.selective_scan(u, step, -layer.A_log.exp(), u @ W_B.T, u @ W_C.T, x0, scale)
    return y + layer.D * u, last


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize("kind", SCALES)
def test_values_and_gradients_are_the_plain_ones(kind, time_major):
    layer, (u, x0), scale = make(), inputs(), SCALES[kind]
    if time_major:
        u = u.transpose(0, 1).contiguous().transpose(0, 1)
    given = u.requires_grad_(), x0.requires_grad_(), *layer.parameters()

    def results(y, last):
        return y, last, *torch.autograd.grad(y.square().sum() + last.pow(3).sum(), given)

    expected = results(*equations(layer, u, x0, scale))
    for ours, plainly in zip(results(*layer(u, x0, scale)), expected, strict=True):
        torch.testing.assert_close(ours, plainly, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("with_state", [False, True])
def test_gradcheck(with_state):
    torch.manual_seed(0)
    N, L, H, S = 2, 3, 2, 2
    u, step, B, C = (torch.rand(N, L, size, dtype=torch.float64) + 0.1 for size in (H, H, S, S))
    given = [u, step, -torch.rand(H, S, dtype=torch.float64), B, C]
    if with_state:
        given.append(torch.randn(N, H, S, dtype=torch.float64))
    assert torch.autograd.gradcheck(selective_scan, [x.requires_grad_() for x in given])


def test_only_the_state_or_only_the_output_has_a_gradient():
    layer, (u, x0) = make(), inputs()
    u.requires_grad_()
    for i in range(2):
        (ours,) = torch.autograd.grad(layer(u, x0)[i].square().sum(), u)
        (expected,) = torch.autograd.grad(equations(layer, u, x0, 1.0)[i].square().sum(), u)
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", SCALES)
def test_whole_is_chunked_is_stepwise(kind):
    layer, (u, x0) = make(), inputs()
    whole, last = layer(u, x0, SCALES[kind])
    for sizes in ([4, 3], [1] * L):
        state, outputs, start = x0, [], 0
        for chunk in u.split(sizes, 1):
            scale, stop = SCALES[kind], start + chunk.shape[1]
            y, state = layer(chunk, state, scale[:, start:stop] if kind == "step" else scale)
            outputs.append(y)
            start = stop
        torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=0, atol=1e-12)
        torch.testing.assert_close(state, last, rtol=0, atol=1e-12)
    y, state = layer.step(u[:, 0], x0, 0.5)
    torch.testing.assert_close(y, layer(u, x0, 0.5)[0][:, 0])


@pytest.mark.parametrize("parts", [2, 10, 50])
def test_the_parts_of_a_step_do_what_the_step_does(parts):
    """At a higher rate the same input comes in more and shorter steps; by Euler's rule it would settle elsewhere."""
    layer, (u, x0) = make(), inputs()
    whole = layer(u, x0)[1]
    again = u.repeat_interleave(parts, 1)
    torch.testing.assert_close(layer(again, x0, 1 / parts)[1], whole, rtol=1e-12, atol=1e-12)
    uneven = torch.rand(N, parts * L, dtype=torch.float64).view(N, L, parts) + 0.1
    uneven = (uneven / uneven.sum(-1, keepdim=True)).flatten(1)
    torch.testing.assert_close(layer(again, x0, uneven)[1], whole, rtol=1e-12, atol=1e-12)
    last = layer.float()(again.float(), x0.float(), 1 / parts)[1]
    torch.testing.assert_close(last.double(), whole, rtol=1e-4, atol=1e-4)


def test_the_share_of_a_step_is_a_difference_of_exponentials():
    z = torch.logspace(-20, 2.5, 50, dtype=torch.float64)
    for s in (1 / 50, 0.5, 1.0, 4.0):
        scale = torch.tensor(s, dtype=torch.float64)
        expected = torch.expm1(-s * z) / torch.expm1(-z)
        torch.testing.assert_close(share_of_a_step(scale, z), expected, rtol=1e-12, atol=0)
        single = share_of_a_step(scale.float(), z.float()).double()
        torch.testing.assert_close(single, expected, rtol=1e-6, atol=0)
        assert share_of_a_step(scale, torch.zeros(1, dtype=torch.float64)) == pytest.approx(s)


@pytest.mark.parametrize(("bias", "scale"), [(-60, 1.0), (-60, 0.1), (-800, 1.0), (-800, 0.1)])
def test_a_step_of_nothing_holds_the_state(bias, scale):
    """Where Δ is near 0 the input is passed over, which is what selection may choose."""
    layer, (u, x0) = make(), inputs()
    with torch.no_grad():
        layer.dt_proj.bias.fill_(bias)
    torch.testing.assert_close(layer(u, x0, scale)[1], x0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [-45, -60, -90, -800])
def test_gradients_of_a_step_of_nothing_are_finite_at_any_scale(bias):
    """In float32, as it is trained; they tend to 0 with Δ."""
    layer, (u, x0) = make().float(), inputs()
    with torch.no_grad():
        layer.dt_proj.bias.fill_(bias)
    for scale in (0.1, 4.0, torch.full((N, 1), 0.1)):
        y, last = layer(u.float(), x0.float(), scale)
        gradients = torch.autograd.grad(y.square().sum() + last.square().sum(), list(layer.parameters()))
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert gradients[-1].abs().max() < 1e-10  # dt_proj.bias


def test_the_start_is_the_published_one():
    torch.manual_seed(0)
    layer = S6(32)
    assert {n: list(p.shape) for n, p in layer.named_parameters()} == {
        "A_log": [32, 16],
        "D": [32],
        "x_proj.weight": [2 + 2 * 16, 32],
        "dt_proj.weight": [32, 2],
        "dt_proj.bias": [32],
    }
    torch.testing.assert_close(-layer.A_log.exp(), -torch.arange(1.0, 17).expand(32, 16))
    step = layer.selected(torch.zeros(32))[0]
    assert 1e-3 <= step.min() < 5e-3
    assert 2e-2 < step.max() <= 1e-1
    torch.manual_seed(0)
    loud = S6(32, state_gain=10)
    torch.testing.assert_close(loud.x_proj.weight[-16:], 10 * layer.x_proj.weight[-16:])
    torch.testing.assert_close(loud.x_proj.weight[:-16], layer.x_proj.weight[:-16])


def test_float32_is_close_to_float64():
    layer, (u, x0) = make(), inputs()
    expected = layer(u, x0)
    for ours, exact in zip(layer.float()(u.float(), x0.float()), expected, strict=True):
        assert (ours - exact).norm() <= 2e-6 * exact.norm()


def test_mistakes_are_named():
    layer, (u, x0) = make(), inputs()
    with pytest.raises(InputError, match=r"u must be \[N, L, 20\]"):
        layer(u[..., 1:])
    with pytest.raises(InputError, match=r"state must be torch.float64 \[3, 20, 5\]"):
        layer(u, x0 + 0j)
    with pytest.raises(InputError, match="step_scale"):
        layer(u, x0, 0.0)
    with pytest.raises(InputError, match=r"takes u \[N, 20\]"):
        layer.step(u)
    with pytest.raises(InputError, match="at least 1, not 4 and 0"):
        S6(4, 0)
    with pytest.raises(InputError, match="state_gain"):
        S6(4, state_gain=-1)

import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.ssm import S5, SelectiveS5
from ssmbook.ssm.plain import s5
from tests.ssm.test_plain import complex_parts

N, L, H, P = 3, 7, 4, 6
SCALES = {
    "number": 0.5,
    "sequence": torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64),
    "step": torch.linspace(0.2, 2, N * L, dtype=torch.float64).view(N, L),
}


def make(**options):
    """As if trained: the gate opens and closes, and the state is heard."""
    torch.manual_seed(0)
    layer = SelectiveS5(H, P, state_gain=30, **options).double()
    with torch.no_grad():
        layer.gate_weight.normal_()
        layer.gate_bias.fill_(-0.3)
        layer.log_step += 2
    return layer


def inputs():
    torch.manual_seed(1)
    return torch.randn(N, L, H, dtype=torch.float64), torch.randn(N, P, dtype=torch.complex128)


@pytest.mark.parametrize("kind", SCALES)
def test_values_and_gradients_are_the_plain_ones(kind):
    layer, (u, x0), scale = make(), inputs(), SCALES[kind]
    given = u.requires_grad_(), *layer.parameters()

    def results(y, last):
        return y, last, *torch.autograd.grad(y.square().sum() + last.abs().square().sum(), given)

    gate = 2 / (1 + torch.exp(-(u * layer.gate_weight).sum(-1) - layer.gate_bias))  # [N, L]
    expected = results(*s5(u, *complex_parts(layer), x0, scale * gate))
    for ours, plain in zip(results(*layer(u, x0, scale)), expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


def test_gradcheck_through_the_gate():
    layer, (u, x0) = make(), inputs()
    w, b = layer.gate_weight, layer.gate_bias

    def run(u, x0, w, b, scale):
        return torch.func.functional_call(layer, {"gate_weight": w, "gate_bias": b}, (u, x0, scale))

    scale = torch.tensor(0.7, dtype=torch.float64).requires_grad_()
    given = [x.detach().clone().requires_grad_() for x in (u[:2, :3], x0[:2], w, b)]
    assert torch.autograd.gradcheck(run, (*given, scale))


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("options", [{}, {"conj_sym": True, "bandlimit": 0.3}, {"discretization": "zoh"}])
def test_whole_is_chunked_is_stepwise(options, kind):
    layer, u = make(**options), inputs()[0]
    x0 = torch.randn(N, layer.modes, dtype=torch.complex128)
    whole, last = layer(u, x0, SCALES[kind])
    for sizes in ([4, 3], [1] * L):
        state, outputs, start = x0, [], 0
        for chunk in u.split(sizes, 1):
            scale, stop = SCALES[kind], start + chunk.shape[1]
            y, state = layer(chunk, state, scale[:, start:stop] if kind == "step" else scale)
            outputs.append(y)
            start = stop
        torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=0, atol=1e-10)
        torch.testing.assert_close(state, last, rtol=0, atol=1e-10)


def test_it_starts_as_s5():
    u, x0 = inputs()
    torch.manual_seed(0)
    ours = SelectiveS5(H, P).double()
    torch.manual_seed(0)
    theirs = S5(H, P).double()
    for got, expected in zip(ours(u, x0, 0.5), theirs(u, x0, 0.5), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_a_closed_gate_holds_the_state():
    layer, (u, x0) = make(), inputs()
    with torch.no_grad():
        layer.gate_bias.fill_(-60)
    torch.testing.assert_close(layer(u, x0)[1], x0, rtol=0, atol=1e-12)


def test_frozen_and_bidirectional():
    layer, (u, _) = make(bidirectional=True), inputs()
    y, state = layer(u)
    assert state is None
    gate = layer.gate(u)
    plain = make(bidirectional=True)
    torch.testing.assert_close(y, S5.forward(_without_gate(plain), u, None, gate)[0], rtol=0, atol=1e-11)
    layer = make().eval()
    expected = layer(u[:, :1])[0]
    layer.freeze()
    with torch.no_grad():
        torch.testing.assert_close(layer(u[:, :1])[0], expected, rtol=0, atol=1e-12)


def _without_gate(layer):
    with torch.no_grad():
        layer.gate_weight.zero_()
        layer.gate_bias.zero_()
    return layer


def test_weights_of_s5_are_taken():
    layer, other = make(), S5(H, P).double()
    before = layer.gate_weight.detach().clone()
    layer.load_published(dict(other.named_parameters()))
    assert torch.equal(layer.B, other.B)
    assert torch.equal(layer.gate_weight, before)


@pytest.mark.parametrize("gain", [0, -1, float("nan"), "loud"])
def test_the_gain_of_the_state_is_checked(gain):
    with pytest.raises(InputError, match="state_gain"):
        SelectiveS5(H, P, state_gain=gain)


def test_state_gain_scales_the_start():
    torch.manual_seed(0)
    one = S5(H, P)
    torch.manual_seed(0)
    torch.testing.assert_close(S5(H, P, state_gain=10).C, 10 * one.C)

"""What holds for every layer alike: which axis a step_scale means, sequences in pieces, half precision."""

import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.ssm import S4, S4D, S5, S6, SelectiveS5, SequenceLayer

N, L, H = 3, 9, 6
LAYERS = {
    "s5": lambda **o: S5(H, 8, **o),
    "s5, zoh, conj_sym, held": lambda **o: S5(H, 8, discretization="zoh", conj_sym=True, bandlimit=0.5, **o),
    "s5-selective": lambda **o: SelectiveS5(H, 8, **o),
    "s4d": lambda **o: S4D(H, 8, **o),
    "s4": lambda **o: S4(H, 8, **o),
    "s4 diag": lambda **o: S4(H, 8, mode="diag", **o),
    "s6": lambda **o: S6(H, 4, **o),
}


def make(kind, **options):
    """As if trained: a state that is heard, and a gate that opens and closes."""
    torch.manual_seed(0)
    layer = LAYERS[kind](state_gain=10, **options).double()
    for name, parameter in layer.named_parameters():
        if "gate_" in name:
            torch.nn.init.normal_(parameter)
    return layer


def inputs(layer, steps=L):
    u = torch.randn(N, steps, H, dtype=torch.float64)
    return u, torch.randn(N, *layer.state_shape, dtype=layer(u)[1].dtype)


@pytest.mark.parametrize("kind", LAYERS)
def test_one_axis_that_could_be_sequences_or_steps_is_refused(kind):
    layer = make(kind)
    u, state = inputs(layer, steps=N)
    scale = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    with pytest.raises(
        InputError, match=r"step_scale \[3\] may be .* give \[3, 1\] for each seq.* or \[1, 3\]"
    ):
        layer(u, state, scale)
    per_sequence, per_step = layer(u, state, scale[:, None]), layer(u, state, scale[None])
    y, last = layer(u, state, scale.expand(N, N))
    torch.testing.assert_close(per_step, (y, last), rtol=0, atol=1e-12)
    for n in range(N):
        y, last = layer(u[n : n + 1], state[n : n + 1], float(scale[n]))
        torch.testing.assert_close(per_sequence[0][n : n + 1], y, rtol=0, atol=1e-10)
        torch.testing.assert_close(per_sequence[1][n : n + 1], last, rtol=0, atol=1e-10)


RESETS = torch.zeros(N, L, dtype=torch.bool)
RESETS[0, 0] = RESETS[0, 5] = RESETS[1, 3] = RESETS[1, 4] = RESETS[2, 8] = True
LENGTHS = torch.tensor([9, 6, 0])


def apart(layer, u, state, scale):
    """Every piece by itself."""
    outputs, lasts = [], []
    for n in range(N):
        length = int(LENGTHS[n])
        cuts = [k for k in range(length) if RESETS[n, k]]
        x, y, start = state[n : n + 1], [u.new_zeros(1, 0, H)], 0
        for stop in (*cuts, length):
            if start < stop:
                part, x = layer(u[n : n + 1, start:stop], x, scale[n : n + 1, start:stop])
                y.append(part)
            if stop < length:
                x = torch.zeros_like(x)
            start = stop
        outputs.append(torch.cat([*y, u.new_zeros(1, L - length, H)], 1))
        lasts.append(x)
    return torch.cat(outputs), torch.cat(lasts)


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_lengths_and_resets_are_pieces_run_apart(kind, per_step):
    layer = make(kind)
    u, state = inputs(layer)
    scale = (
        torch.rand(N, L, dtype=torch.float64) + 0.5
        if per_step
        else torch.full((N, L), 0.7, dtype=torch.float64)
    )
    given = u.requires_grad_(), state.requires_grad_(), *layer.parameters()

    def results(y, last):
        loss = y.pow(3).sum() + (last * (1 - 2j)).real.sum()
        return y, last, *torch.autograd.grad(loss, given, materialize_grads=True)

    ours = results(*layer(u, state, scale if per_step else 0.7, lengths=LENGTHS, resets=RESETS))
    for a, b in zip(ours, results(*apart(layer, u, state, scale)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert not ours[0][1, 6:].any()
    torch.testing.assert_close(ours[1][2], state[2])  # of no steps


def test_a_bidirectional_layer_in_pieces():
    layer = make("s5", bidirectional=True)
    u = torch.randn(1, L, H, dtype=torch.float64)
    resets = torch.zeros(1, L, dtype=torch.bool)
    resets[0, 4] = True
    y, state = layer(u, lengths=torch.tensor([7]), resets=resets)
    assert state is None
    expected = torch.cat([layer(u[:, :4])[0], layer(u[:, 4:7])[0], torch.zeros_like(u[:, 7:])], 1)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", LAYERS)
def test_padding_is_never_looked_at(kind):
    layer = make(kind)
    u, state = inputs(layer)
    u[1, 6:], u[2] = float("nan"), float("inf")
    y, last = layer(u, state, lengths=LENGTHS)
    assert y.isfinite().all()
    assert last.isfinite().all()
    (y.square().sum() + last.abs().sum()).backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_pieces_pass_through_the_residual_layer():
    model = SequenceLayer(make("s5"), H).double()
    u = torch.randn(1, L, H, dtype=torch.float64)
    y, _ = model(u, resets=torch.arange(L)[None] == 4)
    torch.testing.assert_close(y[:, 4:], model(u[:, 4:])[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ({"lengths": torch.tensor([1, 2])}, r"lengths must be integers \[3\], not torch.int64 \[2\]"),
        ({"lengths": torch.tensor([1.0, 2, 3])}, "integers"),
        ({"lengths": torch.tensor([True, False, True])}, "integers"),
        ({"lengths": torch.tensor([1j, 2, 3])}, "integers"),
        ({"lengths": torch.tensor([0, 2, 10])}, "from 0 to 9, not 0 to 10"),
        (
            {"resets": torch.zeros(3, 8, dtype=torch.bool)},
            r"resets must be bool \[3, 9\], not torch.bool \[3, 8\]",
        ),
        ({"resets": torch.zeros(3, 9)}, "torch.float32"),
    ],
)
def test_wrong_pieces_are_named(pieces, message):
    with pytest.raises(InputError, match=message):
        make("s5")(torch.zeros(N, L, H, dtype=torch.float64), **pieces)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", LAYERS)
def test_half_precision_computes_in_float32_inside(kind, dtype):
    """The same numbers as a float32 layer with the rounded parameters, rounded; gradients reach the parameters."""
    layer = make(kind).to(dtype)
    exact = make(kind).float()
    exact.load_state_dict(layer.state_dict())
    u = torch.randn(N, L, H).to(dtype)
    y, state = layer(u)
    expected, last = exact(u.float())
    assert y.dtype == dtype
    assert torch.equal(y, expected.to(dtype))
    assert torch.equal(state, last)
    again, _ = layer(u, state)
    assert torch.equal(again, exact(u.float(), last)[0].to(dtype))
    again.float().square().sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in layer.parameters())
    with pytest.raises(InputError, match=f"u must be {dtype}"):
        layer(u.float())
    layer.step(u[:, 0], state)


def test_half_precision_has_no_poles():
    with pytest.raises(InputError, match=r"float16.*use layer.float\(\)"):
        S5(H, 8).half().h2_norm(0.1)

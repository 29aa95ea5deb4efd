import copy
import math

import pytest
import torch
import torch.nn.functional as F

from ssmbook import plots
from ssmbook.cli import main
from ssmbook.detector.recurrences import (
    RECURRENCES,
    ConvLSTM,
    SSMBlock,
    detach_states,
    make_recurrence,
    map_states,
    over_pixels,
    reset_states,
)
from ssmbook.detector.recurrences.convlstm import advance
from ssmbook.errors import InputError
from ssmbook.ssm import S5
from ssmbook.study.arms import VARIANTS


def make(name, channels=4):
    torch.manual_seed(0)
    return make_recurrence(name, channels).double()


def test_ssm_block_equals_its_equations():
    torch.manual_seed(0)
    layer = S5(4, 4)
    block = SSMBlock(layer, 4).double()
    x, state = torch.randn(3, 5, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.complex128)
    a = F.layer_norm(x, (4,), block.norm1.weight, block.norm1.bias)
    y, last = layer(a, state, 0.5)
    z = F.gelu(y) + a
    b = F.layer_norm(z, (4,), block.norm2.weight, block.norm2.bias)
    value, gate = (b @ block.encode.weight.T).chunk(2, -1)
    out, new = block(x, state, 0.5)
    torch.testing.assert_close(out, (value * F.gelu(gate)) @ block.decode.weight.T + b, rtol=0, atol=1e-12)
    torch.testing.assert_close(new, last, rtol=0, atol=1e-12)


def test_convlstm_equals_a_loop_of_1x1_convolutions():
    torch.manual_seed(0)
    C, B, L, hw = 3, 2, 4, (2, 3)
    block = ConvLSTM(C).double()
    x = torch.randn(L, B, C, *hw, dtype=torch.float64)
    h, c = (torch.randn(B, C, *hw, dtype=torch.float64) for _ in "hc")
    y, (h_last, c_last) = over_pixels(block, x.permute(0, 1, 3, 4, 2), (h, c), 1.0)
    for t in range(L):
        m = F.conv2d(torch.cat([x[t], h], 1), block.gates.weight[..., None, None], block.gates.bias)
        forget, enter, leave = (m[:, i * C : (i + 1) * C].sigmoid() for i in range(3))
        c = forget * c + enter * m[:, 3 * C :].tanh()
        h = leave * c.tanh()
        torch.testing.assert_close(y[t].permute(0, 3, 1, 2), h, rtol=0, atol=1e-12)
    torch.testing.assert_close(h_last, h, rtol=0, atol=1e-12)
    torch.testing.assert_close(c_last, c, rtol=0, atol=1e-12)


def held(c, f, new, seconds, parts=10_000):
    """ċ = (c − new / (1 − f)) ln f over some steps of training, by the midpoint rule: what f c + new solves in one."""
    for _ in range(parts):
        half = c + seconds / parts / 2 * f.log() * (c - new / (1 - f))
        c = c + seconds / parts * f.log() * (half - new / (1 - f))
    return c


@pytest.mark.parametrize("scale", [0.02, 0.1, 0.5, 1.0, 4.0])
def test_a_convlstms_cell_solves_its_equation_over_a_step_of_any_length(scale):
    torch.manual_seed(0)
    c, logits, new = (torch.randn(6, 3, dtype=torch.float64) for _ in range(3))
    f = logits.sigmoid()
    assert (held(c, f, new, 1.0) - (f * c + new)).abs().max() < 1e-7
    ours = advance(c, logits, new, scale)
    torch.testing.assert_close(ours, held(c, f, new, scale), rtol=0, atol=1e-7)
    parts = c
    for part in (0.2, 0.5, 0.3):
        parts = advance(parts, logits, new, part * scale)
    torch.testing.assert_close(parts, ours, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [0.02, 0.1, 0.5, 4.0])
def test_gates_of_any_openness_are_right_in_float32(scale):
    logits = torch.linspace(-40, 60, 1001)
    ones, nothing = torch.ones_like(logits), torch.zeros_like(logits)
    passed = scale * F.logsigmoid(logits.double())
    kept, entered = passed.exp(), passed.expm1() / F.logsigmoid(logits.double()).expm1()
    torch.testing.assert_close(advance(ones, logits, nothing, scale).double(), kept, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(advance(nothing, logits, ones, scale).double(), entered, rtol=1e-6, atol=0)


@pytest.mark.parametrize("logit", [-200.0, -20.0, 20.0, 200.0])
def test_gates_that_are_shut_or_open_stay_finite(logit):
    """An open gate keeps the cell and adds that part of the input; a shut one takes the input at once."""
    values = [torch.ones(1, 1), torch.full((1, 1), logit), torch.ones(1, 1)]
    for value in values:
        value.requires_grad_()
    out = advance(*values, 0.1)
    assert float(out) == pytest.approx(1.1 if logit > 0 else 1.0)
    assert all(g.isfinite().all() for g in torch.autograd.grad(out, values))


def test_a_step_scale_of_each_step_and_pixel_reaches_a_convlstms_cell():
    block, x = make("convlstm"), torch.randn(3, 5, 4, dtype=torch.float64)
    scales = torch.rand(5, 3, dtype=torch.float64) + 0.1
    whole, state = block(x, None, scales)
    for n in range(5):
        own = None
        for k in range(3):
            y, own = block(x[k : k + 1, n : n + 1], own, float(scales[n, k]))
            torch.testing.assert_close(y[0], whole[k, n : n + 1], rtol=0, atol=1e-12)
        torch.testing.assert_close(own[1], state[1][n : n + 1], rtol=0, atol=1e-12)
    same, _ = block(x, None, torch.ones(5, 1, dtype=torch.float64))
    torch.testing.assert_close(same, block(x)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("bias", [5.0, 12.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_steps_of_a_convlstm_are_as_exact_in_half_precision_as_long_ones(dtype, bias):
    """Of gates that forget little: what a short step adds to the cell is lost where that is rounded to half."""
    block, x = make("convlstm"), torch.randn(200, 5, 4).to(dtype)
    with torch.no_grad():
        block.gates.bias[:4] = bias
        half, autocast = copy.deepcopy(block).to(dtype), block.float()
        exact = copy.deepcopy(half).double()

        def off(run, scale):
            wanted, found = exact(x.double(), None, scale)[0], run(scale)
            assert found.dtype == dtype
            return float((found - wanted).norm() / wanted.norm())

        def in_autocast(scale):
            with torch.autocast("cpu", dtype):
                return autocast(x, None, scale)[0]

        for run in (lambda scale: half(x, None, scale)[0], in_autocast):
            assert off(run, 0.05) < max(off(run, 1.0), 8 * torch.finfo(dtype).eps)
            assert off(run, torch.full((5, 1), 0.05)) < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_convlstm_in_half_precision_goes_on_after_a_longer_step(dtype):
    block, x = make("convlstm").to(dtype), torch.randn(1, 5, 4).to(dtype)
    state = block(x, block(x)[1], 3.0)[1]
    y, (h, c) = block(x, state)
    assert (y.dtype, h.dtype, c.dtype) == (dtype, dtype, torch.float32)


@pytest.mark.parametrize("scale", [-1.0, 0.0, math.nan, math.inf])
def test_step_scales_that_make_no_sense_are_refused_by_a_convlstm(scale):
    block, x = make("convlstm"), torch.zeros(1, 5, 4, dtype=torch.float64)
    for given in (scale, torch.tensor(scale), torch.tensor([[1.0]] * 4 + [[scale]])):
        with pytest.raises(InputError, match="step_scale must be above 0 and finite, not"):
            block(x, None, given)


def test_gradients_of_a_following_convlstm():
    block, x = make("convlstm", 2), torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    scales = torch.rand(3, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda u: block(u, None, scales)[0], x)


@pytest.mark.parametrize("name", RECURRENCES)
def test_chunked_is_whole_is_step_by_step(name):
    block = make(name)
    tokens = torch.randn(7, 2, 2, 3, 4, dtype=torch.float64)
    whole, last = over_pixels(block, tokens, None, 1.0)
    for sizes in ([3, 4], [1] * 7):
        state, parts = None, []
        for chunk in tokens.split(sizes):
            y, state = over_pixels(block, chunk, state, 1.0)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-10)
        map_states(lambda s: s, last)
        for s, expected in zip(leaves(state), leaves(last), strict=True):
            torch.testing.assert_close(s, expected, rtol=0, atol=1e-10)


def leaves(states):
    found = []
    map_states(found.append, states)
    return found


def test_step_scale_of_a_frame_reaches_its_pixels():
    block = make("s5")
    tokens = torch.randn(3, 2, 2, 2, 4, dtype=torch.float64)
    scale = torch.tensor([[0.5, 1.0], [0.25, 2.0], [1.0, 1.5]], dtype=torch.float64)  # [L, B]
    per_step, _ = over_pixels(block, tokens, None, scale)
    per_slot, _ = over_pixels(block, tokens, None, scale[0])
    for b in range(2):
        state, slot = None, tokens[:, b : b + 1]
        for t in range(3):
            y, state = over_pixels(block, slot[t : t + 1], state, float(scale[t, b]))
            torch.testing.assert_close(per_step[t : t + 1, b : b + 1], y, rtol=0, atol=1e-12)
        y, _ = over_pixels(block, slot, None, float(scale[0, b]))
        torch.testing.assert_close(per_slot[:, b : b + 1], y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", RECURRENCES)
def test_reset_starts_a_slot_anew_and_leaves_the_others(name):
    block = make(name)
    tokens = torch.randn(4, 3, 2, 2, 4, dtype=torch.float64)
    _, state = over_pixels(block, tokens, None, 1.0)
    state = reset_states([state], torch.tensor([False, True, False]))[0]
    y, _ = over_pixels(block, tokens, state, 1.0)
    fresh, _ = over_pixels(block, tokens, None, 1.0)
    carried, _ = over_pixels(block, torch.cat([tokens, tokens]), None, 1.0)
    torch.testing.assert_close(y[:, 1], fresh[:, 1], rtol=0, atol=1e-12)
    torch.testing.assert_close(y[:, [0, 2]], carried[4:, [0, 2]], rtol=0, atol=1e-10)
    if name != "none":
        assert not torch.allclose(carried[4:], fresh)


def test_states_are_changed_in_their_own_structure():
    h = torch.ones(2, 1, 1, 1, requires_grad=True)
    states = [(h * 2, h * 3), None, h * 1j]
    reset = reset_states(states, [True, False])
    assert isinstance(reset[0], tuple)
    assert reset[1] is None
    assert [s.flatten().tolist() for s in leaves(reset)] == [[0, 2], [0, 3], [0, 1j]]
    assert all(s.requires_grad for s in leaves(reset))
    assert not any(s.requires_grad for s in leaves(detach_states(states)))
    assert reset_states(None, [True]) is None
    assert detach_states(None) is None


def test_mistakes_are_named():
    with pytest.raises(InputError, match="'gru'"):
        make_recurrence("gru", 4)
    with pytest.raises(InputError, match=r"\[2\]"):
        reset_states([torch.zeros(2, 1, 1, 1)], [True])
    tokens = torch.zeros(1, 2, 3, 3, 4, dtype=torch.float64)
    for name in ("s5", "convlstm"):
        _, state = over_pixels(make(name), tokens[:, :1], None, 1.0)
        with pytest.raises(InputError, match=r"\[1, 4, 3, 3\]"):
            over_pixels(make(name), tokens, state, 1.0)
    with pytest.raises(InputError, match="pair"):
        over_pixels(make("convlstm"), tokens, torch.zeros(2, 4, 3, 3), 1.0)


def test_whatever_lists_recurrences_has_them_all(capsys):
    assert set(plots.MODEL_COLOURS) <= set(VARIANTS)  # any other model is grey
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(RECURRENCES[:-1])} or {RECURRENCES[-1]}" in words

"""The filter beside a state-space layer: by its definition, at other rates, in pieces, in files and exports."""

import pytest
import torch

from ssmbook.detector import PRESETS, Detector, load_checkpoint, plain, save_checkpoint
from ssmbook.detector.recurrences import make_recurrence
from ssmbook.detector.recurrences.low_pass import LowPass
from ssmbook.errors import InputError
from ssmbook.live.export import ExportedStep

RECURRENCES = ["s5", "s5-selective"]


@pytest.fixture(autouse=True)
def in_float64():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def a_filter(channels=3):
    low_pass = LowPass(channels)
    with torch.no_grad():
        low_pass.log_tau.uniform_(-1, 1)
    return low_pass


def a_block(recurrence):
    block = make_recurrence(recurrence, 6, low_pass=True)
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return block


@pytest.mark.parametrize(
    "scale", [1.0, 0.1, torch.tensor(0.3), torch.rand(2, 1) + 0.1, torch.rand(2, 5) + 0.1]
)
def test_it_is_the_recursion(scale):
    low_pass, a, m = a_filter(), torch.randn(5, 2, 3), torch.randn(2, 3)
    means, last = low_pass(a, m, scale)
    every = torch.as_tensor(scale, dtype=a.dtype).expand(2, 5)
    for n in range(2):
        for c in range(3):
            value = m[n, c]
            for k in range(5):
                r = torch.exp(-every[n, k] / low_pass.log_tau[c].exp())
                value = r * value + (1 - r) * a[k, n, c]
                torch.testing.assert_close(means[k, n, c], value)
    assert torch.equal(last, means[-1])
    assert torch.equal(low_pass(a, None, scale)[0], low_pass(a, torch.zeros(2, 3), scale)[0])


def test_a_step_cut_into_ten_ends_where_it_would_whole():
    low_pass, a = a_filter(), torch.randn(4, 2, 3)
    whole, last = low_pass(a, None, 1.0)
    parts, end = low_pass(a.repeat_interleave(10, 0), None, 0.1)
    torch.testing.assert_close(parts[9::10], whole)
    torch.testing.assert_close(end, last)


def test_gradients():
    low_pass, a, m = (
        a_filter(2),
        torch.randn(3, 2, 2, requires_grad=True),
        torch.randn(2, 2, requires_grad=True),
    )
    scale = torch.rand(2, 3) + 0.1

    def run(a, m, log_tau):
        return torch.func.functional_call(low_pass, {"log_tau": log_tau}, (a, m, scale))

    assert torch.autograd.gradcheck(run, (a, m, low_pass.log_tau))


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_the_block_sees_it_in_the_place_of_its_input(recurrence):
    block, x = a_block(recurrence), torch.randn(5, 4, 6)
    a = block.norm1(x)
    mean, _ = block.low_pass(a, None, 0.5)
    y, _ = block.layer(a.transpose(0, 1), None, 0.5)
    y = y.transpose(0, 1) - block.layer.D * a + block.layer.D * mean
    b = block.norm2(torch.nn.functional.gelu(y) + mean)
    value, gate = block.encode(b).chunk(2, -1)
    expected = block.decode(value * torch.nn.functional.gelu(gate)) + b
    torch.testing.assert_close(block(x, None, 0.5)[0], expected)


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("scale", [0.4, torch.rand(4, 6) + 0.1])
def test_in_chunks_and_step_by_step_as_whole(recurrence, scale):
    block, x = a_block(recurrence), torch.randn(6, 4, 6)
    whole, end = block(x, None, scale)
    for size in (1, 2, 4):
        state, parts = None, []
        for k in range(0, 6, size):
            own = scale[:, k : k + size] if isinstance(scale, torch.Tensor) else scale
            y, state = block(x[k : k + size], state, own)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts), whole)
        torch.testing.assert_close(state, end)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_its_export_carries_both_states(recurrence):
    torch.set_default_dtype(torch.float32)
    model = Detector(**PRESETS["sim-smoke"], recurrence=recurrence, low_pass=True).eval()
    frames = torch.randint(0, 4, (4, 1, 20, 64, 64), dtype=torch.uint8)
    step = ExportedStep(model)
    states, expected = step.start(), None
    assert len(states) == len(step.names()) == 8
    assert sum("mean" in name for name in step.names()) == 4
    for frame in frames:
        predictions, *states = step(frame, *states)
        features, expected = model.features(frame[None], expected)
        torch.testing.assert_close(predictions, model.predict(features)[0])


def test_files_and_what_is_written_elsewhere(tmp_path):
    model = Detector(**PRESETS["sim-smoke"], low_pass=True)
    save_checkpoint(tmp_path / "model.ckpt", model)
    again = load_checkpoint(tmp_path / "model.ckpt")
    assert again.config["low_pass"] is True
    assert again.state_dict().keys() == model.state_dict().keys()
    assert "low_pass" not in Detector(**PRESETS["sim-smoke"]).config
    with pytest.raises(InputError, match="no low_pass"):
        plain.check(model.config)
    with pytest.raises(InputError, match="no option 'low_pass'"):
        Detector(**PRESETS["sim-smoke"], recurrence="s4d", low_pass=True)
    plainly, filtered = (make_recurrence("s5", 6, low_pass=on).step_flops() for on in (False, True))
    assert filtered - plainly == 36


@pytest.mark.parametrize("recurrence", ["s5", "s5-selective", "s4d", "convlstm"])
def test_a_scale_for_each_sequence_needs_no_second_axis(recurrence):
    options = {"low_pass": True} if recurrence in RECURRENCES else {}
    block, x, scale = make_recurrence(recurrence, 4, **options), torch.randn(5, 4, 4), torch.rand(4) + 0.1
    torch.testing.assert_close(
        block(x, None, scale)[0], block(x, None, scale[:, None])[0], rtol=0, atol=1e-12
    )
    with pytest.raises(InputError, match=r"step_scale \[4\] may be meant for each sequence or for each step"):
        block(x[:4], None, scale)

"""The delay task, the two models for it, and that one of them learns it where it is short."""

import pytest
import torch
from torch import nn

from ssmbook.errors import InputError
from ssmbook.study import PROFILES
from ssmbook.study.long_range import (
    LSTM,
    S5Stack,
    band_limited_noise,
    delay_task,
    parameter_count,
    run_in_chunks,
    train_delay,
)

TASK = {"length": 40, "delay": 10, "period": 8.0, "batch_size": 4}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("length", "period"), [(1000, 100.0), (90, 7.5), (64, 64.0), (10, 2.1)])
def test_noise_fills_its_band_alone(length, period):
    u = band_limited_noise(4000, length, period, seeded())
    assert u.shape == (4000, length)
    power = torch.fft.rfft(u).abs().square().mean(0)
    count = int(length / period)
    assert power[count + 1 :].sum() + power[0] < 1e-6 * power.sum()
    assert power[1 : count + 1].min() > 0.9 * power[1 : count + 1].max()
    assert float(u.square().mean()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("period", [2.0, 40.1, float("nan")])
def test_a_period_without_frequencies(period):
    with pytest.raises(InputError, match="above 2 steps and at most the length 40"):
        band_limited_noise(3, 40, period, seeded())


def test_answers_are_the_input_of_d_steps_before():
    u, target = delay_task(3, 40, 10, 8.0, seeded())
    assert u.shape == (3, 40, 1)
    assert target.shape == (3, 30)
    for k in range(10, 40):
        assert torch.equal(target[:, k - 10], u[:, k - 10, 0])


@pytest.mark.parametrize("delay", [0, 40])
def test_a_delay_outside_the_sequence(delay):
    with pytest.raises(InputError, match="between 1 and 39"):
        delay_task(3, 40, delay, 8.0, seeded())


@pytest.mark.parametrize("make", [lambda: S5Stack(6, 8, 2), lambda: LSTM(5)])
@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_chunks_are_whole(make, chunk):
    torch.manual_seed(0)
    model = make().double()
    u = torch.randn(3, 40, 1, dtype=torch.float64)
    whole, states = model(u)
    assert whole.shape == (3, 40)
    assert states is not None
    torch.testing.assert_close(run_in_chunks(model, u, chunk), whole.detach(), rtol=0, atol=1e-10)


class Recorder(nn.Module):
    """Answers with one number and keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.answer, self.seen = nn.Parameter(torch.tensor(5.0)), []

    def forward(self, u, states=None):
        self.seen.append(u)
        return self.answer.expand(u.shape[:2]), states


def test_a_seed_gives_every_model_the_same_sequences():
    one, two, other = Recorder(), Recorder(), Recorder()
    for k, (model, seed) in enumerate(((one, 3), (two, 3), (other, 4))):
        torch.manual_seed(k)
        train_delay(model, **TASK, steps=3, learning_rate=0.1, seed=seed)
    assert torch.equal(torch.stack(one.seen), torch.stack(two.seen))
    assert not torch.equal(torch.stack(one.seen), torch.stack(other.seen))
    assert not torch.equal(one.seen[0], one.seen[1])


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 20])
def test_any_number_of_steps(steps):
    log = train_delay(Recorder(), **TASK, steps=steps, learning_rate=0.1)
    assert list(log.index) == list(range(steps))


def test_loss_is_that_of_the_answers_from_the_delay_on():
    model = Recorder()
    log = train_delay(model, **TASK, steps=2, learning_rate=0.1, seed=1)
    _, target = delay_task(4, 40, 10, 8.0, seeded(1))
    assert list(log.columns) == ["loss", "ms"]
    assert log["loss"][0] == pytest.approx(float((5 - target).square().mean()))
    assert model.answer.item() < 5  # towards the answers


def test_a_past_fills_the_state_and_is_no_part_of_the_loss():
    class Stateful(Recorder):
        def forward(self, u, states=None):
            self.seen.append((u[..., 0], states, torch.is_grad_enabled()))
            return self.answer.expand(u.shape[:2]), u[:, -1, 0]

    model = Stateful()
    log = train_delay(model, **TASK, steps=12, learning_rate=0.0, burn_in=30, seed=2)
    calls, lengths = iter(model.seen), []
    for step in range(12):
        u, states, learns = next(calls)
        past = u[:, :0]
        if not learns:
            past = u
            u, states, learns = next(calls)
            assert torch.equal(states, past[:, -1])
        assert learns
        assert u.shape[1] == 40
        whole, first = torch.cat([past, u], 1), max(past.shape[1], 10)
        wanted = whole[:, first - 10 : whole.shape[1] - 10]
        assert log["loss"][step] == pytest.approx(float((5 - wanted).square().mean()))
        lengths.append(past.shape[1])
    assert min(lengths) < 10 < 20 < max(lengths) <= 30
    assert len(set(lengths)) > 6


def test_no_mode_of_the_stack_grows():
    torch.manual_seed(0)
    stack = S5Stack(6, 8, 1)
    with torch.no_grad():
        stack.layers[0].layer.Lambda[:, 0].fill_(0.3)
    u = torch.randn(1, 5000, 1)
    assert run_in_chunks(stack, u, 500).abs().max() < 100


def test_learns_a_short_one():
    torch.manual_seed(0)
    log = train_delay(S5Stack(16, 32, 1), **TASK | {"batch_size": 32}, steps=150, learning_rate=1e-2)
    assert log["loss"][-10:].mean() < 0.1 < 0.5 < log["loss"][:5].mean()


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_both_models_are_of_one_size(profile):
    sizes = profile.long_range
    stack, lstm = S5Stack(sizes.width, sizes.state_width, sizes.depth), LSTM(sizes.hidden)
    assert parameter_count(lstm) == pytest.approx(parameter_count(stack), rel=0.02)

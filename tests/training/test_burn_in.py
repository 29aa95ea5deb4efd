"""Burn-in: what starts from a past starts as if the sequence had run up to it."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from training_set import SENSOR, TRAINING, data_module, make_set

from ssmbook.dataset import Chunks, find_sequences, preprocess
from ssmbook.dataset.sequences import ChunkKey
from ssmbook.detector import PRESETS, RECURRENCES, Detector, load_checkpoint
from ssmbook.errors import InputError
from ssmbook.training import train
from ssmbook.training.burn_in import run_past
from ssmbook.training.objective import TrainingStep
from ssmbook.training.run_folder import MODEL, begin, differences
from ssmbook.training.settings import Training
from tests.training.test_train import assert_same_weights, run

LENGTH = 3
PASTS = (2, 0, 7, 2, 5)  # of five random chunks; a sixth slot is a stream


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def batch(data_dir):
    keys = [ChunkKey(i % 2, 7 + i, 10 + i, seed=i, past=past) for i, past in enumerate(PASTS[:4])]
    keys.append(ChunkKey(1, PASTS[4], PASTS[4] + LENGTH, past=PASTS[4]))  # from its sequence's start
    keys.append(ChunkKey(0, 6, 9, first=False, stream=True))
    return Chunks(find_sequences(data_dir / "train"), LENGTH)[keys]


def double(recurrence, **options):
    torch.manual_seed(0)
    return Detector(**{**PRESETS["sim-smoke"], "recurrence": recurrence}, **options).double()


def carried_by(model, batch):
    """The states that a step before left: of the stream's slot; the random chunks' are reset."""
    x = torch.randint(0, 3, (4, *batch.x.shape[1:]), dtype=torch.uint8)
    x[:, :-1] = 0
    with torch.no_grad():
        states = model.features(x)[1]

    def only_last(s):
        return torch.cat([torch.zeros_like(s[:-1]), s[-1:]])

    return [
        None if s is None else tuple(map(only_last, s)) if isinstance(s, tuple) else only_last(s)
        for s in states
    ]


def slot_of(states, b):
    pick = slice(b, b + 1)
    return [
        None if s is None else tuple(v[pick] for v in s) if isinstance(s, tuple) else s[pick] for s in states
    ]


def plain_loss(model, batch, carried):
    """One sequence at a time, its past window after window; then the loss of all labelled frames."""
    maps = {}
    for b in range(batch.x.shape[1]):
        states = slot_of(carried, b) if carried is not None and b not in batch.past.slots else None
        if b in batch.past.slots:
            s = batch.past.slots.index(b)
            for t in range(len(batch.past.x) - batch.past.lengths[s], len(batch.past.x)):
                with torch.no_grad():
                    _, states = model.features(batch.past.x[t : t + 1, s : s + 1], states)
        features, _ = model.features(batch.x[:, b : b + 1], states)
        for row, (step, slot) in enumerate(batch.frames.tolist()):
            if slot == b:
                maps[row] = {i: f[step, 0] for i, f in features.items()}
    together = {i: torch.stack([maps[row][i] for row in range(len(maps))]) for i in (2, 3, 4)}
    return model.loss(together, batch.targets)


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("carry_on", [False, True], ids=["first batch", "carried"])
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_losses_and_gradients_are_those_of_one_sequence_at_a_time(batch, recurrence, carry_on):
    assert (batch.past.slots, batch.past.lengths) == ([2, 4, 0, 3], [7, 5, 2, 2])
    model = double(recurrence)
    carried = carried_by(model, batch) if carry_on else None
    plain = plain_loss(model, batch, carried)
    plain["loss"].backward()
    wanted = gradients(model)
    step = TrainingStep(model, Training())
    chunk = batch.x, batch.frames, batch.targets
    losses, _ = step(*chunk, run_past(model, batch, carried))
    losses["loss"].backward()
    found = gradients(model)
    for name, value in plain.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-10, atol=1e-12, check_dtype=False)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-10, msg=name)
    without = step(*chunk, carried)[0]["loss"]
    assert torch.equal(without, losses["loss"]) == (recurrence == "none"), (
        "the past is heard, where there is memory"
    )


def test_slots_without_a_past_are_as_they_were(batch):
    model = double("convlstm")
    carried = carried_by(model, batch)
    states = run_past(model, batch, carried)
    for stage, before in zip(states, carried, strict=True):
        for new, old in zip(stage, before, strict=True):
            assert torch.equal(new[-1], old[-1])
            assert not new[1].any()
            assert new[0].any()
            assert not new.requires_grad
    assert run_past(model, batch._replace(past=None), carried) is carried


def test_statistics_and_modes_stay_and_nothing_is_masked(batch):
    """Also where a recurrence holds a BatchNorm, which none of the book's does."""
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"], mask_token=True).train()
    norm, recurrence, seen = nn.BatchNorm1d(1), model.backbone.stages[0].recurrence, []
    recurrence.add_module("extra", norm)

    def also(*_):
        seen.append(norm.training)
        norm(torch.ones(2, 1))

    recurrence.register_forward_pre_hook(also)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    random = torch.get_rng_state()
    run_past(model, batch, None)
    assert seen
    assert not any(seen)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("recurrence", ["convlstm", "none"])
def test_other_networks_train_with_it(data_dir, tmp_path, recurrence):
    file = run(data_dir, tmp_path / "run", replace(TRAINING, steps=2, burn_in=4), recurrence)
    assert load_checkpoint(file).config["recurrence"] == recurrence


def test_it_changes_the_weights_and_is_another_run(data_dir, tmp_path, capsys):
    short = replace(TRAINING, steps=2)
    without = run(data_dir, tmp_path / "run", short)
    with_it = run(data_dir, tmp_path / "other", replace(short, burn_in=4))
    with pytest.raises(AssertionError):
        assert_same_weights(without, with_it)
    run(data_dir, tmp_path / "run", replace(short, burn_in=4))
    assert "other parameters" in capsys.readouterr().err
    assert_same_weights(tmp_path / "run" / MODEL, with_it)
    assert (tmp_path / "run.1" / MODEL).exists()


def test_runs_of_before_go_on_without_it(tmp_path):
    settings = {"training": asdict(TRAINING)}
    earlier = {"training": {k: v for k, v in settings["training"].items() if k != "burn_in"}}
    begin(tmp_path / "run", earlier)
    assert differences(tmp_path / "run", settings) == {}
    assert differences(tmp_path / "run", {"training": asdict(replace(TRAINING, burn_in=1))})


def test_a_model_whose_chunks_start_from_zero_takes_no_past(data_dir, tmp_path):
    model = Detector(**PRESETS["sim-smoke"], carry="published")
    training = replace(TRAINING, burn_in=4)
    with pytest.raises(InputError, match="burn_in is 4, but carry='published'"):
        train(model, data_module(data_dir, training), tmp_path / "run", sensor=SENSOR, training=training)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_on_mixed_steps_the_time_scale_follows_each_of_them(data_dir, tmp_path, recurrence):
    """Losses and gradients are those of one sequence at a time, one step at a time, each with its own scale."""
    preprocess(data_dir.parent / "raw", tmp_path, SENSOR, grid="mixed", splits=["train"], progress=False)
    chunks = [(0, 41, 2), (1, 5, 0), (0, 31, 7), (1, 6, 5)]  # sequence, start, past
    keys = [ChunkKey(i, start, start + LENGTH, past=past) for i, start, past in chunks]
    batch = Chunks(find_sequences(tmp_path / "train"), LENGTH)[keys]
    assert len(batch.step_scale(50_000).unique()) > 1 < len(batch.past.step_scale(50_000).unique())
    model, maps = double(recurrence), {}
    for b in range(len(keys)):
        states = None
        if b in batch.past.slots:
            s = batch.past.slots.index(b)
            for t in range(len(batch.past.x) - batch.past.lengths[s], len(batch.past.x)):
                scale = batch.past.elapsed_us[t, s].item() / 50_000
                with torch.no_grad():
                    _, states = model.features(batch.past.x[t : t + 1, s : s + 1], states, scale)
        for step in range(LENGTH):
            scale = batch.elapsed_us[step, b].item() / 50_000
            features, states = model.features(batch.x[step : step + 1, b : b + 1], states, scale)
            maps[step, b] = {i: f[0, 0] for i, f in features.items()}
    frames = [tuple(pair) for pair in batch.frames.tolist()]
    together = {i: torch.stack([maps[pair][i] for pair in frames]) for i in (2, 3, 4)}
    plain = model.loss(together, batch.targets)
    plain["loss"].backward()
    wanted, step = gradients(model), TrainingStep(model, Training())
    carried = run_past(model, batch, None, base_us=50_000)
    losses, _ = step(batch.x, batch.frames, batch.targets, carried, batch.step_scale(50_000))
    losses["loss"].backward()
    found = gradients(model)
    # step_scale is float32, so times that are no multiples of the stride by a power of two are rounded.
    torch.testing.assert_close(losses["loss"], plain["loss"], rtol=1e-6, atol=0, check_dtype=False)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)

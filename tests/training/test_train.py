"""Training: however it is stopped, it ends with the same weights, bit for bit."""

import importlib.util
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_set import SENSOR, TRAINING, data_module, make_set

from ssmbook.dataset import preprocess
from ssmbook.detector import PRESETS, Detector, load_checkpoint, save_checkpoint
from ssmbook.errors import InputError
from ssmbook.files import lock
from ssmbook.training import read_metrics, train
from ssmbook.training.loggers import PACKAGES
from ssmbook.training.loop import Fit, endless
from ssmbook.training.objective import TrainingStep
from ssmbook.training.run_folder import BEST, LAST, MODEL, MetricsFile
from ssmbook.training.settings import Training

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data"))


def run(data_dir, folder, training=TRAINING, recurrence="s5", **options):
    torch.manual_seed(0)
    masked = training.mask_ratio > 0
    model = Detector(**{**PRESETS["sim-smoke"], "recurrence": recurrence, "mask_token": masked})
    data = data_module(data_dir, training)
    options = {"sensor": SENSOR, "accelerator": "cpu", **options}
    return train(model, data, folder, training=training, **options)


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_weights(a, b):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """The folder of a training that was not stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(data_dir, folder)
    return folder


def test_a_training_leaves_what_it_should(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {"model.ckpt", "best.ckpt", "last.ckpt", "metrics.csv", "panels", "provenance.json"}
    assert sorted(path.name for path in (whole / "panels").iterdir()) == ["0000004.png", "0000006.png"]
    metrics = read_metrics(whole)
    assert metrics.index.tolist() == [1, 4, 6]
    assert metrics["val/AP"].notna().tolist() == [False, True, True]
    assert (metrics["train/loss"].dropna() > 0).all()
    assert metrics["train/learning_rate"].iloc[-1] == pytest.approx(1e-3 / 200_000)
    assert load_checkpoint(whole / LAST).config == load_checkpoint(whole / MODEL).config
    assert_same_weights(whole / LAST, whole / MODEL)
    best = torch.load(whole / BEST, weights_only=True)
    assert best["val"]["AP"] == pytest.approx(metrics["val/AP"].max())


@pytest.mark.parametrize(
    ("made_with", "window_ms"), [({"window_ms": 30.0}, 30.0), ({"window_events": 200}, None)]
)
def test_the_checkpoint_has_the_window_of_its_set(data_dir, tmp_path, made_with, window_ms):
    preprocess(
        data_dir.parent / "raw", tmp_path / "set", sensor=SENSOR, stride_ms=25, progress=False, **made_with
    )
    training = replace(TRAINING, steps=1, validate_every=1)
    record = load_checkpoint(run(tmp_path / "set", tmp_path / "run", training)).trained_on
    assert (record.window_ms, record.stride_us) == (window_ms, 25_000)


def test_a_finished_training_is_not_repeated(whole, data_dir):
    before = (whole / MODEL).stat().st_mtime_ns
    assert run(data_dir, whole) == whole / MODEL
    assert (whole / MODEL).stat().st_mtime_ns == before


SCRIPT = textwrap.dedent(
    """
    import os, signal, sys
    sys.path[:0] = [{tests!r}, {helpers!r}]
    from pathlib import Path
    from ssmbook.training.loop import Fit
    from tests.training.test_train import run

    original = getattr(Fit, {where!r})

    def hit(self, *arguments):
        if self.step == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *arguments)

    setattr(Fit, {where!r}, hit)
    run(Path({data!r}), Path({folder!r}))
    """
)


def test_a_killed_training_ends_with_the_same_weights(whole, data_dir, tmp_path):
    """Between forward and backward of the fourth step."""
    folder = tmp_path / "run"
    script = SCRIPT.format(
        tests=str(TESTS),
        helpers=str(TESTS.parent),
        at=3,
        where="_check",
        data=str(data_dir),
        folder=str(folder),
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parents[1])}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_goes_on(whole, data_dir, folder, saved=2)


def test_stopped_after_a_validation_before_it_counts_it_validates_again(
    whole, data_dir, tmp_path, monkeypatch
):
    original = Fit.log

    def stop(self, *arguments):
        if self.step == 4:
            raise SystemExit
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "log", stop)
        with pytest.raises(SystemExit):
            run(data_dir, tmp_path / "run")
    assert_goes_on(whole, data_dir, tmp_path / "run", saved=4)


def assert_goes_on(whole, data_dir, folder, saved):
    """From the state that was saved last to the files of a run that was not stopped."""
    assert not (folder / MODEL).exists()
    state = torch.load(folder / LAST, weights_only=True)["training"]
    assert (state["step"], state["validated"]) == (saved, 0)
    run(data_dir, folder)
    for name in (MODEL, BEST):
        assert (whole / name).read_bytes() == (folder / name).read_bytes()
    timeless = [read_metrics(path).drop(columns="windows_per_s") for path in (whole, folder)]
    assert timeless[0].equals(timeless[1])


@pytest.mark.parametrize(
    ("options", "stop", "number"),
    [
        ({"precision": "bf16", "mask_ratio": 0.3}, 3, signal.SIGTERM),
        ({"batch_size": 1, "sampling": "stream"}, 4, signal.SIGTERM),  # before a validation
        ({"burn_in": 4}, 3, signal.SIGTERM),
        ({"burn_in": 4, "sampling": "random", "accumulate": 2}, 2, signal.SIGINT),
    ],
    ids=str,
)
def test_a_signal_stops_it_after_the_step(data_dir, tmp_path, monkeypatch, options, stop, number):
    training = replace(TRAINING, **options)
    run(data_dir, tmp_path / "whole", training)
    original = Fit.train_step

    def hit(self):
        if self.step == stop - 1:
            os.kill(os.getpid(), number)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "train_step", hit)
        with pytest.raises(KeyboardInterrupt):
            run(data_dir, tmp_path / "run", training)
    assert torch.load(tmp_path / "run" / LAST, weights_only=True)["training"]["step"] == stop
    run(data_dir, tmp_path / "run", training)
    assert_same_weights(tmp_path / "whole" / MODEL, tmp_path / "run" / MODEL)


def test_settings_that_leave_the_weights_alone_do_not_begin_a_run_anew(whole, data_dir, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / MODEL).unlink()
    run(data_dir, folder, replace(TRAINING, save_every=5, validate_every=3, patience=7, checkpointing=True))
    assert "other parameters" not in capsys.readouterr().err
    assert not (tmp_path / "run.1").exists()
    assert_same_weights(whole / MODEL, folder / MODEL)


def test_another_training_in_the_same_folder_loses_nothing(whole, data_dir, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    run(data_dir, folder, replace(TRAINING, steps=1))
    assert "other parameters" in capsys.readouterr().err
    assert_same_weights(whole / MODEL, tmp_path / "run.1" / MODEL)
    assert torch.load(folder / LAST, weights_only=True)["training"]["step"] == 1


def test_a_loss_that_is_not_finite_stops_with_names_and_a_state(whole, data_dir, tmp_path, monkeypatch):
    """The third step's loss is NaN, and so are BatchNorm's statistics; the saved state is that of before."""
    original = Fit._check

    def poison(self, losses, batch, buffers):
        if self.step == 2:
            losses["loss"] = losses["loss"] * float("nan")
            for buffer in self.model.head.buffers():
                if buffer.is_floating_point():
                    buffer.fill_(float("nan"))
        return original(self, losses, batch, buffers)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_check", poison)
        with pytest.raises(InputError, match=r"step 3: the loss is not finite .*train[01].*last\.ckpt"):
            run(data_dir, tmp_path / "run")
    state = torch.load(tmp_path / "run" / LAST, weights_only=True)
    assert state["training"]["step"] == 2
    assert all(weight.isfinite().all() for weight in state["state_dict"].values())
    run(data_dir, tmp_path / "run")
    assert_same_weights(whole / MODEL, tmp_path / "run" / MODEL)


def test_logits_that_are_not_finite_give_a_loss_that_says_so():
    model = Detector(**PRESETS["sim-smoke"])
    with torch.no_grad():
        for weight in model.head.parameters():
            weight.fill_(float("nan"))
    x = torch.randint(0, 3, (2, 1, 20, 64, 64), dtype=torch.uint8)
    step = TrainingStep(model, Training())
    losses, _ = step(x, torch.tensor([[1, 0]]), torch.tensor([[[0.0, 20, 20, 16, 16]]]))
    assert losses["loss"].isnan()


def test_gradients_that_are_not_finite_are_neither_stepped_nor_saved(whole, data_dir, tmp_path, monkeypatch):
    original = Fit._check_gradients

    def poison(self, batch, buffers):
        if self.step == 2:
            next(p for p in self.model.parameters() if p.grad is not None).grad.view(-1)[0] = float("inf")
        return original(self, batch, buffers)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_check_gradients", poison)
        with pytest.raises(
            InputError, match=r"step 3: .*gradients are not in a batch of .*train[01].*last\.ckpt"
        ):
            run(data_dir, tmp_path / "run")
    state = torch.load(tmp_path / "run" / LAST, weights_only=True)
    assert state["training"]["step"] == 2
    assert all(weight.isfinite().all() for weight in state["state_dict"].values())
    run(data_dir, tmp_path / "run")
    assert_same_weights(whole / MODEL, tmp_path / "run" / MODEL)


def test_a_full_disk_is_one_line_and_keeps_what_was_there(data_dir, tmp_path, monkeypatch):
    model = Detector(**PRESETS["sim-smoke"])
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, model)
    before, save = path.read_bytes(), torch.save
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 (closed with the process)
    monkeypatch.setattr(torch, "save", lambda content, file: save(content, full))
    with pytest.raises(InputError, match=r"last\.ckpt: cannot be written \(No space left on device\)"):
        save_checkpoint(path, model)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_says_from_where_it_goes_on(whole, data_dir, tmp_path, monkeypatch):
    original = MetricsFile.log_metrics

    def full(self, metrics, step):
        if step == 4:
            raise OSError(28, "No space left on device")
        original(self, metrics, step)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "log_metrics", full)
        with pytest.raises(InputError, match="No space left on device; the same command goes on from step 4"):
            run(data_dir, tmp_path / "run")
    run(data_dir, tmp_path / "run")
    assert (tmp_path / "run" / MODEL).read_bytes() == (whole / MODEL).read_bytes()


def test_a_worker_that_is_killed_is_one_line_and_the_run_goes_on(data_dir, tmp_path, monkeypatch):
    original = Fit.train_step

    def kill(self):
        if self.step == 3:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)
        return original(self)

    training = replace(TRAINING, steps=60, validate_every=60, workers=1)  # far more than is read ahead

    def go():
        torch.manual_seed(0)
        data = data_module(data_dir, training)
        data.workers = 1
        model = Detector(**PRESETS["sim-smoke"])
        return train(model, data, tmp_path / "run", sensor=SENSOR, training=training, accelerator="cpu")

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "train_step", kill)
        with pytest.raises(InputError, match=r"has ended; .* goes on from step \d+ of .*run"):
            go()
    step = torch.load(tmp_path / "run" / LAST, weights_only=True)["training"]["step"]
    assert 2 <= step < 60
    resumed = []
    monkeypatch.setattr(Fit, "run", lambda self: resumed.append(self.step))
    go()
    assert resumed == [step]


def test_a_state_of_other_types_says_how_to_go_on(whole, data_dir, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / MODEL).unlink()
    content = torch.load(folder / LAST, weights_only=True)
    state, own = content["training"], content["training"]["ranks"][0]
    groups = state["optimizer"]["param_groups"]
    for changed in (
        {"step": "x"},
        {"optimizer": 3},
        {"optimizer": {"state": {}, "param_groups": groups[:0]}},
        {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": groups}},
        {"cycle": 3},
        {"ranks": [{**own, "random": {"cpu": torch.ones(2), "cuda": []}}]},
        {"ranks": [{**own, "data": 3}]},
        {"ranks": [{"states": None}]},
    ):
        torch.save({**content, "training": {**state, **changed}}, folder / LAST)
        with pytest.raises(InputError, match=r"last\.ckpt: the state .*damaged.*Rename .* anew"):
            run(data_dir, folder)
    torch.save({**content, "state_dict": {}}, folder / LAST)
    with pytest.raises(InputError, match=r"last\.ckpt: the state .*damaged"):
        run(data_dir, folder)


def test_who_trains_second_in_a_folder_waits_and_finds_it_done(whole, data_dir, tmp_path, capfd):
    folder = tmp_path / "run"
    (held := threading.Event()), (said := [])

    def first():
        with lock(folder, "trains in it", beside=True):
            held.set()
            while "waiting" not in "".join(said):
                said.append(capfd.readouterr().err)
                time.sleep(0.05)
            shutil.copytree(whole, folder)

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    held.wait()
    before = (whole / MODEL).stat().st_mtime_ns
    assert run(data_dir, folder).stat().st_mtime_ns == before
    thread.join()
    assert "trains in it; waiting for it" in "".join(said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_states_are_carried_per_slot_and_begin_anew_where_a_sequence_does(data_dir, tmp_path, monkeypatch):
    """In a mixed batch the random chunk's slot starts from zero, the stream's from where it was."""
    seen = []
    original = TrainingStep.forward

    def look(self, x, frames, targets, states=None, step_scale=1.0):
        losses, after = original(self, x, frames, targets, states, step_scale)
        seen.append((states, after))
        return losses, after

    monkeypatch.setattr(TrainingStep, "forward", look)
    data = data_module(data_dir)
    firsts = [batch.first.tolist() for batch in itertools.islice(endless(data.train_dataloader()), 6)]
    assert any(not stream for _, stream in firsts)
    run(data_dir, tmp_path / "run")
    for k, (random, stream) in enumerate(firsts):
        states = seen[k][0]
        assert random
        if stream:
            assert states is None
            continue
        for state, before in zip(states, seen[k - 1][1], strict=True):
            assert torch.equal(state[1], before[1])
            assert not state[0].any()
            assert not state.requires_grad


def test_a_batch_without_a_label_trains_on(data_dir, tmp_path):
    torch.manual_seed(0)
    step = TrainingStep(Detector(**PRESETS["sim-smoke"]), Training())
    x = torch.randint(0, 3, (2, 1, 20, 64, 64), dtype=torch.uint8)
    losses, states = step(x, torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 1, 5))
    losses["loss"].backward()
    assert losses["loss"] == 0
    assert states is not None
    assert all(p.grad is None or not p.grad.any() for p in step.parameters())


def test_a_share_of_the_tokens_is_masked_in_training_alone():
    """As many in every frame, other ones in each; the learnt vector has a gradient then, and only then."""
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"], mask_token=True)
    seen = []
    features = model.features

    def look(*arguments, token_mask=None, **options):
        seen.append(token_mask)
        return features(*arguments, token_mask=token_mask, **options)

    model.features = look
    x = torch.randint(0, 3, (2, 2, 20, 64, 64), dtype=torch.uint8)
    batch = x, torch.tensor([[1, 0]]), torch.tensor([[[0.0, 20, 20, 16, 16]]])
    step = TrainingStep(model, Training(mask_ratio=0.3))
    for _ in range(2):
        step(*batch)[0]["loss"].backward()
    first, second = seen
    assert first.shape == (2, 2, 16, 16)
    assert (first.sum((-1, -2)) == round(0.3 * 256)).all()
    frames = torch.cat([first, second]).flatten(0, 1).flatten(1)
    assert len(frames.unique(dim=0)) == 8
    token = model.backbone.stages[0].mask_token
    assert token.grad.abs().max() > 0
    token.grad = None
    step.eval()(*batch)
    TrainingStep(model, Training())(*batch)[0]["loss"].backward()
    assert seen[2:] == [None, None]
    assert token.grad is None


def test_checkpointing_trains_the_same_weights(data_dir, tmp_path):
    files = [
        run(data_dir, tmp_path / f"{flag}", replace(TRAINING, steps=2, checkpointing=flag))
        for flag in (False, True)
    ]
    kept, again = (load_checkpoint(file).state_dict() for file in files)
    for name, weight in kept.items():
        torch.testing.assert_close(again[name], weight, rtol=0, atol=1e-6)


def test_it_stops_early_when_validation_rises_no_more(data_dir, tmp_path):
    training = replace(TRAINING, steps=8, validate_every=1, learning_rate=1e-9, patience=2)
    run(data_dir, tmp_path / "run", training)
    assert read_metrics(tmp_path / "run")["val/AP"].count() == 3  # the first is the best


def test_stopped_early_it_goes_on_with_more_patience_as_if_it_always_had_it(data_dir, tmp_path, capfd):
    early = replace(TRAINING, steps=8, validate_every=1, learning_rate=1e-9, patience=1)
    run(data_dir, tmp_path / "run", early)
    assert "ended at step 2 of 8, for AP did not rise in 1 validations" in capfd.readouterr().err
    ended = (tmp_path / "run" / MODEL).read_bytes()
    for patience, step in ((3, 4), (3, 4), (2, 4), (0, 8), (1, 8)):
        run(data_dir, tmp_path / "run", replace(early, patience=patience))
        assert read_metrics(tmp_path / "run").index[-1] == step
        if patience == 3:
            run(data_dir, tmp_path / "whole", replace(early, patience=patience))
            for name in (MODEL, BEST, LAST):
                assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "run" / "model_step=2.ckpt").read_bytes() == ended
    metrics = tmp_path / "run" / "metrics.csv"
    for damage in (
        lambda: metrics.write_text(metrics.read_text().partition("\n")[0]),
        (tmp_path / "run" / LAST).unlink,
    ):
        damage()
        before = (tmp_path / "run" / MODEL).stat().st_mtime_ns
        run(data_dir, tmp_path / "run", replace(early, patience=0))
        assert (tmp_path / "run" / MODEL).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp8"}, "fp8.*fp32, bf16, fp16"),
        ({"steps": 0}, "steps is 0"),
        ({"mask_ratio": 1.0}, "mask_ratio is 1.0"),
        ({"burn_in": -2}, "burn_in is -2"),
        ({"warmup": 2.0}, r"warmup is 2\.0"),
        ({"clip": 0.0}, r"clip is 0\.0"),
        ({"clip": float("nan")}, "clip is nan"),
        ({"weight_decay": -1.0}, r"weight_decay is -1\.0"),
        ({"freeze": "backbone", "terms": {"h2_norm": 1.0}}, "h2_norm.* is frozen"),
    ],
)
def test_wrong_settings_are_named(data_dir, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        run(data_dir, tmp_path / "run", replace(TRAINING, **options))
    assert not (tmp_path / "run").exists()


def test_a_set_without_a_box_to_validate_on_is_refused_before_the_first_step(data_dir, tmp_path):
    late = replace(SENSOR, eval_skip_us=10**9)
    with pytest.raises(InputError, match="val: no box counts in evaluation"):
        run(data_dir, tmp_path / "run", sensor=late)
    shutil.copytree(data_dir, tmp_path / "set")
    shutil.rmtree(tmp_path / "set" / "val")
    with pytest.raises(InputError, match="val: no such folder"):
        run(tmp_path / "set", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_loggers_are_by_name_and_none_is_required(data_dir, tmp_path):
    with pytest.raises(InputError, match="csv, tensorboard, wandb"):
        run(data_dir, tmp_path / "run", logger="paper")
    for name in ("tensorboard", "wandb"):
        if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):
            with pytest.raises(InputError, match=f"pip install {name}"):
                run(data_dir, tmp_path / "run", logger=name)

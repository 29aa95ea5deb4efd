"""A run that goes on with more steps or another learning rate: what is kept, what is refused, and kills."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from training_set import SENSOR, TRAINING, data_module, make_set

from ssmbook.cli.training import _run_name
from ssmbook.detector import PRESETS, Detector
from ssmbook.errors import InputError
from ssmbook.training import read_metrics, train
from ssmbook.training.loop import Fit
from ssmbook.training.run_folder import BEST, LAST, MODEL

SHORT = replace(TRAINING, steps=2, save_every=1, validate_every=100)
LONG = replace(SHORT, steps=4, save_every=2, learning_rate=5e-4)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data"))


def run(data_dir, folder, training=SHORT, older="refuse", **model):
    torch.manual_seed(0)
    detector = Detector(**{**PRESETS["sim-smoke"], **model})
    data = data_module(data_dir, training)
    return train(
        detector,
        data,
        folder,
        sensor=SENSOR,
        training=training,
        accelerator="cpu",
        older=older,
        parameters={"profile": "a"},
    )


@pytest.fixture(scope="module")
def short(data_dir, tmp_path_factory):
    """The folder of a run of 2 steps."""
    return run(data_dir, tmp_path_factory.mktemp("runs") / "short").parent


def copied(short, tmp_path, name="run"):
    return shutil.copytree(short, tmp_path / name)


@pytest.fixture(scope="module")
def extended(short, data_dir, tmp_path_factory):
    """The folder of that run after 2 more steps, and what it began with."""
    folder, began = copied(short, tmp_path_factory.mktemp("extended")), []

    def look(fit):
        moments = fit.optimizer.state_dict()["state"]
        began.append(
            (fit.step, [m.clone() for s in moments.values() for m in s.values()], dict(fit.position))
        )
        began.append([w.clone() for w in fit.model.state_dict().values()])
        original(fit)

    with pytest.MonkeyPatch.context() as patch:
        original = Fit.run
        patch.setattr(Fit, "run", look)
        run(data_dir, folder, LONG, "extend")
    return folder, began


def test_it_goes_on_from_weights_moments_and_position(short, extended):
    (step, moments, position), weights = extended[1]
    state = torch.load(short / LAST, weights_only=True)
    kept = state["training"]
    assert step == kept["step"] == 2
    assert position == kept["ranks"][0]["data"]
    saved = [m for s in kept["optimizer"]["state"].values() for m in s.values()]
    for now, before in ((moments, saved), (weights, state["state_dict"].values())):
        assert all(torch.equal(*pair) for pair in zip(now, before, strict=True))


def test_it_leaves_the_longer_run_and_the_earlier_end(short, extended):
    folder, _ = extended
    assert (folder / "model_step=2.ckpt").read_bytes() == (short / MODEL).read_bytes()
    assert torch.load(folder / LAST, weights_only=True)["training"]["step"] == 4
    metrics = read_metrics(folder)
    assert metrics.index.tolist() == [1, 2, 4]
    assert metrics["train/learning_rate"].iloc[-1] == pytest.approx(5e-4 / 200_000)
    record = json.loads((folder / "provenance.json").read_text())
    assert record["extended"] == [{"at_step": 2, "before": {"steps": 2, "learning_rate": 1e-3}}]
    assert record["parameters"]["training"]["steps"] == 4


@pytest.mark.parametrize("at", [2, 3])
def test_killed_and_resumed_it_ends_with_the_same_bytes(short, extended, data_dir, tmp_path, monkeypatch, at):
    """Before its first step, and before the first state of its own."""
    folder = copied(short, tmp_path)
    original = Fit.train_step

    def killed(self):
        if self.step == at:
            raise SystemExit
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "train_step", killed)
        with pytest.raises(SystemExit):
            run(data_dir, folder, LONG, "extend")
    assert not (folder / MODEL).exists()
    run(data_dir, folder, LONG, "extend")
    for name in (MODEL, LAST, BEST, "model_step=2.ckpt"):
        assert (folder / name).read_bytes() == (extended[0] / name).read_bytes(), name
    before = (folder / MODEL).stat().st_mtime_ns
    run(data_dir, folder, LONG, "extend")
    assert (folder / MODEL).stat().st_mtime_ns == before


def test_patience_counts_anew(short, data_dir, tmp_path, monkeypatch):
    folder = copied(short, tmp_path)
    content = torch.load(folder / LAST, weights_only=True)
    content["training"]["stale"] = 2
    torch.save(content, folder / LAST)
    began = []
    monkeypatch.setattr(Fit, "run", lambda fit: began.append((fit.step, fit.stale)))
    run(data_dir, folder, replace(LONG, patience=2), "extend")
    assert began == [(2, 0)]


@pytest.mark.parametrize(
    ("training", "model", "words"),
    [
        (replace(LONG, weight_decay=0.1), {}, r"weight_decay 0\.0, not 0\.1"),
        (LONG, {"recurrence": "none"}, "model recurrence 's5', not 'none'"),
        (replace(SHORT, steps=1), {}, "steps is 1, but .* has done 2; give more"),
        (replace(SHORT, learning_rate=1e-2), {}, "steps is 2, but .* has done 2; give more"),
    ],
)
def test_what_else_changes_the_result_is_refused(short, data_dir, tmp_path, training, model, words):
    folder = copied(short, tmp_path)
    with pytest.raises(InputError, match=words):
        run(data_dir, folder, training, "extend", **model)
    assert {p.name: p.read_bytes() for p in folder.glob("*.*")} == {
        p.name: p.read_bytes() for p in short.glob("*.*")
    }


def test_without_extend_it_is_refused_and_says_how(short, extended, data_dir, tmp_path):
    folder = copied(short, tmp_path)
    with pytest.raises(
        InputError, match=r"learning_rate 0\.001, not 0\.0005, steps 2, not 4; go on .* --extend"
    ):
        run(data_dir, folder, LONG)
    with pytest.raises(InputError, match="seed 0, not 1; train under another name"):
        run(data_dir, folder, replace(SHORT, seed=1))
    with pytest.raises(InputError, match=r"no run to extend; .* holds run: give --name"):
        run(data_dir, tmp_path / "other", LONG, "extend")
    with pytest.raises(InputError, match="steps 4, not 2"):  # a run that was extended is not put aside
        run(data_dir, extended[0], SHORT, "aside")


class Options:
    """The words of a command line that decide a run's folder."""

    def __init__(self, **given):
        names = ("init", "sensor", "representation", "steps", "learning_rate", "seed", "extend")
        self.__dict__.update({**dict.fromkeys(names), "recurrence": "s5", **given})


def test_the_folder_is_that_of_the_run_and_of_the_studys_seed():
    assert _run_name("s5", Options(steps=8), {"steps": 8}, SHORT) == "s5_steps=8"
    assert _run_name("s5", Options(steps=8, extend=True), {"steps": 8}, SHORT) == "s5"
    assert _run_name("s5", Options(seed=0), {"seed": 0}, SHORT) == "s5"
    assert _run_name("s5", Options(seed=2), {"seed": 2}, SHORT) == "s5_seed=2"

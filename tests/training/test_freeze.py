"""Training with a frozen backbone: it stays as it is, and neck and head learn."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from training_set import SENSOR, TRAINING, data_module, make_set

from ssmbook.cli import main
from ssmbook.detector import PRESETS, Detector
from ssmbook.errors import InputError
from ssmbook.training import train
from ssmbook.training.loop import Fit
from ssmbook.training.run_folder import LAST, MODEL

FROZEN = replace(TRAINING, steps=2, save_every=1, validate_every=1, freeze="backbone")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data"))


def model():
    """The book's own backbones have no BatchNorm; this one has."""
    torch.manual_seed(0)
    detector = Detector(**PRESETS["sim-smoke"])
    first = detector.backbone.stages[0]
    first.downsample = nn.Sequential(first.downsample, nn.BatchNorm2d(PRESETS["sim-smoke"]["embed_dim"]))
    return detector


def run(data_dir, folder, training=FROZEN):
    data = data_module(data_dir, training)
    detector = model()
    train(detector, data, folder, sensor=SENSOR, training=training, accelerator="cpu")
    return detector


def test_the_backbone_stays_bit_for_bit_and_the_rest_learns(data_dir, tmp_path, monkeypatch):
    before, after = model().state_dict(), run(data_dir, tmp_path / "whole").state_dict()
    frozen = [name for name in before if name.startswith("backbone.")]
    assert any("running_mean" in name for name in frozen)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"neck", "head"}
    moments = torch.load(tmp_path / "whole" / LAST, weights_only=True)["training"]["optimizer"]["state"]
    detector = model()
    assert len(moments) == len([*detector.neck.parameters(), *detector.head.parameters()])

    original = Fit.train_step

    def killed(self):
        if self.step == 1:
            raise SystemExit
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "train_step", killed)
        with pytest.raises(SystemExit):
            run(data_dir, tmp_path / "run")
    run(data_dir, tmp_path / "run")
    assert (tmp_path / "run" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()


def test_what_teaches_the_backbone_or_freezes_nothing_learnt_is_refused(data_dir, tmp_path, capsys):
    for options, words in (
        ({"freeze": "neck"}, "freeze is 'neck'"),
        ({"mask_ratio": 0.3}, "which is frozen"),
    ):
        with pytest.raises(InputError, match=words):
            run(data_dir, tmp_path / "run", replace(FROZEN, **options))
    assert main(["train", "--freeze", "backbone"]) == 1
    assert "--freeze needs --init" in capsys.readouterr().err

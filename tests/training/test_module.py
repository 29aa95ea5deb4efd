"""The LightningModule under Lightning's own trainer: it takes the steps that `train` takes."""

from dataclasses import replace

import lightning as L
import pytest
import torch
from training_set import SENSOR, TRAINING, data_module, make_set

from ssmbook.detector import PRESETS, Detector, load_checkpoint
from ssmbook.training import DetectionTraining, train


@pytest.mark.parametrize(("sampling", "burn_in"), [("random", 0), ("mixed", 0), ("mixed", 4)])
def test_equals_the_training_loop(tmp_path, sampling, burn_in):
    data_dir = make_set(tmp_path)
    training = replace(TRAINING, sampling=sampling, burn_in=burn_in)

    def model():
        torch.manual_seed(0)
        return Detector(**PRESETS["sim-smoke"])

    data = data_module(data_dir, training)
    data.sampling = sampling
    expected = train(model(), data, tmp_path / "run", sensor=SENSOR, training=training, accelerator="cpu")
    data = data_module(data_dir, training)
    data.sampling = sampling
    module = DetectionTraining(model(), SENSOR, training)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=training.steps,
        max_epochs=-1,
        gradient_clip_val=training.clip,
        gradient_clip_algorithm="value",
        val_check_interval=training.validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    assert "val/AP" in trainer.callback_metrics
    theirs = load_checkpoint(expected).state_dict()
    for name, value in module.step.model.state_dict().items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-7, msg=name)

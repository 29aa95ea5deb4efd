"""The training loop against Lightning's own trainer, which takes the same steps from a module of this file."""

from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
from training_set import SENSOR, TRAINING, data_module, make_set

from ssmbook.detector import PRESETS, Detector, load_checkpoint, reset_states
from ssmbook.evaluation.streaming import StreamingEvaluator
from ssmbook.training import TrainingStep, optimizer_and_schedule, train
from ssmbook.training.burn_in import run_past


class DetectionTraining(L.LightningModule):
    """The detector's losses on chunks, the state carried along streams, and its AP on validation streams."""

    def __init__(self, model, sensor, training):
        super().__init__()
        self.sensor, self.settings = sensor, training
        self.step = TrainingStep(model, training)
        self._states: Any = None

    def training_step(self, batch, _):
        new = self._states is None or bool(batch.first.all())
        carried = None if new else reset_states(self._states, batch.first)
        carried = run_past(self.step.model, batch, carried, self.settings.precision)
        losses, self._states = self.step(batch.x, batch.frames, batch.targets, carried)
        return losses["loss"]

    def on_validation_epoch_start(self):
        self.evaluator = StreamingEvaluator(self.step.model, self.sensor)

    def validation_step(self, batch, _):
        self.evaluator.push(batch)

    def on_validation_epoch_end(self):
        self.log("val/AP", self.evaluator.gather().metrics["AP"])

    def configure_optimizers(self):
        optimizer, schedule = optimizer_and_schedule(self.step.model, self.settings)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@pytest.mark.parametrize(("sampling", "burn_in"), [("random", 0), ("mixed", 4)])
def test_equals_the_training_loop(tmp_path, sampling, burn_in):
    data_dir = make_set(tmp_path)
    training = replace(TRAINING, steps=4, sampling=sampling, burn_in=burn_in)

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

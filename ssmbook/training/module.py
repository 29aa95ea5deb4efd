"""The training as a LightningModule, for whoever brings a ``lightning.Trainer`` of their own.

    Trainer(max_steps=training.steps).fit(DetectionTraining(model, "gen1", training), EventDataModule(data_dir))

``train`` takes the same steps in a loop of its own, because it must go on from any step to the same weights, with
the states of its streams; a trainer's checkpoints do not hold those.
"""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from ssmbook.dataset import Batch, Sensor, get_sensor
from ssmbook.detector import Detector, reset_states
from ssmbook.evaluation.streaming import StreamingEvaluator
from ssmbook.training.burn_in import run_past
from ssmbook.training.objective import TrainingStep, optimizer_and_schedule
from ssmbook.training.settings import Training


class DetectionTraining(L.LightningModule):
    """The detector's losses on chunks, the state carried along streams, and its AP on validation streams.

    Args:
        model: the detector.
        sensor: whose protocol the validation follows.
        training: of it count steps, learning_rate, weight_decay, warmup, precision, mask_ratio and
            h2_weight; clipping, accumulation and the times of validation are the trainer's.
    """

    def __init__(self, model: Detector, sensor: str | Sensor, training: Training) -> None:
        super().__init__()
        self.sensor, self.settings = get_sensor(sensor), training
        self.step = TrainingStep(model, training)
        self._states: Any = None
        self._evaluator: StreamingEvaluator | None = None

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        new = self._states is None or bool(batch.first.all())
        carried = None if new else reset_states(self._states, batch.first)
        carried = run_past(self.step.model, batch, carried, self.settings.precision)
        losses, self._states = self.step(batch.x, batch.frames, batch.targets, carried)
        shown = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(shown, batch_size=len(batch.first))
        return losses["loss"]

    def on_validation_epoch_start(self) -> None:
        self._evaluator = StreamingEvaluator(self.step.model, self.sensor)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        assert self._evaluator is not None
        self._evaluator.push(batch)

    def on_validation_epoch_end(self) -> None:
        assert self._evaluator is not None
        metrics = self._evaluator.gather().metrics
        self.log_dict({f"val/{name}": value for name, value in metrics.items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer, schedule = optimizer_and_schedule(self.step.model, self.settings)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

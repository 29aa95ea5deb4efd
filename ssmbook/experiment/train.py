"""Training: a LightningModule around the detector, AdamW with a one-cycle schedule, and one function that runs it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from tqdm import tqdm

from ssmbook.dataset import Batch, EventDataModule, Sensor, get_sensor
from ssmbook.detector import Detector, save_checkpoint
from ssmbook.errors import InputError
from ssmbook.experiment.evaluate import StreamingEvaluator
from ssmbook.experiment.provenance import fingerprint, provenance, read_json, write_json
from ssmbook.progress import progress_bar

MODEL, LAST, METRICS_CSV = "model.ckpt", "last.ckpt", "metrics.csv"


class DetectionTraining(L.LightningModule):
    """The detector's losses on random chunks, and its AP on validation streams.

    Args:
        model: the detector.
        sensor: whose protocol the validation follows.
        steps: optimiser steps in all; the schedule's length.
        learning_rate: the maximum of the one-cycle schedule (linear up over ``warmup`` of the steps from
            1/20 of it, linear down to 1/200,000 of it).
        weight_decay: AdamW's.
        warmup: share of the steps.
    """

    def __init__(
        self,
        model: Detector,
        sensor: str | Sensor,
        *,
        steps: int,
        learning_rate: float,
        weight_decay: float = 0.0,
        warmup: float = 0.005,
    ) -> None:
        super().__init__()
        self.model = model
        self.sensor = get_sensor(sensor)
        self.steps, self.learning_rate = steps, learning_rate
        self.weight_decay, self.warmup = weight_decay, warmup
        self._evaluator: StreamingEvaluator | None = None

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        # A random chunk is the start of its own history: the state is zero.
        features, _ = self.model.features(batch.x, frames=batch.frames)
        losses = self.model.loss(features, batch.targets)
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=len(batch.first)
        )
        return losses["loss"]

    def on_validation_epoch_start(self) -> None:
        self._evaluator = StreamingEvaluator(self.model, self.sensor)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        assert self._evaluator is not None
        self._evaluator.push(batch)

    def on_validation_epoch_end(self) -> None:
        assert self._evaluator is not None
        metrics = self._evaluator.result().metrics
        self.log_dict({f"val/{name}": value for name, value in metrics.items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.learning_rate,
            total_steps=self.steps,
            pct_start=self.warmup,
            div_factor=20,
            final_div_factor=1e4,
            anneal_strategy="linear",
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class StepBar(Callback):
    """A progress bar over all steps on stderr, with the loss and the last validation AP."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.bar = progress_bar(
            total=trainer.max_steps, initial=trainer.global_step, desc=self.label, unit="step"
        )

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert self.bar is not None
        seen = trainer.callback_metrics
        shown = {"loss": seen.get("train/loss"), "AP": seen.get("val/AP")}
        self.bar.set_postfix({k: f"{float(v):.3g}" for k, v in shown.items() if v is not None}, refresh=False)
        self.bar.update(trainer.global_step - self.bar.n)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert self.bar is not None
        self.bar.close()


def train(
    model: Detector,
    data: EventDataModule,
    out_dir: str | Path,
    *,
    sensor: str | Sensor,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    warmup: float = 0.005,
    clip: float = 1.0,
    validate_every: int = 10_000,
    seed: int = 0,
    accelerator: str = "auto",
    parameters: dict[str, Any] | None = None,
) -> Path:
    """Train a detector; a finished run is returned as it is, an interrupted one goes on where it stopped.

    Writes into ``out_dir``: ``model.ckpt`` (the trained detector, for ``load_checkpoint``), ``last.ckpt`` (all
    that a resumed run needs), ``metrics.csv`` (losses and validation AP by step) and ``provenance.json``.

    Args:
        model: with its starting weights.
        data: chunks to train on, streams to validate on.
        sensor: whose protocol the validation follows.
        steps, learning_rate, weight_decay, warmup: see ``DetectionTraining``.
        clip: gradients are clipped by value.
        validate_every: steps between validations (and between saved states).
        seed: recorded; the data module and the model's start are seeded by whoever makes them.
        accelerator: Lightning's.
        parameters: what else the provenance must record; a run with other parameters starts anew.

    Returns:
        The path of ``model.ckpt``.
    """
    out_dir = Path(out_dir)
    parameters = {
        **(parameters or {}),
        "model": model.config,
        "steps": steps,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "clip": clip,
        "seed": seed,
    }
    previous = read_json(out_dir / "provenance.json")
    same = previous is not None and fingerprint(previous["parameters"]) == fingerprint(parameters)
    if same and (out_dir / MODEL).exists():
        return out_dir / MODEL
    resume = out_dir / LAST if same and (out_dir / LAST).exists() else None
    if resume is None:
        for stale in (MODEL, LAST, METRICS_CSV):
            (out_dir / stale).unlink(missing_ok=True)
    write_json(out_dir / "provenance.json", provenance(**parameters))

    module = DetectionTraining(
        model, sensor, steps=steps, learning_rate=learning_rate, weight_decay=weight_decay, warmup=warmup
    )
    saver = ModelCheckpoint(out_dir, save_last=True, save_top_k=0, every_n_train_steps=validate_every)
    with _quiet():
        trainer = L.Trainer(
            accelerator=accelerator,
            max_steps=steps,
            max_epochs=-1,
            gradient_clip_val=clip,
            gradient_clip_algorithm="value",
            val_check_interval=validate_every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            callbacks=[saver, StepBar(f"train {out_dir.name}")],
            logger=CSVLogger(out_dir, name="", version=""),
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data, ckpt_path=resume)
    save_checkpoint(out_dir / MODEL, model)
    return out_dir / MODEL


def read_metrics(run: str | Path) -> pd.DataFrame:
    """The metrics that a training has logged, one row per step that logged any, indexed by step."""
    path = Path(run) / METRICS_CSV
    if not path.exists():
        raise InputError(f"{path} is missing: nothing was trained in {run}")
    return pd.read_csv(path).groupby("step").mean()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's notes on hardware and loader workers are noise in a chapter; its errors stay."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            yield
    finally:
        logger.setLevel(level)

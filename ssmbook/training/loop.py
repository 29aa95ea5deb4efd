"""The training loop: one explicit step after another, and a state from which it goes on as if never stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from torch import Tensor

from ssmbook.allocation import memory_kept
from ssmbook.dataset import Batch, EventDataModule, Sensor
from ssmbook.dataset.parameters import recorded_window
from ssmbook.detector import Detector, TrainedOn, reset_states, save_checkpoint
from ssmbook.detector.precision import autocast
from ssmbook.detector.recurrences import map_states
from ssmbook.errors import InputError
from ssmbook.evaluation.streaming import StreamingEvaluator
from ssmbook.progress import progress_bar, tell
from ssmbook.training.burn_in import run_past
from ssmbook.training.loggers import make_loggers
from ssmbook.training.objective import TrainingStep, optimizer_and_schedule, schedule_at
from ssmbook.training.panels import Panels
from ssmbook.training.run_folder import (
    BEST,
    LAST,
    METRICS_CSV,
    PANELS,
    VAL_COLUMNS,
    MetricsFile,
    check_moments,
    damaged_state,
    random_state,
    read_state,
    set_random_state,
)
from ssmbook.training.settings import Training

LOG_EVERY = 10  # steps between rows of metrics.csv


class Fit:
    """One run on one process; processes step together.

    A step draws ``accumulate`` batches, adds up their gradients, clips them by value and moves the weights.
    States are carried per stream slot, reset where a sequence begins, and cut off from their graph; a random
    chunk's state is that after its past, where it has one.

    Args:
        fabric: launched; says which process this is, and where it computes.
        folder: of the run, see ``run_folder``.
        model: with its starting weights; moved to the device.
        data: training chunks and validation streams; its batches are those of one process.
        sensor: whose protocol the validation follows.
        training: the hyper-parameters.
        resume: the state of an earlier start.
        logger: see ``make_loggers``.
        trained_on: kept in every checkpoint beside the model, with the stride of the data.
    """

    def __init__(
        self,
        fabric: Fabric,
        folder: Path,
        model: Detector,
        data: EventDataModule,
        sensor: Sensor,
        training: Training,
        resume: Path | None = None,
        logger: str = "csv",
        trained_on: TrainedOn | None = None,
    ) -> None:
        self.fabric, self.folder, self.data, self.sensor = fabric, folder, data, sensor
        self.training = training
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place below the detector itself
        self.model = model
        self.module = fabric.setup_module(TrainingStep(model, training)).train()
        self.optimizer, self.schedule = optimizer_and_schedule(model, training)
        # fp16 alone needs its loss scaled, or small gradients vanish.
        self.scaler = torch.amp.GradScaler(fabric.device.type, enabled=training.precision == "fp16")
        self.step, self.validated = 0, 0  # steps done; the step of the last validation
        self.saved = 0  # the step of the last state that was written
        self.best, self.stale = -1.0, 0  # best validation AP; validations since
        self.rate = 0.0  # of the last step
        self.states: Any = None
        if resume is not None:
            self.restore(resume)
        self.batches = endless(data.train_dataloader())
        record = trained_on or TrainedOn()
        window_ms, window_events = recorded_window(data.train_dir, record.window_ms)
        record = replace(record, window_ms=window_ms, window_events=window_events, stride_us=data.stride_us)
        self.extra, self.represent = record.content(), record.represent(sensor, model.in_channels)
        self.position = data.state_dict()  # after the last whole step
        self.loggers: list[Any] = []
        if fabric.is_global_zero:
            self.loggers = [MetricsFile(folder / METRICS_CSV, self.step), *make_loggers(logger, folder)]

    def run(self) -> None:
        """Train to the last step, or until validation AP has not risen for ``patience`` validations.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved.
            InputError: the loss or its gradients are not finite; the state before that step is saved. Or a loader's
                worker ended, or the folder cannot be written; the message says from where the run goes on.
        """
        training = self.training
        show = self.fabric.is_global_zero
        label = f"train {self.folder.name}"
        with (
            self._explained(),
            stop_signal() as stopped,
            memory_kept(),
            progress_bar(total=training.steps, initial=self.step, desc=label, unit="step", show=show) as bar,
        ):
            started = time.monotonic(), self.step
            while True:
                if self.validation_is_due:
                    self.validate(stopped)
                    started = time.monotonic(), self.step
                if self.step == training.steps or (training.patience and self.stale >= training.patience):
                    break
                losses, windows = self.train_step()
                if self.step % LOG_EVERY == 0 or self.step in (1, training.steps):
                    speed = windows * (self.step - started[1]) / (time.monotonic() - started[0])
                    shown = {"loss": f"{self.log_losses(losses, speed):.3g}"}
                    bar.set_postfix(shown | ({"AP": f"{100 * self.best:.3g}"} if self.best >= 0 else {}))
                    started = time.monotonic(), self.step
                bar.update()
                if self.step % training.save_every == 0 and not self.validation_is_due:
                    self.save()
                self.obey(stopped)
        if self.step < training.steps and show:
            tell(
                f"{self.folder}: ended at step {self.step} of {training.steps}, for AP did not rise in {self.stale} "
                "validations; with a larger patience, or 0, it goes on"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """One line, with the step from which the run goes on, where a worker process or the disk fails it."""
        goes_on = f"the same command goes on from step {{}} of {self.folder}"
        try:
            yield
        except (RuntimeError, EOFError, ConnectionError) as error:
            # PyTorch says so from a signal handler, at whatever step; or the pipe to the worker breaks first.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            _report_no_more()
            raise InputError(
                "a process that read the data ahead has ended; was there memory enough? With fewer workers less is "
                f"needed; {goes_on.format(self.saved)}"
            ) from None
        except OSError as error:
            raise InputError(
                f"{error.filename or self.folder}: {error.strerror}; {goes_on.format(self.saved)}"
            ) from None

    @property
    def validation_is_due(self) -> bool:
        """After each ``validate_every`` steps and after the last."""
        due = self.step % self.training.validate_every == 0 or self.step == self.training.steps
        return due and self.step > self.validated

    def train_step(self) -> tuple[dict[str, Tensor], int]:
        """One step of the optimiser; its last batch's losses, and the windows seen by all processes."""
        buffers = [buffer.clone() for buffer in self.model.buffers()]  # a forward pass moves BatchNorm's
        parts, states, windows = self.training.accumulate, self.states, 0
        self.optimizer.zero_grad()
        for part in range(parts):
            batch = next(self.batches)
            windows += batch.x.shape[0] * batch.x.shape[1]
            carried = None if states is None or batch.first.all() else reset_states(states, batch.first)
            on_device = batch.to(self.fabric.device, non_blocking=True)
            base_us = self.data.stride_us if self.training.mixed_rates else None
            scale = 1.0 if base_us is None else on_device.step_scale(base_us)
            carried = run_past(self.model, on_device, carried, self.training.precision, base_us)
            with self._no_sync(part < parts - 1):
                losses, states = self.module(on_device.x, on_device.frames, on_device.targets, carried, scale)
                self._check(losses, batch, buffers)
                self.scaler.scale(losses["loss"] / parts).backward()
        self.scaler.unscale_(self.optimizer)
        self._check_gradients(batch, buffers)
        torch.nn.utils.clip_grad_value_(self.model.parameters(), self.training.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rate = float(self.schedule.get_last_lr()[0])
        self.schedule.step()
        self.step, self.states, self.position = self.step + 1, states, self.data.state_dict()
        return losses, windows * self.fabric.world_size

    def _no_sync(self, wait: bool) -> Any:
        """Gradients of all but a step's last batch are exchanged with the last one's."""
        alone = self.fabric.world_size == 1
        return nullcontext() if alone else self.fabric.no_backward_sync(self.module, enabled=wait)

    def _check(self, losses: dict[str, Tensor], batch: Batch, buffers: list[Tensor]) -> None:
        """Stop, with the state before this step saved, where the loss of any process is not finite."""
        good = bool(losses["loss"].isfinite())
        if not self._any(not good):
            return
        parts = {
            name: f"{float(losses[name].detach()):.3g}" for name in ("iou_loss", "conf_loss", "cls_loss")
        }
        shown = ", ".join(f"{name} {value}" for name, value in parts.items())
        self._refuse(f"the loss is not finite ({shown})", good, batch, buffers)

    def _check_gradients(self, batch: Batch, buffers: list[Tensor]) -> None:
        """The same for gradients; in fp16 the scaler leaves such a step out and lowers its scale."""
        if self.scaler.is_enabled():
            return
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        good = not gradients or bool(torch.stack([g.isfinite().all() for g in gradients]).all())
        if self._any(not good):
            self._refuse("the loss is finite, its gradients are not", good, batch, buffers)

    def _refuse(self, fault: str, good: bool, batch: Batch, buffers: list[Tensor]) -> None:
        """Save the state before this step, and name the sequences of the processes whose batch is not good."""
        for buffer, before in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(before)
        self.save()
        names = sorted(set(batch.sequences)) if not good else []
        found = [name for part in self._gather(names) for name in part]
        raise InputError(
            f"step {self.step + 1}: {fault} in a batch of {', '.join(found)}; "
            f"{self.folder / LAST} holds the state before that step. Look at those sequences, or train with "
            "a lower learning rate, or in fp32"
        )

    def log_losses(self, losses: dict[str, Tensor], windows_per_s: float) -> float:
        """Write one row of losses, over all processes; returns the loss."""
        names = list(losses)
        values = torch.stack([losses[name].detach().float() for name in names])
        if dist.is_initialized():
            dist.all_reduce(values)
        row = dict(zip(names, (values / self.fabric.world_size).tolist(), strict=True))
        self.log({f"train/{k}": v for k, v in {**row, "learning_rate": self.rate}.items()}, windows_per_s)
        return row["loss"]

    def log(self, metrics: dict[str, float], windows_per_s: float | None = None) -> None:
        """Hand metrics of this step to the loggers."""
        if windows_per_s is not None:
            metrics = {**metrics, "windows_per_s": windows_per_s}
        for logger in self.loggers:
            logger.log_metrics(metrics, self.step)

    def validate(self, stopped: Callable[[], bool]) -> None:
        """AP over the validation streams of all processes; keeps the best model."""
        self.save()  # a run that is stopped in here validates when it goes on
        self.module.eval()
        evaluator, panels = StreamingEvaluator(self.model, self.sensor), Panels(self.sensor, self.represent)
        for batch in self.data.val_dataloader():
            if stopped():
                break
            with autocast(self.fabric.device, self.training.precision):
                panels.push(batch, evaluator.push(batch.to(self.fabric.device)))
        self.module.train()
        self.obey(stopped)
        metrics = evaluator.gather().metrics
        self.log({f"val/{name}": metrics[name] for name in VAL_COLUMNS})
        self.validated, self.stale = self.step, self.stale + 1
        if metrics["AP"] > self.best:
            self.best, self.stale = metrics["AP"], 0
            if self.fabric.is_global_zero:
                save_checkpoint(self.folder / BEST, self.model, **self.extra, step=self.step, val=metrics)
        if self.fabric.is_global_zero:
            panels.write(self.folder / PANELS / f"{self.step:07d}.png", self.folder)
        self.save()

    def save(self) -> None:
        """Write ``last.ckpt``: whole or not at all."""
        own = {
            "states": map_states(Tensor.cpu, self.states),
            "random": random_state(),
            "data": self.position,
        }
        ranks = self._gather(own)
        if self.fabric.is_global_zero:
            state = {
                "step": self.step,
                "validated": self.validated,
                "best": self.best,
                "stale": self.stale,
                "optimizer": self.optimizer.state_dict(),
                "cycle": self._cycle,
                "scaler": self.scaler.state_dict(),
                "ranks": ranks,
            }
            save_checkpoint(self.folder / LAST, self.model, **self.extra, training=state)
        self.saved = self.step
        self.fabric.barrier()

    def restore(self, path: Path) -> None:
        """Take up the state of ``last.ckpt``."""
        content = read_state(path, self.fabric.world_size)
        state = content["training"]
        with damaged_state(path):
            self.model.load_state_dict(content["state_dict"])
            for name, kind in (("step", int), ("validated", int), ("best", float), ("stale", int)):
                setattr(self, name, kind(state[name]))
            for name in ("optimizer", "scaler"):
                getattr(self, name).load_state_dict(state[name])
            check_moments(self.optimizer)
            self.schedule = schedule_at(self.optimizer, self.training, self.step)
            if tuple(state.get("cycle", self._cycle)) != self._cycle:  # it is extended: patience counts anew
                self.stale = 0
            own = state["ranks"][self.fabric.global_rank]
            self.states = map_states(lambda s: s.to(self.fabric.device), own["states"])
            self.data.load_state_dict(own["data"])
            set_random_state(own["random"])
        self.saved = self.step

    @property
    def _cycle(self) -> tuple[int, float]:
        """What the learning rate follows besides the step."""
        return self.training.steps, self.training.learning_rate

    def obey(self, stopped: Callable[[], bool]) -> None:
        """Save and stop if a signal came to any process."""
        if self._any(stopped()):
            self.save()
            raise KeyboardInterrupt

    def _any(self, flag: bool) -> bool:
        """Whether the flag is up on any process."""
        if not dist.is_initialized():
            return flag
        raised = torch.tensor(float(flag), device=self.fabric.device)
        dist.all_reduce(raised)
        return bool(raised > 0)

    def _gather(self, value: Any) -> list[Any]:
        """The plain values of all processes, in the order of their ranks."""
        if not dist.is_initialized():
            return [value]
        values: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
        return values


def _report_no_more() -> None:
    """Let PyTorch's handler not raise over the same dead worker again, at whatever comes next."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def endless(loader: Iterable[Batch]) -> Iterator[Batch]:
    """A loader's batches, epoch after epoch."""
    while True:
        yield from loader


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come since the block began; a second one acts at once.

    A signal that only raises a flag cannot hit a step in the middle.
    """
    came = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        came.set()
        restore()

    if threading.current_thread() is threading.main_thread():  # Python lets no other handle signals
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came.is_set
    finally:
        restore()

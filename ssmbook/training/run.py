"""Training: one function that begins a run or goes on with it, on one device or on many."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy

from ssmbook.dataset import EventDataModule, Sensor, find_sequences, get_sensor
from ssmbook.dataset.parameters import mixed_stride
from ssmbook.dataset.schedule import check_burn_in
from ssmbook.detector import Detector, TrainedOn, save_checkpoint
from ssmbook.detector.precision import PRECISIONS, exact_float32
from ssmbook.errors import InputError, one_line
from ssmbook.evaluation.protocol import check_counted
from ssmbook.files import lock
from ssmbook.training.loggers import check_logger
from ssmbook.training.loop import Fit
from ssmbook.training.run_folder import MODEL, Older, begin, check_older, finished_model, is_finished
from ssmbook.training.settings import Training


def train(
    model: Detector,
    data: EventDataModule,
    out_dir: str | Path,
    *,
    sensor: str | Sensor,
    training: Training,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    logger: str = "csv",
    parameters: Mapping[str, Any] | None = None,
    trained_on: TrainedOn | None = None,
    older: Older = "aside",
) -> Path:
    """Train a detector; a finished run is returned as it is, an interrupted one goes on where it stopped, and so
    does one that stopped early, with more patience or none.

    However it was stopped, and at whatever step, it ends with the same weights, on a CPU bit for bit.

    Args:
        model: with its starting weights.
        data: chunks to train on and streams to validate on, with the batches of one process: ``training``'s
            batch_size / (devices · nodes · accumulate) chunks.
        out_dir: the run's folder, see ``run_folder``.
        sensor: whose protocol the validation follows.
        training: the hyper-parameters; its seed is for the provenance, the data module and the model are
            seeded by whoever makes them.
        accelerator: Lightning's: ``"auto"``, ``"cpu"``, ``"gpu"``.
        devices: processes on each node, a device each.
        nodes: machines; started by ``srun`` or ``torchrun`` on each of them.
        logger: where metrics go besides ``metrics.csv``: ``"csv"``, ``"tensorboard"`` or ``"wandb"``.
        parameters: what else the provenance must record.
        trained_on: the representation and the window of the data, for the checkpoints; the rest of the record is filled
            in here.
        older: what becomes of a run with other parameters in that folder. ``"aside"``: it is renamed, unless it was
            extended. ``"refuse"``: an error says what differs. ``"extend"``: a run, ended or not, goes on with more
            steps, another learning rate, or both, from its weights, optimiser state and position in the data; from
            there on the learning rate is that which the one cycle over all the new steps has at each step, so that a
            run of N steps extended to 2N goes on near half the maximum. Patience counts anew. Any other difference
            is an error. An extended run is stopped and resumed like any other.

    Returns:
        The path of ``model.ckpt``.

    Raises:
        InputError: settings that do not go together, no box to validate on, an earlier run that cannot go on, or a
            loss that is not finite.
        KeyboardInterrupt: SIGINT or SIGTERM came; the same call goes on from there.
    """
    folder, sensor = Path(out_dir), get_sensor(sensor)
    _check(model, training, logger)
    _check_steps(data, training)
    settings = {**(parameters or {}), "model": model.config, "training": asdict(training)}

    if done := finished_model(folder, settings):
        return done
    check_older(folder, settings, older)
    val = data.data_dir / "val"
    check_counted(find_sequences(val, data.representation), val, sensor)
    if training.precision == "fp32":
        exact_float32()
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=_strategy(model, devices * nodes),
            precision="32-true",  # mixed precision is applied to the network alone, see TrainingStep
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"accelerator {accelerator}, devices {devices}: {one_line(str(error), 200)}"
        ) from None

    record = replace(trained_on or TrainedOn(), sensor=sensor, sequence_length=training.sequence_length)

    def fit_alone() -> None:
        finished, resume = False, None
        if fabric.is_global_zero and not (
            finished := is_finished(folder, settings)
        ):  # by the process that held the folder
            resume = begin(folder, settings, older)
        finished, resume = fabric.broadcast((finished, resume))
        if not finished:
            loop = Fit(fabric, folder, model, data, sensor, training, resume, logger, record)
            loop.run()
            if fabric.is_global_zero:
                save_checkpoint(folder / MODEL, model, **loop.extra)
            fabric.barrier()

    fabric.launch(lambda _: _held(fabric, folder, devices * nodes == 1, fit_alone))
    return folder / MODEL


def _held(fabric: Fabric, folder: Path, wait: bool, fit: Callable[[], None]) -> None:
    """Train in a folder that one process looks after, when all have looked at it; others of the run wait for it."""
    fabric.barrier()
    with lock(folder, "trains in it", wait=wait, beside=True) if fabric.is_global_zero else nullcontext():
        fit()


def _strategy(model: Detector, processes: int) -> str | DDPStrategy:
    if processes == 1:
        return "auto"
    # Notebooks cannot be started again as scripts: there, processes are forked.
    method: Literal["fork", "popen"] = "fork" if hasattr(sys, "ps1") else "popen"
    # The vector for masked tokens has a gradient only where tokens are masked.
    unused = bool(model.config["mask_token"])
    return DDPStrategy(start_method=method, find_unused_parameters=unused)


def _check_steps(data: EventDataModule, training: Training) -> None:
    """Whether the set that is trained on has steps of mixed lengths if they are to be followed, and then only."""
    mixed = mixed_stride(data.train_dir) is not None
    if mixed and not training.mixed_rates:
        raise InputError(
            f"{data.train_dir}: its steps are mixed; train on it with mixed_rates, or on another set"
        )
    if training.mixed_rates and not mixed:
        raise InputError(
            f"{data.train_dir}: its steps are equal, but mixed_rates is {training.mixed_rates!r}; give the data module "
            "a train_dir that was preprocessed with grid='mixed'"
        )


def _check(model: Detector, training: Training, logger: str) -> None:
    check_logger(logger)
    if training.precision not in PRECISIONS:
        raise InputError(f"precision is {training.precision!r}; it can be {', '.join(PRECISIONS)}")
    if training.freeze and (training.mask_ratio or training.h2_weight or "h2_norm" in training.terms):
        raise InputError(
            "mask_ratio and h2_weight (the term h2_norm) teach the backbone, which is frozen; set them to 0, or leave "
            "out freeze"
        )
    check_burn_in(training.burn_in, training.sampling)
    if training.burn_in and model.carry == "published":
        raise InputError(
            f"burn_in is {training.burn_in}, but carry='published' starts every chunk from zero; set burn_in to 0 or "
            "make the model with carry='exact'"
        )
    if training.mask_ratio and not model.config["mask_token"]:
        raise InputError(
            "mask_ratio needs a model with a vector for masked tokens: make it with mask_token=True"
        )

"""What a profile still has to compute, and about how long that takes here: measured, not looked up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pandas as pd
import torch

from ssmbook.dataset.schedule import split_slots
from ssmbook.errors import InputError
from ssmbook.study.rates import Cell, known_results, models_of
from ssmbook.study.workspace import Workspace
from ssmbook.training.objective import TrainingStep
from ssmbook.training.settings import Training


def plan_study(workspace: Workspace, device: str = "") -> pd.DataFrame:
    """The models of a simulated profile, and the time that their training runs and evaluations take.

    Estimated from a few steps of each on random frames; simulating, preprocessing and validating come on top.

    Args:
        workspace: of the profile.
        device: of PyTorch; a GPU where there is one.

    Returns:
        One row per model and seed: trained (whether it is), steps, windows (of all evaluations), and
        minutes of what is missing (evaluations count as missing while the model does).

    Raises:
        InputError: a profile of real recordings, whose length is not known before they are read.
    """
    if workspace.profile.simulation is None:
        raise InputError(
            f"profile {workspace.profile.name!r} is not simulated: how long it takes is not known"
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    models = models_of(workspace)
    known = known_results(workspace, models)
    seconds: dict[tuple[str, str], tuple[float, float]] = {}
    rows = []
    for number, model in enumerate(models):
        place, name = model.workspace, model.variant
        kind = place.profile.representation
        windows, steps = windows_of(model.cells), place.training(name).steps
        trained = number in known or place.is_trained(name)
        missing_s = 0.0
        if not trained:
            if (name, kind) not in seconds:
                seconds[name, kind] = measure(place, name, device)
            step_s, window_s = seconds[name, kind]
            missing_s = steps * (step_s + past_windows(place.training(name)) * window_s) + windows * window_s
        rows.append((name, kind, place.profile.training.seed, trained, steps, windows, missing_s / 60))
    return pd.DataFrame(rows, columns=["model", "input", "seed", "trained", "steps", "windows", "minutes"])


def windows_of(cells: Sequence[Cell]) -> int:
    """Windows of the test split that some cells go through; cells with the same input and scale are one."""
    simulation = cells[0].workspace.profile.simulation
    assert simulation is not None
    length_ms = 1000 * simulation.sequences["test"] * simulation.scene.duration_s
    different = {(*cell.inputs, cell.step_scale, cell.arm.carry) for cell in cells}
    return round(sum(length_ms / stride_ms for _, stride_ms, *_ in different))


def past_windows(training: Training) -> float:
    """Windows of burn-in that a step runs on the average: half of the longest past for each of its random chunks."""
    return split_slots(training.batch_size, training.sampling)[0] * training.burn_in / 2


def measure(workspace: Workspace, variant: str, device: str) -> tuple[float, float]:
    """Seconds of a training step, and of a window in evaluation, of one of a profile's models."""
    training = workspace.training(variant)
    model = workspace.new_model(variant).to(device)
    step = TrainingStep(model, training).train()
    L, B = training.sequence_length, training.batch_size
    height, width = workspace.sensor.frame_size
    x = torch.randint(0, 3, (L, B, model.in_channels, height, width), dtype=torch.uint8, device=device)
    frames = torch.cartesian_prod(torch.arange(L), torch.arange(B)).to(device)
    box = torch.tensor([0.0, width / 2, height / 2, width / 4, height / 4], device=device)
    targets = box.expand(L * B, 1, 5)

    def train() -> None:
        step(x, frames, targets)[0]["loss"].backward()

    @torch.no_grad()
    def evaluate() -> None:
        model.predict(model.features(x, frames=frames)[0])

    train_s = _best_s(train, device)
    model.eval()
    return train_s, _best_s(evaluate, device) / (L * B)


def _best_s(run: Callable[[], None], device: str) -> float:
    times = []
    for _ in range(4):  # the first compiles
        start = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])

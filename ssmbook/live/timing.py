"""How long one window takes, by the protocol of the paper's table 1: batch 1, windows of 50 ms at 20 Hz.

Timed, window by window and one after another without waiting for the next to arrive:

network          a frame of counts in the device's memory → predictions in the device's memory, state carried
post-processing  besides: non-maximum suppression, and boxes as an array in the host's memory

Making frames out of events is not part of either, nor is the copy of a frame to the device.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from ssmbook.dataset import Sensor, get_sensor
from ssmbook.detector import Detector, TrainedOn, nms
from ssmbook.errors import InputError
from ssmbook.evaluation.streaming import to_boxes
from ssmbook.events import Events, get_representation
from ssmbook.events.representations.base import check_placed
from ssmbook.live.runtimes import Step, make_steps
from ssmbook.live.stream import model_representation
from ssmbook.progress import progress_bar

WARM_UP = 10  # windows before those that count


def synthetic_frames(model: Detector, seed: int = 0) -> Iterator[np.ndarray]:
    """Frames of the model's input size without end; 5 % of the counts are not 0."""
    rng = np.random.default_rng(seed)
    shape = model.in_channels, *model.input_hw
    kind = get_representation((model.trained_on or TrainedOn()).representation)
    while True:
        yield ((rng.random(shape) < 0.05) * rng.integers(1, 11, shape)).astype(kind.dtype)


def recorded_frames(windows: Iterable[Events], model: Detector, sensor: str | Sensor) -> Iterator[np.ndarray]:
    """A recording's windows as frames of the sensor's size (halved where the sensor is downsampled).

    Raises:
        InputError: an event lies outside the sensor or is earlier than the one before it, or the model takes no such
            frames.
    """
    sensor = get_sensor(sensor)
    represent, end_us = model_representation(model, sensor), 0
    for events in windows:
        check_placed(events, sensor.height, sensor.width)
        end_us = int(events.t[-1]) if len(events) else end_us
        frame = np.empty(represent.shape, represent.dtype)
        represent.write_frame([events], end_us, frame)
        yield frame


def time_detector(
    model: Detector,
    frames: Iterable[np.ndarray],
    count: int = 200,
    *,
    confidence: float = 0.001,
    iou: float = 0.45,
    progress: bool = True,
    runtimes: Sequence[str] = ("torch",),
) -> pd.DataFrame:
    """Time a detector on single frames, on the device where it is.

    Args:
        model: the detector; it runs as `StreamingDetector` runs it.
        frames: [channels, height, width] each, all of one size; the first ten are not counted.
        count: how many to time; fewer if there are fewer.
        confidence, iou: of the non-maximum suppression; by default those of the evaluation.
        runtimes: names of ``runtimes.WITH_BF16``; each frame goes through one after the other.

    Returns:
        For each runtime two rows, "network" and "network and post-processing", in ms: median, p5, p95; the number of
        windows; and score_off, the largest difference of a score from that of the first runtime.

    Raises:
        InputError: fewer than eleven frames, count < 1, or a runtime cannot be used.
    """
    if count < 1:
        raise InputError(f"count is {count}; it must be at least 1")
    steps: dict[str, Step] = {}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runtimes}
    off = dict.fromkeys(runtimes, 0.0)
    some = itertools.islice(frames, WARM_UP + count)
    for k, frame in enumerate(progress_bar(some, desc="time", unit="window", show=progress, leave=False)):
        if not steps:
            dtype = torch.from_numpy(frame).dtype
            steps = make_steps(tuple(runtimes), model, (frame.shape[1], frame.shape[2]), 1.0, dtype)
        first: torch.Tensor | None = None
        for name, step in steps.items():
            *times, scores = _time_one(step, torch.from_numpy(frame).to(step.device), k, confidence, iou)
            first = scores if first is None else first
            off[name] = max(off[name], float((scores - first).abs().max()))
            if k >= WARM_UP:
                taken[name].append((times[0], times[1]))
    if not all(taken.values()):
        raise InputError(
            f"there are too few windows: {WARM_UP} warm up, and at least one must follow; give a longer recording or "
            "a higher rate"
        )
    rows = []
    for name, times_of in taken.items():
        network, whole = 1e3 * np.array(times_of).T
        for timed, ms in (("network", network), ("network and post-processing", whole)):
            rows.append(_row(name, timed, ms) | {"score_off": off[name]})
    return pd.DataFrame(rows)


def _row(runtime: str, timed: str, ms: np.ndarray) -> dict[str, object]:
    return {
        "runtime": runtime,
        "timed": timed,
        "median_ms": np.median(ms),
        "p5_ms": np.quantile(ms, 0.05),
        "p95_ms": np.quantile(ms, 0.95),
        "windows": len(ms),
    }


def _time_one(
    step: Step, frame: torch.Tensor, k: int, confidence: float, iou: float
) -> tuple[float, float, torch.Tensor]:
    """Seconds until the predictions are there, and until the boxes are; and the scores [A, 1 + classes]."""
    _wait(step.device)
    start = time.perf_counter()
    predictions = step(frame)
    _wait(step.device)
    predicted = time.perf_counter()
    to_boxes([rows.cpu() for rows in nms(predictions, confidence, iou)], [k])
    return predicted - start, time.perf_counter() - start, predictions[:, 4:].cpu().clone()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

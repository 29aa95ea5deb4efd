"""Live detection: events or windows in, boxes out, in a memory that does not grow.

stream = StreamingDetector(load_checkpoint("model.ckpt"), "gen1", rate_hz=100)
for events in camera:
    for t_us, boxes in stream.push(events):
        ...
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ssmbook.dataset import Sensor, get_sensor
from ssmbook.dataset.grid import window_and_stride
from ssmbook.detector import Detector, TrainedOn, nms
from ssmbook.errors import InputError
from ssmbook.evaluation.streaming import to_boxes
from ssmbook.events import Events, Recording, Representation
from ssmbook.events.formats.checks import LONGEST_GAP_US
from ssmbook.live.camera import as_events
from ssmbook.live.step import NetworkStep
from ssmbook.live.tracks import Tracker
from ssmbook.live.windows import EventWindows
from ssmbook.progress import progress_bar

if TYPE_CHECKING:
    from ssmbook.live.runtimes import Step

PIECE = 1 << 16  # events of a recording that are pushed at once
MAX_RATE_HZ = 10_000


#: Takes a window's frame [channels, height, width], its end in µs, and its boxes.
Show = Callable[[np.ndarray, int, np.ndarray], None]


class Detections(NamedTuple):
    """What was found in one window."""

    t_us: int  # end of the window
    boxes: np.ndarray  # BOX_DTYPE, in pixels of the frame, best first


class StreamingDetector:
    """A detector that runs live: push events or frames, get boxes.

    By default windows come as they did in training (50 ms long, 20 a second, where the checkpoint says nothing else).
    At a higher rate they stay as long, so that they overlap, and a time scale, where the recurrence has one, follows.

    Args:
        model: the detector, on the device where it is to run; not changed.
        sensor: ``"gen1"``, ``"gen4"``, a ``Sensor`` or the path of its YAML file.
        rate_hz: windows a second ("held": what the windows are short for; they still come as in training). By default
            as many as in training.
        mode: ``"sliding"``; or ``"true"`` or ``"held"``, for windows as short as their distance, see
            ``ssmbook.dataset.window_and_stride``.
        follow: ``step_scale`` is the rate of training by rate_hz, times the strides since the window before where some
            were left out; else it is 1.
        representation: a name of ``REPRESENTATIONS``; if not given, what the model was trained on, by its checkpoint.
            One without windows is read at the rate, and ``mode`` is without effect.
        confidence, iou: of the non-maximum suppression.
        score: what becomes the boxes' confidence, see ``to_boxes``.
        first_end_us: the end of the first window; None: one window after the first event.
        shrink: frames are so many times smaller than the camera, see ``shrunk``.
        runtime: ``"torch"``, ``"onnxruntime"`` or ``"openvino"``, see ``runtimes``; ``"auto"``: the fastest of those
            that are installed and compute what torch does.

    Attributes:
        runtime: the one that is used.
        camera: the sensor as given, whose events are taken.
        sensor: the same as it is seen after ``shrink``; boxes are in pixels of its frames.

    Raises:
        InputError: an argument is out of range, the sensor's frames or classes do not fit the model, or the runtime is
            missing or computes something else.
    """

    def __init__(
        self,
        model: Detector,
        sensor: str | Sensor,
        *,
        rate_hz: float | None = None,
        mode: str = "sliding",
        follow: bool = True,
        representation: str = "",
        confidence: float = 0.1,
        iou: float = 0.45,
        score: str = "product",
        first_end_us: int | None = None,
        shrink: int = 1,
        runtime: str = "torch",
    ) -> None:
        trained = (model.trained_on or TrainedOn()).grid_ms
        trained_hz = 1000 / trained[1]
        rate_hz = trained_hz if rate_hz is None else rate_hz
        if not 0 < rate_hz <= MAX_RATE_HZ:
            raise InputError(f"rate_hz is {rate_hz}; it must be above 0 and at most 10,000")
        self.camera, self.shrink = get_sensor(sensor), shrink
        self.sensor = shrunk_sensor(self.camera, shrink)
        self.represent = model_representation(model, self.sensor, representation)
        frame_hw, classes = self.sensor.frame_size, self.sensor.classes
        if model.num_classes != len(classes):
            raise InputError(
                f"the model has {model.num_classes} classes, but sensor {self.sensor.name!r} {len(classes)}: choose "
                "the sensor that it was trained for"
            )
        if any(size > most for size, most in zip(frame_hw, model.input_hw, strict=True)):
            raise InputError(
                f"frames of {frame_hw} do not fit the model's input of {model.input_hw}; load it with "
                f"load_checkpoint(PATH, **input_sizes{frame_hw})"
            )
        window_ms, stride_ms = window_and_stride(mode, rate_hz, trained)
        self._times: tuple[int | None, float, int | None]
        if self.represent.windowed:
            self._times = round(1000 * window_ms), 1000 * stride_ms, first_end_us
        else:
            self._times = None, 1e6 / rate_hz, first_end_us
        self.windows = EventWindows(*self._times)
        scale = trained_hz / rate_hz if follow else 1.0
        dtype = torch.from_numpy(np.empty(0, self.represent.dtype)).dtype
        self.step: Step
        if runtime == "torch":
            self.runtime, self.step = runtime, NetworkStep(model, frame_hw, scale, dtype)
        else:
            self.runtime, self.step = _exported_step(runtime, model, frame_hw, scale, dtype)
        self.confidence, self.iou, self.score = confidence, iou, score
        self._follows, self._last_us = follow, -1  # the end of the window before; -1: there is none

    def push(self, events: Events | np.ndarray | Any, now_us: int | None = None) -> list[Detections]:
        """Take the next events; detect in every window that is complete then.

        Args:
            events: any number, in the order of their arrival; late ones count at the latest time so far. Also as the
                cameras' libraries give them, see ``as_events``.
            now_us: the time up to which all events have been delivered. Without it a window waits for the
                first event after its end, which a camera that sees nothing does not send.

        Raises:
            InputError: an event outside the sensor, a first stamp below 0, a clock that went back by more than
                0.1 s, jumped ahead by more than a minute or stands still; the stream is as it was before.
        """
        return [self.push_frame(frame, end) for end, frame in self.frames(events, now_us)]

    def frames(
        self, events: Events | np.ndarray | Any, now_us: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """The windows that the next events complete, each as its end and its frame; arguments as of ``push``."""
        events = as_events(events)
        for values, size, name in ((events.x, self.camera.width, "x"), (events.y, self.camera.height, "y")):
            if len(events) and values.max() >= size:
                i = int(np.argmax(values >= size))
                raise InputError(f"event {i} has {name} = {values[i]}, outside the sensor's {size} px")
        # The first window begins at the first event, which shrunk may drop.
        whole = events if self.shrink > 1 else None
        for end, window in self.windows.push(shrunk(events, self.shrink), now_us, whole):
            frame = np.empty(self.represent.shape, self.represent.dtype)
            self.represent.write_frame([window], end, frame)
            yield end, frame

    def push_frame(self, frame: np.ndarray | torch.Tensor, t_us: int) -> Detections:
        """Detect in the next frame [channels, height, width] of a representation, whose window ends at t_us.

        Where the time scale follows, it follows t_us: after windows that were left out the step is as long as the time
        that has passed.
        """
        frame = torch.as_tensor(frame)
        wanted = tuple(self.step.frame.shape[2:])
        if tuple(frame.shape) != wanted:
            raise InputError(f"a frame must be {list(wanted)}, not {list(frame.shape)}")
        if frame.is_floating_point() and not bool(frame.isfinite().all()):
            raise InputError(
                f"the frame of the window that ends at {t_us} µs holds NaN or infinity; leave it out"
            )
        try:
            rows = nms(self.step(frame, self._gap(t_us)), self.confidence, self.iou)[0]
        except InputError as error:
            raise InputError(f"in the window that ends at {t_us} µs {error}") from None
        self._last_us = t_us
        return Detections(t_us, to_boxes([rows.cpu()], [t_us], self.score)[0])

    def _gap(self, t_us: int) -> float:
        """Strides since the window before; 1 for the first one, and where the time scale does not follow."""
        passed = (t_us - self._last_us) / self.windows.stride_us
        on_time = abs(passed - 1) * self.windows.stride_us <= 1  # ends are whole µs, strides need not be
        return passed if self._follows and self._last_us >= 0 and passed > 0 and not on_time else 1.0

    def reset(self) -> None:
        """Forget events and state: another recording begins."""
        self.reset_events()
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the network's state, and when its last window ended."""
        self.step.reset()
        self._last_us = -1

    def reset_events(self) -> None:
        """Forget the events, but not the network's state."""
        self.windows = EventWindows(*self._times)
        self.represent.reset()


def shrunk(events: Events, factor: int) -> Events:
    """Events as a camera of 1/factor the resolution sees them: of its pixels, every factor-th of every factor-th row.

    Summing the events of factor × factor pixels would make a pixel fire factor² times as often as those that a network
    was trained on.
    """
    if factor == 1 or len(events) == 0:
        return events
    kept = (events.x % factor == factor // 2) & (events.y % factor == factor // 2)
    return Events(events.t[kept], events.x[kept] // factor, events.y[kept] // factor, events.p[kept])


def shrunk_sensor(sensor: Sensor, factor: int) -> Sensor:
    """The sensor of ``shrunk`` events.

    Raises:
        InputError: factor is not a whole number from 1, or leaves nothing.
    """
    most = min(sensor.width, sensor.height) // 2
    if not isinstance(factor, Integral) or not 1 <= factor <= most:
        raise InputError(
            f"frames cannot be {factor} times smaller than {sensor.width} × {sensor.height} px; give shrink as a whole "
            f"number from 1 to {most}"
        )
    return replace(sensor, width=-(-sensor.width // factor), height=-(-sensor.height // factor))


def _exported_step(
    runtime: str, model: Detector, frame_hw: tuple[int, int], scale: float, dtype: torch.dtype
) -> tuple[str, Step]:
    from ssmbook.live.runtimes import fastest_step, make_steps

    if runtime == "auto":
        return fastest_step(model, frame_hw, scale, dtype)
    return runtime, make_steps((runtime,), model, frame_hw, scale, dtype)[runtime]


def model_representation(model: Detector, sensor: Sensor, name: str = "") -> Representation:
    """A new representation that makes a model's frames of a sensor's events: that of its checkpoint, or the one named.

    Raises:
        InputError: it does not have the model's number of channels, or the windows of training counted events.
    """
    record = model.trained_on or TrainedOn()
    if record.window_events is not None:
        raise InputError(
            f"the network was trained on windows of {record.window_events} events, but live ones are cut by time; "
            "evaluate it on its preprocessed set, with ssmbook evaluate"
        )
    if name and name != record.representation:
        record = TrainedOn(representation=name)
    return record.represent(sensor, model.in_channels)


def detect_recording(
    stream: StreamingDetector,
    recording: Recording,
    progress: bool = True,
    start_us: int | None = None,
    stop_us: int | None = None,
    tracker: Tracker | None = None,
) -> Iterator[tuple[np.ndarray, Detections]]:
    """Run a recording, or a part of it, through a stream: each window's frame, and what was detected in it.

    Args:
        stream: at its start.
        recording: whose events lie within the stream's sensor.
        progress: show a bar.
        start_us, stop_us: only the events with start_us ≤ t < stop_us; None: no limit.
        tracker: gives the boxes their ``track_id``; without it they are 0.

    Raises:
        InputError: there is no whole window in the recording or its part.
    """
    count = 0
    stream.windows.longest_gap_us = LONGEST_GAP_US
    with progress_bar(desc="detect", unit="window", show=progress, leave=False) as bar:
        for events, now_us in _pieces(recording, start_us, stop_us):
            for end, frame in stream.frames(events, now_us):
                found = stream.push_frame(frame, end)
                if tracker is not None:
                    found = Detections(end, tracker.update(found.boxes, end))
                yield frame, found
                count += 1
                bar.update()
    if count == 0:
        raise InputError(f"{recording.path}: {_too_short(stream, recording, start_us, stop_us)}")


def _too_short(
    stream: StreamingDetector, recording: Recording, start_us: int | None, stop_us: int | None
) -> str:
    """Why there is no window, and what to do."""
    start = recording.start_us if start_us is None else max(start_us, recording.start_us)
    end = recording.end_us if stop_us is None else min(stop_us, recording.end_us)
    if len(recording) == 0 or end <= start:
        return (
            f"no events to detect in; the recording lasts from {recording.start_us} to {recording.end_us} µs"
        )
    window = stream.windows.window_us or stream.windows.stride_us
    short = (
        f"{(end - start) / 1000:g} ms of events are shorter than one window of {window / 1000:g} ms; give a longer "
        "part"
    )
    if (end - start) * MAX_RATE_HZ < 1e6:
        return short
    rate = min(2 * math.ceil(1e6 / (end - start)), MAX_RATE_HZ)
    return f"{short}, or windows of {1000 / rate:g} ms: --rate {rate} --mode true"


def _pieces(
    recording: Recording, start_us: int | None, stop_us: int | None
) -> Iterator[tuple[Events, int | None]]:
    """A recording piece by piece, so that the bar moves; after its end nothing more can come."""
    end_us = 0
    for block in recording.between(start_us, stop_us):
        end_us = int(block.t[-1]) if len(block) else end_us
        for k in range(0, len(block), PIECE):
            yield block[k : k + PIECE], None
    yield Events.empty(), end_us

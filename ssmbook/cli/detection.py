"""What the command detect makes of its options: the sensor, the detector, and the outputs that were asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ssmbook.cli.values import checked_device
from ssmbook.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from ssmbook.dataset import Sensor
    from ssmbook.events import Recording
    from ssmbook.live import StreamingDetector
    from ssmbook.live.default import Familiar
    from ssmbook.live.stream import Show


def use_default(options: argparse.Namespace) -> bool:
    """Where no checkpoint was given, take the one that comes along; whether that was so."""
    if options.checkpoint is not None:
        return False
    from ssmbook.live.default import DEFAULT

    options.checkpoint = str(DEFAULT)
    return True


def describe_default() -> str:
    """One line on the network that comes along, and on what it can be trusted with."""
    from ssmbook.live.default import default_record

    record = default_record()
    return (
        f"the network is the one that comes along, {record['recurrence']} for {' and '.join(record['classes'])}, "
        f"trained on {record['minutes']:.2g} minutes of simulated streets and nothing else (AP "
        f"{record['validation']['AP']:.0f} there): on real recordings its boxes are hints, which chapter 11 counts"
    )


def make_stream(options: argparse.Namespace, sensor: Sensor) -> StreamingDetector:
    """The detector, its network as large as the sensor's frames need."""
    from ssmbook.detector import input_sizes, load_checkpoint
    from ssmbook.live import StreamingDetector
    from ssmbook.live.default import default_record, shrink_for
    from ssmbook.live.stream import shrunk_sensor

    runtime, confidence = options.runtime, options.confidence
    if runtime == "auto" and not options.live:
        runtime = "torch"
    shrink = 1 if options.shrink is None else options.shrink
    if options.is_default and options.shrink is None:
        shrink = shrink_for(sensor.width, sensor.height, tuple(default_record()["frame_hw"]))
    if confidence is None:
        confidence = default_record()["confidence"] if options.is_default else 0.1
    sizes = input_sizes(*shrunk_sensor(sensor, shrink).frame_size)
    model = load_checkpoint(options.checkpoint, options.preset, **sizes).to(checked_device(options.device))
    return StreamingDetector(
        model,
        sensor,
        rate_hz=options.rate,
        mode=options.mode,
        follow=not options.keep_step,
        confidence=confidence,
        shrink=shrink,
        runtime=runtime,
    )


def familiar(options: argparse.Namespace, stream: StreamingDetector) -> Familiar | None:
    """What compares windows with those of training; None where these are not known."""
    from ssmbook.live.default import Familiar, default_record

    return Familiar(default_record()["highest"], stream.represent) if options.is_default else None


def choose_rate(options: argparse.Namespace, recording: Recording, tell: Callable[[str], None]) -> None:
    """The rate of training where none was given; for a recording shorter than a window one window as long as it is."""
    from ssmbook.detector import TrainedOn
    from ssmbook.detector.checkpoint_file import read_checkpoint
    from ssmbook.live.stream import MAX_RATE_HZ

    if options.rate is not None:
        return
    window_ms = TrainedOn.read(read_checkpoint(options.checkpoint), options.checkpoint).grid_ms[0]
    first = None
    for block in recording.between(options.start, options.stop):
        if len(block) == 0:
            continue
        first = int(block.t[0]) if first is None else first
        last = int(block.t[-1])
        if last - first >= 1000 * window_ms:
            return
    if first is None:
        return
    if (last - first) * MAX_RATE_HZ < 1e6:
        raise InputError(
            f"{options.recording}: {last - first} µs of events are shorter than the shortest window, of "
            f"{1e6 / MAX_RATE_HZ:g} µs; give a longer recording, or part of it"
        )
    options.rate, options.mode = 1e6 / (last - first), "true"
    tell(
        f"{(last - first) / 1000:g} ms of events are shorter than a window of {window_ms:g} ms: one window "
        f"of all, as with --rate {options.rate:.6g} --mode true"
    )


@contextmanager
def open_outputs(
    options: argparse.Namespace, stream: StreamingDetector, zero_us: int
) -> Iterator[list[Show]]:
    """What takes each window, for the files that were asked for."""
    from ssmbook.live.box_outputs import box_output, yolo_output
    from ssmbook.live.video import box_video

    sensor, shows = stream.sensor, []
    with ExitStack() as stack:
        for path, output in ((options.out, box_output), (options.yolo, yolo_output)):
            if path:
                show = stack.enter_context(output(path, sensor.classes, stream.camera.frame_size))
                shows.append(_in_camera_pixels(show, stream.shrink))
        if options.video:
            video = box_video(
                options.video,
                sensor,
                1e6 / stream.windows.stride_us,
                options.speed,
                zero_us,
                stream.represent,
                fps=options.fps,
                bitrate=options.bitrate,
                palette=options.palette,
                truth=read_truth(options.truth, stream),
            )
            shows.append(stack.enter_context(video))
        yield shows


def _in_camera_pixels(show: Show, shrink: int) -> Show:
    """The same for boxes of frames that are so many times smaller than the camera's."""

    def scaled(frame: np.ndarray, t_us: int, boxes: np.ndarray) -> None:
        boxes = boxes.copy()
        for name in "xywh":
            boxes[name] *= shrink
        show(frame, t_us, boxes)

    return show if shrink == 1 else scaled


def read_truth(path: str | None, stream: StreamingDetector) -> Any:
    """The labels to draw, in pixels of the frame."""
    from pathlib import Path

    from ssmbook.dataset.labels import read_labels
    from ssmbook.live.drawing import GroundTruth

    if path is None:
        return None
    sensor = stream.camera
    boxes = read_labels(Path(path), sensor)
    for name in "xywh":
        boxes[name] /= (2 if sensor.downsample else 1) * stream.shrink
    return GroundTruth(boxes[boxes["class_id"] < len(sensor.classes)])


def of_size(sensor: Sensor, width: int | None, height: int | None) -> Sensor:
    """The sensor with the size of a recording; its own where the recording does not say it."""
    from dataclasses import replace

    if width is None or height is None or (width, height) == (sensor.width, sensor.height):
        return sensor
    return replace(sensor, name=f"{sensor.name} at {width}x{height}", width=width, height=height)


def sensor_of(options: argparse.Namespace) -> Any:
    from ssmbook.study import checkpoint_sensor

    return checkpoint_sensor(options.checkpoint, options.preset or "", options.sensor)

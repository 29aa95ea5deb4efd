"""What the command detect makes of its options: the sensor, the detector, and the outputs that were asked for."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssmbook.dataset import Sensor
    from ssmbook.live import StreamingDetector
    from ssmbook.live.stream import Show


def make_stream(options: argparse.Namespace, sensor: Sensor) -> StreamingDetector:
    """The detector, its network as large as the sensor's frames need."""
    from ssmbook.cli.live import checked_device
    from ssmbook.detector import input_sizes, load_checkpoint
    from ssmbook.live import StreamingDetector

    runtime = options.runtime
    if runtime == "auto" and not options.live:
        runtime = "torch"
    sizes = input_sizes(*sensor.frame_size)
    model = load_checkpoint(options.checkpoint, options.preset, **sizes).to(checked_device(options.device))
    return StreamingDetector(
        model,
        sensor,
        rate_hz=options.rate,
        mode=options.mode,
        follow=not options.keep_step,
        confidence=options.confidence,
        runtime=runtime,
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
        if options.out:
            shows.append(stack.enter_context(box_output(options.out, sensor.classes, sensor.frame_size)))
        if options.yolo:
            shows.append(stack.enter_context(yolo_output(options.yolo, sensor.classes, sensor.frame_size)))
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
                truth=read_truth(options.truth, sensor),
            )
            shows.append(stack.enter_context(video))
        yield shows


def read_truth(path: str | None, sensor: Sensor) -> Any:
    """The labels to draw, in pixels of the frame."""
    from pathlib import Path

    from ssmbook.dataset.labels import read_labels
    from ssmbook.live.drawing import GroundTruth

    if path is None:
        return None
    boxes = read_labels(Path(path), sensor)
    if sensor.downsample:
        for name in "xywh":
            boxes[name] /= 2
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

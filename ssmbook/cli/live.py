"""Commands that run a trained detector: detect, time, export."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ssmbook.cli.values import literal, size, time_us
from ssmbook.errors import InputError


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    command = commands.add_parser(
        "detect",
        help="find the boxes in a recording",
        description=_detect.__doc__,
        epilog="Example: ssmbook detect drive.raw model.ckpt --video boxes.gif --speed 0.25 --start 2s --stop 12s",
    )
    command.add_argument("recording", help="a file of any format that is read, see ssmbook info")
    _add_checkpoint(command)
    command.add_argument(
        "--out",
        metavar="FILE",
        help="the boxes: *_bbox.npy, Prophesee's; *_bbox.json, COCO's; or *.csv",
    )
    command.add_argument(
        "--video", metavar="FILE", help="events and boxes: *.mp4, which needs ffmpeg and is smaller, or *.gif"
    )
    command.add_argument(
        "--speed", type=float, default=1.0, help="of the video: 0.1 is ten times slower (default: 1)"
    )
    command.add_argument("--sensor", default="", help="gen1, gen4 or a YAML file (default: the checkpoint's)")
    command.add_argument(
        "--size", type=size, metavar="WxH", help="the camera, for recordings that do not say it: 640x480"
    )
    command.add_argument(
        "--start", type=time_us, help="first time: 2500000 (µs), 2500ms or 2.5s, as info shows it"
    )
    command.add_argument("--stop", type=time_us, help="time to stop before")
    command.add_argument("--rate", type=float, default=20.0, help="windows a second (default: 20)")
    command.add_argument(
        "--way", default="sliding", help="to run faster than 20 Hz: sliding, true or held (default: sliding)"
    )
    command.add_argument(
        "--keep-step", action="store_true", help="leave step_scale at 1; else it is 20 / rate"
    )
    command.add_argument("--confidence", type=float, default=0.1, help="least score (default: 0.1)")
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    command.set_defaults(run=_detect)

    command = commands.add_parser(
        "time", help="how long a detector takes for one window", description=_time.__doc__
    )
    _add_checkpoint(command)
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    command.add_argument("--windows", type=int, default=200, help="how many to time (default: 200)")
    command.add_argument("--recording", help="real events to time on; synthetic counts without it")
    command.add_argument(
        "--sensor", default="", help="of the recording: gen1, gen4 or a YAML file (default: the checkpoint's)"
    )
    command.set_defaults(run=_time)

    command = commands.add_parser(
        "export", help="write a detector as an ONNX file for other runtimes", description=_export.__doc__
    )
    _add_checkpoint(command)
    command.add_argument("out", help="the file, step.onnx")
    command.add_argument(
        "--sensor", default="", help="whose frames: gen1, gen4 or a YAML file (default: the checkpoint's)"
    )
    command.add_argument("--batch", type=int, default=1, help="cameras side by side (default: 1)")
    command.add_argument(
        "--step-scale",
        default="1.0",
        help="time between windows in units of that in training, or 'input' to set it at every step (default: 1.0)",
    )
    command.set_defaults(run=_export)


def _add_checkpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", help="ours, or one released by S5-ViT or RVT")
    command.add_argument(
        "--preset",
        help="sizes of a released checkpoint's network (default: those that fit its weights)",
    )


def _detect(options: argparse.Namespace) -> None:
    """Run a detector over a recording as it would run live, and write the boxes of all windows, a video of events
    and boxes, or both. The network takes the recording's size, whatever it was trained on. A box's time is the end of
    its window in µs on the recording's clock; x, y, w, h are pixels of the frame (halved on 1 Mpx). The video shows the
    time since the recording's first event."""
    import time
    from contextlib import nullcontext
    from dataclasses import replace

    from ssmbook.detector import input_sizes, load_checkpoint
    from ssmbook.events import open_events, write_boxes, write_coco
    from ssmbook.events.boxes import write_csv
    from ssmbook.live import StreamingDetector, box_video, detect_recording

    if not options.out and not options.video:
        raise InputError("nothing to write: give --out for the boxes, --video for a video, or both")
    if options.out and not options.out.endswith((".npy", ".json", ".csv")):
        raise InputError(
            f"{options.out}: boxes are written as .npy, .json or .csv; give one of these endings"
        )
    start, stop = options.start, options.stop
    if start is not None and stop is not None and stop <= start:
        raise InputError(f"--stop {stop} µs is not after --start {start} µs")
    sensor = _sensor(options)
    with open_events(options.recording, *(options.size or (None, None))) as recording:
        width, height = recording.width, recording.height
        if width is None or height is None:  # then it is the sensor that the checkpoint was trained for
            width, height = sensor.width, sensor.height
        if (width, height) != (sensor.width, sensor.height):
            sensor = replace(sensor, name=f"{sensor.name} at {width}x{height}", width=width, height=height)
        sizes = input_sizes(*sensor.frame_size)
    model = load_checkpoint(options.checkpoint, options.preset, **sizes).to(_device(options.device))
    stream = StreamingDetector(
        model,
        sensor,
        rate_hz=options.rate,
        way=options.way,
        follow=not options.keep_step,
        confidence=options.confidence,
    )
    per_s = 1e6 / stream.windows.stride_us
    with open_events(options.recording, sensor.width, sensor.height) as recording:
        zero = recording.start_us
        video = (
            box_video(options.video, sensor, per_s, options.speed, zero, stream.represent)
            if options.video
            else nullcontext()
        )
        began = time.monotonic()
        with video as show:
            windows, boxes = detect_recording(stream, recording, show=show, start_us=start, stop_us=stop)
        seconds = time.monotonic() - began
        if str(recording.faults):
            print(f"{options.recording}: {recording.faults}", file=sys.stderr)
    if options.out and options.out.endswith(".csv"):
        write_csv(options.out, boxes, sensor.classes)
    elif options.out and options.out.endswith(".json"):
        write_coco(options.out, boxes, stream.sensor.classes, *stream.sensor.frame_size)
    elif options.out:
        write_boxes(options.out, boxes)
    written = " and ".join(filter(None, (options.out, options.video)))
    shown_s = windows / per_s
    print(
        f"{written}: {len(boxes)} boxes in {windows} windows; {shown_s:.2f} s of recording in {seconds:.2f} s "
        f"({shown_s / max(seconds, 1e-9):.2g} × real time)"
    )


def _time(options: argparse.Namespace) -> None:
    """Time a detector by the paper's protocol: batch 1, windows of 50 ms, one after another. "network" is a frame
    of counts in the device's memory to predictions there; "network and post-processing" goes on to boxes in the
    host's memory. Median, 5 % and 95 % quantile."""
    from ssmbook.detector import load_checkpoint
    from ssmbook.events import open_events
    from ssmbook.live import recorded_frames, synthetic_frames, time_detector

    model = load_checkpoint(options.checkpoint, options.preset).to(_device(options.device))
    if options.recording is None:
        table = time_detector(model, synthetic_frames(model), options.windows)
    else:
        with open_events(options.recording) as recording:
            frames = recorded_frames(recording.windows(50_000), model, _sensor(options))
            table = time_detector(model, frames, options.windows)
    print(f"{_device_name(options.device)}, batch 1, float32")
    print(table.round(3).to_string(index=False))


def _export(options: argparse.Namespace) -> None:
    """Write one step of a detector as ONNX: a frame (uint8; int8 for a mixed-density stack) and the states
    go in, predictions and new states come out. The states start as zeros. It needs: pip install 'ssmbook[export]'."""
    from ssmbook.detector import load_checkpoint
    from ssmbook.live.export import export_onnx

    scale = None if options.step_scale == "input" else literal(options.step_scale)
    if scale is not None and not isinstance(scale, int | float):
        raise InputError(f"--step-scale is {options.step_scale!r}; give a number or 'input'")
    model = load_checkpoint(options.checkpoint, options.preset)
    frame_hw = _sensor(options).frame_size
    print(export_onnx(model, options.out, frame_hw, batch=options.batch, step_scale=scale))


def _sensor(options: argparse.Namespace) -> Any:
    from ssmbook.study import checkpoint_sensor

    return checkpoint_sensor(options.checkpoint, options.preset or "", options.sensor)


def _device(name: str) -> str:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no GPU; use --device cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"device is {name!r}; it can be cpu or cuda")
    return name


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"

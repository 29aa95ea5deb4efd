"""Commands that measure a trained detector and write it for other runtimes: time, export."""

from __future__ import annotations

import argparse
from typing import Any

from ssmbook.cli.detection import of_size, sensor_of, use_default
from ssmbook.cli.values import check_paths, checked_device, literal, print_facts
from ssmbook.errors import InputError


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_time(commands)
    _add_export(commands)


def _add_time(commands: Any) -> None:
    command = commands.add_parser(
        "time",
        help="how long a detector takes for one window",
        description=_time.__doc__,
        epilog="Example: ssmbook time model.ckpt --windows 20 --recording drive.raw",
    )
    _add_checkpoint(command)
    command.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="cpu or cuda (default: cpu)"
    )
    command.add_argument("--windows", type=int, default=200, help="how many to time (default: 200)")
    command.add_argument("--recording", help="real events to time on; synthetic counts without it")
    command.add_argument(
        "--sensor", default="", help="of the recording: gen1, gen4 or a YAML file (default: the checkpoint's)"
    )
    command.add_argument(
        "--runtime",
        default="all",
        choices=["all", "torch", "onnxruntime", "openvino"],
        help="all: side by side, those that are installed, on a CPU also with products in bf16 (default: all)",
    )
    command.add_argument("--json", action="store_true", help="print the table as JSON")
    command.set_defaults(run=_time)


def _add_export(commands: Any) -> None:
    command = commands.add_parser(
        "export",
        help="write a detector as an ONNX file for other runtimes",
        description=_export.__doc__,
        epilog="examples:\n  ssmbook export model.ckpt step.onnx --step-scale input\n"
        "  ssmbook export model.ckpt layer.onnx --layer 3",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_checkpoint(command)
    command.add_argument("out", help="the file, step.onnx")
    command.add_argument(
        "--sensor", default="", help="whose frames: gen1, gen4 or a YAML file (default: the checkpoint's)"
    )
    command.add_argument("--batch", default="1", help="cameras side by side, or 'any' (default: 1)")
    command.add_argument(
        "--size", choices=("any",), help="frames of any size up to the network's (default: the sensor's)"
    )
    command.add_argument(
        "--layer",
        type=int,
        choices=(1, 2, 3, 4),
        help="the state-space layer of this stage alone: u [N, H], state and step_scale → y and new_state, for any N",
    )
    command.add_argument(
        "--step-scale",
        default="1.0",
        help="time between windows in units of that in training, or 'input' to set it at every step (default: 1.0)",
    )
    command.add_argument("--json", action="store_true", help="print what was written as JSON")
    command.set_defaults(run=_export)


def _add_checkpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "checkpoint",
        nargs="?",
        help="ours, or one released by S5-ViT or RVT (default: the network that comes along)",
    )
    command.add_argument(
        "--preset",
        help="sizes of a released checkpoint's network (default: those that fit its weights)",
    )


def _time(options: argparse.Namespace) -> None:
    """Time a detector by the paper's protocol: batch 1, windows of 50 ms, one after another. The network takes the
    recording's size, whatever it was trained on. "network" is a frame of counts in the device's memory to predictions
    there; "network and post-processing" goes on to boxes in the host's memory. Median, 5 % and 95 % quantile; score_off
    is the largest difference of a score from the first row's. What bf16 costs in AP says ssmbook evaluate --precision
    bf16."""
    use_default(options)
    check_paths(options.checkpoint, options.recording)
    from ssmbook.detector import input_sizes, load_checkpoint
    from ssmbook.events import open_events
    from ssmbook.live import recorded_frames, synthetic_frames, time_detector

    runtimes, device = _runtimes(options), checked_device(options.device)
    if options.recording is None:
        model = load_checkpoint(options.checkpoint, options.preset).to(device)
        table = time_detector(model, synthetic_frames(model), options.windows, runtimes=runtimes)
    else:
        with open_events(options.recording) as recording:
            sensor = of_size(sensor_of(options), recording.width, recording.height)
        sizes = input_sizes(*sensor.frame_size)
        model = load_checkpoint(options.checkpoint, options.preset, **sizes).to(device)
        with open_events(options.recording, sensor.width, sensor.height) as recording:
            frames = recorded_frames(recording.windows(50_000), model, sensor)
            table = time_detector(model, frames, options.windows, runtimes=runtimes)
    where = f"{_device_name(options.device)}, batch 1, float32 unless the row says bf16"
    print_facts(
        options.json,
        {"where": where, "rows": table.round(4).to_dict("records")},
        where,
        table.round(3).to_string(index=False),
    )


def _runtimes(options: argparse.Namespace) -> list[str]:
    from ssmbook.live.runtimes import WITH_BF16, installed

    if options.runtime != "all":
        return [options.runtime]
    return [name for name in WITH_BF16 if name == "torch" or (options.device == "cpu" and installed(name))]


def _export(options: argparse.Namespace) -> None:
    """Write one step of a detector as ONNX: a frame (uint8; int8 for a mixed-density stack) and the states
    go in, predictions and new states come out. The states start as zeros. It needs: pip install 'ssmbook[export]'."""
    use_default(options)
    check_paths(options.checkpoint)
    from ssmbook.detector import load_checkpoint
    from ssmbook.live.export import export_onnx
    from ssmbook.ssm import export_layer

    scale = None if options.step_scale == "input" else literal(options.step_scale)
    if scale is not None and not isinstance(scale, int | float):
        raise InputError(f"--step-scale is {options.step_scale!r}; give a number or 'input'")
    batch = None if options.batch == "any" else literal(options.batch)
    if batch is not None and not isinstance(batch, int):
        raise InputError(f"--batch is {options.batch!r}; give a number or 'any'")
    model = load_checkpoint(options.checkpoint, options.preset)
    if options.layer:
        path = export_layer(_layer(model, options.layer), options.out)
        print_facts(options.json, {"written": str(path), "stage": options.layer}, str(path))
        return
    frame_hw = None if options.size == "any" else sensor_of(options).frame_size
    path = export_onnx(model, options.out, frame_hw, batch=batch, step_scale=scale)
    facts = {"written": str(path), "frame_hw": "any" if frame_hw is None else list(frame_hw)}
    print_facts(options.json, facts, str(path))


def _layer(model: Any, stage: int) -> Any:
    """The state-space layer of a stage, counted from 1."""
    recurrence = model.backbone.stages[stage - 1].recurrence
    if not hasattr(recurrence, "layer"):
        raise InputError(f"stage {stage} has a {type(recurrence).__name__}, which holds no state-space layer")
    return recurrence.layer


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"

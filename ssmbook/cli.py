"""The command line: ``ssmbook --help`` lists the commands, ``ssmbook <command> --help`` explains one."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssmbook.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. A user's mistake is one line on stderr and exit code 2; 1 where a part failed."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (InputError, OSError) as error:  # OSError: a full disk, a folder without permission
        print(f"ssmbook: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ssmbook: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssmbook",
        description="State-space models for event cameras: a research book that runs.",
        epilog="Start with: ssmbook reproduce. It simulates a small set, trains two detectors, evaluates them at "
        "20 to 200 Hz, and prints where the tables and figures are.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser(
        "reproduce",
        help="run the chapters and regenerate the tables and figures",
        description=_reproduce.__doc__,
    )
    command.add_argument(
        "chapters", nargs="*", help="beginnings of chapter names, e.g. 05 06; all by default"
    )
    command.add_argument("--profile", default="demo", help="smoke, demo, gen1-small, … (default: demo)")
    command.add_argument("--data-dir", default="", help="where data and runs lie (default: data/<profile>)")
    command.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a chapter's parameter, as in papermill; may be repeated",
    )
    command.set_defaults(run=_reproduce)

    command = commands.add_parser(
        "download", help="fetch Gen1, 1 Mpx or the released checkpoints", description=_download.__doc__
    )
    command.add_argument("what", choices=["gen1", "gen4", "checkpoints"], help="gen4 is the 1 Mpx set")
    kind = command.add_mutually_exclusive_group()
    kind.add_argument("--preprocessed", action="store_true", help="one archive with all splits (default)")
    kind.add_argument("--raw", action="store_true", help="events and boxes, one archive for each split")
    command.add_argument("--split", nargs="+", default=None, help="of train, val and test (default: all)")
    command.add_argument(
        "--to", default=None, help="folder (default: data/gen1, data/gen4, data/checkpoints)"
    )
    command.set_defaults(run=_download)

    command = commands.add_parser(
        "simulate", help="write a simulated raw set in Gen1's format", description=_simulate.__doc__
    )
    command.add_argument("out", help="folder for train/, val/ and test/ with *_td.dat and *_bbox.npy")
    command.add_argument("--profile", default="demo", help="whose scenes: smoke or demo (default: demo)")
    command.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    command.set_defaults(run=_simulate)

    command = commands.add_parser(
        "preprocess", help="turn raw recordings and boxes into sequences", description=_preprocess.__doc__
    )
    command.add_argument("raw", help="folder with train/, val/ and test/ of recordings and *_bbox.npy files")
    command.add_argument(
        "out", help="folder for the sequences, or for a folder of each set if there are several"
    )
    command.add_argument("--sensor", default="gen1", help="gen1, gen4, or a YAML file (default: gen1)")
    command.add_argument(
        "--representation",
        type=_list_of(str),
        default=["stacked_histogram"],
        help="stacked_histogram (default) or mixeddensity_stack; several with commas",
    )
    command.add_argument(
        "--window-ms", type=_list_of(float), help="window in ms (default: 50); several with commas"
    )
    command.add_argument(
        "--window-events",
        type=_list_of(int),
        help="window as a number of events instead; several with commas",
    )
    command.add_argument(
        "--stride-ms",
        type=_list_of(float),
        default=[50.0],
        help="time between windows in ms (default: 50); with commas, one for each window",
    )
    command.add_argument("--grid", default="exact", help="exact, or published: that of the released script")
    command.add_argument("--workers", type=int, default=2, help="processes of this machine (default: 2)")
    command.add_argument(
        "--scheduler",
        metavar="tcp://…",
        help="make the sequences on the Dask cluster of this scheduler instead",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="say what it would read and write, and do nothing"
    )
    command.set_defaults(run=_preprocess)

    _add_train(commands)
    _add_evaluate(commands)

    command = commands.add_parser("info", help="what a recording holds", description=_info.__doc__)
    command.add_argument("recordings", nargs="+", help="DAT, EVT2, EVT3, AEDAT4, HDF5 or npy files")
    command.set_defaults(run=_info)

    command = commands.add_parser(
        "time", help="how long a detector takes for one window", description=_time.__doc__
    )
    _add_checkpoint(command)
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    command.add_argument("--windows", type=int, default=200, help="how many to time (default: 200)")
    command.add_argument("--recording", help="real events to time on; synthetic counts without it")
    command.add_argument(
        "--sensor", default="gen1", help="of the recording: gen1, gen4 or a YAML file (default: gen1)"
    )
    command.set_defaults(run=_time)

    command = commands.add_parser(
        "export", help="write a detector as an ONNX file for other runtimes", description=_export.__doc__
    )
    _add_checkpoint(command)
    command.add_argument("out", help="the file, step.onnx")
    command.add_argument(
        "--sensor", default="gen1", help="whose frames: gen1, gen4 or a YAML file (default: gen1)"
    )
    command.add_argument("--batch", type=int, default=1, help="cameras side by side (default: 1)")
    command.add_argument(
        "--step-scale",
        default="1.0",
        help="time between windows in units of that in training, or 'input' to set it at every step (default: 1.0)",
    )
    command.set_defaults(run=_export)

    command = commands.add_parser("detect", help="find the boxes in a recording", description=_detect.__doc__)
    command.add_argument("recording", help="a DAT, EVT2, EVT3, AEDAT4, HDF5 or npy file")
    _add_checkpoint(command)
    command.add_argument("--out", required=True, help="the file for the boxes, *_bbox.npy")
    command.add_argument("--sensor", default="gen1", help="gen1, gen4 or a YAML file (default: gen1)")
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
        "refresh", help="for authors: renew the committed chapters' outputs", description=_refresh.__doc__
    )
    command.add_argument("chapters", nargs="*", help="beginnings of chapter names; all by default")
    command.set_defaults(run=_refresh)
    return parser


def _add_checkpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", help="ours, or one released by S5-ViT or RVT")
    command.add_argument(
        "--preset",
        default="gen1-small",
        help="sizes of a released checkpoint's network (default: gen1-small)",
    )


def _add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train a detector, on one device or many; the same command goes on after a stop",
        description=_train.__doc__,
    )
    add = command.add_argument
    add(
        "--profile",
        default="demo",
        help="data, network and hyper-parameters: demo, gen1-small, … (default: demo)",
    )
    add("--data-dir", default="", help="where data and runs lie (default: data/<profile>)")
    add("--recurrence", default="s5", help="s5, convlstm or none (default: s5)")
    add(
        "--init",
        default="",
        metavar="CKPT",
        help="fine-tune this checkpoint, ours or released; new class layer",
    )
    add("--sensor", default="", help="another sensor than the profile's: the path of its YAML file")
    add("--name", default="", help="of the run's folder under runs/ (default: from the options)")
    add("--accelerator", default="auto", help="auto, cpu or gpu (default: auto)")
    add("--devices", type=int, default=1, help="processes on each node, a device each (default: 1)")
    add("--nodes", type=int, default=1, help="machines, each started by srun or torchrun (default: 1)")
    add("--logger", default="csv", help="beside metrics.csv: tensorboard or wandb")
    for name, kind, words in _SETTINGS:
        add(f"--{name.replace('_', '-')}", type=kind, default=None, help=f"{words} (default: the profile's)")
    command.set_defaults(run=_train)


_SETTINGS: tuple[tuple[str, type, str], ...] = (
    ("steps", int, "optimiser steps"),
    ("batch_size", int, "chunks of one step, over all devices; the learning rate follows as √batch"),
    ("accumulate", int, "batches, one after another, that make a step"),
    ("learning_rate", float, "the maximum of the cycle"),
    ("precision", str, "fp32 (without TF32), bf16 or fp16"),
    ("validate_every", int, "steps between validations"),
    ("patience", int, "stop after so many validations without a better AP; 0: never"),
    ("workers", int, "processes that read"),
    ("seed", int, "of weights, order and augmentation"),
)


def _add_evaluate(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="average precision of a checkpoint, ours or released, on a preprocessed set",
        description=_evaluate.__doc__,
    )
    add = command.add_argument
    add("checkpoint", help="ours (model.ckpt, best.ckpt, last.ckpt), S5-ViT's or RVT's")
    add("--data", required=True, help="the preprocessed set, with train/, val/ and test/")
    add("--preset", default="", help="network of a released checkpoint (default: found from its weights)")
    add("--carry", default="", help="exact or published (default: both for S5, exact for the others)")
    add("--split", default="test", help="test, val or train (default: test)")
    add(
        "--score",
        default="class",
        help="what ranks detections: class, as published, or product (default: class)",
    )
    add("--sensor", default="", help="gen1, gen4 or a YAML file (default: the checkpoint's)")
    add("--sequence-length", type=int, default=0, help="windows of a chunk (default: as in training)")
    add("--batch-size", type=int, default=8, help="sequences side by side (default: 8)")
    add("--device", default="", help="cpu, cuda, … (default: a GPU where there is one)")
    add("--save-boxes", default="", metavar="DIR", help="write detections as Prophesee npy and COCO json")
    command.set_defaults(run=_evaluate)


def _train(options: argparse.Namespace) -> None:
    """Train a profile's detector. Stopped by a signal or killed, the same command goes on, and on a CPU it ends with
    the same weights bit for bit. Under srun or torchrun, --devices and --nodes say how many processes train together;
    the batch is shared by them, so that the result does not depend on their number. The run lies in
    <data>/runs/<name>: model.ckpt, best.ckpt, last.ckpt, metrics.csv and panels/."""
    from dataclasses import replace

    from ssmbook.experiment.presets import get_profile
    from ssmbook.experiment.workspace import Workspace

    profile = get_profile(options.profile)
    changed = {n: getattr(options, n) for n, *_ in _SETTINGS if getattr(options, n) is not None}
    if "batch_size" in changed and "learning_rate" not in changed:
        base = profile.training
        changed["learning_rate"] = base.learning_rate * (changed["batch_size"] / base.batch_size) ** 0.5
    profile = replace(profile, training=replace(profile.training, **changed))
    if options.sensor:
        profile = replace(profile, sensor=options.sensor)
    shown = [f"{n}={getattr(options, n)}" for n, *_ in _SETTINGS if getattr(options, n) is not None]
    shown += [f"{n}={Path(v).stem}" for n in ("init", "sensor") if (v := getattr(options, n))]
    workspace = Workspace(profile, options.data_dir)
    path = workspace.train(
        options.recurrence,
        options.accelerator,
        options.devices,
        options.nodes,
        options.logger,
        options.init,
        options.name or "_".join([options.recurrence, *shown]),
    )
    print(path)


def _evaluate(options: argparse.Namespace) -> None:
    """Average precision × 100 by the Prophesee protocol. The mAP that is published for S5-ViT was measured with
    chunks that each start from zero and detections ranked by class score alone: expect it in the row
    "published". In the row "exact" the state is carried through each recording."""
    from ssmbook.experiment.box_files import save_boxes
    from ssmbook.experiment.evaluate_file import evaluate_checkpoint, score_table

    results = evaluate_checkpoint(
        options.checkpoint,
        options.data,
        preset=options.preset,
        carry=options.carry,
        split=options.split,
        score=options.score,
        sensor=options.sensor,
        sequence_length=options.sequence_length,
        batch_size=options.batch_size,
        device=options.device,
    )
    table = score_table(results)
    table.index.name = "carry"
    print(table.round(2).to_string(na_rep="–"))
    for way, result in results.items():
        if options.save_boxes:
            save_boxes(result, Path(options.save_boxes) / way)
            print(Path(options.save_boxes) / way)


def _reproduce(options: argparse.Namespace) -> None:
    """Run the chapters with papermill in one profile. What is done already is not done again: after an
    interruption the same command goes on. Executed copies lie in <data>/book; the tables and figures are
    listed at the end."""
    from ssmbook.book import outputs, reproduce
    from ssmbook.experiment.workspace import Workspace

    parameters = {name: _value(value) for name, value in options.parameters}
    copies = reproduce(options.profile, options.chapters, options.data_dir, parameters)
    print("Executed chapters:")
    for path in copies:
        print(f"  {path}")
    print("Tables and figures:")
    for path in outputs(Workspace(options.profile, options.data_dir)):
        print(f"  {path}")


def _value(text: str) -> Any:
    """A parameter's value: a Python literal where it is one, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _download(options: argparse.Namespace) -> None:
    """Fetch a published set or the released checkpoints. The disk space that is needed is shown first. After an
    interruption the same command goes on; archives are checked against the crc32 that their authors state,
    unpacked into train/, val/ and test/ (raw ones below raw/) and removed."""
    from ssmbook.dataset.published import download_checkpoints, download_set

    folder = options.to or f"data/{options.what}"
    if options.what == "checkpoints":
        if options.raw or options.preprocessed or options.split:
            raise InputError("--raw, --preprocessed and --split choose parts of a set, not checkpoints")
        for path, crc32 in download_checkpoints(folder).values():
            print(f"{path}: crc32 {crc32:08x} (its authors state none to compare it with)")
        return
    splits = options.split or ("train", "val", "test")
    for path in download_set(options.what, folder, options.raw, splits):
        print(path)


def _simulate(options: argparse.Namespace) -> None:
    """Write a profile's simulated driving scenes as raw files in Gen1's own format. Finished sequences are
    kept; the same seed gives the same bytes."""
    from ssmbook.events.simulate import simulate_set
    from ssmbook.experiment.presets import PROFILES, get_profile

    simulation = get_profile(options.profile).simulation
    if simulation is None:
        simulated = ", ".join(name for name, profile in PROFILES.items() if profile.simulation)
        raise InputError(f"profile {options.profile!r} has no simulation; {simulated} have one")
    simulate_set(
        options.out,
        simulation.scene,
        simulation.pixel,
        simulation.sequences,
        simulation.seed,
        options.workers,
    )
    print(options.out)


def _list_of(kind: type) -> Any:
    """What reads values between commas."""

    def values(text: str) -> list[Any]:
        return [kind(each) for each in text.split(",")]

    values.__name__ = f"list of {kind.__name__}"  # argparse names it in its messages
    return values


def _preprocess(options: argparse.Namespace) -> int:
    """Turn raw recordings (*_td.dat, *_td.dat.h5, *_td.h5, *.raw) and their *_bbox.npy into sequences of
    dense tensors in the published layout. Sequences that are whole are kept, so after an interruption the
    same command goes on. Several windows, strides or representations are made from one reading:
    --window-ms 50,25,5 --stride-ms 50,25,5 makes three sets. Sequences that fail are listed at the end, with
    exit code 1; the others are made."""
    from contextlib import nullcontext

    from ssmbook.dataset import SequencesFailed, preprocess_sets
    from ssmbook.dataset.processes import connect

    sets = _sets(options)
    if options.dry_run:
        return _dry_run(options, sets)
    with connect(options.scheduler) if options.scheduler else nullcontext() as client:
        try:
            summary = preprocess_sets(
                options.raw, sets, options.sensor, workers=options.workers, client=client
            )
        except SequencesFailed as failed:
            _print_failures(failed.failures)
            print(f"made: {len(failed.summary.done)}; the same command tries the rest again", file=sys.stderr)
            return 1
    print(
        f"{len(summary.done)} sequences made, {len(summary.skipped)} were there, "
        f"{len(summary.without_labels)} have no label that counts: {', '.join(map(str, sets))}"
    )
    return 0


def _sets(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The sets that were asked for: each representation with each pair of window and stride."""
    if options.window_ms is not None and options.window_events is not None:
        raise InputError("--window-ms and --window-events exclude each other")
    key = "window_ms" if options.window_events is None else "window_events"
    windows, strides = getattr(options, key) or [50.0], options.stride_ms
    if 1 not in (len(windows), len(strides)) and len(windows) != len(strides):
        raise InputError(
            f"{len(windows)} windows and {len(strides)} strides; give as many of both, or one of either"
        )
    pairs = [
        (windows[i % len(windows)], strides[i % len(strides)]) for i in range(max(len(windows), len(strides)))
    ]
    sets = {
        f"{name}_{key.removesuffix('_ms')}={window:g}_stride={stride:g}": {
            "representation": name,
            key: window,
            "stride_ms": stride,
            "grid": options.grid,
        }
        for name in options.representation
        for window, stride in pairs
    }
    if len(sets) == 1:
        return {options.out: next(iter(sets.values()))}
    return {f"{options.out}/{name}": settings for name, settings in sets.items()}


def _dry_run(options: argparse.Namespace, sets: dict[str, dict[str, Any]]) -> int:
    from ssmbook.dataset import estimate

    failures: dict[str, str] = {}
    for out, found in estimate(options.raw, sets, options.sensor).items():
        print(
            f"{out}: {found.sequences:,} sequences to make, {found.hours:.2f} h up to their last labels, "
            f"{found.windows:,} windows; {found.bytes_in / 1e9:.3f} GB in, about {found.bytes_out / 1e9:.3f} GB out"
        )
        failures |= found.failures
    print("Bytes out: windows × the mean size of the first 8 of 5 sequences. Nothing was written.")
    _print_failures(failures)
    return 1 if failures else 0


def _print_failures(failures: dict[str, str]) -> None:
    """A table of the sequences that failed and why, on stderr."""
    if failures:
        print(f"{len(failures)} sequences failed:", file=sys.stderr)
    longest = max(map(len, failures), default=0)
    for name, reason in sorted(failures.items()):
        print(f"  {name:{longest}}  {reason}", file=sys.stderr)


def _info(options: argparse.Namespace) -> None:
    """Format, size, duration and number of events of recordings; the whole file is read and checked."""
    from ssmbook.events import open_events

    for path in options.recordings:
        with open_events(path) as recording:
            events = on = 0
            for block in recording.blocks():
                events += len(block)
                on += int(block.p.sum())
            size = f"{recording.width} × {recording.height}" if recording.width else "size not stated"
            seconds = (recording.end_us - recording.start_us) / 1e6
        print(
            f"{path}: {size}, {events:,} events, {on:,} of them ON, {seconds:.6f} s from {recording.start_us} µs"
        )


def _time(options: argparse.Namespace) -> None:
    """Time a detector by the paper's protocol: batch 1, windows of 50 ms, one after another. "network" is a frame
    of counts in the device's memory to predictions there; "network and post-processing" goes on to boxes in the
    host's memory. Median, 5 % and 95 % quantile."""
    from ssmbook.detector import load_checkpoint
    from ssmbook.events import open_events
    from ssmbook.experiment import recorded_frames, synthetic_frames, time_detector

    model = load_checkpoint(options.checkpoint, options.preset).to(_device(options.device))
    if options.recording is None:
        table = time_detector(model, synthetic_frames(model), options.windows)
    else:
        with open_events(options.recording) as recording:
            frames = recorded_frames(recording.windows(50_000), model, options.sensor)
            table = time_detector(model, frames, options.windows)
    print(f"{_device_name(options.device)}, batch 1, float32")
    print(table.round(3).to_string(index=False))


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


def _export(options: argparse.Namespace) -> None:
    """Write one step of a detector as ONNX: a frame of counts (uint8) and the states go in, predictions and new
    states come out. The states start as zeros. It needs: pip install 'ssmbook[export]'."""
    from ssmbook.dataset import get_sensor
    from ssmbook.detector import load_checkpoint
    from ssmbook.detector.export import export_onnx

    scale = None if options.step_scale == "input" else _value(options.step_scale)
    if scale is not None and not isinstance(scale, int | float):
        raise InputError(f"--step-scale is {options.step_scale!r}; give a number or 'input'")
    model = load_checkpoint(options.checkpoint, options.preset)
    frame_hw = get_sensor(options.sensor).frame_size
    print(export_onnx(model, options.out, frame_hw, batch=options.batch, step_scale=scale))


def _detect(options: argparse.Namespace) -> None:
    """Run a detector over a recording as it would run live, and write the boxes of all windows as Prophesee's
    npy: t is the end of the window in µs, x, y, w, h are pixels of the frame (halved on 1 Mpx)."""
    from ssmbook.detector import load_checkpoint
    from ssmbook.events import open_events, write_boxes
    from ssmbook.experiment import StreamingDetector, detect_recording

    model = load_checkpoint(options.checkpoint, options.preset).to(_device(options.device))
    stream = StreamingDetector(
        model,
        options.sensor,
        rate_hz=options.rate,
        way=options.way,
        follow=not options.keep_step,
        confidence=options.confidence,
    )
    with open_events(options.recording, stream.sensor.width, stream.sensor.height) as recording:
        windows, boxes = detect_recording(stream, recording)
    write_boxes(options.out, boxes)
    print(f"{options.out}: {len(boxes)} boxes in {windows} windows")


def _refresh(options: argparse.Namespace) -> None:
    """Execute the committed chapters in place, in the smoke profile."""
    from ssmbook.book import refresh

    for path in refresh(options.chapters):
        print(path)

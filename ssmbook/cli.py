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
    """Run one command. A user's mistake is one line on stderr and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (InputError, OSError) as error:  # OSError: a full disk, a folder without permission
        print(f"ssmbook: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ssmbook: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


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
    command.add_argument("out", help="folder for the sequences")
    command.add_argument("--sensor", default="gen1", help="gen1, gen4, or a YAML file (default: gen1)")
    command.add_argument("--representation", default="stacked_histogram", help="or mixeddensity_stack")
    command.add_argument("--window-ms", type=float, default=None, help="window in ms (default: 50)")
    command.add_argument(
        "--window-events", type=int, default=None, help="window as a number of events instead"
    )
    command.add_argument(
        "--stride-ms", type=float, default=50.0, help="time between windows in ms (default: 50)"
    )
    command.add_argument("--grid", default="exact", help="exact, or published: that of the released script")
    command.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    command.set_defaults(run=_preprocess)

    _add_train(commands)
    _add_evaluate(commands)

    command = commands.add_parser("info", help="what a recording holds", description=_info.__doc__)
    command.add_argument("recordings", nargs="+", help="DAT, EVT2, EVT3, AEDAT4, HDF5 or npy files")
    command.set_defaults(run=_info)

    command = commands.add_parser(
        "refresh", help="for authors: renew the committed chapters' outputs", description=_refresh.__doc__
    )
    command.add_argument("chapters", nargs="*", help="beginnings of chapter names; all by default")
    command.set_defaults(run=_refresh)
    return parser


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


def _preprocess(options: argparse.Namespace) -> None:
    """Turn raw recordings (*_td.dat, *_td.dat.h5, *_td.h5, *.raw) and their *_bbox.npy into sequences of
    dense tensors in the published layout. Finished sequences are kept."""
    from ssmbook.dataset import preprocess

    if options.window_ms is not None and options.window_events is not None:
        raise InputError("--window-ms and --window-events exclude each other")
    window = (
        {"window_events": options.window_events}
        if options.window_events is not None
        else {"window_ms": 50.0 if options.window_ms is None else options.window_ms}
    )
    summary = preprocess(
        options.raw,
        options.out,
        sensor=options.sensor,
        representation=options.representation,
        stride_ms=options.stride_ms,
        grid=options.grid,
        workers=options.workers,
        **window,
    )
    print(summary)


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


def _refresh(options: argparse.Namespace) -> None:
    """Execute the committed chapters in place, in the smoke profile."""
    from ssmbook.book import refresh

    for path in refresh(options.chapters):
        print(path)

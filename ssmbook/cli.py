"""The command line: ``ssmbook --help`` lists the commands, ``ssmbook <command> --help`` explains one."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
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

    command = commands.add_parser("info", help="what a recording holds", description=_info.__doc__)
    command.add_argument("recordings", nargs="+", help="DAT, EVT2, EVT3, AEDAT4, HDF5 or npy files")
    command.set_defaults(run=_info)

    command = commands.add_parser(
        "refresh", help="for authors: renew the committed chapters' outputs", description=_refresh.__doc__
    )
    command.add_argument("chapters", nargs="*", help="beginnings of chapter names; all by default")
    command.set_defaults(run=_refresh)
    return parser


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

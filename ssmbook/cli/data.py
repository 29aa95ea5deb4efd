"""Commands that make and look at data: download, preprocess."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ssmbook.cli.values import listed, print_facts
from ssmbook.errors import InputError
from ssmbook.events.representations import REPRESENTATIONS

if TYPE_CHECKING:
    from ssmbook.dataset import Sensor
    from ssmbook.dataset.labels import LabelCounts


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_download(commands)
    _add_preprocess(commands)


def _add_download(commands: Any) -> None:
    command = commands.add_parser(
        "download",
        help="fetch Gen1, 1 Mpx or the released checkpoints",
        description=_download.__doc__,
        epilog="Example: ssmbook download gen1 --raw --split val test --to /data/gen1",
    )
    command.add_argument("what", choices=["gen1", "gen4", "checkpoints"], help="gen4 is the 1 Mpx set")
    kind = command.add_mutually_exclusive_group()
    kind.add_argument("--preprocessed", action="store_true", help="one archive with all splits (default)")
    kind.add_argument("--raw", action="store_true", help="events and boxes, one archive for each split")
    command.add_argument("--split", nargs="+", default=None, help="of train, val and test (default: all)")
    command.add_argument(
        "--to", default=None, help="folder (default: data/gen1, data/gen4, data/checkpoints)"
    )
    command.add_argument("--json", action="store_true", help="print the folders as JSON")
    command.set_defaults(run=_download, goes_on=True)


def _add_preprocess(commands: Any) -> None:
    command = commands.add_parser(
        "preprocess",
        help="turn raw recordings and boxes into sequences",
        description=_preprocess.__doc__,
        epilog="Example: ssmbook preprocess /data/gen1/raw /data/gen1 --sensor gen1 --workers 8 --dry-run",
    )
    command.add_argument("raw", help="folder with train/, val/ and test/ of recordings and boxes")
    command.add_argument(
        "out", help="folder for the sequences, or for a folder of each set if there are several"
    )
    command.add_argument("--sensor", default="gen1", help="gen1, gen4, or a YAML file (default: gen1)")
    command.add_argument(
        "--label-times",
        choices=["grid", "own"],
        help="use boxes on the sensor's label interval, as published, or all at their own times (default: the "
        "sensor's, grid)",
    )
    command.add_argument(
        "--representation",
        type=_list_of(str),
        default=["stacked_histogram"],
        help=f"{listed(REPRESENTATIONS)} (default: stacked_histogram); several with commas",
    )
    command.add_argument(
        "--window-ms",
        type=_list_of(float),
        help="window in ms (default: 50; with --grid mixed the step); several with commas",
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
    command.add_argument(
        "--grid",
        default="exact",
        help="exact; published: that of the released script; or mixed: steps from a tenth of the stride to four, each "
        "with its own window, to train for many rates (default: exact)",
    )
    command.add_argument(
        "--workers",
        type=int,
        default=2,
        help="processes of this machine, or threads where there are fewer recordings (default: 2)",
    )
    command.add_argument(
        "--scheduler",
        metavar="tcp://…",
        help="make the sequences on the Dask cluster of this scheduler instead",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="say what it would read and write, and do nothing"
    )
    command.add_argument("--json", action="store_true", help="print counts, labels and failures as JSON")
    command.set_defaults(run=_preprocess, goes_on=True)


def _download(options: argparse.Namespace) -> None:
    """Fetch a published set or the released checkpoints. The disk space that is needed is shown first. After an
    interruption the same command goes on; archives are checked against the crc32 that their authors state,
    unpacked into train/, val/ and test/ (raw ones below raw/) and removed."""
    from ssmbook.dataset.published import download_checkpoints, download_set

    folder = options.to or f"data/{options.what}"
    if options.what == "checkpoints":
        if options.raw or options.preprocessed or options.split:
            raise InputError("--raw, --preprocessed and --split choose parts of a set, not checkpoints")
        fetched = download_checkpoints(folder)
        print_facts(
            options.json,
            {str(path): f"{crc32:08x}" for path, crc32 in fetched.values()},
            *(
                f"{path}: crc32 {crc32:08x} (its authors state none; later runs compare with this one)"
                for path, crc32 in fetched.values()
            ),
        )
        return
    splits = options.split or ("train", "val", "test")
    paths = [str(path) for path in download_set(options.what, folder, options.raw, splits)]
    print_facts(options.json, paths, *paths)


def _list_of(kind: type) -> Any:
    """What reads values between commas."""

    def values(text: str) -> list[Any]:
        return [kind(each) for each in text.split(",")]

    values.__name__ = f"list of {kind.__name__}"  # argparse names it in its messages
    return values


def _preprocess(options: argparse.Namespace) -> int:
    """Turn raw recordings (<name>_td.dat, _td.dat.h5, _td.h5, _td.npy, .raw, .aedat4, or <name> with _cd or nothing
    before .dat, .h5, .hdf5, .npy, .csv) into sequences of dense tensors in the published layout. Beside each lie its
    boxes: <name>_bbox.npy as Prophesee's, <name>_bbox.json in COCO's format (images with timestamp_us), or a folder
    <name>_bbox of YOLO txt or Pascal VOC xml files named by time (000100000us.txt). Another camera than Gen1's is a
    YAML file with width, height and classes. What became of the boxes is printed.
    Sequences that are whole are kept, so after an interruption the same command goes on. Several windows, strides or
    representations are made from one reading: --window-ms 50,25,5 --stride-ms 50,25,5 makes three sets. Sequences that
    fail are listed at the end, with exit code 1; the others are made."""
    import warnings
    from contextlib import nullcontext

    from ssmbook.dataset import SequencesFailed, preprocess_sets
    from ssmbook.processes import connect

    sets, sensor = _sets(options), _sensor(options)
    if options.dry_run:
        return _dry_run(options, sets, sensor)
    failed: dict[str, str] = {}
    with (
        connect(options.scheduler) if options.scheduler else nullcontext() as client,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # they are printed below
        try:
            summary = preprocess_sets(options.raw, sets, sensor, workers=options.workers, client=client)
        except SequencesFailed as error:
            failed, summary = error.failures, error.summary
    print_facts(
        options.json,
        {
            "made": len(summary.done),
            "there": len(summary.skipped),
            "without_labels": len(summary.without_labels),
            "labels": {str(out): _counted(counts) for out, counts in summary.labels.items()},
            "failed": failed,
        },
        f"{len(summary.done)} sequences made, {len(summary.skipped)} were there, "
        f"{len(summary.without_labels)} have no label that counts: {', '.join(map(str, sets))}",
        *(f"{out}: {counts}" for out, counts in summary.labels.items()),
    )
    for line in summary.warnings(sensor):
        print(f"warning: {line}", file=sys.stderr)
    _print_failures(failed)
    if failed:
        print("the same command tries the sequences that failed again", file=sys.stderr)
    return 1 if failed else 0


def _sensor(options: argparse.Namespace) -> Sensor:
    """The sensor that was asked for, with the label times that were asked for."""
    from ssmbook.dataset import get_sensor

    sensor = get_sensor(options.sensor)
    return replace(sensor, label_times=options.label_times) if options.label_times else sensor


def _sets(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The sets that were asked for: each representation with each pair of window and stride."""
    from ssmbook.events import get_representation

    if options.window_ms is not None and options.window_events is not None:
        raise InputError("--window-ms and --window-events exclude each other")
    key = "window_ms" if options.window_events is None else "window_events"
    for name in options.representation:
        if not get_representation(name).windowed and getattr(options, key):
            raise InputError(
                f"{name} have no window; leave --{key.replace('_', '-')} out, or make them by themselves"
            )
    usual = [None] if options.grid == "mixed" else [50.0]  # None: as long as the step
    windows, strides = getattr(options, key) or usual, options.stride_ms
    if 1 not in (len(windows), len(strides)) and len(windows) != len(strides):
        raise InputError(
            f"{len(windows)} windows and {len(strides)} strides; give as many of both, or one of either"
        )
    pairs = [
        (windows[i % len(windows)], strides[i % len(strides)]) for i in range(max(len(windows), len(strides)))
    ]
    sets = {}
    for name in options.representation:
        for window, stride in pairs:
            windowed = get_representation(name).windowed
            length = "step" if window is None else f"{window:g}"
            label = f"_{key.removesuffix('_ms')}={length}" if windowed else ""
            sets[f"{name}{label}_stride={stride:g}"] = {
                "representation": name,
                **({key: window} if windowed else {}),
                "stride_ms": stride,
                "grid": options.grid,
            }
    if len(sets) == 1:
        return {options.out: next(iter(sets.values()))}
    return {f"{options.out}/{name}": settings for name, settings in sets.items()}


def _dry_run(options: argparse.Namespace, sets: dict[str, dict[str, Any]], sensor: Sensor) -> int:
    from ssmbook.dataset import estimate

    failures: dict[str, str] = {}
    facts, lines = {}, []
    for out, found in estimate(options.raw, sets, sensor).items():
        facts[str(out)] = {**vars(found), "labels": _counted(found.labels)}
        lines += [
            f"{out}: {found.sequences:,} sequences to make, {found.hours:.2f} h up to their last labels, "
            f"{found.windows:,} windows; {found.bytes_in / 1e9:.3f} GB in, about {found.bytes_out / 1e9:.3f} GB out",
            f"{out}: {found.labels}",
        ]
        if warning := found.labels.warning(sensor):
            print(f"warning: {out}: {warning}", file=sys.stderr)
        failures |= found.failures
    lines.append("Bytes out: windows × the mean size of the first 8 of 5 sequences. Nothing was written.")
    print_facts(options.json, facts, *lines)
    _print_failures(failures)
    return 1 if failures else 0


def _counted(labels: LabelCounts) -> dict[str, Any]:
    return {"read": labels.read, "kept": labels.kept, "dropped": dict(labels.dropped)}


def _print_failures(failures: dict[str, str]) -> None:
    """A table of the sequences that failed and why, on stderr."""
    if failures:
        print(f"{len(failures)} sequences failed:", file=sys.stderr)
    longest = max(map(len, failures), default=0)
    for name, reason in sorted(failures.items()):
        print(f"  {name:{longest}}  {reason}", file=sys.stderr)

"""Commands for recordings of events: info, convert."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmbook.cli.values import add_part, check_is_other, print_facts, size, stamp
from ssmbook.errors import InputError

if TYPE_CHECKING:
    from ssmbook.events import Events, Recording
    from ssmbook.events.summary import Summary

_BARS = "▁▂▃▄▅▆▇█"


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_info(commands)
    _add_convert(commands)


def _add_info(commands: Any) -> None:
    command = commands.add_parser(
        "info",
        help="what a recording holds",
        description=_info.__doc__,
        epilog="Example: ssmbook info drive.raw --json",
    )
    command.add_argument("recordings", nargs="+", help="files of any format that is read")
    command.add_argument(
        "--size", type=size, metavar="WxH", help="the sensor, for files that do not say it: 640x480"
    )
    command.add_argument("--json", action="store_true", help="print a list of what each file holds as JSON")
    command.set_defaults(run=_info)


def _add_convert(commands: Any) -> None:
    command = commands.add_parser(
        "convert",
        help="write a recording, or a part of it, in another format",
        description=_convert.__doc__,
        epilog="Example: ssmbook convert drive.raw drive.h5 --start 0.5s --stop 1500ms\n\nTimes are those of the "
        "recording's own clock, which ssmbook info shows.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("recording", help="a file of any format that is read")
    command.add_argument("out", help="*.dat, *.raw (EVT3), *.h5, *.npy or *.csv")
    command.add_argument(
        "--to", help="the format, where the ending leaves it open: evt2, evt3, dat, hdf5, npy, csv"
    )
    add_part(command)
    command.add_argument("--json", action="store_true", help="print what was written as JSON")
    command.add_argument(
        "--from-zero",
        action="store_true",
        help="subtract the first stamp that is kept, so that time begins at 0",
    )
    command.set_defaults(run=_convert)


def _info(options: argparse.Namespace) -> int:
    """Format, sensor, duration, number of events, their rate over time, the share of ON events, gaps, late events and
    those outside the sensor. The whole of each file is read and checked; one that cannot be read does not stop the
    others."""
    from ssmbook.events import open_events
    from ssmbook.events.summary import summarize

    failed, facts = 0, []
    for path in options.recordings:
        try:
            with open_events(path, *(options.size or (None, None))) as recording:
                found = summarize(recording, progress=True)
        except (InputError, OSError) as error:
            failed += 1
            print(f"ssmbook: {error}", file=sys.stderr)
            continue
        if options.json:
            facts.append(_facts(path, found))
        else:
            print("\n".join(_lines(path, found)))
    if options.json:
        print_facts(True, facts)
    if failed and len(options.recordings) > 1:
        print(f"{failed} of {len(options.recordings)} recordings cannot be read", file=sys.stderr)
    return 1 if failed else 0


def _facts(path: str, found: Summary) -> dict[str, Any]:
    """The description of a recording as plain data."""
    faults = found.faults
    return {
        "path": path,
        "format": found.format,
        "width": found.width,
        "height": found.height,
        "events": int(found.events),
        "on": int(found.on),
        "start_us": int(found.start_us),
        "end_us": int(found.end_us),
        "largest_gap_us": int(found.largest_gap_us),
        "late": int(faults.late),
        "outside": int(faults.outside),
    }


def _lines(path: str, found: Summary) -> Iterator[str]:
    """The description of a recording, a line a fact."""
    size = (
        f"{found.width or '?'} × {found.height or '?'} px"
        if found.width or found.height
        else "size not stated"
    )
    yield f"{path}: {found.format}, {size}"
    if not found.events:
        yield "  no events"
        return
    yield f"  time       {found.seconds:.6f} s, from {found.start_us:,} to {found.end_us:,} µs"
    rate = found.events / max(found.seconds, 1e-6)
    yield f"  events     {found.events:,} ({_rate(rate)} on average), {100 * found.on / found.events:.1f} % ON"
    if len(found.counts) > 1:
        peak = found.counts.max()
        bars = "".join(
            _BARS[min(7, 8 * count // (peak + 1))] if count else " " for count in found.counts.tolist()
        )
        per_s = 1e6 / found.bin_us
        yield f"  over time  |{bars}| a bar is {found.bin_us / 1000:g} ms, the highest {_rate(peak * per_s)}"
    if found.events > 1:
        yield f"  gaps       {found.largest_gap_us:,} µs at most, from {found.gap_at_us:,} µs on"
    faults = found.faults
    yield f"  late       {faults.late:,} events" + (
        f", by up to {faults.latest_us:,} µs" if faults.late else ""
    )
    if faults.first_outside is not None:
        i, x, y = faults.first_outside
        yield f"  outside    {faults.outside:,} events, dropped; the first is event {i} at x = {x}, y = {y}"
    if found.width is None or found.height is None:
        smallest = f"{found.x_max + 1}x{found.y_max + 1}"
        yield f"  next       ssmbook convert RECORDING OUT.h5 --size {smallest} (or the true size, if larger)"
    else:
        yield "  next       ssmbook view RECORDING, ssmbook detect RECORDING; with boxes, ssmbook preprocess"


def _rate(per_s: float) -> str:
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if per_s >= unit:
            return f"{per_s / unit:.1f} {name} events/s"
    return f"{per_s:.0f} events/s"


def _convert(options: argparse.Namespace) -> None:
    """Write a recording in another format, whole or from --start to --stop. Stamps stay as they are, but for late
    events, which get the stamp before them; events outside the sensor are dropped. Both are counted at the end."""
    from ssmbook.events import open_events
    from ssmbook.events.formats.writers import write_events

    check_is_other("the recording", options.recording, options.out)
    with open_events(options.recording, *(options.size or (None, None))) as recording:
        start, stop = (stamp(t, lambda: recording.start_us) for t in (options.start, options.stop))
        if start is not None and stop is not None and stop <= start:
            raise InputError(f"--stop {stop} µs is not after --start {start} µs")
        blocks = _cut(recording, start, stop, options.from_zero)
        count = write_events(options.out, blocks, recording.width, recording.height, options.to)
        if str(recording.faults):
            print(recording.faults, file=sys.stderr)
    words = f"{options.out}: {count:,} events"
    if Path(options.out).is_file():
        print_facts(options.json, {"written": options.out, "events": count}, words)
    else:  # /dev/stdout, or a pipe that someone reads
        print(words, file=sys.stderr)


def _cut(recording: Recording, start: int | None, stop: int | None, from_zero: bool) -> Iterator[Events]:
    """The blocks of a recording between two times."""
    from ssmbook.events import Events
    from ssmbook.progress import progress_bar

    zero: int | None = None
    with progress_bar(desc="convert", unit="event", unit_scale=True, leave=False) as bar:
        for block in recording.between(start, stop):
            bar.update(len(block))
            if len(block) and from_zero:
                zero = int(block.t[0]) if zero is None else zero
                block = Events(block.t - zero, block.x, block.y, block.p)
            yield block
        if (start, stop) != (None, None) and bar.n == 0:
            until = "on" if stop is None else f"to {stop} µs"
            raise InputError(
                f"{recording.path}: has no events from {start or 0} µs {until}; it lasts from "
                f"{recording.start_us} to {recording.end_us} µs"
            )

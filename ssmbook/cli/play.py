"""The command play: a recording sent in real time, in the place of a camera."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ssmbook.cli.values import add_part, check_paths, print_facts, stamp
from ssmbook.errors import InputError

_EPILOG = """examples:
  ssmbook play drive.raw --to - | ssmbook detect --live - model.ckpt --out boxes.csv
  ssmbook play drive.raw --to udp://127.0.0.1:9000 --speed 0.5
  ssmbook play drive.raw --to - --text | head"""


def add(commands: Any) -> None:
    """Add the command to a parser."""
    command = commands.add_parser(
        "play",
        help="send a recording in real time, in the place of a camera",
        description=_play.__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("recording", help="a file of any format that is read, see ssmbook info")
    add("--to", required=True, help="- (standard output), udp://HOST:PORT, or a named pipe")
    add("--speed", type=float, default=1.0, help="2 plays twice as fast as recorded (default: 1)")
    add("--text", action="store_true", help="lines of t x y p instead of the binary stream")
    add_part(command)
    add("--json", action="store_true", help="print what was sent as JSON, on stderr")
    command.set_defaults(run=_play)


def _play(options: argparse.Namespace) -> None:
    """Send the events of a recording at the pace of their stamps, in messages of 5 ms. What a receiver delays follows
    at once. How many were sent, and how late the latest message was, is said at the end."""
    check_paths(options.recording)
    from ssmbook.events import open_events
    from ssmbook.live.play import play
    from ssmbook.live.transport import open_target

    with open_events(options.recording, *(options.size or (None, None))) as recording:
        try:
            with open_target(options.to, options.text) as send:
                start, stop = (stamp(t, lambda: recording.start_us) for t in (options.start, options.stop))
                sent = play(recording, send, options.speed, start, stop)
        except BrokenPipeError:
            if options.to == "-":
                raise  # who reads it, such as ``head``, has had enough
            raise InputError(f"{options.to}: the receiver has closed it; start it again first") from None
    facts = {"events": sent.events, "seconds": round(sent.seconds, 3), "behind_s": round(sent.behind_s, 3)}
    line = f"{options.to}: {sent.events:,} events in {sent.seconds:.2f} s, up to {sent.behind_s:.3f} s late"
    print_facts(options.json, facts, line, file=sys.stderr)

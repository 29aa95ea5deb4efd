"""The command line: ``ssmbook --help`` lists the commands, ``ssmbook <command> --help`` explains one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ssmbook.cli import chapters, data, detect, live, play, recordings, simulate, site, training, view
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
    for part in (chapters, data, recordings, simulate, training, view, detect, play, live, site):
        part.add(commands)
    return parser

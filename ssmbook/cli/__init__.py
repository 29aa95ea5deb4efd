"""The command line: ``ssmbook --help`` lists the commands, ``ssmbook <command> --help`` explains one."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Sequence

from ssmbook.cli import chapters, data, detect, live, play, recordings, simulate, site, sweep, training, view
from ssmbook.errors import InputError, one_line

EXIT_CODES = """exit codes: 0 done; 1 an input that cannot be used, one line on stderr says why, or a part that failed;
2 a wrong command line; 130 interrupted."""

_NO_MEMORY = ("can't allocate memory", "out of memory")  # PyTorch's words, in a RuntimeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, see ``EXIT_CODES``."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # into a file, Windows takes an encoding that lacks bars, √ and →
            stream.reconfigure(errors="replace")
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:  # set by a shell that asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the shell: >&-
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (closed when the process ends)
    options = parser.parse_args(arguments)
    try:
        code = options.run(options) or 0
        sys.stdout.flush()
        return code
    except (InputError, OSError) as error:  # OSError: a full disk, a folder without permission
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 0
        print(f"ssmbook: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in _NO_MEMORY):
            raise
        print(
            f"ssmbook: there is not enough memory ({one_line(str(error).strip(), 200) or 'none is left'}); use smaller "
            "batches, shorter windows or fewer workers; what was written before is whole",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        rest = "; the same command goes on from here" if getattr(options, "goes_on", False) else ""
        print(f"ssmbook: interrupted{rest}", file=sys.stderr)
        return 130


def _nobody_reads() -> bool:
    """Whether who read the output, such as ``head``, has had enough; the rest of it then goes nowhere."""
    if not hasattr(select, "poll"):  # not a Unix
        return False
    try:
        output = sys.stdout.fileno()
    except OSError:  # not a file
        return False
    poll = select.poll()
    poll.register(output, 0)
    ended = any(event & select.POLLERR for _, event in poll.poll(0))
    if ended:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return ended


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="ssmbook",
        description="State-space models for event cameras: a research book that runs.",
        epilog="Start with: ssmbook reproduce. It simulates a small set, trains two detectors, evaluates them at\n"
        "20 to 200 Hz, and prints where the tables and figures are.\n\n" + EXIT_CODES + "\n\n"
        "Completion in the shell: pip install 'ssmbook[completion]', then for bash or zsh\n"
        '  eval "$(register-python-argcomplete ssmbook)"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for part in (chapters, sweep, data, recordings, simulate, training, view, detect, play, live, site):
        part.add(commands)
    return parser

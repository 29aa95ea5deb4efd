"""What is read from the words of a command line."""

import argparse
import ast
import json
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from ssmbook.errors import InputError


def listed(names: Iterable[str]) -> str:
    """Names for a sentence: "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


_UNITS = {"": 1, "us": 1, "ms": 1000, "s": 1_000_000}


def literal(text: str) -> Any:
    """A parameter's value: a Python literal where it is one, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


class SinceStart(int):
    """µs after a recording's first event, in place of a stamp."""


def time_us(text: str) -> int:
    """A time in µs: 2500000, 2500ms or 2.5s on the recording's clock, or +2.5s after its first event."""
    match = re.fullmatch(r"(\+?)(\d{1,19}(?:\.\d{1,9})?)(us|ms|s|)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write 2500000 (µs), 2500ms or 2.5s, or +2.5s after the first event"
        )
    sign, number, unit = match.groups()
    value = round(float(number) * _UNITS[unit]) if "." in number else int(number) * _UNITS[unit]
    return SinceStart(value) if sign else value


def stamp(time: int | None, start_us: Callable[[], int]) -> int | None:
    """A time of ``time_us`` on the recording's clock; ``start_us`` is asked for its first stamp where that counts."""
    return start_us() + time if isinstance(time, SinceStart) else time


def size(text: str) -> tuple[int, int]:
    """Width and height in px: 640x480."""
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write width x height, as 640x480")
    return int(match[1]), int(match[2])


def add_part(command: argparse.ArgumentParser) -> None:
    """The options that say which part of a recording is meant: ``size``, and ``start`` and ``stop`` for ``stamp``."""
    add = command.add_argument
    add("--size", type=size, metavar="WxH", help="the camera, where the events do not say it: 640x480")
    add(
        "--start",
        type=time_us,
        help="first time: 2500000 (µs), 2500ms or 2.5s, as info shows it, or +2.5s after the first event",
    )
    add("--stop", type=time_us, help="time to stop before")


def address(text: str) -> tuple[str, int]:
    """Host and port: 127.0.0.1:8765, or a port of this machine alone."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) >= 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write 8765 or 127.0.0.1:8765")
    return host.strip("[]") or "127.0.0.1", int(port)


def check_paths(*paths: str | None) -> None:
    """Refuse the first path that leads to nothing, before a command imports what is slow to import.

    Raises:
        InputError: there is no such file or folder.
    """
    for path in paths:
        if path is not None and not os.path.exists(path):
            raise InputError(f"{path}: no such file; mend the name")


def check_is_other(what: str, path: str | None, *outputs: str) -> None:
    """Refuse an output that would be written over what is read.

    Raises:
        InputError: one of the outputs is the path; the message says ``what`` that is.
    """
    for out in outputs:
        if path is not None and os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out):
            raise InputError(f"{out}: is {what} itself; give another name")


def checked_device(name: str) -> str:
    """The device, if torch sees it."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no GPU; use --device cpu")
    return name


def print_facts(as_json: bool, facts: Any, *lines: str, file: TextIO | None = None) -> None:
    """What a command reports: the facts as one line of JSON, or the lines for people."""
    print(json.dumps(facts, allow_nan=False) if as_json else "\n".join(lines), file=file)

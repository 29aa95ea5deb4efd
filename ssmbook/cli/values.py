"""What is read from the words of a command line."""

import argparse
import ast
import re
from collections.abc import Iterable
from typing import Any


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


def time_us(text: str) -> int:
    """A time in µs: 2500000, 2500ms or 2.5s."""
    match = re.fullmatch(r"(-?\d{1,19}(?:\.\d{1,9})?)(us|ms|s|)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 2500000 (µs), 2500ms or 2.5s")
    return round(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]


def size(text: str) -> tuple[int, int]:
    """Width and height in px: 640x480."""
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write width x height, as 640x480")
    return int(match[1]), int(match[2])

"""Files that are there before they are read, and whole once they are written."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ssmbook.errors import InputError


def shown(text: str, longest: int = 100) -> str:
    """A file's own words for a message: control characters made visible, and cut where they are long."""
    visible = text if text.isprintable() else text.encode("unicode_escape").decode()
    return visible if len(visible) <= longest else f"{visible[:longest]}…"


def existing_file(path: str | os.PathLike[str], what: str) -> Path:
    """The path of a readable file with something in it.

    Raises:
        InputError: there is none; the message says to give ``what``.
    """
    path = Path(path)
    name = shown(str(path), 300)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name}: is a folder; give {what}")
        if not stat.S_ISREG(mode):  # a pipe would block, a device never end
            raise InputError(f"{name}: is no ordinary file; give {what}")
        with open(path, "rb") as file:
            empty = not file.read(1)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; give {what}") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); give {what}") from None
    except ValueError as error:  # a NUL in its name
        raise InputError(f"{name}: cannot be the name of a file ({error}); give {what}") from None
    if empty:
        raise InputError(f"{path}: is empty; fetch or write it again")
    return path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends, and not at all when the block raises."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        file = open(temporary, "wb")  # noqa: SIM115 (closed below, before it gets its name)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give a folder that can") from None
    try:
        with file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def as_input_error(fault: str) -> Iterator[None]:
    """What a library raises over damaged bytes becomes an InputError: ``fault``, then the library's words.

    Damaged files make the libraries raise nearly anything, down to panics that are no Exception.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        words = shown((str(error) or type(error).__name__).splitlines()[0], 200)
        raise InputError(f"{fault} ({words}); fetch or write it again") from None


def write_json(path: str | Path, value: Any) -> Path:
    """Write plain data as JSON, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True, default=plain_data) + "\n")
    os.replace(temporary, path)
    return path


def read_json(path: str | Path) -> Any:
    """What ``write_json`` wrote; None if there is no file."""
    path = Path(path)
    return json.loads(path.read_text()) if path.exists() else None


def plain_data(value: Any) -> Any:
    """For ``json.dumps``: numpy numbers and paths as plain values."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not plain data")

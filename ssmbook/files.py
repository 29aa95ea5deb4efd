"""Files that are there before they are read, and whole once they are written."""

from __future__ import annotations

import difflib
import glob
import json
import os
import platform
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import current_process
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import numpy as np
import psutil
import yaml

from ssmbook.errors import InputError, one_line
from ssmbook.progress import tell


def existing_file(path: str | os.PathLike[str], what: str) -> Path:
    """The path of a readable file with something in it.

    Raises:
        InputError: there is none; the message says to give ``what``.
    """
    path = Path(path)
    name = one_line(str(path), 300)
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


def existing_folder(path: str | os.PathLike[str], what: str) -> Path:
    """The path of a folder that is there.

    Raises:
        InputError: it is not; the message says what it would be, and names a folder beside it of nearly that name.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return path
        beside = sorted(p.name for p in path.resolve().parent.glob("*") if p.is_dir())
    except (OSError, ValueError):  # a name that cannot be one
        beside = []
    near = difflib.get_close_matches(path.name, beside, 1)
    hint = f"is it {path.with_name(near[0])}? If not, make" if near else "mend the name, or make"
    raise InputError(f"{path}: no such folder, for {what}; {hint} it first")


LARGEST_YAML = 1 << 16  # bytes
DEEPEST_YAML = 8  # levels of nesting


def read_yaml(path: str | os.PathLike[str], what: str) -> Any:
    """What a YAML file holds, as plain data.

    Raises:
        InputError: none is there, or it is no YAML, is larger or deeper than one written by hand, or has aliases, which
            can stand for gigabytes; the message says to give ``what``.
    """
    path = existing_file(path, what)
    with open(path, "rb") as file:
        content = file.read(LARGEST_YAML + 1)
    if len(content) > LARGEST_YAML:
        raise InputError(f"{path}: is larger than {LARGEST_YAML} bytes; give {what}")
    depth = 0
    try:
        text = content.decode("utf-8-sig")
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                anchor = one_line(str(event.anchor), 20)
                raise InputError(f"{path}: has an alias (*{anchor}); write its value there")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST_YAML:
                raise InputError(f"{path}: is nested more than {DEEPEST_YAML} deep; give {what}")
        return yaml.safe_load(text)
    except InputError:
        raise
    except Exception as error:  # yaml.YAMLError, and ValueError, RecursionError and others of odd values
        words = one_line(" ".join(str(error).split()), 120)
        raise InputError(f"{path}: is not YAML ({words})") from None


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends, and not at all when the block raises.

    Until then it is ``.<name>.<process>-<thread>@<machine>.tmp`` beside it. What a process that was killed has left of
    the same file is removed. A link stays one, to the new file; a pipe or a device (``/dev/stdout``) is written to.

    Raises:
        InputError: the system refuses to write: a full disk, a folder that is missing or read-only.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        try:
            with open(path, "wb") as file:
                yield file
        except OSError as error:
            if error.filename not in (None, str(path)):
                raise
            raise unwritable(path, error) from None
        return
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    temporary = _temporary(path)
    remove_left(path.parent, path.name)
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):  # of another file, which the block reads
            raise
        raise unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill that appears under its name when the block ends, and not at all when the block raises.

    What a process that was killed has left of the same folder is removed.

    Raises:
        InputError: there is one that holds something, it is the current one, or the system refuses to write.
    """
    folder = Path(folder)
    if not folder.name or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InputError(f"{folder}: is there already; give the name of a new folder")
    temporary = _temporary(folder)
    remove_left(folder.parent, folder.name)
    try:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, folder)
    except OSError as error:
        if not str(error.filename or temporary).startswith(str(temporary)):  # of a file that the block reads
            raise
        raise unwritable(folder, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}@{platform.node()}.tmp")


def remove_left(folder: Path, name: str = "*") -> None:
    """Remove temporary files and folders, of one name or of all, whose processes, on this machine, are no more."""
    of = name if name == "*" else glob.escape(name)
    for other in folder.glob(f".{of}.*@{glob.escape(platform.node())}.tmp"):
        process = other.name.rpartition("@")[0].rpartition(".")[2].partition("-")[0]
        if not process.isdecimal() or psutil.pid_exists(int(process)):
            continue
        if other.is_dir():
            shutil.rmtree(other, ignore_errors=True)
        else:
            other.unlink(missing_ok=True)


@contextmanager
def lock(
    folder: str | os.PathLike[str], work: str, wait: bool = True, beside: bool = False
) -> Iterator[None]:
    """Hold a folder, so that one process at a time does such work in it; it is made if needed.

    The lock ends with its process, however that ends. Another process waits for it, and tells for whom.

    Args:
        folder: holds the lock's file, ``.lock``, as long as someone holds it.
        work: what is done, for the message of others, e.g. ``"preprocesses into it"``.
        wait: otherwise a folder that is held is an error.
        beside: the lock's file is ``.<folder>.lock`` beside the folder, which may then be renamed, and is not made.

    Raises:
        InputError: the folder cannot be written, or is held and ``wait`` is false; or this is a worker process that
            has come here by importing its script, whose own lock it would wait for.
    """
    if getattr(current_process(), "_inheriting", False):
        raise InputError(
            f"{folder}: a worker process runs the whole script again to begin; put what the script does under "
            'if __name__ == "__main__":'
        )
    path = _lock_file(folder, beside)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(path, poll_interval=0.2)
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            if not wait:
                raise InputError(f"{folder}: {_holder(path)}; wait until it has ended") from None
            tell(f"{folder}: {_holder(path)}; waiting for it")
            held.acquire()
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        try:
            path.write_text(f"process {os.getpid()} on {platform.node()} {work}", encoding="utf-8")
        except OSError as error:  # a full disk
            raise unwritable(folder, error) from None
        yield
    finally:
        with suppress(
            OSError
        ):  # who waits for the removed file tries again; some systems refuse to remove it
            path.unlink()
        held.release()


def remove_dead_lock(folder: str | os.PathLike[str], beside: bool = False) -> None:
    """Remove the file of a lock whose process was killed when all was done but that; one that is held stays."""
    if _lock_file(folder, beside).exists():
        with suppress(InputError), lock(folder, "looks whether it is held", wait=False, beside=beside):
            pass


def _lock_file(folder: str | os.PathLike[str], beside: bool) -> Path:
    if not beside:
        return Path(folder).resolve() / ".lock"
    whole = Path(folder).resolve()
    return whole.with_name(f".{whole.name}.lock")


def unwritable(path: str | os.PathLike[str], error: OSError) -> InputError:
    """What the system refuses to write, as an error that names the path."""
    why = error.strerror or error
    return InputError(f"{path}: cannot be written ({why}); make room, or give a folder that can be written")


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")[:200] or "another process holds it"
    except (OSError, UnicodeDecodeError):
        return "another process holds it"


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
        words = one_line((str(error) or type(error).__name__).splitlines()[0], 200)
        raise InputError(f"{fault} ({words}); fetch or write it again") from None


def write_json(path: str | Path, value: Any) -> Path:
    """Write plain data as JSON, whole or not at all; the folder is made if needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, sort_keys=True, default=plain_data)
    with atomic_write(path) as file:
        file.write(f"{text}\n".encode())
    return path


def read_json(path: str | Path) -> Any:
    """What ``write_json`` wrote; None if there is no file.

    Raises:
        InputError: it is cut or damaged.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        words = one_line(str(error), 100)
        raise InputError(f"{path}: is no JSON ({words}); remove it, and it is made again") from None


def plain_data(value: Any) -> Any:
    """For ``json.dumps``: numpy numbers and paths as plain values."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not plain data")

"""Files from the web, fetched so that an interruption costs nothing, and checked; archives unpacked safely.

A file grows as ``<name>.part``; beside it ``<name>.part.json`` keeps which version of the file on the server it
belongs to, so that a later run asks for the rest of that version and of no other. It gets its name when it is
whole and its crc32, read back from the disk, is right. One run at a time fetches into a folder. An archive is
unpacked into a folder of its own, which gets its name when all is there.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from ssmbook.errors import InputError, shown
from ssmbook.files import atomic_write, lock, unwritable
from ssmbook.progress import progress_bar

ATTEMPTS = 6  # in a row that bring not one byte, then it is given up
WAIT_S = 2.0  # after the first of them; twice as long after each further one
TIMEOUT_S = 60.0
BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    """A file to fetch; its crc32 as its authors state it, or None where they state none."""

    url: str
    crc32: int | None = None

    @property
    def name(self) -> str:
        """The file's name.

        Raises:
            InputError: the address is not one of http or https, or names no file.
        """
        try:
            parts = urlsplit(self.url)
            name = PurePosixPath(parts.path).name
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # no number of a port, or no address
            known, name = False, ""
        if not known or name in ("", "..") or not self.url.isprintable() or " " in self.url:
            raise InputError(f"{shown(self.url, 100)} is no address of a file; give https://host/path/file")
        return name


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only, whatever the first address was."""

    def redirect_request(self, request: Any, fp: Any, code: int, msg: str, headers: Any, url: str) -> Any:
        if urlsplit(url).scheme != "https":
            raise InputError(
                f"{request.full_url}: redirects to {shown(url, 100)}, which is not https; it is not followed"
            )
        return super().redirect_request(request, fp, code, msg, headers, url)


_OPENER = urllib.request.build_opener(_SafeRedirects)


def _open(url: str, **request: Any) -> http.client.HTTPResponse:
    try:
        return _OPENER.open(urllib.request.Request(url, **request), timeout=TIMEOUT_S)
    except (ValueError, http.client.InvalidURL) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{shown(url, 100)}: is no address ({error}); give https://host/path/file") from None


def _length(response: http.client.HTTPResponse, url: str) -> int | None:
    """The length that a server states; None where it states none."""
    said = response.headers.get("Content-Length")
    if said is None:
        return None
    if not (said.strip().isascii() and said.strip().isdecimal() and len(said.strip()) < 16):
        raise InputError(f"{url}: the server states a length of {shown(said, 40)}; try later")
    return int(said)


def fetch(source: Source, folder: str | os.PathLike[str], progress: bool = True) -> tuple[Path, int]:
    """Fetch one file; a file that is there already is only checked. Another run in that folder is waited for.

    A cut connection is taken up again where it broke, in this run or in a later one. Where the server ignores
    ranges, or has another version of the file by now, the file is fetched from its start.

    Returns:
        Its path and its crc32.

    Raises:
        InputError: the server or the disk refuses, or the crc32 is another; then the file is removed.
    """
    name = source.name
    with lock(folder, f"fetches {name} into it"):
        return fetch_alone(source, folder, progress)


def fetch_alone(source: Source, folder: str | os.PathLike[str], progress: bool = True) -> tuple[Path, int]:
    """As ``fetch``, for one who holds the folder's lock."""
    path = Path(folder) / source.name
    if path.exists():
        crc32 = _crc32_of(path)
        _check(source, path, crc32)
        return path, crc32
    part = _Part(path, source.url)
    with progress_bar(desc=path.name, unit="B", unit_scale=True, show=progress) as bar:
        _complete(part, bar)
    if part.size == 0:
        raise InputError(f"{source.url}: the server sends an empty file; try later")
    crc32 = _crc32_of(part.path)  # of what is on the disk
    if (crc32, part.path.stat().st_size) != (part.crc32, part.size):
        part.path.unlink()
        raise InputError(f"{part.path}: is not on the disk as it was fetched; it was removed, fetch it again")
    _check(source, part.path, crc32)
    os.replace(part.path, path)
    part.record.unlink(missing_ok=True)
    return path, crc32


def bytes_to_fetch(source: Source, folder: str | os.PathLike[str]) -> tuple[int, int]:
    """How many bytes of a file are still to come, and how many it has; the server is asked."""
    path = Path(folder) / source.name
    try:
        with _open(source.url, method="HEAD") as response:
            length = _length(response, source.url) or 0
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{source.url}: cannot be reached ({error}); try later") from error
    here = next((p.stat().st_size for p in (path, path.with_name(f"{path.name}.part")) if p.exists()), 0)
    return max(0, length - here), length


class _Part:
    """The part of a file that is here: its bytes, their crc32, and which version of the file they belong to.

    A version is the file's length and a name for its state: a strong ETag, else the date of its change. Where a
    server gives neither, a part cannot be told from that of another version, and is not gone on with.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self.record = path.with_name(f"{path.name}.part.json")
        self.url = url
        self.length: int | None = None
        self.validator: str | None = None
        self.size = self.crc32 = 0
        self.whole = False
        try:
            kept = json.loads(self.record.read_text(encoding="utf-8"))
            usable = isinstance(kept["validator"], str) and isinstance(kept["length"], int | None)
            if kept["url"] == url and kept["validator"] and usable and self.path.exists():
                self.length, self.validator = kept["length"], kept["validator"]
                self.size, self.crc32 = self.path.stat().st_size, _crc32_of(self.path)
                self.whole = self.size == self.length
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RecursionError,
        ):  # no record, or a damaged one: from the start
            pass

    def restart(self, length: int | None, validator: str | None) -> None:
        """Nothing is here; what comes next is the start of that version."""
        self.path.unlink(missing_ok=True)
        with atomic_write(self.record) as file:
            record = {"url": self.url, "length": length, "validator": validator}
            file.write(json.dumps(record).encode())
        self.length, self.validator, self.size, self.crc32 = length, validator, 0, 0

    def read_from(self, response: http.client.HTTPResponse, bar: tqdm) -> None:
        """Append what a response brings."""
        while block := response.read1(BLOCK):
            try:
                with open(self.path, "ab") as file:
                    file.write(block)
            except OSError as error:
                raise InputError(
                    f"{self.path}: cannot be written ({error.strerror}); once it can, the same command goes on"
                ) from error
            self.size += len(block)
            self.crc32 = zlib.crc32(block, self.crc32)
            bar.update(len(block))
        self.whole = self.length is None or self.size == self.length


def _complete(part: _Part, bar: tqdm) -> None:
    """Ask until the part is whole, or too many attempts in a row have brought nothing."""
    failures = 0
    while not part.whole:
        before = part.size
        error: Exception = ConnectionError("the connection was cut")
        try:
            _ask(part, bar)
        except urllib.error.HTTPError as refusal:
            if refusal.code != 416:  # 416: the file ends before this range, so it is another one by now
                raise InputError(f"{part.url}: {refusal}; try later") from refusal
            part.restart(None, None)
            error = refusal
        except (OSError, http.client.HTTPException) as failure:
            error = failure
        failures = 0 if part.size > before else failures + 1
        if failures == ATTEMPTS:
            raise InputError(f"{part.url}: cannot be fetched ({error}); the same command goes on") from error
        if failures and not part.whole:
            time.sleep(WAIT_S * 2 ** (failures - 1))


def _ask(part: _Part, bar: tqdm) -> None:
    """One request, for the rest of the version that is here in part, or for the whole file."""
    headers = {}
    if part.size and part.validator:
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    with _open(part.url, headers=headers) as response:
        if response.status not in (200, 206) or (response.status == 206 and not headers):
            raise InputError(
                f"{part.url}: the server answers with status {response.status} where the whole file was asked for; try "
                "later"
            )
        # With If-Range a server answers 206 only for the same version; any other answer is the whole file.
        continues = (
            response.headers.get("Content-Range")
            == f"bytes {part.size}-{(part.length or 0) - 1}/{part.length}"
        )
        if response.status == 206 and not continues:
            part.restart(None, None)
            return
        if response.status != 206:
            length = _length(response, part.url)
            etag = response.headers.get("ETag") or ""
            strong = etag if etag.startswith('"') else None
            part.restart(length, strong or response.headers.get("Last-Modified"))
        if bar.total is None or part.size == 0:  # what was here before says nothing of the speed
            bar.initial = bar.last_print_n = part.size
        bar.total, bar.n = part.length, part.size
        part.read_from(response, bar)


def _check(source: Source, path: Path, crc32: int) -> None:
    if source.crc32 is not None and crc32 != source.crc32:
        path.unlink()
        raise InputError(
            f"{path}: its crc32 is {crc32:08x}, not {source.crc32:08x} as stated for {source.url}; it was damaged "
            "on the way or is another file; it was removed, fetch it again"
        )


def _crc32_of(path: Path) -> int:
    crc32 = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            crc32 = zlib.crc32(block, crc32)
    return crc32


def unpack(archive: Path, folder: Path, only: set[str] | None = None, progress: bool = True) -> None:
    """Unpack a tar into a new folder, which appears when all of it is there.

    Args:
        only: members below a folder of one of these names; None: all.

    Raises:
        InputError: a member would leave the folder or is neither file nor folder, or the archive is damaged;
            nothing of it is left then.
    """
    staging = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        with (
            tarfile.open(archive) as tar,
            progress_bar(
                total=archive.stat().st_size,
                desc=f"unpack {archive.name}",
                unit="B",
                unit_scale=True,
                show=progress,
            ) as bar,
        ):
            for member in tar:
                _unpack_member(tar, member, staging, only)
                bar.update(member.size)
        os.replace(staging, folder)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{archive}: is damaged or no tar ({error}); fetch it again") from error
    except OSError as error:
        raise unwritable(folder, error) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, only: set[str] | None
) -> None:
    parts = PurePosixPath(member.name).parts
    if not (member.isfile() or member.isdir()) or ".." in parts or PurePosixPath(member.name).is_absolute():
        raise InputError(
            f"{tar.name!s}: member {member.name!r} is a link or leads out of the folder; nothing was unpacked"
        )
    if only is None or only & set(parts):
        tar.extract(member, folder, filter="data")

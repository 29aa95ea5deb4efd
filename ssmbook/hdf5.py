"""What lies under ``h5py``: a file that HDF5 writes, and one whose heaps are looked at before HDF5 believes them."""

from __future__ import annotations

import io
import os
import stat
from typing import Any

import h5py

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NO_MORE = 1  # where the list of free blocks ends


class Hdf5File(h5py.File):
    """A file to read, which may be anyone's.

    Raises:
        OSError: it is not there, is no HDF5 file or damaged; BlockingIOError where another process is writing it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._disk = _DiskToRead(path)
        try:
            super().__init__(self._disk, "r")
        except BaseException:
            self._disk.close()
            raise

    def close(self) -> None:
        super().close()
        self._disk.close()


class _DiskToRead(io.FileIO):
    """What it reads holds no damaged local heap.

    A local heap holds the names in a group (HDF5 File Format Specification, III.D). HDF5 follows the list of its free
    blocks without counting them, so that one that leads round in a circle takes all memory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, "r", opener=_without_waiting)
        self._base, self._offset_bytes, self._length_bytes = 0, 8, 8
        about = os.fstat(self.fileno())
        self._size = about.st_size
        try:
            if not stat.S_ISREG(about.st_mode):
                raise OSError("no ordinary file")
            _lock(self)
        except OSError:
            self.close()
            raise

    def seek(self, at: int, whence: int = os.SEEK_SET) -> int:
        return super().seek(min(at, self._size), whence)  # a forged address may be of any size

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        at, n = self.tell(), 0
        while n < len(view):
            more = super().readinto(view[n:])
            if not more:  # HDF5 itself takes no notice of where a file ends
                raise OSError(f"it ends before byte {at + len(view):,}, of which it tells")
            n += more
        start = bytes(view[:32])
        if start.startswith(_SIGNATURE) and len(start) > 14:
            self._base = at
            self._offset_bytes, self._length_bytes = start[13:15] if start[8] < 2 else start[9:11]
        elif start.startswith(b"HEAP\0\0\0\0") and not self._is_heap(
            start
        ):  # version 0, and three bytes for later
            raise OSError(f"the heap of a group's names at byte {at:,} is damaged")
        return len(view)

    def _is_heap(self, start: bytes) -> bool:
        """Whether the free blocks of a heap lie inside of it, and their list has an end."""
        words = io.BytesIO(start[8:])
        size, free = (int.from_bytes(words.read(self._length_bytes), "little") for _ in range(2))
        at = self._base + int.from_bytes(words.read(self._offset_bytes), "little")
        if at + size > self._size:
            return False
        self.seek(at)
        data = self.read(size)
        followed = 0
        while free != _NO_MORE:
            block = data[free : free + 2 * self._length_bytes]  # the next one's offset, and its own size
            followed += len(block)
            if len(block) < 2 * self._length_bytes or followed > size:
                return False
            free = int.from_bytes(block[: self._length_bytes], "little")
        return True


def _without_waiting(path: str, flags: int) -> int:
    """A descriptor, also of a pipe that nobody writes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _lock(file: io.FileIO) -> None:
    """Let nobody write what is being read, as HDF5 does with its own files.

    Raises:
        BlockingIOError: someone is writing it.
    """
    if fcntl is None or os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() in ("FALSE", "0"):
        return
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a disk without locks
        return


class DiskUnderHdf5(io.FileIO):
    """The file for an ``h5py.File`` to write, which records the first OSError of a write; ``check`` raises it again.

    HDF5 that meets a full disk cannot close its file, and takes the process with it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, "w+")
        self._refusal: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self._refusal is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._refusal = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self._refusal = self._refusal or error
            return size or 0

    def check(self) -> None:
        """Raise the first refusal."""
        if self._refusal is not None:
            raise self._refusal

"""One column of an HDF5 file, read a chunk at a time by code that trusts nothing in it.

The HDF5 library hands a chunk's bytes and the arguments of its filters to C code that believes them, and
follows references to other files. Here the layout is checked first, chunks are taken as they are stored, and
each filter is undone in room of the size that the chunk must have.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
from numcodecs import blosc, zstd

from ssmbook.compiled import njit
from ssmbook.errors import InputError, one_line

_DEFLATE, _SHUFFLE, _FLETCHER, _LZF, _BLOSC, _ZSTD, _ECF = 1, 2, 3, 32000, 32001, 32015, 0x8ECF
_DECODED = (_DEFLATE, _SHUFFLE, _FLETCHER, _LZF, _BLOSC, _ZSTD)
_LARGEST_RATIO = 20_000  # of a chunk's size to its stored size
_ALWAYS_ALLOWED = 1 << 22  # bytes of a chunk


def find(path: Path, file: h5py.File, name: str, depth: int = 0) -> h5py.Group | h5py.Dataset | None:
    """What lies under a name, soft links followed; None where there is nothing.

    Raises:
        InputError: the name leads into another file.
    """
    here: h5py.Group | h5py.Dataset = file
    parts = [part for part in name.split("/") if part]
    for i, part in enumerate(parts):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise InputError(
                f"{path}: {name} is a link into another file, {link.filename[:100]!r}; give that file itself"
            )
        if isinstance(link, h5py.SoftLink):
            target = link.path if link.path.startswith("/") else "/".join((here.name, link.path))
            if depth > 8:
                raise InputError(f"{path}: the links of {name} lead round in a circle; write the file again")
            found = find(path, file, "/".join((target, *parts[i + 1 :])), depth + 1)
            return found
        if link is None:
            return None
        here = here[part]
    return here


class Column:
    """A flat dataset of numbers, structured numbers or rows of numbers.

    Args:
        path: the file, for messages.
        dataset: the dataset.

    Raises:
        InputError: it lies in other files, is not all there, holds no numbers, or is stored in a way that
            is not read; from ``read``: a chunk is damaged.
    """

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        self.name = f"{path}: {dataset.name}"
        self._dataset = dataset
        self._size = path.stat().st_size
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype = _number_type(self.name, dataset)
        self._row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        properties = dataset.id.get_create_plist()
        if properties.get_external_count():
            raise InputError(f"{self.name} is stored in other files; repack it into one with h5repack")
        layout = properties.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            raise InputError(
                f"{self.name} is put together from other files; repack it into one with h5repack"
            )
        self._rows = dataset.chunks[0] if layout == h5py.h5d.CHUNKED else 0
        self._filters: list[int] = []
        self._kept: tuple[int, np.ndarray] | None = None
        if self._rows:
            self._check_chunks(properties)
        else:
            self._check_room(layout)

    def __len__(self) -> int:
        return self.shape[0]

    def _check_room(self, layout: int) -> None:
        """A dataset in one piece must lie in the file; h5py then reads it as it is, without filters."""
        if len(self) == 0 or layout == h5py.h5d.COMPACT:
            return
        start = self._dataset.id.get_offset()
        if start is None or start + len(self) * self._row > self._size:
            raise InputError(
                f"{self.name} of {len(self):,} values is not all in the file; fetch or write it again"
            )

    def _check_chunks(self, properties: h5py.h5p.PropDCID) -> None:
        chunks = self._dataset.chunks
        if chunks[1:] != self.shape[1:]:
            raise InputError(f"{self.name} has chunks of {chunks}; rewrite it with whole rows in each chunk")
        for k in range(properties.get_nfilters()):
            code, _, arguments, label = properties.get_filter(k)
            self._filters.append(code)
            if code == _ECF:
                raise InputError(
                    f"{self.name} is compressed by Prophesee's ECF, which is not read; convert it with Metavision's "
                    f"tool: metavision_file_to_dat -i FILE"
                )
            if code not in _DECODED:
                words = one_line(label.decode(errors="replace"), 40) or "no name"
                raise InputError(
                    f"{self.name} is stored with filter {code} ({words}), which is not read; rewrite it: "
                    "h5repack -f GZIP=1 IN OUT"
                )
            if code == _SHUFFLE and (not arguments or arguments[0] != self.dtype.itemsize):
                raise InputError(f"{self.name} is shuffled by another size than its values'; it is damaged")
        if len(self) and self._dataset.id.get_num_chunks() < -(-len(self) // self._rows):
            raise InputError(
                f"{self.name} has {len(self):,} values, and not all are in the file; fetch or write it again"
            )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Values start to stop, in an array of the caller's own."""
        if not self._rows:
            return np.asarray(self._dataset[start:stop]).view(self.dtype)
        parts = []
        while start < stop:
            k = start // self._rows
            end = min(stop, (k + 1) * self._rows)
            parts.append(self._chunk(k)[start - k * self._rows : end - k * self._rows])
            start = end
        return np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)

    def _chunk(self, k: int) -> np.ndarray:
        # Chunks need not end where blocks do, nor those of one column where another's do: the last one is kept.
        if self._kept is None or self._kept[0] != k:
            self._kept = None
            self._kept = k, self._decoded(k)
        return self._kept[1]

    def _decoded(self, k: int) -> np.ndarray:
        where = (k * self._rows, *(0 for _ in self.shape[1:]))
        name = f"{self.name} from {where[0]} on"
        info = self._dataset.id.get_chunk_info_by_coord(where)
        wanted = self._rows * self._row
        if info.byte_offset is None or info.size < 1 or info.byte_offset + info.size > self._size:
            raise InputError(f"{name} is not in the file; fetch or write it again")
        if wanted > max(_ALWAYS_ALLOWED, _LARGEST_RATIO * info.size):
            raise InputError(f"{name} is damaged; fetch or write it again")
        room = wanted + 4 * self._filters.count(_FLETCHER) + 4096
        try:
            data = stored_chunk(self._dataset, where, info.size)
            for i in reversed(range(len(self._filters))):
                if info.filter_mask >> i & 1:  # a filter that did not make it smaller
                    continue
                code = self._filters[i]
                data = _undo(code, data, room, self.dtype.itemsize)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # what the decoders raise over damaged bytes
            raise InputError(f"{name} is damaged ({one_line(str(error))}); fetch or write it again") from None
        if len(data) != wanted:
            raise InputError(f"{name} holds {len(data)} bytes, not {wanted}; fetch or write it again")
        return np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])


def stored_chunk(dataset: h5py.Dataset, where: tuple[int, ...], size: int) -> bytes:
    """The stored bytes of the chunk there, of the size that the index of chunks says.

    The HDF5 library makes room for as many bytes as the layout says and reads as many as the index does, beyond the
    room where a file is damaged. Here the room is our own.

    Raises:
        Exception: nearly any, over a damaged file.
    """
    room = np.empty(size, np.uint8)
    dataset.id.read_direct_chunk(where, out=room)
    return room.tobytes()


def _number_type(name: str, dataset: h5py.Dataset) -> np.dtype:
    """The dtype of its bytes, where they are plain numbers, structured or not."""
    kind = dataset.id.get_type()
    plain = isinstance(kind, h5py.h5t.TypeCompoundID)
    members = [kind.get_member_type(i) for i in range(kind.get_nmembers())] if plain else [kind]
    for member in members:
        if isinstance(member, h5py.h5t.TypeEnumID):
            member = member.get_super()
        if isinstance(member, h5py.h5t.TypeIntegerID):
            whole = member.get_precision() == 8 * member.get_size() and member.get_size() in (1, 2, 4, 8)
        else:
            whole = isinstance(member, h5py.h5t.TypeFloatID) and member.get_size() in (2, 4, 8)
        if not whole:
            raise InputError(f"{name} holds {one_line(str(dataset.dtype), 60)}; give plain numbers")
    dtype = np.dtype(dataset.dtype)
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    if dtype.itemsize != kind.get_size() or dtype.hasobject:
        raise InputError(f"{name} holds {one_line(str(dtype), 60)}; give plain numbers")
    return dtype


def _undo(code: int, data: bytes, room: int, itemsize: int) -> bytes:
    """A chunk's bytes before a filter, at most ``room`` of them."""
    if code == _DEFLATE:
        decoder = zlib.decompressobj()
        out = decoder.decompress(data, room)
        if not decoder.eof:
            raise ValueError("its deflate stream is too long or cut")
        return out
    if code == _SHUFFLE:
        return unshuffle(data, itemsize)
    if code == _FLETCHER:
        return data[:-4]  # the sum behind the data; damage shows in what it holds
    if code == _LZF:
        unpacked = np.empty(room, np.uint8)
        n = unpack_lzf(np.frombuffer(data, np.uint8), unpacked)
        if n < 0:
            raise ValueError("its LZF stream is damaged")
        return unpacked[:n].tobytes()
    if code == _ZSTD:
        if _zstd_size(data) > room:
            raise ValueError("its zstd frame is too long")
        return bytes(zstd.decompress(data))
    return _undo_blosc(data, room)


def _undo_blosc(data: bytes, room: int) -> bytes:
    if len(data) < 16:
        raise ValueError("it is too short for Blosc")
    size, block, stored = (int(v) for v in np.frombuffer(data, "<u4", 3, 4))
    if size > room or stored != len(data) or not 1 <= block <= max(size, 1) or data[3] < 1:
        raise ValueError("its Blosc header is damaged")
    blocks = -(-size // block)
    if not data[2] & 0x2:  # not a plain copy: where each block starts
        if 16 + 4 * blocks > len(data):
            raise ValueError("its Blosc header is damaged")
        starts = np.frombuffer(data, "<u4", blocks, 16)
        if blocks and (starts.min() < 16 + 4 * blocks or starts.max() + 4 > len(data)):
            raise ValueError("its Blosc header is damaged")
    elif size + 16 > len(data):
        raise ValueError("its Blosc header is damaged")
    return bytes(blosc.decompress(data))


def _zstd_size(data: bytes) -> int:
    """The size that a zstd frame says it holds; larger than any where it does not say."""
    if len(data) < 6 or data[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("it is no zstd frame")
    flags = data[4]
    single, code = flags >> 5 & 1, flags >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    n = (1 if single else 0, 2, 4, 8)[code]
    return int.from_bytes(data[at : at + n], "little") + (256 if n == 2 else 0) if n else 1 << 62


def unshuffle(data: bytes, itemsize: int) -> bytes:
    """Undo HDF5's byte shuffle: first all first bytes, then all second ones, …; a rest stays as it is."""
    whole = len(data) // itemsize * itemsize
    values = np.frombuffer(data, np.uint8)
    return values[:whole].reshape(itemsize, -1).T.tobytes() + data[whole:]


@njit(nogil=True)
def unpack_lzf(data, out):
    """LibLZF's format into ``out``; the number of bytes, or −1 where it is damaged or ``out`` too small.

    A control byte c < 32: c + 1 bytes as they are. Else a copy of (c >> 5) + 2 bytes, where 7 means that the next byte
    is added, from (c & 31)·256 + next byte + 1 back.
    """
    i, n = 0, 0
    while i < len(data):
        control = np.int64(data[i])
        i += 1
        if control < 32:
            length = int(control) + 1
            if i + length > len(data) or n + length > len(out):
                return -1
            out[n : n + length] = data[i : i + length]
            i += length
        else:
            length = int(control >> 5) + 2
            if length == 9:
                if i >= len(data):
                    return -1
                length += int(data[i])
                i += 1
            if i >= len(data):
                return -1
            source = n - ((control & 31) << 8) - np.int64(data[i]) - 1
            i += 1
            if source < 0 or n + length > len(out):
                return -1
            for k in range(length):
                out[n + k] = out[source + k]
        n += length
    return n

"""A checkpoint's file: the zip archive of ``torch.save``, of which nothing is believed before it is checked.

An archive holds ``data.pkl``, whose tensors are views of storages, and the storages as ``data/<key>``, all
uncompressed: what is read is never larger than the file. A file of another kind is refused with its format's name.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from ssmbook.detector.checkpoint_pickle import Name, Storage, read_pickle
from ssmbook.errors import InputError, one_line, shown
from ssmbook.files import existing_file

DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}

# What a file begins with, and what it then is.
BEGINNINGS = (
    (b"PK\x03\x04", "a checkpoint of PyTorch that is cut short: fetch or write it again"),
    (
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        "a checkpoint in PyTorch's format before 1.6: read it with torch.load and write it with torch.save",
    ),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, of Keras or with events"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\x1f\x8b", "compressed by gzip: unpack it"),
    (b"BZh", "compressed by bzip2: unpack it"),
    (b"\xfd7zXZ", "compressed by xz: unpack it"),
    (b"(\xb5/\xfd", "compressed by zstd: unpack it"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself with git lfs pull"),
    (b"<", "a web page or XML, perhaps the answer of a server that refused a download"),
    (b"{", "JSON"),
    (b"% ", "a recording of events"),
    *((bytes([0x80, protocol]), "a pickle without tensors of PyTorch") for protocol in range(2, 6)),
)
# Members of other zip archives.
MEMBERS = (
    (("constants.pkl",), "a TorchScript module: save its state_dict() instead"),
    (
        ("serialized_exported_program.json", "archive_format"),
        "a program of torch.export: save a state_dict()",
    ),
    ((".npy",), "arrays of NumPy (npz)"),
    (("model.weights.h5",), "a model of Keras"),
)
RIGHT = "give a file of torch.save: of ssmbook, Lightning or model.state_dict()"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain containers as they are, any other object ``OPAQUE``.

    Nothing in the file is run, and no more memory is taken than the file is long.

    Raises:
        InputError: no such file, not a checkpoint (the message says what it seems to be), damaged; something in it
            would have to be called, or is no dense tensor.
    """
    file = existing_file(path, "a checkpoint")
    try:
        if not zipfile.is_zipfile(file):
            raise InputError(f"is {_seems(file)}; {RIGHT}")
        with zipfile.ZipFile(file) as archive:
            content = _read(archive, file.stat().st_size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        words = one_line((str(error) or type(error).__name__).splitlines()[0])
        raise InputError(f"{path}: a damaged or foreign checkpoint ({words})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {_what(content)}, not a dictionary of weights; {RIGHT}")
    return content


def _seems(path: Path) -> str:
    """What a file that is no zip archive seems to be."""
    with open(path, "rb") as file:
        head = file.read(64)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return "of safetensors: read it with safetensors.torch.load_file and write it with torch.save"
    if head[:1] == b"\x08" and (b"pytorch" in head or b"onnx" in head):
        return "a model of ONNX, whose weights have lost their names"
    start = head.lstrip()
    return next(
        (what for beginning, what in BEGINNINGS if start.startswith(beginning)), "of no format known here"
    )


def _what(content: Any) -> str:
    if isinstance(content, torch.Tensor):
        return "a tensor"
    return (
        "a whole module or another object"
        if type(content).__name__ == "Opaque"
        else f"a {type(content).__name__}"
    )


def _read(archive: zipfile.ZipFile, file_size: int) -> Any:
    """What the pickle of an archive holds, on the archive's storages."""
    members = archive.infolist()
    names = [member.filename for member in members]
    roots = [name.removesuffix("data.pkl") for name in names if name.rpartition("/")[2] == "data.pkl"]
    other = next((what for ends, what in MEMBERS if any(name.endswith(ends) for name in names)), None)
    if other or len(roots) != 1:
        raise InputError(f"is {other or 'a zip archive of something else'}; {RIGHT}")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise InputError(
                f"{one_line(member.filename)} in it is compressed, which PyTorch never does; {RIGHT}"
            )
    if sum(member.file_size for member in members) > file_size:
        raise InputError("what it holds is longer than the file itself; fetch or write it again")
    root = roots[0]
    if f"{root}byteorder" in names and _member(archive, f"{root}byteorder") != b"little":
        raise InputError("is of a machine with another byte order; write it again on one of this kind")
    storages: dict[str, Storage] = {}

    def storage(identity: Any) -> Storage:
        match identity:
            case ("storage", Name(source), str(key), _, int(length)) if source in DTYPES and length >= 0:
                if key not in storages:
                    storages[key] = _storage(archive, f"{root}data/{key}", DTYPES[source])
                values = storages[key].values
                if values.dtype == DTYPES[source] and length <= len(values):
                    return storages[key]
                raise InputError(f"storage {one_line(key)} in it is shorter than it says, or of two types")
        raise InputError(f"it holds a storage of an unknown kind: {shown(_kind(identity))}")

    return read_pickle(_member(archive, f"{root}data.pkl"), storage)


def _kind(identity: Any) -> Any:
    kind = identity[1] if isinstance(identity, tuple) and len(identity) > 1 else identity
    return kind.source if isinstance(kind, Name) else type(kind).__name__


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member, whose checksum is right."""
    try:
        return archive.read(name)
    except KeyError:
        raise InputError(f"{one_line(name)} is missing in it; fetch or write it again") from None
    except zipfile.BadZipFile:
        raise InputError(f"{one_line(name)} in it is damaged; fetch or write it again") from None


def _storage(archive: zipfile.ZipFile, name: str, dtype: torch.dtype) -> Storage:
    data = bytearray(_member(archive, name))
    if not data:  # which frombuffer refuses
        return Storage(torch.empty(0, dtype=dtype))
    return Storage(torch.frombuffer(data, dtype=dtype, count=len(data) // dtype.itemsize))

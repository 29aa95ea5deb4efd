"""Checkpoints put together by hand, opcode by opcode: what no ``torch.save`` writes."""

import zipfile

from ssmbook.detector import PRESETS, Detector


def small_detector(**options):
    """The smallest one: 320 weights."""
    return Detector(**{**PRESETS["sim-smoke"], "recurrence": "none", "fpn_depth": 0, **options})


def write_archive(path, pickle, storages=None, **members):
    """The archive of a pickle and its storages, with the right checksums."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle)
        archive.writestr("a/byteorder", "little")
        for key, data in ({"0": bytes(16)} if storages is None else storages).items():
            archive.writestr(f"a/data/{key}", data)
        for name, data in members.items():
            archive.writestr(f"a/{name}", data)
    return path


def whole(body):
    """A pickle of protocol 2."""
    return b"\x80\x02" + body + b"."


def text(value):
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def integer(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + len(data).to_bytes(4, "little") + data


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def group(*parts):
    return b"(" + b"".join(parts) + b"t"


def call(function, *arguments):
    return named(*function) + group(*arguments) + b"R"


def storage(key="0", kind="FloatStorage", length=4):
    return group(text("storage"), named("torch", kind), text(key), text("cpu"), integer(length)) + b"Q"


def tensor(size, stride, offset=0, on=None):
    lengths = (group(*map(integer, values)) for values in (size, stride))
    return call(
        ("torch._utils", "_rebuild_tensor_v2"), on or storage(), integer(offset), *lengths, b"\x89", b"}"
    )


def items(**values):
    """A dictionary."""
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"

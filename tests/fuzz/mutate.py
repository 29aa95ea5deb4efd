"""Files of each format, and what is changed in them."""

import random
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from event_files import HEIGHT, KINDS, WIDTH, aedat2_bytes, nmnist_bytes, write

from fuzz.labels import LABELS

FORMATS = (*(kind for kind in KINDS if kind != "rosbag2"), "aedat2", "nmnist", *LABELS)
_ENDING = {"nmnist": ".bin", "aedat2": ".aedat", "rosbag1": ".bag", "csv": ".csv", "text_s": ".txt"}
_INTERESTING = (0, 1, 2, 7, 0x0A, 0x20, 0x2D, 0x30, 0x39, 0x7F, 0x80, 0xFE, 0xFF)
_WORDS = (
    0,
    1,
    0x7FFF,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


def ending(format):
    return LABELS[format].ending if format in LABELS else _ENDING.get(format, ".raw")


@cache
def seeds(format):
    """The contents of a few whole files of a format."""
    if format in LABELS:
        return LABELS[format].seeds()
    contents = []
    for n in (0, 1, 5, 60, 300):
        rng = np.random.default_rng(n)
        t = 1000 + np.cumsum(rng.choice([0, 0, 1, 50, 3000], n))
        columns = (t, rng.integers(0, WIDTH, n), rng.integers(0, HEIGHT, n), rng.integers(0, 2, n))
        events = [column.tolist() for column in columns]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"a{ending(format)}"
            if format in ("aedat2", "nmnist"):
                path.write_bytes((aedat2_bytes if format == "aedat2" else nmnist_bytes)(events))
            elif n or format not in ("structured", "mvsec", "m3ed", "dsec", "npz_one"):
                path = write(path, format, events)
            if path.exists():
                contents.append(path.read_bytes())
    return contents


def mutated(format, seed, number):
    """The bytes of input ``number``."""
    rng = random.Random(f"{format} {seed} {number}")
    data = bytearray(rng.choice(seeds(format)))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8, 30))):
        _change(rng, data, format)
    return bytes(data)


def _change(rng, data, format):
    size = len(data)
    if size == 0:
        data += bytes([rng.randrange(256)])
        return
    # Most structure is in the first bytes: half of the changes are made there.
    at = rng.randrange(size) if rng.random() < 0.5 else rng.randrange(min(size, 400))
    kind = rng.randrange(9)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at] = rng.choice(_INTERESTING)
    elif kind == 2:
        data[at] = rng.randrange(256)
    elif kind == 3:
        width = rng.choice((2, 4, 8))
        word = (rng.choice(_WORDS) + rng.randrange(-2, 3)) % (1 << 8 * width)
        data[at : at + width] = word.to_bytes(width, rng.choice(("little", "big")))
    elif kind == 4:
        del data[at : at + rng.choice((1, 2, 4, 8, 100))]
    elif kind == 5:
        data[at:at] = data[at : at + rng.choice((1, 2, 4, 8, 100))]
    elif kind == 6:
        del data[at:]
    elif kind == 7:
        other = rng.choice(seeds(format))
        start = rng.randrange(len(other)) if other else 0
        data[at : at + 16] = other[start : start + 16]
    else:
        data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))

"""Slow, obvious writers of each format, for tests: events as four lists of int, t (as stored), x, y, p."""

import struct

import h5py
import hdf5plugin
import numpy as np

WIDTH, HEIGHT = 64, 48
KINDS = ["dat", "evt2", "evt3", "aedat4", "hdf5", "dsec", "rows", "fields"]
SAY_SIZE = {"dat", "evt3", "aedat4", "hdf5"}


def dat_bytes(events, kind=0x0C, size_lines=True):
    header = b"% Data file containing CD events.\n% Version 2\n% Date 2020-01-01 00:00:00\n"
    if size_lines:
        header += f"% Height {HEIGHT}\n% Width {WIDTH}\n".encode()
    body = b"".join(
        struct.pack("<II", t % 2**32, x | y << 14 | p << 28) for t, x, y, p in zip(*events, strict=True)
    )
    return header + bytes([kind, 8]) + body


def evt2_bytes(events):
    words, high = [0xA0000000, 0x00000000], None  # a trigger, and an event without a time: neither counts
    for t, x, y, p in zip(*events, strict=True):
        if t >> 6 != high:
            high = t >> 6
            words += [0x8 << 28 | high % 2**28, 0xE0000001, 0xF0000000]
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return b"% evt 2.0\n" + struct.pack(f"<{len(words)}I", *words)


def evt3_bytes(events):
    words, high, low, row = [0x2001, 0x0001, 0x2001], None, None, None  # events without a time do not count
    for t, x, y, p in zip(*events, strict=True):
        if t >> 12 != high:
            high, low = t >> 12, None
            words += [0x8000 | high % 2**12, 0xA001, 0xE000, 0xF123, 0x7000]
        if t & 4095 != low:
            low = t & 4095
            words.append(0x6000 | low)
        if y != row:
            row = y
            words.append(y)
        words.append(0x2000 | p << 11 | x)
    header = f"% Date 2020-01-01\n% format EVT3;height={HEIGHT};width={WIDTH}\n% end\n".encode()
    return header + struct.pack(f"<{len(words)}H", *words)


def aedat4_bytes(events, packet=19):
    """Uncompressed packets of an event stream, number 1, and of triggers, number 0, between them."""
    attribute = '<attr key="{}" type="{}">{}</attr>'.format
    size = attribute("sizeX", "int", WIDTH) + attribute("sizeY", "int", HEIGHT)
    info = ""
    for number, kind, inner in ((0, "TRIG", ""), (1, "EVTS", size)):
        attributes = attribute("compression", "string", "NONE") + attribute("typeIdentifier", "string", kind)
        inner = attributes + f'<node name="info" path="/info/">{inner}</node>'
        info += f'<node name="{number}" path="/{number}/">{inner}</node>'
    text = f'<dv version="2.0"><node name="outInfo" path="/outInfo/">{info}</node></dv>'.encode()
    # Flatbuffers by hand: a vtable at 8 that says where the fields are, then the table behind it.
    table = struct.pack("<iB3xIq", 28 - 8, 0, 12, -1)
    head = (
        struct.pack("<I4s5H10x", 28, b"IOHE", 10, 20, 4, 12, 8)
        + table
        + struct.pack("<I", len(text))
        + text
        + b"\0"
    )
    out = b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(head)) + head
    rows = list(zip(*events, strict=True))
    for i in range(0, len(rows), packet):
        part = rows[i : i + packet]
        body = b"".join(struct.pack("<qhhB3x", t, x, y, p) for t, x, y, p in part)
        evts = struct.pack("<I4s3H2xiI4xI", 16, b"EVTS", 6, 8, 4, 8, 8, len(part)) + body
        trig = struct.pack("<I4s3H2xiI4xI", 16, b"TRIG", 6, 8, 4, 8, 8, 0)
        for number, data in ((0, trig), (1, evts)):
            out += struct.pack("<iiI", number, len(data) + 4, len(data)) + data
    return out


def write_hdf5(path, events, t_offset=0, p=None, size=True):
    with h5py.File(path, "w") as file:
        t, x, y, polarity = (np.array(column, np.int64) for column in events)
        chunks = {"chunks": (min(100, len(t)),), **hdf5plugin.Blosc(cname="zstd")} if len(t) else {}
        file.create_dataset("events/t", data=t - t_offset, **chunks)
        file.create_dataset("events/x", data=x.astype(np.uint16), **chunks)
        file.create_dataset("events/y", data=y.astype(np.uint16), **chunks)
        file.create_dataset("events/p", data=(polarity if p is None else p).astype(np.int8), **chunks)
        if t_offset:
            file["t_offset"] = t_offset
            file["ms_to_idx"] = np.zeros(3, np.uint64)
        elif size:
            file["events/width"], file["events/height"] = WIDTH, HEIGHT


def write(path, kind, events):
    encoders = {"dat": dat_bytes, "evt2": evt2_bytes, "evt3": evt3_bytes, "aedat4": aedat4_bytes}
    if kind in encoders:
        path.write_bytes(encoders[kind](events))
    elif kind == "hdf5":
        write_hdf5(path, events, p=2 * np.array(events[3]) - 1)
    elif kind == "dsec":
        write_hdf5(path, events, t_offset=int(min(events[0])) - 5)
    elif kind == "rows":
        with open(path, "wb") as file:
            np.save(file, np.array(events, np.int64).T)
    elif kind == "fields":
        array = np.zeros(len(events[0]), [("p", "i1"), ("x", "i4"), ("y", "u2"), ("t", "u8")])
        array["t"], array["x"], array["y"], array["p"] = *events[:3], 2 * np.array(events[3]) - 1
        with open(path, "wb") as file:
            np.save(file, array)
    return path

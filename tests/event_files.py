"""Slow, obvious writers of each format, for tests: events as four lists of int, t (as stored), x, y, p."""

import struct

import h5py
import hdf5plugin
import numpy as np

WIDTH, HEIGHT = 64, 48
FIRST_KINDS = ["dat", "evt2", "evt3", "aedat4", "hdf5", "dsec", "rows", "fields"]
LATER_KINDS = [
    "evt21",
    "evt21_legacy",
    "csv",
    "text_s",
    "npz",
    "npz_one",
    "structured",
    "mvsec",
    "m3ed",
    "aedat31",
    "es",
]
LATER_KINDS += ["rosbag1", "rosbag2"]
KINDS = FIRST_KINDS + LATER_KINDS
SAY_SIZE = {"dat", "evt3", "aedat4", "hdf5", "evt21", "evt21_legacy", "text_s", "es", "rosbag1", "rosbag2"}
SORTED_ONLY = {"es"}  # holds differences of stamps, which cannot be negative


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


def evt21_bytes(events, legacy=False, said=True):
    """One event a word, but for every second one, which is a vector with the event after it where they fit."""
    words, high, i = [0xA << 60, 0], None, 0
    rows = list(zip(*events, strict=True))
    while i < len(rows):
        t, x, y, p = rows[i]
        if t >> 6 != high:
            high = t >> 6
            words += [0x8 << 60 | high % 2**28 << 32, 0xE << 60]
        mask, base = 1, max(x - 5, 0)
        mask <<= x - base
        i += 1
        if i < len(rows) and rows[i][0] == t and rows[i][2:] == (y, p) and x < rows[i][1] < base + 32:
            mask |= 1 << rows[i][1] - base
            i += 1
        words.append(p << 60 | (t & 63) << 54 | base << 43 | y << 32 | mask)
    if legacy:
        words = [w >> 32 | (w & 0xFFFFFFFF) << 32 for w in words]
    order = f";endianness={'legacy' if legacy else 'little'}" if said else ""
    header = f"% evt 2.1\n% format EVT21;height={HEIGHT};width={WIDTH}{order}\n% end\n".encode()
    return header + struct.pack(f"<{len(words)}Q", *words)


def es_bytes(events):
    out, last = b"Event Stream\x02\x00\x00\x01" + struct.pack("<HH", WIDTH, HEIGHT) + b"\xfe" * 5, 0
    for t, x, y, p in zip(*events, strict=True):
        overflows, rest = divmod(t - last, 127)
        out += b"\xff" * overflows + struct.pack("<BHH", rest << 1 | p, x, HEIGHT - 1 - y)
        last = t
    return out


def aedat31_bytes(events, packet=19):
    """Packets of polarity, with a packet of another type and events that are not valid between them."""
    out = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: a camera\r\n#!END-HEADER\r\n"
    rows = list(zip(*events, strict=True))
    for i in range(0, len(rows), packet):
        overflow = rows[i][0] >> 31
        out += struct.pack("<HHIIIIII", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
        body = struct.pack("<II", 77 << 17, 3)
        for t, x, y, p in rows[i : i + packet]:
            body += struct.pack("<II", 1 | p << 1 | y << 2 | x << 17, t - (overflow << 31))
        n = len(body) // 8
        out += struct.pack("<HHIIIIII", 1, 1, 8, 4, overflow, n, n, n - 1) + body
    return out


def aedat2_bytes(events, sensor="DVS128", size=(128, 128), end=""):
    """Events of a DVS128 or a DAVIS, with triggers or APS samples that do not count between them."""
    out = f"#!AER-DAT2.0\r\n# created by jAER\r\n# AEChip: {sensor}\r\n{end}".encode()
    for t, x, y, p in zip(*events, strict=True):
        t %= 1 << 32
        x, y = size[0] - 1 - x, size[1] - 1 - y
        if "DVS128" in sensor:
            out += struct.pack(">II", 1 << 15, t) + struct.pack(">II", y << 8 | x << 1 | (1 - p), t)
        else:
            out += struct.pack(">II", 1 << 31 | 5, t) + struct.pack(">II", y << 22 | x << 12 | p << 11, t)
    return out


def nmnist_bytes(events):
    out, overflows = b"", 0
    for t, x, y, p in zip(*events, strict=True):
        while t - overflows * 2**13 >= 2**13:
            overflows += 1
            out += bytes([0, 240, 0, 0, 0])
        stamp = t - overflows * 2**13
        out += bytes([x, y, p << 7 | stamp >> 16, stamp >> 8 & 255, stamp & 255])
    return out


def text_of(events, seconds=False, separator=" ", head=(), columns="txyp"):
    rows = [list(head)] if head else []
    for t, x, y, p in zip(*events, strict=True):
        value = {"t": f"{t // 10**6}.{t % 10**6:06d}" if seconds else t, "x": x, "y": y, "p": p}
        rows.append([value[name] for name in columns])
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode()


DVS_MSGS = {
    "dvs_msgs/msg/Event": "uint16 x\nuint16 y\nbuiltin_interfaces/Time ts\nbool polarity\n",
    "dvs_msgs/msg/EventArray": "std_msgs/Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events\n",
}


def write_rosbag(path, events, version, packet=19):
    """A bag of version 1 (a file) or 2 (a folder) with arrays of dvs_msgs and another topic."""
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer as Writer2
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if version == 1 else Stores.ROS2_HUMBLE)
    for name, text in DVS_MSGS.items():
        text = text.replace("builtin_interfaces/Time", "time") if version == 1 else text
        store.register(get_types_from_msg(text, name))
    kinds = store.types
    time, header = kinds["builtin_interfaces/msg/Time"], kinds["std_msgs/msg/Header"]
    event, array = (kinds[name] for name in DVS_MSGS)
    rows = list(zip(*events, strict=True))
    writer = Writer1(path) if version == 1 else Writer2(path, version=9, storage_plugin=StoragePlugin.MCAP)
    with writer:
        topic = writer.add_connection("/dvs/events", "dvs_msgs/msg/EventArray", typestore=store)
        other = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
        for i in range(0, len(rows), packet):
            part = [
                event(x, y, time(t // 10**6, t % 10**6 * 1000), bool(p))
                for t, x, y, p in rows[i : i + packet]
            ]
            stamp = time(0, 0)
            head = (
                header(seq=i, stamp=stamp, frame_id="cam" * (i % 4))
                if version == 1
                else header(stamp, "cam" * (i % 4))
            )
            message = array(head, HEIGHT, WIDTH, part)
            serialize = store.serialize_ros1 if version == 1 else store.serialize_cdr
            writer.write(topic, 1000 + i, serialize(message, "dvs_msgs/msg/EventArray"))
            writer.write(other, 1000 + i, serialize(kinds["std_msgs/msg/String"]("a"), "std_msgs/msg/String"))
    return path


def write_later(path, kind, events):
    t, x, y, p = (np.array(column, np.int64) for column in events)
    if kind == "csv":
        path.write_bytes(
            text_of(events, separator=",", head=("x", "y", "polarity", "timestamp"), columns="xypt")
        )
    elif kind == "text_s":
        path.write_bytes(text_of(events, seconds=True, head=(WIDTH, HEIGHT)))
    elif kind in ("npz", "npz_one"):
        with open(path, "wb") as file:
            if kind == "npz":
                np.savez_compressed(file, timestamp=t, x=x.astype("u2"), y=y.astype("f4"), on=p.astype(bool))
            else:
                np.savez(file, arr_0=np.stack([x, y, t, p], 1))
    elif kind == "structured":
        array = np.zeros(len(t), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
        array["t"], array["x"], array["y"], array["p"] = t, x, y, p
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "events", data=array, chunks=(min(100, len(t)),), compression=1, shuffle=True, fletcher32=True
            )
    elif kind == "mvsec":
        with h5py.File(path, "w") as file:
            rows = np.stack([x, y, t / 1e6, 2 * p - 1], 1)
            file.create_dataset(
                "davis/left/events", data=rows, chunks=(min(100, len(t)), 4), compression="lzf"
            )
    elif kind == "m3ed":
        with h5py.File(path, "w") as file:
            for name, values in (
                ("t", t),
                ("x", x.astype("u2")),
                ("y", y.astype("u2")),
                ("p", p.astype("u1")),
            ):
                file.create_dataset(
                    f"prophesee/left/{name}", data=values, chunks=(min(100, len(t)),), **hdf5plugin.Zstd()
                )
            file["prophesee/left/ms_map_idx"] = np.zeros(3, np.uint64)


def write(path, kind, events):
    if kind == "rosbag1":
        return write_rosbag(path.with_suffix(".bag"), events, 1)
    if kind == "rosbag2":
        return write_rosbag(path.with_suffix(""), events, 2)
    if kind in LATER_KINDS and kind not in ("evt21", "evt21_legacy", "es", "aedat31"):
        write_later(path, kind, events)
        return path
    encoders = {
        "dat": dat_bytes,
        "evt2": evt2_bytes,
        "evt3": evt3_bytes,
        "aedat4": aedat4_bytes,
        "evt21": evt21_bytes,
    }
    encoders |= {
        "es": es_bytes,
        "aedat31": aedat31_bytes,
        "evt21_legacy": lambda e: evt21_bytes(e, legacy=True),
    }
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

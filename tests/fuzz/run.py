"""Reads mutated files in forked children and says what came of them."""

import os
import resource
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fuzz.labels import LABELS
from fuzz.mutate import ending, mutated, seeds
from ssmbook.errors import InputError
from ssmbook.events import Events, open_events

SECONDS, MEMORY = 10, 1 << 30  # for an input
MUCH = 600 << 20  # bytes that no input may fill, since a library can report that there were no more and go on
# The rosbags package reserves, but does not fill, up to the 4 GiB that a forged length can say.
RESERVED = {"rosbag1": 5 << 30}
_BATCH = 2000
# Thousands of short-lived files need no disk.
_MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@dataclass
class Outcome:
    """What came of the inputs of one format."""

    format: str
    inputs: int = 0
    read: int = 0  # gave events
    refused: int = 0  # gave an InputError
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def row(self):
        counts = f"{self.inputs:,} | {self.read:,} | {self.refused:,} | {len(self.faults):,}"
        return f"| {self.format} | {counts} | {self.seconds:.0f} |"


def fuzz(format, inputs, seed=0, seconds=None, first=0):
    """Read ``inputs`` mutated files, or as many as ``seconds`` allow."""
    found, number = Outcome(format), first
    seeds(format)
    with tempfile.TemporaryDirectory(dir=_MEMORY_DISK) as folder:
        _warm(format, Path(folder))
        start = time.monotonic()
        while number < first + inputs and (seconds is None or time.monotonic() - start < seconds):
            stop = min(number + _BATCH, first + inputs)
            left = None if seconds is None else seconds - (time.monotonic() - start)
            number = _batch(found, Path(folder), seed, number, stop, left)
    found.seconds = time.monotonic() - start
    return found


def _warm(format, folder):
    """Import and compile what the format needs, so that children do not."""
    (folder / f"warm{ending(format)}").write_bytes(seeds(format)[-1])
    if format in LABELS:
        LABELS[format].read(folder / f"warm{ending(format)}")
        return
    with open_events(folder / f"warm{ending(format)}") as recording:
        assert sum(map(len, recording.blocks()))


def _batch(found, folder, seed, number, stop, left):
    """Read inputs from ``number`` on in one child; returns the number of the next input."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        code = 1
        try:
            _child(found.format, folder, seed, number, stop, left, write_end)
            code = 0
        finally:
            os._exit(code)
    os.close(write_end)
    with os.fdopen(read_end, "rb", 0) as pipe:
        for line in pipe:
            kind, _, words = line.decode(errors="replace").strip().partition(" ")
            number += 1
            found.inputs += 1
            found.read += kind == "read"
            found.refused += kind == "refused"
            if kind == "fault":
                found.faults.append(f"input {number - 1}: {words}")
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        found.inputs += 1
        found.faults.append(
            f"input {number}: {'hang' if name in ('SIGALRM', 'SIGPROF') else 'crash'} ({name})"
        )
        return number + 1
    if os.WEXITSTATUS(status):
        found.inputs += 1
        found.faults.append(f"input {number}: the harness itself failed on it")
        return number + 1
    return number


def _child(format, folder, seed, number, stop, left, pipe):
    start = time.monotonic()
    with open("/proc/self/statm", encoding="utf-8") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limit = used + RESERVED.get(format, MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries print over damaged bytes
    path = folder / f"input{ending(format)}"
    for k in range(number, stop):
        if left is not None and time.monotonic() - start > left:
            return
        data = mutated(format, seed, k)
        path.write_bytes(data)
        # Their default action ends the process, also inside of C; on a loaded machine only its own time counts.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(20 * SECONDS)
        before = _most_used()
        words = outcome(path, data, format)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        if not words.startswith("fault") and _most_used() - before > MUCH:
            words = f"fault {(_most_used() - before) >> 20} MB for {len(data)} bytes"
        os.write(pipe, (words.replace("\n", " | ")[:2000] + "\n").encode())


def _most_used():
    """Bytes of memory, the most that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def outcome(path, data, format):
    """ "read", "refused" or "fault …" for one file."""
    try:
        if format in LABELS:
            LABELS[format].read(path)
            return "read"
        with open_events(path) as recording:
            events = Events.concatenate(list(recording.blocks()))
            recording.read(recording.start_us, recording.end_us)
            size = recording.width, recording.height
    except InputError as error:
        message = str(error)
        named = str(path.parent if format in LABELS else path)
        if not message.startswith(named) or not message.isprintable() or len(message) > 1000:
            return f"fault a message that names no file or is no line: {message[:300]!r}"
        return f"fault {message}" if "MemoryError" in message else "refused"
    except BaseException:
        return "fault " + traceback.format_exc()
    return _wrong(events, size, data, format) or "read"


def _wrong(events, size, data, format):
    """Why events cannot be right; None where they can."""
    if [events.t.dtype, events.x.dtype, events.y.dtype, events.p.dtype] != [
        "int64",
        "uint16",
        "uint16",
        "uint8",
    ]:
        return "fault dtypes"
    if len(events) and (np.any(np.diff(events.t) < 0) or events.t[0] < 0 or events.p.max() > 1):
        return "fault stamps or polarity"
    for values, limit in ((events.x, size[0]), (events.y, size[1])):
        if limit is not None and len(events) and values.max() >= limit:
            return "fault outside the sensor"
    if len(events) > 1000 * len(data) + 100_000:
        return f"fault {len(events)} events out of {len(data)} bytes"
    if format == "dat" and len(events) and size != (None, None):
        return _differs_from_dat(events, data)
    return None


def _differs_from_dat(events, data):
    """A second, plain decoder: the words behind the last header line."""
    lines = data.split(b"\n")
    start = 0
    for line in lines:
        if not line.startswith(b"% ") or not line[2:].decode("latin-1").strip().isprintable():
            break
        start += len(line) + 1
    body = data[start + 2 :]
    words = np.frombuffer(body[: len(body) // 8 * 8], "<u4").reshape(-1, 2)
    if len(words) != len(events):  # some lay outside, or the header has an odd line
        return None
    x, y, p = words[:, 1] & 0x3FFF, words[:, 1] >> 14 & 0x3FFF, words[:, 1] >> 28
    same = np.array_equal(x, events.x) and np.array_equal(y, events.y) and np.array_equal(p, events.p)
    return None if same else "fault differs from another decoder"

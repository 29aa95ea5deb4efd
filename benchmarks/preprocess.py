"""Preprocessing against the plain torch formulation, evlib and the limit: one command, one table.

    python benchmarks/preprocess.py                          # a Gen1-like and a 1 Mpx-like recording
    python benchmarks/preprocess.py --scale 0.1 --repeats 3  # shorter ones
    python benchmarks/preprocess.py --memory 10 100 1000     # peak memory over millions of events

HDF5 with Blosc zstd in, the published layout on the published grid out, windows of 50 ms, one core. The limit is what
cannot be done without: read and decompress the columns once, compress and write the same frames; "plain" does that
with HDF5's own write, which costs more. The torch formulation adds the events of each window with index_put_. evlib's
Rust pipeline takes part where it is installed (pip install evlib). Each run is in a process of its own, after a short
recording that loads and compiles; times are the best of several interleaved rounds, peak memory is that of the whole
process.

The lines below each table are about two cores: the same recording with two workers, which then are threads; sixteen
copies of it shared out to two workers, with the time that they need to start (which two short recordings show) and
without; and how much two processes of the limit do at once, started before the clock: no program can gain more here.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

BLOCK = 1 << 20
WINDOW_US = 50_000


@dataclass(frozen=True)
class Recording:
    """A recording to generate: its sensor, length and number of events."""

    sensor: str
    millions: float
    seconds: float

    @property
    def size(self) -> tuple[int, int]:
        return {"gen1": (240, 304), "gen4": (720, 1280)}[self.sensor]

    @property
    def suffix(self) -> str:
        return {"gen1": "_td.dat.h5", "gen4": "_td.h5"}[self.sensor]


RECORDINGS = (Recording("gen1", 12, 60), Recording("gen4", 30, 5))


def generate(recording: Recording, raw: Path) -> Path:
    """Write val/a of a raw set: noise, and objects that cross the frame; boxes as often as the sensor's are."""
    from ssmbook.events import BOX_DTYPE

    (raw / "val").mkdir(parents=True)
    (height, width), total = recording.size, round(recording.millions * 1e6)
    end_us = recording.seconds * 1e6
    rng = np.random.default_rng(0)
    with h5py.File(raw / "val" / f"a{recording.suffix}", "w") as file:
        columns = {
            name: file.create_dataset(
                f"events/{name}", (total,), dtype, chunks=(min(65536, total),), **hdf5plugin.Blosc("zstd", 5)
            )
            for name, dtype in (("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "i1"))
        }
        for start in range(0, total, BLOCK):
            n = min(BLOCK, total - start)
            t = np.sort(rng.uniform(start, start + n, n)) * (end_us / total)
            columns["t"][start : start + n] = t.astype(np.int64)
            centre = rng.integers(0, 12, n)
            place = rng.normal(size=(2, n)) * height / 30
            x = width * ((0.083 * centre + 0.1e-6 * t) % 1) + place[0]
            y = height * ((0.61 * centre) % 1) + place[1]
            noise = rng.random(n) < 0.3
            x[noise], y[noise] = rng.uniform(0, width, noise.sum()), rng.uniform(0, height, noise.sum())
            columns["x"][start : start + n] = np.clip(x, 0, width - 1)
            columns["y"][start : start + n] = np.clip(y, 0, height - 1)
            columns["p"][start : start + n] = rng.integers(0, 2, n)
    times = np.arange(250_000 if recording.sensor == "gen1" else 100_000, end_us, BOX_EVERY[recording.sensor])
    boxes = np.zeros(len(times), BOX_DTYPE)
    boxes["t"], boxes["x"], boxes["y"], boxes["w"], boxes["h"] = times, 20, 20, 60, 50
    np.save(raw / "val" / "a_bbox.npy", boxes)
    return raw


BOX_EVERY = {"gen1": 250_000, "gen4": 1e6 / 60}


# What is compared: each makes the sequence of a raw set in ``out``, where ``reference`` is ours, made before.


def ours(recording: Recording, raw: Path, out: Path, reference: Path) -> float:
    from ssmbook.dataset import preprocess

    start = time.perf_counter()
    preprocess(raw, out, recording.sensor, grid="published", progress=False)
    return time.perf_counter() - start


def limit(recording: Recording, raw: Path, out: Path, reference: Path) -> float:
    from ssmbook.dataset.compression import compress

    def write(written: h5py.Dataset, i: int, frame: np.ndarray) -> None:
        chunk = compress(frame)
        written.id.write_direct_chunk((i, 0, 0, 0), chunk.data, chunk.skipped)

    return read_and_write(recording, raw, out, reference, write)


def plain(recording: Recording, raw: Path, out: Path, reference: Path) -> float:
    def write(written: h5py.Dataset, i: int, frame: np.ndarray) -> None:
        written[i] = frame

    return read_and_write(recording, raw, out, reference, write)


def read_and_write(recording: Recording, raw: Path, out: Path, reference: Path, write: Callable) -> float:
    start = time.perf_counter()
    with h5py.File(raw / "val" / f"a{recording.suffix}") as file:
        columns = [file[f"events/{name}"] for name in "txyp"]
        for i in range(0, len(columns[0]), BLOCK):
            for column in columns:
                column[i : i + BLOCK]
    seconds = time.perf_counter() - start
    with h5py.File(frames_file(reference)) as kept:
        data = kept["data"]
        start = time.perf_counter()
        file, written = new_frames(out, data.shape)
        seconds += time.perf_counter() - start
        frame = np.empty(data.shape[1:], np.uint8)
        for i in range(len(data)):
            data.read_direct(frame, np.s_[i])  # not counted
            start = time.perf_counter()
            write(written, i, frame)
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        file.close()
    return seconds + time.perf_counter() - start


def torch_windows(recording: Recording, raw: Path, out: Path, reference: Path) -> float:
    import torch

    torch.set_num_threads(1)
    height, width = recording.size
    halve, bins = recording.sensor == "gen4", 10
    ends = np.load(frames_file(reference).with_name("timestamps_us.npy"))
    start = time.perf_counter()
    with h5py.File(raw / "val" / f"a{recording.suffix}") as file:
        stamps = np.maximum.accumulate(file["events/t"][:])
        shape = (2 * bins, height // 2, width // 2) if halve else (2 * bins, height, width)
        target, written = new_frames(out, (len(ends), *shape))
        for number, end in enumerate(ends):
            i = int(np.searchsorted(stamps, end - WINDOW_US, side="left"))
            j = int(np.searchsorted(stamps, end, side="right"))
            x, y, p = (torch.from_numpy(file[f"events/{name}"][i:j].astype(np.int64)) for name in "xyp")
            counts = torch.zeros((2, bins, height, width), dtype=torch.int16)
            if j > i:
                t = torch.from_numpy(stamps[i:j])
                part = (t - t[0]).float() / max(int(t[-1] - t[0]), 1)
                b = torch.clamp((bins * part).floor(), max=bins - 1).long()
                counts.index_put_((p, b, y, x), torch.ones((), dtype=torch.int16), accumulate=True)
            frame = counts.clamp_(max=10).to(torch.uint8).flatten(0, 1)
            if halve:
                frame = torch.nn.functional.interpolate(frame[None], scale_factor=0.5, mode="nearest-exact")[
                    0
                ]
            written[number] = frame.numpy()
        target.close()
    return time.perf_counter() - start


def evlib_rust(recording: Recording, raw: Path, out: Path, reference: Path) -> float:
    from evlib.rvt import process_sequence

    ends = np.load(frames_file(reference).with_name("timestamps_us.npy"))
    start = time.perf_counter()
    process_sequence(
        raw / "val" / f"a{recording.suffix}",
        out / "val" / "a",
        recording.sensor,
        *recording.size,
        ends,
        downsample_by_2=recording.sensor == "gen4",
        backend="rust",
    )
    return time.perf_counter() - start


PROGRAMS: dict[str, Callable[[Recording, Path, Path, Path], float]] = {
    "limit": limit,
    "plain": plain,
    "ours": ours,
    "torch": torch_windows,
    "evlib": evlib_rust,
}


def frames_file(out: Path) -> Path:
    return next(out.glob("val/a/event_representations_v2/*/event_representations*.h5"))


def new_frames(out: Path, shape: tuple[int, ...]) -> tuple[h5py.File, h5py.Dataset]:
    folder = out / "val" / "a" / "event_representations_v2" / "plain"
    folder.mkdir(parents=True)
    file = h5py.File(folder / "event_representations.h5", "w")
    blosc = hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE)
    return file, file.create_dataset("data", shape, "u1", chunks=(1, *shape[1:]), **blosc)


def digest(out: Path) -> str:
    """Of all frames."""
    hashed = hashlib.sha256()
    with h5py.File(frames_file(out)) as file:
        for frame in file["data"]:
            hashed.update(frame.tobytes())
    return hashed.hexdigest()


# Measuring


def measured(program: str, recording: Recording, folder: Path) -> dict:
    """One run in this process, which is new: seconds, peak MB, MB written, digest of the frames."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    run = PROGRAMS[program]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        out = Path(name)
        run(warm_up(recording), folder / "short", out / "short", folder / "short_ours")
        seconds = run(recording, folder / "raw", out / "out", folder / "ours")
        peak = status_mb("VmHWM")
        written = frames_file(out / "out").stat().st_size / 1e6
        return {"seconds": seconds, "peak_mb": peak, "written_mb": written, "digest": digest(out / "out")}


def warm_up(recording: Recording) -> Recording:
    return replace(recording, millions=0.01 * recording.millions, seconds=0.5)


def status_mb(field: str) -> float:
    line = next(
        line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith(field)
    )
    return int(line.split()[1]) / 1e3


def in_new_process(function: Callable, *arguments: object):
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def compare(recording: Recording, repeats: int, folder: Path) -> dict[str, dict]:
    """The best run of each program."""
    for raw, out, which in (("raw", "ours", recording), ("short", "short_ours", warm_up(recording))):
        generate(which, folder / raw)
        ours(which, folder / raw, folder / out, folder)
    programs = [name for name in PROGRAMS if name != "evlib" or importlib.util.find_spec("evlib")]
    rounds = [
        {program: in_new_process(measured, program, recording, folder) for program in programs}
        for _ in range(repeats)
    ]
    return {
        program: min((each[program] for each in rounds), key=lambda run: run["seconds"])
        for program in programs
    }


def print_comparison(recording: Recording, best: dict[str, dict]) -> None:
    print(f"\n{recording.sensor}-like: {recording.millions:g} M events, {recording.seconds:g} s")
    print(f"  {'':6}{'M events/s':>12}{'of limit':>10}{'peak MB':>9}{'written MB':>12}  frames")
    for program in PROGRAMS:
        if program not in best:
            print(f"  {program:6} not installed")
            continue
        row = best[program]
        rate, ratio = recording.millions / row["seconds"], row["seconds"] / best["limit"]["seconds"]
        same = "as ours" if row["digest"] == best["ours"]["digest"] else "others"
        print(f"  {program:6}{rate:12.1f}{ratio:9.2f}×{row['peak_mb']:9.0f}{row['written_mb']:12.1f}  {same}")


COPIES = "abcdefghijklmnop"


def measure_workers(recording: Recording, repeats: int, folder: Path) -> dict[str, dict[str, float]]:
    """Best seconds of one and two workers, for some numbers of recordings, and of one and two limits at once."""
    for name in COPIES[1:]:
        for suffix in (recording.suffix, "_bbox.npy"):
            target = folder / "many" / "val" / f"{name}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "raw" / "val" / f"a{suffix}", target)
    for suffix in (recording.suffix, "_bbox.npy"):
        (folder / "many" / "val" / f"a{suffix}").symlink_to(folder / "raw" / "val" / f"a{suffix}")
    for name in COPIES[:2]:
        for suffix in (recording.suffix, "_bbox.npy"):
            target = folder / "two_short" / "val" / f"{name}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(folder / "short" / "val" / f"a{suffix}")
    best: dict[str, dict[str, float]] = {"one": {}, "start": {}, "sixteen": {}, "limits": {}}
    for _ in range(repeats):
        for workers in (1, 2):
            seconds = {
                "one": min(with_workers(recording, folder, "raw", workers) for _ in range(3)),
                "start": with_workers(recording, folder, "two_short", workers),
                "sixteen": with_workers(recording, folder, "many", workers),
                "limits": limits_at_once(recording, folder, workers),
            }
            for row, value in seconds.items():
                best[row][str(workers)] = min(best[row].get(str(workers), np.inf), value)
    return best


def with_workers(recording: Recording, folder: Path, raw: str, workers: int) -> float:
    from ssmbook.dataset import preprocess

    start = time.perf_counter()
    preprocess(
        folder / raw, folder / "w", recording.sensor, grid="published", workers=workers, progress=False
    )
    seconds = time.perf_counter() - start
    shutil.rmtree(folder / "w")
    return seconds


def limits_at_once(recording: Recording, folder: Path, processes: int) -> float:
    """Mean seconds of the limit for a recording, where each process does it four times and all at once."""
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, context) as pool:
        barrier = manager.Barrier(processes)
        calls = [pool.submit(some_limits, recording, folder, barrier, n) for n in range(processes)]
        return float(np.mean([call.result() for call in calls])) / processes


def some_limits(recording: Recording, folder: Path, barrier: Any, number: int) -> float:
    limit(warm_up(recording), folder / "short", folder / f"l{number}", folder / "short_ours")
    shutil.rmtree(folder / f"l{number}")
    barrier.wait()
    seconds = 0.0
    for _ in range(4):
        seconds += limit(recording, folder / "raw", folder / f"l{number}", folder / "ours")
        shutil.rmtree(folder / f"l{number}")
    return seconds / 4


def print_workers(best: dict[str, dict[str, float]]) -> None:
    sixteen, start = best["sixteen"], best["start"]
    rows = {
        "one recording, two workers (threads)": best["one"],
        "sixteen recordings, two workers": sixteen,
        f"the same without the {start['2']:.1f} s to start": {n: sixteen[n] - start[n] for n in sixteen},
        "the limit, two processes at once": best["limits"],
    }
    for text, seconds in rows.items():
        one, two = seconds["1"], seconds["2"]
        print(f"  {text:42}{one / two:.2f} × as fast as one ({one:.2f} and {two:.2f} s)")


def measure_memory(millions: list[float], folder: Path) -> list[dict]:
    rows = []
    print("\npeak memory of one process over the length of a 1 Mpx-like recording, with one and two threads")
    for count in millions:
        recording = Recording("gen4", count, count / 6)
        raw = folder / f"{count:g}"
        in_new_process(generate, recording, raw)
        for workers in (1, 2):
            result = in_new_process(peak_of_one, recording, raw, folder / "out", workers)
            rows.append({"millions": count, "workers": workers, **result})
            print(
                f"  {count:6g} M events, {recording.seconds:6.0f} s, {workers}: {result['peak_mb']:4.0f} MB, "
                f"{count / result['seconds']:.1f} M events/s",
                flush=True,
            )
            shutil.rmtree(folder / "out")
        shutil.rmtree(raw)
    return rows


def peak_of_one(recording: Recording, raw: Path, out: Path, workers: int) -> dict[str, float]:
    from ssmbook.dataset import preprocess

    start = time.perf_counter()
    preprocess(raw, out, recording.sensor, grid="published", workers=workers, progress=False)
    return {"seconds": time.perf_counter() - start, "peak_mb": status_mb("VmHWM")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=1, help="lengthen or shorten the recordings")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--rounds", type=int, default=3, help="of one and two workers; each takes a minute or two"
    )
    parser.add_argument("--memory", type=float, nargs="+", help="millions of events; measures only that")
    parser.add_argument("--folder", type=Path, help="where recordings are written for the while")
    parser.add_argument("--out", type=Path, help="also write the results to this json file")
    options = parser.parse_args()
    results: dict[str, object] = {"machine": platform.machine(), "python": platform.python_version()}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        if options.memory:
            results["memory"] = measure_memory(options.memory, Path(name))
        else:
            results["recordings"] = []
            for each in RECORDINGS:
                recording = replace(
                    each, millions=options.scale * each.millions, seconds=options.scale * each.seconds
                )
                folder = Path(name) / recording.sensor
                best = compare(recording, options.repeats, folder)
                print_comparison(recording, best)
                workers = measure_workers(recording, options.rounds, folder)
                print_workers(workers)
                results["recordings"].append({**asdict(recording), "programs": best, "workers": workers})
                shutil.rmtree(folder)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

"""What the benchmarks share: best times of interleaved rounds, peak memory, and the circumstances of a figure."""

import ctypes
import json
import multiprocessing
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ssmbook.files import atomic_write

Run = Callable[[], object]


def best_ms(runs: dict[str, Run], repeats: int, device: str) -> dict[str, float]:
    """Best time of each run in ms, in interleaved rounds, so that a busy moment of the machine hits all alike."""

    def timed(run: Run) -> float:
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    for run in runs.values():
        timed(run)  # compiles, allocates
    rounds = [{name: timed(run) for name, run in runs.items()} for _ in range(repeats)]
    return {name: min(times[name] for times in rounds) for name in runs}


def peak_mb(run: Run, device: str) -> float:
    """Peak memory of a run above what was held before it, in MB. The libraries that it needs must be loaded.

    The CPU's is that of the whole process, of which a run before leaves free memory behind: see `alone`.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    ctypes.CDLL(None).malloc_trim(0)  # what was freed while the run was made is not held
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is now the present size
    before = status_kb("VmRSS")
    run()
    return (status_kb("VmHWM") - before) / 1e3


def status_kb(field: str) -> int:
    line = next(
        line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith(field)
    )
    return int(line.split()[1])


def alone(device: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` in a process of its own; on a GPU in this one, whose allocator counts exactly."""
    if device == "cuda":
        torch.cuda.empty_cache()
        return function(*arguments)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def exact_float32() -> None:
    """No TF32 in products and convolutions, for this process."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def circumstances(device: str) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write_results(path: Path, results: Any) -> None:
    """Write json, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(f"{json.dumps(results, indent=1)}\n".encode())

"""Everything that wants a GPU, in one run and within a time.

    PYTHONPATH=. python benchmarks/gpu.py --out benchmarks/results --minutes 9
    PYTHONPATH=. python benchmarks/gpu.py --out /tmp/tiny --tiny --device cpu      # does it all run?

The parts, each in a process of its own, so that one that fails leaves the others:

kernels     the scan against the loop in float64, forward and gradients
agreement   the detector against the plain formulation, in fp32 without TF32, frame by frame through the CUDA graph too
streaming   ms of one frame of batch 1, state carried: plain, ours (CUDA graph), limit
training    ms of a training step and of the backbone, fp32 and bf16, and peak memory
precision   the loss over a short training in fp32 and in bf16
scan        the table of benchmarks/scan.py
study       trains and evaluates the study profile, model by model; the same command goes on where it stopped

gpu.json has the results of each part as soon as there are any. It needs torch, numpy, numba, einops and tqdm; study
needs all that ssmbook does. A part that fails (a package that is missing, too) has its error in gpu.json. The exit
status is 1 if a kernel or the detector disagrees with its reference, or could not be checked: then no timing counts.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import agreement
import detector
import scan
import torch
from measuring import circumstances, exact_float32, write_results

from ssmbook.detector import Detector

Keep = Callable[[dict[str, Any]], None]  # writes what a part has found so far


@dataclass(frozen=True)
class Settings:
    """How large, how often, how long."""

    device: str = "cuda"
    presets: tuple[str, ...] = ("gen1-small", "gen1-base")  # the first one trains
    small: str = "sim-tiny"  # for the other recurrences
    length: int = 21
    repeats: int = 20  # rounds, of which the best counts
    steps: int = 200  # of the short training
    kernels: tuple[tuple[int, int, int], ...] = tuple(agreement.KERNEL_SHAPES)
    scans: tuple[tuple[int, int, int], ...] = tuple(scan.SHAPES)
    pixels: tuple[tuple[int, int], ...] = tuple(scan.PIXELS)
    memory: bool = True
    profile: Any = "study"
    data_dir: str = ""
    deadline: float = float("inf")  # by time.time()


TINY = Settings(
    presets=("sim-smoke",),
    small="sim-smoke",
    length=4,
    repeats=1,
    steps=2,
    kernels=((2, 3, 5),),
    scans=((4, 5, 6),),
    pixels=((3, 4),),
    memory=False,
    profile="smoke",
)


def kernels(settings: Settings, keep: Keep) -> dict[str, Any]:
    rows = agreement.check_kernels(settings.device, list(settings.kernels))
    failed = [row for row in rows if not row["passes"]]
    print(f"{len(rows) - len(failed)} of {len(rows)} cases agree with the oracle")
    for row in failed:
        print(f"  differs: {row}")
    return {"passes": not failed, "rows": rows}


def agreements(settings: Settings, keep: Keep) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []

    def result() -> dict[str, Any]:
        return {"passes": all(row["passes"] for row in rows), "rows": rows}

    for preset in settings.presets:
        for row in agreement.check_detector(settings.device, preset, settings.length):
            _note(row, rows, keep, result)
    for recurrence in ("s5-selective", "mamba", "s4d", "s4", "convlstm", "none"):
        for row in agreement.check_recurrence(settings.device, settings.small, recurrence):
            _note(row, rows, keep, result)
    return result()


def _note(row: dict[str, Any], rows: list[dict[str, Any]], keep: Keep, result: Callable[[], Any]) -> None:
    print(f"{row['row']:60} ours {row['ours']:.1e}, plain {row['plain']:.1e}, {row['passes']}", flush=True)
    rows.append(row)
    keep(result())


def streaming(settings: Settings, keep: Keep) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for preset in settings.presets:
        for row in detector.measure_streaming(settings.device, preset, 10 * settings.repeats):
            detector.print_row(row)
            rows.append(row)
            keep({"rows": rows})
    return {"rows": rows}


def training(settings: Settings, keep: Keep) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    sizes = {"preset": settings.presets[0], "length": settings.length}
    table = detector.measure_chunks(
        settings.device, repeats=settings.repeats, memory=settings.memory, **sizes
    )
    for row in table:
        detector.print_row(row)
        rows.append(row)
        keep({**sizes, "rows": rows})
    return {**sizes, "rows": rows}


def precision(settings: Settings, keep: Keep) -> dict[str, Any]:
    """The same training in both precisions, on four chunks in turn, by the published rule."""
    found: dict[str, Any] = {
        "preset": settings.presets[0],
        "length": settings.length,
        "steps": settings.steps,
    }
    for name, bf16 in (("fp32", False), ("bf16", True)):
        start = time.perf_counter()
        losses = train(detector.network(settings.presets[0], settings.device), bf16, settings)
        last = losses[-4:]
        found[name] = {
            "losses": losses[:: max(1, settings.steps // 20)],
            "last": sum(last) / len(last),
            "ms per step": 1e3 * (time.perf_counter() - start) / settings.steps,
        }
        print(f"{name}: loss {losses[0]:.3f} → {found[name]['last']:.3f} after {settings.steps} steps")
        keep(found)
    return found


def train(model: Detector, bf16: bool, settings: Settings) -> list[float]:
    """AdamW at 2e-4, gradients clipped by value at 1; the loss of each step."""
    chunks = [detector.chunk(model, settings.length, settings.device, seed) for seed in range(4)]
    optimizer = torch.optim.AdamW(model.parameters(), 2e-4, weight_decay=0.0, fused=True)
    losses = []
    for k in range(settings.steps):
        x, frames, targets = chunks[k % len(chunks)]
        with torch.autocast(settings.device, torch.bfloat16, enabled=bf16):
            features, _ = model.features(x, frames=frames)
            loss = model.loss(features, targets)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def scan_table(settings: Settings, keep: Keep) -> dict[str, Any]:
    table, steps = [], []
    for shape in settings.scans:
        layers = scan.measure_shape(shape, settings.repeats, settings.memory, settings.device)
        scan.print_shape(shape, layers)
        table.append({"shape": shape, "layers": layers})
        keep({"table": table, "steps": steps})
    for pixels, width in settings.pixels:
        ms = scan.measure_step(pixels, width, settings.repeats, settings.device)
        steps.append({"pixels": pixels, "width": width, "ms": ms})
        keep({"table": table, "steps": steps})
    return {"table": table, "steps": steps}


def study(settings: Settings, keep: Keep) -> dict[str, Any]:
    """Seed by seed and model by model, while there is time for another as long as the last."""
    import pandas as pd

    from ssmbook.study import Workspace, pivot, run_arms

    book = Workspace(settings.profile, settings.data_dir, workers=os.cpu_count() or 1)
    book.preprocessed()
    units = [(seed, name) for seed in book.seeds for name in book.profile.variants]
    found: dict[str, Any] = {"missing": list(units), "rows": []}
    tables: list[pd.DataFrame] = []
    longest = 0.0
    while units and time.time() + longest < settings.deadline:
        (seed, name), start = units.pop(0), time.time()
        arms = [arm for arm in book.profile.arms if arm.variant == name]
        tables.append(run_arms(book.with_seed(seed), arms, device=settings.device))
        longest = max(longest, time.time() - start)
        rows = pd.concat(tables, ignore_index=True)
        print(f"{name}, seed {seed}: {time.time() - start:.0f} s\n{pivot(tables[-1])}", flush=True)
        found = {"missing": list(units), "rows": rows.to_dict("records")}
        keep(found)
    return found


PARTS: dict[str, Callable[[Settings, Keep], dict[str, Any]]] = {
    "kernels": kernels,
    "agreement": agreements,
    "streaming": streaming,
    "training": training,
    "precision": precision,
    "scan": scan_table,
    "study": study,
}
CHECKS = ("kernels", "agreement")  # without which no timing counts


def run_part(name: str, settings: Settings, path: Path) -> None:
    """Run a part here; what it finds, or how it fails, goes to the file."""
    exact_float32()
    record = circumstances(settings.device)
    try:
        found = PARTS[name](settings, lambda so_far: update(path, name, {**record, **so_far}))
        update(path, name, {**record, **found, "finished": True})
    except Exception as error:
        traceback.print_exc()
        fail(path, name, traceback.format_exception_only(error)[-1].strip())


def run_parts(names: list[str], settings: Settings, path: Path) -> dict[str, Any]:
    """Run parts one after another, each in a process of its own, until the deadline; all that is known of them."""
    context = multiprocessing.get_context("spawn")
    for name in names:
        update(path, name, {})  # what an earlier run has found does not count for this one
        print(f"\n{name}", flush=True)
        process = context.Process(target=run_part, args=(name, settings, path))
        left = settings.deadline - time.time()
        if left <= 0:
            fail(path, name, "not begun: the time was over")
            continue
        process.start()
        process.join(min(left, 1e6))  # longer waits overflow
        if process.is_alive():
            stop(process)
            fail(path, name, "stopped: the time was over")
        elif process.exitcode:
            fail(path, name, f"its process ended with status {process.exitcode}")
    return read(path)


def stop(process: Any) -> None:
    """Ask a process to end, which lets a training save its state; after ten seconds end it."""
    process.terminate()
    process.join(10)
    if process.is_alive():
        process.kill()
        process.join()


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def update(path: Path, name: str, found: dict[str, Any]) -> None:
    """Set one part's results in the file."""
    write_results(path, {**read(path), name: found})


def fail(path: Path, name: str, reason: str) -> None:
    """Add to what a part has found why it went no further."""
    print(f"{name}: {reason}", flush=True)
    update(path, name, {**read(path).get(name, {}), "failed": reason})


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for gpu.json")
    add("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), help="default: all, in this order")
    add("--minutes", type=float, default=60.0, help="for all parts together (default: 60)")
    add("--repeats", type=int, default=20, help="rounds, of which the best counts (default: 20)")
    add("--device", default="cuda", choices=["cuda", "cpu"])
    add("--tiny", action="store_true", help="the smallest sizes, to see that it runs")
    add("--data-dir", default="", help="of the study (default: data/study)")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU; benchmarks/scan.py and detector.py measure the CPU")
    settings = TINY if options.tiny else Settings(repeats=options.repeats)
    deadline = time.time() + 60 * options.minutes
    settings = replace(settings, device=options.device, data_dir=options.data_dir, deadline=deadline)
    found = run_parts(options.parts, settings, options.out / "gpu.json")
    for name in options.parts:
        state = "done" if found[name].get("finished") else found[name].get("failed", "no results")
        print(f"{name:12}{state}")
    wrong = [name for name in options.parts if not found[name].get("passes", True)]
    wrong += [name for name in CHECKS if name in options.parts and not found[name].get("finished")]
    print(
        f"disagrees, or was not checked: {', '.join(wrong)}"
        if wrong
        else "nothing disagrees with its reference"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

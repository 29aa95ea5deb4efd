"""Worker processes of the loader: ours against spawned ones, from the start to the first batch.

    python benchmarks/workers.py                    # 2 and 4 workers; --workers 8 for others
    python benchmarks/workers.py --out results/workers_cpu.json

Both ways give the same batches of a small generated set. Each measurement is made in a process of its own, which has
imported PyTorch and the loader, as a training has when it comes to its data; the ways take turns, and the best of
several rounds counts. Ours is measured twice: the first loader of a process, and the next one (that of validation,
or of another training), for which the process that imports is there already. Memory is what the workers and that
process have beside what they share (PSS, added up; Linux).
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

# All else is imported where it is used: workers import this file, too.


def first_batch(folder: Path, workers: int) -> dict[str, float]:
    """Seconds to the first batch, and the children's CPU seconds and MB then."""
    from ssmbook.dataset import EventDataModule

    data = EventDataModule(folder, sequence_length=3, batch_size=2, workers=workers, sampling="random")
    here = psutil.Process()
    before = sum(sum(child.cpu_times()[:2]) for child in here.children(recursive=True))
    start = time.perf_counter()
    batches = iter(data.train_dataloader())
    next(batches)
    seconds = time.perf_counter() - start
    children = here.children(recursive=True)
    cpu = sum(sum(child.cpu_times()[:2]) for child in children) - before
    memory = sum(child.memory_full_info().pss for child in children) / 1e6
    return {"seconds": seconds, "cpu_seconds": cpu, "mb": memory}


def measure_here(kind: str, folder: Path, workers: int) -> list[dict[str, float]]:
    """The first loader of this process and the next one."""
    import torch

    from ssmbook.dataset import loader

    torch.set_num_threads(1)
    if kind == "spawned":
        loader.worker_context = lambda module: get_context("spawn")
    return [first_batch(folder, workers) for _ in range(2)]


def measure(kind: str, folder: Path, workers: int) -> list[dict[str, float]]:
    """`measure_here` in a new process."""
    words = [sys.executable, "-W", "ignore", __file__, "--one", kind, "--set", str(folder)]
    run = subprocess.run([*words, "--workers", str(workers)], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def rows_of(folder: Path, counts: list[int], repeats: int) -> list[dict[str, Any]]:
    """A row for each number of workers, way, and first or next loader: the best of the rounds."""
    rows = []
    for workers in counts:
        found: dict[str, list[list[dict[str, float]]]] = {"spawned": [], "ours": []}
        for _ in range(repeats):
            for kind, rounds in found.items():
                rounds.append(measure(kind, folder, workers))
        for kind, rounds in found.items():
            for number, which in enumerate(("first", "next")):
                best = min((each[number] for each in rounds), key=lambda values: values["seconds"])
                rows.append({"workers": workers, "way": kind, "loader": which, **best})
                print(
                    ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in rows[-1].items())
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--workers", type=int, nargs="+", default=[2, 4], help="of a loader (default: 2 4)")
    add("--repeats", type=int, default=3, help="rounds (default: 3)")
    add("--set", type=Path, help="a preprocessed set; generated without")
    add("--one", choices=["spawned", "ours"], help="measure this way in this process, and print it as json")
    add("--out", type=Path, help="json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_here(options.one, options.set, options.workers[0])))
        return
    import torch
    from loader import generate

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.set or Path(temporary)
        if options.set is None:
            generate(folder / "train", (20, 48, 64), sequences=8, windows=40, events=500)
        rows = rows_of(folder, options.workers, options.repeats)
    if options.out:
        record = {"rows": rows, "machine": platform.machine(), "torch": torch.__version__}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

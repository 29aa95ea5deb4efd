"""Preprocessing, one training run and a sweep, by one process and by two: one command, one table.

    python benchmarks/scaling.py                             # about half an hour on two free cores
    python benchmarks/scaling.py --base smoke --steps 2 --repeats 1    # a look at whether it runs

Every process has one thread. Each row is a command in processes of its own, from its start to its end, so that starting
and importing count as they do for whoever types it; the best of several interleaved rounds. Preprocessing: the 96
recordings of the profile `demo`. Training: its ConvLSTM, the batch whole or shared by two processes. Sweep: four models
(two variants, two seeds), each trained and run at two rates.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measuring import circumstances, write_results

from ssmbook.dataset import get_sensor
from ssmbook.study import get_profile

PROCESSES = (1, 2)
SENSOR = "width: {width}\nheight: {height}\nclasses: [car, pedestrian]\nlabel_interval_ms: 50\n"
PROFILE = """base: {base}
seeds: [0, 1]
training: {{steps: {steps}, validate_every: {steps}}}
arms:
  - {{variant: s5-selective, mode: sliding, follow: true, rates_hz: [20, 40]}}
  - {{variant: convlstm, mode: sliding, rates_hz: [20, 40]}}
"""


def preprocess(folder: Path, processes: int) -> list[str]:
    shutil.rmtree(folder / "out", ignore_errors=True)
    words = [str(folder / "data" / "raw"), str(folder / "out"), "--sensor", str(folder / "sensor.yaml")]
    return ["preprocess", *words, "--workers", str(processes)]


def training(folder: Path, processes: int) -> list[str]:
    shutil.rmtree(folder / "data" / "runs", ignore_errors=True)
    words = ["--profile", str(folder / "scaling.yaml"), "--data-dir", str(folder / "data")]
    return ["train", *words, "--recurrence", "convlstm", "--accelerator", "cpu", "--devices", str(processes)]


def sweep(folder: Path, processes: int) -> list[str]:
    for name in ("runs", "sweep"):
        shutil.rmtree(folder / "data" / name, ignore_errors=True)
    words = [str(folder / "scaling.yaml"), "--data-dir", str(folder / "data")]
    return ["sweep", *words, "--device", "cpu", "--workers", str(processes)]


PARTS: dict[str, Callable[[Path, int], list[str]]] = {
    "preprocessing": preprocess,
    "training": training,
    "sweep": sweep,
}


def seconds_of(words: list[str], folder: Path) -> float:
    """From the start of a command of the book to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ssmbook", *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"ssmbook {' '.join(words)}: {done.stderr}")
    return time.perf_counter() - start


def measure(folder: Path, base: str, steps: int, repeats: int) -> Iterator[list[dict[str, Any]]]:
    """A row per part and number of processes: seconds, and how many times as fast as one process. After each command
    those that there are, so that one that is stopped has measured something."""
    (folder / "data").mkdir()
    sensor = get_sensor(get_profile(base).sensor)
    (folder / "sensor.yaml").write_text(SENSOR.format(width=sensor.width, height=sensor.height))
    (folder / "scaling.yaml").write_text(PROFILE.format(base=base, steps=steps))
    seconds_of(sweep(folder, 1), folder)  # makes the sets that all rounds use, and compiles
    best: dict[tuple[str, int], float] = {}
    for _ in range(repeats):
        for part, command in PARTS.items():
            for processes in PROCESSES:
                seconds = seconds_of(command(folder, processes), folder)
                best[part, processes] = min(best.get((part, processes), seconds), seconds)
                print(f"{part}, {processes} processes: {seconds:.1f} s", flush=True)
                yield [
                    {"part": part, "processes": n, "seconds": seconds, "times": best[part, 1] / seconds}
                    for (part, n), seconds in best.items()
                ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60, help="of each training (default: 60)")
    parser.add_argument("--base", default="demo", help="profile of the data (default: demo)")
    parser.add_argument("--repeats", type=int, default=2, help="rounds (default: 2)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "scaling_cpu.json", help="the results"
    )
    options = parser.parse_args()
    settings = {"base": options.base, "steps": options.steps, "cores": os.cpu_count()}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in measure(Path(folder), options.base, options.steps, options.repeats):
            write_results(options.out, {**circumstances("cpu"), **settings, "rows": rows})
    print("| part | processes | s | times as fast |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['part']} | {row['processes']} | {row['seconds']:.1f} | {row['times']:.2f} |")


if __name__ == "__main__":
    main()

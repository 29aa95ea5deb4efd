"""Kills at random moments: what is run again ends as if it had never been killed, byte for byte, and leaves nothing.

    python -m tests.kills train --workers 0 --moments 100
    python -m tests.kills preprocess --workers 2 --moments 100
    python -m tests.kills download --moments 100       # a set from a slow server of this machine, then unpacked
    python -m tests.kills sweep --moments 20           # simulates, preprocesses, trains and evaluates a model
    python -m tests.kills reproduce --beside 2         # all chapters in their smallest profile, 2 minutes a time

Each work is first run whole in a process of its own, for ten moments or more twice. Then, again and again, such a
process is killed (SIGKILL) at a random moment of that time, and the work is run to its end. Compared are the files that
do not hold times of day or speeds; nothing that was finished may be written again, and no file or process of the killed
one may remain. Ctrl-C ends it after the kill at hand, with a row of those done.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
from tqdm import trange

sys.path.insert(0, str(Path(__file__).parent))

from reports import put

PATIENCE_S = 10  # in which the processes of a killed one must end
ROOT = Path(__file__).resolve().parents[1]
#: Files that hold times of day or speeds.
TIMES = re.compile(
    r"(.*/)?metrics\.csv|.*provenance\.json|.*\.png|.*/(rates|sweep)/\w+\.json|data/smoke/(book|own)/.*|data/tables/smoke/long_range\.csv"
)


@dataclass
class Outcome:
    """What came of the kills of one work."""

    work: str
    workers: int
    moments: int = 0
    unfinished: int = 0  # kills that hit before the end
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def row(self) -> str:
        counts = f"{self.moments} | {self.unfinished} | {len(self.faults)} | {self.seconds:.0f}"
        return f"| {self.work}, {self.workers} workers | {counts} |"


def preprocess_again(source: Path, out: Path, workers: int) -> None:
    from training_set import SENSOR

    from ssmbook.dataset import preprocess

    preprocess(source / "raw", out, sensor=SENSOR, workers=workers, progress=False)


def train_again(source: Path, out: Path, workers: int) -> None:
    import torch
    from training_set import SENSOR, TRAINING, data_module

    from ssmbook.detector import PRESETS, Detector
    from ssmbook.training import train

    training = replace(TRAINING, save_every=1, workers=workers)
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"])
    data = data_module(source / "set", training)
    data.workers = workers
    train(model, data, out, sensor=SENSOR, training=training, accelerator="cpu")


def download_again(source: Path, out: Path, workers: int) -> None:
    from ssmbook.dataset import published
    from ssmbook.dataset.download import Source

    url, crc32 = (source / "server").read_text().split()
    published.PREPROCESSED["gen1"] = Source(url, int(crc32))
    published.download_set("gen1", out, progress=False)


def sweep_again(source: Path, out: Path, workers: int) -> None:
    from ssmbook.study import Workspace, run_arms

    out.mkdir(exist_ok=True)
    (out / "myst.yml").touch()  # the book's folder, where the tables go
    os.chdir(out)
    run_arms(Workspace(str(source / "one.yaml"), workers=1), progress=False, workers=workers)


def reproduce_again(source: Path, out: Path, workers: int) -> None:
    from ssmbook.study.chapters import reproduce

    if not out.exists():
        for name in ("notebooks", "data/tables", "benchmarks", "tests/data"):
            shutil.copytree(ROOT / name, out / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (out / "myst.yml").touch()
    os.chdir(out)
    reproduce("smoke", parameters={"workers": workers} if workers > 1 else {})


@contextmanager
def _nothing(source: Path, found: Outcome) -> Iterator[None]:
    yield


@contextmanager
def _set(source: Path, found: Outcome) -> Iterator[None]:
    from training_set import make_set

    _wait(_start(lambda: make_set(source, train=4)), found, "the set")
    yield


@contextmanager
def _server(source: Path, found: Outcome) -> Iterator[None]:
    """A process that serves an archive, a tenth of it every 20 ms."""
    from download_server import Server, tar_of

    server, rng = Server(), random.Random(0)
    server.pause_s = 0.02
    names = [f"gen1/{split}/{number}/x" for split in ("train", "val", "test") for number in range(40)]
    content = tar_of({name: rng.randbytes(10_000) for name in names})
    address = server.source("gen1.tar", content)
    source.mkdir()
    (source / "server").write_text(f"{address.url} {zlib.crc32(content)}")
    child = _start(server.serve_forever)
    server.server_close()
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextmanager
def _profile(source: Path, found: Outcome) -> Iterator[None]:
    source.mkdir()
    (source / "one.yaml").write_text(
        "base: smoke\n"
        "training: {steps: 2, sequence_length: 3, validate_every: 2}\n"
        "arms: [{variant: s5, mode: sliding, follow: true, rates_hz: [20, 40]}]\n"
    )
    yield


@dataclass(frozen=True)
class Work:
    """What is killed: ``call(source, out, workers)``, with what ``source`` must hold for as long as it is done.

    ``finished``: the paths, below ``out``, of what need not be made again.
    """

    call: Callable[[Path, Path, int], None]
    source: Callable[[Path, Outcome], Any]
    finished: re.Pattern[str]


WORKS = {
    "preprocess": Work(preprocess_again, _set, re.compile(r".*/event_representations_v2/.*")),
    "train": Work(train_again, _set, re.compile(r"model\.ckpt")),
    "download": Work(download_again, _server, re.compile(r"(train|val|test)/.*")),
    "sweep": Work(
        sweep_again,
        _profile,
        re.compile(r".*/(raw/.*_td\.dat|event_representations_v2/.*|model\.ckpt|rates/\w+\.json)"),
    ),
    "reproduce": Work(
        reproduce_again,
        _nothing,
        re.compile(r"data/smoke/(raw/.*_td\.dat|sets/.*/event_representations_v2/.*|runs/s5/model\.ckpt)"),
    ),
}


def kills_beside(work: str, workers: int, moments: int, seed: int, beside: int) -> Outcome:
    """The same moments shared by so many processes, each with a folder of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the lanes
    shares = [moments // beside + (lane < moments % beside) for lane in range(beside)]
    with ProcessPoolExecutor(beside, get_context("fork")) as pool:
        lanes = pool.map(kills, repeat(work), repeat(workers), shares, range(seed, seed + beside))
    found = Outcome(work, workers)
    for lane in lanes:
        found.moments += lane.moments
        found.unfinished += lane.unfinished
        found.seconds = max(found.seconds, lane.seconds)
        found.faults += lane.faults
    return found


def kills(work: str, workers: int, moments: int, seed: int = 0) -> Outcome:
    """Kill a work at so many random moments, and finish it each time."""
    stopped: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))
    call, rng, found = WORKS[work].call, random.Random(f"{work} {workers} {seed}"), Outcome(work, workers)
    with tempfile.TemporaryDirectory() as folder, WORKS[work].source(Path(folder) / "source", found):
        source, out = Path(folder) / "source", Path(folder) / "out"
        begun = time.monotonic()
        _wait(_start(lambda: call(source, out, workers)), found, "the whole run")
        length, right = time.monotonic() - begun, _contents(out)
        if moments >= 10:  # of a second run, since the first one compiles: more kills hit before the end
            shutil.rmtree(out)
            start = time.monotonic()
            _wait(_start(lambda: call(source, out, workers)), found, "the second run")
            length = time.monotonic() - start
            _compare(right, _contents(out), {}, out, found, length)
        names = {path.name for path in Path(folder).iterdir()}
        for _ in trange(moments, desc=work, disable=None):
            if stopped:
                break
            shutil.rmtree(out)
            after = rng.uniform(0, length)
            found.moments += 1
            done = _killed(_start(lambda: call(source, out, workers)), after, out, found)
            found.unfinished += not done.pop("", None)
            _wait(_start(lambda: call(source, out, workers)), found, f"after {after:.2f} s")
            _compare(right, _contents(out), done, out, found, after)
            if left := {path.name for path in Path(folder).iterdir()} - names:
                found.faults.append(f"after {after:.2f} s: {left} is left")
        found.seconds = time.monotonic() - begun
    return found


def _start(call: Callable[[], None]) -> int:
    """A child that makes a call, in a session of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            call()
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}"[:300], flush=True)
        finally:
            os._exit(code)
    return child


def _wait(child: int, found: Outcome, when: str) -> None:
    if status := os.waitpid(child, 0)[1]:
        found.faults.append(f"{when}: ended with status {os.waitstatus_to_exitcode(status)}")


def _killed(child: int, after: float, out: Path, found: Outcome) -> dict[str, float]:
    """Kill it; the times of the finished files that it has left, and under "" whether it had ended."""
    until = time.monotonic() + after
    while time.monotonic() < until and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.002)
    try:
        process = psutil.Process(child)
        helpers = process.children(recursive=True)
        process.send_signal(signal.SIGKILL)
        os.waitpid(child, 0)
        ended = False
    except (psutil.NoSuchProcess, ChildProcessError):
        helpers, ended = [], True
    alive = psutil.wait_procs(helpers, PATIENCE_S)[1]
    if alive:
        found.faults.append(f"after {after:.2f} s: {len(alive)} processes are left")
    finished = WORKS[found.work].finished
    times = {name: _made(out / name) for name in _contents(out) if finished.fullmatch(name)}
    return {**times, **({"": 1} if ended else {})}


def _made(path: Path) -> int:
    """When a file was made; that it was changed is the time which an archive states."""
    return path.stat().st_ctime_ns


def _contents(out: Path) -> dict[str, str]:
    """Checksums of the files below a folder."""
    files = [path for path in out.rglob("*") if path.is_file()] if out.exists() else []
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _compare(
    right: dict[str, str],
    now: dict[str, str],
    done: dict[str, float],
    out: Path,
    found: Outcome,
    after: float,
) -> None:
    when = f"after {after:.2f} s"
    if right.keys() != now.keys():
        found.faults.append(f"{when}: files {sorted(right.keys() ^ now.keys())[:3]} are missing or left")
    for name in right.keys() & now.keys():
        if not TIMES.fullmatch(name) and right[name] != now[name]:
            found.faults.append(f"{when}: {name} differs")
    again = [name for name, made in done.items() if name in now and _made(out / name) != made]
    if again:
        found.faults.append(f"{when}: {again[0]} was made again")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("works", choices=WORKS, nargs="+", metavar="work", help=", ".join(WORKS))
    parser.add_argument("--workers", type=int, default=0, help="of the work (default: 0)")
    parser.add_argument("--moments", type=int, default=20, help="kills (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--beside", type=int, default=1, help="processes that share the moments (default: 1)")
    parser.add_argument(
        "--report", type=Path, help="also write the table into this file, between its markers"
    )
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of several processes wait for each other
    # Imported once, for all children.
    import training_set  # noqa: F401

    import ssmbook.study
    import ssmbook.training.run  # noqa: F401

    table = ["| work | kills | before its end | faults | s |", "|---|---|---|---|---|"]
    print("\n".join(table))
    failed = False
    for work in options.works:
        workers = max(
            options.workers, int(work in ("preprocess", "sweep"))
        )  # with 1 they work in this process
        found = kills_beside(work, workers, options.moments, options.seed, options.beside)
        table.append(found.row())
        print(table[-1], flush=True)
        for fault in found.faults[:10]:
            print(f"    {fault}", file=sys.stderr)
        failed = failed or bool(found.faults)
    if options.report:
        put(options.report, "kills", table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

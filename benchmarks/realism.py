"""The simulator beside real recordings, pixel by pixel: one command.

    python benchmarks/realism.py ../shared/recordings --json benchmarks/results/realism.json

Two comparisons, each at equal duration, since the share of silent pixels and the times between events depend on it:
a street seen from a car by a 1280 × 720 camera (8.8 ms), and people seen by a moving DAVIS346 (PEDRo: five windows
of 40 ms). Simulated windows come from three sequences of ``DRIVING_SCENE`` at 346 × 260 px, for two pixel models.
The recordings are not part of this repository; what is committed are the measures and the recordings' hashes.
"""

import argparse
import hashlib
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from measuring import write_results

from ssmbook.events import Events, open_events
from ssmbook.events.pixel_statistics import pixel_statistics
from ssmbook.events.simulate import DRIVING_SCENE, PIXELS, SimulatedSequence

DRIVE = "driving_1mpx_gen41_evt3.raw"
WIDTH, HEIGHT = 346, 260
MODELS = ("book", "v2e")


def row(
    name: str, kind: str, windows: Iterable[Events], size: tuple[int, int], window_us: int, sha: str = ""
) -> dict:
    found = asdict(pixel_statistics(windows, *size, window_us))
    measures = {k: v.round(5).tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}
    return (
        {"name": name, "kind": kind, "width": size[0], "height": size[1], "window_ms": window_us / 1000}
        | measures
        | ({"sha256": sha} if sha else {})
    )


def real_drive(folder: Path) -> tuple[dict, int]:
    path = folder / DRIVE
    with open_events(path) as recording:
        events = recording.read(recording.start_us, recording.end_us + 1)
        size = recording.width or 0, recording.height or 0
    window_us = int(events.t[-1] - events.t[0])
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    return row("street, Gen4.1", "real", [events], size, window_us, sha), window_us


def pedro(folder: Path) -> dict:
    paths = sorted((folder / "pedro" / "numpy").glob("*/*.npy"))
    columns = [np.load(path).T for path in paths]
    windows = [
        Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8)) for t, x, y, p in columns
    ]
    sha = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return row("people, DAVIS346", "real", windows, (WIDTH, HEIGHT), 40_000, sha)


def simulated(model: str, window_us: int, seconds: float) -> dict:
    """Windows 100 ms apart of three sequences: still, and with the background at 60 and 120 px/s."""
    windows = []
    for seed, speed in enumerate((0.0, 60.0, 120.0)):
        scene = replace(DRIVING_SCENE, width=WIDTH, height=HEIGHT, duration_s=seconds, background_speed=speed)
        events = Events.concatenate(list(SimulatedSequence(scene, PIXELS[model], seed).events()))
        for start in range(100_000, round(seconds * 1e6) - window_us, 100_000):
            windows.append(events[(events.t >= start) & (events.t < start + window_us)])
    return row(f"simulated street, {model}", "simulated", windows, (WIDTH, HEIGHT), window_us)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each simulated sequence")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    drive, window_us = real_drive(options.recordings)
    rows = [drive, *(simulated(model, window_us, options.seconds) for model in MODELS)]
    rows += [pedro(options.recordings), *(simulated(model, 40_000, options.seconds) for model in MODELS)]
    for found in rows:
        print(
            {
                k: round(v, 3) if isinstance(v, float) else v
                for k, v in found.items()
                if not isinstance(v, list)
            }
        )
    if options.json:
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_results(options.json, {"python": platform.python_version(), "time": made, "rows": rows})


if __name__ == "__main__":
    main()

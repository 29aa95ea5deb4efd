"""How fast the simulator is against real time, at the size of a DAVIS346: one command.

    python benchmarks/simulate.py
    python benchmarks/simulate.py --seconds 1 --json benchmarks/results/simulate.json

Each row is one pixel model before a moving street of 346 × 260 px, rendered 1,000 times per second and written as DAT:
simulated seconds per second of one core, of one process alone and of two side by side together. The last row is a
video of the same street at 240 frames per second, ffmpeg's decoding included. Times are those of the CPU, the best of
several rounds, so that what else the machine does counts little; what is compiled is compiled before.
"""

import argparse
import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from measuring import write_results

from ssmbook.events.formats.writers import write_events
from ssmbook.events.simulate import DRIVING_SCENE, PIXELS, Scene, SimulatedSequence

WIDTH, HEIGHT, VIDEO_FPS = 346, 260, 240


def street(seconds: float) -> Scene:
    return replace(DRIVING_SCENE, width=WIDTH, height=HEIGHT, duration_s=seconds, background_speed=60.0)


def simulate(name: str, seconds: float, seed: int) -> tuple[int, float]:
    """Number of events, and CPU seconds, of one scene before one pixel model."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        sequence = SimulatedSequence(street(seconds), PIXELS[name], seed)
        count = write_events(Path(folder) / "a.dat", sequence.events(), WIDTH, HEIGHT)
        return count, time.process_time() - start


def of_pixels(name: str, seconds: float, rounds: int, pool: ProcessPoolExecutor) -> dict:
    simulate(name, 0.1, 0)
    list(pool.map(simulate, [name] * 2, [0.1] * 2, [0, 1]))
    one, two = [], []
    for _ in range(rounds):
        count, took = simulate(name, seconds, 3)
        one.append(took)
        pair = list(pool.map(simulate, [name] * 2, [seconds] * 2, [3, 4]))
        two.append(max(took for _, took in pair))
    return row(name, count / seconds, seconds / min(one), 2 * seconds / min(two))


def of_a_video(seconds: float, rounds: int) -> dict:
    """The street as an 8-bit video, simulated by the pixels of v2e."""
    import imageio_ffmpeg

    from ssmbook.events.simulate.video import simulate_video

    with tempfile.TemporaryDirectory() as folder:
        video, out = Path(folder) / "street.mp4", Path(folder) / "a.dat"
        options = {"pix_fmt_in": "gray", "fps": VIDEO_FPS, "macro_block_size": 1, "quality": 9}
        writer = imageio_ffmpeg.write_frames(str(video), (WIDTH, HEIGHT), **options)
        writer.send(None)
        sequence = SimulatedSequence(street(seconds), seed=3)
        for t in np.arange(0, seconds, 1 / VIDEO_FPS):
            level = np.exp(sequence.frames(np.array([1e6 * t]))[0] - 1.5)
            writer.send((255 * np.clip(level, 0, 1)).astype(np.uint8).tobytes())
        writer.close()
        times = []
        for _ in range(rounds + 1):
            start = cpu_s()
            result = simulate_video(video, out, PIXELS["v2e"], progress=False)
            times.append(cpu_s() - start)
    speed = result.seconds / min(times)
    return row(f"v2e, video of {VIDEO_FPS} frames per second", result.events / result.seconds, speed, None)


def cpu_s() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def row(name: str, events_per_s: float, one: float, two: float | None) -> dict:
    print(
        f"{name:40} {events_per_s:12,.0f} events/s {one:8.2f} × real time"
        + (f", two processes {two:.2f}" if two else ""),
        flush=True,
    )
    return {"pixel": name, "events_per_s": events_per_s, "one_process": one, "two_processes": two}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of each scene (default: 2)")
    parser.add_argument("--rounds", type=int, default=2, help="of which the best counts (default: 2)")
    parser.add_argument("--json", type=Path, help="write the rows there")
    options = parser.parse_args()
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        rows = [of_pixels(name, options.seconds, options.rounds, pool) for name in PIXELS]
    rows.append(of_a_video(options.seconds, options.rounds))
    if options.json:
        about = {
            "width": WIDTH,
            "height": HEIGHT,
            "seconds": options.seconds,
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        write_results(options.json, {**about, "rows": rows})


if __name__ == "__main__":
    main()

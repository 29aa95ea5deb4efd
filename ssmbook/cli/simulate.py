"""The command simulate: sets of driving scenes, and events of a video."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmbook.cli.values import print_facts, size
from ssmbook.errors import InputError

if TYPE_CHECKING:
    from ssmbook.events.simulate import PixelModel, Simulation

_EPILOG = """examples:
  ssmbook simulate memory --out data/memory          a set of driving scenes with labels, in Gen1's format
  ssmbook simulate slow.mp4 --out slow.h5 --fps 240  what a camera would have seen of a slow-motion video
  ssmbook simulate v.mp4 --out v.dat --pixel davis346-dim --size 346x260 -p threshold 0.3
  ssmbook info v.dat; ssmbook convert v.dat v.csv   look at the result

sets: demo (objects move all the time), memory (everything stops in view; what ssmbook reproduce uses), occlusion (and
  passes behind pillars), detector (resolution, speed, ego-motion, contrast and noise vary),
  rehearsal (short, in Gen1's geometry); and smoke.
pixels: book, v2e, esim, iebcs (the defaults of these simulators), davis346-bright, davis346-dim (measured noise).

A camera takes about 30 frames per second, an event camera sees motion within a millisecond: between two frames light
is interpolated linearly in log intensity, so what moves by more than a pixel from frame to frame fades instead of
moving. Use video of 200 frames per second or more, or slow motion with the --fps at which it was filmed."""


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    command = commands.add_parser(
        "simulate",
        help="events of a video, or a labelled set of driving scenes",
        description=_simulate.__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("source", metavar="VIDEO|SET", help="a video file, or the name of a set")
    command.add_argument(
        "--out",
        required=True,
        help="of a video: *.dat, *.raw (EVT3), *.h5, *.npy or *.csv; of a set: the folder for train/, val/ and test/",
    )
    command.add_argument("--pixel", help="the camera: one of the pixels below (default: book, or the set's)")
    command.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="another value for one of the pixel's parameters, as often as you like",
    )
    command.add_argument("--seed", type=int, help="draws everything (default: 0, or the set's)")
    command.add_argument("--size", type=size, metavar="WxH", help="scale the video's frames, as 346x260")
    command.add_argument("--fps", type=float, help="frames per second at which the video was filmed")
    command.add_argument("--workers", type=int, default=2, help="processes that simulate a set (default: 2)")
    command.add_argument("--json", action="store_true", help="print what was written as JSON")
    command.set_defaults(run=_simulate)


def _simulate(options: argparse.Namespace) -> None:
    """Simulate an event camera: of a video, write its events as a recording; of the name of a set, write a labelled set
    of driving scenes as raw files in Gen1's own format, keeping sequences that are finished. The same seed gives the
    same bytes."""
    if options.seed is not None and options.seed < 0:
        raise InputError(f"--seed {options.seed}; give 0 or more")
    source = options.source
    if "/" not in source and "." not in source and (not Path(source).is_file() or source in _sets()):
        _set(options)
    else:
        _video(options)


def _sets() -> dict[str, Simulation]:
    from ssmbook.events.simulate import SETS
    from ssmbook.study import PROFILES

    of_profiles = {name: profile.simulation for name, profile in PROFILES.items() if profile.simulation}
    return {**of_profiles, **SETS}


def _pixel(options: argparse.Namespace, default: PixelModel) -> PixelModel:
    """The pixel by name, with the parameters that were given."""
    from ssmbook.events.simulate import PIXELS

    pixel = default
    if options.pixel is not None:
        if options.pixel not in PIXELS:
            raise InputError(f"--pixel {options.pixel}: there is none; they are {', '.join(PIXELS)}")
        pixel = PIXELS[options.pixel]
    known = {field.name: field for field in fields(pixel)}
    values: dict[str, Any] = {}
    for name, text in options.parameters:
        if name not in known:
            raise InputError(f"-p {name}: a pixel has no such parameter; they are {', '.join(known)}")
        try:
            values[name] = int(text) if known[name].type == "int" else float(text)
        except ValueError:
            raise InputError(
                f"-p {name} {text}: is no {'whole ' if known[name].type == 'int' else ''}number"
            ) from None
    return replace(pixel, **values)


def _set(options: argparse.Namespace) -> None:
    from ssmbook.dataset import get_sensor
    from ssmbook.events.simulate import simulate_set

    sets = _sets()
    if options.source not in sets:
        raise InputError(
            f"{options.source}: is no video file and no set; the sets are {', '.join(sorted(sets))}"
        )
    if options.size or options.fps:
        raise InputError("--size and --fps are for videos; a set has its own")
    if options.workers < 1:
        raise InputError(f"--workers {options.workers}; give 1 or more")
    simulation = sets[options.source]
    simulation = replace(simulation, pixel=_pixel(options, simulation.pixel))
    if options.seed is not None:
        simulation = replace(simulation, seed=options.seed)
    options.goes_on = True
    simulate_set(options.out, simulation, options.workers)
    counts = ", ".join(f"{count} {split}" for split, count in simulation.sequences.items())
    size, gen1 = (simulation.scene.width, simulation.scene.height), get_sensor("gen1")
    own = "SENSOR.yaml (width, height, classes: [car, pedestrian])"
    sensor = "gen1" if size == (gen1.width, gen1.height) else own
    print_facts(
        options.json,
        {"written": options.out, "sequences": dict(simulation.sequences), "seed": simulation.seed},
        f"{options.out}: sequences: {counts}; {simulation.scene.width} × {simulation.scene.height} px, "
        f"{simulation.scene.duration_s:g} s each\n"
        f"  next: ssmbook preprocess {options.out} OUT --sensor {sensor}",
    )


def _video(options: argparse.Namespace) -> None:
    from ssmbook.events.simulate import PIXELS
    from ssmbook.events.simulate.video import MIN_FPS, simulate_video

    pixel = _pixel(options, PIXELS["book"])
    result = simulate_video(options.source, options.out, pixel, options.size, options.fps, options.seed or 0)
    if result.fps < MIN_FPS:
        print(
            f"ssmbook: warning: {options.source}: {result.fps:g} frames per second; what moves by more than a pixel "
            f"from frame to frame fades instead of moving. Use {MIN_FPS:g} or more; of slow motion give the true --fps",
            file=sys.stderr,
        )
    rate = result.events / max(result.seconds, 1e-6)
    print_facts(
        options.json,
        {"written": options.out, **asdict(result)},
        f"{options.out}: {result.events:,} events in {result.seconds:.3f} s ({rate:,.0f} per second), "
        f"{result.width} × {result.height} px, from {result.frames} frames at {result.fps:g} per second",
    )

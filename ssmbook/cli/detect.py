"""The command detect: boxes in a recording or in live events, as files, as a video, on a page."""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ssmbook.cli.detection import (
    choose_rate,
    describe_default,
    familiar,
    make_stream,
    of_size,
    open_outputs,
    sensor_of,
    use_default,
)
from ssmbook.cli.values import add_part, address, check_is_other, check_paths, print_facts, stamp
from ssmbook.errors import InputError

if TYPE_CHECKING:
    from ssmbook.live.realtime import LiveStats, LiveWindow

_EPILOG = """examples:
  ssmbook detect drive.raw
  ssmbook detect drive.raw model.ckpt --video boxes.gif --slow 4 --start +2s --stop +12s
  ssmbook detect drive.raw model.ckpt --out boxes.csv --yolo labels --truth drive_bbox.npy --video boxes.mp4
live, from a pipe or over UDP, with a page in the browser:
  ssmbook play drive.raw --to - | ssmbook detect --live - model.ckpt --out boxes.csv
  ssmbook detect --live udp://127.0.0.1:9000 --page
  mkfifo events; ssmbook detect --live events model.ckpt --page 8766

A live stream is binary, or text of a line for each event (t x y p); python -c 'import ssmbook.live.wire as w; help(w)'
describes both. It ends when the sender ends it, or with Ctrl-C; what was detected until then is written."""


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    command = commands.add_parser(
        "detect",
        help="find the boxes in a recording",
        description=_detect.__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "recording",
        help="a file of any format that is read, see ssmbook info; with --live: - (standard input), udp://HOST:PORT, "
        "or a named pipe",
    )
    command.add_argument(
        "checkpoint",
        nargs="?",
        help="ours, or one released by S5-ViT or RVT (default: the network that comes along, trained on simulated "
        "streets)",
    )
    command.add_argument("--live", action="store_true", help="detect in events as they come from a camera")
    command.add_argument(
        "--page",
        nargs="?",
        const="127.0.0.1:8765",
        type=address,
        metavar="[HOST:]PORT",
        help="with --live: serve a page that shows events, boxes, rate and latency (default: 127.0.0.1:8765, for "
        "browsers on this machine)",
    )
    _add_outputs(command)
    _add_recording(command)
    _add_network(command)
    command.set_defaults(run=_detect)


def _add_outputs(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--out",
        metavar="FILE",
        help="the boxes: *_bbox.npy, Prophesee's; *_bbox.json, COCO's; or *.csv (default, if no output is named: "
        "RECORDING_boxes.csv and a video, here)",
    )
    add("--yolo", metavar="DIR", help="the boxes as a new folder of YOLO txt files and classes.txt")
    add(
        "--video", metavar="FILE", help="events and boxes: *.mp4, which needs ffmpeg and is smaller, or *.gif"
    )
    speed = command.add_mutually_exclusive_group()
    speed.add_argument(
        "--speed", type=float, default=1.0, help="of the video: 0.1 is ten times slower (default: 1)"
    )
    speed.add_argument("--slow", type=float, metavar="N", help="slow motion: the video takes N times as long")
    add("--fps", type=float, help="pictures per second of the video (default: one per window, at most 50)")
    add("--bitrate", default="", help="of an mp4: 4M, 800k (default: by quality)")
    add(
        "--palette",
        default="light",
        choices=["light", "dark", "grey"],
        help="of the video (default: light)",
    )
    add(
        "--truth",
        metavar="BOXES",
        help="labels to draw beside the detections, dashed: *.npy, *.json, or a folder of YOLO txt or VOC xml",
    )
    add("--json", action="store_true", help="print what was done as JSON")


def _add_recording(command: argparse.ArgumentParser) -> None:
    command.add_argument("--sensor", default="", help="gen1, gen4 or a YAML file (default: the checkpoint's)")
    add_part(command)


def _add_network(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--preset", help="sizes of a released checkpoint's network (default: those that fit its weights)")
    add(
        "--rate",
        type=float,
        help="windows a second (default: as in training, mostly 20; one for all of a recording shorter than a window)",
    )
    add(
        "--shrink",
        type=int,
        metavar="N",
        help="frames N times smaller than the camera: of its pixels every N-th of every N-th row (default: 1; with the "
        "network that comes along 1, 2, 4, …, until they have at most three times the pixels of its training)",
    )
    add(
        "--mode",
        default="sliding",
        choices=["sliding", "true", "held"],
        help="to run faster than in training: sliding, true or held (default: sliding)",
    )
    add(
        "--keep-step",
        action="store_true",
        help="leave step_scale at 1; else it is the rate of training / RATE",
    )
    add(
        "--confidence",
        type=float,
        help="minimum score (default: 0.1; with the network that comes along, the best of its validation)",
    )
    add("--device", choices=["cpu", "cuda"], default="cpu", help="cpu or cuda (default: cpu)")
    add(
        "--runtime",
        default="auto",
        choices=["auto", "torch", "onnxruntime", "openvino"],
        help="auto: with --live the fastest that is installed and computes what torch does, exported at the first "
        "start and then kept; for a recording torch, since an export takes longer than it saves on a short one "
        "(default: auto)",
    )


def _detect(options: argparse.Namespace) -> int:
    """Run a detector over a recording as it would run live, and write the boxes of all windows, a video of events
    and boxes, or both. Without a checkpoint it is the network that comes along. The network takes the recording's size,
    whatever it was trained on. A box's time is the end of its window in µs on the recording's clock; x, y, w, h are
    pixels of the camera (halved on 1 Mpx by the sensor gen4); boxes of one object have one track id. The video shows
    the time since the recording's first event. Outputs are written as they come."""
    options.is_default = use_default(options)
    _check(options)
    if options.is_default:
        _tell(describe_default())
    return _detect_live(options) if options.live else _detect_recording(options)


def _tell(line: str) -> None:
    print(f"ssmbook: {line}", file=sys.stderr, flush=True)


def _detect_recording(options: argparse.Namespace) -> int:
    from ssmbook.events import open_events
    from ssmbook.live import Tracker, detect_recording

    sensor = sensor_of(options)
    with open_events(options.recording, *(options.size or (None, None))) as recording:
        size = recording.width, recording.height
        if None in size and options.is_default and not options.sensor:
            size = recording.smallest_size()
            _tell(
                f"{options.recording}: does not state its size; {size[0]}x{size[1]} holds its events, or give --size"
            )
        sensor = of_size(sensor, *size)
        options.start = stamp(options.start, lambda: recording.start_us)
        options.stop = stamp(options.stop, lambda: recording.start_us)
        choose_rate(options, recording, _tell)
    stream, tracker = make_stream(options, sensor), Tracker()
    windows = boxes = 0
    with open_events(options.recording, sensor.width, sensor.height) as recording:
        with open_outputs(options, stream, recording.start_us) as shows:
            seen = familiar(options, stream)
            shows += [seen] if seen is not None else []
            began = time.monotonic()
            for frame, (t_us, found) in detect_recording(
                stream, recording, start_us=options.start, stop_us=options.stop, tracker=tracker
            ):
                for show in shows:
                    show(frame, t_us, found)
                windows, boxes = windows + 1, boxes + len(found)
        seconds = time.monotonic() - began
        if str(recording.faults):
            print(f"{options.recording}: {recording.faults}", file=sys.stderr)
    if seen is not None and str(seen):
        _tell(f"{options.recording}: {seen}")
    facts = {"windows": windows, "boxes": boxes, "tracks": tracker.count, "shrink": stream.shrink}
    facts |= {} if seen is None else {"windows_unlike_training": seen.unlike}
    smaller = f" of {stream.sensor.width} × {stream.sensor.height} px" if stream.shrink > 1 else ""
    words = f"{boxes} boxes of {tracker.count} tracks in {windows} {'windows' if windows > 1 else 'window'}{smaller}"
    _print_detected(options, facts, words, windows * stream.windows.stride_us / 1e6, seconds)
    return 0


def _print_detected(
    options: argparse.Namespace, facts: dict[str, int], words: str, recording_s: float, seconds: float
) -> None:
    written, factor = _written(options), recording_s / max(seconds, 1e-9)
    times = {
        "recording_s": round(recording_s, 6),
        "seconds": round(seconds, 3),
        "real_time_factor": round(factor, 4),
    }
    print_facts(
        options.json,
        {"written": written, **facts, **times},
        f"{' and '.join(written)}: {words}; {recording_s:.2f} s of recording in {seconds:.2f} s "
        f"({factor:.2g} × real time)",
    )


def _detect_live(options: argparse.Namespace) -> int:
    """As ``_detect_recording``, in events as they come."""
    from ssmbook.live import Tracker
    from ssmbook.live.page import LivePage
    from ssmbook.live.realtime import LiveStats, detect_live
    from ssmbook.live.transport import open_source

    stats, tracker, page, interrupted = LiveStats(), Tracker(), None, False
    faults: list[Exception] = []

    def tell(line: str) -> None:
        _tell(line)
        if page is not None:
            page.note(line)

    with ExitStack() as stack:
        if options.page:  # first, so that a browser can wait for the events
            host, port = options.page
            page = LivePage(host, port, options.palette)
            stack.callback(page.close)
            print(f"page: {page.url}", file=sys.stderr, flush=True)
        with _told_late(tell, options.recording):  # a pipe opens when its sender does
            messages = stack.enter_context(open_source(options.recording, tell))
        # With a size the network is ready before the first event; else that one says the size.
        stream = make_stream(options, of_size(sensor_of(options), *options.size)) if options.size else None
        with _told_late(tell, options.recording):
            first = next(messages, None)
        if first is None:
            raise InputError(f"{options.recording}: ended before the first event; start the sender again")
        if stream is None:
            sensor = of_size(sensor_of(options), *(first.size or (None, None)))
            if first.size is None:
                tell(
                    f"{options.recording}: does not state its size; {sensor.width}x{sensor.height}, or give --size"
                )
            stream = make_stream(options, sensor)
        zero = int(first.events.t[0]) if len(first.events) else 0
        shows = stack.enter_context(open_outputs(options, stream, zero))
        seen = familiar(options, stream)
        shows += [seen] if seen is not None else []
        if page is not None:
            page.begin(stream.sensor.classes, stream.represent, zero)
        windows = detect_live(stream, itertools.chain([first], messages), stats, tell, tracker)
        try:
            with _ended_by_signals():
                for frame, found, latency_s in _until_a_fault(windows, faults):
                    for show in shows:
                        show(frame, *found)
                    if page is not None:
                        page.show(frame, found, _figures(stats, latency_s))
        except KeyboardInterrupt:
            interrupted = True
        if stats.windows == 0 and not interrupted:
            early = f"{options.recording}: ended before the first window; {stats.events} events came"
            raise faults[0] if faults else InputError(early)
        if seen is not None and str(seen):
            tell(str(seen))
    print_facts(
        options.json,
        {"written": _written(options), "tracks": tracker.count, **stats.facts()},
        f"{' and '.join(_written(options)) or options.recording}: {stats}",
    )
    if faults:
        raise faults[0]
    return 130 if interrupted else 0


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM, by which services and containers are stopped, and SIGHUP end the block as Ctrl-C does."""
    before = {}
    if threading.current_thread() is threading.main_thread():  # Python lets no other handle signals
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _until_a_fault(windows: Iterator[LiveWindow], faults: list[Exception]) -> Iterator[LiveWindow]:
    """The windows until the stream fails, and then its fault: what is written of them ends as at the stream's end."""
    try:
        yield from windows
    except (InputError, OSError) as error:
        faults.append(error)


@contextmanager
def _told_late(tell: Callable[[str], None], source: str) -> Iterator[None]:
    """Tell that the sender is waited for, if that takes seconds."""
    from ssmbook.live.realtime import SILENCE_S

    line = f"{source}: no events yet; start the sender, a camera's or ssmbook play"
    timer = threading.Timer(SILENCE_S, tell, (line,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _figures(stats: LiveStats, latency_s: float) -> dict[str, float]:
    return {**stats.facts(), "latency_ms": round(1e3 * latency_s, 2), "events_per_s": stats.events_per_s()}


def _written(options: argparse.Namespace) -> list[str]:
    return [name for name in (options.out, options.yolo, options.video) if name]


def _check(options: argparse.Namespace) -> None:
    """What can be refused before torch is imported."""
    check_paths(options.checkpoint, options.truth, None if options.live else options.recording)
    if options.live and (options.start is not None or options.stop is not None):
        raise InputError("--start and --stop are for recordings; end the sender instead")
    if options.page and not options.live:
        raise InputError(
            "--page is for --live; ssmbook view shows a recording, --video writes what was detected"
        )
    same_kind = type(options.start) is type(options.stop) and options.start is not None
    if same_kind and options.stop <= options.start:
        raise InputError(f"--stop {options.stop} µs is not after --start {options.start} µs")
    if not _written(options) and not options.live:
        _name_outputs(options)
    for what, path in (("the recording", options.recording), ("the file of --truth", options.truth)):
        check_is_other(what, path, *_written(options))
    if options.out and not options.out.lower().endswith((".npy", ".json", ".csv")):
        raise InputError(
            f"{options.out}: boxes are written as .npy, .json or .csv; give one of these endings"
        )
    if options.video and not options.video.lower().endswith((".gif", ".mp4")):
        raise InputError(f"{options.video}: a video ends in .gif or .mp4; give one of these endings")
    if options.confidence is not None and not 0 <= options.confidence <= 1:
        raise InputError(f"--confidence {options.confidence}; give a number from 0 to 1")
    if options.slow is not None:
        if not options.slow > 0:
            raise InputError(f"--slow {options.slow}; give a number above 0")
        options.speed = 1 / options.slow


def _name_outputs(options: argparse.Namespace) -> None:
    """Where nothing was named: boxes and a video in this folder, an mp4 where there is ffmpeg."""
    from pathlib import Path

    from ssmbook.live.video import find_ffmpeg

    stem = f"{Path(options.recording).stem}_boxes"
    options.out, options.video = f"{stem}.csv", f"{stem}.mp4"
    try:
        find_ffmpeg(Path(options.video))
    except InputError:
        options.video = f"{stem}.gif"

"""The command view: a recording on a page, as pictures, as a video, without a network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ssmbook.cli.values import add_part, check_paths, print_facts, stamp, time_us
from ssmbook.errors import InputError

_EPILOG = """examples:
  ssmbook view drive.raw                            a page in the browser: play, scrub, window, colours, boxes
  ssmbook view drive.raw --boxes drive_bbox.npy --out drive.html
  ssmbook view drive.raw --window 10ms --slow 10 --start 2s --stop 3s --out drive.gif
  ssmbook view drive.raw --window 5ms --palette dark --out pictures"""


def add(commands: Any) -> None:
    """Add the command to a parser."""
    command = commands.add_parser(
        "view",
        help="look at a recording: a page to scrub through, pictures, a video",
        description=_view.__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("recording", help="a file of any format that is read, see ssmbook info")
    add(
        "--out",
        help="*.html, *.gif, *.mp4, *.png (the first window), or a new folder of png files (default: open a page)",
    )
    add("--window", type=time_us, default=50_000, help="length of a window: 50000 (µs), 50ms (default: 50ms)")
    add("--boxes", metavar="BOXES", help="boxes to draw: *.npy, *.json, or a folder of YOLO txt or VOC xml")
    add("--palette", default="light", choices=["light", "dark", "grey"], help="colours (default: light)")
    speed = command.add_mutually_exclusive_group()
    speed.add_argument(
        "--speed", type=float, default=1.0, help="of a video: 0.1 is ten times slower (default: 1)"
    )
    speed.add_argument("--slow", type=float, metavar="N", help="slow motion: the video takes N times as long")
    add("--fps", type=float, help="pictures per second of a video (default: one per window, at most 50)")
    add_part(command)
    add("--json", action="store_true", help="print what was written as JSON")
    command.set_defaults(run=_view)


def _view(options: argparse.Namespace) -> None:
    """Look at a recording without a network. By default a page is written and opened in the browser: one file with the
    events in it, to play, scrub, and choose the window's length and colours. Times are shown since the first event."""
    check_paths(options.recording, options.boxes)
    if options.slow is not None:
        if not options.slow > 0:
            raise InputError(f"--slow {options.slow}; give a number above 0")
        options.speed = 1 / options.slow
    ending = Path(options.out).suffix.lower() if options.out else ".html"
    if ending not in ("", ".html", ".gif", ".mp4", ".png"):
        raise InputError(f"{options.out}: give .html, .gif, .mp4, .png, or the name of a new folder")
    from ssmbook.events import open_events
    from ssmbook.live.view import View

    with open_events(options.recording, *(options.size or (None, None))) as recording:
        start, stop = (stamp(t, lambda: recording.start_us) for t in (options.start, options.stop))
        view = View(recording, options.window, options.boxes or "", start, stop, options.palette)
        out = Path(options.out) if options.out else _temporary(recording.path)
        if ending == ".html":
            count, what = view.write_page(out), "events"
        elif ending in (".gif", ".mp4"):
            count, what = view.write_video(out, options.speed, options.fps), "windows"
        else:
            count, what = view.write_pictures(out), "windows"
    print_facts(options.json, {"written": str(out), what: count}, f"{out}: {count:,} {what}")
    if not options.out:
        import webbrowser

        webbrowser.open(out.resolve().as_uri())


def _temporary(recording: Path) -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="ssmbook-view-")) / f"{recording.stem}.html"

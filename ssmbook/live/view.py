"""A recording to look at, without a network: a page to scrub through, pictures, or a video.

The page is one file that needs no server and no network: the events are in it, compressed, and the browser draws
them, so that the length of the window and the colours are chosen while looking.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ssmbook import colours
from ssmbook.dataset import Sensor
from ssmbook.errors import InputError
from ssmbook.events import Events, Recording, read_boxes
from ssmbook.events.box_folders import is_voc, voc_boxes, yolo_boxes
from ssmbook.events.box_formats import coco_boxes
from ssmbook.files import atomic_folder, atomic_write
from ssmbook.live.drawing import GroundTruth, draw_window
from ssmbook.live.html import page_text
from ssmbook.live.video import box_video
from ssmbook.progress import progress_bar

MAX_EVENTS = 5_000_000  # of a page: about 20 MB
MAX_US = 1 << 32  # of a page, for its stamps have 32 bits
MAX_FRAMES = 100_000  # of a folder


class View:
    """A part of a recording as windows, with the boxes to draw over them.

    Args:
        recording: open; where it does not state its size, it is read once to find the smallest that holds it.
        window_us: length of a window, and the time between windows.
        boxes: a file or folder of boxes of any form that is read; empty: none.
        start_us, stop_us: only the events with start_us ≤ t < stop_us; None: no limit.
        palette: one of ``colours.PALETTES``.

    Raises:
        InputError: window_us is below 1, there are no events in the part, or the boxes cannot be read.
    """

    def __init__(
        self,
        recording: Recording,
        window_us: int = 50_000,
        boxes: str = "",
        start_us: int | None = None,
        stop_us: int | None = None,
        palette: str = "light",
    ) -> None:
        if window_us < 1:
            raise InputError(f"a window of {window_us} µs; give at least 1")
        self.recording, self.window_us, self.palette = recording, window_us, palette
        self.start_us = recording.start_us if start_us is None else max(start_us, recording.start_us)
        self.stop_us = stop_us
        if not any(map(len, recording.between(self.start_us, stop_us))):
            until = "on" if stop_us is None else f"to {stop_us} µs"
            raise InputError(
                f"{recording.path}: has no events to look at from {self.start_us} µs {until}; it lasts from "
                f"{recording.start_us} to {recording.end_us} µs"
            )
        width, height = recording.width, recording.height
        if width is None or height is None:
            width, height = recording.smallest_size()
        self.width, self.height = width, height
        self.truth: GroundTruth | None = None
        self.names: Sequence[str] = ()
        if boxes:
            found, self.names = boxes_to_view(boxes, width, height)
            self.truth = GroundTruth(found)

    def windows(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each window as its end in µs and its counts [2, H, W] of OFF and ON events."""
        end, counts = self.start_us + self.window_us, self._counts(Events.empty())
        for block in self.recording.between(self.start_us, self.stop_us):
            while len(block):
                stop = int(np.searchsorted(block.t, end))
                counts += self._counts(block[:stop])
                block = block[stop:]
                if len(block):
                    yield end, counts
                    end, counts = end + self.window_us, self._counts(Events.empty())
        yield end, counts

    def _counts(self, events: Events) -> np.ndarray:
        shape = 2, self.height, self.width
        flat = np.ravel_multi_index((events.p, events.y, events.x), shape)
        return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)

    def write_pictures(self, out: Path, limit: int = MAX_FRAMES) -> int:
        """A png for each window, in a new folder that appears whole; or, for a name ending in .png, of the first."""
        if out.suffix.lower() == ".png":
            end, counts = next(self.windows())
            with atomic_write(out) as file:
                self._draw(counts, end).save(file, "png")
            return 1
        with atomic_folder(out) as folder:
            for k, (end, counts) in enumerate(
                progress_bar(self.windows(), desc="view", unit="window", leave=False)
            ):
                if k == limit:
                    raise InputError(
                        f"{out}: more than {limit:,} windows; give longer ones, or --start and --stop"
                    )
                self._draw(counts, end).save(folder / f"{end:012d}us.png")
        return k + 1

    def _draw(self, counts: np.ndarray, end_us: int) -> Image.Image:
        truth = None if self.truth is None else self.truth.at(end_us)
        return draw_window(counts, end_us - self.start_us, _NO_BOXES, self.names, None, self.palette, truth)

    def write_video(self, out: Path, speed: float = 1.0, fps: float | None = None) -> int:
        """A gif or mp4 of all windows; returns their number."""
        sensor = Sensor("view", self.width, self.height, tuple(self.names) or ("object",))
        count = 0
        with box_video(
            out,
            sensor,
            1e6 / self.window_us,
            speed,
            self.start_us,
            fps=fps,
            palette=self.palette,
            truth=self.truth,
        ) as show:
            for end, counts in progress_bar(self.windows(), desc="view", unit="window", leave=False):
                show(counts, end, _NO_BOXES)
                count += 1
        return count

    def write_page(self, out: Path) -> int:
        """One HTML file with all events in it; returns their number.

        Raises:
            InputError: there are more than five million events, or more than 71 minutes.
        """
        parts, count = [], 0
        for block in self.recording.between(self.start_us, self.stop_us):
            stop = self.start_us + MAX_US
            if count + len(block) > MAX_EVENTS:
                stop = min(stop, int(block.t[MAX_EVENTS - count]))
            if count + len(block) > MAX_EVENTS or (len(block) and block.t[-1] >= stop):
                raise InputError(
                    f"{self.recording.path}: a page holds {MAX_EVENTS:,} events and 71 minutes; give --start "
                    f"{self.start_us} --stop {stop}, or write a video"
                )
            parts.append(block)
            count += len(block)
        events = Events.concatenate(parts)
        content = {
            "name": self.recording.path.name,
            "width": self.width,
            "height": self.height,
            "count": count,
            "start_us": self.start_us,
            "window_us": self.window_us,
            "palette": self.palette,
            "palettes": {
                name: [[round(255 * v) for v in c] for c in p] for name, p in colours.PALETTES.items()
            },
            "boxes": self._boxes(),
        }
        page = page_text("view.html")
        text = json.dumps(content).replace("<", "\\u003c")  # a name cannot end the script
        page = page.replace('"EVENTS"', f'"{packed(events, self.start_us)}"').replace('"CONTENT"', text, 1)
        with atomic_write(out) as file:
            file.write(page.encode())
        return count

    def _boxes(self) -> list[list]:
        """Each box as its time since the start in µs, x, y, w, h, name and colour."""
        if self.truth is None:
            return []
        rows = []
        for t, x, y, w, h, kind, track, _ in self.truth.boxes.tolist():
            name = self.names[kind] if kind < len(self.names) else f"class {kind}"
            colour = colours.CLASS_COLOURS[kind % len(colours.CLASS_COLOURS)]
            rows.append([t - self.start_us, x, y, w, h, f"{name} {track or ''}".strip(), colour])
        return rows


def packed(events: Events, start_us: int) -> str:
    """Events as base64 of zlib of four planes: time since the event before (uint32), x, y (uint16), p (uint8)."""
    steps = np.diff(events.t, prepend=start_us).astype("<u4")
    planes = [
        steps.tobytes(),
        events.x.astype("<u2").tobytes(),
        events.y.astype("<u2").tobytes(),
        events.p.tobytes(),
    ]
    return base64.b64encode(zlib.compress(b"".join(planes), 6)).decode()


def boxes_to_view(path: str, width: int, height: int) -> tuple[np.ndarray, Sequence[str]]:
    """Boxes of any form that is read, and the names of their classes where these are stated."""
    if path.lower().endswith(".json"):
        return coco_boxes(path)
    if not os.path.isdir(path):
        return read_boxes(path), []
    if is_voc(path):
        return voc_boxes(path, width, height, None)
    boxes, names = yolo_boxes(path, width, height, None)
    return boxes, names or []


_NO_BOXES = np.zeros(0, [("class_id", "u4")])

"""Events of a video: what an event camera would have seen, as far as the frames tell.

    L(t) is linear in time between the frames' log intensities ln((I + d) / (1 + d)), d = 20 / 255,

with I the grey level in 0..1. The dark level d keeps the coarse steps of 8-bit shadows below the threshold, as the
linear part of v2e's mapping does. Between frames nothing moves: an edge that goes by more than a pixel from one frame
to the next fades from here to there instead. So the frame rate should be high, or the motion slow.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.events import Events
from ssmbook.events.formats.writers import write_events
from ssmbook.events.simulate.array import PixelArray
from ssmbook.events.simulate.pixel import DARK, PixelModel
from ssmbook.files import as_input_error, existing_file
from ssmbook.progress import progress_bar

MIN_FPS = 200.0  # below it, motion between frames is missed: the time that a pixel of motion should take
_STEP_US = 5_000  # at most, between the moments at which the low-pass's cutoff follows intensity
_LARGEST_SIDE = 1 << 14
_MOST_PIXELS = 1 << 25


@dataclass(frozen=True)
class VideoEvents:
    """What ``simulate_video`` has written: frames read, their rate, the size in px, and the number of events."""

    frames: int
    fps: float
    width: int
    height: int
    events: int

    @property
    def seconds(self) -> float:
        return max(self.frames - 1, 0) / self.fps


class Video:
    """The grey frames of a video, read one after another by ffmpeg.

    Args:
        path: any format that ffmpeg reads.
        size: (width, height) to which frames are scaled; None: as they are.
        fps: of the scene, where it is not that of the file, as in slow motion.

    Attributes:
        width, height: of the frames in px.
        fps: frames per second.
        count: the number of frames that the file's header promises, 0 where it does not say.
        read: the number of frames read so far.

    Raises:
        InputError: no file, no video, of no rate or of a size out of range; or imageio-ffmpeg is not installed.
    """

    def __init__(
        self, path: str | os.PathLike[str], size: tuple[int, int] | None = None, fps: float | None = None
    ) -> None:
        self.path = existing_file(path, "a video")
        if importlib.util.find_spec("imageio_ffmpeg") is None:
            raise InputError(f"{self.path}: reading a video needs ffmpeg: pip install 'ssmbook[video]'")
        from imageio_ffmpeg import read_frames

        if fps is not None and not 0 < fps < math.inf:
            raise InputError(f"{self.path}: {fps} frames per second; give a rate above 0")
        if size is not None:
            self._check(*size)
        scale = [] if size is None else ["-s", f"{size[0]}x{size[1]}"]
        logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)  # it warns of every scaled video
        # A playlist may name other files, but no address.
        options = ["-protocol_whitelist", "file,pipe"]
        self._frames: Generator[Any, None, None] = read_frames(
            str(self.path.resolve()), "gray", bits_per_pixel=8, input_params=options, output_params=scale
        )
        with self._faults():
            about: Any = next(self._frames)
        self.width, self.height = about["size"]
        self._check(self.width, self.height)
        stated = float(about["fps"] or 0)
        self.fps = fps or stated
        if not self.fps > 0:
            raise InputError(f"{self.path}: does not say its frames per second; give them")
        duration, self.read = float(about["duration"] or 0), 0
        self.count = round(stated * duration) if math.isfinite(stated * duration) else 0

    def _check(self, width: int, height: int) -> None:
        if not (
            0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE and width * height <= _MOST_PIXELS
        ):
            raise InputError(
                f"{self.path}: frames of {width} × {height} px; scale them to {_LARGEST_SIDE} a side and "
                f"{_MOST_PIXELS >> 20} million pixels at most"
            )

    def _faults(self):
        return as_input_error(f"{self.path}: ffmpeg reads no video from it")

    def __iter__(self) -> Iterator[np.ndarray]:
        """Grey levels [H, W] uint8, each frame once."""
        with closing(self._frames):
            while True:
                with self._faults():
                    frame = next(self._frames, None)
                if frame is None:
                    return
                self.read += 1
                yield np.frombuffer(frame, np.uint8).reshape(self.height, self.width)

    def close(self) -> None:
        self._frames.close()


def log_intensity(grey: np.ndarray, white: float) -> np.ndarray:
    """Log intensity, float32 of the same shape, of grey levels 0..255; that of 255 is ``white``."""
    table = white + np.log((np.arange(256) / 255 + DARK) / (1 + DARK))
    return table.astype(np.float32)[grey]


def simulate_video(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    pixel: PixelModel | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> VideoEvents:
    """Write the events of a video, from 0 µs at its first frame to its last.

    Args:
        path, size, fps: see ``Video``.
        out: the recording, in a format by its ending: see ``write_events``.
        pixel: see ``PixelModel``; its ``white`` is grey level 255.
        seed: draws thresholds and noise; the same seed gives the same bytes.
        progress: show a bar.

    Raises:
        InputError: as ``Video`` and ``write_events``, or the video has fewer than two frames.
    """
    pixel = pixel or PixelModel()
    out, video = Path(out), Video(path, size, fps)
    with closing(video):
        bar = progress_bar(total=video.count or None, desc="simulate", unit="frame", show=progress)
        with bar:
            blocks = _events(video, pixel, np.random.default_rng(seed), bar.update)
            events = write_events(out, blocks, video.width, video.height)
    return VideoEvents(video.read, video.fps, video.width, video.height, events)


def _events(video: Video, pixel: PixelModel, rng: np.random.Generator, done) -> Iterator[Events]:
    """The events between each frame and the next."""
    frames = iter(video)
    before = next(frames, None)
    if before is None:
        raise InputError(f"{video.path}: has no frames; give a video")
    before = log_intensity(before, pixel.white)
    pixels, t0 = PixelArray(pixel, before, rng), 0
    done()
    for grey in frames:
        done()
        now, t1 = log_intensity(grey, pixel.white), round(1e6 * (video.read - 1) / video.fps)
        if t1 > t0:  # above 1 million frames per second some are skipped
            yield pixels.expose(_between(before, now, t1 - t0, bool(pixel.cutoff_hz)), t0, t1)
            before, t0 = now, t1
    if t0 == 0:
        raise InputError(f"{video.path}: has one frame; a video needs two for light to change")


def _between(before: np.ndarray, now: np.ndarray, duration_us: int, filtered: bool) -> np.ndarray:
    """Log intensity [K, H, W] on its way from one frame to the next."""
    steps = max(math.ceil(duration_us / _STEP_US), 1) if filtered else 1
    if steps == 1:
        return now[None]
    shares = np.arange(1, steps + 1, dtype=np.float32)[:, None, None] / np.float32(steps)
    levels = before + shares * (now - before)
    levels[-1] = now
    return levels

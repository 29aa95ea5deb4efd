"""A video of what a detector sees and finds: a GIF, which needs nothing else, or an mp4, which needs ffmpeg.

    with box_video("found.mp4", stream.sensor, windows_per_s=20) as show:
        for frame, (t_us, boxes) in detect_recording(stream, recording):
            show(frame, t_us, boxes)

Frames are written as they come: the memory does not grow with the recording.
"""

from __future__ import annotations

import errno
import importlib.util
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image

from ssmbook.dataset import Sensor
from ssmbook.errors import InputError
from ssmbook.events import Representation
from ssmbook.files import atomic_write, unwritable
from ssmbook.live.drawing import GroundTruth, draw_window

if TYPE_CHECKING:
    from ssmbook.live.stream import Show  # which imports torch

MAX_FPS = 50.0  # beyond it windows are left out; players of GIFs are no faster either
LONGEST_S = 655.35  # that a GIF shows a picture: 16 bits of hundredths


@contextmanager
def box_video(
    path: str | Path,
    sensor: Sensor,
    windows_per_s: float,
    speed: float = 1.0,
    zero_us: int = 0,
    represent: Representation | None = None,
    *,
    fps: float | None = None,
    bitrate: str = "",
    palette: str = "light",
    truth: GroundTruth | None = None,
) -> Iterator[Show]:
    """A video that appears under its name when the block ends, and not at all when the block raises.

    Args:
        path: ``*.gif`` or ``*.mp4``.
        sensor: whose frames, at half size where it is downsampled, and whose classes.
        windows_per_s: how many windows come in a second of the recording.
        speed: 1 plays a second of the recording in a second, 0.1 in ten.
        zero_us: the time that the video shows as 0, such as the recording's first.
        represent: what made the frames; ``StackedHistogram`` if not given.
        fps: pictures per second of the video, up to 50 for a GIF and 240 for an mp4: windows are left out or repeated.
            None: a picture for each window, or for every second, third, … where that would be more than 50.
        bitrate: of an mp4, as ffmpeg writes it: ``"4M"``; not given: what ffmpeg's default quality needs.
        palette, truth: see ``draw_window``.

    Yields:
        A function of a window's frame [C, H, W], its end in µs, and its boxes, to be called
        for one window after the other.

    Raises:
        InputError: another ending, no ffmpeg for an mp4, a speed or fps out of range, or no window came.
    """
    path = Path(path)
    if not 0 < speed <= 1000:
        raise InputError(f"speed is {speed}; it must be above 0 and at most 1000")
    kinds: dict[str, type[_GIF | _MP4]] = {".gif": _GIF, ".mp4": _MP4}
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path}: a video ends in {' or '.join(kinds)}, not in {path.suffix!r}")
    kind = kinds[path.suffix.lower()]
    if fps is not None and not 0 < fps <= kind.max_fps:
        raise InputError(f"{path}: fps is {fps}; it must be above 0 and at most {kind.max_fps:g}")
    played = windows_per_s * speed
    fps = played / math.ceil(played / MAX_FPS) if fps is None else fps
    count = 0
    with atomic_write(path) as file:
        writer = kind(file, path, fps, bitrate)

        def show(frame: np.ndarray, t_us: int, boxes: np.ndarray) -> None:
            nonlocal count
            pictures = _up_to(count + 1, fps / played) - _up_to(count, fps / played)
            count += 1
            if pictures:
                there = None if truth is None else truth.at(t_us)
                image = draw_window(frame, t_us - zero_us, boxes, sensor.classes, represent, palette, there)
            for _ in range(pictures):
                writer.write(image)

        try:
            yield show
            if count == 0:
                raise InputError(f"{path}: there is no window to show; the recording is shorter than one")
            writer.finish()
        finally:
            writer.close()


def _up_to(windows: int, pictures_per_window: float) -> int:
    """How many pictures begin before n windows have passed."""
    return math.ceil(round(windows * pictures_per_window, 9))


class _GIF:
    """Pictures in 256 colours of their own, one after the other. (Pillow's ``save`` keeps them all in memory.)"""

    max_fps = MAX_FPS

    def __init__(self, file: BinaryIO, path: Path, fps: float, bitrate: str) -> None:
        if bitrate:
            raise InputError(f"{path}: a GIF has no bitrate; write an .mp4, or leave the bitrate out")
        if 1 / fps > LONGEST_S:
            raise InputError(
                f"{path}: a picture for {1 / fps:.6g} s; a GIF shows one for {LONGEST_S} s at most: give a higher "
                "speed, or more pictures per second (fps)"
            )
        self.file, self.fps = file, fps
        self.count = self.shown = 0  # pictures; hundredths of a second, GIF's unit, that they are shown

    def write(self, image: Image.Image) -> None:
        picture = image.quantize(256, dither=Image.Dither.NONE)
        if self.count == 0:
            header, _ = GifImagePlugin.getheader(picture, info={"loop": 0})
            self.file.writelines(header)
        self.count += 1
        until = round(100 * self.count / self.fps)
        duration_ms, self.shown = 10 * (until - self.shown), until
        self.file.writelines(GifImagePlugin.getdata(picture, duration=duration_ms, include_color_table=True))

    def finish(self) -> None:
        self.file.write(b";")

    def close(self) -> None:
        pass


class _MP4:
    """Pictures through a pipe into ffmpeg, which writes the file."""

    max_fps = 240.0

    def __init__(self, file: BinaryIO, path: Path, fps: float, bitrate: str) -> None:
        self.path, self.fps, self.target = path, fps, file.name
        self.rate = ["-b:v", bitrate] if bitrate else []
        self.ffmpeg = find_ffmpeg(path)
        self.process: subprocess.Popen[bytes] | None = None
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)

    def write(self, image: Image.Image) -> None:
        if self.process is None:
            self.process = self._start(*image.size)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(image.tobytes())
        except BrokenPipeError:
            self.finish()

    def _start(self, width: int, height: int) -> subprocess.Popen[bytes]:
        pictures = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self.fps:.6f}"]
        # What all players show: an even size, and colours at half the resolution.
        film = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        command = [
            self.ffmpeg,
            "-y",
            "-loglevel",
            "error",
            *pictures,
            "-i",
            "-",
            *film,
            *self.rate,
            "-f",
            "mp4",
            self.target,
        ]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self.errors, stderr=self.errors)

    def finish(self) -> None:
        assert self.process is not None
        self.process.communicate()  # closes the pipe and waits
        if code := self.process.returncode:
            self.errors.seek(0)
            words = self.errors.read().decode(errors="replace").strip() or f"it ended with {code}"
            if os.strerror(errno.ENOSPC) in words:
                raise unwritable(self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            raise InputError(f"{self.path}: ffmpeg failed ({words.splitlines()[-1]}); or write a .gif")

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def find_ffmpeg(path: Path) -> str:
    """The program that the system has, or else that of the package imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found is None and importlib.util.find_spec("imageio_ffmpeg"):
        from imageio_ffmpeg import get_ffmpeg_exe

        found = get_ffmpeg_exe()
    if found is None:
        raise InputError(f"{path}: an mp4 needs ffmpeg: pip install 'ssmbook[video]'; or write a .gif")
    return found

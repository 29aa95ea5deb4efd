"""A video of what a detector sees and finds: a GIF, which needs nothing else, or an mp4, which needs ffmpeg.

    with box_video("found.mp4", stream.sensor, windows_per_s=20) as show:
        detect_recording(stream, recording, show=show)

Frames are written as they come: the memory does not grow with the recording.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image, ImageDraw, ImageFont

from ssmbook import plots
from ssmbook.dataset import Sensor
from ssmbook.errors import InputError
from ssmbook.events import Representation, StackedHistogram
from ssmbook.files import atomic_write
from ssmbook.live.stream import Show

MOST_FPS = 50.0  # beyond it windows are left out; players of GIFs are no faster either
LEAST_WIDTH = 600  # px; smaller frames are enlarged by a whole factor
FONT = ImageFont.load_default(13)


@contextmanager
def box_video(
    path: str | Path,
    sensor: Sensor,
    windows_per_s: float,
    speed: float = 1.0,
    zero_us: int = 0,
    represent: Representation | None = None,
) -> Iterator[Show]:
    """A video that appears under its name when the block ends, and not at all when the block raises.

    Args:
        path: ``*.gif`` or ``*.mp4``.
        sensor: whose frames, at half size where it is downsampled, and whose classes.
        windows_per_s: how many windows come in a second of the recording.
        speed: 1 plays a second of the recording in a second, 0.1 in ten.
        zero_us: the time that the video shows as 0, such as the recording's first.
        represent: what made the frames; ``StackedHistogram`` if not given.

    Yields:
        A function of a window's frame [C, H, W], its end in µs, and its boxes, to be called
        for one window after the other. At more than 50 windows a second some are left out.

    Raises:
        InputError: another ending, no ffmpeg for an mp4, a speed out of range, or no window came.
    """
    path = Path(path)
    if not 0 < speed <= 1000:
        raise InputError(f"speed is {speed}; it must be above 0 and at most 1000")
    kinds: dict[str, type[_GIF | _MP4]] = {".gif": _GIF, ".mp4": _MP4}
    if path.suffix.lower() not in kinds:
        raise InputError(f"{path}: a video ends in {' or '.join(kinds)}, not in {path.suffix!r}")
    every = math.ceil(windows_per_s * speed / MOST_FPS)
    count = 0
    with atomic_write(path) as file:
        writer = kinds[path.suffix.lower()](file, path, windows_per_s * speed / every)

        def show(frame: np.ndarray, t_us: int, boxes: np.ndarray) -> None:
            nonlocal count
            if count % every == 0:
                writer.write(draw_window(frame, t_us - zero_us, boxes, sensor.classes, represent))
            count += 1

        try:
            yield show
            if count == 0:
                raise InputError(f"{path}: there is no window to show; the recording is shorter than one")
            writer.finish()
        finally:
            writer.close()


def draw_window(
    frame: np.ndarray,
    t_us: int,
    boxes: np.ndarray,
    classes: Sequence[str],
    represent: Representation | None = None,
) -> Image.Image:
    """One window as a picture: its events, boxes (``BOX_DTYPE``) with class and score, and the time of its end.

    The frame is one of ``represent``, or of ``StackedHistogram`` if none is given.

    A frame narrower than 600 px is enlarged by the least whole factor that makes it wider.
    """
    off, on = (represent or StackedHistogram()).polarities(frame)
    image = Image.fromarray((255 * plots.polarity_image(on, off)).round().astype(np.uint8))
    scale = math.ceil(LEAST_WIDTH / image.width)
    image = image.resize((scale * image.width, scale * image.height), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for box in boxes[::-1]:  # best first: drawn last, on top
        kind = int(box["class_id"])
        name = classes[kind] if kind < len(classes) else f"class {kind}"
        colour = plots.CLASS_COLOURS[kind % len(plots.CLASS_COLOURS)]
        corners = np.array([box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]]) * scale
        x1, y1, x2, y2 = np.clip(corners, 0, [image.width - 1, image.height - 1] * 2).tolist()
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=2)
        _write_words(draw, x1, y1, f"{name} {float(box['class_confidence']):.2f}", colour)
    _write_words(draw, 0, image.height, f"{t_us / 1e6:.3f} s", plots.GREY)
    return image


def _write_words(draw: ImageDraw.ImageDraw, x: float, y: float, words: str, colour: str) -> None:
    """White on a ground of that colour, above (x, y) where there is room, else below, and within the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), words, font=FONT)
    width, height = right - left + 4, bottom - top + 4
    x, y = min(x, draw.im.size[0] - width), y - height if y >= height else y
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 2 - left, y + 2 - top), words, fill="white", font=FONT)


class _GIF:
    """Pictures in 256 colours of their own, one after the other. (Pillow's ``save`` keeps them all in memory.)"""

    def __init__(self, file: BinaryIO, path: Path, fps: float) -> None:
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

    def __init__(self, file: BinaryIO, path: Path, fps: float) -> None:
        self.path, self.fps, self.target = path, fps, file.name
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
            "-f",
            "mp4",
            self.target,
        ]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self.errors, stderr=self.errors)

    def finish(self) -> None:
        assert self.process is not None
        self.process.communicate()  # closes the pipe and waits
        if self.process.returncode:
            self.errors.seek(0)
            words = self.errors.read().decode(errors="replace").strip() or "no reason given"
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

"""One window as a picture: its events, detections and ground truth over them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ssmbook import colours
from ssmbook.errors import InputError
from ssmbook.events import Representation, StackedHistogram

MIN_WIDTH = 600  # px; smaller frames are enlarged by a whole factor
TRUTH_US = 250_000  # how long the boxes of a label frame are shown
FONT = ImageFont.load_default(13)


class GroundTruth:
    """The labelled boxes to draw in a window: those of the last label frame, for up to 0.25 s.

    Args:
        boxes: BOX_DTYPE in pixels of the frame, in any order.
    """

    def __init__(self, boxes: np.ndarray) -> None:
        self.boxes = boxes[np.argsort(boxes["t"], kind="stable")]

    def at(self, t_us: int) -> np.ndarray:
        """The boxes of the label frame that is the last at or before a time; none if that is long ago."""
        times = self.boxes["t"]
        end = int(np.searchsorted(times, t_us, "right"))
        if end == 0 or times[end - 1] < t_us - TRUTH_US:
            return self.boxes[:0]
        return self.boxes[int(np.searchsorted(times, times[end - 1])) : end]


def draw_window(
    frame: np.ndarray,
    t_us: int,
    boxes: np.ndarray,
    classes: Sequence[str],
    represent: Representation | None = None,
    palette: str = "light",
    truth: np.ndarray | None = None,
) -> Image.Image:
    """One window as a picture: its events, boxes with class, track and score, and the time of its end.

    Args:
        frame: [C, H, W] of ``represent``; one narrower than 600 px is enlarged by the smallest whole factor that makes
            it wider.
        t_us: the time to write.
        boxes: detections, BOX_DTYPE, best first.
        classes: names by class id.
        represent: what made the frame; ``StackedHistogram`` if not given.
        palette: one of ``colours.PALETTES``.
        truth: labelled boxes, drawn dashed without a score.

    Raises:
        InputError: there is no such palette.
    """
    if palette not in colours.PALETTES:
        raise InputError(f"there is no palette {palette!r}; they are {', '.join(colours.PALETTES)}")
    off, on = (represent or StackedHistogram()).polarities(frame)
    image = Image.fromarray((255 * colours.polarity_image(on, off, palette)).round().astype(np.uint8))
    scale = math.ceil(MIN_WIDTH / image.width)
    image = image.resize((scale * image.width, scale * image.height), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for box in () if truth is None else truth:
        _dashed(draw, _corners(box, scale, image), _colour(box))
    for box in boxes[::-1]:  # best first: drawn last, on top
        x1, y1, x2, y2 = _corners(box, scale, image)
        draw.rectangle((x1, y1, x2, y2), outline=_colour(box), width=2)
        _write_words(draw, x1, y1, _label(box, classes), _colour(box))
    words = f"{t_us / 1e6:.3f} s" + ("" if truth is None else "   dashed: ground truth")
    _write_words(draw, 0, image.height, words, colours.GREY)
    return image


def _label(box: np.void, classes: Sequence[str]) -> str:
    kind = int(box["class_id"])
    name = classes[kind] if kind < len(classes) else f"class {kind}"
    track = f" {box['track_id']}" if box["track_id"] else ""
    return f"{name}{track} {float(box['class_confidence']):.2f}"


def _colour(box: np.void) -> str:
    return colours.CLASS_COLOURS[int(box["class_id"]) % len(colours.CLASS_COLOURS)]


def _corners(box: np.void, scale: int, image: Image.Image) -> tuple[float, float, float, float]:
    corners = np.array([box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]]) * scale
    x1, y1, x2, y2 = np.clip(corners, 0, [image.width - 1, image.height - 1] * 2).tolist()
    return x1, y1, x2, y2


def _dashed(draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], colour: str) -> None:
    x1, y1, x2, y2 = corners
    for x in np.arange(x1, x2, 10).tolist():
        for y in (y1, y2):
            draw.line((x, y, min(x + 5, x2), y), fill=colour, width=2)
    for y in np.arange(y1, y2, 10).tolist():
        for x in (x1, x2):
            draw.line((x, y, x, min(y + 5, y2)), fill=colour, width=2)


def _write_words(draw: ImageDraw.ImageDraw, x: float, y: float, words: str, colour: str) -> None:
    """White on a ground of that colour, above (x, y) where there is room, else below, and within the picture."""
    left, top, right, bottom = draw.textbbox((0, 0), words, font=FONT)
    width, height = right - left + 4, bottom - top + 4
    x, y = min(x, draw.im.size[0] - width), y - height if y >= height else y
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 2 - left, y + 2 - top), words, fill="white", font=FONT)

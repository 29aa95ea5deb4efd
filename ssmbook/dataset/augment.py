"""Augmentation: the same move for the frames and for their boxes.

A transform moves boxes (``BOX_DTYPE`` [N], pixels; those that leave the frame are dropped) and frames
([..., H, W], uint8, int8 or floating; nearest neighbour, nothing blended). Boxes follow the published label
transforms, whose pixels are points at whole coordinates; frames are resampled nearest-exact, whose pixels
are areas. The two agree to a pixel of the frame that was zoomed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

from ssmbook.compiled import njit

FLIP = 0.5  # how often chunks are flipped
ZOOM = 0.8  # how often random chunks are zoomed
ZOOM_IN = 0.8  # how many of these zooms go in
STREAM_ZOOM = 0.5  # how often sequences of streams are zoomed, and only out
MOST_IN, MOST_OUT = 1.5, 1.2  # largest factors


@dataclass(frozen=True)
class Flip:
    """Left becomes right: x ← W − 1 − x − w."""

    def boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        moved = boxes.copy()
        moved["x"] = width - 1 - boxes["x"] - boxes["w"]
        return moved

    def frames(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(-1)


@dataclass(frozen=True)
class ZoomIn:
    """A window of W/f × H/f pixels at (x0, y0) fills the frame."""

    x0: int
    y0: int
    factor: float

    def boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        f = self.factor
        x_a, y_a, x_b, y_b = _corners(boxes)
        right = min(self.x0 + width / f, width - 1) - 1
        bottom = min(self.y0 + height / f, height - 1) - 1
        x_a, x_b = (np.clip(v, self.x0, right) - self.x0 for v in (x_a, x_b))
        y_a, y_b = (np.clip(v, self.y0, bottom) - self.y0 for v in (y_a, y_b))
        return _from_corners(
            boxes, f * x_a, f * y_a, np.minimum(f * x_b, width - 1), np.minimum(f * y_b, height - 1)
        )

    def frames(self, x: torch.Tensor) -> torch.Tensor:
        H, W = x.shape[-2:]
        h, w = int(H / self.factor), int(W / self.factor)
        return _resize(x[..., self.y0 : self.y0 + h, self.x0 : self.x0 + w], H, W)


@dataclass(frozen=True)
class ZoomOut:
    """The frame shrinks to W/f × H/f pixels at (x0, y0); around it is nothing."""

    x0: int
    y0: int
    factor: float

    def boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        f = self.factor
        x_a, y_a, x_b, y_b = (v / f for v in _corners(boxes))
        x_b, y_b = np.minimum(x_b, width / f - 1), np.minimum(y_b, height / f - 1)
        return _from_corners(boxes, x_a + self.x0, y_a + self.y0, x_b + self.x0, y_b + self.y0)

    def frames(self, x: torch.Tensor) -> torch.Tensor:
        H, W = x.shape[-2:]
        h, w = int(H / self.factor), int(W / self.factor)
        out = torch.zeros_like(x)
        out[..., self.y0 : self.y0 + h, self.x0 : self.x0 + w] = _resize(x, h, w)
        return out


@dataclass(frozen=True)
class Rotate:
    """By θ about (⌊W/2⌋, ⌊H/2⌋): (x, y) ← (x cos θ + y sin θ, −x sin θ + y cos θ).

    A box becomes the upright one around its moved corners.
    """

    degrees: float

    def boxes(self, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        x_a, y_a, x_b, y_b = _corners(boxes)
        x = np.stack([x_a, x_b, x_a, x_b]) - width // 2  # [4, N]
        y = np.stack([y_a, y_a, y_b, y_b]) - height // 2
        x, y = x * cos + y * sin + width // 2, -x * sin + y * cos + height // 2
        x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
        return _from_corners(boxes, x.min(0), y.min(0), x.max(0), y.max(0))

    def frames(self, x: torch.Tensor) -> torch.Tensor:
        H, W = x.shape[-2:]
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        row, column = torch.meshgrid(torch.arange(H) - H // 2, torch.arange(W) - W // 2, indexing="ij")
        # Where each pixel comes from: the rotation by −θ.
        from_x = (column * cos - row * sin).round().long() + W // 2
        from_y = (column * sin + row * cos).round().long() + H // 2
        inside = (from_x >= 0) & (from_x < W) & (from_y >= 0) & (from_y < H)
        moved = x[..., from_y.clamp(0, H - 1), from_x.clamp(0, W - 1)]
        return torch.where(inside, moved, torch.zeros_like(moved))


Straight = Flip | ZoomIn | ZoomOut  # what the published augmentations are made of
Transform = Straight | Rotate


def draw_transforms(rng: np.random.Generator, boxes: np.ndarray, height: int, width: int) -> list[Straight]:
    """The published augmentation of random chunks: which transforms, one after another.

    Flip with probability 0.5; zoom with 0.8, in against out as 8 to 2, by a factor uniform in 1–1.5 and
    1–1.2. Zooming in goes to one of the given boxes (those of the chunk's last labelled frame), so that it
    stays in view.
    """
    transforms: list[Straight] = []
    if rng.random() < FLIP:
        transforms.append(Flip())
        boxes = Flip().boxes(boxes, height, width)
    if rng.random() < ZOOM:
        zoom_in = rng.random() < ZOOM_IN
        transforms.append((_draw_zoom_in if zoom_in else _draw_zoom_out)(rng, boxes, height, width))
    return transforms


def draw_stream_transforms(rng: np.random.Generator, height: int, width: int) -> list[Straight]:
    """The published augmentation of a training stream, drawn once for a whole sequence.

    Flip with probability 0.5; zoom out with 0.5 by a factor uniform in 1–1.2. A stream is not zoomed in, for
    no part of the frame holds its boxes all along.
    """
    transforms: list[Straight] = [Flip()] if rng.random() < FLIP else []
    if rng.random() < STREAM_ZOOM:
        transforms.append(_draw_zoom_out(rng, np.empty(0), height, width))
    return transforms


def move_frames(frames: Iterable[np.ndarray], transforms: list[Straight], out: np.ndarray) -> None:
    """Frames [C, H, W] of any numbers, L of them, after transforms, into ``out`` [L, C, H, W]; each is contiguous.

    The same bytes as the transforms' ``frames`` one after another, in one pass: flips and zooms take pixel (i, j)
    from (rows[i], columns[j]), and where from is what becomes of numbered rows and columns.
    """
    H, W = out.shape[-2:]
    rows = torch.arange(1.0, H + 1).view(1, 1, H, 1).expand(1, 1, H, W)
    columns = torch.arange(1.0, W + 1).view(1, 1, 1, W).expand(1, 1, H, W)
    for transform in transforms:
        rows, columns = transform.frames(rows), transform.frames(columns)
    # Numbered from 1, so that 0 is where nothing comes from.
    from_rows, from_columns = (v[0, 0].amax(dim).int().numpy() - 1 for v, dim in ((rows, 1), (columns, 0)))
    # What comes from nowhere lies at the edges; unsigned, so that the kernel's look-ups need no sign check.
    inside = np.flatnonzero(from_columns >= 0)
    begin, sources = int(inside[0]), from_columns[inside].astype(np.uintp)
    bits = np.dtype(f"u{out.dtype.itemsize}")  # a number is moved as it is, whatever it stands for
    for frame, moved in zip(frames, out, strict=True):
        _gather(frame.view(bits), from_rows, sources, begin, moved.view(bits))


@njit(nogil=True)
def _gather(frame, rows, columns, begin, out):
    """out[c, i, begin + j] = frame[c, rows[i], columns[j]], all else and rows from −1 zero; unsigned [C, H, W].

    Most rows of most bins are empty, and zooming in repeats rows: neither is looked up pixel by pixel.
    """
    for c in range(frame.shape[0]):
        for i in range(len(rows)):
            if i > 0 and rows[i] == rows[i - 1]:
                out[c, i] = out[c, i - 1]
                continue
            out[c, i] = 0
            if rows[i] < 0:
                continue
            source, target = frame[c, rows[i]], out[c, i]
            some = frame.dtype.type(0)
            for j in range(len(source)):
                some = frame.dtype.type(some | source[j])
            if some:
                for j in range(len(columns)):
                    target[begin + j] = source[columns[j]]


def _draw_zoom_in(rng: np.random.Generator, boxes: np.ndarray, height: int, width: int) -> ZoomIn:
    factor = rng.uniform(1, MOST_IN)
    box = boxes[rng.integers(len(boxes))]

    def draw_start(start: float, length: float, size: int) -> int:
        # Between "the box's far edge is just in view" and "its near edge is"; a box that is longer than
        # the window swaps the two, and then fills the window. The window shows one pixel less at its end.
        window = size / factor
        low, high = sorted((start + length - (window - 2), start))
        low, high = (int(np.clip(v, 0, size - window)) for v in (np.ceil(low), np.floor(high)))
        return int(rng.integers(low, max(low, high) + 1))

    x0 = draw_start(float(box["x"]), float(box["w"]), width)
    return ZoomIn(x0, draw_start(float(box["y"]), float(box["h"]), height), factor)


def _draw_zoom_out(rng: np.random.Generator, boxes: np.ndarray, height: int, width: int) -> ZoomOut:
    factor = rng.uniform(1, MOST_OUT)
    x0 = int(rng.integers(width - int(width / factor) + 1))
    return ZoomOut(x0, int(rng.integers(height - int(height / factor) + 1)), factor)


def _corners(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return boxes["x"], boxes["y"], boxes["x"] + boxes["w"], boxes["y"] + boxes["h"]


def _from_corners(
    boxes: np.ndarray, x_a: np.ndarray, y_a: np.ndarray, x_b: np.ndarray, y_b: np.ndarray
) -> np.ndarray:
    """The boxes with other corners; flat ones are dropped."""
    moved = boxes.copy()
    moved["x"], moved["y"], moved["w"], moved["h"] = x_a, y_a, x_b - x_a, y_b - y_a
    return moved[(moved["w"] > 0) & (moved["h"] > 0)]


def _resize(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """[..., h, w] → [..., height, width], nearest-exact. Bytes are only moved, so int8 goes as uint8."""
    flat = x.reshape(1, -1, *x.shape[-2:])
    kind = torch.uint8 if x.dtype == torch.int8 else x.dtype
    return (
        interpolate(flat.view(kind), (height, width), mode="nearest-exact")
        .view(x.dtype)
        .reshape(*x.shape[:-2], height, width)
    )

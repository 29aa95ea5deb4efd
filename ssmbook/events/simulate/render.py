"""From a scene to pictures in log intensity: a periodic background, actors drawn over it from far to near, and
pillars before them.

All edges are about a pixel soft, so that motion by a fraction of a pixel changes intensities smoothly; a hard
edge would make bursts of events that no camera sees.
"""

from __future__ import annotations

import math

import numpy as np

from ssmbook.compiled import njit
from ssmbook.events.simulate.scene import HORIZON, PEDESTRIAN, Street


def background(height: int, width: int, seed: int) -> np.ndarray:
    """Log intensity [height, 2 · width] float32 of a street, periodic in x: sky, buildings, poles, road."""
    rng = np.random.default_rng(seed)
    columns, horizon = 2 * width, int(HORIZON * height)
    rows = np.arange(height)[:, None]
    street = np.where(rows < horizon, 0.8, -0.2 + 0.3 * rows / height) * np.ones((1, columns))
    for _ in range(rng.integers(4, 9)):  # buildings with windows
        x, w = rng.integers(columns), rng.integers(max(width // 10, 4), max(width // 3, 6))
        top = rng.integers(0, max(int(0.7 * horizon), 1))
        block = rng.uniform(-0.5, 0.5) * np.ones((horizon - top, w))
        pitch = rng.integers(4, 9)
        block[np.ix_(np.arange(len(block)) % pitch < pitch // 2, np.arange(w) % pitch < pitch // 2)] += (
            rng.uniform(-0.6, 0.6)
        )
        street[top:horizon, (x + np.arange(w)) % columns] = block
    for _ in range(rng.integers(1, 5)):  # poles and trunks
        x, w = rng.integers(columns), rng.integers(1, max(width // 40, 2) + 1)
        street[int(0.1 * height) : int(0.5 * height), (x + np.arange(w)) % columns] = rng.uniform(-1.0, -0.4)
    lane, dash = int(rng.uniform(0.6, 0.85) * height), max(width // 8, 4)
    street[lane : lane + max(height // 60, 1), np.arange(columns) % (2 * dash) < dash] += 0.5
    street += sum(
        0.7**k * rng.uniform(0.2, 0.6) * _value_noise(rng, height, columns, max(width // (6 * 2**k), 2))
        for k in range(4)
    )
    return _blur(_blur(street)).astype(np.float32)


def wrapped(texture: np.ndarray, width: int) -> np.ndarray:
    """A texture [H, period] with its first width + 1 columns once more at its end, so that every view is one piece."""
    return np.concatenate([texture, texture[:, : width + 1]], axis=1)


def _value_noise(rng: np.random.Generator, height: int, columns: int, cell: int) -> np.ndarray:
    """Smooth noise in about −1..1, periodic in x, with features of ``cell`` pixels."""
    across = max(columns // cell, 1)
    knots = rng.uniform(-1, 1, (height // cell + 2, across))
    y, x = np.arange(height) / cell, np.arange(columns) * across / columns
    j, i = y.astype(int), x.astype(int)
    fy, fx = ((f * f * (3 - 2 * f)) for f in (y - j, x - i))
    top, bottom = knots[j], knots[j + 1]
    right = (i + 1) % across
    upper = top[:, i] * (1 - fx) + top[:, right] * fx
    lower = bottom[:, i] * (1 - fx) + bottom[:, right] * fx
    return upper * (1 - fy[:, None]) + lower * fy[:, None]


def _blur(image: np.ndarray) -> np.ndarray:
    """[1 2 1]/4 in x (periodic) and y (edges repeated)."""
    image = (np.roll(image, 1, 1) + 2 * image + np.roll(image, -1, 1)) / 4
    padded = np.pad(image, ((1, 1), (0, 0)), mode="edge")
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def actor_table(street: Street) -> np.ndarray:
    """What stays the same of each actor, [actors, 7] float32: class, aspect, heading, and the levels of four parts."""
    rows = [(a.class_id, a.aspect, np.sign(a.velocity), *a.levels) for a in street.actors]
    return np.array(rows, np.float32).reshape(-1, 7)


@njit(nogil=True, inline="always")
def _soft(distance):
    """Cover of a pixel whose centre lies ``distance`` px outside a shape's edge (negative: inside)."""
    return min(max(0.5 - distance, 0.0), 1.0)


@njit(nogil=True, inline="always")
def _box(x, y, left, top, right, bottom):
    """Distance to a rectangle's edge, negative inside."""
    return max(max(left - x, x - right), max(top - y, y - bottom))


@njit(nogil=True, inline="always")
def _limb(x, y, x0, y0, x1, y1, radius):
    """Distance to a capsule from (x0, y0) to (x1, y1)."""
    dx, dy = x1 - x0, y1 - y0
    along = min(max(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-6), 0.0), 1.0)
    return math.hypot(x - x0 - along * dx, y - y0 - along * dy) - radius


@njit(nogil=True, inline="always")
def _over(below, level, cover):
    return below + (level - below) * cover


@njit(nogil=True)
def _car(row, left, centre, y, w, h, heading, levels):
    """Draw a car over one row of pixels, from column ``left`` on: log intensity, float64.

    ``y`` is the height above the wheels' lowest point. Each part is drawn only where it may be: this is where
    rendering spends its time.
    """
    body, glass, wheel, stripe = levels
    if y > 0.5 * h - 1:
        # The cabin narrows towards the roof and sits behind the middle.
        half = (0.36 - 0.12 * max(y / h - 0.55, 0.0) / 0.45) * w
        roof, frame = max(0.5 * h - y, y - h), max(0.6 * h - y, y - 0.92 * h)
        for i in range(len(row)):
            x = (left + i - centre) * heading
            row[i] = _over(row[i], body + 0.15, _soft(max(abs(x + 0.06 * w) - half, roof)))
            pane = max(abs(x + 0.06 * w) - half + 0.05 * w, frame)
            row[i] = _over(row[i], glass, _soft(max(pane, 0.03 * w - abs(x + 0.06 * w))))
    if y < 0.6 * h + 1:
        shade = body + 0.3 * (y / h - 0.4)
        for i in range(len(row)):
            x = (left + i - centre) * heading
            row[i] = _over(row[i], shade, _soft(_box(x, y, -0.5 * w, 0.16 * h, 0.5 * w, 0.6 * h)))
            row[i] = _over(row[i], stripe, _soft(_box(x, y, 0.40 * w, 0.36 * h, 0.47 * w, 0.50 * h)))
    if y < 0.36 * h + 1:
        for side in (-1.0, 1.0):
            for i in range(len(row)):
                x = (left + i - centre) * heading
                if abs(x - side * 0.3 * w) < 0.18 * h + 1:
                    distance = math.hypot(x - side * 0.3 * w, y - 0.18 * h)
                    row[i] = _over(row[i], wheel, _soft(distance - 0.18 * h))
                    row[i] = _over(row[i], stripe, _soft(distance - 0.07 * h))


@njit(nogil=True)
def _pedestrian(row, left, centre, y, w, h, phase, levels):
    """Draw a pedestrian over one row of pixels, as ``_car``, ``y`` from the feet; limbs swing with ``phase``."""
    torso, legs, head, arms = levels
    swing = 0.42 * w * math.sin(phase)
    for i in range(len(row)):
        x = left + i - centre
        if y < 0.56 * h + 1:
            for side in (-1.0, 1.0):
                limb = _limb(x, y, 0.0, 0.5 * h, side * swing, 0.04 * h, 0.06 * h)
                row[i] = _over(row[i], legs, _soft(limb))
        if 0.43 * h - 1 < y < 0.84 * h + 1:
            row[i] = _over(row[i], torso, _soft(_limb(x, y, 0.0, 0.55 * h, 0.0, 0.72 * h, 0.12 * h)))
            arm = _limb(x, y, 0.0, 0.76 * h, 0.8 * swing, 0.5 * h, 0.035 * h)
            row[i] = _over(row[i], arms, _soft(arm))
        if y > 0.83 * h - 1:
            row[i] = _over(row[i], head, _soft(math.hypot(x, y - 0.915 * h) - 0.085 * h))


@njit(nogil=True)
def render(texture, shift, table, geometry, pillars, out):
    """Log intensity of one moment.

    Args:
        texture: ``wrapped`` background [H, 3W + 1], ``shift``: how far it has moved to the left, in px.
        table: ``actor_table`` [A, 7].
        geometry: [A, 4] of this moment, far to near.
        pillars: [O, 4] of this moment: left, width, top, log intensity.
        out: float32 [H, W], filled.
    """
    H, W = out.shape
    whole = math.floor(shift)
    part = np.float32(shift - whole)
    start = whole % (texture.shape[1] - W - 1)
    for j in range(H):
        left, right = texture[j, start : start + W], texture[j, start + 1 : start + W + 1]
        for i in range(W):
            out[j, i] = left[i] * (1 - part) + right[i] * part
    for n in range(len(geometry)):
        x, bottom, h, phase = geometry[n]
        w = table[n, 1] * h
        levels = (table[n, 3], table[n, 4], table[n, 5], table[n, 6])
        first, last = max(int(x - w / 2) - 1, 0), min(int(x + w / 2) + 2, W)
        for j in range(max(int(bottom - h) - 1, 0), min(int(bottom) + 2, H)):
            row = out[j, first:last].astype(np.float64)
            if table[n, 0] == PEDESTRIAN:
                _pedestrian(row, first, x, bottom - j, w, h, phase, levels)
            else:
                _car(row, first, x, bottom - j, w, h, table[n, 2], levels)
            out[j, first:last] = row
    for n in range(len(pillars)):
        left, width, top, level = pillars[n]
        for j in range(max(int(top) - 1, 0), H):
            for i in range(max(int(left) - 1, 0), min(int(left + width) + 2, W)):
                cover = _soft(_box(i, j, left, top, left + width, H + 1.0))
                out[j, i] = _over(out[j, i], level, cover)

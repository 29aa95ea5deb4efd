"""Driving scenes: what is in the street, and where it is at any time.

Lengths are pixels, times seconds unless a name says otherwise. An actor's position is a closed form of time, so
that any moment can be rendered or labelled without the ones before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.boxes import BOX_DTYPE

HORIZON = 0.38  # share of the frame's height above the road's far end
CAR, PEDESTRIAN = 0, 1  # class ids, as Gen1 numbers them
RAMP_S = 0.15  # an actor brakes and sets off within this time
MIN_VISIBLE = 0.25  # minimum share of a box inside the frame
MAX_OCCLUDED = 0.7  # maximum share of a box behind nearer actors and occluders


@dataclass(frozen=True)
class Scene:
    """Distribution over scenes. A pair is a uniform (min, max).

    Args:
        width, height: of the sensor in px.
        duration_s: of a sequence.
        label_hz: labels per second; the first is one interval after the start.
        actors: how many cars and pedestrians, both ends included.
        car_height, pedestrian_height: in px; an actor grows or shrinks between two draws of it (it comes
            nearer or drives away), by at most ``approach`` of its height per second.
        car_aspect, pedestrian_aspect: width over height.
        car_speed, pedestrian_speed: px/s, to either side.
        stop_probability: that an actor stands still once, for ``stop_s`` seconds.
        stop_in_view: an actor that stops does so inside the frame, its centre in the middle 80 % of the width;
            otherwise the stop comes at any time, also before it enters or after it leaves.
        background_speed: the maximum speed of the background in px/s, to either side.
        contrast: of an actor against its surroundings in log intensity, of either sign.
        background_contrast: factor on the background's log intensity.
        occluders: how many pillars stand before the actors, both ends included; they move with the background.
        occluder_width: in px.
    """

    width: int = 128
    height: int = 96
    duration_s: float = 3.0
    label_hz: float = 20.0
    actors: tuple[int, int] = (1, 3)
    car_height: tuple[float, float] = (14.0, 30.0)
    car_aspect: float = 1.8
    car_speed: tuple[float, float] = (15.0, 70.0)
    pedestrian_height: tuple[float, float] = (18.0, 40.0)
    pedestrian_aspect: float = 0.4
    pedestrian_speed: tuple[float, float] = (6.0, 30.0)
    approach: float = 0.15
    stop_probability: float = 0.6
    stop_s: tuple[float, float] = (0.3, 0.9)
    background_speed: float = 6.0
    contrast: tuple[float, float] = (0.35, 1.2)
    stop_in_view: bool = False
    occluders: tuple[int, int] = (0, 0)
    occluder_width: tuple[float, float] = (6.0, 20.0)
    background_contrast: float = 1.0

    def __post_init__(self) -> None:
        positive = ("width", "height", "duration_s", "label_hz", "car_aspect", "pedestrian_aspect")
        for name in (*positive, "background_contrast"):
            if not getattr(self, name) > 0:
                raise InputError(f"scene: {name} is {getattr(self, name)}; it must be above 0")
        ranges = (
            "actors",
            "car_height",
            "car_speed",
            "pedestrian_height",
            "pedestrian_speed",
            "stop_s",
            "contrast",
            "occluders",
            "occluder_width",
        )
        for name in ranges:
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise InputError(
                    f"scene: {name} is {getattr(self, name)}; it must be (min, max) with 0 ≤ min ≤ max"
                )
        if not 0 <= self.stop_probability <= 1:
            raise InputError(f"scene: stop_probability is {self.stop_probability}; it must lie in 0..1")

    @property
    def duration_us(self) -> int:
        return round(1e6 * self.duration_s)

    @property
    def label_times_us(self) -> np.ndarray:
        """Label stamps in µs, up to and including the end."""
        interval = 1e6 / self.label_hz
        return np.round(interval * np.arange(1, int(self.duration_us / interval + 1e-9) + 1)).astype(np.int64)


#: Short stops anywhere, under a slowly moving background.
DEMO_SCENE = Scene()

#: Everything stops for seconds where it can be seen, and nothing else moves: what a detector knows of a stopped
#: object it must remember, for the events are those of noise alone.
MEMORY_SCENE = Scene(
    duration_s=6.0,
    actors=(1, 2),
    car_height=(22.0, 40.0),
    car_speed=(20.0, 80.0),
    pedestrian_height=(32.0, 60.0),
    pedestrian_speed=(10.0, 40.0),
    stop_probability=1.0,
    stop_in_view=True,
    stop_s=(1.0, 3.0),
    background_speed=0.0,
)

#: The same with pillars that hide what passes behind them, and with faster and smaller objects.
OCCLUSION_SCENE = replace(
    MEMORY_SCENE,
    actors=(1, 3),
    car_height=(14.0, 40.0),
    car_speed=(20.0, 240.0),
    pedestrian_height=(20.0, 60.0),
    pedestrian_speed=(10.0, 80.0),
    occluders=(1, 2),
)


#: The same at Gen1's size, with labels as rare as its own, and short.
REHEARSAL_SCENE = replace(
    MEMORY_SCENE,
    width=304,
    height=240,
    duration_s=3.0,
    label_hz=4.0,
    car_height=(50.0, 90.0),
    car_speed=(50.0, 200.0),
    pedestrian_height=(70.0, 140.0),
    pedestrian_speed=(25.0, 100.0),
    stop_s=(0.5, 1.0),
)


#: Streets as a car's camera sees them.
DRIVING_SCENE = Scene(
    width=256,
    height=192,
    duration_s=3.0,
    actors=(1, 4),
    car_height=(22.0, 44.0),
    car_speed=(10.0, 90.0),
    pedestrian_height=(32.0, 64.0),
    pedestrian_speed=(5.0, 40.0),
    approach=0.3,
    stop_probability=0.4,
    stop_s=(0.3, 1.5),
    stop_in_view=True,
    occluders=(0, 2),
)

#: The same in a smaller frame, of which an object may fill more, at the size of ``DETECTOR_SET``.
CAMERA_SCENE = replace(
    DRIVING_SCENE,
    width=160,
    height=128,
    duration_s=2.0,
    car_height=(16.0, 36.0),
    car_speed=(8.0, 70.0),
    pedestrian_height=(24.0, 52.0),
    pedestrian_speed=(4.0, 32.0),
)


@dataclass(frozen=True)
class Actor:
    """A car or a pedestrian on its way through the frame."""

    class_id: int
    aspect: float
    x_start: float  # centre at t = 0
    bottom: float  # where wheels or feet stand
    velocity: float  # px/s, positive to the right
    height_start: float
    growth: float  # px/s
    stop_at: float  # inf: it never stops
    stop_for: float
    levels: tuple[float, ...]  # log intensity of its parts, relative to its surroundings
    gait: float  # phase of the legs at t = 0

    def travelled(self, t: np.ndarray) -> np.ndarray:
        """Seconds of undisturbed driving up to t: the time minus what braking, standing and setting off cost.

        The speed falls linearly to 0 over RAMP_S, stays there for ``stop_for`` and rises again over RAMP_S.
        """
        if not np.isfinite(self.stop_at):
            return t
        corners = self.stop_at + np.cumsum([0, RAMP_S, self.stop_for, RAMP_S])
        brake = np.clip(t - corners[0], 0, RAMP_S)
        go = np.clip(t - corners[2], 0, RAMP_S)
        lost = brake**2 / (2 * RAMP_S) + np.clip(t - corners[1], 0, self.stop_for) + go - go**2 / (2 * RAMP_S)
        return t - lost

    def geometry(self, t: np.ndarray) -> np.ndarray:
        """[T, 4] of centre x, bottom y, height and gait phase at times t [T] in seconds."""
        travelled = self.travelled(t)
        height = np.maximum(self.height_start + self.growth * travelled, 1.0)
        x = self.x_start + self.velocity * travelled
        stride = 0.45 * self.height_start  # px of way per half turn of the legs
        phase = self.gait + np.pi * np.abs(self.velocity) * travelled / stride
        return np.stack([x, np.full_like(x, self.bottom), height, phase], axis=-1)

    def boxes(self, t: np.ndarray) -> np.ndarray:
        """[T, 4] of left, top, width, height in px, not clipped."""
        x, bottom, height, _ = self.geometry(t).T
        width = self.aspect * height
        return np.stack([x - width / 2, bottom - height, width, height], axis=-1)


def draw_actor(scene: Scene, rng: np.random.Generator) -> Actor:
    """One actor that is inside the frame at some time of the sequence."""
    class_id = CAR if rng.random() < 0.6 else PEDESTRIAN
    kind = "car" if class_id == CAR else "pedestrian"
    low, high = getattr(scene, f"{kind}_height")
    aspect = getattr(scene, f"{kind}_aspect")
    velocity = rng.uniform(*getattr(scene, f"{kind}_speed")) * rng.choice([-1, 1])
    height = rng.uniform(low, high)
    growth = np.clip(
        (rng.uniform(low, high) - height) / scene.duration_s,
        -scene.approach * height,
        scene.approach * height,
    )
    # Nearer actors are larger and stand lower in the frame.
    nearness = (height - low) / max(high - low, 1e-9)
    horizon, ground = HORIZON * scene.height, 0.97 * scene.height
    bottom = max(horizon + (0.35 + 0.5 * nearness + rng.uniform(-0.1, 0.15)) * (ground - horizon), height + 1)
    moment, x = rng.uniform(0, scene.duration_s), rng.uniform(0.1, 0.9) * scene.width
    stops = rng.random() < scene.stop_probability
    stop_at = rng.uniform(0.1, max(scene.duration_s - scene.stop_s[0], 0.2)) if stops else np.inf
    if stops and scene.stop_in_view:
        moment = stop_at  # so that it stands at x
    body = rng.uniform(*scene.contrast) * rng.choice([-1, 1])
    accents = rng.uniform(0.25, 0.8, size=3) * rng.choice([-1, 1], size=3)
    actor = Actor(
        class_id=class_id,
        aspect=aspect,
        x_start=0.0,
        bottom=float(bottom),
        velocity=float(velocity),
        height_start=float(height),
        growth=float(growth),
        stop_at=float(stop_at),
        stop_for=float(rng.uniform(*scene.stop_s)),
        levels=(float(body), *(float(body + accent) for accent in accents)),
        gait=float(rng.uniform(0, 2 * np.pi)),
    )
    return replace(actor, x_start=float(x - velocity * actor.travelled(np.array(moment))))


def _draw_occluders(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """[occluders, 4] of left at t = 0, width, top and log intensity of the pillars, which stand on the frame's edge."""
    if not scene.occluders[1]:
        return np.zeros((0, 4))
    count = int(rng.integers(scene.occluders[0], scene.occluders[1] + 1))
    return np.stack(
        [
            rng.uniform(0.0, scene.width, count),
            rng.uniform(*scene.occluder_width, count),
            rng.uniform(0.0, 0.2, count) * scene.height,
            rng.uniform(-0.8, 0.8, count),
        ],
        axis=-1,
    )


class Street:
    """One drawn scene: its actors from far to near, the background's motion and its texture's seed, its pillars."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene = scene
        count = int(rng.integers(scene.actors[0], scene.actors[1] + 1))
        self.actors = sorted((draw_actor(scene, rng) for _ in range(count)), key=lambda actor: actor.bottom)
        self.drift = float(rng.uniform(-1, 1) * scene.background_speed)  # px/s
        self.sway_hz, self.sway_phase = float(rng.uniform(0.1, 0.4)), float(rng.uniform(0, 2 * np.pi))
        self.texture_seed = int(rng.integers(2**63))
        self.occluders = _draw_occluders(scene, rng)

    def background_x(self, t: np.ndarray) -> np.ndarray:
        """How far the background has moved to the left at times t in seconds; its speed sways by a half."""
        w = 2 * np.pi * self.sway_hz
        return self.drift * (
            0.75 * t + 0.25 / w * (np.cos(self.sway_phase) - np.cos(w * t + self.sway_phase))
        )

    def geometry(self, t: np.ndarray) -> np.ndarray:
        """[T, actors, 4] of centre x, bottom y, height and gait phase."""
        if not self.actors:
            return np.zeros((len(t), 0, 4))
        return np.stack([actor.geometry(t) for actor in self.actors], axis=1)

    def pillars(self, t: np.ndarray) -> np.ndarray:
        """[T, occluders, 4] of left, width, top and log intensity at times t in seconds."""
        out = np.repeat(self.occluders[None], len(t), axis=0)
        left, width = out[..., 0], out[..., 1]
        # Periodic as the background is; it comes round while it is out of view.
        out[..., 0] = (left - self.background_x(t)[:, None] + width) % (2 * self.scene.width) - width
        return out

    def boxes_at(self, t_us: int) -> np.ndarray:
        """Boxes (``BOX_DTYPE``) of the actors that are in view at a time in µs, clipped to the frame.

        An actor is left out when less than a quarter of its box is inside the frame, or more than 70 % of that
        part lies behind nearer actors and pillars. One that stands still keeps its box, though it causes no event.
        """
        W, H = self.scene.width, self.scene.height
        corners = []
        for actor in self.actors:
            x, y, w, h = actor.boxes(np.array([t_us / 1e6]))[0]
            clipped = np.clip([x, y, x + w, y + h], 0, [W - 1, H - 1, W - 1, H - 1])
            corners.append((clipped, w * h))
        pillars = [
            np.array([left, top, left + width, H])
            for left, width, top, _ in self.pillars(np.array([t_us / 1e6]))[0]
        ]
        rows = []
        for i, (actor, (corner, area)) in enumerate(zip(self.actors, corners, strict=True)):
            x0, y0, x1, y1 = corner
            if (x1 - x0) * (y1 - y0) < MIN_VISIBLE * area or _covered(
                corner, [c for c, _ in corners[i + 1 :]] + pillars
            ) > MAX_OCCLUDED:
                continue
            rows.append((t_us, x0, y0, x1 - x0, y1 - y0, actor.class_id, i, 1.0))
        boxes = np.zeros(len(rows), BOX_DTYPE)
        for k, name in enumerate(("t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence")):
            boxes[name] = [row[k] for row in rows]
        return boxes

    def boxes(self) -> np.ndarray:
        """The boxes at every label stamp of the scene."""
        boxes = [np.zeros(0, BOX_DTYPE), *(self.boxes_at(int(t)) for t in self.scene.label_times_us)]
        return np.concatenate(boxes).astype(BOX_DTYPE)  # concatenating drops the padding between fields


def _covered(corner: np.ndarray, nearer: list[np.ndarray]) -> float:
    """Share of a box (left, top, right, bottom) that lies in the union of others, on a grid of 16 × 16 points."""
    x0, y0, x1, y1 = corner
    grid = (np.arange(16) + 0.5) / 16
    x, y = (x0 + grid * (x1 - x0))[None, :], (y0 + grid * (y1 - y0))[:, None]
    inside = np.zeros((16, 16), bool)
    for a0, b0, a1, b1 in nearer:
        inside |= (x >= a0) & (x <= a1) & (y >= b0) & (y <= b1)
    return float(inside.mean())

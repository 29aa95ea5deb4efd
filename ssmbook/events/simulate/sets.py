"""The simulated sets: which scene and which pixels, how many sequences of each split, labels how often. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events.simulate.pixel import PixelModel
from ssmbook.events.simulate.scene import (
    CAMERA_SCENE,
    DEMO_SCENE,
    MEMORY_SCENE,
    OCCLUSION_SCENE,
    REHEARSAL_SCENE,
    Scene,
)


@dataclass(frozen=True)
class Variation:
    """What differs from one sequence to the next besides the scene that is drawn: a pair is (min, max).

    Args:
        resolution: factor on heights, widths and speeds in px, log-uniform: the same street on a sensor of so many
            times the resolution.
        speed: factor on the actors' speeds, log-uniform.
        ego_motion: maximum speed of the background in px/s, uniform; half of the sequences stand still.
        contrast: factor on the contrast of actors and background, log-uniform.
        threshold, spread: of the pixels, uniform.
        noise_hz: log-uniform. cutoff_hz: log-uniform. leak_hz: uniform. latency_us: uniform.
    """

    resolution: tuple[float, float] = (1.0, 1.0)
    speed: tuple[float, float] = (1.0, 1.0)
    ego_motion: tuple[float, float] = (0.0, 0.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    threshold: tuple[float, float] = (0.25, 0.25)
    spread: tuple[float, float] = (0.05, 0.05)
    noise_hz: tuple[float, float] = (0.3, 0.3)
    cutoff_hz: tuple[float, float] = (300.0, 300.0)
    leak_hz: tuple[float, float] = (0.0, 0.0)
    latency_us: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            low, high = getattr(self, name)
            lowest = 1e-9 if name in _LOGARITHMIC else 0
            if not lowest <= low <= high:
                raise InputError(
                    f"variation: {name} is {getattr(self, name)}; it must be (min, max) with "
                    f"{'0 <' if lowest else '0 ≤'} min ≤ max"
                )

    def draw(self, scene: Scene, pixel: PixelModel, rng: np.random.Generator) -> tuple[Scene, PixelModel]:
        """The scene and the pixels of one sequence."""
        drawn: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            low, high = getattr(self, name)
            logarithmic = name in _LOGARITHMIC
            drawn[name] = float(
                np.exp(rng.uniform(np.log(low), np.log(high))) if logarithmic else rng.uniform(low, high)
            )
        ego_motion = drawn["ego_motion"] if rng.random() < 0.5 else 0.0
        size, contrast = drawn["resolution"], drawn["contrast"]
        scaled: dict[str, Any] = {name: _times(getattr(scene, name), size) for name in _SIZES}
        speeds: dict[str, Any] = {
            name: _times(getattr(scene, name), size * drawn["speed"]) for name in _SPEEDS
        }
        scene = replace(
            scene,
            **scaled,
            **speeds,
            background_speed=size * ego_motion,
            contrast=_times(scene.contrast, contrast),
            background_contrast=scene.background_contrast * contrast,
        )
        return scene, replace(pixel, **{name: drawn[name] for name in _OF_PIXELS})


_LOGARITHMIC = ("resolution", "speed", "contrast", "noise_hz", "cutoff_hz")
_OF_PIXELS = ("threshold", "spread", "noise_hz", "cutoff_hz", "leak_hz", "latency_us")
_SIZES = ("car_height", "pedestrian_height", "occluder_width")
_SPEEDS = ("car_speed", "pedestrian_speed")


def _times(pair: tuple[float, float], factor: float) -> tuple[float, float]:
    return pair[0] * factor, pair[1] * factor


@dataclass(frozen=True)
class Simulation:
    """A simulated set.

    Args:
        scene: see ``Scene``.
        sequences: number of sequences of each split, all different scenes; the order of the splits decides their seeds.
        pixel: see ``PixelModel``.
        seed: the same seed gives the same bytes.
        label_hz: labels per second of single splits, where they differ from the scene's.
        variation: what differs between sequences besides what the scene itself draws.
    """

    scene: Scene
    sequences: Mapping[str, int]
    pixel: PixelModel = field(default_factory=PixelModel)
    seed: int = 0
    label_hz: Mapping[str, float] = field(default_factory=dict)
    variation: Variation | None = None

    def __post_init__(self) -> None:
        for split, count in self.sequences.items():
            if count < 0:
                raise InputError(f"simulation: {count} sequences of {split}; give 0 or more")
        for split, rate in self.label_hz.items():
            if split not in self.sequences:
                raise InputError(
                    f"simulation: label_hz names {split!r}; the splits are {', '.join(self.sequences)}"
                )
            if not rate > 0:
                raise InputError(f"simulation: label_hz of {split} is {rate}; it must be above 0")

    def sequence(self, split: str, split_number: int, i: int) -> tuple[Scene, PixelModel, int]:
        """Scene, pixels and seed of the i-th sequence of a split."""
        seeds = np.random.SeedSequence((self.seed, split_number, i))
        scene, pixel = self.scene, self.pixel
        if self.variation is not None:
            scene, pixel = self.variation.draw(scene, pixel, np.random.default_rng(seeds.spawn(1)[0]))
        scene = replace(scene, label_hz=self.label_hz.get(split, scene.label_hz))
        return scene, pixel, int(seeds.generate_state(1, np.uint64)[0])


#: What ``ssmbook reproduce`` simulates.
DEMO_SET = Simulation(scene=DEMO_SCENE, sequences={"train": 60, "val": 12, "test": 16})

#: A set on which memory counts. The test split's labels come at 200 Hz, so that detections of any moment can be
#: scored; a sensor whose label interval is 50 ms takes every tenth of them.
MEMORY_SET = Simulation(
    scene=MEMORY_SCENE, sequences={"train": 72, "val": 8, "test": 16}, label_hz={"test": 200.0}
)

#: The same with pillars that hide what passes behind them, and with faster and smaller objects.
OCCLUSION_SET = Simulation(
    scene=OCCLUSION_SCENE, sequences={"train": 72, "val": 8, "test": 16}, label_hz={"test": 200.0}
)

#: For a detector that shall see recordings of cameras that it does not know: resolution, speed, ego-motion, contrast,
#: thresholds, bandwidth and noise differ from sequence to sequence.
DETECTOR_SET = Simulation(
    scene=CAMERA_SCENE,
    sequences={"train": 160, "val": 16, "test": 16},
    pixel=PixelModel(refractory_us=200, jitter_us=30.0, rate_spread=0.1),
    variation=Variation(
        resolution=(0.7, 2.0),
        speed=(0.7, 2.5),
        ego_motion=(0.0, 150.0),
        contrast=(0.6, 1.6),
        threshold=(0.1, 0.45),
        spread=(0.02, 0.15),
        noise_hz=(0.02, 5.0),
        cutoff_hz=(50.0, 1000.0),
        leak_hz=(0.0, 0.3),
        latency_us=(0.0, 500.0),
    ),
)

#: A small one in Gen1's geometry: whatever is to run on Gen1 can be tried on it.
REHEARSAL_SET = Simulation(scene=REHEARSAL_SCENE, sequences={"train": 2, "val": 1, "test": 1})

#: By name, for the command line.
SETS = {
    "demo": DEMO_SET,
    "memory": MEMORY_SET,
    "occlusion": OCCLUSION_SET,
    "detector": DETECTOR_SET,
    "rehearsal": REHEARSAL_SET,
}

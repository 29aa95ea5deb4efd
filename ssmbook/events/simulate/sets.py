"""The simulated sets: which scene and which pixels, how many sequences of each split, labels how often. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ssmbook.errors import InputError
from ssmbook.events.simulate.pixel import PixelModel
from ssmbook.events.simulate.scene import DEMO_SCENE, MEMORY_SCENE, OCCLUSION_SCENE, Scene


@dataclass(frozen=True)
class Simulation:
    """A simulated set.

    Args:
        scene: see ``Scene``.
        sequences: number of sequences of each split, all different scenes; the order of the splits decides their seeds.
        pixel: see ``PixelModel``.
        seed: the same seed gives the same bytes.
        label_hz: labels per second of single splits, where they differ from the scene's.
    """

    scene: Scene
    sequences: Mapping[str, int]
    pixel: PixelModel = field(default_factory=PixelModel)
    seed: int = 0
    label_hz: Mapping[str, float] = field(default_factory=dict)

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

#: By name, for the command line.
SETS = {"demo": DEMO_SET, "memory": MEMORY_SET, "occlusion": OCCLUSION_SET}

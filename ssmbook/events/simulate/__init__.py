"""Simulated driving scenes, and the event camera that films them."""

from ssmbook.events.simulate.array import PixelArray
from ssmbook.events.simulate.pixel import PIXELS, PixelModel
from ssmbook.events.simulate.render import background, render
from ssmbook.events.simulate.scene import (
    CAMERA_SCENE,
    CAR,
    DEMO_SCENE,
    DRIVING_SCENE,
    MEMORY_SCENE,
    OCCLUSION_SCENE,
    PEDESTRIAN,
    Actor,
    Scene,
    Street,
)
from ssmbook.events.simulate.sets import (
    DEMO_SET,
    DETECTOR_SET,
    MEMORY_SET,
    OCCLUSION_SET,
    SETS,
    Simulation,
    Variation,
)
from ssmbook.events.simulate.write import SimulatedSequence, simulate_set

__all__ = [
    "CAMERA_SCENE",
    "CAR",
    "DEMO_SCENE",
    "DEMO_SET",
    "DETECTOR_SET",
    "DRIVING_SCENE",
    "MEMORY_SCENE",
    "MEMORY_SET",
    "OCCLUSION_SCENE",
    "OCCLUSION_SET",
    "PEDESTRIAN",
    "PIXELS",
    "SETS",
    "Actor",
    "PixelArray",
    "PixelModel",
    "Scene",
    "SimulatedSequence",
    "Simulation",
    "Street",
    "Variation",
    "background",
    "render",
    "simulate_set",
]

"""Simulated driving scenes, and the event camera that films them."""

from ssmbook.events.simulate.pixel import PixelArray, PixelModel
from ssmbook.events.simulate.render import background, render
from ssmbook.events.simulate.scene import CAR, DEMO_SCENE, PEDESTRIAN, Actor, Scene, Street
from ssmbook.events.simulate.write import SimulatedSequence, simulate_set

__all__ = [
    "CAR",
    "DEMO_SCENE",
    "PEDESTRIAN",
    "Actor",
    "PixelArray",
    "PixelModel",
    "Scene",
    "SimulatedSequence",
    "Street",
    "background",
    "render",
    "simulate_set",
]

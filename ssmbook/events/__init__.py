"""Raw events in, dense tensors out."""

from ssmbook.events.box_folders import read_voc, read_yolo
from ssmbook.events.box_formats import read_coco, write_coco
from ssmbook.events.boxes import BOX_DTYPE, clean_boxes, read_boxes, write_boxes
from ssmbook.events.events import Events
from ssmbook.events.formats import DatWriter, Recording, open_events
from ssmbook.events.representations import (
    REPRESENTATIONS,
    MixedDensityStack,
    Representation,
    StackedHistogram,
    Traces,
    get_representation,
)

__all__ = [
    "BOX_DTYPE",
    "REPRESENTATIONS",
    "DatWriter",
    "Events",
    "MixedDensityStack",
    "Recording",
    "Representation",
    "StackedHistogram",
    "Traces",
    "clean_boxes",
    "get_representation",
    "open_events",
    "read_boxes",
    "read_coco",
    "read_voc",
    "read_yolo",
    "write_boxes",
    "write_coco",
]

"""Raw events in, dense tensors out."""

from ssmbook.events.box_formats import read_coco, read_yolo, write_coco
from ssmbook.events.boxes import BOX_DTYPE, clean_boxes, read_boxes, write_boxes
from ssmbook.events.events import Events
from ssmbook.events.formats import DatWriter, Recording, open_events
from ssmbook.events.representations import REPRESENTATIONS, MixedDensityStack, StackedHistogram, Traces

__all__ = [
    "BOX_DTYPE",
    "REPRESENTATIONS",
    "DatWriter",
    "Events",
    "MixedDensityStack",
    "Recording",
    "StackedHistogram",
    "Traces",
    "clean_boxes",
    "open_events",
    "read_boxes",
    "read_coco",
    "read_yolo",
    "write_boxes",
    "write_coco",
]

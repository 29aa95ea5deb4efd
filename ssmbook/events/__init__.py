"""Raw events in, dense tensors out."""

from typing import TYPE_CHECKING

from ssmbook.lazy import lazily

if TYPE_CHECKING:
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

_HOMES = {
    "BOX_DTYPE": "boxes",
    "REPRESENTATIONS": "representations",
    "DatWriter": "formats",
    "Events": "events",
    "MixedDensityStack": "representations",
    "Recording": "formats",
    "Representation": "representations",
    "StackedHistogram": "representations",
    "Traces": "representations",
    "clean_boxes": "boxes",
    "get_representation": "representations",
    "open_events": "formats",
    "read_boxes": "boxes",
    "read_coco": "box_formats",
    "read_voc": "box_folders",
    "read_yolo": "box_folders",
    "write_boxes": "boxes",
    "write_coco": "box_formats",
}

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

__getattr__ = lazily(__name__, _HOMES)

"""Events to what the detector sees, one module for each representation."""

from ssmbook.events.representations.traces import Traces
from ssmbook.events.representations.windowed import (
    REPRESENTATIONS,
    MixedDensityStack,
    Representation,
    StackedHistogram,
)

__all__ = ["REPRESENTATIONS", "MixedDensityStack", "Representation", "StackedHistogram", "Traces"]

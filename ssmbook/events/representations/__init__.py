"""Events to what the detector sees: a module for each kind, and their registry."""

from ssmbook.errors import InputError
from ssmbook.events.representations.base import Representation
from ssmbook.events.representations.traces import Traces
from ssmbook.events.representations.windowed import MixedDensityStack, StackedHistogram

#: By name, which is also how their folders in the published layout begin.
REPRESENTATIONS: dict[str, type[Representation]] = {
    kind.name: kind for kind in (StackedHistogram, MixedDensityStack, Traces)
}


def get_representation(name: str) -> type[Representation]:
    """The representation of that name; an InputError that lists the names if there is none."""
    if name not in REPRESENTATIONS:
        raise InputError(f"representation is {name!r}; it can be {', '.join(REPRESENTATIONS)}")
    return REPRESENTATIONS[name]


__all__ = [
    "REPRESENTATIONS",
    "MixedDensityStack",
    "Representation",
    "StackedHistogram",
    "Traces",
    "get_representation",
]

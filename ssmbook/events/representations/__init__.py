"""Events to what the detector sees: a module for each kind, and their registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssmbook.errors import InputError, shown
from ssmbook.lazy import Registry, lazily

if TYPE_CHECKING:
    from ssmbook.events.representations.base import Representation
    from ssmbook.events.representations.traces import Traces
    from ssmbook.events.representations.windowed import MixedDensityStack, StackedHistogram

#: By name, which is also how their folders in the published layout begin; imported when first asked for.
REPRESENTATIONS: Registry[type[Representation]] = Registry(
    "representation",
    __name__,
    {
        "stacked_histogram": "windowed:StackedHistogram",
        "mixeddensity_stack": "windowed:MixedDensityStack",
        "traces": "traces:Traces",
    },
)


def get_representation(name: str) -> type[Representation]:
    """The representation of that name; an InputError that lists the names if there is none, or where the class has
    another one, under which its frames would be mistaken for those of another."""
    kind = REPRESENTATIONS.find(name)
    own = getattr(kind, "name", None)
    if own != name:
        raise InputError(
            f"representation {name!r} is the class {kind.__name__}, whose name is {shown(own)}; "
            f"its folders begin with that: give the class name = {name!r}"
        )
    return kind


_HOMES = {
    "MixedDensityStack": "windowed",
    "Representation": "base",
    "StackedHistogram": "windowed",
    "Traces": "traces",
}

__all__ = [
    "REPRESENTATIONS",
    "MixedDensityStack",
    "Representation",
    "StackedHistogram",
    "Traces",
    "get_representation",
]

__getattr__ = lazily(__name__, _HOMES)

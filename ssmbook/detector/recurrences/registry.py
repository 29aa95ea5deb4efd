"""The recurrences by name. A module is imported when its name is first asked for, so that names cost no PyTorch.

A recurrence of one's own is a subclass of ``Recurrence`` in a file of its own, with ``@register("its-name")`` above it
(commands import the files that ``SSMBOOK_PLUGINS`` names); one of the library is a line of ``REGISTRY``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ssmbook.errors import InputError, shown
from ssmbook.lazy import Registry

if TYPE_CHECKING:
    from ssmbook.detector.recurrences.base import Recurrence

#: By name, in the order of the tables.
REGISTRY: Registry[type[Recurrence]] = Registry(
    "recurrence",
    "ssmbook.detector.recurrences",
    {
        "s5": "s5:S5Block",
        "s5-selective": "s5_selective:SelectiveS5Block",
        "s4d": "s4d:S4DBlock",
        "s4": "s4:S4Block",
        "mamba": "mamba:MambaBlock",
        "convlstm": "convlstm:ConvLSTM",
        "none": "none:NoRecurrence",
    },
)
RECURRENCES = tuple(REGISTRY)  #: the names of the library's own


def register(name: str) -> Callable[[type[Recurrence]], type[Recurrence]]:
    """Class decorator: the recurrence is made by this name."""

    def add(cls: type[Recurrence]) -> type[Recurrence]:
        REGISTRY[name] = cls
        return cls

    return add


def get_recurrence(name: str) -> type[Recurrence]:
    """The class of that name; an InputError that lists the names if there is none."""
    if not isinstance(name, str):
        raise InputError(f"recurrence is {shown(name)}; it must be one of {', '.join(REGISTRY)}")
    return REGISTRY.find(name)


def options_of(name: str) -> dict[str, Any]:
    """The options of a recurrence and their defaults."""
    parameters = inspect.signature(get_recurrence(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def make_recurrence(name: str, channels: int, **options: Any) -> Recurrence:
    """The recurrence of that name with ``channels`` features.

    Raises:
        InputError: no such recurrence, or an option that it does not have.
    """
    has = options_of(name)
    if unknown := sorted(options.keys() - has.keys()):
        raise InputError(
            f"recurrence {name!r} has no option {unknown[0]!r}; "
            + (f"its options are {', '.join(has)}" if has else "it has no options")
        )
    return get_recurrence(name)(channels, **options)

"""Events as cameras' own libraries give them: arrays with named fields, or objects that become such an array."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssmbook.errors import InputError
from ssmbook.events import Events

_NAMES = {"t": ("t", "timestamp", "ts"), "x": ("x",), "y": ("y",), "p": ("p", "polarity")}


def as_events(events: Any) -> Events:
    """Events of any of these kinds.

    Args:
        events: ``Events``; a structured array with fields t (or timestamp, ts), x, y and p (or polarity), as
            Metavision's ``EventsIterator`` gives it; or an object whose ``numpy()`` is one, as dv-processing's
            ``EventStore``.

    Raises:
        InputError: it is none of them.
    """
    if isinstance(events, Events):
        return events
    array = events.numpy() if hasattr(events, "numpy") else events
    names = getattr(getattr(array, "dtype", None), "names", None) or ()
    columns = [next((name for name in known if name in names), None) for known in _NAMES.values()]
    if None in columns:
        fields = f"with fields {', '.join(names)}" if names else "without fields"
        raise InputError(
            f"{type(events).__name__} {fields}; give Events, or a structured array with t, x, y, p, as the SDKs do"
        )
    return Events(*(np.asarray(array[name]) for name in columns))

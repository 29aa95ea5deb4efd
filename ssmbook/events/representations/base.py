"""What a representation says of itself: all that the rest of the library needs to know of it.

A representation is one module and one line of the registry beside it. From its name it is preprocessed, trained on,
evaluated, run live, timed and exported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from ssmbook.compiled import njit
from ssmbook.errors import InputError, shown
from ssmbook.events.events import Events


class Camera(Protocol):
    """What a representation needs of a sensor: its size in px, and whether frames have half of it."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def downsample(self) -> bool: ...


class Representation(ABC):
    """Events to frames [channels, H, W] of a sensor of height × width pixels, at full or half size.

    Class attributes:
        name: its key in ``REPRESENTATIONS``, with which its folder's name begins.
        dtype: of a frame.
        windowed: a frame holds the events of a window. Else it is a function of all events so far, without a window,
            and frames must be made in order.

    Attributes:
        height, width: of the sensor in px.
        halve: frames keep pixels 2i + 1 of rows and columns.
        channels: of a frame.
        options: by name, all other arguments that its frames depend on; plain values.
    """

    name: ClassVar[str]
    dtype: ClassVar[np.dtype]
    windowed: ClassVar[bool]

    height: int
    width: int
    halve: bool

    @classmethod
    def for_sensor(cls, sensor: Camera, **options: Any) -> Self:
        """The one whose frames have the size of a sensor's, half its pixels where it is downsampled."""
        try:
            make: Callable[..., Self] = cls  # each takes these three, and options of its own
            return make(height=sensor.height, width=sensor.width, halve=sensor.downsample, **options)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            known = cls.for_sensor(sensor).options
            if unknown := ", ".join(sorted(options.keys() - known.keys())):
                raise InputError(f"{cls.name} has no option {unknown}; it has {', '.join(known)}") from None
            raise InputError(f"{cls.name}: options {shown(options)} are of wrong types ({error})") from None

    @property
    @abstractmethod
    def channels(self) -> int: ...

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]: ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a frame."""
        return self.channels, self.height >> self.halve, self.width >> self.halve

    def check_frame(self, out: np.ndarray) -> None:
        """InputError unless an array is one that a frame can be written to."""
        if not isinstance(out, np.ndarray) or out.shape != self.shape or out.dtype != self.dtype:
            found = f"{out.dtype} {list(out.shape)}" if isinstance(out, np.ndarray) else type(out).__name__
            raise InputError(f"out must be an array of {self.dtype} {list(self.shape)}, not {found}")

    @abstractmethod
    def write_frame(self, parts: Sequence[Events], t_us: int, out: np.ndarray) -> None:
        """Write the frame at ``t_us`` to ``out``, an array (or a frame of one) of its shape and dtype.

        Args:
            parts: if windowed, the window's events; else those since the last frame. Consecutive, in order and inside
                the sensor, as a ``Recording`` with its size gives them; what is not so would write anywhere.
            t_us: the end of the window, or the time at which the past is read.
        """

    @abstractmethod
    def advance(self, parts: Sequence[Events]) -> None:
        """Take events, as ``write_frame`` does, without making a frame; only for those without windows."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the past, where there is one: another recording begins."""

    @abstractmethod
    def folder_name(self, window_ms: float | None = None, window_events: int | None = None) -> str:
        """The name of its folder in the published layout: for windows by duration or by count; without either, for
        windows that each begin where the one before it ends, or a representation without windows."""

    def polarities(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a frame shows of (OFF, ON) events, [H, W] each, for pictures: here the sums of its channels' halves."""
        off, on = np.split(frame.astype(np.int64), 2)
        return off.sum(0), on.sum(0)


@njit(nogil=True)
def first_misplaced(t, x, y, height, width):
    """Index of the first event outside the frame or earlier than the one before it; −1 without one."""
    for i in range(len(t)):
        if x[i] >= width or y[i] >= height or t[i] < t[max(i - 1, 0)]:
            return i
    return -1


def check_placed(ev: Events, height: int, width: int) -> None:
    """InputError for the first event outside the frame or earlier than the one before it."""
    i = first_misplaced(ev.t, ev.x, ev.y, height, width)
    if i < 0:
        return
    t, x, y = int(ev.t[i]), int(ev.x[i]), int(ev.y[i])
    if x >= width or y >= height:
        raise InputError(
            f"event {i} at x={x}, y={y} lies outside the {width} × {height} frame; give the sensor's size"
        )
    raise InputError(
        f"event {i} at {t} µs is earlier than the one before it; make the stamps a running maximum first"
    )

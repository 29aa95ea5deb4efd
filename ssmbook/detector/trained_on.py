"""What a network was trained on: one frozen record, which goes into its checkpoint and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ssmbook.dataset.grid import BASE_MS
from ssmbook.dataset.sensor import Sensor
from ssmbook.detector.config import plain
from ssmbook.errors import InputError, one_line, shown
from ssmbook.events import Representation, get_representation

KEY = "trained_on"  # of a checkpoint; files from before it have some of its facts as keys of their own
_LOOSE = ("sensor", "sequence_length", "stride_us")


@dataclass(frozen=True)
class TrainedOn:
    """The data that a network's weights belong to.

    Args:
        sensor: whose frames; None where it is not known.
        representation: a name of ``REPRESENTATIONS``.
        options: the representation's arguments besides the sensor's size; those that are missing follow from the
            network's number of channels, or are the defaults.
        window_ms: length of a window; None where it is not known, counts events, or there is none.
        window_events: events of a window, where it counts them.
        stride_us: time between the ends of windows; None where it is not known or was not one.
        sequence_length: windows of a training chunk.
        rates_hz: at which it was trained, windows a second; empty where ``stride_us`` is all that is known.
        score: what ranks its detections, see ``to_boxes``.

    Raises:
        InputError: an unknown representation, options that it cannot be made with for that sensor, or a number that is
            out of range.
    """

    sensor: Sensor | None = None
    representation: str = "stacked_histogram"
    options: Mapping[str, Any] = field(default_factory=dict)
    window_ms: float | None = None
    stride_us: int | None = None
    sequence_length: int | None = None
    rates_hz: tuple[float, ...] = ()
    score: str = "product"
    window_events: int | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, plain(getattr(self, f.name)))
        kind = get_representation(self.representation)
        if not isinstance(self.options, Mapping) or not all(isinstance(name, str) for name in self.options):
            raise InputError(f"options is {shown(self.options)}; give the representation's arguments by name")
        if self.score not in ("product", "class"):
            raise InputError(f"score is {shown(self.score)}; it can be product or class")
        for name in ("window_ms", "window_events", "stride_us", "sequence_length"):
            value = getattr(self, name)
            if value is not None and not _is_above_0(value):
                raise InputError(f"{name} is {shown(value)}; it must be above 0")
        rates = self.rates_hz
        if not isinstance(rates, tuple | list) or not all(map(_is_above_0, rates)):
            raise InputError(f"rates_hz is {shown(rates)}; it must be rates above 0")
        if self.sensor is not None:  # whether it can be made with these options
            kind.for_sensor(self.sensor, **self.options)

    @property
    def grid_ms(self) -> tuple[float, float]:
        """Window and stride of training in ms; 50, as published, for what is not known."""
        return self.window_ms or BASE_MS, BASE_MS if self.stride_us is None else self.stride_us / 1000

    def represent(self, sensor: Sensor, channels: int) -> Representation:
        """A new representation for a sensor's frames, with as many channels as a network takes.

        Raises:
            InputError: it cannot have as many.
        """
        kind, options = get_representation(self.representation), dict(self.options)
        if "bins" not in options and "bins" in kind.for_sensor(sensor, **options).options:
            options["bins"] = max(1, channels // kind.for_sensor(sensor, bins=1).channels)
        made = kind.for_sensor(sensor, **options)
        if made.channels != channels:
            raise InputError(
                f"{self.representation} has {made.channels} channels, but the model takes {channels}: choose the "
                "representation that it was trained on"
            )
        return made

    def content(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.window_events is None:  # as in files from before it
            del values["window_events"]
        sensor = None if self.sensor is None else plain(asdict(self.sensor))
        return {KEY: {**values, "sensor": sensor, "options": dict(self.options)}}

    @classmethod
    def read(cls, content: Mapping[str, Any], path: object = "the checkpoint") -> TrainedOn:
        """The record of a checkpoint's content; of files from before it, what they say.

        Raises:
            InputError: it holds what this version does not know, or values that make no sense.
        """
        record = content.get(KEY)
        if record is None:
            record = {name: content[name] for name in _LOOSE if content.get(name) is not None}
        if not isinstance(record, Mapping):
            raise InputError(
                f"{path}: its {KEY!r} is a {type(record).__name__}, not a record; write it again"
            )
        sensor = record.get("sensor")
        if not isinstance(sensor, Mapping | None):
            raise InputError(f"{path}: its {KEY!r} is damaged: sensor is {shown(sensor)}; write it again")
        unknown = [*_unknown(record, cls), *(f"sensor.{name}" for name in _unknown(sensor or {}, Sensor))]
        if unknown:
            raise InputError(
                f"{path}: was written by a later version: {KEY!r} holds {', '.join(unknown)}; install that version"
            )
        try:
            fields: dict[str, Any] = {**record, "sensor": None if sensor is None else Sensor(**sensor)}
            return cls(**fields)
        except (InputError, TypeError, ValueError, OverflowError) as error:
            words = one_line(str(error), 300)
            raise InputError(f"{path}: its {KEY!r} is damaged: {words}; write it again") from None


def _is_above_0(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < 1 << 63


def _unknown(record: Mapping[Any, Any], kind: type) -> list[str]:
    """What a record holds that a class has no field for."""
    known = {f.name for f in fields(kind)}
    return sorted(
        one_line(key, 40) if isinstance(key, str) else shown(key) for key in record if key not in known
    )

"""What a preprocessed set is made with, and the record of it that is kept beside the set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ssmbook.dataset.labels import GRIDS
from ssmbook.dataset.layout import SPLITS
from ssmbook.dataset.sensor import Sensor
from ssmbook.errors import InputError, one_line, shown
from ssmbook.events import Representation, get_representation
from ssmbook.files import atomic_write

PARAMETERS = "preprocess.json"
_REMEDY = "put the record back from a copy, or make the set in another folder"

# Options of representations whose records have none, since they were made before records had them.
_UNRECORDED = {"traces": {"taus_ms": [2.5, 5.0, 10.0, 20.0, 40.0]}}


@dataclass(frozen=True)
class Parameters:
    """What a preprocessed set is made with.

    Attributes:
        options: all arguments of the representation besides the sensor's size, those that were not given too.
    """

    sensor: Sensor
    representation: str
    window_ms: float | None
    window_events: int | None
    stride_ms: float
    grid: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        windowed = get_representation(self.representation).windowed
        given = (self.window_ms is not None) + (self.window_events is not None)
        if given > 1 or (windowed and not given and self.grid != "mixed"):
            raise InputError("give a window by window_ms or by window_events, not both")
        if given and not windowed:
            raise InputError(
                f"{self.representation} have no window, only a stride; leave window_ms and window_events out"
            )
        if self.grid not in GRIDS:
            raise InputError(f"grid is {self.grid!r}; it can be {', '.join(GRIDS)}")
        for key, value, kind, minimum in (
            ("window_ms", self.window_ms, (int, float), 1e-3),
            ("window_events", self.window_events, int, 1),
            ("stride_ms", self.stride_ms, (int, float), 1e-3),
        ):
            if value is not None and not (isinstance(value, kind) and minimum <= value < float("inf")):
                raise InputError(f"{key} is {value!r}; it must be a number of at least {minimum}")
        if self.grid == "published" and 100_000 % self.stride_us != 0:
            raise InputError(f"stride_ms is {self.stride_ms}; on the published grid it must divide 100 ms")
        if self.grid == "mixed" and self.stride_us < 1000:
            raise InputError(
                f"stride_ms is {self.stride_ms}; the mixed grid cuts it, so it must be at least 1 ms"
            )
        object.__setattr__(self, "options", dict(self.represent.options))

    @property
    def stride_us(self) -> int:
        return round(1000 * self.stride_ms)

    @property
    def window_us(self) -> int | None:
        return None if self.window_ms is None else round(1000 * self.window_ms)

    @property
    def window_is_step(self) -> bool:
        """Each window begins where the one before it ends, on the mixed grid."""
        windowed = get_representation(self.representation).windowed
        return windowed and self.window_ms is None and self.window_events is None

    @property
    def represent(self) -> Representation:
        """A new one, which makes frames of the sensor's size."""
        return get_representation(self.representation).for_sensor(self.sensor, **self.options)

    @property
    def folder_name(self) -> str:
        """The name of the representation's folder."""
        return self.represent.folder_name(window_ms=self.window_ms, window_events=self.window_events)


def mixed_stride(out_dir: Path) -> int | None:
    """The stride in µs whose multiples and parts a set on the mixed grid has; None for a set on another grid."""
    record = out_dir / PARAMETERS
    kept = _read(record) if record.exists() else {}
    if kept.get("grid") != "mixed":
        return None
    try:
        return round(1000 * kept["stride_ms"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(f"{record}: has no stride_ms; {_REMEDY}") from None


def check_sensor(out_dir: Path, sensor: Sensor) -> None:
    """An InputError where a set's record names another size or other classes than a sensor has."""
    record = out_dir / PARAMETERS
    kept = _read(record).get("sensor") if record.exists() else None
    if not isinstance(kept, dict):
        return
    asked = {"width": sensor.width, "height": sensor.height, "classes": list(sensor.classes)}
    if differ := _differences({key: kept.get(key, value) for key, value in asked.items()}, asked):
        raise InputError(
            f"{out_dir}: was made for another sensor ({'; '.join(differ)}); give the YAML file of that one"
        )


def recorded_window(out_dir: Path, default: float | None) -> tuple[float | None, int | None]:
    """The length of a set's windows, in ms or in events, None for what it is not given by; ``default`` in ms for a set
    without a record, or whose windows are as long as their steps."""
    record = out_dir / PARAMETERS
    kept = _read(record) if record.exists() else {"grid": "mixed"}
    window_ms, window_events = kept.get("window_ms"), kept.get("window_events")
    for key, value, kind in (("window_ms", window_ms, int | float), ("window_events", window_events, int)):
        if value is not None and not (isinstance(value, kind) and value > 0):
            raise InputError(f"{record}: {key} is {shown(value)}; {_REMEDY}")
    if kept.get("grid") == "mixed" and window_events is None:
        return window_ms or default, None
    return window_ms, window_events


def _read(record: Path) -> dict[str, Any]:
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{record}: cannot be read ({error}); {_REMEDY}") from None
    if not isinstance(kept, dict):
        raise InputError(f"{record}: holds {shown(kept)} and no parameters; {_REMEDY}")
    return kept


def claim(out_dir: Path, parameters: Parameters) -> None:
    """Keep the parameters beside the set, or check that they are those that it is made with.

    Where no sequence came of earlier ones, as with the sensor of another camera, these take their place.
    """
    record = out_dir / PARAMETERS
    asked = json.loads(json.dumps(asdict(parameters)))
    if record.exists():
        kept = _read(record)
        kept.setdefault("options", _UNRECORDED.get(str(kept.get("representation")), asked["options"]))
        differ = _differences(kept, asked)
        if not differ:
            return
        if any(path.is_dir() for split in SPLITS for path in (out_dir / split).glob("[!.]*")):
            raise InputError(
                f"{out_dir}: was made with other parameters ({'; '.join(differ)}); choose another folder"
            )
    elif any((out_dir / split).exists() for split in SPLITS):
        raise InputError(f"{out_dir}: holds a set but no {PARAMETERS}; choose another folder")
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out_dir}: cannot be made ({error.strerror}); choose another folder") from error
    with atomic_write(record) as file:
        file.write(f"{json.dumps(asked, indent=2)}\n".encode())


def _differences(kept: dict, asked: dict, prefix: str = "") -> list[str]:
    """What differs between two records, as ``key: a there, b asked``.

    A field of a sensor that a record lacks is one that came later, and has its default there.
    """
    rows: list[str] = []
    defaults = {f.name: _plain(f.default) for f in fields(Sensor)} if prefix == "sensor." else {}
    for key in sorted(kept.keys() | asked.keys()):
        a, b = kept.get(key, defaults.get(key)), asked.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            rows += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            rows.append(f"{prefix}{one_line(key, 40)}: {_value(a)} there, {_value(b)} asked")
    return rows


def _value(value: object) -> str:
    return one_line(value, 60) if isinstance(value, str) else shown(value)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

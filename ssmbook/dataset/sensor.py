"""Sensors: size, classes, label interval and box filters, of which Gen1 and 1 Mpx are two.

A filter in preprocessing decides which labels exist at all; a filter in evaluation decides which labels
and detections count. Source of the two: the Prophesee automotive sets, and the protocol by which detectors
for event cameras are compared on them.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from ssmbook.errors import InputError


@dataclass(frozen=True)
class Sensor:
    """What preprocessing, loading and evaluation need to know of a camera and its labels.

    Args:
        name: for messages and records.
        width, height: of the camera in pixels.
        classes: names, in the order of the class ids.
        label_interval_ms: time between label frames; None: found from the box times, which must then
            come at 30 or 60 Hz.
        min_diagonal, min_side: least diagonal, width and height in pixels of a box that preprocessing keeps.
        eval_min_diagonal, eval_min_side: the same in evaluation, for frames of the camera's full size.
        eval_skip_us: boxes and detections up to this time do not count in evaluation.
        downsample: frames and boxes are halved.
        drop_other_classes: drop boxes whose class id is not one of ``classes``; otherwise such a box is
            an error.
    """

    name: str
    width: int
    height: int
    classes: tuple[str, ...]
    label_interval_ms: float | None = None
    min_diagonal: float = 0.0
    min_side: float = 0.0
    eval_min_diagonal: float = 0.0
    eval_min_side: float = 0.0
    eval_skip_us: int = 500_000
    downsample: bool = False
    drop_other_classes: bool = False

    def __post_init__(self) -> None:
        for key, kind, least in _RULES:
            value = getattr(self, key)
            if key == "label_interval_ms" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < float("inf"):
                name = "a whole number" if kind is int else "a number"
                raise InputError(f"sensor {self.name!r}: {key} is {value!r}; it must be {name} ≥ {least}")
        for key in ("downsample", "drop_other_classes"):
            if not isinstance(getattr(self, key), bool):
                raise InputError(
                    f"sensor {self.name!r}: {key} is {getattr(self, key)!r}; it must be true or false"
                )
        names = self.classes
        if not isinstance(names, tuple) or not names or not all(isinstance(n, str) and n for n in names):
            raise InputError(f"sensor {self.name!r}: classes are {names!r}; they must be a list of names")

    @classmethod
    def simulated(cls, width: int, height: int, label_interval_ms: float = 50) -> Sensor:
        """A camera of any size with Gen1's classes; Gen1's filters are scaled by width / 304."""
        gen1 = SENSORS["gen1"]
        scale = width / gen1.width
        return cls(
            name=f"simulated_{width}x{height}",
            width=width,
            height=height,
            classes=gen1.classes,
            label_interval_ms=label_interval_ms,
            min_diagonal=scale * gen1.min_diagonal,
            min_side=scale * gen1.min_side,
            eval_min_diagonal=scale * gen1.eval_min_diagonal,
            eval_min_side=scale * gen1.eval_min_side,
        )

    @classmethod
    def from_yaml(cls, path: str | Path) -> Sensor:
        """A sensor from a YAML file whose keys are the arguments of ``Sensor``.

        ``width``, ``height`` and ``classes`` are needed; ``name`` is the file's if not given. Without the
        ``min_…`` keys no box is too small. Boxes of the first half second do not count in evaluation unless
        ``eval_skip_us`` says so.
        """
        path = Path(path)
        try:
            entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); give gen1, gen4 or a YAML file"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
        return cls(**_checked_entries(path, entries))

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the frames that preprocessing writes."""
        return (self.height // 2, self.width // 2) if self.downsample else (self.height, self.width)


# key, type, least value
_RULES: tuple[tuple[str, Any, float], ...] = (
    ("width", int, 2),
    ("height", int, 2),
    ("label_interval_ms", (int, float), 1),
    ("min_diagonal", (int, float), 0),
    ("min_side", (int, float), 0),
    ("eval_min_diagonal", (int, float), 0),
    ("eval_min_side", (int, float), 0),
    ("eval_skip_us", int, 0),
)


def _checked_entries(path: Path, entries: Any) -> dict[str, Any]:
    """The entries of a YAML file as arguments of ``Sensor``, or an error that names file and key."""
    if not isinstance(entries, dict):
        raise InputError(f"{path}: holds no keys; width, height and classes are needed")
    known = {f.name: f for f in fields(Sensor)}
    for key in entries:
        if key not in known:
            raise InputError(f"{path}: key {key!r} is unknown; known are {', '.join(known)}")
    entries = {"name": path.stem, **entries}
    for key, field in known.items():
        if field.default is MISSING and key not in entries:
            raise InputError(f"{path}: key {key!r} is missing")
    if isinstance(entries["classes"], list):
        entries["classes"] = tuple(entries["classes"])
    try:
        Sensor(**entries)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return entries


SENSORS = {
    "gen1": Sensor(
        name="gen1",
        width=304,
        height=240,
        classes=("car", "pedestrian"),
        label_interval_ms=250,
        min_diagonal=30,
        min_side=10,
        eval_min_diagonal=30,
        eval_min_side=10,
    ),
    "gen4": Sensor(
        name="gen4",
        width=1280,
        height=720,
        classes=("pedestrian", "two-wheeler", "car"),
        min_side=5,
        eval_min_diagonal=60,
        eval_min_side=20,
        downsample=True,
        drop_other_classes=True,
    ),
}


def get_sensor(sensor: str | Path | Sensor) -> Sensor:
    """A sensor by name (``"gen1"``, ``"gen4"``), from the path of its YAML file, or as it is."""
    if isinstance(sensor, Sensor):
        return sensor
    return SENSORS[str(sensor)] if str(sensor) in SENSORS else Sensor.from_yaml(sensor)

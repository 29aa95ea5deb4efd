"""Sensors: size, classes, label interval and box filters, of which Gen1 and 1 Mpx are two.

A filter in preprocessing decides which labels exist at all; a filter in evaluation decides which labels
and detections count. Source of the two: the Prophesee automotive sets, and the protocol by which detectors
for event cameras are compared on them.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from ssmbook.errors import InputError, shown
from ssmbook.files import read_yaml

LABEL_TIMES = ("grid", "own")


@dataclass(frozen=True)
class Sensor:
    """What preprocessing, loading and evaluation need to know of a camera and its labels.

    Args:
        name: for messages and records.
        width, height: of the camera in pixels.
        classes: names, in the order of the class ids.
        label_interval_ms: time between label frames; None: found from the box times, which must then
            come at 30 or 60 Hz.
        label_times: ``"grid"``: boxes a whole number of label intervals apart are used, as published; ``"own"``:
            each box time is a label frame, for labels at irregular times.
        min_diagonal, min_side: minimum diagonal, width and height in pixels of a box that preprocessing keeps.
        eval_min_diagonal, eval_min_side: the same in evaluation, for frames of the camera's full size.
        eval_skip_us: boxes and detections up to this time do not count in evaluation.
        downsample: frames and boxes are halved.
        drop_other_classes: drop boxes whose class is not one of ``classes``; otherwise such a box is an error.
        class_map: for label files that name classes in another way: pairs of a file's name or id and the class that
            it is here, or None to drop its boxes. In YAML a mapping: ``{Van: car, "7": pedestrian, tram: null}``.

    Names of classes are compared without case.
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
    label_times: str = "grid"
    class_map: tuple[tuple[str, str | None], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= LONGEST_NAME:
            raise InputError(
                f"sensor: name is {shown(self.name)}; it must be up to {LONGEST_NAME} characters"
            )
        where = f"sensor {shown(self.name, 40)}"
        for key, kind, low, high in _RULES:
            value = getattr(self, key)
            if key == "label_interval_ms" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                number = "a whole number" if kind is int else "a number"
                raise InputError(
                    f"{where}: {key} is {shown(value)}; it must be {number} from {low} to {high:g}"
                )
        for key in ("downsample", "drop_other_classes"):
            if not isinstance(getattr(self, key), bool):
                raise InputError(f"{where}: {key} is {shown(getattr(self, key))}; it must be true or false")
        if self.label_times not in LABEL_TIMES:
            raise InputError(
                f"{where}: label_times is {shown(self.label_times)}; it can be {' or '.join(LABEL_TIMES)}"
            )
        _check_names(where, self.classes)
        _check_map(where, self.class_map, self.classes)

    def class_of(self, label: str) -> int | None:
        """The class id of a label file's class, by ``class_map`` or else by name.

        None where ``class_map`` drops it; the number of classes where it is none of them.
        """
        ids = {name.casefold(): i for i, name in enumerate(self.classes)}
        mapped = {key.casefold(): name for key, name in self.class_map}
        name = mapped.get(label.strip().casefold(), label.strip())
        return None if name is None else ids.get(name.casefold(), len(self.classes))

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
    def from_yaml(cls, path: str | os.PathLike[str]) -> Sensor:
        """A sensor from a YAML file whose keys are the arguments of ``Sensor``.

        ``width``, ``height`` and ``classes`` are needed; ``name`` is the file's if not given. Without the
        ``min_…`` keys no box is too small. Boxes of the first half second do not count in evaluation unless
        ``eval_skip_us`` says so.
        """
        entries = read_yaml(path, "gen1, gen4 or a YAML file")
        return cls.from_entries(entries, Path(path))

    @classmethod
    def from_entries(cls, entries: Any, path: str | Path) -> Sensor:
        """A sensor from the mapping of its arguments that a file holds; lists stand for tuples.

        Raises:
            InputError: an argument is missing, unknown or wrong; the message names the file.
        """
        if not isinstance(entries, dict):
            raise InputError(f"{path}: holds no keys; width, height and classes are needed")
        known = {f.name: f for f in fields(cls)}
        for key in entries:
            if key not in known:
                near = difflib.get_close_matches(key[:40] if isinstance(key, str) else "", known, 1)
                hint = f"; is it {near[0]}?" if near else "; see the arguments of Sensor"
                raise InputError(f"{path}: key {shown(key, 40)} is unknown{hint}")
        entries = {"name": Path(path).stem[:LONGEST_NAME], **entries}
        for key, field in known.items():
            if field.default is MISSING and key not in entries:
                raise InputError(f"{path}: key {key!r} is missing")
        if isinstance(entries["classes"], list):
            entries["classes"] = tuple(entries["classes"])
        pairs = entries.get("class_map", ())
        if isinstance(pairs, dict):
            pairs = [
                (str(key) if type(key) is int and abs(key) < 2**63 else key, name)
                for key, name in pairs.items()
            ]
        if isinstance(pairs, list):
            pairs = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in pairs)
        entries["class_map"] = pairs
        try:
            values: dict[str, Any] = entries
            return cls(**values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the frames that preprocessing writes."""
        return (self.height // 2, self.width // 2) if self.downsample else (self.height, self.width)


# key, type, minimum, maximum
_RULES: tuple[tuple[str, Any, int, float], ...] = (
    ("width", int, 2, 1 << 16),
    ("height", int, 2, 1 << 16),
    ("label_interval_ms", (int, float), 1, 1e9),
    ("min_diagonal", (int, float), 0, 1e6),
    ("min_side", (int, float), 0, 1e6),
    ("eval_min_diagonal", (int, float), 0, 1e6),
    ("eval_min_side", (int, float), 0, 1e6),
    ("eval_skip_us", int, 0, 1 << 61),
)

LONGEST_NAME = 100  # characters
MOST_CLASSES = 1000


def _check_names(where: str, names: Any) -> None:
    """An InputError unless these are the names of classes, each once."""
    if not isinstance(names, tuple) or not 0 < len(names) <= MOST_CLASSES:
        raise InputError(
            f"{where}: classes are {shown(names)}; they must be a list of 1 to {MOST_CLASSES} names"
        )
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise InputError(f"{where}: classes have {shown(name)}; they must be a list of names")
        if name.casefold() in seen:
            raise InputError(f"{where}: classes have {shown(name)} twice; name each once")
        seen.add(name.casefold())


def _check_map(where: str, pairs: Any, classes: tuple[str, ...]) -> None:
    """An InputError unless these are pairs of a label file's name of a class and ours, or None."""
    ours = {name.casefold() for name in classes}
    if not isinstance(pairs, tuple):
        raise InputError(f"{where}: class_map is {shown(pairs)}; it must map names to classes")
    for pair in pairs:
        if (
            not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str))
            or not (pair[1] is None or isinstance(pair[1], str))
            or not (pair[1] is None or pair[1].casefold() in ours)
        ):
            raise InputError(
                f"{where}: class_map has {shown(pair)}; map a name to one of the classes, or to null"
            )


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


def get_sensor(sensor: str | os.PathLike[str] | Sensor) -> Sensor:
    """A sensor by name (``"gen1"``, ``"gen4"``), from the path of its YAML file, or as it is."""
    if isinstance(sensor, Sensor):
        return sensor
    if not isinstance(sensor, str | os.PathLike):
        raise InputError(f"sensor is {shown(sensor)}; give gen1, gen4, a Sensor or the path of its YAML file")
    return SENSORS[str(sensor)] if str(sensor) in SENSORS else Sensor.from_yaml(sensor)

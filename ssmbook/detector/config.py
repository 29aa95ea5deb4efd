"""The arguments of a detector as plain values, checked."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ssmbook.detector.presets import input_sizes
from ssmbook.detector.recurrences.registry import options_of
from ssmbook.errors import InputError, shown

STRIDES = (4, 8, 16, 32)  # of the four stages
# Far beyond any network of this kind: a config that a damaged file holds is refused, not built.
WIDEST, DEEPEST, LARGEST = 4096, 16, 8192


@dataclass(frozen=True)
class DetectorConfig:
    """What a `Detector` is made from, see there; values that fit each other, or an InputError.

    Args:
        options: of the recurrence, completed by their defaults.
    """

    embed_dim: int
    dim_head: int
    fpn_depth: float
    num_classes: int
    input_hw: tuple[int, int]
    partition: tuple[int, int]
    recurrence: str = "s5"
    carry: str = "exact"
    in_channels: int = 20
    mask_token: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {name: _whole(getattr(self, name), name) for name in WHOLE}
        checked |= {name: _pair(getattr(self, name), name) for name in ("input_hw", "partition")}
        checked["fpn_depth"] = _number(self.fpn_depth, "fpn_depth")
        checked["mask_token"] = _flag(self.mask_token, "mask_token")
        checked |= {name: plain(getattr(self, name)) for name in ("recurrence", "carry")}
        defaults = options_of(checked["recurrence"])
        checked["options"] = {**defaults, **plain(self.options)}
        for name, default in defaults.items():
            if isinstance(default, bool):
                checked["options"][name] = _flag(checked["options"][name], name)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check_numbers()
        self._check_sides()

    def plain(self) -> dict[str, Any]:
        """Arguments of ``Detector``, from which the same network can be built again."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "options"}
        # What has no effect is left out where the configs of earlier files have no such option.
        since = ("state_gain", 1), ("low_pass", False)
        options = {name: value for name, value in self.options.items() if (name, value) not in since}
        return values | options

    def _check_numbers(self) -> None:
        for name in WHOLE:
            if not 1 <= getattr(self, name) <= WIDEST:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 to {WIDEST}")
        if not 0 <= self.fpn_depth <= DEEPEST:
            raise InputError(f"fpn_depth is {self.fpn_depth}; it must be 0 to {DEEPEST}")
        if self.embed_dim % self.dim_head:
            raise InputError(f"dim_head {self.dim_head} does not divide embed_dim {self.embed_dim}")
        if self.carry not in ("exact", "published"):
            raise InputError(f"carry is {self.carry!r}; it must be 'exact' or 'published'")

    def _check_sides(self) -> None:
        sizes, groups = self.input_hw, self.partition
        if min(*sizes, *groups) < 1 or max(*sizes, *groups) > LARGEST:
            raise InputError(f"input_hw is {sizes} and partition {groups}; each side must be 1 to {LARGEST}")
        units = [STRIDES[-1] * group for group in groups]
        if any(size % unit for size, unit in zip(sizes, units, strict=True)):
            fit = input_sizes(*sizes)
            next_sizes = tuple(math.ceil(size / unit) * unit for size, unit in zip(sizes, units, strict=True))
            raise InputError(
                f"partition {groups} does not divide an input of {sizes}: each side must be a multiple of "
                f"{STRIDES[-1]} times the partition's. With this partition take input_hw={next_sizes}; or take "
                f"input_hw={fit['input_hw']} and partition={fit['partition']}. Frames are padded"
            )


WHOLE = ("embed_dim", "dim_head", "num_classes", "in_channels")


def plain(value: Any) -> Any:
    """A value whose NumPy numbers and words are Python's, and whose arrays are tuples: what a file can keep."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, np.ndarray):
        return tuple(map(plain, value))
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if isinstance(value, Mapping):
        return {plain(key): plain(part) for key, part in value.items()}
    return value


def _flag(value: Any, name: str) -> bool:
    value = plain(value)
    if not isinstance(value, int) or value not in (0, 1):
        raise InputError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def _number(value: Any, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # None, words, arrays, 10**400
        raise InputError(f"{name} must be a number, not {shown(value)}") from None


def _whole(value: Any, name: str) -> int:
    number = _number(value, name)
    if not number.is_integer():
        raise InputError(f"{name} must be a whole number, not {shown(value)}")
    return int(number)


def _pair(value: Any, name: str) -> tuple[int, int]:
    sides = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else []
    if len(sides) != 2:
        raise InputError(f"{name} must be a pair (height, width), not {shown(value)}")
    return _whole(sides[0], name), _whole(sides[1], name)

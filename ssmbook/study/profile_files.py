"""Profiles from YAML files: experiments by parameters, with nothing of the library edited.

base: demo                     # a shipped profile, of which the file overrides what it names
seeds: [0, 1, 2]
training: {steps: 1000}        # fields of Training
variants:                      # models of one's own: recurrence, options of Detector, training, rate_hz
  low-gain: {recurrence: s5, options: {state_gain: 3.0}, training: {learning_rate: 0.004}}
arms:                          # instead of the base's
  - {variant: low-gain, mode: sliding, follow: true, rates_hz: [20, 200]}
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ssmbook.dataset import get_sensor
from ssmbook.dataset.grid import BASE_HZ
from ssmbook.detector.recurrences.registry import REGISTRY, make_recurrence
from ssmbook.errors import InputError, one_line, shown
from ssmbook.events.simulate.sets import SETS
from ssmbook.files import read_yaml
from ssmbook.study.arms import VARIANTS, Arm, Profile, Variant
from ssmbook.training.settings import Training

KEYS = (
    "base",
    "model",
    "representation",
    "representation_options",
    "seeds",
    "sensor",
    "simulation",
    "training",
    "variants",
    "arms",
)
MODES = ("held", "true", "sliding", "traces")
CARRIES = ("exact", "published")


def read_profile(path: str | Path, shipped: Mapping[str, Profile]) -> Profile:
    """The profile that a YAML file describes, on top of one that is shipped; its name is the file's.

    Raises:
        InputError: a key, a name or a value that is none; the message names the file, the key, and the nearest name.
    """
    entries = _mapping(path, "the file", read_yaml(path, "the YAML file of a profile"), KEYS)
    base = shipped[_name(path, "base", entries.get("base", "demo"), shipped)]
    own = {
        name: _variant(path, f"variants: {name}", value)
        for name, value in _mapping(path, "variants", entries.get("variants", {})).items()
    }
    changes: dict[str, Any] = {"name": Path(path).stem, "own_variants": {**base.own_variants, **own}}
    given = _fields(path, "training", entries.get("training", {}), Training)
    try:
        changes["training"] = replace(base.training, **given)
    except InputError as error:
        raise InputError(f"{path}: training: {error}") from None
    if "arms" in entries:
        known = {**VARIANTS, **changes["own_variants"]}
        changes["arms"] = tuple(
            _arm(path, i, value, known) for i, value in enumerate(_list(path, "arms", entries["arms"]))
        )
    if "seeds" in entries:
        changes["seeds"] = _seeds(path, "seeds", entries["seeds"])
    if "sensor" in entries:
        changes["sensor"] = get_sensor(entries["sensor"])
    if "simulation" in entries:
        changes["simulation"] = SETS[_name(path, "simulation", entries["simulation"], SETS)]
        changes["data"] = entries["simulation"]
    for key in ("model", "representation"):
        if key in entries:
            changes[key] = _typed(path, key, entries[key], "str")
    if "representation_options" in entries:
        key = "representation_options"
        changes[key] = _mapping(path, key, entries[key])
    found = replace(base, **changes)
    seeds = found.seeds or (found.training.seed,)
    for number, arm in enumerate(found.arms, 1):
        if other := set(arm.seeds) - set(seeds):
            known = ", ".join(map(str, seeds))
            raise InputError(
                f"{path}: arms: {number}: seeds has {shown(other.pop())}; the profile's are {known}"
            )
    return found


def _variant(path: str | Path, where: str, value: Any) -> Variant:
    entries = _mapping(path, where, value, ("recurrence", "options", "training", "rate_hz"))
    recurrence = _name(path, f"{where}: recurrence", entries.get("recurrence"), REGISTRY)
    shipped = {v.recurrence: v.has_time_scale for v in VARIANTS.values()}  # known without PyTorch
    timed = shipped[recurrence] if recurrence in shipped else REGISTRY[recurrence].has_time_scale
    options = _mapping(path, f"{where}: options", entries.get("options", {}))
    if options:
        _check_options(f"{path}: {where}: options", recurrence, options)
    training = _fields(path, f"{where}: training", entries.get("training", {}), Training)
    rate_hz = _rate(path, f"{where}: rate_hz", entries.get("rate_hz", BASE_HZ))
    try:
        Training(**training)
        return Variant(recurrence, options, training, timed, rate_hz)
    except InputError as error:
        raise InputError(f"{path}: {where}: {error}") from None


def _check_options(where: str, recurrence: str, options: dict[str, Any]) -> None:
    """InputError for options that the recurrence does not have, or not with these values: before any work, not after
    the set is made. PyTorch is imported for it."""
    try:
        make_recurrence(recurrence, 64, **options)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} are {shown(options)}: {one_line(str(error), 100)}") from None


def _arm(path: str | Path, number: int, value: Any, variants: Mapping[str, Variant]) -> Arm:
    where = f"arms: {number + 1}"
    entries = {**_mapping(path, where, value, tuple(f.name for f in fields(Arm)))}
    name = _name(path, f"{where}: variant", entries.get("variant"), variants)
    entries["mode"] = _name(path, f"{where}: mode", entries.get("mode"), MODES)
    entries["carry"] = _name(path, f"{where}: carry", entries.get("carry", "exact"), CARRIES)
    entries["follow"] = _typed(path, f"{where}: follow", entries.get("follow", False), "bool")
    if entries["follow"] and not variants[name].has_time_scale:
        raise InputError(f"{path}: {where}: {name} has no time scale that could follow; leave out follow")
    if "rates_hz" in entries:
        rates = _list(path, f"{where}: rates_hz", entries["rates_hz"])
        entries["rates_hz"] = tuple(_rate(path, f"{where}: rates_hz", rate) for rate in rates)
    if "seeds" in entries:
        entries["seeds"] = _seeds(path, f"{where}: seeds", entries["seeds"])
    return Arm(**entries)


def _rate(path: str | Path, where: str, value: Any) -> float:
    rate = float(_typed(path, where, value, "float"))
    if not 0.1 <= rate <= 10_000:
        raise InputError(f"{path}: {where} is {shown(value)}; a rate must lie between 0.1 and 10,000 Hz")
    return rate


def _seeds(path: str | Path, where: str, value: Any) -> tuple[int, ...]:
    return tuple(_typed(path, where, seed, "int") for seed in _list(path, where, value))


def _fields(path: str | Path, where: str, value: Any, kind: type) -> dict[str, Any]:
    """The entries of a mapping as fields of a dataclass, each of the field's type."""
    known = {field.name: field for field in fields(kind)}
    entries = _mapping(path, where, value, tuple(known))
    return {
        key: _typed(path, f"{where}: {key}", entry, str(known[key].type)) for key, entry in entries.items()
    }


def _typed(path: str | Path, where: str, value: Any, kind: str) -> Any:
    if kind.startswith("Mapping"):  # of numbers
        entries = _mapping(path, where, value)
        return {key: _typed(path, f"{where}: {key}", entry, "float") for key, entry in entries.items()}
    if kind == "str":
        value = _word(value)
    types: Any = {"int": int, "float": (int, float), "bool": bool, "str": str}[kind]
    if not isinstance(value, types) or (kind != "bool" and isinstance(value, bool)):
        raise InputError(f"{path}: {where} is {shown(value)}; it must be of type {kind}")
    return float(value) if kind == "float" else value


def _mapping(path: str | Path, where: str, value: Any, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{path}: {where} is {shown(value)}; it must map names to values")
    for key in value:
        if keys:
            _name(path, f"{where}: key", key, keys)
    return value


def _list(path: str | Path, where: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{path}: {where} is {shown(value)}; it must be a list with at least one entry")
    return value


def _word(value: Any) -> Any:
    """The word ``true`` is a truth value to YAML, and a mode of running to the book."""
    return str(value).lower() if isinstance(value, bool) else value


def _name(path: str | Path, where: str, value: Any, names: Any) -> str:
    """A value that must be one of some names; the message has the nearest."""
    value = _word(value)
    if isinstance(value, str) and value in names:
        return value
    near = difflib.get_close_matches(value[:100] if isinstance(value, str) else "", list(names), 1)
    hint = f"is it {near[0]}?" if near else "there are " + ", ".join(names)
    raise InputError(f"{path}: {where} is {shown(value)}; {hint}")

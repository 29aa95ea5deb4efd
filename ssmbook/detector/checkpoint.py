"""Checkpoints: ours out and in, and the released ones of S5-ViT and RVT in.

A released checkpoint is what PyTorch Lightning writes: the weights under ``state_dict``, beside settings and
other objects of libraries that need not be installed. Only tensors are taken, and nothing in it is run.
"""

import inspect
import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssmbook.detector.checkpoint_file import read_checkpoint
from ssmbook.detector.checkpoint_names import (
    CLASS_LAYER,
    MASK_TOKEN,
    find_weights,
    found_kind,
    found_sizes,
    published_name,
)
from ssmbook.detector.model import Detector
from ssmbook.detector.presets import PRESETS, SIMULATED
from ssmbook.detector.recurrences import REGISTRY, options_of
from ssmbook.detector.trained_on import KEY, TrainedOn
from ssmbook.errors import InputError, one_line, shown
from ssmbook.files import atomic_write
from ssmbook.lazy import PLUGINS

__all__ = [
    "find_preset",
    "fine_tune",
    "get_preset",
    "load_checkpoint",
    "published_name",
    "read_checkpoint",
    "save_checkpoint",
]

FORMAT = "ssmbook.detector"

S5_OPTIONS = {"bandlimit", "bandlimit_mode", "clip_eigs"}


def save_checkpoint(path: str | Path, model: Detector, **extra: Any) -> None:
    """Write a model so that ``load_checkpoint`` needs nothing else: its arguments and its weights.

    Args:
        path: the file, replaced in one move once it is whole.
        model: whose ``config`` and ``state_dict`` are written.
        extra: tensors and plain values to keep beside them.

    Raises:
        InputError: it cannot be written, the disk being full, say, or not be read again, for a value in the config or
            in what it was trained on; what was there before stays.
    """
    path = Path(path)
    own = _plainly({**extra, "format": FORMAT, "config": model.config})
    for name, value in {**own["config"], KEY: own.get(KEY)}.items():
        if not _is_plain(value):
            raise InputError(
                f"{path}: a checkpoint cannot keep {name} {shown(value)}; give finite numbers, words, or tuples of them"
            )
    content = {**own, "state_dict": model.state_dict()}
    try:
        with atomic_write(path) as file:
            torch.save(content, file)
    except RuntimeError as error:  # PyTorch's writer raises one over the system's refusal
        refusal = error.__context__
        words = refusal.strerror if isinstance(refusal, OSError) else str(error).splitlines()[0]
        raise InputError(
            f"{path}: cannot be written ({words}); make room or give another folder, and start again: what was "
            "written before is whole"
        ) from None


def _plainly(value: Any) -> Any:
    """Equal values as equal bytes: pickle writes a string or a list once for all places that hold the same object.

    Which places those are differs between a run that went on from a file and one that never stopped.
    """
    if type(value) is str:
        return sys.intern(value)
    if type(value) is dict:
        return {_plainly(key): _plainly(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plainly(part) for part in value)
    return value


def _is_plain(value: Any) -> bool:
    """Whether a value comes out of a file as it went in: None, words, finite numbers, and containers of them."""
    if type(value) is dict:
        return all(map(_is_plain, (*value.keys(), *value.values())))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value))


def load_checkpoint(path: str | Path, preset: str | None = "gen1-small", **overrides: Any) -> Detector:
    """A detector with the weights of a file: ours, of ``torch.save(model.state_dict())``, or of S5-ViT or RVT.

    The weights may lie under ``state_dict`` or another key, and their names may begin with ``module.``,
    ``_orig_mod.``, ``model.`` or any other prefix.

    Args:
        path: the checkpoint.
        preset: a name in ``PRESETS``, the sizes of the network, or None: the one that fits the weights, see
            ``find_preset``. Files of ``save_checkpoint`` hold their own.
        overrides: arguments of ``Detector`` that differ, such as ``carry``, ``embed_dim``, ``dim_head``,
            ``fpn_depth``, ``num_classes``, ``input_hw``, ``partition``. ``recurrence``, ``mask_token`` and
            ``in_channels`` are found from the file.

    Returns:
        The detector, in training mode like every new module, on the CPU; ours with ``trained_on``.

    Raises:
        InputError: no such file, not a checkpoint, damaged; something in it would have to be called; its
            weights do not fit the network (the message lists names and shapes).
    """
    content = read_checkpoint(path)
    config, weights = _config_and_weights(path, preset, content)
    if overrides.get("recurrence", config["recurrence"]) != config["recurrence"]:
        config = {name: value for name, value in config.items() if name in _arguments()}
    model = _build({**config, **overrides}, path)
    _load(model, weights, path)
    if is_ours(content):
        model.trained_on = TrainedOn.read(content, path)
    return model


def fine_tune(
    path: str | Path,
    num_classes: int,
    input_hw: tuple[int, int],
    partition: tuple[int, int],
    preset: str | None = None,
    mask_token: bool = False,
) -> Detector:
    """A detector for other classes or another sensor, begun from the weights of a file.

    The head's class layer is new, with its starting weights; all others are the file's, whatever the size of
    the input: attention acts within groups, and the recurrence at every pixel. The rest of the network is as
    ``load_checkpoint`` makes it.

    Args:
        path, preset: see ``load_checkpoint``.
        num_classes, input_hw, partition: of the new detector; ``input_sizes`` gives the latter two.
        mask_token: give it a vector for masked tokens, a new one where the file has none.
    """
    config, weights = _config_and_weights(path, preset)
    sizes = {"num_classes": num_classes, "input_hw": input_hw, "partition": partition}
    model = _build({**config, **sizes, "mask_token": mask_token or config.get("mask_token", False)}, path)
    fresh = {
        name: w
        for name, w in model.state_dict().items()
        if name.startswith(CLASS_LAYER) or (name == MASK_TOKEN and name not in weights)
    }
    _load(model, {**weights, **fresh}, path)
    return model


def recurrence_of(path: str | Path) -> str:
    """The name of a file's recurrence."""
    return _config_and_weights(path, None)[0]["recurrence"]


def find_preset(path: str | Path) -> str:
    """The preset whose width, depth and number of classes the weights of a file have.

    Published weights are of Gen1 or 1 Mpx; weights under our names may be of simulated sets too.

    Raises:
        InputError: none has; the message says what the file holds.
    """
    return _preset_of(*_find_weights(read_checkpoint(path), path), path)


def _preset_of(weights: dict[str, Tensor], published: bool, path: str | Path) -> str:
    sizes = _found_sizes(weights, path)
    presets = {name: own for name, own in PRESETS.items() if not (published and name in SIMULATED)}
    found = sizes["embed_dim"], sizes["bottlenecks"], sizes["num_classes"]
    for name, own in presets.items():
        if found == (own["embed_dim"], round(3 * own["fpn_depth"]), own["num_classes"]):
            return name
    raise InputError(
        f"{path}: no preset has embed_dim {found[0]}, {found[1]} bottlenecks in the neck and {found[2]} classes; "
        f"the presets are {', '.join(presets)}"
    )


def is_released(content: dict[str, Any], path: str | Path) -> bool:
    """Whether a checkpoint's weights have the names of S5-ViT's or RVT's code; ours may be of any form.

    Raises:
        InputError: it holds no detector, or two.
    """
    return not is_ours(content) and _find_weights(content, path)[1]


def is_ours(content: dict[str, Any]) -> bool:
    """Whether ``save_checkpoint`` wrote it, with what makes the network beside its weights."""
    kind = content.get("format")
    return isinstance(kind, str) and kind == FORMAT


def _find_weights(content: dict[str, Any], path: str | Path) -> tuple[dict[str, Tensor], bool]:
    try:
        return find_weights(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _found_sizes(weights: dict[str, Tensor], path: str | Path) -> dict[str, int]:
    try:
        return found_sizes(weights)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _config_and_weights(
    path: str | Path, preset: str | None, content: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments of a file's detector, and its weights under our names."""
    content = read_checkpoint(path) if content is None else content
    if is_ours(content):
        weights = content.get("state_dict")
        weights = weights if isinstance(weights, dict) else {}
        weights = {n: w for n, w in weights.items() if isinstance(n, str) and isinstance(w, Tensor)}
        config = _own_config(content.get("config"), path)
        _check_sizes(config, _found_sizes(weights, path), path)
        return config, weights
    weights, published = _find_weights(content, path)
    sizes = get_preset(_preset_of(weights, published, path) if preset is None else preset)
    channels = {"in_channels": _found_sizes(weights, path)["in_channels"]}
    return {**sizes, **channels, **found_kind(weights)}, weights


def _own_config(config: Any, path: str | Path) -> dict[str, Any]:
    """The arguments that one of our files holds, if a Detector can be made with them."""
    parameters = _arguments()
    needed = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    names = {name for name in config if isinstance(name, str)} if isinstance(config, dict) else set()
    if not needed <= names:
        has = ", ".join(one_line(name, 40) for name in sorted(names)) or "nothing"
        raise InputError(f"{path}: its 'config' holds {has}, not the arguments of a Detector; write it again")
    config = {"recurrence": "s5", **{name: config[name] for name in names}}
    recurrence = config["recurrence"]
    if not isinstance(recurrence, str) or recurrence not in REGISTRY:
        raise InputError(
            f"{path}: its recurrence is {shown(recurrence)}, which this version does not have (it has "
            f"{', '.join(REGISTRY)}); install the version that wrote it, or name in {PLUGINS} its file"
        )
    options = options_of(recurrence).keys()
    if names >= S5_OPTIONS and not options >= S5_OPTIONS:
        # Earlier files name S5's options whatever the recurrence, which had no effect.
        config = {name: value for name, value in config.items() if name not in S5_OPTIONS}
    unknown = sorted(config.keys() - parameters.keys() - options)
    if unknown:
        raise InputError(
            f"{path}: was written by a later version: its 'config' holds "
            f"{', '.join(one_line(name, 40) for name in unknown)}; install that version"
        )
    for name, value in config.items():
        if not _is_plain(value):
            raise InputError(
                f"{path}: its 'config' has {name} {shown(value)}; the file is damaged, write it again"
            )
    return config


def _check_sizes(config: dict[str, Any], found: dict[str, int], path: str | Path) -> None:
    """InputError where a config is not that of the weights beside it: it could make a network of any size."""
    says = {"in_channels": 20, **config}
    depth = says["fpn_depth"]
    says["bottlenecks"] = round(3 * depth) if isinstance(depth, int | float) else depth
    for name, size in found.items():
        if says[name] != size:
            raise InputError(
                f"{path}: its 'config' has {name} {shown(says[name])}, but its weights have {size}; write it again"
            )


def _build(config: dict[str, Any], path: str | Path) -> Detector:
    """The detector of a config; what it does not accept is an InputError that names the file."""
    try:
        return Detector(**config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        words = one_line((str(error) or type(error).__name__).splitlines()[0])
        raise InputError(
            f"{path}: a value of its 'config' is of another kind ({words}); write it again"
        ) from None


def _arguments() -> dict[str, inspect.Parameter]:
    """The arguments of ``Detector`` apart from the options of its recurrence."""
    parameters = inspect.signature(Detector).parameters
    return {name: p for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}


def get_preset(name: str) -> dict[str, Any]:
    """The arguments of ``Detector`` under that name; an InputError that lists the names if there are none."""
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def _load(model: Detector, weights: dict[str, Tensor], path: str | Path) -> None:
    """Copy the weights of a file into a model; an InputError lists what differs, and nothing is copied then."""
    has = {name: _described(weight) for name, weight in weights.items()}
    wants = {name: _described(weight) for name, weight in model.state_dict().items()}
    differing = [
        f"{one_line(name)} {has.get(name, 'missing')}, not {wants.get(name, 'known')}"
        for name in {**wants, **has}
        if has.get(name) != wants.get(name)
    ]
    if differing:
        shown_ = "; ".join(differing[:6]) + (f"; and {len(differing) - 6} more" if len(differing) > 6 else "")
        raise InputError(
            f"{path} does not fit the network: {len(differing)} of {len(wants)} weights differ: {shown_}. "
            "Choose the preset or the overrides that the file was trained with"
        )
    model.load_state_dict(weights)


def _described(weight: Tensor) -> str:
    """Shape and kind of a weight: floating-point numbers of any precision are of one kind."""
    kind = "" if weight.is_floating_point() else " of integers"
    if weight.is_complex() or weight.dtype == torch.bool:
        kind = f" of {weight.dtype}"
    return f"{list(weight.shape)}{kind}"

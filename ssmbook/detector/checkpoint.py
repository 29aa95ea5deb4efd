"""Checkpoints: ours out and in, and the released ones of S5-ViT and RVT in.

A released checkpoint is what PyTorch Lightning writes: the weights under ``state_dict``, beside settings and
other objects of libraries that need not be installed. Only tensors are taken, and nothing in it is run.
"""

import inspect
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssmbook.detector import inert
from ssmbook.detector.model import Detector
from ssmbook.detector.presets import PRESETS
from ssmbook.detector.recurrences import REGISTRY, options_of
from ssmbook.detector.trained_on import TrainedOn
from ssmbook.errors import InputError
from ssmbook.files import atomic_write

FORMAT = "ssmbook.detector"

# Published names → ours, applied in turn.
RENAMES = [
    (r"^mdl\.", ""),
    (r"downsample_cf2cl\.conv\.", "downsample."),
    (r"downsample_cf2cl\.norm\.", "norm."),
    (r"att_blocks\.0\.att_(window|grid)\.", r"\1."),
    (r"self_attn\.qkv\.", "attention.qkv."),
    (r"self_attn\.proj\.", "attention.out."),
    (r"\.ls([12])\.gamma", r".gamma\1"),
    (r"mlp\.net\.0\.0\.", "mlp.0."),
    (r"mlp\.net\.2\.", "mlp.2."),
    (r"s5_block\.s5\.seq\.", "recurrence.layer."),
    (r"s5_block\.attn_norm\.", "recurrence.norm1."),
    (r"s5_block\.ff_norm\.", "recurrence.norm2."),
    (r"s5_block\.ff_enc\.", "recurrence.encode."),
    (r"s5_block\.ff_dec\.", "recurrence.decode."),
    (r"lstm\.conv1x1\.", "recurrence.gates."),
    (r"^fpn\.", "neck."),
    (r"lateral_conv0\.", "reduce4."),
    (r"reduce_conv1\.", "reduce3."),
    (r"bu_conv2\.", "stride2."),
    (r"bu_conv1\.", "stride3."),
    (r"(C3_\w\d)\.conv1\.", r"\1.deep."),
    (r"(C3_\w\d)\.conv2\.", r"\1.shallow."),
    (r"(C3_\w\d)\.conv3\.", r"\1.join."),
    (r"(C3_\w\d)\.m\.(\d+)\.conv1\.", r"\1.bottlenecks.\2.0."),
    (r"(C3_\w\d)\.m\.(\d+)\.conv2\.", r"\1.bottlenecks.\2.1."),
    (r"C3_p4\.", "down3."),
    (r"C3_p3\.", "down2."),
    (r"C3_n3\.", "up3."),
    (r"C3_n4\.", "up4."),
    (r"^yolox_head\.", "head."),
    (r"cls_convs\.", "class_convs."),
    (r"reg_convs\.", "box_convs."),
    (r"cls_preds\.", "class_out."),
    (r"reg_preds\.", "box_out."),
    (r"obj_preds\.", "objectness_out."),
    (r"\.bn\.", ".norm."),
]
S5_OPTIONS = {"bandlimit", "bandlimit_mode", "clip_eigs"}
CLASS_LAYER, MASK_TOKEN = "head.class_out.", "backbone.stages.0.mask_token"
# Found in a file, these give its recurrence away.
TRACES = {"s5": "recurrence.layer.Lambda", "convlstm": "recurrence.gates.weight"}


def published_name(name: str) -> str:
    """Our name of a parameter of the published code."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def save_checkpoint(path: str | Path, model: Detector, **extra: Any) -> None:
    """Write a model so that ``load_checkpoint`` needs nothing else: its arguments and its weights.

    Args:
        path: the file, replaced in one move once it is whole.
        model: whose ``config`` and ``state_dict`` are written.
        extra: tensors and plain values to keep beside them.

    Raises:
        InputError: it cannot be written, the disk being full, say; what was there before stays.
    """
    path = Path(path)
    content = {**extra, "format": FORMAT, "config": model.config, "state_dict": model.state_dict()}
    try:
        with atomic_write(path) as file:
            torch.save(content, file)
    except RuntimeError as error:  # PyTorch's writer makes a full disk one
        words = str(error).splitlines()[0]
        raise InputError(
            f"{path}: cannot be written ({words}); make room or give another folder, and start again: what was "
            "written before is whole"
        ) from None


def load_checkpoint(path: str | Path, preset: str | None = "gen1-small", **overrides: Any) -> Detector:
    """A detector with the weights of a file: ours, or released by S5-ViT or RVT.

    Args:
        path: the checkpoint.
        preset: a name in ``PRESETS``, the sizes of a released checkpoint's network, or None: the one that
            fits the weights, see ``find_preset``. Ours hold their own.
        overrides: arguments of ``Detector`` that differ, such as ``carry``, ``embed_dim``, ``dim_head``,
            ``fpn_depth``, ``num_classes``, ``input_hw``, ``partition``. ``recurrence`` and ``mask_token`` are
            found from the file.

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
    model = Detector(**{**config, **overrides})
    _check_fit(weights, model, path)
    model.load_state_dict(weights)
    if content.get("format") == FORMAT:
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
    model = Detector(**{**config, **sizes, "mask_token": mask_token or config["mask_token"]})
    fresh = {
        name: w
        for name, w in model.state_dict().items()
        if name.startswith(CLASS_LAYER) or (name == MASK_TOKEN and name not in weights)
    }
    weights = {**weights, **fresh}
    _check_fit(weights, model, path)
    model.load_state_dict(weights)
    return model


def find_preset(path: str | Path) -> str:
    """The preset for Gen1 or 1 Mpx whose width, depth and number of classes the weights of a released checkpoint have.

    Raises:
        InputError: none has; the message says what the file holds.
    """
    weights = _config_and_weights(path, "gen1-small")[1]
    stem, classes = (
        weights.get(name) for name in ("backbone.stages.0.downsample.weight", f"{CLASS_LAYER}0.weight")
    )
    if stem is None or classes is None:
        raise InputError(f"{path}: the weights are not those of a detector of S5-ViT or RVT")
    bottlenecks = sum(
        bool(re.fullmatch(r"neck\.down3\.bottlenecks\.\d+\.0\.conv\.weight", n)) for n in weights
    )
    found = len(stem), bottlenecks, len(classes)
    published = {name: sizes for name, sizes in PRESETS.items() if name.startswith(("gen1-", "gen4-"))}
    for name, sizes in published.items():
        if found == (sizes["embed_dim"], round(3 * sizes["fpn_depth"]), sizes["num_classes"]):
            return name
    raise InputError(
        f"{path}: no preset has embed_dim {found[0]}, {found[1]} bottlenecks in the neck and {found[2]} classes; "
        f"the presets are {', '.join(published)}"
    )


def _config_and_weights(
    path: str | Path, preset: str | None, content: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments of a file's detector, and its weights under our names."""
    content = read_checkpoint(path) if content is None else content
    weights = content.get("state_dict", content)
    weights = weights if isinstance(weights, dict) else {}
    weights = {n: w for n, w in weights.items() if isinstance(n, str) and isinstance(w, Tensor)}
    if not weights:
        raise InputError(f"{path}: the file holds no weights (no tensors under 'state_dict')")
    if content.get("format") == FORMAT:
        return _own_config(content.get("config"), path), weights
    weights = _from_published(weights)
    return {**get_preset(find_preset(path) if preset is None else preset), **_found(weights)}, weights


def _own_config(config: Any, path: str | Path) -> dict[str, Any]:
    """The arguments that one of our files holds, if a Detector can be made with them."""
    parameters = _arguments()
    needed = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    names = set(config) if isinstance(config, dict) else set()
    allowed = parameters.keys() | S5_OPTIONS
    if needed <= names and config.get("recurrence", "s5") in REGISTRY:
        has = options_of(config.get("recurrence", "s5")).keys()
        if names >= S5_OPTIONS and not has >= S5_OPTIONS:
            # Earlier files name S5's options whatever the recurrence, which had no effect.
            config = {name: value for name, value in config.items() if name not in S5_OPTIONS}
        allowed = parameters.keys() | has
    if not needed <= names or not set(config) <= allowed:
        raise InputError(
            f"{path}: its 'config' holds {', '.join(map(str, names)) or 'nothing'}, not the arguments of a Detector"
        )
    return {"recurrence": "s5", **config}


def _arguments() -> dict[str, inspect.Parameter]:
    """The arguments of ``Detector`` apart from the options of its recurrence."""
    parameters = inspect.signature(Detector).parameters
    return {name: p for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}


def get_preset(name: str) -> dict[str, Any]:
    """The arguments of ``Detector`` under that name; an InputError that lists the names if there are none."""
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def _from_published(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under our names and in our shapes."""
    network = {name: w for name, w in weights.items() if name.startswith("mdl.")}
    ours = {published_name(name): weight for name, weight in network.items()}
    for name, weight in ours.items():
        if name.endswith("recurrence.gates.weight"):
            ours[name] = weight.flatten(1)  # a 1 × 1 convolution [4C, 2C, 1, 1]
        elif name.endswith("mask_token"):
            ours[name] = weight.flatten()  # [1, 1, 1, C]
    return ours


def _found(weights: dict[str, Tensor]) -> dict[str, Any]:
    """What the weights themselves say of the network."""
    names = [name for name, trace in TRACES.items() if f"backbone.stages.0.{trace}" in weights]
    return {
        "recurrence": names[0] if names else "none",
        "mask_token": MASK_TOKEN in weights,
    }


def _check_fit(weights: dict[str, Tensor], model: Detector, path: str | Path) -> None:
    """InputError that lists what differs between a file and a model."""
    has = {name: list(weight.shape) for name, weight in weights.items()}
    wants = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    differing = [
        f"{name} {has.get(name, 'missing')}, not {wants.get(name, 'known')}"
        for name in {**wants, **has}
        if has.get(name) != wants.get(name)
    ]
    if differing:
        shown = "; ".join(differing[:6]) + (f"; and {len(differing) - 6} more" if len(differing) > 6 else "")
        raise InputError(
            f"{path} does not fit the network: {len(differing)} of {len(wants)} weights differ: {shown}. "
            "Choose the preset or the overrides that the file was trained with"
        )


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain containers as they are, any other object inert.

    Raises:
        InputError: see ``load_checkpoint``.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a checkpoint of PyTorch 1.6 or later, or cut short")
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
            if damaged := archive.testzip():
                raise InputError(f"{damaged} in it is damaged; fetch or write it again")
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # objects of other libraries
            # weights_only cannot be set with another unpickler; ours is as strict, see there.
            content = torch.load(path, map_location="cpu", pickle_module=inert, weights_only=False)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        words = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: a damaged or foreign checkpoint ({words})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: the file holds a {type(content).__name__}, not a dictionary of weights")
    return content

"""The weights of a detector in whatever dictionary they come, under our names and in our shapes.

They may be ours or the released ones of S5-ViT and RVT, alone or beside other things, and under the prefixes that
Lightning modules, data-parallel training and ``torch.compile`` put before their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ssmbook.errors import InputError, one_line

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
CLASS_LAYER, MASK_TOKEN = "head.class_out.", "backbone.stages.0.mask_token"
# Found in a file, these give its recurrence away; the first one counts.
TRACES = {
    "s5-selective": "recurrence.layer.gate_weight",
    "s5": "recurrence.layer.Lambda",
    "mamba": "recurrence.layer.A_log",
    "s4d": "recurrence.layer.kernel.log_dt",
    "s4": "recurrence.layer.kernel.inv_dt",
    "convlstm": "recurrence.gates.weight",
}
# Every detector has this weight; what stands before it is the prefix of the network.
STEM, PUBLISHED_STEM = "backbone.stages.0.downsample.weight", "backbone.stages.0.downsample_cf2cl.conv.weight"
# Parts of a name that stand for a wrapper: of compilation, data-parallel and sharded training, checkpointing.
WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def published_name(name: str) -> str:
    """Our name of a parameter of the published code."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def find_weights(content: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
    """The weights of the detector in a checkpoint, under our names, and whether the names were the published ones.

    Args:
        content: of a checkpoint: the weights themselves, or a dictionary that holds them, as under "state_dict".

    Raises:
        InputError: it holds no detector, or two; the message says what it holds.
    """
    groups = {"": content, **{f"{key}": value for key, value in content.items() if isinstance(value, dict)}}
    found = {}
    for where, group in groups.items():
        weights = {
            WRAPPERS.sub("", n): w for n, w in group.items() if isinstance(n, str) and isinstance(w, Tensor)
        }
        for name in weights:
            stem = next((stem for stem in (STEM, PUBLISHED_STEM) if f".{name}".endswith(f".{stem}")), None)
            if stem is not None:
                prefix = name.removesuffix(stem)
                own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
                found[where, prefix] = own, stem == PUBLISHED_STEM
    if len(found) == 1:
        weights, published = next(iter(found.values()))
        return (_from_published(weights) if published else weights), published
    if found:
        places = ", ".join(repr(one_line(" ".join(filter(None, place)))) for place in found)
        raise InputError(f"holds {len(found)} detectors, under {places}; save the weights of one alone")
    raise InputError(_no_detector(groups))


def _no_detector(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """What a checkpoint without a detector holds, for a message."""
    tensors = [n for group in groups.values() for n, w in group.items() if isinstance(w, Tensor)]
    if not tensors:
        keys = ", ".join(one_line(str(key), 40) for key in list(groups[""])[:6] if isinstance(key, str))
        return f"holds no weights, only {keys or 'nothing'}; save model.state_dict()"
    names = ", ".join(one_line(str(name), 60) for name in tensors[:3])
    return (
        f"holds weights of another network ({len(tensors)}, such as {names}), not those of a detector of ssmbook, "
        f"S5-ViT or RVT, which have a {STEM}"
    )


def _from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under our names and in our shapes."""
    ours = {published_name(name): weight for name, weight in weights.items()}
    for name, weight in ours.items():
        if name.endswith("recurrence.gates.weight"):
            ours[name] = weight.flatten(1)  # a 1 × 1 convolution [4C, 2C, 1, 1]
        elif name.endswith("mask_token"):
            ours[name] = weight.flatten()  # [1, 1, 1, C]
    return ours


def found_sizes(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Arguments of a Detector that the shapes of its weights give: embed_dim, in_channels, bottlenecks, num_classes."""
    stem, classes = weights.get(STEM), weights.get(f"{CLASS_LAYER}0.weight")
    if stem is None or classes is None or stem.ndim != 4 or classes.ndim != 4:
        raise InputError(
            "the weights of its first or last layer are missing, or of another shape; write it again"
        )
    blocks = (re.fullmatch(r"neck\.down3\.bottlenecks\.\d+\.0\.conv\.weight", name) for name in weights)
    return {
        "embed_dim": len(stem),
        "in_channels": stem.shape[1],
        "bottlenecks": sum(map(bool, blocks)),
        "num_classes": len(classes),
    }


def found_kind(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of a Detector that the names of its weights give: recurrence and mask_token."""
    names = (name for name, trace in TRACES.items() if f"backbone.stages.0.{trace}" in weights)
    return {"recurrence": next(names, "none"), "mask_token": MASK_TOKEN in weights}

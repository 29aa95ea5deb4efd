"""A trained detector made ready to run: what follows a linear layer and is linear too becomes part of it."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ssmbook.detector.attention import AttentionBlock
from ssmbook.detector.model import Detector
from ssmbook.detector.neck import ConvBlock
from ssmbook.detector.recurrences import Recurrence


def fold(model: Detector) -> Detector:
    """A copy in evaluation mode, without gradients, whose convolutions hold their BatchNorm and whose attention
    blocks hold their γ; S5 layers are frozen, see ``S5.freeze``.

    Its predictions are those of ``model.eval()`` up to rounding. It is for running only: its ``state_dict`` has
    other names, and further training would be without BatchNorm.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for block in folded.modules():
        if isinstance(block, ConvBlock):
            conv = fuse_conv_bn_eval(block.conv, block.norm)
            block.conv, block[1], block[2] = conv, nn.Identity(), nn.SiLU(inplace=True)
        elif isinstance(block, AttentionBlock):
            block.fold_gamma()
        elif isinstance(block, Recurrence):
            block.freeze()
    # Activations are channels last; weights that are not would be reordered at every call. Of convolutions alone: S4
    # holds complex numbers, whose parts must stay side by side.
    for block in folded.modules():
        if isinstance(block, nn.Conv2d):
            block.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded

"""The detector as one step, for other runtimes: `torch.export` and ONNX, the state an input and an output.

    frame [B, C, h, w] (uint8), states  →  predictions [B, A, 5 + classes], new states

All arithmetic is real. A complex state of P modes is a pair of planes, [B, 2P, h, w]: real parts, then imaginary.
The start is zeros, as in `ExportedStep.start`; what a step returns goes into the next.
"""

import copy
import math
import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmbook.detector.backbone import MULTIPLIERS, STRIDES
from ssmbook.detector.fold import fold
from ssmbook.detector.model import Detector
from ssmbook.detector.temporal import ConvLSTM, NoRecurrence, SSMBlock
from ssmbook.errors import InputError
from ssmbook.ssm import S5
from ssmbook.ssm.scan import multiply_planes


class RealS5(nn.Module):
    """One step of an S5 layer in real arithmetic: u [N, 1, H], planes [N, 2P] → y [N, 1, H], planes [N, 2P].

    With hats for what a step Δ makes of it, x ← Λ̂ x + Δ̂ B u and y = Re(C x) + D ∘ u, see `ssmbook.ssm.s5`. The
    step scale is a number, which the export takes for a constant, or a tensor [], which stays an input.
    """

    real: Tensor
    imag: Tensor
    step: Tensor
    B: Tensor
    C: Tensor
    D: Tensor

    def __init__(self, layer: S5) -> None:
        super().__init__()
        self.bilinear, self.bandlimit = layer.discretization == "bilinear", layer.bandlimit
        self.state_shape = (2 * layer.modes,)
        Lambda = layer.eigenvalues().detach()
        (output,) = layer._output_planes()
        parts = {
            "real": Lambda.real,
            "imag": Lambda.imag,
            "step": layer.log_step.exp(),
            "B": torch.cat([layer.B[..., 0], layer.B[..., 1]]),  # [2P, H]
            "C": output,  # [H, 2P]
            "D": layer.D,
        }
        for name, value in parts.items():
            self.register_buffer(name, value.detach().clone())

    def forward(self, u: Tensor, state: Tensor | None, step_scale: float | Tensor) -> tuple[Tensor, Tensor]:
        step = step_scale * self.step
        Lambda_hat, gain = self._discretize(step)
        x = multiply_planes(gain, F.linear(u[:, 0], self.B))  # [N, 2P]
        if state is not None:
            x = x + multiply_planes(Lambda_hat, state)
        C = self.C
        if self.bandlimit is not None:
            keep = step * self.imag.abs() / (2 * math.pi) < self.bandlimit / 2
            C = C * keep.to(C).repeat(2)
        return (F.linear(x, C) + self.D * u[:, 0])[:, None], x

    def _discretize(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Λ̂ and Δ̂ as planes [2P]."""
        re, im = step * self.real, step * self.imag  # ΔΛ
        if self.bilinear:
            norm = (1 - re / 2) ** 2 + (im / 2) ** 2
            inverse = torch.cat([(1 - re / 2) / norm, im / 2 / norm])  # 1 / (1 − ΔΛ/2)
            return multiply_planes(torch.cat([1 + re / 2, im / 2]), inverse), step.repeat(2) * inverse
        size = torch.exp(re)
        Lambda_hat = torch.cat([size * torch.cos(im), size * torch.sin(im)])
        norm = self.real**2 + self.imag**2
        inverse = torch.cat([self.real / norm, -self.imag / norm])  # 1 / Λ
        return Lambda_hat, multiply_planes(Lambda_hat - torch.cat([torch.ones_like(re), 0 * re]), inverse)


class ExportedStep(nn.Module):
    """One step of a detector in real arithmetic, on flat lists of tensors, in evaluation mode and float32.

    Args:
        model: the detector; it is copied.
        step_scale: a constant; None makes it an input, a tensor [] after the frame.

    Raises:
        InputError: a recurrence other than S5, ConvLSTM or none.
    """

    def __init__(self, model: Detector, step_scale: float | None = 1.0) -> None:
        super().__init__()
        self.step_scale = step_scale
        self.model = fold(copy.deepcopy(model).cpu().float())
        self.kinds: list[str] = []
        for stage in self.model.backbone.stages:
            block = stage.recurrence
            if isinstance(block, SSMBlock) and isinstance(block.layer, S5):
                block.layer = RealS5(block.layer)
                self.kinds.append("planes")
            elif isinstance(block, ConvLSTM):
                self.kinds.append("pair")
            elif isinstance(block, NoRecurrence):
                self.kinds.append("none")
            else:
                raise InputError(
                    f"the recurrence {model.config['recurrence']!r} has no step in real arithmetic; "
                    "s5, convlstm and none can be exported"
                )

    def forward(self, frame: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """frame [B, C, h, w], then the step scale if it is an input, then the states."""
        scale: float | Tensor
        if self.step_scale is None:
            scale, *flat = rest
        else:
            scale, flat = self.step_scale, list(rest)
        features, states = self.model.features(frame[None], self._nested(flat), scale)
        return self.model.predict(features)[0], *self._flat(states)

    def start(self, batch: int = 1) -> list[Tensor]:
        """The states before the first frame: zeros."""
        shapes = []
        H, W = self.model.input_hw
        for multiplier, stride, kind in zip(MULTIPLIERS, STRIDES, self.kinds, strict=True):
            channels = self.model.config["embed_dim"] * multiplier * (2 if kind == "planes" else 1)
            shapes += [(batch, channels, H // stride, W // stride)] * {"planes": 1, "pair": 2, "none": 0}[
                kind
            ]
        return [torch.zeros(shape) for shape in shapes]

    def names(self) -> list[str]:
        """One name for each state: ``state_1`` …, or ``state_1_h`` and ``state_1_c`` for a ConvLSTM."""
        ends = {"planes": [""], "pair": ["_h", "_c"], "none": []}
        return [f"state_{i}{end}" for i, kind in enumerate(self.kinds, 1) for end in ends[kind]]

    def _nested(self, flat: list[Tensor]) -> list[Any]:
        left = iter(flat)
        take = {"planes": lambda: next(left), "pair": lambda: (next(left), next(left)), "none": lambda: None}
        return [take[kind]() for kind in self.kinds]

    def _flat(self, states: list[Any]) -> list[Tensor]:
        return [t for s in states if s is not None for t in (s if isinstance(s, tuple) else (s,))]


def export_program(
    model: Detector, frame_hw: tuple[int, int], *, batch: int = 1, step_scale: float | None = 1.0
) -> torch.export.ExportedProgram:
    """The step as a `torch.export` program, for `torch.export.save` or ahead-of-time compilation.

    Args:
        model: the detector.
        frame_hw: (height, width) of the frames, no larger than the model's input.
        batch: cameras side by side.
        step_scale: a constant, or None for an input, see `ExportedStep`.
    """
    step, arguments = _step_and_arguments(model, frame_hw, batch, step_scale)
    with torch.no_grad():
        return torch.export.export(step, arguments)


def export_onnx(
    model: Detector,
    path: str | Path,
    frame_hw: tuple[int, int],
    *,
    batch: int = 1,
    step_scale: float | None = 1.0,
) -> Path:
    """Write the step as one ONNX file, which appears whole or not at all.

    Inputs ``frame`` (uint8), ``step_scale`` if it is one, and the states by name; outputs ``predictions``
    [B, A, 5 + classes] (cx, cy, w, h in pixels, objectness, classes) and each state as ``new_`` + its name.
    Arguments as in `export_program`. It needs the packages onnx and onnxscript: pip install 'ssmbook[export]'.

    Raises:
        InputError: a package is missing, a size does not fit, or the recurrence cannot be exported.
    """
    try:
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError as error:
        raise InputError(
            f"ONNX export needs a package that is missing ({error}); pip install 'ssmbook[export]'"
        ) from None
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it first")
    step, arguments = _step_and_arguments(model, frame_hw, batch, step_scale)
    names = step.names()
    inputs = ["frame", *(["step_scale"] if step_scale is None else []), *names]
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                step,
                arguments,
                input_names=inputs,
                output_names=["predictions", *(f"new_{name}" for name in names)],
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.save(partial, external_data=False)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _step_and_arguments(
    model: Detector, frame_hw: tuple[int, int], batch: int, step_scale: float | None
) -> tuple[ExportedStep, tuple[Tensor, ...]]:
    if batch < 1:
        raise InputError(f"batch is {batch}; it must be at least 1")
    if step_scale is not None and not step_scale > 0:
        raise InputError(f"step_scale must be above 0, not {step_scale}")
    if any(not 1 <= size <= most for size, most in zip(frame_hw, model.input_hw, strict=True)):
        raise InputError(f"frames of {tuple(frame_hw)} do not fit the model's input of {model.input_hw}")
    step = ExportedStep(model, step_scale).eval()
    frame = torch.zeros(batch, model.in_channels, *frame_hw, dtype=torch.uint8)
    scale = [torch.tensor(1.0)] if step_scale is None else []
    return step, (frame, *scale, *step.start(batch))

"""The detector as one step, for other runtimes: `torch.export` and ONNX, the state an input and an output.

    frame [B, C, h, w] (of the representation's type), states  →  predictions [B, A, 5 + classes], new states

All arithmetic is real. A complex state of P values is a pair of planes, [B, 2P, h, w]: real parts, then imaginary.
The start is zeros, as in `ExportedStep.start`; what a step returns goes into the next. `export_onnx` writes a file;
``torch.export.export(*step_and_arguments(model, frame_hw))`` gives PyTorch's own program.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmbook.detector.config import STRIDES
from ssmbook.detector.model import Detector
from ssmbook.detector.recurrences import Recurrence
from ssmbook.detector.trained_on import TrainedOn
from ssmbook.errors import InputError
from ssmbook.events import get_representation
from ssmbook.files import atomic_write
from ssmbook.live.folding import fold
from ssmbook.ssm.export import onnx_file, quiet


class ExportedStep(nn.Module):
    """One step of a detector in real arithmetic, on flat lists of tensors, in evaluation mode and float32.

    Args:
        model: the detector; it is copied.
        step_scale: a constant; None makes it an input, a tensor [] after the frame.
    """

    def __init__(self, model: Detector, step_scale: float | None = 1.0) -> None:
        super().__init__()
        self.step_scale = step_scale
        self.model = fold(copy.deepcopy(model).cpu().float())
        self.widths: list[
            dict[str, int]
        ] = []  # of the tensors of each stage's state, by the ends of their names
        for stage in self.model.backbone.stages:
            if not isinstance(stage.recurrence, Recurrence):
                raise InputError(f"a {type(stage.recurrence).__name__} is no recurrence that can be exported")
            step = stage.recurrence.real_step()
            stage.recurrence = step
            self.widths.append(step.state_widths())

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
        H, W = self.model.input_hw
        return [
            torch.zeros(batch, width, H // stride, W // stride)
            for widths, stride in zip(self.widths, STRIDES, strict=True)
            for width in widths.values()
        ]

    def names(self) -> list[str]:
        """One name for each state: ``state_1`` …, or ``state_1_h`` and ``state_1_c`` for a ConvLSTM."""
        return [f"state_{i}{end}" for i, widths in enumerate(self.widths, 1) for end in widths]

    def _nested(self, flat: list[Tensor]) -> list[Any]:
        left = iter(flat)
        states = [tuple(next(left) for _ in widths) for widths in self.widths]
        return [s[0] if len(s) == 1 else s or None for s in states]

    def _flat(self, states: list[Any]) -> list[Tensor]:
        return [t for s in states if s is not None for t in (s if isinstance(s, tuple) else (s,))]


def export_onnx(
    model: Detector,
    path: str | Path,
    frame_hw: tuple[int, int] | None,
    *,
    batch: int | None = 1,
    step_scale: float | None = 1.0,
) -> Path:
    """Write the step as one ONNX file, which appears whole or not at all.

    Inputs ``frame`` (uint8, or int8 for a mixed-density stack), ``step_scale`` if it is one, and the states by
    name; outputs ``predictions`` [B, A, 5 + classes] (cx, cy, w, h in pixels, objectness, classes) and each state as
    ``new_`` + its name. It needs the packages onnx and onnxscript: pip install 'ssmbook[export]'.

    Args:
        model: the detector.
        path: the file.
        frame_hw: (height, width) of the frames, no larger than the model's input; None leaves them free up to that.
        batch: cameras side by side; None leaves B free.
        step_scale: a constant, or None for an input, see `ExportedStep`.

    Raises:
        InputError: a package is missing, a size does not fit, or the recurrence cannot be exported.
    """
    path = onnx_file(path)
    H, W = model.input_hw
    # What is free must be neither 1 nor the largest in the example, which would be taken for constants.
    step, arguments = step_and_arguments(
        model, frame_hw or (H - 1, W - 1), 2 if batch is None else batch, step_scale
    )
    axes = {0: torch.export.Dim("B", min=1)} if batch is None else {}
    sizes = (
        {} if frame_hw else {2: torch.export.Dim("h", min=1, max=H), 3: torch.export.Dim("w", min=1, max=W)}
    )
    rest = tuple(axes if argument.ndim else {} for argument in arguments[1:])
    shapes = ({**axes, **sizes}, rest) if rest else ({**axes, **sizes},)
    names = step.names()
    inputs = ["frame", *(["step_scale"] if step_scale is None else []), *names]
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            step,
            arguments,
            input_names=inputs,
            output_names=["predictions", *(f"new_{name}" for name in names)],
            dynamic_shapes=shapes if axes or sizes else None,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    with atomic_write(path) as file:
        file.write(program.model_proto.SerializeToString())
    return path


def step_and_arguments(
    model: Detector, frame_hw: tuple[int, int], batch: int = 1, step_scale: float | None = 1.0
) -> tuple[ExportedStep, tuple[Tensor, ...]]:
    """The step and what an exporter calls it with; arguments as in `export_onnx`."""
    if batch < 1:
        raise InputError(f"batch is {batch}; it must be at least 1")
    if step_scale is not None and not step_scale > 0:
        raise InputError(f"step_scale must be above 0, not {step_scale}")
    if any(not 1 <= size <= most for size, most in zip(frame_hw, model.input_hw, strict=True)):
        raise InputError(
            f"frames of {tuple(frame_hw)} do not fit the model's input of {model.input_hw}; load it with "
            f"load_checkpoint(PATH, **input_sizes{tuple(frame_hw)})"
        )
    step = ExportedStep(model, step_scale).eval()
    kind = get_representation((model.trained_on or TrainedOn()).representation)
    frame = torch.from_numpy(np.zeros((batch, model.in_channels, *frame_hw), kind.dtype))
    scale = [torch.tensor(1.0)] if step_scale is None else []
    return step, (frame, *scale, *step.start(batch))

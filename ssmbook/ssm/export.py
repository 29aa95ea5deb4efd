"""A layer alone as an ONNX file: one step, its state an input and an output, for any number of sequences."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ssmbook.errors import InputError
from ssmbook.files import atomic_write
from ssmbook.ssm.layer import StateSpaceLayer
from ssmbook.ssm.s5 import S5


class _Step(nn.Module):
    """u [N, H], state [N, …] and the step scale [] → y [N, H] and the new state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, u: Tensor, state: Tensor, step_scale: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.layer(u[:, None], state, step_scale)
        return y[:, 0], state


def onnx_file(path: str | Path) -> Path:
    """The path of an ONNX file that can be written.

    Raises:
        InputError: a package that writes it, or its folder, is missing.
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
    return path


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter's parts say of themselves: that torchvision is not there, what they do not fold."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name: . will not be used")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def export_layer(layer: StateSpaceLayer, path: str | Path) -> Path:
    """Write one step of a layer as an ONNX file, in float32 and real arithmetic; it appears whole or not at all.

    Inputs: ``u`` [N, H], ``state`` (zeros at the start) and ``step_scale`` []; outputs: ``y`` [N, H] and ``new_state``,
    which goes in with the next step. N is free. A state is [N, 2P] for S5, real parts before imaginary ones,
    [N, 2, H, M] for S4D and S4, [N, H, M] for S6. It needs the packages onnx and onnxscript:
    pip install 'ssmbook[export]'.

    Raises:
        InputError: a package or the folder is missing, or the layer is bidirectional and so has no step.
    """
    if isinstance(layer, S5) and layer.bidirectional:
        raise InputError("a bidirectional layer cannot be exported: it has no single step")
    path = onnx_file(path)
    step = copy.deepcopy(layer).cpu().float().real_step()
    N = 2  # of the example; 1 would be taken for a constant
    arguments = torch.zeros(N, layer.width), torch.zeros(N, *step.state_shape), torch.ones(())
    batch = torch.export.Dim("N", min=1)
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            _Step(step).eval(),
            arguments,
            input_names=["u", "state", "step_scale"],
            output_names=["y", "new_state"],
            dynamic_shapes=({0: batch}, {0: batch}, None),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    with atomic_write(path) as file:
        file.write(program.model_proto.SerializeToString())
    return path

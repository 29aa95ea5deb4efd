"""The runtimes that a detector's step can go through: PyTorch, or its exported form in onnxruntime or OpenVINO.

The last two are extras (``pip install 'ssmbook[export]'``, ``'ssmbook[openvino]'``) and run on the CPU. The export is
checked against PyTorch before it is used: eight frames with the state carried must give equal predictions, the last
two after a gap.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ssmbook.detector.model import Detector
from ssmbook.detector.precision import autocast
from ssmbook.errors import InputError, one_line
from ssmbook.live.export import ExportedStep
from ssmbook.live.kept_exports import kept_export
from ssmbook.live.step import NetworkStep

RUNTIMES = ("torch", "onnxruntime", "openvino")
BF16 = " bf16"  # after a runtime's name: products in bfloat16, which is not checked against float32
WITH_BF16 = ("torch", f"torch{BF16}", "onnxruntime", "openvino", f"openvino{BF16}")  # to be timed
TOLERANCE = 1e-3  # relative, and absolute in px and of scores
CHECKED = 8  # frames
_EXTRAS = {"onnxruntime": "export", "openvino": "openvino"}
Arrays = dict[str, np.ndarray]


class Step(Protocol):
    """One frame after another through a detector, batch 1, its state held; as ``NetworkStep``."""

    frame: torch.Tensor  # [1, 1, C, H, W], for its shape and type
    device: torch.device

    def __call__(self, frame: torch.Tensor, gap: float = 1.0) -> torch.Tensor:
        """Counts [C, H, W] → predictions [A, 5 + classes], ``gap`` usual times after the frame before."""

    def reset(self) -> None:
        """Forget the past: the next frame is the first."""


class BFloat16Step(NetworkStep):
    """A step whose products are computed in bfloat16, as with ``--precision bf16`` of ``ssmbook evaluate``."""

    def run(self, frame: torch.Tensor, states: Any, gap: float = 1.0) -> tuple[torch.Tensor, Any]:
        with autocast(self.device, "bf16"):
            predictions, states = super().run(frame, states, gap)
        return predictions.float(), states


class ExportedRun:
    """A ``Step`` that runs an exported step.

    Args:
        run: inputs by name → outputs by name.
        exported: for the states' names and shapes.
        frame: a frame [1, 1, C, H, W], for its shape and type.
        step_scale: of a step without a gap.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        run: Callable[[Arrays], Arrays],
        exported: ExportedStep,
        frame: torch.Tensor,
        step_scale: float = 1.0,
    ) -> None:
        self.frame, self._run, self.step_scale = frame, run, step_scale
        self._start = {
            name: state.numpy() for name, state in zip(exported.names(), exported.start(), strict=True)
        }
        self._states = dict(self._start)

    def __call__(self, frame: torch.Tensor, gap: float = 1.0) -> torch.Tensor:
        scale = np.array(self.step_scale * gap, np.float32)
        out = self._run({"frame": frame.numpy()[None], "step_scale": scale, **self._states})
        self._states = {name: out[f"new_{name}"] for name in self._start}
        return torch.from_numpy(out["predictions"][0])

    def reset(self) -> None:
        self._states = dict(self._start)


def installed(runtime: str) -> bool:
    """Whether a runtime and what exports for it can be imported."""
    needs = {
        "torch": (),
        "onnxruntime": ("onnxruntime", "onnxscript"),
        "openvino": ("openvino", "onnxscript"),
    }
    return all(importlib.util.find_spec(name) is not None for name in needs[runtime.removesuffix(BF16)])


def make_steps(
    runtimes: tuple[str, ...],
    model: Detector,
    frame_hw: tuple[int, int],
    step_scale: float,
    dtype: torch.dtype,
) -> dict[str, Step]:
    """Steps by runtime; the model is exported once for all that need it.

    Args:
        runtimes: names of ``WITH_BF16``.
        model, frame_hw, step_scale, dtype: as of ``NetworkStep``.

    Raises:
        InputError: there is no such runtime, it is not installed, cannot run on the model's device, or what it computes
            is not what PyTorch does.
    """
    plain = NetworkStep(model, frame_hw, step_scale, dtype)
    steps: dict[str, Step] = {"torch": plain}
    if f"torch{BF16}" in runtimes:
        steps[f"torch{BF16}"] = BFloat16Step(model, frame_hw, step_scale, dtype)
    others = [name for name in runtimes if name not in steps]
    for name in others:
        if name not in WITH_BF16:
            raise InputError(f"there is no runtime {name!r}; they are {', '.join(RUNTIMES)}")
        if not installed(name):
            raise InputError(
                f"{name} is not installed: pip install 'ssmbook[{_EXTRAS[name.removesuffix(BF16)]}]'; or use torch"
            )
        if plain.device.type != "cpu":
            raise InputError(f"{name} runs on the CPU here, and the model is on {plain.device}; use torch")
    for name, step in _exported_steps(others, model, plain, step_scale).items():
        if isinstance(step, InputError):
            raise step
        steps[name] = step
    return {name: steps[name] for name in runtimes}


def _exported_steps(
    names: list[str], model: Detector, plain: NetworkStep, step_scale: float
) -> dict[str, Step | InputError]:
    """The steps of other runtimes than PyTorch, out of one export; an error for each that computes something else."""
    if not names:
        return {}
    found: dict[str, Step | InputError] = {}
    exported, frame_hw = ExportedStep(model, None), (plain.frame.shape[3], plain.frame.shape[4])
    with kept_export(model, frame_hw) as path:
        for name in names:
            try:
                step = ExportedRun(_load(name, path), exported, plain.frame, step_scale)
                if not name.endswith(BF16):
                    _check_equal(name, step, plain)
                found[name] = step
            except InputError as error:
                found[name] = error
        if any(isinstance(step, InputError) for step in found.values()):
            path.unlink(missing_ok=True)  # it may be the file: the next start exports anew
    return found


def _load(name: str, path: Path) -> Callable[[Arrays], Arrays]:
    try:
        return _LOADERS[name](path)
    except Exception as error:
        words = one_line(str(error), 120)
        raise InputError(f"{name} does not load the exported network ({words}); use torch") from None


def fastest_step(
    model: Detector, frame_hw: tuple[int, int], step_scale: float, dtype: torch.dtype
) -> tuple[str, Step]:
    """The runtime, of those installed that equal PyTorch, that takes the least time for a few frames, and its step."""
    plain = NetworkStep(model, frame_hw, step_scale, dtype)
    others = [name for name in RUNTIMES[1:] if installed(name)] if plain.device.type == "cpu" else []
    candidates: dict[str, Step] = {"torch": plain}
    for name, found in _exported_steps(others, model, plain, step_scale).items():
        if isinstance(found, InputError):
            print(f"ssmbook: {found}", file=sys.stderr)
        else:
            candidates[name] = found
    taken = {}
    for name, step in candidates.items():
        times = []
        for frame in _frames(step.frame, CHECKED):
            began = time.perf_counter()
            step(frame)
            times.append(time.perf_counter() - began)
        taken[name] = float(np.median(times[2:]))
        step.reset()
    best = min(taken, key=lambda name: taken[name])
    return best, candidates[best]


def _check_equal(name: str, step: Step, plain: NetworkStep) -> None:
    for k, frame in enumerate(_frames(plain.frame, CHECKED)):
        gap = 3.0 if k >= CHECKED - 2 else 1.0
        found, wanted = step(frame, gap), plain(frame, gap)
        if not torch.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE):
            most = float((found - wanted).abs().max())
            raise InputError(f"{name} computes other predictions than torch, by up to {most:g}; use torch")
    step.reset()
    plain.reset()


def _frames(like: torch.Tensor, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = like.shape[2:]
    fired = [torch.rand(shape, generator=generator) < 0.05 for _ in range(count)]
    return [(3 * each).to(like.dtype) for each in fired]


def _load_onnxruntime(path: Path) -> Callable[[Arrays], Arrays]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        outputs: Any = session.run(names, inputs)  # dense tensors
        return dict(zip(names, outputs, strict=True))

    return run


@functools.cache
def _openvino_core() -> Any:
    """The process's one OpenVINO, for ever.

    Its CPU plugin gives the thread a stack for signal handlers and frees it when its core goes. Of two cores, the
    second restores the first one's, which may be freed by then: the next signal, such as Ctrl-C or the end of a
    child, is a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _load_openvino(path: Path, precision: str = "f32") -> Callable[[Arrays], Arrays]:
    core = _openvino_core()
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    request = compiled.create_infer_request()
    # An output may have names of its node beside the one that the export gave it.
    aliases = {alias for output in compiled.outputs for alias in output.get_names()}
    names = [name for name in aliases if name == "predictions" or name.startswith("new_state_")]

    def run(inputs: Arrays) -> Arrays:
        request.infer(inputs)
        return {name: request.get_tensor(name).data.copy() for name in names}

    return run


_LOADERS = {
    "onnxruntime": _load_onnxruntime,
    "openvino": _load_openvino,
    f"openvino{BF16}": lambda path: _load_openvino(path, "bf16"),
}

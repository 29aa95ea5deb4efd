"""Whether a device computes what it should: kernels against the loop, the detector against its plain formulation.

Differences are relative to the largest value of what is compared. The reference is in float64, and beside ours stands
what the plain formulation in float32 differs from it: rounding.
"""

import copy
import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from detector import Plain, chunk, network

from ssmbook.detector import Detector
from ssmbook.detector.recurrences import tensors_of
from ssmbook.live.step import NetworkStep
from ssmbook.ssm import S5, SelectiveS5
from ssmbook.ssm.kernels.dispatch import scan_planes
from ssmbook.ssm.kernels.planes import from_planes, to_planes
from ssmbook.ssm.plain import scan

KERNEL_SHAPES = [(1, 1, 1), (3, 2, 5), (7, 33, 40), (2, 300, 65), (64, 21, 48)]
TRANSITIONS = ("shared", "per sequence", "per step")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}  # of the largest value


def check_kernels(device: str, shapes: list[tuple[int, int, int]] = KERNEL_SHAPES) -> list[dict[str, Any]]:
    """The device's scan against the loop in float64, forward and gradients: the largest relative differences."""
    rows = []
    cases = itertools.product(shapes, TRANSITIONS, (False, True), (False, True), TOLERANCE)
    for shape, kind, time_major, reverse, dtype in cases:
        torch.manual_seed(0)
        N, L, P = shape
        a_shape = {"shared": (P,), "per sequence": (N, 1, P), "per step": (N, L, P)}[kind]
        sizes = a_shape, (N, L, P), (N, P), (N, L, P)
        a, b, x0, dx = (torch.randn(*size, dtype=torch.complex128, device=device) for size in sizes)
        a = 0.95 * a / a.abs().clamp(min=1)
        expected = with_gradients(lambda a, b, x0, r=reverse: scan(a, b, x0, r), (a, b, x0), dx)
        got = with_gradients(planes_scan(dtype, time_major, reverse), (a, b, x0), dx)
        worst = difference(got, expected)
        rows.append(
            {
                "shape": shape,
                "transition": kind,
                "time_major": time_major,
                "reverse": reverse,
                "dtype": str(dtype),
            }
            | {"difference": worst, "passes": worst <= TOLERANCE[dtype]}
        )
    return rows


def difference(values: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest difference of any from what is expected, relative to the latter's largest; NaN where one is."""
    pairs = zip(values, expected, strict=True)
    return float(torch.stack([(a - b).abs().max() / b.abs().max().clamp(min=1e-300) for a, b in pairs]).max())


def planes_scan(dtype: torch.dtype, time_major: bool, reverse: bool):
    """The backend for this device as a function of complex128 tensors, computing in ``dtype``."""

    def run(a: torch.Tensor, b: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
        b = to_planes(b).to(dtype)
        if time_major:
            b = b.transpose(0, 1).contiguous().transpose(0, 1)
        x = scan_planes(to_planes(a).to(dtype), b, x0.to(dtype.to_complex()), reverse)
        return from_planes(x).to(torch.complex128)

    return run


def with_gradients(run, arguments: tuple[torch.Tensor, ...], dx: torch.Tensor) -> list[torch.Tensor]:
    """What ``run`` returns, and its gradients for the arguments."""
    arguments = tuple(x.detach().requires_grad_() for x in arguments)
    x = run(*arguments)
    return [x.detach(), *torch.autograd.grad(x, arguments, dx, materialize_grads=True)]


PREDICTIONS, STATES, GRADIENTS = 1e-4, 2e-5, 1e-4  # TF32 is above, the rounding of float32 below
FRAMES = 6  # that a state is carried over


def check_detector(device: str, preset: str, length: int) -> Iterator[dict[str, Any]]:
    """Features' predictions, states and gradients over two chunks, then frame by frame as it runs live."""
    model = as_trained(network(preset, device)).eval()
    plain, reference = Plain(model), Plain(copy.deepcopy(model).double())
    x = chunk(model, length, device)[0]
    found = [outputs(m, x) for m in (model, plain, reference)]
    for name, limit in zip(found[0], (PREDICTIONS, PREDICTIONS, STATES, GRADIENTS), strict=True):
        yield row(f"{preset}, {name}", *(f[name] for f in found), limit)

    x = frames_of(model, device)
    with torch.no_grad():
        expected = reference.predict(reference.features(x)[0])[:, 0]
        rounded = plain.predict(plain.features(x)[0])[:, 0]
    step = NetworkStep(model, model.input_hw)
    for again in ("", ", after a reset"):
        yield from live_rows(f"{preset}{again}", step, x, rounded, expected)
        step.reset()


def check_recurrence(device: str, preset: str, recurrence: str) -> Iterator[dict[str, Any]]:
    """Another recurrence frame by frame as it runs live, against itself over the whole chunk in float64."""
    model = as_trained(network(preset, device, recurrence=recurrence)).eval()
    x, reference = frames_of(model, device), copy.deepcopy(model).double()
    with torch.no_grad():
        expected, rounded = (m.predict(m.features(x)[0])[:, 0] for m in (reference, model))
    step = NetworkStep(model, model.input_hw)
    yield from live_rows(f"{preset}, {recurrence}", step, x, rounded, expected)


def live_rows(
    name: str, step: NetworkStep, x: torch.Tensor, rounded: torch.Tensor, expected: torch.Tensor
) -> Iterator[dict[str, Any]]:
    """Boxes and scores frame by frame: x [L, 1, C, H, W], expected [L, A, 5 + classes]."""
    got = torch.stack([step(frame).clone() for frame in x[:, 0]])
    for what, part in (("boxes", slice(0, 4)), ("scores", slice(4, None))):
        values = ([predictions[..., part]] for predictions in (got, rounded, expected))
        yield row(f"{name}, {what} frame by frame", *values, PREDICTIONS)


def as_trained(model: Detector) -> Detector:
    """The model, with values for which an error shows that would be lost in those of the start.

    There convolutions shrink what they are given, the head gives almost the same for any input, and S5's state fills
    slowly.
    """
    torch.manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.1, 0.3)
            elif isinstance(module, S5):
                module.log_step += math.log(10)
                if isinstance(module, SelectiveS5):
                    module.gate_weight.normal_(std=0.3)
        for layer in (*model.head.class_out, *model.head.objectness_out, *model.head.box_out):
            layer.weight.normal_(std=0.1)
            layer.bias.zero_()
    return model


def frames_of(model: Detector, device: str) -> torch.Tensor:
    """[FRAMES, 1, C, H, W]."""
    return chunk(model, FRAMES, device)[0]


def outputs(model: Detector | Plain, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """Boxes, scores and states after two chunks, and gradients of a weighted sum of the second one's features."""
    first, second = x.split([len(x) // 2, len(x) - len(x) // 2])
    maps, states = model.features(second, model.features(first)[1])
    torch.manual_seed(2)
    weights = {i: torch.randn(m.shape, dtype=torch.float64).to(m) for i, m in maps.items()}
    loss = sum((m * weights[i]).sum() for i, m in maps.items()) / sum(m.numel() for m in maps.values())
    parameters = dict(sorted(model.backbone.named_parameters()))  # by name: their order differs
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    with torch.no_grad():
        predictions = model.predict(maps)
    return {
        "boxes": [predictions[..., :4]],
        "scores": [predictions[..., 4:]],
        "states": [state.detach() for state in tensors_of(states)],
        "gradients": list(gradients),
    }


def row(
    name: str,
    got: list[torch.Tensor],
    rounded: list[torch.Tensor],
    expected: list[torch.Tensor],
    limit: float,
) -> dict[str, Any]:
    """The largest relative difference of each from what is expected, and whether ours is below the limit."""
    ours, plain = (difference(values, expected) for values in (got, rounded))
    return {"row": name, "ours": ours, "plain": plain, "limit": limit, "passes": ours <= limit}

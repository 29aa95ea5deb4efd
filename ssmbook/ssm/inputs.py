"""What callers give a layer, checked: sequences, states, step scales, and parameters from elsewhere."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn

from ssmbook.errors import InputError
from ssmbook.ssm.kernels.dispatch import is_transformed

Arrays = Mapping[str, "np.ndarray | Tensor"]
Scale = float | Tensor | np.ndarray | Sequence


def copy_parameters(layer: nn.Module, arrays: Arrays) -> None:
    """Copy ``arrays`` into the parameters of ``layer`` that carry their names; all of them, and no others.

    Raises:
        InputError: a name is missing or unknown, or a shape differs; nothing has been copied then.
    """
    parameters = dict(layer.named_parameters())
    kind = type(layer).__name__
    missing, unknown = sorted(parameters.keys() - arrays.keys()), sorted(arrays.keys() - parameters.keys())
    if missing or unknown:
        raise InputError(
            f"{kind} parameters: missing {missing}, unknown {unknown}; expected {sorted(parameters)}"
        )
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    for name, tensor in tensors.items():
        expected = tuple(parameters[name].shape)
        if tuple(tensor.shape) != expected:
            raise InputError(f"{kind} parameter {name} must be {list(expected)}, not {list(tensor.shape)}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def check_sequence(
    u: Tensor,
    width: int,
    dtype: torch.dtype,
    state: Tensor | None,
    state_shape: tuple[int, ...],
    state_dtype: torch.dtype,
) -> None:
    """InputError unless u is [N, L ≥ 1, width] of ``dtype`` and state None or [N, *state_shape] of ``state_dtype``."""
    if u.ndim != 3 or u.shape[2] != width or u.shape[1] < 1:
        raise InputError(f"u must be [N, L, {width}] with L ≥ 1, not {list(u.shape)}")
    if u.dtype != dtype:
        raise InputError(f"u must be {dtype} like the parameters, not {u.dtype}")
    expected = [u.shape[0], *state_shape]
    if state is not None and (list(state.shape) != expected or state.dtype != state_dtype):
        raise InputError(
            f"state must be {state_dtype} {expected} to go with u {list(u.shape)}, "
            f"not {state.dtype} {list(state.shape)}"
        )


def check_gain(state_gain: float) -> None:
    """InputError unless state_gain, the factor on C at the start, is a number above 0 and finite."""
    if not isinstance(state_gain, Real) or not 0 < state_gain < math.inf:
        raise InputError(f"state_gain must be a number above 0 and finite, not {state_gain!r}")


def check_bandlimit(bandlimit: float | None, mode: str) -> None:
    """InputError unless bandlimit is None or a number above 0, and its mode "held" or "once"."""
    if mode not in ("held", "once"):
        raise InputError(f'bandlimit_mode must be "held" or "once", not {mode!r}')
    if bandlimit is not None and not (isinstance(bandlimit, Real) and 0 < bandlimit < math.inf):
        raise InputError(f"bandlimit must be a number above 0 and finite (or None), not {bandlimit!r}")


def as_scale(step_scale: Scale) -> float | Tensor:
    """step_scale as a float or a tensor: arrays and lists of numbers are taken too."""
    if isinstance(step_scale, Tensor):
        return step_scale
    try:
        return float(step_scale) if isinstance(step_scale, Real) else torch.as_tensor(np.asarray(step_scale))
    except (TypeError, ValueError):
        raise InputError(f"step_scale must be a number or an array of numbers, not {step_scale!r}") from None


def check_scale(step_scale: Scale, u: Tensor) -> float | Tensor:
    """step_scale as a number or a tensor like u [N, L, H]: [], [N] or [N, L]; [N, 1] and [1, L] are taken too.

    Raises:
        InputError: another shape, one axis where N = L (are they sequences or steps?), or not finite and above 0.
    """
    step_scale = as_scale(step_scale)
    if not isinstance(step_scale, Tensor):
        check_positive(step_scale)
        return step_scale
    N, L, _ = u.shape
    shape = tuple(step_scale.shape)
    check_axes(shape, N, L, f"[{N}, 1] for each sequence or [1, {L}] for each step")
    if shape not in ((), (N,), (N, L), (N, 1), (1, L)):
        raise InputError(f"step_scale must be a number, [{N}] or [{N}, {L}], not {list(shape)}")
    check_positive(step_scale)
    if len(shape) == 2:
        step_scale = step_scale[:, 0] if shape == (N, 1) else step_scale.expand(N, L)
    return step_scale.to(u)


def check_positive(step_scale: float | Tensor) -> None:
    """InputError unless step_scale is above 0 and finite; of a tensor that is traced or transformed there is no value
    to look at."""
    if not isinstance(step_scale, Tensor):
        if not 0 < step_scale < math.inf:
            raise InputError(f"step_scale must be above 0 and finite, not {step_scale}")
        return
    looks = not torch.compiler.is_compiling() and not is_transformed()
    if looks and not bool(((step_scale > 0) & (step_scale < math.inf)).all()):
        low, high = float(step_scale.min()), float(step_scale.max())
        raise InputError(f"step_scale must be above 0 and finite, not {low} to {high}")


def check_axes(shape: tuple[int, ...], sequences: int, steps: int, remedy: str) -> None:
    """InputError if a step_scale of one axis could be meant for each sequence as well as for each step."""
    if len(shape) == 1 and shape[0] == sequences == steps > 1:
        raise InputError(
            f"step_scale [{steps}] may be meant for each sequence or for each step; give {remedy}"
        )

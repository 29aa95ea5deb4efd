"""What products are computed in: float32 without TF32, as the published figures are, or half precision."""

import torch

from ssmbook.errors import InputError

#: What products are computed in. fp32 is without TF32, as the published figures are.
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a model computes with that precision."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; it can be {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def usable_device(name: str = "") -> torch.device:
    """The device of that name; without a name a GPU where there is one, else the CPU.

    Raises:
        InputError: no such device, or none that works here.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InputError(f"device {name!r} cannot be used here ({reason}); use cpu") from None


def exact_float32() -> None:
    """Products in full float32 on any GPU: no TF32 in matrix products or convolutions (for the process)."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False

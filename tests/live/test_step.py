"""One frame after another equals the whole, and does nothing that a CUDA graph could not hold."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssmbook.detector import RECURRENCES
from ssmbook.detector.recurrences import tensors_of
from ssmbook.live.step import NetworkStep
from tests.live.test_stream import SIZE, model_of

# What waits for the device, or brings values of the host to it.
FORBIDDEN = ("_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "bincount", "unique", "equal")


class Operations(TorchDispatchMode):
    """Notes the operations that run."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append((func, args))
        return func(*args, **(kwargs or {}))

    def against_capture(self):
        """Those that a capture forbids."""
        found = [f.__name__ for f, _ in self.calls if f.__name__.startswith(FORBIDDEN)]
        for f, args in self.calls:  # a mask as an index needs its number of ones
            if f.__name__.startswith("index"):
                masks = [i for i in args[1] if isinstance(i, torch.Tensor) and i.dtype == torch.bool]
                found += [f"{f.__name__} by a mask"] * len(masks)
        return found


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_frame_by_frame_equals_the_whole(recurrence):
    model = model_of(recurrence)
    x = torch.randint(0, 4, (5, 1, 20, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        expected = model.predict(model.features(x, step_scale=0.5)[0])[:, 0]
    step = NetworkStep(model, (SIZE, SIZE), 0.5)
    for _ in range(2):  # the second time after a reset
        for frame, wanted in zip(x[:, 0], expected, strict=True):
            torch.testing.assert_close(step(frame), wanted, rtol=1e-9, atol=1e-9)
        step.reset()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("recurrence", [*RECURRENCES, "s5, held"])
def test_a_step_can_be_captured(recurrence, bf16):
    options = {"bandlimit_mode": "held"} if "held" in recurrence else {}
    step = NetworkStep(model_of(recurrence.partition(",")[0], **options).float(), (SIZE - 4, SIZE), 0.5)
    autocast = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
    with torch.no_grad(), autocast:
        _, states = step.run(step.frame, None)
        pointers = [s.data_ptr() for s in tensors_of(states)]
        with Operations() as operations:
            _, after = step.run(step.frame, states)
    assert len(operations.calls) > 100
    assert operations.against_capture() == []
    # The same shapes and kinds from step to step, in memory of their own: they are copied into the old ones.
    assert [(s.shape, s.dtype) for s in tensors_of(after)] == [(s.shape, s.dtype) for s in tensors_of(states)]
    assert not set(pointers) & {s.data_ptr() for s in tensors_of(after)}


def test_what_cannot_be_captured_is_noticed():
    x = torch.ones(3)
    with Operations() as operations:
        bool((x > 0).all())
        x[x > 0]
        torch.as_tensor(1.0)
    assert operations.against_capture() == [
        "_local_scalar_dense.default",
        "lift_fresh.default",
        "index.Tensor by a mask",
    ]

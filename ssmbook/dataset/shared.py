"""Memory for batches of frames that is used again, and that a loader's process shares with the one that trains.

The system clears fresh memory page by page as it is first touched, shared memory above all, which takes longer than
reading and decompressing the frames that go into it. So batch buffers are recycled: a process that reads
writes the next batch into a buffer that is no longer in use. A header word in front of the frames records the owner.
"""

from __future__ import annotations

import itertools
import math
import weakref
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

HEADER = 64  # bytes before the frames; the first eight are a number: n: lent here for the nth time, −n: sent, 0: free
SPARE = 2  # how much free memory is kept, in batches


class FramePool:
    """The memory of one process's batches: as many as are held at a time, and a few spare ones."""

    def __init__(self) -> None:
        self._memories: list[torch.Tensor] = []
        self._numbers = itertools.count(1)

    def __reduce__(self) -> Any:
        return FramePool, ()  # another process's pool has memory of its own

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> torch.Tensor:
        """Uninitialised frames. A loader's process sends them without a copy.

        The memory is free again when the last tensor in it is gone: here, or in the process that they were sent to.
        """
        size = HEADER + math.prod(shape) * dtype.itemsize
        fitting = [memory for memory in self._memories if len(memory) >= size]
        free = [memory for memory in fitting if _holder(memory)[0] == 0]
        memory = free[0] if free else _new_memory(size)
        given_up = {id(m) for m in free[1 + SPARE :]}
        self._memories = [memory, *(m for m in fitting if m is not memory and id(m) not in given_up)]
        number = next(self._numbers)
        _holder(memory)[0] = number
        frames = _frames_in(memory, shape, dtype, number)
        if not memory.is_shared():
            return frames
        sendable = frames.as_subclass(_Sendable)
        sendable.sent_as = memory, shape, dtype, -number
        return sendable


def _new_memory(size: int) -> torch.Tensor:
    memory = torch.from_numpy(np.empty(size, np.uint8))
    return memory if get_worker_info() is None else memory.share_memory_()


class _Sendable(torch.Tensor):
    """Frames that another process gets without a copy. What is made from them is an ordinary tensor."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    sent_as: tuple[torch.Tensor, tuple[int, ...], np.dtype, int]

    def __reduce_ex__(self, protocol: Any) -> Any:
        memory, *_, number = self.sent_as
        _holder(memory)[0] = number
        return _frames_in, self.sent_as


def _frames_in(memory: torch.Tensor, shape: tuple[int, ...], dtype: np.dtype, number: int) -> torch.Tensor:
    """The tensor in some memory, which is free when the tensor and its views are gone, if ``number`` holds it then."""
    # A tensor from an array holds that very array, and so do its views: their end is the array's.
    end = HEADER + math.prod(shape) * dtype.itemsize
    array = memory.numpy()[HEADER:end].view(dtype).reshape(shape)
    weakref.finalize(array, _release, _holder(memory), number).atexit = False
    return torch.from_numpy(array)


def _release(holder: np.ndarray, number: int) -> None:
    # At any moment, also while PyTorch traces a program, of which a tensor's operation would become a part.
    if holder[0] == number:
        holder[0] = 0


def _holder(memory: torch.Tensor) -> np.ndarray:
    return memory.numpy()[:8].view(np.int64)

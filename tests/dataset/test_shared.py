import pickle

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.data import DataLoader, Dataset

from ssmbook.dataset.sequences import as_it_is
from ssmbook.dataset.shared import SPARE, FramePool
from ssmbook.processes import worker_context

SHAPE = (3, 2, 5, 7, 11)


class Numbered(Dataset):
    """Item i is frames full of i, and where its memory lies in the process that reads."""

    def __init__(self, dtype):
        self.dtype, self.pool = np.dtype(dtype), FramePool()

    def __getitem__(self, i):
        frames = self.pool.take(SHAPE, self.dtype)
        frames[:] = i
        return frames, frames.data_ptr(), len(self.pool._memories)

    def __len__(self):
        return 40


def loaded(dtype=np.uint8, dataset=None):
    return DataLoader(
        dataset or Numbered(dtype),
        batch_size=None,
        collate_fn=as_it_is,
        num_workers=1,
        multiprocessing_context=worker_context("ssmbook.dataset.schedule"),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_memory_is_used_again_and_only_when_nobody_holds_it(dtype):
    held, places = [], []
    for i, (frames, place, _) in enumerate(loaded(dtype)):
        assert type(frames) is torch.Tensor
        assert frames.shape == SHAPE
        assert frames.numpy().dtype == dtype
        assert (frames == i).all()
        places.append(place)
        if i in (3, 4, 20):
            held.append((i, frames[1, :, 2:]))  # a view holds all of it
        if i == 30:
            assert all((view == number).all() for number, view in held)
            held = held[:1]
        del frames
    assert (held[0][1] == 3).all()
    assert len(set(places)) <= 8 < len(places)


def test_a_consumer_may_keep_all():
    batches = [frames for frames, *_ in loaded()]
    assert [int(frames.unique()) for frames in batches] == list(range(40))


def test_memory_that_was_not_sent_is_free_when_it_is_dropped():
    pool = FramePool()
    first, second = (pool.take(SHAPE, np.dtype(np.uint8)) for _ in range(2))
    assert first.data_ptr() != second.data_ptr()
    place, part = first.data_ptr(), first[0]
    assert type(part) is torch.Tensor
    del first
    third = pool.take(SHAPE, np.dtype(np.uint8))
    assert third.data_ptr() not in (place, second.data_ptr())
    del part
    assert pool.take(SHAPE, np.dtype(np.uint8)).data_ptr() == place


class Parts(Numbered):
    def __getitem__(self, i):
        return super().__getitem__(i)[0][1:]


def test_what_is_made_from_frames_is_copied_to_be_sent():
    """A view of them goes the ordinary way, and survives the memory's next use."""
    parts = list(loaded(dataset=Parts(np.uint8)))
    assert [int(part.unique()) for part in parts] == list(range(40))


def test_little_spare_memory_is_kept():
    pool = FramePool()
    many = [pool.take(SHAPE, np.dtype(np.uint8)) for _ in range(SPARE + 5)]
    assert len({frames.data_ptr() for frames in many}) == len(pool._memories) == SPARE + 5
    del many
    pool.take(SHAPE, np.dtype(np.uint8))
    assert len(pool._memories) == 1 + SPARE
    pool.take((2, *SHAPE), np.dtype(np.uint8))
    assert len(pool._memories) == 1


def test_memory_is_given_back_while_a_program_is_traced():
    """As where the garbage collector comes in the middle of an export."""
    pool, held, places, programs = FramePool(), [], [], []

    def double(x):
        held.clear()
        return 2 * x

    for _ in range(2):
        held.append(pool.take(SHAPE, np.dtype(np.uint8)))
        places.append(held[0].data_ptr())
        programs.append(make_fx(double, tracing_mode="fake")(torch.ones(3)))
    assert places[0] == places[1]
    assert [program.code.count("torch.ops") for program in programs] == [1, 1]


def test_a_pool_is_sent_to_another_process_without_its_memory():
    pool = FramePool()
    pool.take(SHAPE, np.dtype(np.uint8))
    assert pickle.loads(pickle.dumps(pool))._memories == []

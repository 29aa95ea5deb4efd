import lightning as L
import numpy as np
import pytest
import torch

from ssmbook.dataset import Batch, EventDataModule, Sensor, find_sequences, preprocess
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, DatWriter, Events

HEIGHT, WIDTH = 24, 32
LENGTH, BATCH = 4, 2


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A set made from random events: two sequences to train on, three in each other split."""
    raw, out = (tmp_path_factory.mktemp(name) for name in ("raw", "set"))
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 3), ("test", 3)):
        (raw / split).mkdir()
        for number in range(count):
            end_us = 400_000 + 50_000 * number
            t = np.sort(rng.integers(0, end_us, size=2000))
            with DatWriter(raw / split / f"s{number}_td.dat", WIDTH, HEIGHT) as file:
                file.write(Events(t, *(rng.integers(0, size, size=2000) for size in (WIDTH, HEIGHT, 2))))
            boxes = np.zeros(end_us // 50_000 - 2, BOX_DTYPE)
            boxes["t"] = 50_000 * (2 + np.arange(len(boxes)))
            boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 8, 6, 12, 10
            np.save(raw / split / f"s{number}_bbox.npy", boxes)
    preprocess(raw, out, sensor=Sensor.simulated(WIDTH, HEIGHT), progress=False)
    return out


def module(data_dir, **options):
    return EventDataModule(data_dir, sequence_length=LENGTH, batch_size=BATCH, **options)


def assert_same(a, b):
    assert len(a) == len(b) > 0
    for one, two in zip(a, b, strict=True):
        for key in ("x", "targets", "frames", "first", "times_us"):
            assert torch.equal(getattr(one, key), getattr(two, key)), key


def test_training_batches_have_the_shapes(data_dir):
    batches = list(module(data_dir).train_dataloader())
    for batch in batches:
        assert isinstance(batch, Batch)
        assert batch.x.shape == (LENGTH, BATCH, 20, HEIGHT, WIDTH)
        assert batch.x.dtype == torch.uint8
        assert batch.first.all()
        assert batch.targets.shape[::2] == (len(batch.frames), 5)
        assert (batch.frames[-BATCH:, 0] == LENGTH - 1).all(), "every chunk ends at a label frame"


def test_the_seed_decides_every_batch(data_dir):
    one, two, other = (list(module(data_dir, seed=seed).train_dataloader()) for seed in (0, 0, 1))
    assert_same(one, two)
    assert any(not torch.equal(a.x, b.x) for a, b in zip(one, other, strict=True))


def test_workers_change_no_batch(data_dir):
    here, there = (module(data_dir, workers=workers).train_dataloader() for workers in (0, 1))
    assert_same(list(here), list(there))
    assert_same(list(here), list(there))  # the second epoch


def test_epochs_differ_and_come_back(data_dir):
    loader = module(data_dir).train_dataloader()
    first, second = list(loader), list(loader)
    assert any(not torch.equal(a.x, b.x) for a, b in zip(first, second, strict=True))
    loader.sampler.set_epoch(0)
    assert_same(list(loader), first)


def test_an_epoch_holds_each_chunk_once(data_dir):
    loader = module(data_dir, augment=False).train_dataloader()
    times = [(batch.sequences[b], int(t)) for batch in loader for (i, b), t in _last_frames(batch)]
    ends = [
        (s.name, int(s.label_times_us[j]))
        for s in find_sequences(data_dir / "train")
        for j, i in enumerate(s.label_frames)
        if i + 1 >= LENGTH
    ]
    assert len(ends) % BATCH == 1, "a short last batch is dropped"
    assert len(times) == len(set(times)) == len(ends) - 1
    assert set(times) <= set(ends)


def _last_frames(batch):
    rows = zip(batch.frames.tolist(), batch.times_us.tolist(), strict=True)
    return [row for row in rows if row[0][0] == LENGTH - 1]


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_covers_every_label_frame(data_dir, split):
    loader = getattr(module(data_dir), f"{split}_dataloader")()
    found = [
        (b.sequences[slot], int(t))
        for b in loader
        for (_, slot), t in zip(b.frames.tolist(), b.times_us, strict=True)
    ]
    wanted = [(s.name, int(t)) for s in find_sequences(data_dir / split) for t in s.label_times_us]
    assert sorted(found) == sorted(wanted)


def test_a_trainer_runs_on_it(data_dir):
    seen = []

    class Model(L.LightningModule):
        def training_step(self, batch, _):
            seen.append(batch)
            return self.weight * batch.targets.mean()

        def validation_step(self, batch, _):
            assert batch.x.device == self.device

        def configure_optimizers(self):
            self.weight = torch.nn.Parameter(torch.ones(()))
            return torch.optim.SGD([self.weight], 0.1)

    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = module(data_dir)
    trainer.fit(Model(), datamodule=data)
    loader = data.train_dataloader()
    assert_same(seen, [*loader, *loader])


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"seed": 0, "representation": "other"}])
def test_wrong_options_are_named(data_dir, wrong):
    with pytest.raises(InputError, match=str(next(reversed(wrong.values())))):
        module(data_dir, **wrong).train_dataloader()


def test_a_missing_split_is_named(tmp_path):
    with pytest.raises(InputError, match="train"):
        module(tmp_path).train_dataloader()

import itertools
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import lightning as L
import numpy as np
import psutil
import pytest
import torch

from ssmbook.dataset import Batch, EventDataModule, Sensor, find_sequences, loader, preprocess
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
        assert (one.past is None) == (two.past is None)
        if one.past is not None:
            assert torch.equal(one.past.x, two.past.x)
            assert torch.equal(one.past.elapsed_us, two.past.elapsed_us)
            assert (one.past.slots, one.past.lengths) == (two.past.slots, two.past.lengths)


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
    here, there = (module(data_dir, workers=n, sampling="mixed", burn_in=3) for n in (0, 2))
    batches = there.train_dataloader()
    whole = [*here.train_dataloader()]
    assert any(batch.past is not None for batch in whole)
    assert_same([next(iter(batches))], whole[:1])
    assert there.state_dict()["seen"] == 1, "what workers have read ahead by now does not count"
    assert_same(list(batches), whole[1:])
    assert_same(list(batches), list(here.train_dataloader()))  # the second epoch


def test_epochs_differ(data_dir):
    loader = module(data_dir).train_dataloader()
    first, second = list(loader), list(loader)
    assert any(not torch.equal(a.x, b.x) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("sampling", "burn_in"), [("random", 0), ("random", 3), ("stream", 0), ("mixed", 0), ("mixed", 3)]
)
def test_training_goes_on_at_the_very_batch(data_dir, sampling, burn_in):
    """Interrupted anywhere, also in the middle of an epoch: the state in, the rest of the batches out."""
    loader = module(data_dir, sampling=sampling, burn_in=burn_in).train_dataloader()
    whole = [*loader, *loader, *loader]
    for seen in (0, 1, len(loader), len(loader) + 1):
        interrupted = module(data_dir, sampling=sampling, burn_in=burn_in)
        for _ in itertools.islice(_forever(interrupted.train_dataloader()), seen):
            pass
        state = interrupted.state_dict()
        assert state["seen"] == seen
        resumed = module(data_dir, sampling=sampling, burn_in=burn_in)
        resumed.load_state_dict(state)
        rest = resumed.train_dataloader()
        assert_same(list(itertools.islice(_forever(rest), 2)), whole[seen : seen + 2])
        assert_same(
            [next(iter(resumed.train_dataloader()))], whole[seen + 2 : seen + 3]
        )  # made anew by a trainer


def test_another_setting_cannot_go_on(data_dir):
    state = module(data_dir, seed=1).state_dict()
    with pytest.raises(InputError, match="training had seed = 1, not 0"):
        module(data_dir).load_state_dict(state)
    state = module(data_dir).state_dict()
    with pytest.raises(InputError, match="training had burn_in = 0, not 3"):
        module(data_dir, burn_in=3).load_state_dict(state)
    del state["burn_in"]  # as in states that earlier versions saved
    module(data_dir).load_state_dict(state)
    with pytest.raises(InputError, match="training had burn_in = 0, not 3"):
        module(data_dir, burn_in=3).load_state_dict(state)


def _forever(loader):
    while True:
        yield from loader


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


@pytest.mark.parametrize(("split", "workers"), [("val", 0), ("test", 0), ("test", 2)])
def test_evaluation_covers_every_label_frame(data_dir, split, workers):
    """With two workers and two slots there are fewer sequences than workers × slots."""
    loader = getattr(module(data_dir, workers=workers), f"{split}_dataloader")()
    found = [
        (b.sequences[slot], int(t))
        for b in loader
        for (_, slot), t in zip(b.frames.tolist(), b.times_us, strict=True)
    ]
    wanted = [(s.name, int(t)) for s in find_sequences(data_dir / split) for t in s.label_times_us]
    assert sorted(found) == sorted(wanted)


class Recorder(L.LightningModule):
    """Keeps the batches that it is trained and validated with."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.trained, self.validated = [], []

    def training_step(self, batch, _):
        self.trained.append(batch)
        return self.weight * batch.targets.mean()

    def validation_step(self, batch, _):
        assert batch.x.device == self.device
        self.validated.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], 0.1)


def trainer(**options):
    options = {"accelerator": "cpu", "num_sanity_val_steps": 0, **options}
    return L.Trainer(
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


@pytest.mark.parametrize("sampling", ["random", "mixed"])
def test_a_trainer_resumes_at_the_very_batch(data_dir, tmp_path, sampling):
    loader = module(data_dir, sampling=sampling).train_dataloader()
    epoch = len(loader)
    wanted = list(itertools.islice(_forever(loader), 2 * epoch + 2))
    whole = Recorder()
    trainer(max_steps=2 * epoch + 2).fit(whole, datamodule=module(data_dir, sampling=sampling))
    assert_same(whole.trained, wanted)
    for steps in (1, epoch, epoch + 1):
        first = trainer(max_steps=steps)
        first.fit(Recorder(), datamodule=module(data_dir, sampling=sampling))
        first.save_checkpoint(tmp_path / "last.ckpt")
        rest = Recorder()
        second = trainer(max_steps=2 * epoch + 2)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*not resumable.*")
            second.fit(rest, datamodule=module(data_dir, sampling=sampling), ckpt_path=tmp_path / "last.ckpt")
        assert_same(rest.trained, wanted[steps:])


def test_a_distributed_trainer_leaves_the_samplers_alone(data_dir):
    """Lightning puts its own sampler in place of any that is not made for several ranks."""
    seen = Recorder()
    trainer(max_steps=2, val_check_interval=2, strategy="ddp", devices=1).fit(
        seen, datamodule=module(data_dir)
    )
    assert_same(seen.trained, list(itertools.islice(module(data_dir).train_dataloader(), 2)))
    assert_same(seen.validated, list(module(data_dir).val_dataloader()))


def test_a_rank_gets_its_share(data_dir, monkeypatch):
    whole = EventDataModule(data_dir, sequence_length=LENGTH, batch_size=3 * BATCH, sampling="stream")
    wanted = next(iter(whole.train_dataloader()))
    found = []
    for rank in range(3):
        monkeypatch.setattr(loader, "_rank_of_ranks", lambda rank=rank: (rank, 3))
        data = module(data_dir, sampling="stream")
        batch = next(iter(data.train_dataloader()))
        assert torch.equal(batch.x, wanted.x[:, rank * BATCH : (rank + 1) * BATCH])
        found += [
            (b.sequences[slot], int(t))
            for b in data.val_dataloader()
            for (_, slot), t in zip(b.frames.tolist(), b.times_us, strict=True)
        ]
    assert sorted(found) == [
        (s.name, int(t)) for s in find_sequences(data_dir / "val") for t in s.label_times_us
    ]
    state = data.state_dict() | {"batch_size": 3 * BATCH}
    monkeypatch.undo()
    with pytest.raises(InputError, match="training had ranks = 3, not 1"):
        whole.load_state_dict(state)


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"seed": 0, "representation": "other"}])
def test_wrong_options_are_named(data_dir, wrong):
    with pytest.raises(InputError, match=str(next(reversed(wrong.values())))):
        module(data_dir, **wrong).train_dataloader()


def test_a_missing_split_is_named(tmp_path):
    with pytest.raises(InputError, match="train"):
        module(tmp_path).train_dataloader()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_file_that_cannot_be_read_is_one_line_with_workers_too(data_dir, tmp_path, split, workers):
    shutil.copytree(data_dir, tmp_path / "set")
    for file in (tmp_path / "set" / split).rglob("*.h5"):
        with h5py.File(file, "r+") as opened:
            data = opened["data"]
            for i in range(len(data)):
                data.id.write_direct_chunk((i, 0, 0, 0), b"damaged")
    batches = getattr(module(tmp_path / "set", workers=workers), f"{split}_dataloader")()
    with pytest.raises(
        InputError, match=r"^\S+: windows \d+\.\.\d+ cannot be read .*make or fetch it again$"
    ):
        list(batches)


SCRIPT = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]

def wait():
    from training_set import TRAINING, data_module, make_set  # here, since the workers import this file

    data = data_module(make_set(Path({folder!r})), TRAINING)
    data.workers = 2
    batches = iter(data.train_dataloader())
    next(batches)
    print("ready", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    wait()
"""


def test_workers_end_with_a_process_that_is_killed(tmp_path):
    """Their parent lives as long as they do, and would never tell them."""
    script = tmp_path / "script.py"
    tests = Path(__file__).parents[1]
    script.write_text(SCRIPT.format(tests=str(tests), folder=str(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": str(tests.parent)}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"ready\n"
        helpers = psutil.Process(run.pid).children(recursive=True)
        assert len(helpers) >= 3  # the one that imports, and two workers
        run.kill()
    assert not psutil.wait_procs(helpers, timeout=30)[1]

"""Two processes on a CPU (gloo) compute what one does with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training_set import SENSOR, TRAINING, data_module, make_set

from ssmbook.detector import PRESETS, Detector
from ssmbook.evaluation import evaluate
from ssmbook.training import read_metrics
from ssmbook.training.objective import TrainingStep
from ssmbook.training.settings import Training
from tests.training.test_train import run

TESTS = Path(__file__).parent
# Two ranks, forked when all is imported: each the gradients of its slot of a batch, and a short training on its
# share of the data.
SCRIPT = """
import os, sys
sys.path[:0] = [{tests!r}, {helpers!r}]
from pathlib import Path
import test_distributed
second = os.fork() == 0
os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(int(second))
test_distributed.on_one_rank(Path({folder!r}), Path({data!r}))
if not second:
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def a_batch():
    """Four slots; the first two hold few boxes, the others many, so that foreground counts differ."""
    torch.manual_seed(1)
    x = torch.randint(0, 4, (2, 4, 20, 64, 64), dtype=torch.uint8)
    frames = torch.tensor([[1, slot] for slot in range(4)])
    targets = torch.zeros(4, 3, 5)
    for slot, count in enumerate([1, 1, 2, 3]):
        for g in range(count):
            targets[slot, g] = torch.tensor([g % 2, 14.0 + 14 * g, 16.0 + 9 * slot, 14.0 + slot, 12.0])
    return x, frames, targets


def a_step():
    torch.manual_seed(0)
    return TrainingStep(
        Detector(**PRESETS["sim-smoke"]), Training()
    ).eval()  # BatchNorm by its running statistics


def on_one_rank(folder, data_dir):
    rank = int(os.environ["RANK"])
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    step = nn.parallel.DistributedDataParallel(a_step())
    x, frames, targets = a_batch()
    mine = slice(2 * rank, 2 * rank + 2)
    losses, _ = step(x[:, mine], frames[:2], targets[mine])
    losses["loss"].backward()
    if rank == 0:
        torch.save({n: p.grad for n, p in step.module.named_parameters()}, folder / "gradients.pt")
    torch.distributed.destroy_process_group()
    training = TRAINING_OF_TWO
    torch.manual_seed(0)
    from ssmbook.training import train

    model = Detector(**PRESETS["sim-smoke"])
    data = data_module(data_dir, training, processes=2)
    train(model, data, folder / "run", sensor=SENSOR, training=training, accelerator="cpu", devices=2)


TRAINING_OF_TWO = TRAINING.__class__(
    **{**TRAINING.__dict__, "batch_size": 4, "sampling": "random", "steps": 2, "validate_every": 2}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two ranks wrote."""
    folder, data = (tmp_path_factory.mktemp(name) for name in ("ranks", "data"))
    make_set(data)
    script = SCRIPT.format(
        tests=str(TESTS), helpers=str(TESTS.parent), folder=str(folder), data=str(data / "set")
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS.parents[1]),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(20_000 + os.getpid() % 20_000),
        "TORCHELASTIC_RUN_ID": "test",
    }
    ranks = subprocess.run(
        [sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True, timeout=300
    )
    assert ranks.returncode == 0, ranks.stderr
    folder.joinpath("data").symlink_to(data / "set")
    return folder


def test_gradients_are_those_of_the_whole_batch(folder):
    step = a_step()
    losses, _ = step(*a_batch())
    losses["loss"].backward()
    gradients = torch.load(folder / "gradients.pt", weights_only=True)
    largest = max(float(p.grad.abs().max()) for p in step.parameters())
    assert largest > 0.01
    for name, parameter in step.model.named_parameters():
        torch.testing.assert_close(
            gradients[f"model.{name}"], parameter.grad, rtol=0, atol=1e-5 * max(1.0, largest)
        )


def test_the_metric_is_of_all_boxes_at_once(folder):
    """The AP that two ranks logged is that of one evaluation of the model over the whole split."""
    from ssmbook.detector import load_checkpoint

    model = load_checkpoint(folder / "run" / "best.ckpt").eval()
    whole = evaluate(model, data_module(folder / "data").val_dataloader(), SENSOR).metrics
    logged = read_metrics(folder / "run").iloc[-1]
    for name, value in whole.items():
        assert logged[f"val/{name}"] == pytest.approx(value, abs=1e-6, nan_ok=True)
    assert len(torch.load(folder / "run" / "last.ckpt", weights_only=True)["training"]["ranks"]) == 2


def test_a_run_of_two_does_not_go_on_with_one(folder, tmp_path):
    from ssmbook.errors import InputError

    (folder / "run" / "model.ckpt").rename(tmp_path / "model.ckpt")
    with pytest.raises(InputError, match="2 processes"):
        run(folder / "data", folder / "run", TRAINING_OF_TWO)

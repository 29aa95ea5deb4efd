"""Other runtimes compute what PyTorch does, step after step, and are refused where they do not."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE
from ssmbook.live import StreamingDetector, runtimes, time_detector
from ssmbook.live.runtimes import _LOADERS, BF16, RUNTIMES, WITH_BF16, fastest_step, installed, make_steps
from ssmbook.live.step import NetworkStep
from tests.detector.test_model import counts
from tests.live.test_export import HW, mixed
from tests.live.test_stream import SENSOR, SIZE, model_of, random_events

OTHERS = [name for name in RUNTIMES[1:] if importlib.util.find_spec(name)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return model_of().float()


def test_steps_equal_torch_over_100_carried_states(model):
    assert OTHERS
    steps = make_steps(("torch", *OTHERS), model, (SIZE, SIZE), 0.5, torch.uint8)
    for length in (100, 5):
        for k, frame in enumerate(counts(length, 1, SIZE, SIZE)[:, 0]):
            gap = 1.0 if k % 10 else 2.5  # windows were left out
            wanted = steps["torch"](frame, gap)
            for name in OTHERS:
                torch.testing.assert_close(steps[name](frame, gap), wanted, rtol=1e-4, atol=1e-3, msg=name)
        for step in steps.values():
            step.reset()


def test_other_recurrences_take_the_scale_too():
    assert list(make_steps(tuple(OTHERS), mixed(), HW, 1.0, torch.uint8)) == OTHERS


@pytest.mark.parametrize("runtime", OTHERS)
def test_a_stream_finds_the_same_boxes(model, runtime):
    events = random_events()
    plain = StreamingDetector(model, SENSOR, confidence=0.1).push(events)
    stream = StreamingDetector(model, SENSOR, confidence=0.1, runtime=runtime)
    assert stream.runtime == runtime
    for a, b in zip(stream.push(events), plain, strict=True):
        assert len(a.boxes) == len(b.boxes)
        for name in BOX_DTYPE.names:
            np.testing.assert_allclose(a.boxes[name], b.boxes[name], rtol=1e-3, atol=1e-2)


class Wrong:
    """As another runtime, with other numbers."""

    def __init__(self, model):
        self.step = NetworkStep(model, (SIZE, SIZE))

    def __call__(self, inputs):
        return {"predictions": np.ones((1, 84, 7), np.float32), **{f"new_{k}": v for k, v in inputs.items()}}


def test_what_differs_or_is_missing_is_refused(model, monkeypatch):
    monkeypatch.setitem(runtimes._LOADERS, "onnxruntime", lambda path: Wrong(model))
    with pytest.raises(InputError, match="onnxruntime computes other predictions than torch, by up to"):
        make_steps(("onnxruntime",), model, (SIZE, SIZE), 1.0, torch.uint8)
    monkeypatch.setattr(runtimes, "installed", lambda name: name != "openvino")
    name, step = fastest_step(model, (SIZE, SIZE), 1.0, torch.uint8)
    assert (name, type(step)) == ("torch", NetworkStep)
    with pytest.raises(InputError, match=r"pip install 'ssmbook\[openvino\]'; or use torch"):
        make_steps(("openvino",), model, (SIZE, SIZE), 1.0, torch.uint8)
    with pytest.raises(InputError, match="no runtime 'tensorrt'; they are torch, onnxruntime, openvino"):
        make_steps(("tensorrt",), model, (SIZE, SIZE), 1.0, torch.uint8)


def test_the_table_has_two_rows_for_each_runtime(model):
    frames = list(counts(13, 1, SIZE, SIZE)[:, 0].numpy())
    names = [name for name in WITH_BF16 if installed(name)]
    table = time_detector(model, frames, 3, progress=False, runtimes=names)
    assert table["runtime"].tolist() == [name for name in names for _ in range(2)]
    assert (table["windows"] == 3).all()
    assert (table["median_ms"] > 0).all()
    off = table.groupby("runtime")["score_off"].max()
    assert off["torch"] == 0
    assert (off[[name for name in names if not name.endswith(BF16)]] < 1e-3).all()
    assert 1e-6 < off[f"torch{BF16}"] < 0.1


def test_signals_are_handled_when_the_runtimes_are_gone(model, exported_once, tmp_path):
    """OpenVINO's plugin has freed the main thread's signal stack before: the next signal was a segmentation fault."""
    path = exported_once(model, tmp_path / "step.onnx", (SIZE, SIZE), step_scale=None)
    script = f"""
import gc, signal
from pathlib import Path
from ssmbook.live.runtimes import _LOADERS

steps = {{name: _LOADERS[name](Path({str(path)!r})) for name in {[n for n in _LOADERS if installed(n)]}}}
while steps:
    del steps[next(iter(steps))]
gc.collect()
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
signal.raise_signal(signal.SIGUSR1)
assert came == [1]
"""
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, (run.returncode, run.stderr)

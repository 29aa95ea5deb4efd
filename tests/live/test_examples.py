"""The examples for other runtimes carry the state as PyTorch does, over 100 steps."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.detector.test_model import counts
from tests.live.test_stream import SIZE, model_of

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def step(tmp_path_factory, exported_once):
    """An exported step, 100 frames, and what torch predicts of them."""
    folder = tmp_path_factory.mktemp("step")
    torch.manual_seed(0)
    model, frames = model_of().float(), counts(100, 1, SIZE, SIZE)
    with torch.no_grad():
        wanted = model.eval().predict(model.features(frames)[0])[:, 0].numpy()
    return (
        exported_once(model, folder / "step.onnx", (SIZE, SIZE), step_scale=None),
        frames[:, 0].numpy(),
        wanted,
    )


def test_onnxruntime_without_ssmbook(step, tmp_path):
    path, frames, wanted = step
    np.save(tmp_path / "frames.npy", frames)
    command = [sys.executable, EXAMPLES / "onnx_steps.py", path, "frames.npy", "out.npy"]
    subprocess.run(command, cwd=tmp_path, check=True, env={"PATH": ""})
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted, rtol=1e-4, atol=1e-3)
    assert "import torch" not in (EXAMPLES / "onnx_steps.py").read_text()


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_openvino_in_cpp(step, tmp_path):
    found = importlib.util.find_spec("openvino")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("openvino is not installed")
    home = Path(found.submodule_search_locations[0])
    (library,) = (home / "libs").glob("libopenvino.so.*")
    build = [
        "g++",
        "-std=c++17",
        "-I",
        home / "include",
        EXAMPLES / "cpp" / "detect_steps.cpp",
        "-o",
        "detect_steps",
    ]
    link = ["-L", library.parent, f"-l:{library.name}", f"-Wl,-rpath,{library.parent}"]
    subprocess.run([*build, *link], cwd=tmp_path, check=True)
    path, frames, wanted = step
    frames.tofile(tmp_path / "frames.bin")
    subprocess.run([tmp_path / "detect_steps", path, "frames.bin", "out.bin"], cwd=tmp_path, check=True)
    predictions = np.fromfile(tmp_path / "out.bin", np.float32).reshape(wanted.shape)
    np.testing.assert_allclose(predictions, wanted, rtol=1e-4, atol=1e-3)

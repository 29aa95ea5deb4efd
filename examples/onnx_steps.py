"""A detector's step with onnxruntime and numpy alone: neither ssmbook nor PyTorch is needed where it runs.

ssmbook export model.ckpt step.onnx
python examples/onnx_steps.py step.onnx frames.npy predictions.npy

frames.npy: [N, channels, height, width] of counts, in the type of the exported input. predictions.npy: float32
[N, anchors, 5 + classes]: cx, cy, w, h in pixels, objectness, classes.
"""

import sys

import numpy as np
import onnxruntime


def run(step: str, frames: np.ndarray) -> np.ndarray:
    """The predictions of frames one after another, the state carried."""
    session = onnxruntime.InferenceSession(step, providers=["CPUExecutionProvider"])
    inputs = {each.name: each.shape for each in session.get_inputs()}
    states = {
        name: np.zeros(shape, np.float32) for name, shape in inputs.items() if name.startswith("state_")
    }
    scale = {"step_scale": np.array(1.0, np.float32)} if "step_scale" in inputs else {}
    predictions = []
    for frame in frames:
        found, *new = session.run(None, {"frame": frame[None], **scale, **states})
        predictions.append(found[0])
        states = dict(zip(states, new, strict=True))
    return np.stack(predictions)


if __name__ == "__main__":
    np.save(sys.argv[3], run(sys.argv[1], np.load(sys.argv[2])))

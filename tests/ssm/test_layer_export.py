"""A layer alone as ONNX: its steps are the layer's, with the state that it gives back, for any number of sequences."""

import numpy as np
import onnxruntime
import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.ssm import S5, export_layer
from tests.ssm.test_layer import H, make


# Selective S5 and S4 are in the detector's file, see tests/live/test_export.py.
@pytest.mark.parametrize("kind", ["s5, zoh, conj_sym, held", "s4d", "s6"])
def test_steps_of_the_file_are_the_layer_s(kind, tmp_path):
    layer = make(kind).float()
    session = onnxruntime.InferenceSession(
        export_layer(layer, tmp_path / "layer.onnx"), providers=["CPUExecutionProvider"]
    )
    assert [i.name for i in session.get_inputs()] == ["u", "state", "step_scale"]
    assert [o.name for o in session.get_outputs()] == ["y", "new_state"]
    for N in (1, 5):
        u = torch.randn(N, 7, H)
        expected = layer(u, None, 0.5)[0].detach()
        state = np.zeros((N, *session.get_inputs()[1].shape[1:]), np.float32)
        for k in range(7):
            feed = {"u": u[:, k].numpy(), "state": state, "step_scale": np.array(0.5, np.float32)}
            y, state = session.run(None, feed)
            torch.testing.assert_close(torch.as_tensor(y), expected[:, k], rtol=1e-4, atol=1e-4)


def test_what_cannot_be_exported_is_named(tmp_path):
    with pytest.raises(InputError, match="no single step"):
        export_layer(S5(4, 4, bidirectional=True), tmp_path / "layer.onnx")
    with pytest.raises(InputError, match="no folder"):
        export_layer(S5(4, 4), tmp_path / "missing" / "layer.onnx")

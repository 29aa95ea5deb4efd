"""Exported steps against the detector, over many carried states."""

import logging
import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from ssmbook.detector.recurrences import make_recurrence, map_states
from ssmbook.detector.recurrences.convlstm import advance
from ssmbook.errors import InputError
from ssmbook.live.export import ExportedStep, export_onnx, step_and_arguments
from ssmbook.ssm import S4, S4D, S5, S6, SelectiveS5
from ssmbook.ssm.export import quiet
from tests.detector.test_model import counts, make

HW = (60, 56)  # smaller than the input, so that the step pads


def trained(**options):
    """As if trained: BatchNorm and scores that are not those of the start."""
    model = make(**options)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(m.running_mean, std=0.1)
            torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
    for layer in (*model.head.class_out, *model.head.objectness_out):
        torch.nn.init.zeros_(layer.bias)
    return model


def mixed():
    """A detector with another recurrence in each stage: as slow to export as one with the same in all."""
    torch.manual_seed(0)
    model = trained()
    for stage, name in zip(model.backbone.stages, ("s5-selective", "mamba", "s4", "convlstm"), strict=True):
        stage.recurrence = make_recurrence(name, len(stage.norm.weight))
        open_gate(stage.recurrence)
    return model


MIXED_STATES = ["state_1", "state_2", "state_3", "state_4_h", "state_4_c"]


def expected_of(model, frames, scale):
    """Predictions of each frame and the last states, flat and real."""
    with torch.no_grad():
        features, states = model.features(frames, step_scale=scale)
        predictions = model.predict(features)
    flat = []
    map_states(lambda s: flat.append(torch.cat([s.real, s.imag], 1) if s.is_complex() else s), states)
    return predictions, flat


def assert_carried(run, start, expected, last, frames, tolerance=1e-4):
    """Step by step, what comes out goes in again."""
    states = start
    for frame, wanted in zip(frames, expected, strict=True):
        got, *states = run(frame, states)
        torch.testing.assert_close(torch.as_tensor(got), wanted, rtol=tolerance, atol=tolerance)
    for state, wanted in zip(states, last, strict=True):
        torch.testing.assert_close(torch.as_tensor(state), wanted, rtol=tolerance, atol=tolerance)


def open_gate(layer):
    """With weights in the gate of a selective layer, as if trained."""
    for name, parameter in layer.named_parameters():
        if "gate_" in name:
            torch.nn.init.normal_(parameter)
    return layer


LAYERS = [
    *(
        S5(6, 6, discretization=discretization, **options)
        for discretization in ("bilinear", "zoh")
        for options in ({}, {"bandlimit": 0.5}, {"clip_eigs": True}, {"conj_sym": True})
    ),
    *(
        open_gate(SelectiveS5(6, 6, discretization=discretization, bandlimit=0.5))
        for discretization in ("bilinear", "zoh")
    ),
    S4D(6, 8),
    S4D(6, 16, bandlimit=0.05),
    S4(6, 8),
    S4(6, 8, mode="diag"),
    S6(6, 8),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_real_steps_equal_the_layer(layer):
    torch.manual_seed(0)
    layer = layer.double()
    real = layer.real_step()
    u = torch.randn(3, 5, 6, dtype=torch.float64)
    for scale in (1.0, 0.1, torch.tensor(2.5, dtype=torch.float64)):
        y, last = layer(u, None, scale)
        state = None
        for k in range(5):
            y_k, state = real(u[:, k : k + 1], state, scale)
            torch.testing.assert_close(y_k[:, 0], y[:, k], rtol=0, atol=1e-12)
        planes = torch.stack([last.real, last.imag], 1) if last.is_complex() else last
        planes = planes.reshape(state.shape)
        torch.testing.assert_close(state, planes, rtol=0, atol=1e-12)


def test_program_equals_the_detector():
    """With the step scale as a constant, for two cameras; the ONNX file below has it as an input."""
    model = mixed()
    frames = counts(4, 2, *HW)
    with torch.no_grad():
        program = torch.export.export(*step_and_arguments(model, HW, batch=2, step_scale=0.5))
    assert not any(
        isinstance(v, torch.Tensor) and v.is_complex()
        for node in program.graph.nodes
        for v in [node.meta.get("val")]
    )
    step = program.module()
    expected, last = expected_of(model, frames, 0.5)
    start = ExportedStep(model).start(2)
    assert_carried(lambda f, s: step(f, *s), start, expected, last, frames)


def test_a_detector_without_memory_has_no_states():
    step = ExportedStep(make(recurrence="none"))
    assert (step.start(), step.names()) == ([], [])
    assert len(step(torch.zeros(1, 20, *HW, dtype=torch.uint8))) == 1


def test_onnx_equals_the_detector_over_100_carried_steps(tmp_path, exported_once):
    model = mixed()
    frames = counts(100, 1, *HW)
    path = exported_once(model, tmp_path / "step.onnx", HW, step_scale=None)
    assert [p.name for p in tmp_path.iterdir()] == ["step.onnx"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = [i.name for i in session.get_inputs()]
    assert inputs == ["frame", "step_scale", *MIXED_STATES]
    outputs = ["predictions", *(f"new_{name}" for name in MIXED_STATES)]
    assert [o.name for o in session.get_outputs()] == outputs

    def run(frame, states):
        values = [frame.numpy(), np.array(0.25, np.float32), *map(np.asarray, states)]
        return session.run(None, dict(zip(inputs, values, strict=True)))

    assert_carried(run, ExportedStep(model).start(), *expected_of(model, frames, 0.25), frames)


def test_a_detector_without_memory_takes_a_step_scale_beside_free_axes(tmp_path):
    """An input without effect, so that a runtime gives every network the same."""
    model, frames = trained(recurrence="none"), counts(1, 3, *HW)
    path = export_onnx(model, tmp_path / "step.onnx", None, batch=None, step_scale=None)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {"frame": frames[0].numpy(), "step_scale": np.array(0.5, np.float32)}
    assert [i.name for i in session.get_inputs()] == list(given)
    expected, _ = expected_of(model, frames, 0.5)
    np.testing.assert_allclose(session.run(None, given)[0], expected[0], rtol=1e-4, atol=1e-4)


class Cell(torch.nn.Module):
    def forward(self, c, forget, new):
        return advance(c, forget, new, 0.1)


def test_the_gates_of_a_convlstm_at_another_step_are_right_elsewhere(tmp_path):
    """Runtimes have no expm1 or log1p, and sigmoids that are 0 where they are small."""
    logits = torch.linspace(-40, 60, 1001)[None]
    values = torch.ones_like(logits), logits, torch.full_like(logits, 0.5)
    with quiet():
        torch.onnx.export(Cell().eval(), values, tmp_path / "cell.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "cell.onnx")
    given = {i.name: value.numpy() for i, value in zip(session.get_inputs(), values, strict=True)}
    np.testing.assert_allclose(session.run(None, given)[0], advance(*values, 0.1), rtol=1e-6)


@pytest.mark.parametrize("recurrences", ["mixed", "none"])
def test_one_program_takes_any_number_of_cameras_of_any_size(tmp_path, monkeypatch, recurrences):
    """As far as PyTorch's own program, which takes a tenth of the time of a file."""
    programs = []

    def export(step, arguments, dynamic_shapes, **_):
        programs.append(torch.export.export(step, arguments, dynamic_shapes=dynamic_shapes).module())
        raise InterruptedError

    monkeypatch.setattr(torch.onnx, "export", export)
    model = mixed() if recurrences == "mixed" else trained(recurrence="none")
    with pytest.raises(InterruptedError):
        export_onnx(model, tmp_path / "a.onnx", None, batch=None)
    for batch, size in ((1, HW), (3, (64, 64)), (2, (1, 9))):
        frames = counts(3, batch, *size)
        expected, last = expected_of(model, frames, 1.0)
        start = ExportedStep(model).start(batch)
        assert_carried(lambda f, s: programs[0](f, *s), start, expected, last, frames)


def test_mistakes_are_named(tmp_path):
    model = make()
    with pytest.raises(InputError, match="batch is 0"):
        step_and_arguments(model, HW, batch=0)
    with pytest.raises(InputError, match="step_scale must be above 0"):
        step_and_arguments(model, HW, step_scale=0.0)
    with pytest.raises(InputError, match="do not fit"):
        step_and_arguments(model, (65, 64))
    with pytest.raises(InputError, match="no folder"):
        export_onnx(model, tmp_path / "missing" / "step.onnx", HW)
    model.backbone.stages[0].recurrence = torch.nn.Identity()
    with pytest.raises(InputError, match="can be exported"):
        ExportedStep(model)


def test_the_exporter_s_own_words_are_kept_back_while_it_runs(caplog):
    loggers = [logging.getLogger(name) for name in ("onnxscript.optimizer", "torch.onnx._internal.exporter")]
    with warnings.catch_warnings(record=True) as warned:
        with quiet():
            for logger in loggers:
                logger.warning("not folded")
            warnings.warn("of older names", FutureWarning, stacklevel=1)
        assert not warned
    assert not caplog.records
    for logger in loggers:
        assert logger.isEnabledFor(logging.WARNING)

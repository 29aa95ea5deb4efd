"""The whole detector equals the released S5-ViT and RVT: features, states, predictions, losses, gradients."""

import numpy as np
import pytest
import torch

from ssmbook.detector import load_checkpoint, nms
from ssmbook.detector.checkpoint import published_name
from ssmbook.detector.recurrences import SSMBlock
from ssmbook.ssm import S5

S5VIT = ["s5vit_mini_gen1", "s5vit_mini_gen4"]
RVT = ["rvt_mini_gen1", "rvt_mini_masked"]


def load(conformance, name, checkpoint=None):
    """The arrays of a case as tensors, and our model with its weights."""
    with np.load(conformance(f"{name}.npz")) as data:
        case = {key: torch.from_numpy(data[key]) for key in data.files}
    model = load_checkpoint(
        conformance(f"{checkpoint or name}.ckpt"),
        embed_dim=int(case["embed_dim"]),
        dim_head=int(case["dim_head"]),
        fpn_depth=float(case["fpn_depth"]),
        num_classes=int(case["num_classes"]),
        input_hw=tuple(case["in_res_hw"].tolist()),
        partition=tuple(case["partition_size"].tolist()),
    )
    return case, model.eval()


def assert_close(ours, theirs, tolerance):
    """Within ``tolerance`` of the largest reference value."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def check(case, model, sizes):
    """Features, states and predictions, with the frames in chunks of those sizes."""
    states, parts, start = None, [], 0
    with torch.no_grad():
        for size in sizes:
            chunk = slice(start, start + size)
            mask = case["token_mask"][chunk] if "token_mask" in case else None
            features, states = model.features(case["x"][chunk], states, token_mask=mask)
            parts.append(features)
            start += size
        features = {i: torch.cat([part[i] for part in parts]) for i in (1, 2, 3, 4)}
        predictions = model.predict(features)
    for i in (1, 2, 3, 4):
        assert_close(features[i], case[f"feat{i}"], 3e-6)
        if "state1_re" in case:
            expected = torch.complex(case[f"state{i}_re"], case[f"state{i}_im"])
            assert_close(states[i - 1], expected, 3e-6)
        else:
            for got, part in zip(states[i - 1], "hc", strict=True):
                assert_close(got, case[f"state{i}_{part}"], 3e-6)
    decoded = case["decoded"].view(predictions.shape).flatten(0, 2)
    spread = decoded.amax(0) - decoded.amin(0)
    assert ((predictions.flatten(0, 2) - decoded).abs().amax(0) <= 1e-5 * spread).all()
    return predictions


@pytest.mark.parametrize("name", [*S5VIT, *RVT])
def test_features_states_and_predictions(conformance, name):
    case, model = load(conformance, name)
    L = len(case["x"])
    check(case, model, [L])
    check(case, model, [1] * L)
    check(case, model, [2, L - 2])


def test_checkpoint_with_objects_of_other_libraries(conformance):
    case, model = load(conformance, "s5vit_mini_gen1", checkpoint="s5vit_mini_objects")
    check(case, model, [len(case["x"])])


@pytest.mark.parametrize("name", S5VIT)
def test_detections(conformance, name):
    case, model = load(conformance, name)
    predictions = check(case, model, [len(case["x"])])
    detections = nms(predictions, float(case["conf_thre"]), float(case["nms_thre"]))
    for f, rows in enumerate(detections):
        assert rows.shape == case[f"det{f}"].shape
        torch.testing.assert_close(rows[:, :4], case[f"det{f}"][:, :4], rtol=0, atol=1e-3)
        torch.testing.assert_close(rows[:, 4:], case[f"det{f}"][:, 4:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", S5VIT)
def test_losses(conformance, name):
    """Neck, head and loss on their features, in float64: batch statistics of a few pixels amplify rounding,
    and in float32 two right orders of summation differ by more than the tolerance."""
    case, model = load(conformance, name)
    features = {i: case[f"feat{i}"].flatten(0, 1).double() for i in (2, 3, 4)}
    losses = model.double().train().loss(features, case["targets"])
    for key, value in losses.items():
        assert float(value.detach()) == pytest.approx(float(case[f"loss/{key}"]), rel=3e-6), key


@pytest.mark.parametrize("name", S5VIT)
def test_gradients(conformance, name):
    """In float64, as test_losses: the reference's own rounding is then all that is left, up to 3e-5."""
    case, model = load(conformance, name)
    model.double().train()
    features, _ = model.features(case["x"])
    losses = model.loss({i: f.flatten(0, 1) for i, f in features.items()}, case["targets"])
    assert float(losses["loss"].detach()) == pytest.approx(float(case["loss/loss"]), rel=3e-6)
    losses["loss"].backward()
    gradients = {key.removeprefix("gradnorm/"): float(case[key]) for key in case if "gradnorm/" in key}
    assert {published_name(key) for key in gradients} == {key for key, _ in model.named_parameters()}
    for key, norm in gradients.items():
        ours = model.get_parameter(published_name(key)).grad.norm()
        assert float(ours) == pytest.approx(norm, rel=5e-5, abs=1e-6), key


@pytest.mark.parametrize("index", range(6))
def test_s5_block(conformance, index):
    with np.load(conformance(f"s5_block_{index}.npz")) as data:
        case = {key: torch.from_numpy(data[key]) for key in data.files}
    dim = int(case["dim"])
    block = SSMBlock(S5(dim, dim), dim).double()
    stage = "recurrence."
    weights = {
        published_name(f"s5_block.{key.removeprefix('param/')}").removeprefix(stage): value
        for key, value in case.items()
        if key.startswith("param/")
    }
    block.load_state_dict(weights)
    y, _ = block(case["u"].double())
    assert_close(y, case["y_block"], 2e-6)

"""Other classes, another sensor: the class layer is new, the rest is kept."""

import pytest
import torch

from ssmbook.detector import PRESETS, Detector, find_preset, fine_tune, input_sizes, save_checkpoint
from ssmbook.detector.checkpoint import load_checkpoint
from ssmbook.errors import InputError

MINI = {"embed_dim": 8, "dim_head": 8, "fpn_depth": 0.33, "num_classes": 2}


@pytest.mark.parametrize(
    ("name", "frame"),
    [("gen1-base", (240, 304)), ("gen4-small", (360, 640)), ("sim-tiny", (96, 128)), ("sim-smoke", (64, 64))],
)
def test_the_rule_for_sizes_gives_the_presets(name, frame):
    assert input_sizes(*frame) == {key: PRESETS[name][key] for key in ("input_hw", "partition")}


@pytest.mark.parametrize("frame", [(1, 1), (260, 346), (480, 640), (720, 1280), (100, 1000)])
def test_every_frame_has_a_size_that_a_detector_takes(frame):
    sizes = input_sizes(*frame)
    assert all(a >= b for a, b in zip(sizes["input_hw"], frame, strict=True))
    assert max(sizes["partition"]) <= 10
    Detector(**{**PRESETS["sim-smoke"], **sizes})


@pytest.mark.parametrize("file", ["s5vit_mini_gen1.ckpt", "rvt_mini_gen1.ckpt"])
def test_a_released_checkpoint_takes_other_classes_and_another_sensor(conformance, monkeypatch, file):
    monkeypatch.setitem(PRESETS, "gen1-mini", {**MINI, "input_hw": (64, 96), "partition": (2, 3)})
    path = conformance(file)
    old, new = load_checkpoint(path, None), fine_tune(path, num_classes=5, **input_sizes(60, 60))
    assert (new.config["partition"], new.config["num_classes"]) == ((2, 2), 5)
    assert new.config["recurrence"] == old.config["recurrence"]
    for name, weight in new.state_dict().items():
        if name.startswith("head.class_out."):
            assert len(weight) == 5
        else:
            assert torch.equal(weight, old.state_dict()[name]), name
    x = torch.randint(0, 3, (2, 1, 20, 60, 60), dtype=torch.uint8)
    assert new.predict(new.features(x)[0]).shape == (2, 1, 64 + 16 + 4, 10)


def test_the_class_layer_is_new_even_for_as_many_classes(tmp_path):
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"])
    save_checkpoint(tmp_path / "a.ckpt", model)
    new = fine_tune(tmp_path / "a.ckpt", num_classes=2, input_hw=(64, 64), partition=(2, 2))
    weight = "head.class_out.0.weight"
    assert not torch.equal(new.state_dict()[weight], model.state_dict()[weight])


@pytest.mark.parametrize("had", [False, True])
def test_a_vector_for_masked_tokens_is_kept_or_new(tmp_path, had):
    model = Detector(**PRESETS["sim-smoke"], mask_token=had)
    token = "backbone.stages.0.mask_token"
    if had:
        torch.nn.init.normal_(model.backbone.stages[0].mask_token)
    save_checkpoint(tmp_path / "a.ckpt", model)
    sizes = {"num_classes": 2, "input_hw": (64, 64), "partition": (2, 2)}
    new = fine_tune(tmp_path / "a.ckpt", **sizes, mask_token=True)
    assert new.config["mask_token"]
    assert torch.equal(new.state_dict()[token], model.state_dict().get(token, torch.zeros(8)))
    assert (token in fine_tune(tmp_path / "a.ckpt", **sizes).state_dict()) is had


def test_the_preset_is_found_from_the_weights(tmp_path, conformance):
    for name in ("gen1-small", "gen4-base"):
        model = Detector(**PRESETS[name])
        torch.save(
            {"state_dict": {f"mdl.{n}": w for n, w in model.state_dict().items()}}, tmp_path / "a.ckpt"
        )
        assert find_preset(tmp_path / "a.ckpt") == name
    with pytest.raises(
        InputError, match=r"embed_dim 8, 1 bottlenecks .* 2 classes; the presets are gen1-base"
    ):
        find_preset(conformance("s5vit_mini_gen1.ckpt"))
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "b.ckpt")
    with pytest.raises(InputError, match=r"b\.ckpt"):
        find_preset(tmp_path / "b.ckpt")


def test_a_size_that_no_partition_divides_says_which_do():
    with pytest.raises(InputError, match=r"take input_hw=\(256, 320\); or .* partition=\(8, 10\)"):
        Detector(**{**PRESETS["gen1-small"], "input_hw": (240, 304)})
    with pytest.raises(
        InputError, match=r"take input_hw=\(512, 640\); or .*=\(320, 384\) and partition=\(5, 6\)"
    ):
        Detector(**{**PRESETS["gen1-small"], "input_hw": (260, 346)})

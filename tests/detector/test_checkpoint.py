import argparse
import builtins
import collections
import datetime
import os
import pathlib
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ssmbook.detector import PRESETS, RECURRENCES, Detector, load_checkpoint, save_checkpoint
from ssmbook.detector.checkpoint import published_name
from ssmbook.detector.recurrences import REGISTRY, NoRecurrence
from ssmbook.errors import InputError

MINI = {
    "embed_dim": 8,
    "dim_head": 8,
    "fpn_depth": 0.33,
    "num_classes": 2,
    "input_hw": (64, 96),
    "partition": (2, 3),
}


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_ours_come_back_as_they_were(tmp_path, recurrence):
    torch.manual_seed(0)
    options = {**PRESETS["sim-smoke"], "recurrence": recurrence, "mask_token": True, "num_classes": 3}
    model = Detector(**options).eval()
    save_checkpoint(tmp_path / "model.ckpt", model, step=7)
    assert [p.name for p in tmp_path.iterdir()] == ["model.ckpt"]
    loaded = load_checkpoint(tmp_path / "model.ckpt").eval()
    assert loaded.config == model.config
    x = torch.randint(0, 4, (2, 1, 20, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.predict(loaded.features(x)[0]), model.predict(model.features(x)[0]))
    assert torch.load(tmp_path / "model.ckpt", weights_only=True)["step"] == 7
    published = load_checkpoint(tmp_path / "model.ckpt", carry="published")
    assert published.config == {**model.config, "carry": "published"}


def test_the_gain_of_the_state_comes_back(tmp_path):
    torch.manual_seed(0)
    quiet = Detector(**PRESETS["sim-smoke"], recurrence="s4d")
    torch.manual_seed(0)
    loud = Detector(**PRESETS["sim-smoke"], recurrence="s4d", state_gain=10)
    layers = [model.backbone.stages[2].recurrence.layer for model in (quiet, loud)]
    torch.testing.assert_close(layers[1].kernel.C, 10 * layers[0].kernel.C)
    save_checkpoint(tmp_path / "model.ckpt", loud)
    assert load_checkpoint(tmp_path / "model.ckpt").config == {**quiet.config, "state_gain": 10.0}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    model = Detector(**PRESETS["sim-smoke"])
    save_checkpoint(tmp_path / "model.ckpt", model)
    before = (tmp_path / "model.ckpt").read_bytes()
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(tmp_path / "model.ckpt", model, bad=lambda: None)
    assert [p.name for p in tmp_path.iterdir()] == ["model.ckpt"]
    assert (tmp_path / "model.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("file", "recurrence", "mask_token"),
    [
        ("s5vit_mini_gen1.ckpt", "s5", False),
        ("rvt_mini_gen1.ckpt", "convlstm", False),
        ("rvt_mini_masked.ckpt", "convlstm", True),
    ],
)
def test_published_weights_all_find_their_place(conformance, file, recurrence, mask_token):
    path = conformance(file)
    sizes = {**MINI, "input_hw": (64, 64), "partition": (2, 2)} if mask_token else MINI
    model = load_checkpoint(path, **sizes)
    assert (model.config["recurrence"], model.config["mask_token"]) == (recurrence, mask_token)
    published = torch.load(path, weights_only=True)["state_dict"]
    ours = model.state_dict()
    assert sorted(map(published_name, published)) == sorted(ours)
    for name, weight in published.items():
        assert torch.equal(ours[published_name(name)].flatten(), weight.flatten())


def test_objects_of_other_libraries_stay_inert(conformance):
    plain, objects = (
        load_checkpoint(conformance(f"s5vit_mini_{kind}.ckpt"), **MINI) for kind in ("gen1", "objects")
    )
    assert objects.config == plain.config
    for name, weight in plain.state_dict().items():
        assert torch.equal(objects.state_dict()[name], weight)


class Settings(dict):
    """A class that a reader of the file does not have."""

    def __setstate__(self, state):
        raise AssertionError("the file's classes must not be looked up")


def lightning_file(path, conformance, **beside):
    """The weights of s5vit_mini_gen1 as Lightning keeps them, beside what is given."""
    weights = torch.load(conformance("s5vit_mini_gen1.ckpt"), weights_only=True)["state_dict"]
    torch.save({"state_dict": collections.OrderedDict(weights), **beside}, path)
    return path


def test_values_that_trainers_write_load(tmp_path, conformance):
    settings = Settings(a=1)
    settings.extra = settings
    beside = {
        "settings": settings,
        "namespace": argparse.Namespace(lr=1),
        "paths": [pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath("c")],
        "counts": collections.defaultdict(dict, a={1: 2}),
        "unordered": {frozenset([1]), frozenset([2])},
        "started": datetime.datetime(2024, 1, 1),
        "number": torch.tensor(3.0).numpy()[()],
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    model = load_checkpoint(lightning_file(tmp_path / "a.ckpt", conformance, **beside), **MINI)
    expected = load_checkpoint(conformance("s5vit_mini_gen1.ckpt"), **MINI).state_dict()
    assert all(torch.equal(w, expected[name]) for name, w in model.state_dict().items())


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, rf"{os.name}\.system"),
        (builtins.eval, r"builtins\.eval"),
        (builtins.exec, r"builtins\.exec"),
        (builtins.getattr, r"builtins\.getattr"),
        (subprocess.Popen, r"subprocess\.Popen"),
        (torch.hub.load, r"torch\.hub\.load"),
    ],
)
def test_what_wants_to_be_called_is_refused_by_name(tmp_path, conformance, function, name):
    marker = tmp_path / "ran"
    command = f"open({str(marker)!r}, 'w')" if function in (eval, exec) else f"touch {marker}"
    path = lightning_file(tmp_path / "a.ckpt", conformance, bad=Calls(function, command))
    with pytest.raises(InputError, match=name) as error:
        load_checkpoint(path, **MINI)
    assert str(path) in str(error.value)
    assert not marker.exists()


def test_a_mismatch_lists_names_and_shapes(conformance):
    path = conformance("s5vit_mini_gen1.ckpt")
    with pytest.raises(InputError, match=r"downsample\.weight \[8, 20, 7, 7\], not \[48, 20, 7, 7\].* more"):
        load_checkpoint(path)
    with pytest.raises(InputError, match=r"class_out\.0\.weight \[2, 16, 1, 1\], not \[3, 16, 1, 1\]"):
        load_checkpoint(path, **{**MINI, "num_classes": 3})
    with pytest.raises(InputError, match=r"gates\.weight missing, not \[32, 16\]"):
        load_checkpoint(path, **MINI, recurrence="convlstm")
    with pytest.raises(InputError, match=r"bottlenecks\.1\S* missing"):
        load_checkpoint(path, **{**MINI, "fpn_depth": 0.67})


def test_names_that_do_not_exist(conformance):
    path = conformance("s5vit_mini_gen1.ckpt")
    with pytest.raises(InputError, match=r"'gen2-small'.*gen1-small"):
        load_checkpoint(path, preset="gen2-small")
    with pytest.raises(InputError, match="'embed'"):
        load_checkpoint(path, embed=8)


def test_files_that_are_no_checkpoints(tmp_path, conformance):
    whole = conformance("s5vit_mini_gen1.ckpt").read_bytes()
    contents = {
        "empty.ckpt": b"",
        "text.ckpt": b"not a checkpoint\n",
        "short.ckpt": whole[: len(whole) // 2],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("a.txt", "a")
    broken = bytearray(whole)
    broken[200:4000] = bytes(3800)  # inside the pickle
    (tmp_path / "broken.ckpt").write_bytes(broken)
    torch.save([torch.ones(2)], tmp_path / "list.ckpt")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "numbers.ckpt")
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "other.ckpt")
    names = [
        *contents,
        "zip.ckpt",
        "broken.ckpt",
        "list.ckpt",
        "numbers.ckpt",
        "other.ckpt",
        "missing.ckpt",
        ".",
    ]
    for name in names:
        with pytest.raises(InputError, match=name) as error:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_flipped_bit_in_a_weight_is_noticed(tmp_path, conformance):
    content = bytearray(conformance("s5vit_mini_gen1.ckpt").read_bytes())
    with zipfile.ZipFile(conformance("s5vit_mini_gen1.ckpt")) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content[largest.header_offset + largest.file_size // 2] ^= 4
    (tmp_path / "flipped.ckpt").write_bytes(content)
    with pytest.raises(InputError, match=rf"flipped\.ckpt: {largest.filename} in it is damaged"):
        load_checkpoint(tmp_path / "flipped.ckpt", **MINI)


def test_configs_of_no_detector_are_named(tmp_path):
    model = Detector(**PRESETS["sim-smoke"])
    for change in (None, {}, {"embed_dim": 8}, 3):
        content = {"format": "ssmbook.detector", "config": change, "state_dict": model.state_dict()}
        torch.save(content, tmp_path / "own.ckpt")
        with pytest.raises(
            InputError, match=r"own\.ckpt: its 'config' holds .*not the arguments of a Detector"
        ):
            load_checkpoint(tmp_path / "own.ckpt")


class Pyramid(NoRecurrence):
    """An option of any kind."""

    def __init__(self, channels, *, sizes=(1, 2, 4)):
        super().__init__(channels)


@pytest.fixture
def pyramid():
    REGISTRY["pyramid"] = Pyramid
    yield "pyramid"
    del REGISTRY["pyramid"]


def test_numbers_and_words_of_numpy_come_back_as_python_s(tmp_path, pyramid):
    bandlimit, gain = np.linspace(0.1, 0.5, 3)[1], np.float32(2)
    plain = {"carry": np.str_("exact"), "mask_token": np.True_}
    models = [
        Detector(
            **PRESETS["sim-smoke"], **plain, recurrence=np.str_("s5"), bandlimit=bandlimit, state_gain=gain
        ),
        Detector(**PRESETS["sim-smoke"], recurrence=pyramid, sizes=np.array([1, 2, 4])),
        Detector(**PRESETS["sim-smoke"], recurrence=pyramid),
    ]
    for model in models:
        save_checkpoint(tmp_path / "model.ckpt", model)
        assert load_checkpoint(tmp_path / "model.ckpt").config == model.config
    assert [model.config.get("sizes") for model in models] == [None, (1, 2, 4), (1, 2, 4)]


@pytest.mark.parametrize("value", [object(), float("nan"), Path("x"), {1, 2}, (1, b"2")])
def test_what_would_not_come_back_is_not_written(tmp_path, pyramid, value):
    model = Detector(**PRESETS["sim-smoke"], recurrence=pyramid, sizes=value)
    with pytest.raises(InputError, match="a checkpoint cannot keep sizes"):
        save_checkpoint(tmp_path / "model.ckpt", model)
    assert not list(tmp_path.iterdir())

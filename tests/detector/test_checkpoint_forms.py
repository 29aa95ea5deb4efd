"""Checkpoints as people save them, alone or beside other things and under prefixes; files of other kinds are named."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch

from ssmbook.detector import PRESETS, Detector, find_preset, load_checkpoint, save_checkpoint
from ssmbook.detector.recurrences import RECURRENCES
from ssmbook.errors import InputError
from ssmbook.training import Training, TrainingStep


def make(**options):
    torch.manual_seed(0)
    return Detector(**{**PRESETS["sim-smoke"], **options})


@pytest.fixture(scope="module")
def model():
    return make()


def same(model, other):
    weights = other.state_dict()
    return all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


def prefixed(model, prefix):
    return {f"{prefix}{name}": weight for name, weight in model.state_dict().items()}


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("", None),
        ("module.", None),
        ("_orig_mod.", None),
        ("", "state_dict"),
        ("model.", "state_dict"),
        ("mdl.", "state_dict"),
        ("module._orig_mod.", "model_state_dict"),
        ("_orig_mod.module.", "model"),
        ("step.model.", "state_dict"),
        ("lit.detector._orig_mod.", "weights"),
        ("_fsdp_wrapped_module.", "model"),
    ],
)
def test_any_prefix_and_any_key(tmp_path, model, prefix, key):
    weights = prefixed(model, prefix)
    torch.save(weights if key is None else {"epoch": 3, key: weights}, tmp_path / "a.pt")
    assert same(load_checkpoint(tmp_path / "a.pt", "sim-smoke"), model)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_what_the_weights_say_need_not_be_said(tmp_path, recurrence):
    model = make(recurrence=recurrence, mask_token=True, in_channels=10)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    assert find_preset(tmp_path / "a.pt") == "sim-smoke"
    loaded = load_checkpoint(tmp_path / "a.pt", None)
    assert loaded.config == model.config
    assert same(loaded, model)
    assert loaded.trained_on is None


def test_what_wrappers_and_trainers_write(tmp_path):
    model = make()
    torch.save(torch.compile(model).state_dict(), tmp_path / "compiled.pt")
    torch.save(torch.nn.DataParallel(model).state_dict(), tmp_path / "parallel.pt")
    model.backbone = torch.compile(model.backbone)  # a part of it
    torch.save(model.state_dict(), tmp_path / "part.pt")
    model = make()
    module = torch.nn.ModuleDict({"step": TrainingStep(model, Training())})  # as in a LightningModule
    beside = {"optimizer_states": [{}], "loops": {"fit": 1}, "hyper_parameters": Training()}
    torch.save({"state_dict": module.state_dict(), **beside}, tmp_path / "lightning.ckpt")
    torch.save({"state_dict": model.state_dict(), "metric.count": torch.ones(2)}, tmp_path / "beside.ckpt")
    torch.save(model.half().state_dict(), tmp_path / "half.pt")
    for path in tmp_path.iterdir():
        loaded = load_checkpoint(path, "sim-smoke")
        assert loaded.head.box_out[0].weight.dtype == torch.float32
        assert same(loaded, model.float() if path.stem == "half" else make()), path


def test_weights_that_share_a_storage_or_are_laid_out_otherwise(tmp_path, model):
    together = torch.cat([weight.float().flatten() for weight in model.state_dict().values()])
    weights, at = {}, 0
    for name, weight in model.state_dict().items():
        part = together[at : at + weight.numel()].view(weight.shape)
        at += weight.numel()
        weights[name] = part if weight.is_floating_point() else weight
        if weight.ndim == 4:
            weights[name] = part.to(memory_format=torch.channels_last)
    torch.save(weights, tmp_path / "a.pt")
    assert same(load_checkpoint(tmp_path / "a.pt", "sim-smoke"), model)


def test_two_detectors_in_a_file_are_told_apart(tmp_path, model):
    torch.save({"model": model.state_dict(), "ema": prefixed(model, "module.")}, tmp_path / "a.pt")
    with pytest.raises(
        InputError, match=r"a\.pt: holds 2 detectors, under 'model', 'ema'; save the weights of one"
    ):
        load_checkpoint(tmp_path / "a.pt", "sim-smoke")


def test_what_a_later_version_wrote_is_named(tmp_path, model):
    for change, words in (
        (
            {"memory": 3, "gates": True},
            "was written by a later version: its 'config' holds gates, memory; install",
        ),
        ({"recurrence": "retnet"}, "its recurrence is 'retnet', which this version does not have"),
    ):
        content = {"format": "ssmbook.detector", "config": {**model.config, **change}}
        torch.save({**content, "state_dict": model.state_dict()}, tmp_path / "own.ckpt")
        with pytest.raises(InputError, match=rf"own\.ckpt: {words}"):
            load_checkpoint(tmp_path / "own.ckpt")


def _npz():
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    return file.getvalue()


def _saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def _zip(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "a")
    return file.getvalue()


def _repacked():
    file = io.BytesIO()
    old = zipfile.ZipFile(io.BytesIO(_saved({"a": torch.ones(2)})))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return file.getvalue()


def _safetensors():
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


FOREIGN = [
    (lambda: _saved({"a": torch.ones(2)}, _use_new_zipfile_serialization=False), "before 1.6.* torch.save"),
    (lambda: _saved({"a": torch.ones(900)})[:2000], "cut short"),
    (_safetensors, "safetensors.torch.load_file"),
    (lambda: _zip("a/data.pkl", "a/code/__torch__.py", "a/constants.pkl"), "TorchScript"),
    (_npz, "npz"),
    (lambda: _zip("a.txt"), "a zip archive of something else"),
    (_repacked, "is compressed"),
    (lambda: np.lib.format.magic(1, 0) + bytes(40), "an array of NumPy"),
    (lambda: b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
    (lambda: b"\x08\x07\x12\x07pytorch" + bytes(40), "ONNX"),
    (lambda: pickle.dumps({"a": 1}), "a pickle without tensors"),
    (lambda: b"\x1f\x8b\x08" + bytes(40), "gzip"),
    (lambda: b"<!DOCTYPE html><html>", "a web page"),
    (lambda: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (lambda: b"% Date 2019\n", "recording of events"),
    (lambda: b"\x00\x01\x02nothing known", "no format known here"),
    (lambda: _saved(torch.ones(2)), "holds a tensor, not a dictionary"),
    (lambda: _saved(torch.nn.Linear(2, 2)), "holds a whole module or another object"),
    (lambda: _saved({"conv1.weight": torch.ones(2)}), "weights of another network.* such as conv1.weight"),
    (lambda: _saved({"epoch": 1, "lr": 0.1}), "holds no weights, only epoch, lr; save model.state_dict"),
]


@pytest.mark.parametrize(("content", "words"), FOREIGN, ids=[words for _, words in FOREIGN])
def test_other_files_are_named(tmp_path, content, words):
    path = tmp_path / "other.pt"
    path.write_bytes(content())
    with pytest.raises(InputError, match=words) as error:
        load_checkpoint(path, "sim-smoke")
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 400


def test_equal_models_give_equal_files(tmp_path):
    save_checkpoint(tmp_path / "a.ckpt", make(), step=1)
    save_checkpoint(tmp_path / "b.ckpt", make(), step=1)
    assert (tmp_path / "a.ckpt").read_bytes() == (tmp_path / "b.ckpt").read_bytes()

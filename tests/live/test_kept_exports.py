"""An export is made once for the same network and size, and never believed where it is damaged."""

import platformdirs
import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.live import kept_exports
from ssmbook.live.kept_exports import KEPT, kept_export
from ssmbook.live.runtimes import fastest_step, make_steps
from tests.live.test_stream import SIZE, model_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "ssmbook" / "exports"


@pytest.fixture
def made(monkeypatch):
    """The exports so far: stand-ins, for it is the keeping that is held here."""
    names = []

    def export(model, path, frame_hw, step_scale):
        path.write_bytes(f"{frame_hw}".encode())
        names.append(frame_hw)
        return path

    monkeypatch.setattr(kept_exports, "export_onnx", export)
    return names


def ask(model, size):
    with kept_export(model, (size, size)) as path:
        return path.read_bytes()


def test_one_for_the_same_weights_and_size(folder, made, capsys):
    model = model_of()
    assert ask(model, 8) == ask(model, 8) == b"(8, 8)"
    assert made == [(8, 8)]
    assert capsys.readouterr().err.count("it is kept for the next time") == 1
    ask(model, 16)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    ask(model, 8)
    assert made == [(8, 8), (16, 16), (8, 8)]
    assert len(list(folder.iterdir())) == 3


def test_those_used_last_are_kept(folder, made):
    model = model_of()
    for size in range(1, KEPT + 3):
        ask(model, size)
        ask(model, 1)
    assert len(list(folder.iterdir())) == KEPT
    ask(model, 1)
    assert made == [(size, size) for size in range(1, KEPT + 3)]


def test_nothing_is_kept_where_nothing_can_be_written(folder, made):
    folder.parent.write_text("a file where the folder should be")
    assert ask(model_of(), 8) == b"(8, 8)"
    assert folder.parent.is_file()


def test_a_damaged_one_is_told_and_made_anew(folder, made):
    model = model_of().float()
    assert ask(model, SIZE) == b"(64, 64)"  # which is no ONNX
    (kept,) = folder.iterdir()
    with pytest.raises(InputError, match=r"onnxruntime does not load the exported network \(.*\); use torch"):
        make_steps(("onnxruntime",), model, (SIZE, SIZE), 1.0, torch.uint8)
    assert not kept.exists()
    assert fastest_step(model, (SIZE, SIZE), 1.0, torch.uint8)[0] == "torch"
    assert not kept.exists()
    assert len(made) == 2

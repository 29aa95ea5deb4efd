"""ssmbook simulate: what its source is, a set or a video."""

import pytest

from ssmbook.cli import main
from ssmbook.events import simulate


@pytest.mark.parametrize("name", ["smoke", "memory"])
@pytest.mark.parametrize("there", ["nothing", "folder", "file"])
def test_a_set_is_one_whatever_lies_here(name, there, tmp_path, monkeypatch):
    """Also where a set goes into a folder of its own name, and the command is run again."""
    made = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(simulate, "simulate_set", lambda out, *rest: made.append(out))
    if there == "folder":
        (tmp_path / name).mkdir()
    if there == "file":
        (tmp_path / name).touch()
    assert main(["simulate", name, "--out", name]) == 0
    assert made == [name]


def test_what_is_neither_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("folder", "missing"):
        assert main(["simulate", name, "--out", "out"]) == 1
        assert f"{name}: is no video file and no set; the sets are " in capsys.readouterr().err
    (tmp_path / "video").write_bytes(b"none")
    assert main(["simulate", "video", "--out", "out.h5"]) == 1
    assert "no set" not in capsys.readouterr().err

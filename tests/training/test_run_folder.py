"""The folder of a run: what is damaged in it is told, and the run goes on or the message says how."""

import json
import platform
import re
import subprocess

import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.training import provenance
from ssmbook.training.run_folder import (
    COLUMNS,
    LAST,
    METRICS_CSV,
    MetricsFile,
    begin,
    check_moments,
    damaged_state,
    differences,
    read_metrics,
    read_state,
)

PARAMETERS = {"model": {"embed_dim": 8}, "training": {"steps": 3}}


@pytest.fixture
def folder(tmp_path):
    """A run that has begun."""
    folder = tmp_path / "run"
    assert begin(folder, PARAMETERS) is None
    (folder / LAST).write_bytes(b"a state")
    return folder


def test_a_run_is_found_again(folder):
    assert differences(folder, PARAMETERS) == {}
    assert begin(folder, PARAMETERS) == folder / LAST


@pytest.mark.parametrize(
    "content",
    [b'{"parameters": {"mod', b"", b"\xff\xfe", b"[1, 2]", b"3", b'{"parameters": 3}', b"{}", b"[" * 100_000],
)
def test_damaged_parameters_are_told_and_nothing_is_lost(folder, capsys, content):
    (folder / "provenance.json").write_bytes(content)
    with pytest.raises(InputError, match=r"provenance\.json: .*remove it"):
        differences(folder, PARAMETERS)
    assert begin(folder, PARAMETERS) is None
    said = capsys.readouterr().err
    assert "whose parameters are not known" in said
    assert f"it is now {folder}.1" in said
    assert (folder.with_name("run.1") / LAST).read_bytes() == b"a state"
    assert json.loads((folder / "provenance.json").read_text())["parameters"] == PARAMETERS


def test_it_says_where_it_began_and_where_it_was_resumed(tmp_path, monkeypatch):
    commits = iter("AAABBA")
    monkeypatch.setattr(provenance, "commit", lambda: next(commits))
    for _ in range(6):
        begin(tmp_path / "run", PARAMETERS)
    record = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert record["commit"] == "A"
    assert [resumed["commit"] for resumed in record["resumed"]] == ["B", "A"]
    assert record["parameters"] == PARAMETERS


def test_a_commit_is_that_of_the_files_that_run(tmp_path, monkeypatch):
    """With changes anywhere in them; and not that of another checkout which they lie in."""

    def git(*words):
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True)

    inside = tmp_path / "ssmbook" / "training"
    inside.mkdir(parents=True)
    (tmp_path / "other.py").touch()
    git("init")
    git("add", "other.py")
    git("commit", "-m", "a")
    monkeypatch.setattr(provenance, "__file__", str(inside / "provenance.py"))
    (inside / "provenance.py").touch()
    assert provenance.commit() == "unknown"
    git("add", ".")
    git("commit", "-m", "b")
    assert re.fullmatch(r"[0-9a-f]{40}", provenance.commit())
    (tmp_path / "other.py").write_text("changed")
    assert provenance.commit().endswith("+changes")


def test_what_a_killed_process_was_writing_is_removed(folder):
    dead = subprocess.Popen(["true"])
    dead.wait()
    (folder / "panels").mkdir()
    left = [folder / "panels" / f".4.png.{dead.pid}@{platform.node()}.tmp"]
    left += [folder / f".{name}.{dead.pid}@{platform.node()}.tmp" for name in ("best.ckpt", "model.ckpt")]
    kept = folder / f".best.ckpt.{dead.pid}@elsewhere.tmp"
    for path in (*left, kept):
        path.touch()
    begin(folder, PARAMETERS)
    assert not any(path.exists() for path in left)
    assert kept.exists()


def row(step):
    return ",".join([str(step), *("1" for _ in COLUMNS[1:])])


@pytest.mark.parametrize(
    "damaged",
    ["4,0.5,0.", "x" * 50, "", "-3" + row(4)[1:], row(4) + ",1", row(4).replace("1", "one"), "\x00\xff"],
)
def test_damaged_rows_are_left_out(tmp_path, capsys, damaged):
    path = tmp_path / METRICS_CSV
    path.write_text("\n".join([",".join(COLUMNS), row(1), damaged, row(3), row(9)]) + "\n")
    file = MetricsFile(path, 5)
    assert "1 damaged rows were left out" in capsys.readouterr().err
    file.log_metrics({"train/loss": 0.5}, 6)
    assert read_metrics(tmp_path).index.tolist() == [1, 3, 6]


def test_metrics_that_are_none_are_told(tmp_path):
    for content in (b"", b"a,b\n1,2\n", b"\xff\xfe\x00", b"step,a\n1,b\n", b"step\n1,2,3\n1\n1,2,3,4\n"):
        (tmp_path / METRICS_CSV).write_bytes(content)
        with pytest.raises(InputError, match=r"metrics\.csv: is damaged"):
            read_metrics(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"cut",
        {"a": torch.ones(2)},
        {"training": 3},
        {"training": {"ranks": 3}},
        {"training": {"ranks": [1]}},
        {"training": {}},
    ],
)
def test_a_state_that_is_none_says_how_to_begin_anew(tmp_path, content):
    path = tmp_path / LAST
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError, match=r"last\.ckpt.*Rename .* begins the run anew"):
        read_state(path, 1)


def test_a_state_of_other_processes_is_refused(tmp_path):
    torch.save({"training": {"ranks": [{}, {}]}}, tmp_path / LAST)
    assert read_state(tmp_path / LAST, 2)["training"] == {"ranks": [{}, {}]}
    with pytest.raises(InputError, match=r"is of 2 processes, .* not of 1; go on with as many"):
        read_state(tmp_path / LAST, 1)


def test_what_libraries_say_of_a_damaged_state_is_one_line(tmp_path):
    for error in (KeyError("step"), TypeError("a\nb"), RuntimeError("sizes"), IndexError(3)):
        damaged = pytest.raises(InputError, match=r"last\.ckpt: the state .* is damaged \(.*Rename")
        with damaged, damaged_state(tmp_path / LAST):
            raise error


def test_moments_of_other_shapes_are_refused():
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    check_moments(optimizer)
    state = optimizer.state_dict()
    state["state"][0]["exp_avg"] = torch.ones(3)
    optimizer.load_state_dict(state)
    with pytest.raises(ValueError, match="exp_avg does not fit"):
        check_moments(optimizer)

"""Files of one's own that SSMBOOK_PLUGINS names: the names they register are known to the commands."""

import os
import re
import sys
from pathlib import Path

import pytest
import torch

from ssmbook import lazy
from ssmbook.detector.recurrences import REGISTRY, make_recurrence
from ssmbook.errors import InputError
from ssmbook.events import REPRESENTATIONS, StackedHistogram
from ssmbook.events.representations import get_representation
from ssmbook.lazy import PLUGINS, Registry
from ssmbook.processes import run_calls

ROOT = Path(__file__).parents[1]
KINDS: Registry = Registry("kind", "ssmbook", {})  # what the files of these tests register in


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a file of that name and names it in the variable, behind those that it names already."""
    monkeypatch.setattr(lazy, "_loaded", set())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(PLUGINS, raising=False)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(f"from tests.test_plugins import KINDS\n{text}\n")
        before = filter(None, [os.environ.get(PLUGINS)])
        monkeypatch.setenv(PLUGINS, os.pathsep.join([*before, str(path)]))
        return path

    yield write
    for name in list(KINDS):
        del KINDS[name]
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_a_name_is_looked_for_in_the_files(plugin):
    plugin("first_plugin.py", "KINDS['one'] = 1\nassert 'two' in KINDS  # of the next")
    plugin("second_plugin.py", "KINDS['two'] = 2")
    assert "two" in KINDS
    assert KINDS.find("one") == 1
    with pytest.raises(InputError, match="kind is 'tow'; it must be one of one, two; did you mean 'two'"):
        KINDS.find("tow")
    assert lazy._loaded == {Path(name) for name in os.environ[PLUGINS].split(os.pathsep)}


def test_a_file_that_is_none_or_has_anothers_name_is_refused(plugin, monkeypatch):
    monkeypatch.setenv(PLUGINS, "/nowhere/x.py")
    with pytest.raises(InputError, match=r"SSMBOOK_PLUGINS names '/nowhere/x\.py', which is no Python file"):
        KINDS.find("one")
    monkeypatch.delenv(PLUGINS)
    plugin("json.py", "KINDS['one'] = 1")
    with pytest.raises(InputError, match="json is a module of Python here; rename the file"):
        KINDS.find("one")


def test_its_own_faults_are_not_hidden_and_it_is_asked_again(plugin):
    path = plugin("third_plugin.py", "raise RuntimeError('mine')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="mine"):
            KINDS.find("one")
    path.write_text("from tests.test_plugins import KINDS\nKINDS['one'] = 3")
    assert KINDS.find("one") == 3


def test_a_representation_goes_by_its_own_name(monkeypatch):
    monkeypatch.setitem(REPRESENTATIONS, "log", type("Log", (StackedHistogram,), {}))
    with pytest.raises(InputError, match=r"whose name is 'stacked_histogram'; .* name = 'log'"):
        get_representation("log")


def run_in_chunks(name: str, sizes: list[int]) -> torch.Tensor:
    """A recurrence by its name, without bias, on chunks of so many windows."""
    torch.manual_seed(0)
    block, x, state, parts = make_recurrence(name, 4, bias=False), torch.randn(5, 3, 4), None, []
    for chunk in x.split(sizes):
        y, state = block(chunk, state)
        parts.append(y)
    return torch.cat(parts).detach()


def test_the_pages_recurrence_runs_here_and_in_worker_processes(plugin, tmp_path):
    text = (ROOT / "pages" / "experiments.md").read_text()
    plugin("gru_of_the_page.py", re.search(r":filename: gru.py\n(.*?)```", text, re.S)[1])
    try:
        whole = run_in_chunks("gru", [5])
        results = dict(run_calls(run_in_chunks, [("gru", [2, 3]), ("gru", [1] * 5)], 2, None))
        for i in range(2):
            torch.testing.assert_close(results[i], whole)
    finally:
        REGISTRY.pop("gru", None)

"""Mutated files of every format give right events or an InputError: a few here, many by ``python -m tests.fuzz``."""

import pytest
from fuzz.guided import fuzz_guided
from fuzz.mutate import FORMATS
from fuzz.run import fuzz


@pytest.mark.parametrize("format", FORMATS)
def test_mutated_files(format):
    seconds = 3.0 if format == "checkpoint_values" else 0.3  # each of its inputs builds a network
    found = fuzz(format, inputs=2000, seed=1, seconds=seconds)
    assert found.faults == []
    assert found.read > 0
    assert found.refused > 0


def test_guided_inputs_reach_more_than_whole_files():
    pytest.importorskip("atheris")
    found = fuzz_guided("evt3", 1000)
    assert found.faults == []
    assert found.inputs == 1000
    assert found.branches > found.seeds > 100


def test_a_guided_fault_is_told(tmp_path, monkeypatch):
    """Here of messages that name no file."""
    pytest.importorskip("atheris")
    (tmp_path / "sitecustomize.py").write_text(
        "from ssmbook.errors import InputError\nInputError.__str__ = lambda error: ''\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = fuzz_guided("evt3", 500)
    assert any("a message that names no file" in fault for fault in found.faults)

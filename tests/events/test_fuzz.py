"""Mutated files of every format give right events or an InputError: a few here, many by ``python -m tests.fuzz``."""

import pytest
from fuzz.mutate import FORMATS
from fuzz.run import fuzz


@pytest.mark.parametrize("format", FORMATS)
def test_mutated_files(format):
    seconds = 3.0 if format == "checkpoint_values" else 0.3  # each of its inputs builds a network
    found = fuzz(format, inputs=2000, seed=1, seconds=seconds)
    assert found.faults == []
    assert found.read > 0
    assert found.refused > 0

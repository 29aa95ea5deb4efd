"""Long computations use their freed memory again, and give it back when they end."""

import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from ssmbook.allocation import _glibc, memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [np.ones(1 << 20) for _ in range(5)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

if _glibc() is None:
    print("another library")
else:
    usual = faults()
    with memory_kept():
        with memory_kept():
            faults()
        kept = faults()
        blocks = None
        inside = held_mb()
    print(usual, kept, inside, held_mb())
"""


def test_memory_is_used_again_within_and_given_back_after():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    if "another" in run.stdout:
        pytest.skip("glibc alone is told")
    usual, kept, inside, after = map(int, run.stdout.split())
    assert kept < usual / 10
    assert after < inside - 30  # of the 80 MB of blocks


def test_where_the_library_is_another_one_nothing_happens(monkeypatch):
    from ssmbook import allocation

    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: object())
    with allocation.memory_kept():
        assert allocation._holders == 0

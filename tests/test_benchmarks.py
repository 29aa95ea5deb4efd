"""The benchmarks run: their checks pass on this machine, and their tables fill, at tiny sizes."""

import sys

import gpu
import pytest
import scan


def test_kernels_agree_with_the_oracle():
    rows = gpu.check_kernels("cpu", [(2, 1, 3), (3, 21, 5)])
    assert len(rows) == 2 * 3 * 2 * 2 * 2
    assert not [row for row in rows if not row["passes"]]


def test_a_wrong_kernel_is_noticed(monkeypatch):
    right = gpu.scan_planes
    monkeypatch.setattr(gpu, "scan_planes", lambda a, b, x0, reverse: right(a, b, 1.001 * x0, reverse))
    assert not any(row["passes"] for row in gpu.check_kernels("cpu", [(2, 3, 4)]))


def test_scan_table_fills():
    results = scan.measure_shape((4, 5, 6), repeats=1, memory=False, device="cpu")
    assert {"limit", "ours", "ours, time-major"} <= results.keys()
    assert all(time > 0 for times in results.values() for time in times.values())
    assert scan.measure_step(3, 4, 1, "cpu").keys() == {"S5 block", "ConvLSTM"}


@pytest.mark.parametrize("module", [gpu, scan])
def test_help_says_what_is_measured(module, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [module.__name__, "--help"])
    with pytest.raises(SystemExit):
        module.main()
    assert "--out" in capsys.readouterr().out

"""The benchmarks run: their checks pass on this machine and notice faults, and their tables fill, at tiny sizes."""

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import agreement
import detector
import gpu
import learning_rates
import loader
import measuring
import pytest
import realism
import scaling
import scan
import simulate
import torch
import traces
import workers
from training_set import SENSOR, TRAINING, make_set

from ssmbook.study import Arm, Profile, get_profile

SETTINGS = replace(gpu.TINY, device="cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_kernels_agree_with_the_oracle():
    rows = agreement.check_kernels("cpu", [(2, 1, 3), (3, 21, 5)])
    assert len(rows) == 2 * 3 * 2 * 2 * 2
    assert not [row for row in rows if not row["passes"]]


def test_a_wrong_kernel_is_noticed(monkeypatch):
    right = agreement.scan_planes
    monkeypatch.setattr(agreement, "scan_planes", lambda a, b, x0, reverse: right(a, b, 1.001 * x0, reverse))
    assert not any(row["passes"] for row in agreement.check_kernels("cpu", [(2, 3, 4)]))


def test_a_gradient_that_is_not_a_number_is_noticed(monkeypatch):
    right = agreement.with_gradients

    def spoilt(run, arguments, dx):
        x, of_a, *others = right(run, arguments, dx)
        of_a[..., 0] = torch.nan
        return [x, of_a, *others]

    calls = itertools.cycle([right, spoilt])  # the loop comes first
    monkeypatch.setattr(agreement, "with_gradients", lambda *arguments: next(calls)(*arguments))
    assert not any(row["passes"] for row in agreement.check_kernels("cpu", [(2, 3, 4)]))


@pytest.mark.parametrize("recurrence", ["s5-selective", "mamba"])
def test_recurrences_agree_with_themselves_in_float64(recurrence):
    assert all(row["passes"] for row in agreement.check_recurrence("cpu", "sim-smoke", recurrence))


def test_a_lost_state_is_noticed(monkeypatch):
    class Forgetful(agreement.NetworkStep):
        def __call__(self, frame):
            self.reset()
            return super().__call__(frame)

    monkeypatch.setattr(agreement, "NetworkStep", Forgetful)
    for rows in (
        agreement.check_detector("cpu", "sim-smoke", 4),
        agreement.check_recurrence("cpu", "sim-smoke", "convlstm"),
    ):
        passes = {row["row"]: row["passes"] for row in rows}
        assert not any(passed for name, passed in passes.items() if "scores frame by frame" in name)
        assert all(passed for name, passed in passes.items() if "frame by frame" not in name)


def test_a_wrong_layer_is_noticed(monkeypatch):
    class Wrong(agreement.Plain):
        def __init__(self, model):
            super().__init__(model)
            with torch.no_grad():
                self.backbone.stages[0].recurrence.layer.D *= 1.001

    monkeypatch.setattr(agreement, "Plain", Wrong)
    found = {row["row"]: row["passes"] for row in agreement.check_detector("cpu", "sim-smoke", 4)}
    assert not found["sim-smoke, states"]


def test_scan_table_fills():
    results = scan.measure_shape((4, 5, 6), repeats=1, memory=False, device="cpu")
    assert {"limit", "ours", "ours, time-major"} <= results.keys()
    assert all(time > 0 for times in results.values() for time in times.values())
    assert scan.measure_step(3, 4, 1, "cpu").keys() == {"S5 block", "ConvLSTM"}


def test_peak_memory_is_that_of_the_run():
    """In a process of its own, whose free memory no earlier test has left behind."""
    code = "import measuring, torch; print(measuring.peak_mb(lambda: torch.ones(10_000_000).sum(), 'cpu'))"
    environment = {**os.environ, "PYTHONPATH": str(Path(measuring.__file__).parent)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert 35 < float(run.stdout) < 60, run.stderr  # 40 MB of float32


def test_the_limit_runs_what_is_heavy():
    run = detector.streaming_of("ours", "sim-smoke", "cpu")
    limit = detector.streaming_of("limit", "sim-smoke", "cpu")
    times = measuring.best_ms({"ours": run, "limit": limit}, 3, "cpu")
    assert 0 < times["limit"] < times["ours"]


def test_all_parts_run(tmp_path, capsys):
    """In this process, with a study of two arms."""
    make_set(tmp_path / "data")
    arms = Arm("s5", "sliding", follow=True, rates_hz=(20.0, 40.0)), Arm("none", "held", rates_hz=(20.0,))
    profile = Profile("tiny", SENSOR, "sim-smoke", replace(TRAINING, steps=1), arms, seeds=(0,))
    settings = replace(SETTINGS, profile=profile, data_dir=str(tmp_path / "data"))
    path = tmp_path / "gpu.json"
    for name in gpu.PARTS:
        gpu.run_part(name, settings, path)
    found = json.loads(path.read_text())
    assert {name for name, part in found.items() if part.get("finished")} == set(gpu.PARTS)
    assert all(part["torch"] == torch.__version__ for part in found.values())
    assert found["kernels"]["passes"]
    assert found["agreement"]["passes"]
    assert len(found["agreement"]["rows"]) == 4 + 4 + 6 * 2
    streaming, training = ([r["row"] for r in found[name]["rows"]] for name in ("streaming", "training"))
    assert streaming == ["streaming, sim-smoke, fp32", "streaming, sim-smoke, bf16"]
    assert [row.partition(",")[0] for row in training] == [
        *["training step"] * 2,
        "burn-in 0–40 / without",
        *["backbone"] * 2,
    ]
    assert found["precision"]["fp32"]["last"] == pytest.approx(found["precision"]["bf16"]["last"], rel=0.1)
    assert len(found["study"]["rows"]) == 3
    assert found["study"]["missing"] == []


def test_a_study_stops_in_time_and_goes_on(tmp_path):
    make_set(tmp_path)
    arms = (Arm("none", "held", rates_hz=(20.0,)),)
    profile = Profile("tiny", SENSOR, "sim-smoke", replace(TRAINING, steps=1), arms, seeds=(0, 1))
    settings = replace(SETTINGS, profile=profile, data_dir=str(tmp_path))
    kept = []
    over = gpu.study(replace(settings, deadline=time.time() - 1), kept.append)
    assert over == {"missing": [(0, "none"), (1, "none")], "rows": []}
    assert kept == []
    gpu.study(settings, kept.append)
    assert [len(part["missing"]) for part in kept] == [1, 0]
    assert [len(part["rows"]) for part in kept] == [1, 2]


def test_a_part_that_fails_is_named_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "gpu.json"
    settings = replace(SETTINGS, presets=("no-such",))
    found = gpu.run_parts(["streaming", "kernels"], settings, path)
    assert found["streaming"]["failed"] == "KeyError: 'no-such'"
    assert found["kernels"]["finished"]
    found = gpu.run_parts(["kernels"], replace(settings, deadline=time.time() + 0.1), path)
    assert found["kernels"] == {"failed": "stopped: the time was over"}
    found = gpu.run_parts(["kernels"], replace(settings, deadline=time.time()), path)
    assert found["kernels"] == {"failed": "not begun: the time was over"}
    assert found["streaming"]["failed"]  # of before


@pytest.mark.parametrize("module", [gpu, scan, detector])
def test_help_says_what_is_measured(module, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [module.__name__, "--help"])
    with pytest.raises(SystemExit):
        module.main()
    assert "--out" in capsys.readouterr().out


def test_the_simulator_is_timed_on_streets_and_on_a_video():
    count, seconds = simulate.simulate("davis346-dim", 0.1, 0)
    assert count > 10_000
    assert 0 < seconds < 60
    row = simulate.of_a_video(0.1, 1)
    assert row["events_per_s"] > 1000
    assert row["one_process"] > 0


def test_a_simulated_street_is_measured():
    row = realism.simulated("book", 8000, 0.3)
    assert row["window_ms"] == 8
    assert row["rate_hz"] > 0
    assert row["lorenz"][0] == 0
    assert row["lorenz"][-1] == 1


def test_workers_of_a_loader_are_timed(tmp_path):
    loader.generate(tmp_path / "train", (4, 12, 16), sequences=4, windows=12, events=50)
    rows = workers.measure_here("ours", tmp_path, 1)
    assert len(rows) == 2
    assert all(row["seconds"] > 0 and row["mb"] > 1 for row in rows)


def test_traces_are_trained_on_and_run_at_other_rates(tmp_path, monkeypatch):
    make_set(tmp_path).rename(tmp_path / "not_it")  # the workspace makes its own
    training = replace(TRAINING, steps=1, validate_every=1, sampling="random")
    monkeypatch.setattr(
        traces,
        "get_profile",
        lambda name: Profile(name, SENSOR, "sim-smoke", training, (Arm("s5", "traces"),)),
    )
    monkeypatch.setattr(traces, "RATES_HZ", (20.0, 40.0))
    out = tmp_path / "traces.json"
    traces.main(["--longest", "5", "--profile", "tiny", "--data-dir", str(tmp_path), "--out", str(out)])
    (row,) = json.loads(out.read_text())["rows"]
    assert (row["taus_ms"], row["channels"]) == ([2.5, 5.0], 4)
    assert 0 <= row["AP"] <= row["AP_50"]
    assert set(row["rates"]) == {"20", "40"}
    assert traces.bank(40) == [2.5, 5, 10, 20, 40]


def test_learning_rates_have_runs_of_their_own(tmp_path, monkeypatch):
    make_set(tmp_path)
    training = replace(TRAINING, steps=1, validate_every=1, sampling="random", learning_rate=1e-3)
    monkeypatch.setattr(
        learning_rates,
        "get_profile",
        lambda name: Profile(name, SENSOR, "sim-smoke", training, (Arm("s5", "sliding"),)),
    )
    out = tmp_path / "rates.json"
    places = ["--profile", "tiny", "--data-dir", str(tmp_path), "--out", str(out)]
    learning_rates.main(["--variants", "s5", "--rates", "1e-3", "1e-2", *places])
    rows = json.loads(out.read_text())["rows"]
    assert [(row["model"], row["learning_rate"]) for row in rows] == [("s5", 1e-3), ("s5", 1e-2)]
    assert all(0 <= row["AP"] <= row["AP_50"] <= 1 for row in rows)
    runs = {
        path.name: json.loads((path / "provenance.json").read_text())
        for path in (tmp_path / "runs").iterdir()
    }
    assert {name: run["parameters"]["training"]["learning_rate"] for name, run in runs.items()} == {
        "s5": 1e-3,
        "s5_learning_rate=0.01": 1e-2,
    }


def test_scaling_gives_commands_of_the_book(tmp_path, monkeypatch):
    from ssmbook.cli import make_parser

    commands = []

    def seconds_of(words, folder):
        options = make_parser().parse_args(words)
        commands.append(words[0])
        return 3.0 if 1 in (getattr(options, "workers", None), getattr(options, "devices", None)) else 2.0

    monkeypatch.setattr(scaling, "seconds_of", seconds_of)
    *_, rows = scaling.measure(tmp_path, "smoke", 2, 2)
    assert [(row["part"], row["processes"], row["seconds"], row["times"]) for row in rows] == [
        (part, n, seconds, 3 / seconds)
        for part in ("preprocessing", "training", "sweep")
        for n, seconds in ((1, 3.0), (2, 2.0))
    ]
    assert commands[0] == "sweep"  # makes the sets
    assert len(commands) == 1 + 2 * 3 * 2
    profile = get_profile(str(tmp_path / "scaling.yaml"))
    assert (profile.training.steps, profile.seeds, len(profile.arms)) == (2, (0, 1), 2)

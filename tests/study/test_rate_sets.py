"""The sets that the rates need come from one reading of the raw recordings, and only where they are needed."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ssmbook.dataset import find_sequences, get_sensor
from ssmbook.drawings.evaluation import as_evaluation
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, DatWriter, Events
from ssmbook.events.formats.dat import DatRecording
from ssmbook.study import Arm, Workspace, rates, sweep

MODES = {"true": 40.0, "sliding": 100.0}


@pytest.fixture
def book(tmp_path):
    """A profile with one raw sequence to test on."""
    rng = np.random.default_rng(0)
    n, end = 5000, 600_000
    folder = tmp_path / "data" / "raw" / "test"
    folder.mkdir(parents=True)
    with DatWriter(folder / "a_td.dat", 304, 240) as file:
        t = np.sort(rng.integers(0, end, n))
        file.write(Events(t, rng.integers(0, 304, n), rng.integers(0, 240, n), rng.integers(0, 2, n)))
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["t"], boxes["w"], boxes["h"] = [250_000, 500_000], 60, 60
    np.save(folder / "a_bbox.npy", boxes)
    return Workspace("gen1-small", tmp_path / "data", workers=1)


@pytest.fixture
def opened(monkeypatch):
    """The recordings that are opened."""
    paths = []
    original = DatRecording.__init__

    def noted(self, path, *arguments):
        paths.append(path)
        original(self, path, *arguments)

    monkeypatch.setattr(DatRecording, "__init__", noted)
    return paths


def test_several_windows_and_strides_come_from_one_reading(book, opened):
    settings = [(50.0, 50.0), (25.0, 25.0), (50.0, 10.0)]
    book.prepare(settings, ("test",))
    assert len(opened) == 1
    for window_ms, stride_ms in settings:
        folder = book.preprocessed(window_ms, stride_ms, ("test",))
        (sequence,) = find_sequences(folder / "test")
        assert set(np.diff(sequence.timestamps_us)) == {1000 * stride_ms}
    assert len(opened) == 1


def test_rates_read_the_recordings_once_and_only_for_what_is_not_known(book, opened, monkeypatch, tmp_path):
    torch.save({"state_dict": {}, "stride_us": 50_000}, tmp_path / "weights")
    monkeypatch.setattr(book, "train", lambda recurrence: tmp_path / "weights")
    monkeypatch.setattr(book, "model", lambda recurrence, carry: None)
    evaluated = []

    def evaluate(model, streams, sensor, **options):
        evaluated.append(streams)
        return SimpleNamespace(metrics={"AP": 0.5})

    monkeypatch.setattr(rates, "ap_every", lambda result, seconds: 0.5)
    monkeypatch.setattr(rates, "ap_by_rest", lambda result, edges: pd.DataFrame())
    monkeypatch.setattr(rates, "evaluate", evaluate)
    arms = [Arm("s5", mode, follow=True, carry="exact", rates_hz=(rate,)) for mode, rate in MODES.items()]
    table = sweep.run_arms(book, arms, progress=False)
    assert (len(table), len(evaluated), len(opened)) == (2, 2, 1)
    sweep.run_arms(
        book, [*arms, Arm("s5", "held", follow=False, carry="exact", rates_hz=(200.0,))], progress=False
    )
    assert (len(evaluated), len(opened)) == (3, 2)
    made = {path.name for path in (book.folder / "sets").iterdir()}
    assert made == {"window=25_stride=25", "window=50_stride=10", "window=5_stride=50"}


def test_a_model_of_another_grid_has_no_place_in_the_table(book, monkeypatch, tmp_path):
    torch.save({"state_dict": {}, "stride_us": 125_000}, tmp_path / "weights")
    monkeypatch.setattr(book, "train", lambda recurrence: tmp_path / "weights")
    with pytest.raises(InputError, match="a window every 125 ms, but rates are relative to 50 ms"):
        sweep.run_arms(book, [Arm("s5", "true")], progress=False)


def test_labels_that_do_not_tell_objects_apart_cost_a_table_and_no_study(capsys):
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["t"], boxes["w"], boxes["h"], boxes["x"] = 600_000, 60, 60, [0, 100]
    sensor = get_sensor("gen1")
    for tracks, rows in (([1, 2], len(rates.REST_S) - 1), ([0, 0], 0)):
        boxes["track_id"] = tracks
        assert len(rates._rest(as_evaluation([boxes], [boxes], ["a"], sensor))) == rows
    assert "no AP by time at rest: a: several boxes of class id 0 have track_id 0" in capsys.readouterr().err

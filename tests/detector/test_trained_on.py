"""What a network was trained on goes into its checkpoint and comes out of it."""

from dataclasses import FrozenInstanceError, asdict

import numpy as np
import pytest
import torch

from ssmbook.dataset import Sensor
from ssmbook.detector import TrainedOn, load_checkpoint, save_checkpoint
from ssmbook.errors import InputError
from tests.detector.test_model import make

SENSOR = Sensor.simulated(64, 64)
FULL = TrainedOn(
    sensor=SENSOR,
    representation="traces",
    options={"taus_ms": [5.0, 10.0]},
    stride_us=50_000,
    sequence_length=10,
    rates_hz=(20.0, 40.0),
    score="class",
)

COUNTED = TrainedOn(window_events=100, stride_us=25_000)


@pytest.mark.parametrize("record", [FULL, TrainedOn(), TrainedOn(window_ms=50, options={"bins": 5}), COUNTED])
def test_a_checkpoint_keeps_it(tmp_path, record):
    save_checkpoint(tmp_path / "model.ckpt", make(), **record.content())
    assert load_checkpoint(tmp_path / "model.ckpt").trained_on == record
    assert make().trained_on is None
    with pytest.raises(FrozenInstanceError):
        record.score = "class"


def test_files_from_before_it_are_read(tmp_path):
    loose = {"sensor": asdict(SENSOR), "sequence_length": 10, "stride_us": 125_000}
    save_checkpoint(tmp_path / "old.ckpt", make(), **loose)
    old = load_checkpoint(tmp_path / "old.ckpt").trained_on
    assert old == TrainedOn(sensor=SENSOR, sequence_length=10, stride_us=125_000)
    assert old.represent(SENSOR, 20).folder_name(window_ms=50) == "stacked_histogram_dt=50_nbins=10"
    assert TrainedOn.read({"stride_us": None}) == TrainedOn()
    assert "window_events" not in FULL.content()["trained_on"], "no key more than files from before it"


def test_what_a_later_version_wrote_is_named(tmp_path):
    content = FULL.content()
    content["trained_on"] |= {"lens": "wide", "colour": True}
    save_checkpoint(tmp_path / "new.ckpt", make(), **content)
    with pytest.raises(InputError, match=r"new.ckpt: was written by a later version: .* holds colour, lens"):
        load_checkpoint(tmp_path / "new.ckpt")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sensor", {"name": "x"}, "damaged"),
        ("sensor", 3, "damaged"),
        ("representation", "histogram", "must be one of stacked_histogram, mixeddensity_stack, traces"),
        ("representation", ["traces"], "damaged"),
        ("options", "bins", "options is 'bins'"),
        ("stride_us", "50", "stride_us is '50'"),
        ("sequence_length", 0, "sequence_length is 0"),
        ("window_events", "many", "window_events is 'many'"),
        ("score", "best", "product or class"),
    ],
)
def test_damaged_records_are_named(tmp_path, name, value, message):
    content = FULL.content()
    content["trained_on"][name] = value
    torch.save(content, tmp_path / "x")
    with pytest.raises(InputError, match=message):
        TrainedOn.read(torch.load(tmp_path / "x", weights_only=True), "file")
    with pytest.raises(InputError, match="is a list, not a record"):
        TrainedOn.read({"trained_on": [1]})


def test_its_representation_has_the_channels_of_the_model():
    assert FULL.represent(SENSOR, 4).taus_ms == (5, 10)
    assert TrainedOn(representation="mixeddensity_stack").represent(SENSOR, 7).bins == 7
    assert TrainedOn().represent(SENSOR, 14).bins == 7
    for record, channels in ((FULL, 10), (TrainedOn(), 7), (TrainedOn(options={"bins": 10}), 10)):
        with pytest.raises(InputError, match=f"the model takes {channels}: choose the representation"):
            record.represent(SENSOR, channels)
    with pytest.raises(InputError, match="traces has no option bins; it has taus_ms"):
        TrainedOn(representation="traces", options={"bins": 3}).represent(SENSOR, 10)


def test_numbers_of_numpy_come_back_as_python_s(tmp_path):
    record = TrainedOn(
        sensor=SENSOR,
        representation=np.str_("traces"),
        options={"taus_ms": np.array([5.0, 10.0])},
        window_ms=np.float64(50),
        stride_us=np.int64(50_000),
        rates_hz=np.array([20.0, 40.0]),
    )
    save_checkpoint(tmp_path / "model.ckpt", make(), **record.content())
    assert load_checkpoint(tmp_path / "model.ckpt").trained_on == record
    assert record.rates_hz == (20, 40)


def test_a_record_that_could_not_be_read_is_not_made_or_not_written(tmp_path):
    with pytest.raises(InputError, match="has no option a"):
        TrainedOn(sensor=SENSOR, options={"a": 1})
    with pytest.raises(InputError, match="a checkpoint cannot keep trained_on"):
        save_checkpoint(tmp_path / "model.ckpt", make(), **TrainedOn(options={"bins": object()}).content())

"""Preprocessing equals the published script's, byte for byte, on its grid."""

import hashlib
import json

import h5py
import hdf5plugin  # noqa: F401  (registers Blosc with h5py)
import numpy as np
import pytest

from ssmbook.dataset import preprocess

CASES = {
    "stacked_hist/dt50": {"representation": "stacked_histogram", "window_ms": 50},
    "stacked_hist/dt10": {"representation": "stacked_histogram", "window_ms": 10},
    "stacked_hist/dt5": {"representation": "stacked_histogram", "window_ms": 5},
    "stacked_hist/ne5000": {"representation": "stacked_histogram", "window_events": 5000},
    "mixeddensity_stack/dt50": {"representation": "mixeddensity_stack", "window_ms": 50},
    "mixeddensity_stack/dt10": {"representation": "mixeddensity_stack", "window_ms": 10},
}


@pytest.fixture(scope="module")
def manifest(conformance):
    return json.loads(conformance("preprocess_manifest.json").read_text())


@pytest.fixture(scope="module")
def raw(conformance):
    """The folder of raw sequences of a sensor: the one with all splits where it is beside the checkout."""

    def find(sensor):
        inside = conformance(f"raw_{sensor}")
        outside = inside.parents[3] / "shared" / "conformance" / inside.name
        return outside if outside.exists() else inside

    return find


@pytest.mark.parametrize("sensor", ["gen1", "gen4"])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_manifest(sensor, case, manifest, raw, tmp_path):
    source = raw(sensor)
    preprocess(source, tmp_path, sensor=sensor, grid="published", progress=False, **CASES[case])
    splits = {path.name for path in source.iterdir() if path.is_dir()}
    prefix = f"{sensor}/{case}/"
    expected = {k.removeprefix(prefix): v for k, v in manifest.items() if k.startswith(prefix)}
    expected = {k: v for k, v in expected.items() if k.split("/")[0] in splits}
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written - {"preprocess.json"} == set(expected)
    for name, wanted in expected.items():
        _check(tmp_path / name, wanted)


def _check(path, wanted):
    if path.suffix == ".npz":
        arrays = np.load(path)
        assert arrays["objframe_idx_2_label_idx"].dtype == np.int64
        assert arrays["objframe_idx_2_label_idx"].tolist() == wanted["objframe_idx_2_label_idx"]
        for key, values in wanted["labels"].items():
            np.testing.assert_array_equal(np.round(arrays["labels"][key].astype(np.float64), 4), values)
        return
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            array = file["data"][:]
            assert file["data"].chunks == (1, *array.shape[1:])
    else:
        array = np.load(path)
    assert (str(array.dtype), list(array.shape)) == (wanted["dtype"], wanted["shape"])
    assert hashlib.sha256(array.tobytes()).hexdigest() == wanted["sha256"]

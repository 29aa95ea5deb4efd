import re

import pytest

from ssmbook.dataset import Sensor, get_sensor
from ssmbook.errors import InputError

GOOD = """
width: 346
height: 260
classes: [person]
label_interval_ms: 40
min_side: 5
"""


def test_gen1_and_gen4_have_the_published_values():
    gen1, gen4 = get_sensor("gen1"), get_sensor("gen4")
    assert (gen1.height, gen1.width, gen1.classes) == (240, 304, ("car", "pedestrian"))
    assert (gen1.min_diagonal, gen1.min_side) == (gen1.eval_min_diagonal, gen1.eval_min_side) == (30, 10)
    assert gen4.frame_size == (360, 640)
    assert (gen4.min_diagonal, gen4.min_side) == (0, 5)
    assert (gen4.eval_min_diagonal, gen4.eval_min_side) == (60, 20)
    assert gen1.eval_skip_us == gen4.eval_skip_us == 500_000
    assert gen4.label_interval_ms is None


def test_simulated_scales_gen1s_filters_with_the_width():
    sensor = Sensor.simulated(152, 100)
    assert (
        (sensor.min_diagonal, sensor.min_side) == (sensor.eval_min_diagonal, sensor.eval_min_side) == (15, 5)
    )
    assert (sensor.frame_size, sensor.label_interval_ms) == ((100, 152), 50)
    assert Sensor.simulated(304, 240).min_diagonal == get_sensor("gen1").min_diagonal


def test_yaml_gives_what_it_says(tmp_path):
    path = tmp_path / "davis.yaml"
    path.write_text(GOOD)
    expected = Sensor("davis", 346, 260, ("person",), label_interval_ms=40, min_side=5)
    assert get_sensor(path) == get_sensor(str(path)) == expected
    assert get_sensor(expected) is expected


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("height: 260", "", "key 'height' is missing"),
        ("height: 260", "height: -1", "height is -1"),
        ("height: 260", "height: 26.5", "height is 26.5; it must be a whole number"),
        ("height: 260", "height: true", "height is True"),
        ("min_side: 5", "min_side: .nan", "min_side is nan"),
        ("min_side: 5", "minimum_side: 5", "key 'minimum_side' is unknown"),
        ("min_side: 5", "downsample: 2", "downsample is 2"),
        ("[person]", "[]", "classes are"),
        ("[person]", "person", "classes are 'person'"),
        (GOOD, "- 1", "holds no keys"),
        (GOOD, "{", "is not YAML"),
    ],
)
def test_a_wrong_yaml_is_named_with_its_key(tmp_path, old, new, fault):
    path = tmp_path / "davis.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=re.escape(str(path))) as error:
        get_sensor(path)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_an_error():
    with pytest.raises(InputError, match=r"gen2.*gen1, gen4 or a YAML file"):
        get_sensor("gen2")

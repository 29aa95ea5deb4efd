import json
import os
import re
import time
from dataclasses import asdict

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
        ("[person]", "[person, Person]", "classes have 'Person' twice"),
        ("[person]", "[person, 3]", "classes have 3"),
        ("min_side: 5", "min_sid: 5", "key 'min_sid' is unknown; is it min_side?"),
        ("min_side: 5", "width: 1000000000", "width is 1000000000"),
        ("min_side: 5", f"eval_skip_us: 0x{'f' * 9000}", "eval_skip_us is a value of type int"),
        ("min_side: 5", "label_times: odd", "label_times is 'odd'; it can be grid or own"),
        ("min_side: 5", "class_map: {van: lorry}", "class_map has ('van', 'lorry')"),
        ("min_side: 5", "class_map: [[van]]", "class_map has ('van',)"),
        ("min_side: 5", "name: {a: b}", "name is {'a': 'b'}"),
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


def bomb(kind):
    """YAML that other readers hang or fail on."""
    return {
        "laughs": "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{f'*a{i},' * 9}]\n" for i in range(20)),
        "large": "name: " + "x" * 100_000,
        "long key": "k" * 60_000 + ": 1",
        "deep": "[" * 30_000,
        "deep mapping": "{a: " * 9_000,
        "odd date": "name: 2001-99-99",
        "long number": "width: " + "9" * 60_000,
        "list as a key": "[1, 2]: 3",
        "list in a list as a key": "? [[1]]\n: 2",
        "object": "!!python/object/apply:os.system ['true']",
        "control characters": 'classes: ["a\\e[31m\\nb"]\nwidth: "\\e[2J\\n"\nheight: 2',
        "not UTF-8": b"\xff\xfe\x00",
        "NUL": b"a\x00",
        "unclosed": "a: 'b",
        "tab": "a:\n\t- b",
        "two documents": "a: 1\n---\nb: 2",
        "merge": "<<: 3",
        "base 60": "width: 1:99:99:99:99:99:99:99:99:99:99",
        "binary": "name: !!binary '@@'",
        "set": "!!set {a, b}",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("laughs", "large", "long key", "deep", "deep mapping", "odd date", "long number", "list as a key"),
        *("list in a list as a key", "object", "control characters", "not UTF-8", "NUL", "unclosed", "tab"),
        *("two documents", "merge", "base 60", "binary", "set"),
    ],
)
def test_hostile_yaml_is_a_short_line(tmp_path, kind):
    content = bomb(kind)
    path = tmp_path / "evil.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.monotonic()
    with pytest.raises(InputError, match=r"evil\.yaml: ") as error:
        get_sensor(path)
    assert time.monotonic() - start < 5
    message = str(error.value).removeprefix(str(path))
    assert len(message) <= 200
    assert message.isprintable()


def test_what_is_no_path_of_a_sensor_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for sensor in (tmp_path, tmp_path / "pipe", "a\x00b", "x" * 5000, "", 5, None, ["gen1"]):
        with pytest.raises(InputError, match=r"gen1, gen4") as error:
            get_sensor(sensor)
        assert len(str(error.value)) < 500


def test_a_record_of_other_fields_is_an_input_error(tmp_path):
    good = asdict(get_sensor("gen4"))
    assert Sensor.from_entries(good, "a.ckpt") == get_sensor("gen4")
    assert Sensor.from_entries(json.loads(json.dumps(good)), "a.ckpt") == get_sensor("gen4")
    for wrong in (
        {**good, "lens": 3},
        {"name": "a"},
        [],
        3,
        {**good, "width": "wide"},
        {**good, "classes": None},
    ):
        with pytest.raises(InputError, match=r"a\.ckpt: "):
            Sensor.from_entries(wrong, "a.ckpt")


def test_classes_of_label_files_are_mapped(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "width: 9\nheight: 9\nclasses: [car, Person]\nclass_map: {Van: CAR, 7: person, tram: null}\n"
    )
    sensor = get_sensor(path)
    found = {label: sensor.class_of(label) for label in ("car", "CAR ", "van", "person", "7", "Tram", "bus")}
    assert found == {"car": 0, "CAR ": 0, "van": 0, "person": 1, "7": 1, "Tram": None, "bus": 2}
    assert Sensor.from_entries(json.loads(json.dumps(asdict(sensor))), path) == sensor

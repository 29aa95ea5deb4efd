import json

import numpy as np
import pytest

from ssmbook.dataset import Sensor, get_sensor
from ssmbook.dataset.labels import (
    EARLY,
    NO_CLASS,
    NO_EVENTS,
    OFF_GRID,
    OTHER_CLASS,
    OUTSIDE,
    SMALL,
    WIDE,
    crop_boxes,
    filter_boxes,
    find_label_frames,
    label_interval_us,
    plan_labels,
    read_labels,
    window_ends,
)
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE

GEN1, GEN4 = get_sensor("gen1"), get_sensor("gen4")


def make_boxes(*rows):
    """Boxes from rows t, x, y, w, h, class."""
    boxes = np.zeros(len(rows), BOX_DTYPE)
    for box, row in zip(boxes, rows, strict=True):
        box["t"], box["x"], box["y"], box["w"], box["h"], box["class_id"] = row
    return boxes


def xywh(boxes):
    return [tuple(float(box[key]) for key in "xywh") for box in boxes]


def test_crop_keeps_what_is_inside():
    boxes = make_boxes(
        (0, -10, 5, 30, 20, 0),  # sticks out to the left
        (0, 290, 230, 60, 40, 0),  # sticks out to the lower right
        (0, 303, 0, 20, 20, 0),  # touches the last column only: empty
        (0, -50, 0, 40, 40, 0),  # outside
        (0, 5, 6, 7, 8, 0),
    )
    assert xywh(crop_boxes(boxes, 240, 304)) == [(0, 5, 20, 20), (290, 230, 13, 9), (5, 6, 7, 8)]
    assert boxes["x"][0] == -10, "the boxes given are left as they are"


def test_gen1_filter_edges_are_kept():
    boxes = make_boxes(
        (0, 0, 0, 18, 24, 0),  # diagonal 30
        (0, 0, 0, 18, 23.9, 0),
        (0, 0, 0, 10, 40, 0),
        (0, 0, 0, 9.9, 40, 0),
        (0, 0, 0, 40, 9.9, 0),
        (0, 0, 0, 273, 40, 0),  # ⌊9 · 304 / 10⌋ = 273
        (0, 0, 0, 274, 40, 0),
    )
    assert [w for _, _, w, _ in xywh(filter_boxes(boxes, GEN1))] == [18, 10, 273, 274]
    assert [w for _, _, w, _ in xywh(filter_boxes(boxes, GEN1, training=True))] == [18, 10, 273]


def test_the_crop_comes_before_the_filter():
    boxes = make_boxes((0, -5, 0, 14, 40, 0))
    assert len(filter_boxes(boxes, GEN1)) == 0


def test_gen4_drops_other_classes_and_small_sides_only():
    boxes = make_boxes((0, 0, 0, 5, 5, 2), (0, 0, 0, 50, 50, 3), (0, 0, 0, 4, 50, 0))
    assert xywh(filter_boxes(boxes, GEN4)) == [(0, 0, 5, 5)]


def test_a_class_that_the_sensor_has_not_is_an_error():
    with pytest.raises(InputError, match="class id 2 is not one of car, pedestrian"):
        filter_boxes(make_boxes((0, 0, 0, 50, 50, 2)), GEN1)


@pytest.mark.parametrize(("hertz", "every"), [(30, 3), (60, 6)])
def test_interval_of_gen4_is_about_100_ms(hertz, every):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.integers(1e6 / hertz - 200, 1e6 / hertz + 200, size=50))
    assert label_interval_us(times, GEN4) == int(every * np.median(np.diff(times)))
    assert label_interval_us(times, GEN1) == 250_000


def test_interval_of_a_single_time_and_of_another_rate():
    assert label_interval_us(np.array([123_456]), GEN4) == 100_000
    times = np.arange(10) * 40_000
    with pytest.raises(InputError, match=r"25\.0 Hz, not 30 or 60"):
        label_interval_us(times, GEN4)
    assert label_interval_us(times, Sensor("any", 9, 9, ("a",), label_interval_ms=40)) == 40_000


def test_label_frames_follow_the_previous_one_within_2_ms():
    times = np.array(
        [99_999, 100_000, 101_500, 350_000 + 2_000, 602_000 + 2_001, 1_102_000 + 2_000, 1_200_000]
    )
    frames, intervals = find_label_frames(times, 250_000)
    # 101,500 is no interval away, 604,001 is 2,001 µs off, 1,104,000 is 2,000 off three intervals.
    assert frames.tolist() == [100_000, 352_000, 1_104_000]
    assert intervals.tolist() == [1, 3]


def test_windows_run_back_from_the_first_label_frame_without_the_earliest():
    ends, at = window_ends(np.array([230_000]), np.array([], np.int64), 50_000)
    assert ends.tolist() == [80_000, 130_000, 180_000, 230_000]
    assert at.tolist() == [3]
    ends, at = window_ends(np.array([100_000]), np.array([], np.int64), 50_000)
    assert (ends.tolist(), at.tolist()) == ([100_000], [0])  # 50,000 is the earliest; 0 is not > 0
    ends, at = window_ends(np.array([100_000]), np.array([], np.int64), 200_000)
    assert (ends.tolist(), at.tolist()) == ([100_000], [0])


def test_the_grids_between_label_frames():
    frames, intervals = np.array([100_000, 350_001]), np.array([1])
    exact, at = window_ends(frames, intervals, 50_000, "exact")
    assert exact.tolist() == [100_000, 150_000, 200_000, 250_000, 300_000, 350_001]
    assert at.tolist() == [0, 5]
    published, at = window_ends(frames, intervals, 50_000, "published")
    assert published.tolist() == [100_000, 225_000, 350_001]  # 8 Hz on Gen1, and truncated
    assert at.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("grid", "stride_ms"),
    [*[("exact", s) for s in (5, 7, 12.5, 50, 400)], *[("published", s) for s in (5, 12.5, 50)]],
)
def test_every_label_frame_ends_a_window(grid, stride_ms):
    rng = np.random.default_rng(1)
    n = rng.integers(1, 4, size=30)
    times = 130_000 + np.concatenate([[0], np.cumsum(n * 50_000 + rng.integers(-900, 900, size=30))])
    boxes = make_boxes(*[(t, 10, 10, 30, 40, 1) for t in rng.permutation(np.repeat(times, 2))])
    stride_us = round(1000 * stride_ms)
    plan, _ = plan_labels(boxes, Sensor.simulated(304, 240), stride_us, grid)
    assert (
        plan.window_ends_us[plan.window_of_frame].tolist() == plan.frame_times_us.tolist() == times.tolist()
    )
    steps = np.diff(plan.window_ends_us)
    assert (steps > 0).all()
    if grid == "exact" and stride_ms <= 50:
        assert abs(steps - stride_us).max() < stride_us / 4
    assert plan.boxes["t"][plan.first_box].tolist() == times.tolist()
    assert len(plan.boxes) == 2 * len(times)
    for array in (plan.first_box, plan.frame_times_us, plan.window_ends_us, plan.window_of_frame):
        assert array.dtype == np.int64


def test_boxes_between_label_frames_are_left_out():
    boxes = make_boxes(*[(t, 10, 10, 30, 40, 0) for t in (50_000, 250_000, 375_000, 500_000)])
    plan, _ = plan_labels(boxes, GEN1, 50_000)
    assert plan.boxes["t"].tolist() == [250_000, 500_000]
    assert plan.first_box.tolist() == [0, 1]


def test_without_a_label_that_counts_there_is_no_plan():
    assert plan_labels(make_boxes(), GEN1, 50_000)[0] is None
    assert plan_labels(make_boxes((250_000, 0, 0, 5, 5, 0)), GEN1, 50_000)[0] is None
    assert plan_labels(make_boxes((99_999, 0, 0, 50, 50, 0)), GEN1, 50_000)[0] is None
    assert plan_labels(make_boxes((100_000, 0, 0, 50, 50, 0)), GEN1, 50_000)[0] is not None


# What becomes of boxes

MINE = Sensor("mine", 304, 240, ("car", "pedestrian"), label_interval_ms=50, min_side=10)


def test_boxes_within_2_ms_of_a_label_frame_belong_to_it():
    times = (98_000, 100_000, 100_001, 102_000, 102_001, 148_500, 150_000, 151_999)
    plan, counts = plan_labels(make_boxes(*[(t, 10, 10, 30, 40, 0) for t in times]), MINE, 50_000)
    assert plan.frame_times_us.tolist() == [100_000, 148_500]
    assert plan.boxes["t"].tolist() == [100_000] * 4 + [148_500] * 2, "a box has the time of its label frame"
    assert plan.first_box.tolist() == [0, 4]
    assert (counts.read, counts.kept, counts.dropped[OFF_GRID]) == (8, 6, 2)
    plan, counts = plan_labels(
        make_boxes(*[(t, 10, 10, 30, 40, 0) for t in times]), MINE, 50_000, "published"
    )
    assert plan.boxes["t"].tolist() == [100_000, 148_500], "the published grid is that of the script"


def test_every_box_is_counted_once():
    rng = np.random.default_rng(0)
    reasons = set()
    for seed in range(40):
        n = 60
        t = rng.integers(0, 3_000_000, n) if seed % 2 else 50_000 * rng.integers(0, 60, n)
        rows = zip(
            t, rng.integers(-60, 340, n), rng.integers(-60, 280, n), rng.integers(-5, 300, n), rng.integers(-5, 99, n),
            rng.integers(0, 3, n), strict=True,
        )  # fmt: skip
        sensor = Sensor("any", 304, 240, ("a", "b"), 50, min_side=10, drop_other_classes=True)
        plan, counts = plan_labels(
            make_boxes(*rows), sensor, 50_000, training=bool(seed % 3), end_us=2_000_000
        )
        assert counts.read == counts.kept + sum(counts.dropped.values()) == n
        assert counts.kept == (0 if plan is None else len(plan.boxes))
        reasons |= {reason for reason, count in counts.dropped.items() if count}
    assert reasons == {OTHER_CLASS, OUTSIDE, SMALL, WIDE, EARLY, NO_EVENTS, OFF_GRID}


def test_counts_in_words_and_the_warning():
    times = [100_000 + 50_000 * i for i in range(40)]
    boxes = make_boxes(
        *[(t, 10, 10, 30, 40, 0) for t in times], (123_000, 10, 10, 30, 40, 0), (100_000, 0, 0, 5, 5, 1)
    )
    _, counts = plan_labels(boxes, MINE, 50_000)
    assert str(counts) == "42 boxes read, 40 kept; dropped: 1 too small, 1 off the grid"
    assert counts.warning(MINE) == "", "1 of 41 is a few"
    hand = np.sort(np.random.default_rng(0).integers(100_000, 1_000_000, 18))
    _, counts = plan_labels(make_boxes(*[(t, 10, 10, 30, 40, 0) for t in hand]), MINE, 50_000)
    assert "16 of 18 boxes are off the grid of 50 ms" in counts.warning(MINE)
    assert "label_times: own" in counts.warning(MINE)
    _, dense = plan_labels(
        make_boxes(*[(t, 10, 10, 30, 40, 0) for t in range(100_000, 200_000, 5000)]), MINE, 50_000
    )
    _, fitting = plan_labels(make_boxes(*[(t, 10, 10, 30, 40, 0) for t in times]), MINE, 50_000)
    for _ in range(9):  # what fits says nothing of what does not
        dense.add(fitting)
    assert "about 5 ms apart" in dense.warning(MINE)
    assert counts.warning(GEN4) == "", (
        "of 1 Mpx's labels, 2 of 3 or 5 of 6 are between label frames by design"
    )


def test_labels_at_their_own_times():
    rng = np.random.default_rng(0)
    times = np.sort(rng.choice(np.arange(20, 1000, 5), 18, replace=False)) * 1000
    times[5] = times[4] + 1500  # belongs to the one before
    own = Sensor("own", 304, 240, ("car",), 50, label_times="own")
    plan, counts = plan_labels(make_boxes(*[(t, 10, 10, 30, 40, 0) for t in times]), own, 50_000)
    assert (counts.kept, len(plan.frame_times_us)) == (18, 17)
    assert plan.window_ends_us[plan.window_of_frame].tolist() == plan.frame_times_us.tolist()
    assert (np.diff(plan.window_ends_us) > 0).all()
    assert np.diff(plan.window_ends_us).max() <= 75_000


def test_windows_start_where_events_start():
    late = 49_599_300_523
    boxes = make_boxes(*[(late + t, 10, 10, 30, 40, 0) for t in range(100_000, 1_000_000, 50_000)])
    near = make_boxes(*[(t, 10, 10, 30, 40, 0) for t in range(100_000, 1_000_000, 50_000)])
    plan, counts = plan_labels(boxes, MINE, 50_000, start_us=late)
    same, _ = plan_labels(near, MINE, 50_000)
    assert counts.kept == 18
    np.testing.assert_array_equal(plan.window_ends_us - late, same.window_ends_us)
    for start in (1, 20_000, 999_999):  # near 0: as published
        np.testing.assert_array_equal(
            plan_labels(near, MINE, 50_000, start_us=start)[0].window_ends_us, same.window_ends_us
        )
    with pytest.raises(InputError, match=r"the last label is 14 hours after the recording's start at 0 µs"):
        plan_labels(boxes, MINE, 2)


def test_labels_after_the_last_event_are_dropped_on_the_exact_grid_only():
    boxes = make_boxes(*[(t, 10, 10, 30, 40, 0) for t in range(100_000, 4_000_000, 50_000)])
    plan, counts = plan_labels(boxes, MINE, 50_000, end_us=1_000_000)
    assert plan.frame_times_us[-1] == 1_100_000
    assert (counts.kept, counts.dropped[NO_EVENTS]) == (21, 57)
    assert plan_labels(boxes, MINE, 50_000, "published", end_us=1_000_000)[1].kept == 78
    assert plan_labels(boxes, MINE, 50_000, end_us=-1_000_000)[0] is None


def test_classes_of_files_become_the_sensors(tmp_path):
    np.save(tmp_path / "a_bbox.npy", make_boxes(*[(100_000, 0, 0, 20, 20, c) for c in (0, 1, 7)]))
    names = {5: "CAR", 6: "Pedestrian", 7: "Tram\n"}
    content = {
        "images": [{"id": 1, "timestamp_us": 100_000}],
        "annotations": [{"image_id": 1, "category_id": c, "bbox": [0, 0, 20, 20]} for c in names],
        "categories": [{"id": c, "name": name} for c, name in names.items()],
    }
    (tmp_path / "a_bbox.json").write_text(json.dumps(content))
    for named, suffix in (("class id 7", ".npy"), (r"category 'Tram\\n'", ".json")):
        path = tmp_path / f"a_bbox{suffix}"
        with pytest.raises(
            InputError, match=f"{named} is not one of car, pedestrian; map it in the sensor's"
        ):
            read_labels(path, MINE)
        for options, wanted in (
            ({"drop_other_classes": True}, [0, 1, NO_CLASS]),
            ({"class_map": (("tram", None), ("7", None))}, [0, 1, NO_CLASS]),
            ({"class_map": (("Tram", "car"), ("7", "car"))}, [0, 1, 0]),
        ):
            sensor = Sensor("mine", 304, 240, ("car", "pedestrian"), 50, **options)
            boxes = read_labels(path, sensor)
            assert boxes["class_id"].tolist() == wanted
            assert len(filter_boxes(boxes, sensor)) == 3 - wanted.count(NO_CLASS)

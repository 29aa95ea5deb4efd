"""A recording to look at: every event in one window, a page that holds them all, pictures with boxes."""

import base64
import json
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageColor

from ssmbook import plots
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, Events, open_events, write_boxes, write_coco
from ssmbook.events.formats.writers import write_events
from ssmbook.live import view as viewing
from ssmbook.live.view import View, packed

WIDTH, HEIGHT = 60, 40


@pytest.fixture
def events():
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(1_000_000, 1_200_000, 3000))
    return Events(t, rng.integers(0, WIDTH, 3000), rng.integers(0, HEIGHT, 3000), rng.integers(0, 2, 3000))


@pytest.fixture
def recording(events, tmp_path):
    write_events(tmp_path / "a.h5", [events], WIDTH, HEIGHT)
    with open_events(tmp_path / "a.h5") as file:
        yield file


@pytest.fixture
def boxes(tmp_path):
    found = np.zeros(2, BOX_DTYPE)
    found["t"], found["class_id"], found["track_id"] = [1_040_000, 1_140_000], [0, 1], 5
    found["x"], found["y"], found["w"], found["h"] = 10, 10, 20, 15
    write_boxes(tmp_path / "a_bbox.npy", found)
    write_coco(tmp_path / "a_bbox.json", found, ("car", "pedestrian"), HEIGHT, WIDTH)
    return found


def test_the_part_that_a_page_can_hold_is_named(tmp_path, monkeypatch):
    t = np.array([0, 10, 20, 5_000_000_000])
    write_events(tmp_path / "a.npy", [Events(t, *(np.zeros(4, int) for _ in range(3)))], None, None)
    for most, part in ((4, "--start 0 --stop 4294967296"), (2, "--start 0 --stop 20")):
        monkeypatch.setattr(viewing, "MAX_EVENTS", most)
        with open_events(tmp_path / "a.npy") as recording:
            with pytest.raises(InputError, match=part):
                View(recording).write_page(tmp_path / "a.html")
            stop = int(part.rpartition(" ")[2])
            assert View(recording, stop_us=stop).write_page(tmp_path / "a.html") == min(most, 3)


@pytest.mark.parametrize("window_us", [1_000, 7_001, 1_000_000])
def test_windows_hold_each_event_once(recording, events, window_us):
    windows = list(View(recording, window_us).windows())
    start = int(events.t[0])
    assert [end for end, _ in windows] == [start + (k + 1) * window_us for k in range(len(windows))]
    for end, counts in windows:
        inside = (events.t >= end - window_us) & (events.t < end)
        wanted = np.zeros((2, HEIGHT, WIDTH), int)
        np.add.at(wanted, (events.p[inside], events.y[inside], events.x[inside]), 1)
        np.testing.assert_array_equal(counts, wanted)
    assert sum(counts.sum() for _, counts in windows) == len(events)


def test_a_part(recording, events):
    windows = list(View(recording, 10_000, start_us=1_050_000, stop_us=1_100_000).windows())
    assert sum(counts.sum() for _, counts in windows) == np.count_nonzero(
        (events.t >= 1_050_000) & (events.t < 1_100_000)
    )
    assert windows[0][0] == 1_060_000


def test_the_page_holds_every_event(recording, events, boxes, tmp_path):
    out = tmp_path / "a.html"
    assert View(recording, 50_000, str(tmp_path / "a_bbox.json")).write_page(out) == 3000
    page = out.read_text()
    data = zlib.decompress(base64.b64decode(re.search('const data = "([^"]*)"', page)[1]))
    about = json.loads(re.search(r"const about = (.*);\n", page)[1])
    n = about["count"]
    t = np.cumsum(np.frombuffer(data, "<u4", n).astype(np.int64)) + about["start_us"]
    np.testing.assert_array_equal(t, events.t)
    np.testing.assert_array_equal(np.frombuffer(data, "<u2", n, 4 * n), events.x)
    np.testing.assert_array_equal(np.frombuffer(data, "<u2", n, 6 * n), events.y)
    np.testing.assert_array_equal(np.frombuffer(data, "u1", n, 8 * n), events.p)
    assert (about["width"], about["height"], about["window_us"]) == (WIDTH, HEIGHT, 50_000)
    assert [row[0] + about["start_us"] for row in about["boxes"]] == boxes["t"].tolist()
    assert [row[5] for row in about["boxes"]] == ["car 5", "pedestrian 5"]
    assert not re.search(r"""(src|href)=(?!"data:,")|https?://""", page)  # nothing is fetched


def test_a_name_cannot_end_the_script(events, tmp_path):
    path = tmp_path / "<!--a<script>.h5"
    write_events(path, [events], WIDTH, HEIGHT)
    with open_events(path) as file:
        View(file).write_page(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert page.count("<script") == page.count("</script>") == 2  # the shared head's and its own


def test_pictures_have_boxes_where_they_are(recording, boxes, tmp_path):
    view = View(recording, 50_000, str(tmp_path / "a_bbox.npy"))
    assert view.write_pictures(tmp_path / "pictures") == 4
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert [int(name[:12]) for name in names] == [end for end, _ in view.windows()]
    picture = np.asarray(Image.open(tmp_path / "pictures" / names[0]))
    edge = (picture[100, 100:300] == ImageColor.getrgb(plots.CLASS_COLOURS[0])).all(-1)
    assert 0.4 < edge.mean() < 0.8  # dashed
    with pytest.raises(InputError, match="give the name of a new folder"):
        view.write_pictures(tmp_path / "pictures")
    with pytest.raises(InputError, match="more than 3 windows"):
        view.write_pictures(tmp_path / "more", limit=3)
    assert not (tmp_path / "more").exists()
    assert view.write_pictures(tmp_path / "one.png") == 1
    assert view.write_video(tmp_path / "a.gif", speed=0.5) == 4


def test_mistakes_are_named(recording, tmp_path, monkeypatch):
    monkeypatch.setattr(viewing, "MAX_EVENTS", 100)
    with pytest.raises(
        InputError, match="a page holds 100 events and 71 minutes; give --start 1000038 --stop 1006106"
    ):
        View(recording).write_page(tmp_path / "a.html")
    with pytest.raises(InputError, match="a window of 0 µs"):
        View(recording, 0)
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize(
    ("start_us", "stop_us", "part"),
    [
        (1_150_000, 1_050_000, "from 1150000 µs to 1050000 µs"),
        (1_150_000, 1_150_000, "from 1150000 µs to 1150000 µs"),
        (2_000_000, None, "from 2000000 µs on"),
        (None, 1000, "to 1000 µs"),
    ],
)
def test_a_part_without_events_is_refused(recording, start_us, stop_us, part):
    with pytest.raises(
        InputError, match=rf"a\.h5: has no events to look at .*{part}; it lasts from 100.* to 1199"
    ):
        View(recording, 10_000, "", start_us, stop_us)


def test_a_recording_without_a_size_gets_the_smallest(events, tmp_path):
    write_events(tmp_path / "a.npy", [events], None, None)
    with open_events(tmp_path / "a.npy") as file:
        view = View(file)
        assert (view.width, view.height) == (WIDTH, HEIGHT)
        assert sum(counts.sum() for _, counts in view.windows()) == len(events)


def test_no_events_are_packed():
    assert zlib.decompress(base64.b64decode(packed(Events.empty(), 0))) == b""


def test_it_needs_no_torch():
    code = "import ssmbook.live.view, ssmbook.live.page, ssmbook.live.play, ssmbook.live.transport, sys"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert run.stdout.strip() == "False", run.stderr

"""The two pages in a real browser (extra `browser`, and Chromium): drawn, scrubbed, without a fault."""

import time

import numpy as np
import pytest

from ssmbook import plots
from ssmbook.events import BOX_DTYPE, DatWriter, StackedHistogram, open_events
from ssmbook.live.page import LivePage
from ssmbook.live.view import View
from tests.live.test_stream import END_US, SENSOR, SIZE, random_events

# How many pixels of the canvas have a colour, given as #rrggbb, and the sum of all.
COUNT = """colour => {
  const view = document.getElementById("view"), pen = view.getContext("2d");
  const data = pen.getImageData(0, 0, view.width, view.height).data;
  const wanted = [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));
  let found = 0, sum = 0;
  for (let i = 0; i < data.length; i += 4) {
    found += wanted.every((value, c) => data[i + c] === value);
    sum += data[i] + 3 * data[i + 1] + 7 * data[i + 2] * (i % 251);
  }
  return [found, sum];
}"""
COLOUR = plots.CLASS_COLOURS[1]  # that no palette has


@pytest.fixture
def page(chromium):
    """A page that must not have logged a word when the test ends."""
    said, context = [], chromium.new_context(viewport={"width": 900, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: "willReadFrequently" in message.text or said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    assert said == []
    context.close()


def boxes_at(*times_us):
    boxes = np.zeros(len(times_us), BOX_DTYPE)
    boxes["t"] = times_us
    boxes["x"], boxes["y"], boxes["w"], boxes["h"], boxes["class_id"], boxes["track_id"] = 8, 20, 30, 24, 1, 7
    return boxes


def wait_for(page, condition):
    """Until an expression holds; the live page forbids that a browser evaluates strings while it waits."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        time.sleep(0.05)
    raise AssertionError(condition)


def set_value(page, name, value):
    page.evaluate(
        "([name, value]) => { const e = document.getElementById(name); e.value = value; e.oninput(); }",
        [name, value],
    )


def test_the_view_is_drawn_and_scrubbed(page, tmp_path):
    with DatWriter(tmp_path / "a_td.dat", SIZE, SIZE) as file:
        file.write(random_events())
    np.save(tmp_path / "boxes.npy", boxes_at(50_000, 100_000))
    with open_events(tmp_path / "a_td.dat") as recording:
        View(recording, boxes=str(tmp_path / "boxes.npy")).write_page(tmp_path / "view.html")
    page.goto((tmp_path / "view.html").as_uri())
    wait_for(page, "document.title === 'a_td.dat'")
    shown = page.inner_text("#shown")
    framed, first = page.evaluate(COUNT, COLOUR)
    assert framed > 500
    page.click("#boxes")
    bare, _ = page.evaluate(COUNT, COLOUR)
    assert bare == 0
    set_value(page, "time", END_US // 2)
    assert page.inner_text("#shown").startswith("0.2000 s")
    assert page.inner_text("#shown") != shown
    sums = [page.evaluate(COUNT, COLOUR)[1]]
    for name, value in (("window", 5), ("polarity", "ON"), ("palette", "dark")):
        set_value(page, name, value)
        sums.append(page.evaluate(COUNT, COLOUR)[1])
    assert len({first, *sums}) == 5
    page.click("#play")
    wait_for(page, "Number(document.getElementById('time').value) != 200000")
    with page.expect_download() as saved:
        page.click("#save")
    assert saved.value.suggested_filename.endswith("us.png")


def test_the_live_page_shows_each_window(page):
    represent = StackedHistogram.for_sensor(SENSOR)
    live = LivePage("127.0.0.1", 0)
    try:
        page.goto(live.url)
        assert page.inner_text("#state") == "waiting for events"
        live.begin(SENSOR.classes, represent)
        for k, boxes in enumerate((boxes_at(50_000), boxes_at()), 1):
            frame = np.full(represent.shape, k, np.uint8)
            for _ in range(100):  # until the browser listens and has drawn it
                live.show(frame, Found(50_000 * k, boxes), {"windows": k, "boxes": 17, "latency_ms": 2.5})
                time.sleep(0.05)
                if page.inner_text("#windows") == str(k) and page.inner_text("#boxes") == str(len(boxes)):
                    break
            wait_for(page, "document.getElementById('view').width >= 640")
            time.sleep(0.1)  # the picture is decoded
            framed, _ = page.evaluate(COUNT, COLOUR)
            assert (framed > 500) == bool(len(boxes))
        live.note("2 windows dropped so far")
        wait_for(page, "document.getElementById('lines').innerText.includes('2 windows dropped')")
        assert page.inner_text("#last") == "2.5 ms"
        assert page.inner_text("#state") == "· connected"
    finally:
        page.close()
        live.close()


class Found:
    """As ``Detections``, without torch."""

    def __init__(self, t_us, boxes):
        self.t_us, self.boxes = t_us, boxes

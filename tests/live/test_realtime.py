"""Live detection equals that of the recording where nothing is dropped; what is dropped, lost or odd is told."""

import http.client
import json
import os
import socket
import threading
import time
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.events import DatWriter, Events, open_events
from ssmbook.live import StreamingDetector, Tracker, realtime, transport
from ssmbook.live.page import LivePage
from ssmbook.live.play import PACKET_US, play
from ssmbook.live.realtime import LiveStats, detect_live
from ssmbook.live.transport import open_source, open_target
from ssmbook.live.wire import END_US, Message
from tests.live.test_stream import SENSOR, SIZE, model_of, random_events


class FakeNetwork:
    """In the place of a network: so long for each frame, and no boxes."""

    def __init__(self, stream, seconds=0.0):
        self.frames, self.resets = [], 0
        stream.push_frame = lambda frame, end: self.run(frame, end, seconds)
        stream.reset_state = self.reset

    def run(self, frame, end, seconds):
        from ssmbook.events import BOX_DTYPE
        from ssmbook.live import Detections

        time.sleep(seconds)
        self.frames.append((end, int(frame.sum())))
        return Detections(end, np.zeros(0, BOX_DTYPE))

    def reset(self):
        self.resets += 1


@pytest.fixture
def stream():
    return StreamingDetector(model_of().float(), SENSOR)


@pytest.fixture
def recording(tmp_path):
    with DatWriter(tmp_path / "a_td.dat", SIZE, SIZE) as file:
        file.write(random_events())
    return tmp_path / "a_td.dat"


def packets(events, end_us):
    for start in range(0, end_us, 5000):
        inside = (events.t >= start) & (events.t < start + 5000)
        yield Message(events[inside], start + 4999)


def run(stream, messages, **options):
    stats, told = LiveStats(), []
    windows = list(detect_live(stream, iter(messages), stats, told.append, **options))
    return windows, stats, told


def test_boxes_are_those_of_the_stream(stream, monkeypatch):
    monkeypatch.setattr(realtime, "BACKLOG", 100)
    events = random_events()
    windows, stats, told = run(stream, packets(events, 400_000), tracker=Tracker())
    expected = StreamingDetector(model_of().float(), SENSOR).push(events, now_us=int(events.t[-1]))
    assert (len(windows), stats.dropped, told) == (len(expected), 0, [])
    assert (stats.events, stats.boxes) == (6000, sum(len(d.boxes) for d in expected))
    assert stats.boxes > 0
    for window, wanted in zip(windows, expected, strict=True):
        assert window.found.t_us == wanted.t_us
        np.testing.assert_allclose(window.found.boxes["x"], wanted.boxes["x"], rtol=1e-5, atol=1e-3)
        assert window.latency_s > 0
        assert (window.found.boxes["track_id"] > 0).all()


def test_a_slow_network_drops_the_oldest_windows_and_says_how_many(stream):
    network = FakeNetwork(stream, 0.05)
    windows, stats, told = run(stream, packets(random_events(), 400_000))
    assert stats.windows == len(windows) == len(network.frames)
    assert stats.windows + stats.dropped == 7
    assert stats.dropped >= 2
    assert network.frames[-1][0] >= 350_000  # the newest is never dropped
    assert any("windows dropped so far" in line for line in told)
    assert f"{stats.dropped:,} windows dropped" in str(stats)


def test_after_dropped_windows_the_step_is_as_long_as_the_time_that_passed():
    stream = StreamingDetector(model_of().float(), SENSOR, follow=True)
    step, gaps, begun, sent = stream.step, [], threading.Event(), threading.Event()

    def slow(frame, gap):  # all other windows come while it is at the first
        begun.set()
        assert sent.wait(60)
        time.sleep(0.05)
        gaps.append(gap)
        return step(frame, gap)

    def messages():
        for message in packets(random_events(), 400_000):
            if message.now_us > 80_000:  # the first window has been complete for a while
                assert begun.wait(60)
            yield message
        sent.set()

    slow.frame = step.frame
    stream.step = slow
    windows, stats, _ = run(stream, messages())
    ends = np.array([window.found.t_us for window in windows])
    assert stats.dropped >= 2
    assert gaps == [1.0, *(np.diff(ends) / 50_000)]
    assert max(gaps) > 1


def test_a_message_in_which_the_clock_goes_back_counts_whole(stream):
    network = FakeNetwork(stream)
    first, second = random_events(end_us=400_000), random_events(end_us=200_000, seed=1)
    whole = Events.concatenate([first, second])
    _, stats, told = run(stream, [Message(whole, None, 0)])
    assert (stats.restarts, network.resets) == (1, 1)
    assert sum("goes back" in line for line in told) == 1
    assert stats.windows + stats.dropped == 7 + 3


def test_events_a_second_are_of_all_messages():
    stats = LiveStats()
    for _ in range(5000):
        stats.count(2048)
    assert stats.events_per_s() == 5000 * 2048
    stats._recent[0] = (stats._recent[0][0] - 2, 2048)
    stats.count(1)
    assert (stats.events_per_s(), len(stats._recent)) == (4999 * 2048 + 1, 5000)


def test_memory_does_not_grow(stream):
    FakeNetwork(stream, 0.002)
    sizes = []

    def endless():
        for k in range(300):
            piece = random_events(2000, k * 50_000, (k + 1) * 50_000, seed=k)
            yield Message(piece, None, k)
            if k % 10 == 9:
                sizes.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    for _ in detect_live(stream, endless(), LiveStats(), print):
        pass
    tracemalloc.stop()
    assert max(sizes[15:]) < max(sizes[5:15]) + 300_000


def test_a_clock_that_goes_back_begins_the_stream_anew(stream):
    network = FakeNetwork(stream)
    events = random_events()
    messages = [*packets(events, 400_000), *packets(events, 400_000)]
    _, stats, told = run(stream, messages)
    assert (stats.restarts, network.resets) == (1, 1)
    assert any("goes back" in line and "begins anew" in line for line in told)
    assert stats.windows + stats.dropped == 14


def test_silence_and_a_clock_that_stands_are_told(stream, monkeypatch):
    monkeypatch.setattr(realtime, "SILENCE_S", 0.3)
    monkeypatch.setattr(realtime, "STILL_S", 0.1)
    FakeNetwork(stream)

    def messages():
        still = Events(*(np.full(10, v) for v in (1000, 1, 1, 1)))
        for _ in range(4):
            yield Message(still)
            time.sleep(0.06)
        time.sleep(1.0)
        yield Message(random_events(100, 50_000, 90_000))

    _, stats, told = run(stream, messages())
    for words in ("stands at 1000 µs", "no events for 0.3 s", "events again, after 1."):
        assert sum(words in line for line in told) == 1
    assert stats.windows == 1


def test_lost_messages_and_events_outside_are_counted(stream, monkeypatch):
    FakeNetwork(stream)
    good, bad = random_events(100), Events(*(np.array([v]) for v in (200_000, 99, 0, 1)))
    messages = [Message(good[:50], None, 2**32 - 2), Message(good[50:], None, 1), Message(bad, None, 5)]
    _, stats, _ = run(stream, messages)
    assert (stats.lost, stats.outside) == (2 + 3, 1)
    for few in (realtime.FEW, 0):  # when the stream has ended; at once
        monkeypatch.setattr(realtime, "FEW", few)
        with pytest.raises(
            InputError,
            match=r"1 of 1 events lie outside 64 × 64 px, as x = 99, y = 0; give the camera's --size",
        ):
            run(stream, [Message(bad)])


def test_play_sends_every_event_at_its_time(recording):
    sent, began = [], time.monotonic()
    with open_events(recording) as file:
        played = play(file, lambda m: sent.append((time.monotonic() - began, m)), speed=2)
    events = random_events()
    for name in "txyp":
        got = np.concatenate([getattr(m.events, name) for _, m in sent])
        np.testing.assert_array_equal(got, getattr(events, name))
    assert played.events == 6000
    assert len(sent) == 1 + (int(events.t[-1]) - int(events.t[0])) // PACKET_US
    for at, message in sent:
        assert (
            at >= (message.now_us + 1 - int(events.t[0])) / 2e6 - 1e-3
        )  # never before it can have been seen
        assert len(message.events) == 0 or message.events.t[-1] <= message.now_us
        assert message.size == (SIZE, SIZE)
    with open_events(recording) as file:
        part = play(file, lambda m: None, 100, 100_000, 200_000)
        assert part.events == np.count_nonzero((events.t >= 100_000) & (events.t < 200_000))
        with pytest.raises(InputError, match="speed is 0"):
            play(file, lambda m: None, 0)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("way", ["udp", "pipe", "text"])
def test_what_is_sent_arrives(way, tmp_path):
    name = f"udp://127.0.0.1:{free_port()}" if way == "udp" else str(tmp_path / "pipe")
    if way != "udp":
        os.mkfifo(name)
    events, told = random_events(), []

    def send():
        time.sleep(0.1)
        with open_target(name, text=way == "text") as target:
            for message in packets(events, 400_000):
                target(message._replace(size=(SIZE, SIZE)))
            target(Message(events, 400_000))  # more than a datagram holds

    thread = threading.Thread(target=send)
    thread.start()
    with open_source(name, told.append) as messages:
        if way == "udp":
            spoil(name)
        found = list(messages)
    thread.join()
    got = Events.concatenate([m.events for m in found])
    for attribute in "txyp":
        whole = np.concatenate([getattr(events, attribute)] * 2)
        np.testing.assert_array_equal(getattr(got, attribute), whole)
    if way != "text":
        assert found[0].size == (SIZE, SIZE)
        assert [m.number for m in found] == list(range(len(found)))
        assert found[-1].now_us == END_US
    assert len(told) == (way == "udp")


@pytest.mark.parametrize("held", [1 << 26, 50_000])
def test_what_comes_by_udp_while_the_network_loads_is_kept_or_told(held, monkeypatch):
    """Ten times as much as the system's buffer holds, sent before the first message is read."""
    monkeypatch.setattr(transport, "HELD", held)
    monkeypatch.setattr(transport, "BUFFER", 1 << 15)
    name, told = f"udp://127.0.0.1:{free_port()}", []
    events = random_events(20_000)
    with open_source(name, told.append) as messages:
        with open_target(name) as target:
            for k in range(0, 20_000, 500):
                target(Message(events[k : k + 500]))
                time.sleep(0.005)
        time.sleep(0.3)
        found = list(messages)
    lost = sum(b.number - a.number - 1 for a, b in pairwise(found))
    if held == 1 << 26:
        assert sum(len(message.events) for message in found) == 20_000
        assert (told, lost) == ([], 0)
    else:
        assert sum(len(message.events) for message in found) < 20_000
        assert any("datagrams dropped" in line for line in told)
        assert found[-1].is_end


def spoil(name):
    """A datagram that is no message."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", ("127.0.0.1", int(name.rpartition(":")[2])))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("udp://127.0.0.1", "is no address; write udp://127.0.0.1:9000"),
        ("udp://127.0.0.1:99999", "is no address"),
        ("udp://192.0.2.1:9000", "give another address or port"),
        ("missing", "give -, udp://HOST:PORT, or a pipe: mkfifo NAME"),
        (__file__, "is no pipe; a recording is read without --live"),
    ],
)
def test_sources_that_are_none(name, message):
    with pytest.raises(InputError, match=message), open_source(name, print):
        pass


def get(url, path, headers=None):
    connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=20)
    connection.request("GET", path, headers=headers or {})
    return connection.getresponse()


@pytest.mark.parametrize(
    ("host", "given", "status"),
    [
        ("127.0.0.1", "LocalHost:{}", 200),
        ("127.0.0.1", "localhost:1", 403),
        ("127.0.0.1", "localhost:x", 403),
        ("::1", "[::1]:{}", 200),
        ("::", "camera.local:{}", 200),
    ],
)
def test_the_page_is_found_under_its_names_alone(host, given, status):
    try:
        page = LivePage(host, 0)
    except InputError:
        pytest.skip("no IPv6 here")
    try:
        port = page.url.rstrip("/").rpartition(":")[2]
        url = page.url.replace("[::]", "[::1]")
        assert get(url, "/", {"Host": given.format(port)}).status == status
    finally:
        page.close()


def test_the_page_shows_windows_as_they_come(stream):
    page = LivePage("127.0.0.1", 0)
    try:
        home = get(page.url, "/")
        assert home.status == 200
        assert b"EventSource" in home.read()
        assert get(page.url, "/windows", {"Host": "evil.example"}).status == 403
        response = get(page.url, "/windows")
        assert response.getheader("Content-Type") == "text/event-stream"
        response.readline(), response.readline()  # what there was before
        page.note("no events for 2 s")
        page.begin(SENSOR.classes, stream.represent)
        found = stream.push_frame(np.zeros((20, SIZE, SIZE), np.uint8), 50_000)
        for _ in range(3):
            page.show(
                np.zeros((20, SIZE, SIZE), np.uint8),
                found,
                {**LiveStats(windows=1).facts(), "latency_ms": 2.5},
            )
            time.sleep(0.05)
        shown = {}
        while "image" not in shown:  # the line alone may come first
            shown = json.loads(response.readline().removeprefix(b"data: ") or b"{}")
            response.readline()
        assert (shown["t_us"], shown["width"], shown["windows"]) == (50_000, SIZE, 1)
        assert len(shown["boxes"]) == len(found.boxes) > 0
        assert shown["image"].startswith("data:image/png;base64,")
        assert shown["notes"][0].endswith("no events for 2 s")
        with pytest.raises(InputError, match="give another port"):
            LivePage("127.0.0.1", int(page.url.split(":")[2].strip("/")))
    finally:
        page.close()

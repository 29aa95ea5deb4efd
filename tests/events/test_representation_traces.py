"""Traces against the sum that defines them, and that nothing depends on how a stream is cut or when it is read."""

from itertools import pairwise

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.events import Events, Traces

H, W = 6, 9


def random_events(rng, n, span=200_000, height=H, width=W, start=10**12):
    t = np.sort(rng.integers(start, start + span + 1, n))
    return Events(t, rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n))


def slow(ev, t_us, taus_ms=(2.5, 5, 10, 20), height=H, width=W):
    """The definition: s_k(t) = Σ exp(−(t − t_i)/τ_k) over the events up to t, then round(16 ln(1 + s)), at most 255."""
    s = np.zeros((2, len(taus_ms), height, width))
    for t, x, y, p in zip(*(c.tolist() for c in (ev.t, ev.x, ev.y, ev.p)), strict=True):
        if t <= t_us:
            s[p, :, y, x] += np.exp(-(t_us - t) / (1000 * np.array(taus_ms)))
    return np.minimum(255, np.round(16 * np.log1p(s))).astype(np.uint8).reshape(-1, height, width)


@pytest.mark.parametrize("taus_ms", [(2.5, 5, 10, 20), (7.3,), (0.01, 0.5, 10_000)])
@pytest.mark.parametrize("n", [0, 1, 30, 5_000])
@pytest.mark.parametrize("span", [0, 900, 60_000, 2**33])
def test_equal_to_the_sum(taus_ms, n, span):
    ev = random_events(np.random.default_rng(n + span % 1000), n, span)
    traces = Traces(H, W, taus_ms)
    traces.push(ev)
    end = 10**12 + span
    for t_us in (end, end + 1, end + 1023, end + 1024, end + 70_001, end + 2**40):
        assert np.array_equal(traces.read(t_us), slow(ev, t_us, taus_ms)), t_us


def test_every_value_and_saturation():
    # n events of one instant: s = n in all channels, from 1 to far beyond 255's e^(254.5/16) = 8.1 million.
    one = Events([5], [0], [0], [1])
    traces, n = Traces(1, 1), 0
    for count in [*range(1, 300), 10**3, 10**4, 10**6, 8_101_000, 8_103_500, 10**7]:
        more = count - n
        traces.push(Events(*(np.repeat(c, more) for c in (one.t, one.x, one.y, one.p))))
        n = count
        want = min(255, round(16 * np.log1p(n)))
        assert traces.read(5)[:, 0, 0].tolist() == [0] * 4 + [want] * 4


@pytest.mark.parametrize("seed", range(5))
def test_cuts_and_reads_change_no_byte(seed):
    rng = np.random.default_rng(seed)
    ev = random_events(rng, 3_000)
    end = int(ev.t[-1])
    whole, cut, single = Traces(H, W), Traces(H, W), Traces(H, W)
    whole.push(ev)
    for i, j in pairwise([0, *np.sort(rng.integers(0, 3_001, 40)).tolist(), 3_000]):
        cut.push(ev[i:j])
        if j:
            cut.read(int(ev.t[j - 1]) + (int(rng.integers(0, 10**6)) if j % 2 else 0))
    for i in range(len(ev)):
        single.push(ev[i : i + 1])
    for t_us in (end, end + 12_345):
        assert cut.read(t_us).tobytes() == single.read(t_us).tobytes() == whole.read(t_us).tobytes()
    assert cut._state.tobytes() == whole._state.tobytes()


def test_an_hour_does_not_drift():
    # 20,000 events in one pixel over an hour, then 200 in the last 50 ms: only these are left.
    rng = np.random.default_rng(0)
    hour = 3_600_000_000
    t = np.sort(np.concatenate([rng.integers(0, hour, 20_000), rng.integers(hour, hour + 50_000, 200)]))
    ev = Events(t, np.zeros_like(t), np.zeros_like(t), np.ones_like(t))
    traces = Traces(1, 1)
    for block in np.array_split(np.arange(len(ev)), 500):
        traces.push(ev[block])
    recent = ev[t > hour - 4_000_000]
    assert np.array_equal(traces.read(hour + 50_000), slow(recent, hour + 50_000, height=1, width=1))


@pytest.mark.parametrize(("height", "width"), [(6, 8), (7, 9), (41, 70)])
def test_halved_keeps_odd_pixels(height, width):
    ev = random_events(np.random.default_rng(1), 8_000, height=height, width=width)
    whole, halved = Traces(height, width), Traces(height, width, halve=True)
    for traces in (whole, halved):
        traces.push(ev)
    t_us = int(ev.t[-1]) + 500
    assert halved.shape == (8, height // 2, width // 2)
    assert np.array_equal(halved.read(t_us), whole.read(t_us)[:, 1::2, 1::2][:, : height // 2, : width // 2])


def test_read_into_an_array_and_reset():
    ev = random_events(np.random.default_rng(2), 500)
    traces = Traces(H, W)
    traces.push(ev)
    frames = np.full((3, *traces.shape), 77, np.uint8)
    traces.read(int(ev.t[-1]), frames[1])
    assert np.array_equal(frames[1], traces.read(int(ev.t[-1])))
    assert np.all(frames[[0, 2]] == 77)
    traces.reset()
    assert not traces.read(0).any()
    traces.push(Events([0], [1], [2], [0]))  # another recording, whose clock starts again
    assert traces.read(0).sum() == 4 * 11  # round(16 ln 2)


def test_wrong_input_is_named_and_takes_nothing():
    traces = Traces(H, W)
    traces.push(Events([100, 200], [1, 1], [1, 1], [0, 1]))
    before = traces.read(300).tobytes()
    for ev, message in (
        (Events([300, 300], [0, W], [0, 0], [0, 0]), "event 1 at x=9, y=0 lies outside the 9 × 6 frame"),
        (Events([300, 299], [0, 0], [0, 0], [0, 0]), "event 1 at 299 µs is earlier"),
        (Events([199], [0], [0], [0]), "event 0 at 199 µs is earlier than the last one, at 200 µs"),
    ):
        with pytest.raises(InputError, match=message):
            traces.push(ev)
    assert traces.read(300).tobytes() == before
    with pytest.raises(InputError, match="cannot read at 199 µs: an event at 200 µs"):
        traces.read(199)
    with pytest.raises(InputError, match=r"out must be an array of uint8 \[8, 6, 9\], not uint8 \[8, 5, 9\]"):
        traces.read(300, np.zeros((8, 5, 9), np.uint8))
    for taus in ((), (0,), (5, 5), (10, 5), (float("nan"),), (1e5,)):
        with pytest.raises(InputError, match="taus_ms"):
            Traces(H, W, taus)
    with pytest.raises(InputError, match="width = 0"):
        Traces(H, 0)


def test_defaults():
    traces = Traces()
    assert traces.taus_ms == (2.5, 5, 10, 20)
    assert (traces.channels, traces.shape, traces.dtype) == (8, (8, 240, 304), np.uint8)

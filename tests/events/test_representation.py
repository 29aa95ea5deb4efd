"""The representations against slow formulations of the specification, and what must hold for any window."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.events import REPRESENTATIONS, Events, MixedDensityStack, StackedHistogram

H, W = 6, 9


def random_window(rng, n, span=50_000):
    t = np.sort(rng.integers(10**12, 10**12 + span + 1, n))
    return Events(t, rng.integers(0, W, n), rng.integers(0, H, n), rng.integers(0, 2, n))


def float32_quotients(ev):
    """(t − t₀) / max(t₁ − t₀, 1), each difference a float32 before the division."""
    return (ev.t - ev.t[0]).astype(np.float32) / np.float32(max(ev.t[-1] - ev.t[0], 1))


def slow_stacked_histogram(ev, bins, cutoff):
    out = np.zeros((2 * bins, H, W), np.int64)
    if len(ev):
        b = np.minimum(np.floor(np.float32(bins) * float32_quotients(ev)).astype(int), bins - 1)
        np.add.at(out, (ev.p.astype(int) * bins + b, ev.y, ev.x), 1)
    return np.minimum(out, cutoff).astype(np.uint8)


def slow_mixed_density(ev, bins, cutoff):
    out = np.zeros((bins, H, W), np.int64)
    if len(ev):
        s = np.clip(float32_quotients(ev), np.float32(1e-6), np.float32(1 - 1e-6))
        depth = np.log(s.astype(np.float64)).astype(np.float32) / np.float32(np.log(0.5))
        b = np.floor(np.maximum(np.float32(bins) - depth, np.float32(0))).astype(int)
        np.add.at(out, (b, ev.y, ev.x), 2 * ev.p.astype(int) - 1)
    return np.clip(out.cumsum(axis=0), -cutoff, cutoff).astype(np.int8)


SLOW = {"stacked_histogram": slow_stacked_histogram, "mixeddensity_stack": slow_mixed_density}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("n", [0, 1, 2, 40, 20_000])
@pytest.mark.parametrize("span", [0, 1, 999, 50_000, 2**40])
def test_equal_to_the_slow_one(name, n, span):
    rng = np.random.default_rng(n + span % 1000)
    for bins, cutoff in ((10, 10), (10, 32), (5, 3), (1, 100)):
        ev = random_window(rng, n, span)
        out = REPRESENTATIONS[name](bins=bins, height=H, width=W, count_cutoff=cutoff)(ev)
        assert out.tobytes() == SLOW[name](ev, bins, cutoff).tobytes()


def test_time_bins_are_those_of_float32():
    # 3·2²⁴ − 1 does not fit into a float32: it rounds to 3·2²⁴, which is three tenths of the window.
    ev = Events([7, 7 + 3 * 2**24 - 1, 7 + 10 * 2**24], [0, 0, 0], [0, 0, 0], [0, 0, 0])
    assert np.flatnonzero(StackedHistogram(10, H, W)(ev)[:, 0, 0]).tolist() == [0, 3, 9]


def test_counts_are_the_events_while_below_the_cutoff():
    rng = np.random.default_rng(1)
    ev = random_window(rng, 500)
    out = StackedHistogram(10, H, W, 255)(ev)
    assert out.max() < 255
    assert out.sum() == 500
    assert out[10:].sum() == ev.p.sum()
    assert np.array_equal(out.sum(axis=0), np.histogram2d(ev.y, ev.x, (H, W), ((0, H), (0, W)))[0])


def test_last_channel_of_mixed_density_sums_the_window():
    ev = random_window(np.random.default_rng(2), 800)
    out = MixedDensityStack(10, H, W, 127)(ev)
    want = np.zeros((H, W), int)
    np.add.at(want, (ev.y, ev.x), 2 * ev.p.astype(int) - 1)
    assert np.array_equal(out[9], want)
    first_half = ev[(ev.t - ev.t[0]) * 2 < ev.t[-1] - ev.t[0]]
    want[:] = 0
    np.add.at(want, (first_half.y, first_half.x), 2 * first_half.p.astype(int) - 1)
    assert np.array_equal(out[8], want)


@pytest.mark.parametrize(("bins", "n"), [(10, 300), (1, 70_000)])
def test_sums_do_not_wrap(bins, n):
    # As many events in one pixel as 8 or 16 bits cannot count.
    zeros = np.zeros(n, np.uint16)
    ev = Events(np.arange(n), zeros, zeros, np.ones(n, np.uint8))
    assert StackedHistogram(bins, 1, 1, 10)(ev)[bins:].tolist() == [[[10]]] * bins
    assert MixedDensityStack(bins, 1, 1, 32)(ev)[-1].item() == 32


@pytest.mark.parametrize("bins", [16, 64, 127])
def test_many_bins_stay_inside(bins):
    ev = random_window(np.random.default_rng(3), 3000)
    assert MixedDensityStack(bins, H, W, 127)(ev).shape == (bins, H, W)
    assert np.abs(MixedDensityStack(bins, H, W, 127)(ev)[-1].astype(int)).sum() > 0


@pytest.mark.parametrize("name", SLOW)
def test_fill_clears_and_writes_into_a_frame_of_an_array(name):
    representation = REPRESENTATIONS[name](height=H, width=W)
    ev = random_window(np.random.default_rng(4), 200)
    frames = np.full((3, *representation.shape), 77, representation.dtype)
    representation.fill(ev, frames[1])
    assert np.array_equal(frames[1], representation(ev))
    assert np.all(frames[[0, 2]] == 77)
    assert not representation(Events.empty()).any()


@pytest.mark.parametrize("name", SLOW)
def test_a_frame_of_another_shape_or_type_is_refused(name):
    representation = REPRESENTATIONS[name](height=H, width=W)
    ev, (channels, *_) = random_window(np.random.default_rng(4), 200), representation.shape
    kind = representation.dtype.name
    for out, found in (
        (np.zeros((channels, H, W - 1), kind), rf"{kind} \[{channels}, 6, 8\]"),
        (np.zeros(representation.shape, np.int32), rf"int32 \[{channels}, 6, 9\]"),
        ([], "list"),
    ):
        for fill in (representation.fill, lambda ev, out: representation.write_frame([ev], 0, out)):
            with pytest.raises(InputError, match=rf"out must be .* {kind} \[{channels}, 6, 9\], not {found}"):
                fill(ev, out)


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("n", [0, 1, 50, 30_000])
@pytest.mark.parametrize(("height", "width"), [(H, W), (6, 8), (41, 70), (2, 2)])
def test_parts_and_halves_equal_the_whole(name, n, height, width):
    rng = np.random.default_rng(n + height)
    t = np.sort(rng.integers(0, 50_000, n))
    ev = Events(t, rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n))
    represent = REPRESENTATIONS[name](height=height, width=width)
    cuts = [0, *np.sort(rng.integers(0, n + 1, 4)).tolist(), n]
    parts = [ev[i:j] for i, j in pairwise(cuts)]
    whole = represent(ev)
    out = np.full(whole.shape, 77, whole.dtype)
    represent.write_frame(parts, 0, out)
    assert np.array_equal(out, whole)
    halved = np.full((len(whole), height // 2, width // 2), 77, whole.dtype)
    half = REPRESENTATIONS[name](height=height, width=width, halve=True)
    assert half.shape == halved.shape
    half.write_frame(parts, 0, halved)
    assert np.array_equal(halved, whole[:, 1::2, 1::2])


@pytest.mark.parametrize("name", SLOW)
def test_misplaced_events_are_named_by_index(name):
    representation = REPRESENTATIONS[name](height=H, width=W)
    columns = {"t": np.arange(5), "x": np.arange(5), "y": np.arange(5), "p": np.arange(5) % 2}
    for column, value, message in (
        ("x", W, "outside the 9 × 6 frame"),
        ("y", H, "outside"),
        ("t", 1, "earlier"),
    ):
        wrong = {key: values.copy() for key, values in columns.items()}
        wrong[column][3] = value
        with pytest.raises(InputError, match=f"event 3 .*{message}"):
            representation(Events(**wrong))


def test_names_shapes_and_arguments():
    histogram, mixed = StackedHistogram(), MixedDensityStack()
    assert (histogram.channels, histogram.shape, histogram.dtype) == (20, (20, 240, 304), np.uint8)
    assert (mixed.channels, mixed.shape, mixed.dtype) == (10, (10, 240, 304), np.int8)
    assert histogram.folder_name(window_ms=50.0) == "stacked_histogram_dt=50_nbins=10"
    assert histogram.folder_name(window_ms=2.5) == "stacked_histogram_dt=2.5_nbins=10"
    assert histogram.folder_name(window_events=5000) == "stacked_histogram_ne=5000_nbins=10"
    assert mixed.folder_name(window_ms=50) == "mixeddensity_stack_dt=50_nbins=10_cutoff=32"
    assert histogram.folder_name() == "stacked_histogram_dt=step_nbins=10"
    with pytest.raises(InputError, match="give one of the two, or none"):
        histogram.folder_name(window_ms=50, window_events=5000)
    with pytest.raises(InputError, match="count_cutoff = 256; it must be 1 to 255"):
        StackedHistogram(count_cutoff=256)
    with pytest.raises(InputError, match="count_cutoff = 128; it must be 1 to 127"):
        MixedDensityStack(count_cutoff=128)
    with pytest.raises(InputError, match="bins = 0"):
        StackedHistogram(bins=0)


def test_events_columns():
    ev = Events([3, 4, 4], np.array([1, 2, 3], np.int8), [4, 5, 6], np.array([-1, 1, 1]))
    assert (ev.t.dtype, ev.x.dtype, ev.y.dtype, ev.p.dtype) == ("int64", "uint16", "uint16", "uint8")
    assert ev.p.tolist() == [0, 1, 1]
    assert len(ev) == 3
    assert len(ev[1:]) == 2
    assert Events.concatenate([ev, Events.empty(), ev[:1]]).x.tolist() == [1, 2, 3, 1]
    assert len(Events.concatenate([])) == 0
    with pytest.raises(InputError, match="event 1 has x = -2"):
        Events([0, 0], [1, -2], [0, 0], [0, 0])
    with pytest.raises(InputError, match=r"have \[2, 1, 1, 1\] values"):
        Events([0, 0], [1], [0], [0])
    with pytest.raises(InputError, match="holds float64"):
        Events([0.5], [1], [0], [0])
    with pytest.raises(InputError, match="shape"):
        Events([[0]], [1], [0], [0])


@pytest.mark.parametrize("name", SLOW)
def test_columns_of_any_kind_are_taken(name):
    representation = REPRESENTATIONS[name](height=H, width=W)
    columns = {"t": np.arange(4), "x": np.arange(4), "y": np.arange(4), "p": np.array([-1, 1, 1, -1])}
    assert np.array_equal(representation(SimpleNamespace(**columns)), representation(Events(**columns)))

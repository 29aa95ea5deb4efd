"""Each effect of the pixel and its readout against its formula, one by one."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from ssmbook.errors import InputError
from ssmbook.events import Events
from ssmbook.events.simulate import PIXELS, PixelArray, PixelModel
from ssmbook.events.simulate.crossing import Cutoff, front_end
from ssmbook.events.simulate.pixel import DARK
from ssmbook.events.simulate.readout import Readout, arbitrate

IDEAL = PixelModel(threshold=0.25, spread=0, refractory_us=0, noise_hz=0, hot_share=0)
SECOND = 1_000_000


def array(pixel: PixelModel, height: int = 100, width: int = 100, level: float = 1.0) -> PixelArray:
    """Pixels under even light, each one's reference exactly its level."""
    pixels = PixelArray(pixel, np.full((height, width), level, np.float32), np.random.default_rng(7))
    pixels.reference[:] = level
    return pixels


def still(pixels: PixelArray, seconds: int, steps: int = 10) -> Events:
    """Events of some seconds in which the light does not change."""
    levels = np.repeat(pixels.light[None], steps, 0)
    return Events.concatenate([pixels.expose(levels, k * SECOND, (k + 1) * SECOND) for k in range(seconds)])


def step(pixels: PixelArray, to: float, duration_us: int, dt_us: int = 10) -> Events:
    """Events after the light has jumped, within the first of the steps."""
    levels = np.full((duration_us // dt_us, *pixels.light.shape), to, np.float32)
    return pixels.expose(levels, 0, duration_us)


class TestThreshold:
    def test_spreads_from_pixel_to_pixel_as_a_gaussian(self):
        rise = np.full((1, 100, 100), 2.0, np.float32)  # one unit per second
        first = array(replace(IDEAL, spread=0.15)).expose(rise, 0, SECOND)
        _, where = np.unique(first.y.astype(int) * 100 + first.x, return_index=True)
        theta = first.t[where] / SECOND
        assert theta.mean() == pytest.approx(0.25, rel=0.01)
        assert theta.std() == pytest.approx(0.15 * 0.25, rel=0.03)

    def test_noise_from_event_to_event_has_its_deviation_within_one_pixel(self):
        pixels = array(replace(IDEAL, threshold_noise=0.1), 1, 1)
        events = pixels.expose(np.full((1, 1, 1), 1.0 + 1000.0, np.float32), 0, 1000 * SECOND)
        theta = np.diff(events.t[1:]) / SECOND
        assert len(theta) > 3900
        assert theta.mean() == pytest.approx(0.25, rel=0.01)
        assert theta.std() == pytest.approx(0.025, rel=0.05)

    def test_off_has_its_own(self):
        pixels = array(replace(IDEAL, threshold_off=0.5), 1, 1)
        up = pixels.expose(np.full((1, 1, 1), 3.01, np.float32), 0, 1000)
        down = pixels.expose(np.full((1, 1, 1), 0.99, np.float32), 1000, 2000)
        assert (len(up), len(down)) == (8, 4)


class TestLowPass:
    @pytest.mark.parametrize("intensity", [1.0, 0.25, 0.02])
    def test_a_step_crosses_when_the_exponential_does(self, intensity):
        # y(t) = u − Δ·exp(−2πft) crosses n·θ at t = −ln(1 − nθ/Δ) / (2πf), f that of the new intensity
        model = replace(IDEAL, cutoff_hz=100.0)
        to, jump = model.white + math.log(intensity), 1.1
        events = step(array(model, 1, 1, level=to - jump), to, 200_000)
        f = 100.0 * (intensity + DARK) / (1 + DARK)
        crossings = -np.log(1 - 0.25 * np.arange(1, 5) / jump) / (2 * np.pi * f)
        assert events.t / SECOND == pytest.approx(crossings, rel=0.01, abs=12e-6)

    def test_a_sine_is_attenuated_as_a_first_order_filter_does(self):
        model = replace(IDEAL, cutoff_hz=50.0)
        t = np.arange(1, 20_001) / 10_000
        f = 80.0
        levels = (model.white + 1e-3 * np.sin(2 * np.pi * f * t)).astype(np.float64)
        pixels = array(model, 1, 1, level=model.white)
        seen = pixels._seen(levels[:, None, None].astype(np.float32), 0, 2 * SECOND)[:, 0, 0] - model.white
        gain = 2 * abs(np.mean(seen[10_000:] * np.exp(-2j * np.pi * f * t[10_000:]))) / 1e-3
        assert gain == pytest.approx(1 / math.sqrt(1 + (f / 50.0) ** 2), rel=0.01)

    def test_is_the_solution_of_its_equation_for_an_input_of_lines(self):
        model = replace(IDEAL, cutoff_hz=200.0)
        rng = np.random.default_rng(0)
        inputs = np.concatenate([[0.0], rng.normal(0.0, 0.5, 20)]).astype(np.float32)
        cutoff, step_s = Cutoff(model), 1e-3
        response = np.zeros((1, 1), np.float32)
        table = (cutoff.low, cutoff.per_unit, *cutoff.coefficients(step_s))
        out = np.empty((20, 1, 1), np.float32)
        light, no_leak = inputs[:1, None], np.zeros((1, 1), np.float32)
        front_end(inputs[1:, None, None], light, response, *table, no_leak, 0.0, step_s, out)
        out = out[:, 0, 0]
        y = 0.0
        for k in range(20):
            u0, u1 = float(inputs[k]), float(inputs[k + 1])
            omega = cutoff.omega[round((u1 - cutoff.low) * cutoff.per_unit)]
            f = 200.0 * (math.exp(u1 - model.white) + DARK) / (1 + DARK)
            assert omega == pytest.approx(2 * math.pi * f, rel=0.0013)
            line = lambda t, y, u0=u0, u1=u1, omega=omega: omega * (u0 + (u1 - u0) * t / step_s - y)  # noqa: E731
            y = solve_ivp(line, (0, step_s), [y], rtol=1e-8, atol=1e-10).y[0, -1]
            assert out[k] == pytest.approx(y, abs=2e-6)

    def test_steps_of_any_length_agree(self):
        model = replace(IDEAL, cutoff_hz=300.0)
        runs = []
        for steps in (10, 1000):
            line = np.linspace(0, 2, steps + 1, dtype=np.float32)[1:, None, None]
            runs.append(array(model, 1, 1, level=0.0).expose(line, 0, 100_000))
        assert len(runs[0]) == len(runs[1]) > 5
        assert np.abs(runs[0].t - runs[1].t).max() < 300  # the cutoff follows intensity once a step


class TestNoise:
    def test_the_leak_emits_on_events_at_its_rate(self):
        events = still(array(replace(IDEAL, leak_hz=0.2, spread=0.15)), 22)
        assert events.p.all()
        assert len(events) == 4 * 10_000  # every 5 s, whatever the threshold

    def test_one_leaking_pixel_is_periodic(self):
        events = still(array(replace(IDEAL, leak_hz=2.0), 1, 1), 10)
        assert np.diff(events.t) == pytest.approx(np.full(len(events) - 1, 500_000), abs=5)
        assert len(events) in (19, 20)

    def test_the_leak_does_not_lose_its_rate_in_rounding(self):
        events = still(array(replace(IDEAL, leak_hz=0.01), 200, 200), 150, steps=2)
        assert len(events) == 200 * 200  # the first comes after 100 s, the second after 200 s

    @pytest.mark.parametrize("intensity", [1.0, 0.5, 1e-3])
    def test_shot_noise_falls_with_intensity(self, intensity):
        events = still(array(replace(IDEAL, shot_hz=5.0), level=IDEAL.white + math.log(intensity)), 4)
        expected = 5.0 * (1 - 0.75 * intensity) * 4 * 10_000
        assert abs(len(events) - expected) < 5 * math.sqrt(expected)
        assert abs(events.p.sum() - expected / 2) < 5 * math.sqrt(expected / 2)

    def test_shot_noise_comes_as_a_poisson_process(self):
        counts = np.zeros(10_000)
        events = still(array(replace(IDEAL, shot_hz=10.0), level=-5.0), 4)
        np.add.at(counts, events.y.astype(int) * 100 + events.x, 1)
        assert counts.var() / counts.mean() == pytest.approx(1, abs=0.07)

    def test_rates_spread_over_the_pixels_in_decades(self):
        pixels = array(replace(IDEAL, leak_hz=1.0, shot_hz=200.0, rate_spread=0.3), level=-5.0)
        assert np.log10(pixels._leak / 0.25).std() == pytest.approx(0.3, rel=0.03)
        counts = np.zeros(10_000)
        pixels.pixel = replace(pixels.pixel, leak_hz=0.0)
        events = still(pixels, 2)
        np.add.at(counts, events.y.astype(int) * 100 + events.x, 1)
        assert np.log10(counts / 400).std() == pytest.approx(0.3, rel=0.03)
        assert np.median(counts) == pytest.approx(400, rel=0.03)

    def test_on_and_off_may_have_rates_of_their_own(self):
        events = still(array(replace(IDEAL, noise_hz=1.1, noise_on=1 / 1.1)), 4)
        assert abs(events.p.sum() - 40_000) < 5 * 200
        assert abs((events.p == 0).sum() - 4_000) < 5 * 64

    def test_a_davis346_has_the_rates_that_were_measured(self):
        # Guo and Delbruck, TPAMI 2023: a leak of about 0.2 Hz and shot noise of about 10 Hz a pixel
        bright = still(array(PIXELS["davis346-bright"]), 20)
        assert len(bright) / 20 / 10_000 == pytest.approx(0.2, rel=0.1)
        assert bright.p.all()
        dim = still(array(PIXELS["davis346-dim"], level=-6.0), 4)
        assert len(dim) / 4 / 10_000 == pytest.approx(10.2, rel=0.1)


class TestReadout:
    def test_latency_and_jitter_have_their_mean_and_deviation(self):
        readout = Readout(replace(IDEAL, latency_us=100, jitter_us=10), (1, 1), np.random.default_rng(0))
        t = np.arange(0, 10_000_000, 1000)
        zero = np.zeros_like(t)
        late = readout.push((t, zero, zero, zero), 20_000_000)[0] - t
        assert late.mean() == pytest.approx(100, abs=0.5)
        assert late.std() == pytest.approx(10, rel=0.03)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from([0.0, 300.0]))
    def test_chunks_change_nothing_but_when_events_come_out(self, seed, chunks, latency):
        rng = np.random.default_rng(seed)
        t = np.sort(rng.integers(0, 10_000, 400))
        columns = (t, rng.integers(0, 4, 400), rng.integers(0, 5, 400), rng.integers(0, 2, 400))
        model = replace(IDEAL, readout_hz=50_000.0, latency_us=latency)
        whole = Readout(model, (4, 5), rng).push(columns, 10**7)
        parts, readout, begin = [], Readout(model, (4, 5), rng), 0
        for end in [*np.linspace(0, 10_000, chunks + 1).astype(int)[1:], 10**7]:
            i, j = np.searchsorted(t, (begin, end))
            part = readout.push(tuple(column[i:j] for column in columns), end)
            assert not len(part[0]) or begin <= part[0][0] <= part[0][-1] < end
            parts.append(part)
            begin = end
        for column, pieces in zip(whole, zip(*parts, strict=True), strict=True):
            assert np.array_equal(column, np.concatenate(pieces))

    def test_the_arbiter_saturates_at_its_rate(self):
        t = np.repeat(np.arange(0, 1000), 5)  # 5 events a µs, from 5,000 pixels
        read, kept = arbitrate(t, np.arange(5000), 0.5, np.full(1, -1e18), np.full(5000, -(2**62)))
        assert kept.all()
        assert np.array_equal(read, np.arange(5000) // 2)  # 2 events a µs: 2 M events/s

    def test_a_pixel_that_waits_for_the_arbiter_emits_nothing_else(self):
        t, where = np.array([0, 0, 0, 5, 25]), np.array([0, 1, 1, 1, 1])
        read, kept = arbitrate(t, where, 10.0, np.full(1, -1e18), np.full(2, -(2**62)))
        assert kept.tolist() == [True, True, False, False, True]
        assert read[kept].tolist() == [0, 10, 25]

    def test_an_idle_arbiter_delays_nothing(self):
        t = np.arange(0, 10_000, 100)
        read, kept = arbitrate(t, t % 7, 50.0, np.full(1, -1e18), np.full(7, -(2**62)))
        assert kept.all()
        assert np.array_equal(read, t)

    def test_a_flash_comes_out_at_the_readouts_rate(self):
        pixels = array(replace(IDEAL, readout_hz=1e6))
        flash = pixels.expose(np.full((1, 100, 100), 1.26, np.float32), 0, 1000)
        rest = pixels.expose(np.full((1, 100, 100), 1.26, np.float32), 1000, 101_000)
        t = np.concatenate([flash.t, rest.t])
        assert len(t) == 10_000  # each pixel once, 10 ms long instead of 1
        assert np.array_equal(np.diff(t), np.ones(9_999))


class TestModels:
    @pytest.mark.parametrize("name", PIXELS)
    def test_every_named_pixel_gives_sorted_events_and_the_same_for_a_seed(self, name):
        levels = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (60, 20, 30)), 0).astype(np.float32)
        runs = []
        for _ in range(2):
            pixels = PixelArray(PIXELS[name], np.zeros((20, 30), np.float32), np.random.default_rng(1))
            chunks = [pixels.expose(levels[20 * k :][:20], 20_000 * k, 20_000 * (k + 1)) for k in range(3)]
            for k, events in enumerate(chunks):
                assert (np.diff(events.t) >= 0).all()
                assert ((events.t >= 20_000 * k) & (events.t < 20_000 * (k + 1))).all()
            runs.append(Events.concatenate(chunks))
        assert len(runs[0]) > 50
        assert all(np.array_equal(getattr(runs[0], k), getattr(runs[1], k)) for k in "txyp")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"threshold": 0}, "threshold is 0"),
            ({"threshold_off": -1.0}, "threshold_off is -1.0"),
            ({"noise_hz": -1}, "noise_hz is -1"),
            ({"cutoff_hz": math.nan}, "cutoff_hz is nan"),
            ({"leak_hz": math.inf}, "leak_hz is inf"),
            ({"noise_on": 1.5}, "0..1"),
            ({"white": math.inf}, "finite"),
        ],
    )
    def test_a_wrong_pixel_is_named(self, wrong, message):
        with pytest.raises(InputError, match=message):
            PixelModel(**wrong)

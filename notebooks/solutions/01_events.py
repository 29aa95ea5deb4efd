# %% [markdown]
# Solutions to the exercises of chapter 1.

# %%
import math

import numpy as np

from ssmbook.events.simulate import PixelArray, PixelModel


def expose(model: PixelModel, level: np.ndarray, step_us: int = 1000):
    """Events of one pixel whose reference starts at 0, under a level for each step."""
    pixel = PixelArray(model, np.zeros((1, 1), np.float32), np.random.default_rng(0))
    pixel.reference[:] = 0
    return pixel.expose(level.astype(np.float32)[:, None, None], 0, step_us * len(level))


# %% ex-count
# Up: ⌊2.3 / 0.4⌋ = 5, and the reference is then at 2.0. Down to 0.5: ⌊1.5 / 0.3⌋ = 5. (A hair more than 1.5, so that
# the last crossing does not hang on rounding.)
model = PixelModel(threshold=0.4, threshold_off=0.3, spread=0, noise_hz=0, hot_share=0, refractory_us=0)
level = np.concatenate([np.linspace(0, 2.3, 101)[1:], np.linspace(2.3, 0.499, 101)[1:]])
events = expose(model, level)
assert (int((events.p == 1).sum()), int((events.p == 0).sum())) == (5, 5)

# %% ex-refractory
# Without a blind time one threshold takes 0.25 / 100 s = 2.5 ms: 400 events per second. In 6 ms two crossings are lost, so that
# every third one fires, after 7.5 ms: 133 per second.
ramp = 100 * np.arange(1, 1001) / 1000  # one second
for blind_us, expected in ((0, 400), (6000, 1 / 7.5e-3)):
    model = PixelModel(threshold=0.25, spread=0, noise_hz=0, hot_share=0, refractory_us=blind_us)
    rate = len(expose(model, ramp))
    assert math.isclose(rate, expected, rel_tol=0.02), (rate, expected)

# %% ex-silent
# exp(−0.3 · 0.05) = 98.5 % are silent; 304 · 240 · 0.3 · 0.05 = 1094 events.
model = PixelModel(noise_hz=0.3, hot_share=0)
sensor = PixelArray(model, np.zeros((240, 304), np.float32), np.random.default_rng(0))
events = sensor.expose(np.zeros((50, 240, 304), np.float32), 0, 50_000)
silent = 1 - len(np.unique(events.y.astype(int) * 304 + events.x)) / (240 * 304)
assert abs(silent - math.exp(-0.3 * 0.05)) < 0.002
assert abs(len(events) - 1094) < 5 * math.sqrt(1094)

# %% ex-lowpass
# With a = −2π f_c: ā = exp(a Δ), b̄ = 1 − ā. Half of a step is seen after ln 2 / (2π f_c) = 3.7 ms. A step_scale multiplies Δ,
# so it changes both; the pixel itself stays the same.
f_c, step_s = 30.0, 1e-3
a_bar = math.exp(-2 * math.pi * f_c * step_s)
b_bar = 1 - a_bar
x, seen = 0.0, []
for _ in range(20):
    x = a_bar * x + b_bar * 1.0
    seen.append(x)
half_ms = math.log(2) / (2 * math.pi * f_c) * 1000
assert abs(half_ms - 3.68) < 0.01
assert seen[2] < 0.5 < seen[3]  # after 3 and after 4 steps of 1 ms

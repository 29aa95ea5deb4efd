# %% [markdown]
# Solutions to the exercises of chapter 2.

# %%
import math

import numpy as np
import torch

from ssmbook.events import Events, MixedDensityStack, StackedHistogram, Traces
from ssmbook.ssm import diagonal_scan

rng = np.random.default_rng(0)


def random_events(n: int, end_us: int, size: int = 8) -> Events:
    t = np.sort(rng.integers(0, end_us, n))
    x, y = (rng.integers(0, size, n).astype(np.uint16) for _ in range(2))
    return Events(t, x, y, rng.integers(0, 2, n).astype(np.uint8))


# %% ex-lost-events
# At k = 5: held 1/5, once each; true all, once; sliding all, five times. On the published grid 50 of every 125 ms: 40 %.
t = np.arange(0, 10_000_000, 100)  # evenly, 10 s


def used(window_us: int, stride_us: int) -> tuple[float, float]:
    counts = np.zeros(len(t), int)
    for end in range(1_000_000, 9_000_001, stride_us):
        counts[(t > end - window_us) & (t <= end)] += 1
    middle = counts[(t > 2_000_000) & (t <= 8_000_000)]
    return (middle > 0).mean(), middle[middle > 0].mean()


assert np.allclose(used(10_000, 50_000), (0.2, 1))
assert np.allclose(used(10_000, 10_000), (1, 1))
assert np.allclose(used(50_000, 10_000), (1, 5))
assert np.allclose(used(50_000, 125_000), (0.4, 1))

# %% ex-conserve
# Histogram: the sum of all channels is the number of events. Mixed density: the last channel sums to ON minus OFF, and so does a voxel grid over all
# bins. Trace: Σ over pixels is Σ_i exp(−age / τ).
ev = random_events(100, 50_000)
assert StackedHistogram(bins=10, height=8, width=8, count_cutoff=255)(ev).sum() == 100
assert MixedDensityStack(bins=10, height=8, width=8)(ev)[-1].sum() == 2 * int(ev.p.sum(dtype=int)) - 100
traces = Traces(height=8, width=8, taus_ms=(20.0,))
traces.push(ev)
s = np.expm1(traces.read(50_000).astype(float) / 16)
assert math.isclose(s.sum(), np.exp(-(50_000 - ev.t) / 20_000).sum(), rel_tol=0.05)  # a level is 6 %

# %% ex-trace-layer
# Within its step an event is taken to lie at the step's end, up to 1 ms late: the trace is too high, by at most e^(Δ/τ) − 1 = 5 % for τ = 20 ms.
tau, stamps = 20.0, np.sort(rng.uniform(0, 200, 30))
steps = np.bincount(np.ceil(stamps).astype(int), minlength=201)[1:201].astype(float)  # step k ends at k ms
a = torch.full((1,), math.exp(-1 / tau), dtype=torch.complex128)
x = diagonal_scan(a, torch.from_numpy(steps).to(torch.complex128)[None, :, None])[0, :, 0].real.numpy()
exact = np.array([np.exp(-(k - stamps[stamps <= k]) / tau).sum() for k in range(1, 201)])
later = exact > 0.01
assert (x[later] >= exact[later] - 1e-9).all()
assert (x[later] / exact[later]).max() <= math.exp(1 / tau) + 1e-9

# %% ex-saturate
# 16 ln(1 + s) = 254.5 gives s = 8.1 million events, at a mean of rate · τ: 4·10⁸ events per second of one pixel. It never happens. A level is
# 1/16 of 1 + s: 0.06 near 0, 6 near 100.
s = math.expm1(254.5 / 16)
assert 8e6 < s < 8.2e6
assert 4e8 < s / 0.020 < 4.1e8
assert math.isclose(math.expm1(1 / 16), 0.0645, rel_tol=0.01)
assert math.isclose(101 * math.expm1(1 / 16), 6.5, rel_tol=0.01)

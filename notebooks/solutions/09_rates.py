# %% [markdown]
# # Solutions to chapter 9

# %% ex-halflife
import math


def half_life_s(lam: float, rate_hz: float, step_scale: float = 1.0) -> float:
    """Seconds until a mode that is left alone has lost half of its state."""
    return math.log(0.5) / (step_scale * math.log(lam)) / rate_hz


trained = half_life_s(0.98, 20)
assert math.isclose(trained, 1.7155, rel_tol=1e-3)  # 34 steps of 50 ms
assert math.isclose(half_life_s(0.98, 200), trained / 10)  # the step does not follow: ten times too fast
assert math.isclose(half_life_s(0.98, 200, step_scale=0.1), trained)

# %% ex-amount
# One mode, x ← λ̄ x + Δ b u: one step of training with u events, against k steps with u / k each and the same Δ.


def after(lam: float, steps: int, amount: float) -> float:
    x = 0.0
    for _ in range(steps):
        x = lam * x + amount
    return x


slow, fast, k = 0.999, 0.5, 10
assert math.isclose(after(slow, k, 1 / k), after(slow, 1, 1), rel_tol=0.01)  # slow: the amounts add up
assert after(fast, k, 1 / k) < 0.25  # fast: it decays k times in 50 ms, and most of the amount is gone

# %% ex-break-even
# At the true rate: following gives w/W = 1/k at all times; not following gives 1/k · filled · exp(−(k − 1) t/τ).
k = 10
filled = (1 - math.exp(-k)) / (1 - math.exp(-1))


def not_following(rest_s: float) -> float:
    return filled / k * math.exp(-(k - 1) * rest_s)


equal = math.log(filled) / (k - 1)  # where the second is 1/k again: before, it is nearer to 1
assert math.isclose(not_following(equal), 1 / k)
assert math.isclose(equal, 0.051, abs_tol=1e-3)  # a single window of training
assert not_following(0.0) > 1 / k > not_following(0.1)
# From a twentieth of a second at rest on, following is nearer: it wins on sets whose labelled objects stop.

# %% ex-yaml
import tempfile
from pathlib import Path

from ssmbook.study import get_profile

TEXT = """
base: demo
variants:
  louder: {recurrence: s5, options: {state_gain: 3.0}}
arms:
  - {variant: louder, mode: sliding, follow: true, rates_hz: [20, 100]}
"""
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "louder.yaml"
    path.write_text(TEXT)
    mine = get_profile(str(path))
assert [arm.name for arm in mine.arms] == ["louder, sliding, step_scale 1/k, exact carry"]
assert mine.variant("louder").options == {"state_gain": 3.0}

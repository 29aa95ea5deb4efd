# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-layers)=
# # S5 from the ODE
#
# A frame of events shows what moved in the last 50 ms. A car that waits at a crossing shows nothing at
# all, so a detector needs a memory. Here that memory is a linear differential equation, and its one advantage
# over a gated recurrent cell is the subject of this book: it is written in continuous time, so the same
# weights can be read at another rate.
#
# This chapter goes from the equation to the layer: what its state remembers, how it becomes a recurrence,
# how the state is carried, and what happens to time and frequency when the rate changes.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch

from ssmbook import plots
from ssmbook.ssm import S5, diagonal_scan, discretize, frequency_response
from ssmbook.ssm.hippo import hippo_legs, legs_spectrum
from ssmbook.ssm.s5 import passes_band
from ssmbook.study import Workspace

plots.style()
book = Workspace(profile, data_dir)
torch.set_default_dtype(torch.float64)

# %% [markdown]
# ## What the state remembers: HiPPO-LegS
#
# The equation is that of every linear state-space model (S4, arXiv 2111.00396, eq. 1):
#
# $$ \dot x(t) = A x(t) + B u(t), \qquad y(t) = C x(t) + D u(t) . $$
#
# What it remembers depends on $A$. HiPPO-LegS (arXiv 2008.07669, theorem 2; in the form of arXiv 2111.00396,
# eq. 2) derives one that writes the past as coefficients of Legendre polynomials:
#
# $$ A_{nk} = -\begin{cases} \sqrt{2n+1}\sqrt{2k+1} & n > k \\ n + 1 & n = k \\ 0 & n < k \end{cases},
#    \qquad B_n = \sqrt{2n+1} . $$

# %%
A, p = (torch.from_numpy(array) for array in hippo_legs(64))
B = math.sqrt(2) * p  # p_n = √(n + ½)
A[:3, :3]

# %% [markdown]
# State $n$ sees the past through its kernel $(e^{\tau A} B)_n$, $\tau$ being how long ago. With this $A$ and $B$ it
# is a Legendre polynomial of $e^{-\tau}$ ("exponentially warped", arXiv 2206.12037):
#
# $$ (e^{\tau A} B)_n = L_n(e^{-\tau})\, e^{-\tau}, \qquad L_n(z) = \sqrt{2n+1}\, P_n(2z - 1) . $$

# %%
ago = torch.linspace(0, 5, 501)
z = torch.exp(-ago)
kernels = torch.matrix_exp(ago[:, None, None] * A[:5, :5]) @ B[:5]  # [501, 5]
legendre = torch.from_numpy(np.polynomial.legendre.legvander(2 * z.numpy() - 1, 4)) * B[:5]
bool(torch.allclose(kernels, legendre * z[:, None], rtol=0, atol=1e-9))

# %% [markdown]
# The $L_n$ are orthonormal over $z$ in $[0, 1]$. So $x_n$ is a coefficient of the past, and the past can be read
# back from the state: $u(t - \tau) \approx \sum_n x_n(t)\, L_n(e^{-\tau})$. Here a signal runs through the equation (in
# exact steps of 0.01, as derived below), and then only the state is left.

# %%
delta, seconds = 0.01, 12.0
time = torch.arange(delta, seconds, delta)
signal = torch.sin(2.2 * time) + 0.6 * torch.sin(5 * time + 1) + 0.4 * torch.sin(9 * time)
A_bar = torch.matrix_exp(delta * A)
B_bar = torch.linalg.solve(A, (A_bar - torch.eye(64)) @ B)
x = torch.zeros(64)
for u_k in signal:
    x = A_bar @ x + B_bar * u_k

# %% [markdown]
# $A$ is lower triangular, so that the first states do not depend on the later ones: a smaller model would hold the
# first of these numbers.

# %%
basis = torch.from_numpy(np.polynomial.legendre.legvander(2 * z.numpy() - 1, 63)) * B  # [501, 64]
past = {size: basis[:, :size] @ x[:size] for size in (4, 16, 64)}

# %% [markdown]
# Left, the first five kernels. Right, the signal's past as read from the first 4, 16 and all 64 states: all know the
# recent past well and the distant past roughly, and a larger state reaches further back.

# %%
fig, (left, right) = plt.subplots(1, 2)
_ = left.plot(ago, kernels, label=[f"n = {n}" for n in range(5)])
_ = left.set(xlabel="time ago τ", ylabel="weight of u(t − τ) in $x_n$", title="kernels of the state")
_ = left.legend(frameon=False, fontsize=8)
_ = right.plot(seconds - time, signal, color=plots.GREY, lw=4, alpha=0.4, label="the signal")
for size, read in past.items():
    _ = right.plot(ago, read, lw=1.2, label=f"from {size} states")
_ = right.set(xlabel="time ago τ", xlim=(0, 5), ylim=(-3.2, 2.2), title="the past, read from the state")
_ = right.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
_ = plots.save(fig, book.figures / "hippo.png")

# %% [markdown]
# ## Modes that do not talk to each other
#
# In that form every state depends on others. $A$ has no stable diagonal form, but $A = S - p\,p^\top$ with
# $S$ normal (arXiv 2111.00396, theorem 1), and S5 (arXiv 2208.04933) starts from $S = V \Lambda V^{-1}$ alone. In the
# basis of $V$ the equation falls apart into $P$ complex modes,
#
# $$ \dot x = \Lambda x + B u, \qquad y = \mathrm{Re}(C x) + D \circ u . $$

# %%
Lambda, V = (torch.from_numpy(array.copy()) for array in legs_spectrum(64))
S = A + torch.outer(p, p)
bool(torch.allclose((V * Lambda) @ V.mH, S.to(V.dtype), rtol=0, atol=1e-9))

# %% [markdown]
# All modes decay alike, Re λ = −½, and they turn at many speeds, in conjugate pairs:

# %%
bool((Lambda.real == -0.5).all()), Lambda.imag[32:36].numpy().round(2), Lambda.imag[-2:].numpy().round(0)

# %% [markdown]
# ## From the equation to the recurrence
#
# Frames come $\Delta$ apart, so the layer needs $x_k = \bar\Lambda x_{k-1} + \bar B u_k$. Two rules are in use. Zero-order
# hold takes the input as constant within a step and then solves exactly (arXiv 2208.04933, eq. 6); bilinear
# replaces the derivative's right side by the mean of its two ends (arXiv 2111.00396, eq. 3):
#
# $$ \text{zoh:}\quad \bar\Lambda = e^{\Delta\Lambda}, \quad \bar B = \Lambda^{-1} (\bar\Lambda - 1)\, B; \qquad
#    \text{bilinear:}\quad \bar\Lambda = \frac{1 + \Delta\Lambda/2}{1 - \Delta\Lambda/2}, \quad
#    \bar B = \frac{\Delta}{1 - \Delta\Lambda/2}\, B . $$
#
# Below, the 64 modes of the start, and where each rule puts them at three step sizes. Inside the unit circle a
# state forgets; an angle of π, at −1, is Nyquist's limit of half a turn per step. Zoh winds fast modes around
# the circle, so that they look slow again; bilinear squeezes them all in before −1.

# %%
fig, (left, *right) = plt.subplots(1, 3, figsize=(plots.WIDTH_IN, 2.9))
_ = left.scatter(Lambda.real, Lambda.imag, s=6, color=plots.GREY)
_ = left.set(xlabel="Re λ", ylabel="Im λ", title="continuous", xlim=(-1, 0.1))
_ = left.axvline(0, color="black", lw=0.8)
for ax, method in zip(right, ("bilinear", "zoh"), strict=True):
    _ = ax.add_patch(plt.Circle((0, 0), 1, fill=False))
    for step in (0.01, 0.1, 0.4):
        bar, _ = discretize(Lambda, torch.tensor(step), method)
        _ = ax.scatter(bar.real, bar.imag, s=6, label=f"Δ = {step:g}")
    _ = ax.set(
        xlabel="Re $\\bar{\\Lambda}$",
        ylabel="Im $\\bar{\\Lambda}$",
        title=method,
        aspect="equal",
        xticks=[-1, 0, 1],
        yticks=[-1, 0, 1],
    )
_ = right[0].legend(frameon=False, fontsize=7, loc="center")
_ = plots.save(fig, book.figures / "modes.png")

# %% [markdown]
# ## How wrong is a step?
#
# For one mode and the input $u = e^{j\omega t}$ the solution is known,
# $x(t) = (e^{j\omega t} - e^{\lambda t}) / (j\omega - \lambda)$. The recurrence should come close to it as steps get
# shorter. What $u_k$ stands for matters more than the rule: a window of events is a mean over its step, that is
# the input in the *middle* of the step, and not at its end.

# %%
mode, omega = torch.tensor([-0.5 + 8j]), 3.0


def error(method: str, steps: int, where: float) -> float:
    step = 4.0 / steps
    t, bar = step * torch.arange(1, steps + 1), discretize(mode, torch.tensor(step), method)
    x = diagonal_scan(bar[0], bar[1] * torch.exp(1j * omega * (t - where * step))[None, :, None])[0, :, 0]
    exact = (torch.exp(1j * omega * t) - torch.exp(mode * t)) / (1j * omega - mode)
    return float((x - exact).abs().max() / exact.abs().max())


# %% [markdown]
# With the input in the middle both rules are of second order: a tenth of the step gives a hundredth of the
# error. Bilinear starts from a larger error, because it also turns the mode a little too slowly. Left of the
# dotted line the mode is below Nyquist's limit, Δ |Im λ| < π.

# %%
fig, ax = plt.subplots()
counts = [2**k for k in range(3, 14)]
for method, colour in (("bilinear", plots.BLUE), ("zoh", plots.ORANGE)):
    for where, look, name in ((0.5, "o-", "middle"), (0.0, "o--", "end")):
        errors = [error(method, n, where) for n in counts]
        _ = ax.loglog(
            [4 / n for n in counts], errors, look, color=colour, ms=3, label=f"{method}, {name} of the step"
        )
_ = ax.axvline(math.pi / 8, color=plots.GREY, ls=":")
_ = ax.set(
    xlabel="step Δ", ylabel="largest error / largest |x|", title="discretisation error of a mode, λ = −½ + 8j"
)
_ = ax.legend(frameon=False)
_ = plots.save(fig, book.figures / "discretisation.png")

# %% [markdown]
# The order, from the last halving of the step: 2 in the middle, 1 at the end.

# %%
[
    round(math.log2(error(method, 4096, where) / error(method, 8192, where)), 1)
    for where in (0.5, 0.0)
    for method in ("bilinear", "zoh")
]

# %% [markdown]
# ## Kernels
#
# Unrolled, the recurrence is a convolution (arXiv 2111.00396, eq. 4 and 5): $y_k = \sum_{i \le k} K_i u_{k-i} + D \circ u_k$
# with $K_k = \mathrm{Re}(C \bar\Lambda^k \bar B)$. A layer of 16 features and 64 modes starts with a step Δ of its
# own for each mode, between 0.001 and 0.1, so that it remembers for between 20 and 2000 steps.

# %%
_ = torch.manual_seed(0)
layer = S5(width=16, state_width=64)
Lambda, steps = layer.eigenvalues().detach(), layer.log_step.detach().exp()
Lambda_bar, gain = discretize(Lambda, steps)
B_bar = gain[:, None] * torch.view_as_complex(layer.B.detach())
powers = Lambda_bar ** torch.arange(2000)[:, None]  # [2000, 64]
K = ((torch.view_as_complex(layer.C.detach()) * powers[:, None]) @ B_bar).real  # [2000, 16, 16]

# %% [markdown]
# The formula gives what the layer answers to an impulse in feature 0:

# %%
impulse = torch.zeros(1, 2000, 16)
impulse[0, 0, 0] = 1.0
with torch.no_grad():
    answer = (layer(impulse)[0] - layer.D * impulse)[0]
bool(torch.allclose(answer, K[:, :, 0], rtol=0, atol=1e-9))

# %% [markdown]
# Left, three modes by themselves: each turns by Δ |Im λ| and fades by about Δ/2 a step. Right, what all 64 add up to
# between two features. At the start that is a random mixture; training chooses.

# %%
fig, (left, right) = plt.subplots(1, 2)
order = (steps * Lambda.imag.abs()).argsort()
for mode_index in order[[2, 14, 30]]:
    turn = float(steps[mode_index] * Lambda.imag[mode_index].abs())
    _ = left.plot(powers[:200, mode_index].real, lw=1, label=f"Δ |Im λ| = {turn:.2f}")
_ = left.set(
    xlabel="step k", ylabel="Re $\\bar{\\Lambda}^k$", title="kernels of single modes", ylim=(-1.1, 1.9)
)
_ = left.legend(frameon=False, fontsize=8, loc="upper right")
_ = right.plot(1000 * K[:200, :3, 0], lw=1, label=[f"feature 0 → {h}" for h in range(3)])
_ = right.set(xlabel="step k", ylabel="$K_k$ × 1000", title="kernels of the layer")
_ = right.legend(frameon=False, fontsize=8)
_ = plots.save(fig, book.figures / "kernels.png")

# %% [markdown]
# ## A state that is really carried
#
# The state after the last frame of a chunk goes into the next chunk. Then chunks, one long pass and single
# steps are three ways to compute the same numbers.

# %%
u = torch.randn(3, 40, 16)
whole, _ = layer(u)
first, state = layer(u[:, :15])
second, _ = layer(u[:, 15:], state)
bool(torch.allclose(torch.cat([first, second], 1), whole, rtol=0, atol=1e-10))

# %%
state, answers = None, []
for u_k in u.unbind(1):
    y_k, state = layer.step(u_k, state)
    answers.append(y_k)
bool(torch.allclose(torch.stack(answers, 1), whole, rtol=0, atol=1e-10))

# %% [markdown]
# ## Why the published carry has no effect
#
# A parallel scan (arXiv 2208.04933, §2.2) combines pairs $(a_i, b_i)$ with
# $(a_j, b_j) \circ (a_i, b_i) = (a_j a_i,\ a_j b_i + b_j)$ and returns the second halves. The released code of
# the paper hands its state over by multiplying the *first* transition, $a_0 \leftarrow a_0 x_{prev}$. But $a_0$ enters
# only products of transitions, never a returned state. So whatever the state is, the outputs are the same:

# %%
a = torch.polar(torch.full((5,), 0.9), torch.linspace(0, 1, 5)).expand(1, 8, 5).clone()
b = torch.randn(1, 8, 5, dtype=torch.complex128)
x_prev = torch.randn(1, 5, dtype=torch.complex128)
published = a.clone()
published[:, 0] *= x_prev
bool(torch.equal(diagonal_scan(published, b), diagonal_scan(a, b)))

# %% [markdown]
# The right place is the input of the first step, $x_0 = \bar\Lambda x_{prev} + \bar B u_0$:

# %%
carried = b.clone()
carried[:, 0] += a[:, 0] * x_prev
bool(torch.allclose(diagonal_scan(a, carried), diagonal_scan(a, b, x_prev), rtol=0, atol=1e-10))

# %% [markdown]
# Published figures are therefore those of independent chunks, each of which starts from zero. This book
# calls that `carry="published"`, and the right one `carry="exact"`.
#
# ## A time scale that follows the rate
#
# At $k$ times the rate, frames are $\Delta/k$ apart. `step_scale` multiplies $\Delta$, so $1/k$ keeps every time
# constant in seconds. A short pulse shows it: with the scale, the response at 200 Hz lies on that at 20 Hz;
# without it, the same weights live ten times too fast.


# %%
def response(layer: S5, rate_hz: int, step_scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    pulse = torch.zeros(1, 6 * rate_hz, 16)
    pulse[:, : rate_hz // 2] = 1.0
    with torch.no_grad():
        y = layer(pulse, step_scale=step_scale)[0] - layer.D * pulse
    return torch.arange(1, y.shape[1] + 1) / rate_hz, y[0, :, 0]


# %%
fig, ax = plt.subplots()
for rate, scale, look in ((20, 1.0, "o"), (200, 0.1, "-"), (200, 1.0, "--")):
    _ = ax.plot(*response(layer, rate, scale), look, markersize=3, label=f"{rate} Hz, step_scale {scale:g}")
_ = ax.set(xlabel="time (s)", ylabel="response of feature 0", title="after a pulse of 0.5 s in every feature")
_ = ax.legend(frameon=False)
_ = plots.save(fig, book.figures / "step_scale.png")

# %% [markdown]
# How far the two rates are apart, as a share of the largest response, with and without the scale:


# %%
def apart(layer: S5, step_scale: float) -> float:
    (_, slow), (_, fast) = response(layer, 20, 1.0), response(layer, 200, step_scale)
    return float((fast[9::10] - slow).abs().max() / slow.abs().max())


apart(layer, 0.1) < 0.2, apart(layer, 1.0) > 1

# %% [markdown]
# What is left with the scale is the fast modes' doing: they take a step of 1/20 s badly.
#
# The same in frequencies. An input that turns by ω per step comes out multiplied by
#
# $$ G(\omega) = \tfrac12 \left[ C (1 - \bar\Lambda e^{-j\omega})^{-1} \bar B
#    + \overline{C (1 - \bar\Lambda e^{j\omega})^{-1} \bar B} \right] , $$
#
# and ω radians per step are ω · rate / 2π Hz. Below, its size over all features, $\|G\|_F$; each peak is a mode.


# %%
def gain_over_hz(layer: S5, rate_hz: float, step_scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    omega = torch.logspace(-3, 0, 3000) * math.pi
    with torch.no_grad():
        G = frequency_response(layer, omega, step_scale)
    return omega * rate_hz / (2 * math.pi), torch.linalg.matrix_norm(G)


# %% [markdown]
# With `step_scale` the peaks stay where they are in Hz, up to a few Hz. Without it they all move to ten times
# the frequency. Close to 10 Hz, half the rate of 20 Hz, even the right scale does not help: up there a layer that
# steps at 20 Hz shows its modes in the wrong place. The last section looks at that.

# %%
fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 3.4))
for rate, scale, colour, look in (
    (20, 1.0, plots.BLUE, "-"),
    (200, 0.1, plots.ORANGE, "--"),
    (200, 1.0, plots.GREY, "-"),
):
    _ = ax.loglog(
        *gain_over_hz(layer, rate, scale), look, color=colour, lw=1, label=f"{rate} Hz, step_scale {scale:g}"
    )
_ = ax.axvline(10, color="black", ls=":", lw=0.8, label="half of 20 Hz")
_ = ax.set(
    xlabel="frequency (Hz)", ylabel="$\\|G\\|_F$", title="frequency response at two rates", xlim=(0.05, 100)
)
_ = ax.legend(frameon=False)
_ = plots.save(fig, book.figures / "frequency.png")

# %% [markdown]
# ## The frequency mask
#
# A mode that turns by more than half a turn a step cannot be told from a slower one. The paper
# (arXiv 2402.15584) therefore keeps a mode only where $f = \Delta\,|\mathrm{Im}\,\lambda| / 2\pi < \alpha/2$, α = 1 being
# Nyquist's limit. The released code applies the rule once, when the layer is built (`bandlimit_mode="once"`); here
# it can also be held at every call, with the step then in use (`"held"`).


# %%
def build(bandlimit: float | None, mode: str = "held") -> S5:
    _ = torch.manual_seed(0)  # the same weights each time
    return S5(16, 64, bandlimit=bandlimit, bandlimit_mode=mode)


free, held, once = build(None), build(0.5), build(0.5, "once")

# %% [markdown]
# As long as nothing is trained and the scale is 1, the two are the same layer. One step of gradient descent, and
# the columns of C that were set to zero are back, together with the modes above the limit:

# %%
before = int(once.C.detach().abs().sum((0, 2)).count_nonzero())
once(torch.randn(1, 50, 16))[0].square().sum().backward()
trained = build(0.5, "once")
with torch.no_grad():
    trained.C -= 0.01 * once.C.grad
after = int(trained.C.abs().sum((0, 2)).count_nonzero())
before < 64, after

# %% [markdown]
# Left, how many modes reach the output as `step_scale` changes: the held mask follows it, the other one stays as
# built. Middle and right, the responses at 20 Hz and, with `step_scale` 0.1, at 200 Hz; the limit is dotted. At the higher rate the held
# mask lets the fast modes through, as the rule says: 200 Hz can show them. Note what that means for a network
# trained at 20 Hz with a held mask: these modes have never been trained.

# %%
fig, axes = plt.subplots(1, 3, figsize=(plots.WIDTH_IN, 2.9))
scales = torch.logspace(-2, 1, 200)
kept = [int(passes_band(Lambda, scale * steps, 0.5).sum()) for scale in scales]
_ = axes[0].axhline(64, color=plots.GREY, label="no mask")
_ = axes[0].semilogx(scales, kept, color=plots.BLUE, label="held")
_ = axes[0].axhline(before, color=plots.ORANGE, ls="--", label="once, untrained")
_ = axes[0].set(
    xlabel="step_scale", ylabel="modes that reach the output", title="mask at α = 0.5", ylim=(0, 66)
)
_ = axes[0].legend(frameon=False, fontsize=8, loc="lower left")
for ax, (rate, scale) in zip(axes[1:], ((20, 1.0), (200, 0.1)), strict=True):
    for model, colour, look in ((free, plots.GREY, "-"), (held, plots.BLUE, "-"), (once, plots.ORANGE, "--")):
        _ = ax.loglog(*gain_over_hz(model, rate, scale), look, color=colour, lw=1)
    _ = ax.axvline(rate / 4, color="black", ls=":", lw=0.8)
    _ = ax.set(
        xlabel="frequency (Hz)", title=f"{rate} Hz, step_scale {scale:g}", xlim=(0.1, 100), ylim=(2e-4, 0.4)
    )
_ = axes[1].set(ylabel="$\\|G\\|_F$")
_ = plots.save(fig, book.figures / "mask.png")

# %% [markdown]
# The slower the modes that are left, the better the two rates agree on the pulse of above:

# %%
shares = [apart(build(alpha, "once"), 0.1) for alpha in (None, 0.5, 0.25, 0.1)]
shares == sorted(shares, reverse=True), shares[-1] < 0.05

# %% [markdown]
# ## The H2 norm: how much lies above a frequency
#
# The paper's other remedy is a penalty on what the layer answers above a frequency. Of the continuous layer in
# units of one step, it is (the book's definition, in closed form in `ssmbook.ssm.h2`)
#
# $$ \|G\|_{\omega_{min}}^2 = \frac1\pi \int_{\omega_{min}}^\infty \|G(j\omega)\|_F^2 \, d\omega . $$
#
# A mask at α corresponds to $\omega_{min} = \pi\alpha$: it leaves, above that, only the skirts of the modes below.

# %%
fig, ax = plt.subplots()
omegas = torch.logspace(-2, 1.5, 120)
for alpha, colour in ((None, plots.GREY), (1.0, plots.GREEN), (0.5, plots.BLUE), (0.25, plots.RED)):
    model = build(alpha)
    norms = [model.h2_norm(float(omega)).item() for omega in omegas]
    _ = ax.loglog(omegas, norms, color=colour, label="no mask" if alpha is None else f"mask at α = {alpha:g}")
    if alpha is not None:
        _ = ax.plot(math.pi * alpha, model.h2_norm(math.pi * alpha).item(), "o", color=colour)
_ = ax.set(
    xlabel="$ω_{min}$ (radians per step)",
    ylabel="H2 norm above $ω_{min}$",
    title="what lies above a frequency (points: $ω_{min} = πα$)",
)
_ = ax.legend(frameon=False)
_ = plots.save(fig, book.figures / "h2.png")

# %% [markdown]
# ## What aliasing at a higher rate looks like
#
# Sampled at 20 Hz, a signal of 13 Hz and one of 7 Hz are the same numbers:

# %%
ticks = torch.arange(40) / 20
bool(
    torch.allclose(
        torch.cos(2 * math.pi * 13 * ticks), torch.cos(2 * math.pi * 7 * ticks), rtol=0, atol=1e-10
    )
)

# %% [markdown]
# So a mode of 13 Hz, in a network that is trained at 20 Hz, is trained as if it were one of 7 Hz. With the rate it
# comes to light: at 200 Hz, with the right step_scale, the same weights really turn at 13 Hz. Nothing in
# training has prepared the rest of the network for that.

# %%
fast_mode = torch.tensor([-3 + 2j * math.pi * 13]) / 20  # per step of 1/20 s
at_20, _ = discretize(fast_mode, torch.tensor(1.0), "zoh")
at_200, _ = discretize(fast_mode, torch.tensor(0.1), "zoh")
bool(passes_band(fast_mode, torch.tensor(1.0), 1.0)), bool(passes_band(fast_mode, torch.tensor(0.1), 1.0))

# %% [markdown]
# The mask at α = 1 takes the mode out at 20 Hz and lets it through at 200 Hz, as printed above. How fast a mode of a
# given frequency is seen to turn, at either rate and with either rule, is the angle of $\bar\Lambda$: zoh folds it back
# at half the rate, bilinear bends it towards half the rate, which it never reaches.


# %%
def seen_hz(hz: torch.Tensor, rate_hz: float, method: str) -> torch.Tensor:
    bar, _ = discretize(2j * math.pi * hz, torch.tensor(1 / rate_hz), method)
    return bar.angle().abs() * rate_hz / (2 * math.pi)


# %%
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(plots.WIDTH_IN, 3.0))
t = torch.linspace(0, 0.5, 1000)
decay = torch.exp(-3 * t)
_ = left.plot(t, decay * torch.cos(2 * math.pi * 13 * t), color=plots.GREY, lw=0.8, label="the mode, 13 Hz")
_ = left.plot(t, decay * torch.cos(2 * math.pi * 7 * t), color=plots.BLUE, lw=0.8, ls="--", label="7 Hz")
_ = left.plot(
    torch.arange(11) / 20, (at_20 ** torch.arange(11)).real, "o", color=plots.BLUE, ms=4, label="its samples"
)
_ = left.set(xlabel="time (s)", ylabel="Re $\\bar{\\Lambda}^k$", title="seen at 20 Hz", ylim=(-1.1, 1.9))
_ = middle.plot(t, decay * torch.cos(2 * math.pi * 13 * t), color=plots.GREY, lw=0.8, label="the mode, 13 Hz")
_ = middle.plot(
    torch.arange(101) / 200,
    (at_200 ** torch.arange(101)).real,
    ".",
    color=plots.ORANGE,
    ms=4,
    label="step_scale 0.1",
)
_ = middle.plot(
    torch.arange(101) / 200, (at_20 ** torch.arange(101)).real, lw=0.8, color=plots.RED, label="step_scale 1"
)
_ = middle.set(xlabel="time (s)", title="seen at 200 Hz", ylim=(-1.1, 1.9))
hz = torch.linspace(0.01, 40, 500)
for rate, colour in ((20, plots.BLUE), (200, plots.ORANGE)):
    for method, look in (("zoh", "-"), ("bilinear", "--")):
        _ = right.plot(hz, seen_hz(hz, rate, method), look, color=colour, label=f"{method}, {rate} Hz")
_ = right.set(xlabel="frequency of the mode (Hz)", ylabel="frequency seen (Hz)", ylim=(0, 55))
for ax in (left, middle, right):
    _ = ax.legend(frameon=False, fontsize=7)
_ = plots.save(fig, book.figures / "aliasing.png")

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # State-space layers
#
# A frame of events shows what moved in the last 50 ms. A car that waits at a crossing shows nothing at
# all, so a detector needs a memory. Here that memory is a linear differential equation per feature, and its
# one advantage over a gated recurrent cell is the subject of this book: it is written in continuous time,
# so the same weights can be read at another rate.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %%
import matplotlib.pyplot as plt
import torch

from ssmbook import plots
from ssmbook.experiment import Workspace
from ssmbook.ssm import S5, diagonal_scan, discretize

plots.style()
book = Workspace(profile, data_dir)
_ = torch.manual_seed(0)

# %% [markdown]
# ## From the equation to the recurrence
#
# S5 (Smith et al. 2023) keeps $P$ complex modes, which do not talk to each other:
#
# $$ \dot x = \Lambda x + B u, \qquad y = \mathrm{Re}(C x) + D \circ u . $$
#
# Between two frames, $\Delta$ apart, the input is taken to be constant or to change in a straight line. The
# second choice is the bilinear rule,
#
# $$ \bar\Lambda = \frac{1 + \Delta\Lambda/2}{1 - \Delta\Lambda/2}, \qquad
#    \bar B = \frac{\Delta}{1 - \Delta\Lambda/2}\, B, \qquad x_k = \bar\Lambda x_{k-1} + \bar B u_k . $$
#
# A layer starts from the eigenvalues of HiPPO-LegS: all decay alike, and they turn at many speeds.

# %%
layer = S5(width=16, state_width=16).double()
modes = layer.eigenvalues().detach()
step = layer.log_step.detach().exp()
lambda_bar, _ = discretize(modes, step)
bool((lambda_bar.abs() < 1).all())

# %% [markdown]
# Below, on the left, the modes in continuous time, and on the right the same modes after discretisation:
# inside the unit circle, so the state forgets, slowly where $\Delta$ is small.

# %%
fig, (left, right) = plt.subplots(1, 2)
_ = left.scatter(modes.real, modes.imag, s=14)
_ = left.set(xlabel="Re λ", ylabel="Im λ", title="continuous", xlim=(-1, 0))
_ = right.add_patch(plt.Circle((0, 0), 1, fill=False, color=plots.GREY))
_ = right.scatter(lambda_bar.real, lambda_bar.imag, s=14)
_ = right.set(
    xlabel="Re Λ̄", ylabel="Im Λ̄", title="discrete", aspect="equal", xlim=(0.5, 1.02), ylim=(-0.3, 0.3)
)
_ = plots.save(fig, book.figures / "modes.png")

# %% [markdown]
# ## A state that is really carried
#
# The state after the last frame of a chunk goes into the next chunk. Then chunks, one long pass and single
# steps are three ways to compute the same numbers.

# %%
u = torch.randn(3, 40, 16, dtype=torch.float64)
whole, _ = layer(u)
first, state = layer(u[:, :15])
second, _ = layer(u[:, 15:], state)
bool(torch.allclose(torch.cat([first, second], 1), whole, rtol=0, atol=1e-10))

# %%
state, steps = None, []
for u_k in u.unbind(1):
    y_k, state = layer.step(u_k, state)
    steps.append(y_k)
bool(torch.allclose(torch.stack(steps, 1), whole, rtol=0, atol=1e-10))

# %% [markdown]
# ## Why the published carry has no effect
#
# A parallel scan combines pairs $(a_i, b_i)$ with $(a_j, b_j) \circ (a_i, b_i) = (a_j a_i,\ a_j b_i + b_j)$ and
# returns the second halves. The released code hands its state over by multiplying the *first* transition,
# $a_0 \leftarrow a_0 x_{prev}$. But $a_0$ enters only products of transitions, never a returned state. So
# whatever the state is, the outputs are the same:

# %%
a = torch.polar(torch.full((5,), 0.9), torch.linspace(0, 1, 5)).expand(1, 8, 5).clone()
b = torch.randn(1, 8, 5, dtype=torch.complex64)
x_prev = torch.randn(1, 5, dtype=torch.complex64)
published = a.clone()
published[:, 0] *= x_prev
bool(torch.equal(diagonal_scan(published, b), diagonal_scan(a, b)))

# %% [markdown]
# The right place is the input of the first step, $x_0 = \bar\Lambda x_{prev} + \bar B u_0$:

# %%
carried = b.clone()
carried[:, 0] += a[:, 0] * x_prev
bool(torch.allclose(diagonal_scan(a, carried), diagonal_scan(a, b, x_prev), atol=1e-6))

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
def response(rate_hz: float, step_scale: float, seconds: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    pulse = torch.zeros(1, int(seconds * rate_hz), 16, dtype=torch.float64)
    pulse[:, : int(0.2 * rate_hz)] = 1.0
    with torch.no_grad():
        y, _ = layer(pulse, step_scale=step_scale)
    return torch.arange(1, y.shape[1] + 1) / rate_hz, y[0, :, 0] - layer.D[0].detach() * pulse[0, :, 0]


# %%
fig, ax = plt.subplots()
for rate, scale, look in ((20, 1.0, "o"), (200, 0.1, "-"), (200, 1.0, "--")):
    _ = ax.plot(*response(rate, scale), look, markersize=4, label=f"{rate} Hz, step_scale {scale:g}")
_ = ax.set(xlabel="time (s)", ylabel="response of feature 0 to a pulse of 0.2 s")
_ = ax.legend(frameon=False)
_ = plots.save(fig, book.figures / "step_scale.png")

# %% [markdown]
# How far the two are apart, as a share of the largest response:

# %%
(_, slow), (_, fast) = response(20, 1.0), response(200, 0.1)
difference = (fast[9::10] - slow).abs().max() / slow.abs().max()
bool(difference < 0.1)

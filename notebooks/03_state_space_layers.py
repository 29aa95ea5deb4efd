# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-layers)=
# # State-space layers from the ODE
#
# A frame of events shows what moved in the last 50 ms. A car that waits at a crossing shows nothing at
# all, so a detector needs a memory. How can a memory be a differential equation, and how does that equation become a layer of a
# network? This chapter goes the whole way: from a mass on a spring to the twenty lines of S5, which you will have
# written by the end.
#
# The advantage over a gated recurrent cell is the subject of this book. The equation is written in continuous
# time, so that the same weights can be read at another rate.
#
# After this chapter you can
#
# - write a physical system in state-space form, and read its behaviour from its eigenvalues;
# - say what HiPPO's state remembers, and why S5 keeps only a part of it;
# - discretise a mode with two rules, and say how wrong each is at a given step;
# - write S5, and carry its state from chunk to chunk.
#
# How the recurrence is computed fast is the subject of [chapter 4](#ch-scans), and what happens at other rates that of [chapter 5](05_time_scale.ipynb).

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %% tags=["hide-input"]
import math

import numpy as np
import pandas as pd
import torch

from ssmbook import plots
from ssmbook.drawings import layers as drawings
from ssmbook.ssm import S5, SequenceLayer, diagonal_scan, discretize, plain
from ssmbook.ssm.hippo import hippo_legs, legs_spectrum, s4d_spectrum
from ssmbook.study import Workspace, in_words

plots.style()
workspace = Workspace(profile, data_dir)
torch.set_default_dtype(torch.float64)


def holds(**checks: bool) -> pd.DataFrame:
    """Checks as a table, a row each."""
    return pd.Series(
        {name.replace("_", " "): bool(value) for name, value in checks.items()}, name="holds"
    ).to_frame()


# %% [markdown]
# (sec-spring)=
# ## A mass on a spring
#
# Begin with something that can be touched. A block of mass $m$ is held by a spring of stiffness $k$ and a damper $c$, and
# a force $u(t)$ pushes it. Newton's law for its position $q$ reads
#
# $$ m\,\ddot q(t) = u(t) - c\,\dot q(t) - k\,q(t) . $$ (eq-newton)

# %% tags=["hide-input"]
#| label: fig-spring
#| caption: >-
#|   A mass between a spring, a damper and a force, the system of {eq}`eq-newton`. Its state is the position and the velocity.
#| alt: A block attached to a wall by a zigzag spring and a piston, and an arrow that pushes it.
_ = plots.save(drawings.spring(), workspace.figures / "spring.png")

# %% [markdown]
# What has to be known at one moment to predict the future, given the force? Position and velocity, no more. They are
# the **state**, $x = (q, \dot q)$, and {eq}`eq-newton` becomes a first-order equation for it, with matrices:
#
# $$ \dot x = \underbrace{\begin{pmatrix} 0 & 1 \\ -k/m & -c/m \end{pmatrix}}_{A} x
#    + \underbrace{\begin{pmatrix} 0 \\ 1/m \end{pmatrix}}_{B} u, \qquad
#    y = \underbrace{\begin{pmatrix} 1 & 0 \end{pmatrix}}_{C} x . $$ (eq-spring-matrices)
#
# This is the form of every linear state-space model [@gu2022s4, eq. 1], with an input of $H$ features, a state of $P$ numbers, and a skip $D$ from input to output:
#
# $$ \dot x(t) = A\,x(t) + B\,u(t), \qquad y(t) = C\,x(t) + D\,u(t) . $$ (eq-ode)
#
# Its solution adds up what the past has left, each contribution carried forward by the matrix exponential:
#
# $$ x(t) = e^{tA}\, x(0) + \int_0^t e^{(t - s) A}\, B\, u(s)\, ds , $$ (eq-solution)
#
# as one sees by differentiating. The state is a memory: it holds the past through the weight $e^{\tau A} B$ of what happened $\tau$ ago.
# For the spring the weight is decided by the eigenvalues of $A$,
#
# $$ \lambda_{1,2} = -\frac{c}{2m} \pm \sqrt{\frac{c^2}{4m^2} - \frac km} . $$ (eq-spring-eigenvalues)
#
# With little damping the root is imaginary, and the eigenvalues are a *conjugate pair*: the block swings, $\mathrm{Im}\,\lambda$
# radians per second, while the swing fades by $e^{\mathrm{Re}\,\lambda\, t}$. With much damping both are real and it creeps.

# %%
t = torch.linspace(0, 6, 601)
damping = {"c = 0.5": 0.5, "c = 2": 2.0, "c = 8": 8.0}
curves, eigenvalues, rows = {}, {}, {}
for name, c in damping.items():
    A = torch.tensor([[0.0, 1.0], [-9.0, -c]])  # k = 9, m = 1
    B = torch.tensor([0.0, 1.0])
    # The force is 1 from t = 0 on: the integral of the equation above is A⁻¹ (e^{tA} − 1) B.
    x = torch.linalg.solve(A, (torch.matrix_exp(t[:, None, None] * A) - torch.eye(2)) @ B[:, None])[..., 0]
    curves[name], eigenvalues[name] = x[:, 0].numpy(), torch.linalg.eigvals(A).numpy()
    rows[name] = {
        "λ₁": str(eigenvalues[name][0].round(2)),
        "λ₂": str(eigenvalues[name][1].round(2)),
        "at 6 s": float(x[-1, 0]),
    }
pd.DataFrame(rows).T

# %% tags=["hide-input"]
#| label: fig-spring-response
#| caption: >-
#|   The spring's answer to a constant force, from {eq}`eq-solution`, and the eigenvalues {eq}`eq-spring-eigenvalues` behind each curve. A conjugate pair swings; a pair of real ones creeps, the one near zero slowly.
#| alt: Left three curves that settle at the same level, one with strong oscillation; right crosses in the left half of the complex plane.
_ = plots.save(
    drawings.step_responses(t.numpy(), curves, eigenvalues), workspace.figures / "spring_response.png"
)
print(f"all settle at 1/k = {1 / 9:.3f}")

# %% [markdown]
# Every eigenvalue has such a behaviour of its own. Its real part says how long it remembers, its imaginary part how fast it turns; at a
# positive real part it grows without bound, and is useless as a memory.

# %% tags=["hide-input"]
#| label: fig-mode-plane
#| caption: >-
#|   Re $e^{\lambda t}$ for a grid of eigenvalues, each curve where its $\lambda$ lies in the complex plane: decay to the left, faster turning upwards. Right of zero (red) modes grow.
#| alt: A grid of twelve small curves; those at the left die out quickly, those at the top oscillate faster, the right column grows.
_ = plots.save(
    drawings.mode_plane((-3.0, -1.0, -0.3, 0.3), (0.0, 4.0, 12.0)), workspace.figures / "mode_plane.png"
)

# %% [markdown]
# (sec-modes)=
# ## Modes that do not interact
#
# In {eq}`eq-spring-matrices` position and velocity depend on each other. In the basis of the eigenvectors they do not: with
# $A = V \Lambda V^{-1}$ and $\tilde x = V^{-1} x$,
#
# $$ \dot{\tilde x} = \Lambda\, \tilde x + V^{-1} B\, u, \qquad y = C V\, \tilde x , $$ (eq-diagonal)
#
# and since $\Lambda$ is diagonal, each {term}`mode` is a scalar equation of its own [@smith2023s5, sec. 3, on diagonalised dynamics].
# Without the tilde, which is dropped from here on, and with $b_n$ and $c_n$ the entries of $V^{-1} B$ and $C V$, a mode that starts at 0 is
#
# $$ \dot x_n = \lambda_n x_n + b_n u, \qquad x_n(t) = \int_0^t e^{\lambda_n (t - s)}\, b_n\, u(s)\, ds . $$ (eq-mode)
#
# A layer of modes therefore needs $P$ numbers for its dynamics instead of $P^2$. The price is that they are complex. A real system has its modes in conjugate pairs, whose contributions to a real output are
# conjugates, too; one of each pair is enough:
#
# $$ y = \sum_{n=1}^{P} c_n x_n = 2\, \mathrm{Re} \sum_{n=1}^{P/2} c_n x_n . $$ (eq-conjugate)

# %%
A = torch.tensor([[0.0, 1.0], [-9.0, -0.5]])
Lambda, V = torch.linalg.eig(A)
b = torch.linalg.solve(V, torch.tensor([[0.0], [1.0]]).to(V.dtype))[:, 0]
c = V[0]
x = (
    b / Lambda * (torch.exp(t[:, None] * Lambda) - 1)
)  # each mode of the equation above under a constant force
both, half = (x @ c), 2 * (x[:, 0] * c[0]).real
holds(
    the_modes_give_the_same_answer=np.allclose(both.real, curves["c = 0.5"], rtol=0, atol=1e-12),
    the_sum_is_real=both.imag.abs().max() < 1e-12,
    one_of_the_pair_is_enough=torch.allclose(half, both.real, rtol=0, atol=1e-12),
)

# %% [markdown]
# S5 has a second option: it can simply hold all $P$ modes, trained freely, and take the real part of the output. The published detector does that, so that its modes need not stay in pairs. `S5(conj_sym=True)` holds half of them.
#
# (sec-hippo)=
# ## What the state should remember
#
# A layer could start from random eigenvalues. HiPPO asks which $A$ makes the state the *best* summary of the past. Its answer for a past that is weighted
# evenly over all time so far, HiPPO-LegS, writes the past as coefficients of Legendre polynomials [@gu2020hippo, on HiPPO-LegS]; in the form of [@gu2022s4, eq. 2],
#
# $$ A_{nk} = -\begin{cases} \sqrt{2n+1}\sqrt{2k+1} & n > k \\ n + 1 & n = k \\ 0 & n < k \end{cases},
#    \qquad B_n = \sqrt{2n+1} . $$ (eq-hippo)

# %%
A, p = (torch.from_numpy(array) for array in hippo_legs(64))
B = math.sqrt(2) * p  # p_n = √(n + ½)
pd.DataFrame(A[:4, :4]).round(2)

# %% [markdown]
# For that even weight the state obeys $\dot x = (A x + B u)/t$, which changes with time. S4 and S5 leave the $1/t$ away, {eq}`eq-ode`, and
# the even weight becomes one that fades exponentially with age. State $n$ then sees the past through its weight $(e^{\tau A} B)_n$, which
# is a Legendre polynomial of $z = e^{-\tau}$, "exponentially warped" [@gu2023train, on LegS in the time-invariant form]:
#
# $$ (e^{\tau A} B)_n = L_n(e^{-\tau})\, e^{-\tau}, \qquad L_n(z) = \sqrt{2n+1}\, P_n(2z - 1) , $$ (eq-hippo-kernel)
#
# where $P_n$ is the Legendre polynomial of degree $n$.

# %%
ago = torch.linspace(0, 5, 501)
z = torch.exp(-ago)
weights = torch.matrix_exp(ago[:, None, None] * A[:5, :5]) @ B[:5]  # [501, 5]
legendre = torch.from_numpy(np.polynomial.legendre.legvander(2 * z.numpy() - 1, 63)) * B  # [501, 64]
holds(
    the_weights_are_Legendre_polynomials=torch.allclose(
        weights, legendre[:, :5] * z[:, None], rtol=0, atol=1e-9
    )
)

# %% [markdown]
# The $L_n$ are orthonormal over $z$ in $[0, 1]$. So $x_n$ is a coefficient of the past, and the past can be read
# back from the state:
#
# $$ u(t - \tau) \;\approx\; \sum_{n < P} x_n(t)\, L_n(e^{-\tau}) . $$ (eq-hippo-read)
#
# Here a signal runs through the equation (in steps of 0.01, by the zero-order hold that {numref}`sec-discretisation` derives), and then only the state is left. As $A$ is lower triangular, the first states do not depend on the
# later ones: a smaller model would hold the first of these numbers.

# %%
delta, seconds = 0.01, 12.0
time = torch.arange(delta, seconds, delta)
signal = torch.sin(2.2 * time) + 0.6 * torch.sin(5 * time + 1) + 0.4 * torch.sin(9 * time)
A_bar = torch.matrix_exp(delta * A)
B_bar = torch.linalg.solve(A, (A_bar - torch.eye(64)) @ B)
x = torch.zeros(64)
for u_k in signal:
    x = A_bar @ x + B_bar * u_k
past = {size: (legendre[:, :size] @ x[:size]) for size in (4, 16, 64)}
true = torch.from_numpy(np.interp(seconds - ago.numpy(), time.numpy(), signal.numpy()))
pd.DataFrame(
    {
        f"{size} states": {
            f"τ from {lo} to {hi}": float((read - true)[(ago >= lo) & (ago < hi)].square().mean().sqrt())
            for lo, hi in ((0, 1), (1, 2), (2, 4))
        }
        for size, read in past.items()
    }
).round(2).rename_axis("root mean square error")

# %% tags=["hide-input"]
#| label: fig-hippo
#| caption: >-
#|   Left, the weights {eq}`eq-hippo-kernel` of the first five states. Right, the past of a signal as read by {eq}`eq-hippo-read` from the first 4, 16 and all 64 states: the
#|   recent past is read better than the distant past, and a larger state reaches further back. Four states are too few for this signal.
#| alt: Left five curves that start high and oscillate; right a grey signal followed closely near zero by three curves that fall off further back.
pictured = {size: read.numpy() for size, read in past.items()}
fig = drawings.memory_of_hippo(
    ago.numpy(), weights.numpy(), ((seconds - time).numpy(), signal.numpy()), pictured
)
_ = plots.save(fig, workspace.figures / "hippo.png")

# %% [markdown]
# (sec-normal)=
# ## The part that S5 keeps
#
# HiPPO's $A$ cannot be diagonalised in practice: its eigenvectors are so nearly parallel that the change of basis loses all digits. But it is a normal matrix minus one of rank one [@gu2022s4, theorem 1],
#
# $$ A = S - p\,p^\top, \qquad p_n = \sqrt{n + \tfrac12}, \qquad S = V \Lambda V^*, \quad V \text{ unitary} , $$ (eq-normal)
#
# with $V^*$ the conjugate transpose. S4 keeps both parts. S5 starts from $S$ alone [@smith2023s5, sec. 4, on diagonalisable starts], as S4D does [@gu2022s4d, sec. 4], and drops the rank-one term.

# %%
Lambda, V = (torch.from_numpy(array.copy()) for array in legs_spectrum(64))
S = A + torch.outer(p, p)
condition = {"A": np.linalg.cond(np.linalg.eig(A.numpy())[1]), "S": np.linalg.cond(V.numpy())}
holds(
    eigenvectors_of_A_are_badly_conditioned=condition["A"] > 1e12,
    those_of_S_are_orthogonal=condition["S"] < 1 + 1e-9,
    S_is_recovered=torch.allclose((V * Lambda) @ V.mH, S.to(V.dtype), rtol=0, atol=1e-9),
    all_modes_decay_alike_by_one_half=(Lambda.real == -0.5).all(),
    they_come_in_conjugate_pairs=torch.allclose(Lambda.imag, -Lambda.imag.flip(0), rtol=0, atol=1e-9),
)

# %% [markdown]
# All modes have Re λ = −½, and they turn at many speeds. S4D has two simpler starts: "lin" spaces its modes evenly, $\mathrm{Im}\,\lambda_n = \pi n$, and "inv" imitates that spectrum [@gu2022s4d, sec. 4],
#
# $$ \mathrm{Im}\,\lambda_n = \frac{P}{\pi} \left( \frac{P}{2n + 1} - 1 \right) , \qquad n = 0, \dots, \tfrac P2 - 1 , $$ (eq-inv)
#
# both with the conjugates beside them.

# %% tags=["hide-input"]
#| label: fig-spectra
#| caption: >-
#|   The turning speeds of the three starts with 64 modes. LegS has a few very fast modes and many slow ones; "inv" {eq}`eq-inv` follows it closely, "lin" spaces them evenly.
#| alt: Three sets of points in order of size on a logarithmic axis, symmetric around zero; two of them nearly coincide.
starts = {
    "LegS, S5's start": Lambda.numpy(),
    "inv": s4d_spectrum(64, "inv")[0],
    "lin": s4d_spectrum(64, "lin")[0],
}
_ = plots.save(drawings.spectra(starts), workspace.figures / "spectra.png")
print(
    "fastest mode, radians per unit of time:",
    in_words({name: f"{np.abs(v.imag).max():.1f}" for name, v in starts.items()}),
)

# %% [markdown]
# (sec-discretisation)=
# ## From the equation to the recurrence
#
# Frames come a step $\Delta$ apart, and the layer needs a recurrence [@smith2023s5, eq. 2]
#
# $$ x_k = \bar\Lambda\, x_{k-1} + \bar B\, u_k , \qquad y_k = \mathrm{Re}(C x_k) + D \circ u_k . $$ (eq-recurrence)
#
# Both rules in use follow from one step of {eq}`eq-mode`. **Zero-order hold** takes the input as constant within the step. The integral is then known [@smith2023s5, sec. 3, on the parameterisation]:
#
# $$ \bar\lambda = e^{\Delta\lambda}, \qquad \bar b = \int_0^\Delta e^{\lambda s} ds\; b = \frac{e^{\Delta\lambda} - 1}{\lambda}\, b . $$ (eq-zoh)
#
# The **bilinear** rule replaces the derivative over the step by the mean of its values at both ends, with the one input of the step, $u_k$, at either end,
#
# $$ \frac{x_k - x_{k-1}}{\Delta} = \lambda\, \frac{x_k + x_{k-1}}{2} + b\, u_k , $$ (eq-trapezoid)
#
# and solving for $x_k$ gives [@gu2022s4, eq. 3]
#
# $$ \bar\lambda = \frac{1 + \Delta\lambda/2}{1 - \Delta\lambda/2}, \qquad \bar b = \frac{\Delta}{1 - \Delta\lambda/2}\, b . $$ (eq-bilinear)
#
# The released detector uses the bilinear rule; so do the formulas of {numref}`sec-twenty-lines`.

# %% tags=["hide-input"]
#| label: fig-holds
#| caption: >-
#|   What the two rules assume. Left, zero-order hold {eq}`eq-zoh`: exact for an input that is constant in each step. Right, bilinear {eq}`eq-bilinear`: the derivative is integrated over a step as a trapezoid.
#| alt: Left a curve approximated by a staircase, right the same curve approximated by straight segments.
_ = plots.save(drawings.holds(), workspace.figures / "holds.png")

# %% [markdown]
# Where do the modes go? Inside the unit circle, $|\bar\lambda| < 1$, a state forgets, and both rules put every decaying mode there. The angle of
# $\bar\lambda$ is the turn per step; π, at −1, is half a turn, {term}`Nyquist <Nyquist frequency>`'s limit. Zero-order hold winds fast modes around
# the circle, so that they look slow again; the bilinear rule squeezes them all in before −1, and close to the circle: the fastest modes hardly
# decay any more, and their $|\bar\lambda|$ below is rounded to 1.

# %%
mapped = {
    rule: {step: discretize(Lambda, torch.tensor(step), rule)[0].numpy() for step in (0.01, 0.1, 0.4)}
    for rule in ("bilinear", "zoh")
}
pd.DataFrame(
    {
        rule: {f"Δ = {step:g}": f"{np.abs(bar).max():.3f}" for step, bar in steps.items()}
        for rule, steps in mapped.items()
    }
).rename_axis("largest |λ̄|")

# %% tags=["hide-input"]
#| label: fig-poles
#| caption: >-
#|   The 64 modes of the start, continuous (left) and discretised by each rule with three steps. All stay inside the unit circle. At Δ = 0.4 most of them have $\Delta\,|\mathrm{Im}\,\lambda| > \pi$, more than half a turn per step: zero-order hold winds these around, bilinear crowds them near −1.
#| alt: Three panels, a vertical line of points, and two unit circles with points along arcs that wrap further for larger steps.
_ = plots.save(drawings.poles(Lambda.numpy(), mapped), workspace.figures / "modes.png")

# %% [markdown]
# (sec-error)=
# ## How wrong is a step?
#
# For one mode and the input $u = e^{j\omega t}$ the solution of {eq}`eq-mode` is known,
#
# $$ x(t) = \frac{e^{j\omega t} - e^{\lambda t}}{j\omega - \lambda} , $$ (eq-mode-answer)
#
# and the recurrence should come close to it as steps get shorter. What $u_k$ stands for matters more than the rule: a window of events is a mean over its step, which is close to
# the input in the *middle* of the step, and not to that at its end.

# %%
mode, omega = torch.tensor([-0.5 + 8j]), 3.0


def error(rule: str, steps: int, where: float) -> float:
    """Largest relative error over 4 units of time, with the input taken ``where`` of a step before its end."""
    step = 4.0 / steps
    t = step * torch.arange(1, steps + 1)
    bar, gain = discretize(mode, torch.tensor(step), rule)
    x = diagonal_scan(bar, gain * torch.exp(1j * omega * (t - where * step))[None, :, None])[0, :, 0]
    exact = (torch.exp(1j * omega * t) - torch.exp(mode * t)) / (1j * omega - mode)
    return float((x - exact).abs().max() / exact.abs().max())


counts = [2**k for k in range(3, 14)]
places = {"middle": 0.5, "end": 0.0}
errors = {
    (rule, place): [error(rule, n, at) for n in counts]
    for rule in ("bilinear", "zoh")
    for place, at in places.items()
}
order = {key: math.log2(values[-2] / values[-1]) for key, values in errors.items()}
pd.Series(order, name="order, from the last halving").round(1).unstack()

# %% tags=["hide-input"]
#| label: fig-discretisation
#| caption: >-
#|   Error of a mode, $\lambda = -\tfrac12 + 8j$, against {eq}`eq-mode-answer`. With the input in the middle both rules are of second order: a tenth of the step gives a hundredth of the
#|   error. Bilinear starts from a larger error, because it also turns the mode a little too slowly. Left of the dotted line the mode is below Nyquist's limit, $\Delta\,|\mathrm{Im}\,\lambda| < \pi$.
#| alt: Four falling lines on logarithmic axes, two steep solid ones and two flatter dashed ones.
fig = drawings.discretisation_errors([4 / n for n in counts], errors, math.pi / 8)
_ = plots.save(fig, workspace.figures / "discretisation.png")

# %% [markdown]
# (sec-twenty-lines)=
# ## Twenty lines
#
# Everything is there to write the layer of [@smith2023s5]. Its parameters are the modes $\Lambda \in \mathbb C^P$, the matrices $B \in \mathbb C^{P \times H}$ and $C \in \mathbb C^{H \times P}$, the skip
# $D \in \mathbb R^H$, and the logarithm of a step for each mode. The step is a parameter that is trained; at run time the factor {term}`step_scale` multiplies it,
#
# $$ \Delta = \texttt{step\_scale} \cdot e^{\texttt{log\_step}} . $$ (eq-step)


# %%
def s5(u, Lambda, B, C, D, log_step, x=None, step_scale=1.0):
    """S5, bilinear: u [L, H] and a state [P] → y [L, H] and the state after the last step."""
    step = step_scale * torch.exp(log_step)  # Δ, [P]
    Lambda_bar = (1 + step * Lambda / 2) / (1 - step * Lambda / 2)  # [P]
    B_bar = (step / (1 - step * Lambda / 2))[:, None] * B  # [P, H]
    x = torch.zeros_like(Lambda) if x is None else x
    outputs = []
    for u_k in u:
        x = Lambda_bar * x + B_bar @ u_k.to(B.dtype)
        outputs.append((C @ x).real + D * u_k)
    return torch.stack(outputs), x


# %% tags=["hide-input"]
#| label: fig-data-flow
#| caption: >-
#|   The function as a diagram, {eq}`eq-recurrence`: the input is written to the modes by $\bar B$, each mode turns and fades by its own factor $\bar\Lambda$ and comes back at the next step, and $C$ reads it. Orange is learnt, blue is the state.
#| alt: Block diagram with a feedback loop through Lambda-bar, an input matrix, an output matrix, a real part and a skip connection.
_ = plots.save(drawings.data_flow(), workspace.figures / "data_flow.png")

# %% [markdown]
# It is the same as the library's [`plain.s5`](#ssmbook.ssm.plain.s5), which works on batches, and as [`S5`](#ssmbook.ssm.S5), the layer that the detector uses, whose scan is a compiled kernel with gradients of its own:

# %%
_ = torch.manual_seed(0)
layer = S5(width=16, state_width=64)
u = torch.randn(40, 16)
names = ("Lambda", "B", "C")
parameters = [torch.view_as_complex(getattr(layer, name).detach()) for name in names] + [
    layer.D.detach(),
    layer.log_step.detach(),
]
ours, last = s5(u, *parameters)
reference, _ = plain.s5(u[None], *parameters)
with torch.no_grad():
    fast, state = layer(u[None])
holds(
    equals_the_plain_version=torch.allclose(ours, reference[0], rtol=0, atol=1e-10),
    equals_the_layer=torch.allclose(ours, fast[0], rtol=0, atol=1e-10),
    and_so_does_the_state=torch.allclose(last, state[0], rtol=0, atol=1e-10),
)

# %% [markdown]
# (sec-kernel)=
# ## The kernel
#
# Unrolled, the recurrence is a convolution [@gu2022s4, eq. 4 and 5]:
#
# $$ y_k = \sum_{i \le k} K_i\, u_{k-i} + D \circ u_k, \qquad K_k = \mathrm{Re}(C\, \bar\Lambda^k \bar B) , $$ (eq-kernel)
#
# so that the kernel is what the layer answers to an impulse. {numref}`sec-fft` computes the layer that way.

# %%
Lambda, steps = layer.eigenvalues().detach(), layer.log_step.detach().exp()
Lambda_bar, gain = discretize(Lambda, steps)
powers = Lambda_bar ** torch.arange(2000)[:, None]  # [2000, 64]
K = ((parameters[2] * powers[:, None]) @ (gain[:, None] * parameters[1])).real  # [2000, 16, 16]
impulse = torch.zeros(2000, 16)
impulse[0, 0] = 1.0
answer = s5(impulse, *parameters)[0] - layer.D.detach() * impulse
holds(the_answer_to_an_impulse_is_the_kernel=torch.allclose(answer, K[:, :, 0], rtol=0, atol=1e-9))

# %% tags=["hide-input"]
#| label: fig-kernels
#| caption: >-
#|   Left, three modes by themselves; each turns by $\Delta\,|\mathrm{Im}\,\lambda|$ and fades by about $\Delta/2$ a step. Right, what all 64 add up to between two features {eq}`eq-kernel`. At the start that is a random mixture, which training shapes.
#| alt: Left three decaying oscillations of different speed; right three irregular curves that decay.
order = (steps * Lambda.imag.abs()).argsort()
shown = {float(steps[i] * Lambda.imag[i].abs()): powers[:200, i].numpy() for i in order[[2, 14, 30]]}
_ = plots.save(drawings.kernels(shown, K[:200, :3, 0].numpy()), workspace.figures / "kernels.png")

# %% [markdown]
# (sec-start)=
# ## Where the step starts
#
# A mode has forgotten all but a share of $1/e$ of its past after
#
# $$ n_{1/e} = \frac{1}{\Delta\, |\mathrm{Re}\,\lambda|} $$ (eq-memory)
#
# steps, since $|\bar\lambda| = e^{\Delta\,\mathrm{Re}\,\lambda}$ by zero-order hold. (By the bilinear rule that holds for slow modes; one that turns fast remembers longer, by a factor of about $1 + (\Delta\,\mathrm{Im}\,\lambda / 2)^2$.) With Re λ = −½ for every mode at the start, the step decides how long the layer remembers. S5 therefore draws a step for each mode, uniformly on a logarithmic
# scale [@smith2023s5, sec. 4, on untied time scales; the same range as @gu2022s4d],
#
# $$ \log \Delta \sim \mathcal U(\log 10^{-3}, \log 10^{-1}) , $$ (eq-step-start)
#
# so that memories between 20 and 2,000 steps are there from the start: between one second and 100 at 20 Hz. $B$ and $C$ are rotated into the basis of the modes, $B = V^* B_0$ and $C = C_0 V$, from a real $B_0$ and a complex $C_0$ whose numbers are drawn from truncated normal distributions.

# %%
memory = 1 / (steps * Lambda.real.abs())
turns = steps * Lambda.imag.abs()
pd.DataFrame(
    {
        "steps until 1/e": memory.quantile(torch.tensor([0.0, 0.5, 1.0])),
        "radians per step": turns.quantile(torch.tensor([0.0, 0.5, 1.0])),
    },
    index=["min", "median", "max"],
).round(2)

# %% tags=["hide-input"]
#| label: fig-memory-start
#| caption: >-
#|   Left, how long each of the 64 modes remembers at the start, {eq}`eq-memory`: evenly spread over two decades. Right, how far each turns in a step, $\Delta\,|\mathrm{Im}\,\lambda|$; above the dotted line, half a turn, a mode would be too fast for the rate.
#| alt: Two bar charts in order of size on logarithmic axes, each a rising staircase over two decades or more.
_ = plots.save(drawings.memory_lengths(memory.numpy(), turns.numpy()), workspace.figures / "memory_start.png")
print(
    f"{int((turns > math.pi).sum())} of 64 modes turn by more than half a turn per step; {int((turns > math.pi / 2).sum())} by more than a quarter"
)

# %% [markdown]
# The modes above the dotted line are those that the {term}`band limit` of the paper is about, which as published removes all that turn by more than a quarter of a turn; see [chapter 5](05_time_scale.ipynb).
#
# (sec-carry)=
# ## A state that is really carried
#
# A recording is longer than what fits into memory during training, and live it has no end. The state after the last frame of one chunk goes into the next,
#
# $$ x_0 = \bar\Lambda\, x_{\mathrm{prev}} + \bar B\, u_0 , $$ (eq-carry)
#
# and then chunks, one long pass and single steps are three ways to compute the same numbers.

# %% tags=["hide-input"]
#| label: fig-three-ways
#| caption: >-
#|   One pass, chunks, and step by step. Where an arrow is red the state is handed over by the caller {eq}`eq-carry`; where it is black it never leaves the layer. If the red arrows are cut, each chunk starts from zero.
#| alt: Three rows of twelve linked squares; red links at none, two, or all places.
_ = plots.save(drawings.three_ways(), workspace.figures / "three_ways.png")

# %%
u = torch.randn(3, 40, 16)
with torch.no_grad():
    whole, _ = layer(u)
    first, state = layer(u[:, :15])
    second, _ = layer(u[:, 15:], state)
    forgotten, _ = layer(u[:, 15:])
    stepped, state = [], None
    for u_k in u.unbind(1):
        y_k, state = layer.step(u_k, state)
        stepped.append(y_k)
holds(
    chunks_equal_one_pass=torch.allclose(torch.cat([first, second], 1), whole, rtol=0, atol=1e-10),
    single_steps_equal_one_pass=torch.allclose(torch.stack(stepped, 1), whole, rtol=0, atol=1e-10),
    a_second_chunk_from_zero_differs_from_one_pass=not torch.allclose(
        torch.cat([first, forgotten], 1), whole, rtol=0, atol=1e-10
    ),
)

# %% [markdown]
# (sec-published-carry)=
# ## Why the published carry has no effect
#
# The code released with [@zubic2024] computes the recurrence $x_k = a_k x_{k-1} + b_k$, with $a_k = \bar\Lambda$ and $b_k = \bar B u_k$, by a parallel scan over the pairs $(a_k, b_k)$, which {numref}`sec-associative` explains. It hands its state over by multiplying the *first* transition, $a_0 \leftarrow a_0\, x_{\mathrm{prev}}$.
# But the scan starts at $x_0 = b_0$: $a_0$ is a factor of products of transitions only, never of a state that the scan returns. So whatever the state is, the outputs are the same:

# %%
a = torch.polar(torch.full((5,), 0.9), torch.linspace(0, 1, 5)).expand(1, 8, 5).clone()
b = torch.randn(1, 8, 5, dtype=torch.complex128)
x_prev = torch.randn(1, 5, dtype=torch.complex128)
published, carried = a.clone(), b.clone()
published[:, 0] *= x_prev  # as released
carried[:, 0] += a[:, 0] * x_prev  # the equation above
holds(
    as_released_equals_no_state_at_all=torch.equal(diagonal_scan(published, b), diagonal_scan(a, b)),
    in_the_right_place_equals_a_carried_state=torch.allclose(
        diagonal_scan(a, carried), diagonal_scan(a, b, x_prev), rtol=0, atol=1e-10
    ),
)

# %% [markdown]
# Published figures are therefore those of independent chunks, each of which starts from zero. This book
# calls that `carry="published"`, and the right one `carry="exact"` ({term}`carry`). [Chapter 13](13_released_code.ipynb) goes through this and the other findings, and [chapter 9](#ch-rates) measures what they amount to.
#
# (sec-block)=
# ## The block around it
#
# S5 is linear in its input. What makes a nonlinear network of it is a block around it, which acts on each step by itself. The detector's block normalises, adds the input again, and mixes the features with a gate
# [@zubic2024, on the SSM block]:
#
# $$ a = \mathrm{LN}_1(x), \qquad z = \mathrm{GELU}(\mathrm{S5}(a)) + a, \qquad b = \mathrm{LN}_2(z), $$ (eq-block)
#
# $$ \mathrm{out} = W_{\mathrm{dec}}\, \mathrm{GEGLU}(W_{\mathrm{enc}}\, b) + b, \qquad \mathrm{GEGLU}(u, g) = u \circ \mathrm{GELU}(g) , $$ (eq-geglu)
#
# where $(u, g)$ are the two halves of $W_{\mathrm{enc}} b$. Note that both skips start at *normalised* values.

# %% tags=["hide-input"]
#| label: fig-block
#| caption: >-
#|   The block {eq}`eq-block`, {eq}`eq-geglu` around S5. Only the blue box knows of time; the others act on each step by itself.
#| alt: A chain of boxes, normalisation, S5, GELU, normalisation and gated mixing, with two skip connections.
_ = plots.save(drawings.block(), workspace.figures / "block.png")

# %% [markdown]
# All nonlinearity lies within a step. The memory itself is linear: what it holds never decides what enters it or what is kept, as the gates of an LSTM do. [Chapter 10](#ch-memory) looks at what that restriction costs.
# Stacked, such blocks are a sequence model. [`SequenceLayer`](#ssmbook.ssm.SequenceLayer) is the block with lengths, masks and resets, for use outside the detector:

# %%
sequence = SequenceLayer(S5(16, 64), 16)
with torch.no_grad():
    y, _ = sequence(torch.randn(2, 30, 16))
print("sequences, steps, features of the answer:", ", ".join(map(str, y.shape)))

# %% [markdown]
# ## What was learnt
#
# A linear differential equation is a memory {eq}`eq-solution`. In the basis of its eigenvectors it consists of modes, each with a decay and a turn {eq}`eq-mode`. HiPPO says which modes to start from, a discretisation rule makes a recurrence of them {eq}`eq-bilinear`, and twenty lines make it
# a layer. Its state can be carried exactly {eq}`eq-carry`; in the released code it is not. The next question is the arithmetic, in [chapter 4](#ch-scans), and then the step: [chapter 5](05_time_scale.ipynb).
#
# ## Exercises
#
# :::{exercise} A second-order low-pass
# :label: ex-second-order
# Write two low-pass filters {eq}`eq-lowpass` in series as one system {eq}`eq-ode` with two states. What are the eigenvalues if the cutoffs differ, and why can the matrix not be diagonalised if they are equal?
# :::
#
# :::{solution} ex-second-order
# :class: dropdown
# ```{literalinclude} solutions/03_state_space_layers.py
# :start-after: # %% ex-second-order
# :end-before: # %% ex-hold-exact
# ```
# :::
#
# :::{exercise} Exact for what is constant
# :label: ex-hold-exact
# Show in numbers that zero-order hold is exact for an input that is constant in each step, at any step length, and that the bilinear rule is not. For which inputs does the bilinear rule settle at the right value all the same, and why?
# :::
#
# :::{solution} ex-hold-exact
# :class: dropdown
# ```{literalinclude} solutions/03_state_space_layers.py
# :start-after: # %% ex-hold-exact
# :end-before: # %% ex-zoh-layer
# ```
# :::
#
# :::{exercise} Zero-order hold in twenty lines
# :label: ex-zoh-layer
# Change the function `s5` to zero-order hold, and compare with `S5(discretization="zoh")`.
# :::
#
# :::{solution} ex-zoh-layer
# :class: dropdown
# ```{literalinclude} solutions/03_state_space_layers.py
# :start-after: # %% ex-zoh-layer
# :end-before: # %% ex-stable
# ```
# :::
#
# :::{exercise} A mode that grows
# :label: ex-stable
# Training does not keep Re λ negative in the released code. Take a mode with Re λ = +0.1. What does a chunk of 21 steps at Δ = 0.1 do with it, and what a stream of 2,000 steps? What does the argument `clip_eigs=True` of [`S5`](#ssmbook.ssm.S5) change?
# :::
#
# :::{solution} ex-stable
# :class: dropdown
# ```{literalinclude} solutions/03_state_space_layers.py
# :start-after: # %% ex-stable
# :end-before: # %% ex-legendre
# ```
# :::
#
# :::{exercise} Orthonormal memories
# :label: ex-legendre
# Check that the $L_n$ of {eq}`eq-hippo-kernel` are orthonormal over $z \in [0, 1]$, and say which weight on the past that corresponds to in time.
# :::
#
# :::{solution} ex-legendre
# :class: dropdown
# ```{literalinclude} solutions/03_state_space_layers.py
# :start-after: # %% ex-legendre
# ```
# :::
#
# ## Further reading
#
# @gu2020hippo derive the matrices from online approximation, @gu2023train explain them again and more simply. @gu2022s4 made a layer of them, @gu2022s4d took the low-rank part away, @smith2023s5 shared one system between all features.
# @orvieto2023 arrive at the same layer from recurrent networks, without an equation. @zubic2024 put it into a detector.

# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# (ch-scans)=
# # Scans, convolutions and speed
#
# A recurrence looks like the slowest thing one can ask of a processor: each step waits for the one before. Why then are state-space
# layers called fast, and what decides how fast they are? This chapter computes the recurrence of [chapter 3](#ch-layers) in three ways
# (step by step, as a tree, and as a convolution), counts what each costs, and compares with measurements.
#
# After this chapter you can
#
# - write a parallel {term}`scan`, and say how much work and how many sequential steps it takes;
# - compute the same layer with Fourier transforms, and say when that is not possible;
# - tell the layers S4, S4D and S5 apart by what they share between features;
# - explain why the time of such a layer is that of moving its state through memory;
# - place an LSTM and Mamba on the same map.

# %% tags=["parameters"]
profile: str = "smoke"  # smoke, demo, gen1-small, gen1-base, gen4-small, gen4-base
data_dir: str = ""  # where data and runs lie; data/<profile> by default

# %% tags=["hide-input"]
import json
import math

import numpy as np
import pandas as pd
import torch

from ssmbook import plots
from ssmbook.drawings import scans as drawings
from ssmbook.ssm import S4, S4D, S5, SelectiveS5, diagonal_scan
from ssmbook.ssm.plain import scan
from ssmbook.study import Workspace
from ssmbook.study.workspace import book_root

plots.style()
workspace = Workspace(profile, data_dir)
torch.set_default_dtype(torch.float64)
_ = torch.manual_seed(0)

# %% [markdown]
# (sec-loop)=
# ## One step after another
#
# The discretised layer is, for each mode by itself, the scalar recurrence [@smith2023s5, eq. 2]
#
# $$ x_k = a_k x_{k-1} + b_k, \qquad k = 0, \dots, L - 1, \qquad a_k, b_k \in \mathbb{C} , $$ (eq-scan-recurrence)
#
# with $a_k = \bar\Lambda$ and $b_k = \bar B u_k$; they may differ from step to step. The obvious program is a loop over
# the steps. [`plain.scan`](#ssmbook.ssm.plain.scan) is that loop, and everything below is tested against it.

# %%
L, P = 64, 8
a = torch.polar(torch.empty(1, L, P).uniform_(0.8, 1.0), torch.empty(1, L, P).uniform_(-1, 1))
b = torch.randn(1, L, P, dtype=torch.complex128)
looped = scan(a, b)
print(f"states: {' × '.join(map(str, looped.shape))}, {str(looped.dtype)[6:]}")

# %% [markdown]
# For one step the loop costs a complex product and a sum for each mode: nothing can be saved in the *amount* of arithmetic, which is called
# the **work**. The trouble is the **span**: $L$ operations one after another, however many processors there are. Within a step the
# modes and the sequences of a batch are independent, which the detector makes use of: at its first stage it has
# thousands of positions, and needs no more parallelism than that. A single long sequence has only its modes.
#
# (sec-associative)=
# ## Steps compose
#
# A step of {eq}`eq-scan-recurrence` is a map $x \mapsto a x + b$, which the pair $(a, b)$ describes. Two steps after each other are again such
# a map, since $a_2 (a_1 x + b_1) + b_2$ is $(a_2 a_1)\, x + (a_2 b_1 + b_2)$. So pairs can be combined by [@smith2023s5, app. H; @blelloch1990, on recurrences]
#
# $$ (a_1, b_1) \bullet (a_2, b_2) = (a_2 a_1,\; a_2 b_1 + b_2) , $$ (eq-combine)
#
# and because it is a composition of maps, the operator is associative:
#
# $$ \bigl( e_1 \bullet e_2 \bigr) \bullet e_3 = e_1 \bullet \bigl( e_2 \bullet e_3 \bigr)
#    = (a_3 a_2 a_1,\; a_3 a_2 b_1 + a_3 b_2 + b_3) . $$ (eq-associative)
#
# Brackets may therefore be set as one likes. If the state before the first step is zero, then the state after step $k$ is the second half of
#
# $$ (\,\cdot\,, x_k) = e_0 \bullet e_1 \bullet \dots \bullet e_k , \qquad e_k = (a_k, b_k) , $$ (eq-prefix)
#
# the running "sum" of the pairs. All running sums of an associative operator are called a **scan** or **prefix sum** [@blelloch1990].


# %%
def combine(first, second):
    """First the map x → a₁ x + b₁, then x → a₂ x + b₂."""
    (a1, b1), (a2, b2) = first, second
    return a2 * a1, a2 * b1 + b2


e = list(zip(a[0], b[0], strict=True))
left, right = combine(combine(e[0], e[1]), e[2]), combine(e[0], combine(e[1], e[2]))
pd.Series(
    {
        "associative: (e₀ • e₁) • e₂ = e₀ • (e₁ • e₂)": torch.allclose(left[1], right[1], rtol=0, atol=1e-12),
        "commutative: e₀ • e₁ = e₁ • e₀": torch.allclose(combine(e[0], e[1])[1], combine(e[1], e[0])[1]),
    },
    name="holds",
).to_frame()

# %% [markdown]
# (sec-tree)=
# ## A tree of steps
#
# Since brackets are free, neighbours can be combined in pairs, all at the same time. That halves the length. The scan of the half-length list gives every second
# state, and one more combination each gives the states between. This is the whole algorithm [@blelloch1990, on the up-sweep and the down-sweep]:


# %%
def tree_scan(items: list, op) -> list:
    """All prefixes of items under an associative operator, as a recursion over pairs."""
    if len(items) == 1:
        return items
    pairs = [op(items[i], items[i + 1]) for i in range(0, len(items) - 1, 2)]
    odd = tree_scan(pairs, op)  # the prefixes that end at 1, 3, 5, …
    out = [items[0]]
    for i in range(1, len(items)):
        out.append(odd[i // 2] if i % 2 else op(odd[i // 2 - 1], items[i]))
    return out


tree = torch.stack([x for _, x in tree_scan(e, combine)])
print("equal to the loop:", torch.allclose(tree, looped[0], rtol=0, atol=1e-10))

# %% [markdown]
# Another tree is even shallower and simpler to run on arrays, because every round treats all steps alike: in round
# $i$ each element is combined with the one $2^i$ before it [@hillis1986].


# %%
def doubling_scan(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """x_k = a_k x_{k−1} + b_k by doubling: a, b [N, L, P] → x [N, L, P]."""
    step = 1
    while step < b.shape[1]:
        b = torch.cat([b[:, :step], a[:, step:] * b[:, :-step] + b[:, step:]], 1)
        a = torch.cat([a[:, :step], a[:, step:] * a[:, :-step]], 1)
        step *= 2
    return b


print("equal to the loop:", torch.allclose(doubling_scan(a, b), looped, rtol=0, atol=1e-10))

# %% [markdown]
# What do they cost? A scan does not look into its items, so it can be run on items that count. Each item here is a
# pair (last step covered, depth), and the operator writes down what it does.


# %%
def doubling_list(items: list, op) -> list:
    """The same as `doubling_scan`, on a list and any operator."""
    step = 1
    while step < len(items):
        items = [op(items[k - step], items[k]) if k >= step else items[k] for k in range(len(items))]
        step *= 2
    return items


def one_by_one(items: list, op) -> list:
    out = items[:1]
    for item in items[1:]:
        out.append(op(out[-1], item))
    return out


def operations(algorithm, length: int) -> list:
    """(first, second, result) of each operation; an item is (last step covered, depth)."""
    done = []

    def op(first, second):
        result = (second[0], 1 + max(first[1], second[1]))
        done.append((first, second, result))
        return result

    algorithm([(k, 0) for k in range(length)], op)
    return done


algorithms = {"loop": one_by_one, "tree": tree_scan, "doubling": doubling_list}

# %% tags=["hide-input"]
#| label: fig-scan-trees
#| caption: >-
#|   Three scans of eight steps, drawn from the operations that the functions above carried out. Squares are the inputs $(a_k, b_k)$, circles are combined pairs {eq}`eq-combine`;
#|   orange lines come from the earlier operand. The loop is as deep as the sequence; doubling is the shallowest and does most.
#| alt: Three diagrams of nodes and lines; a long diagonal chain, a tree that narrows and widens, and a dense butterfly of three levels.
runs = {name: operations(algorithm, 8) for name, algorithm in algorithms.items()}
_ = plots.save(drawings.scan_trees(runs, 8), workspace.figures / "scan_trees.png")
print(
    *(
        f"{name}: {len(run)} operations, {max(result[1] for *_, result in run)} deep"
        for name, run in runs.items()
    ),
    sep="\n",
)

# %% [markdown]
# The counts follow from the recursions. For $L$ a power of 2 the tree does $L/2$ operations, then a scan of half the length, then $L/2 - 1$ more:
#
# $$ \begin{gathered} W_{\mathrm{tree}}(L) = L - 1 + W_{\mathrm{tree}}(L/2) = 2L - \log_2 L - 2, \\ S_{\mathrm{tree}}(L) = 2 \log_2 L - 2 \;\; (L \ge 4) , \end{gathered} $$ (eq-tree-cost)
#
# that is, at most twice the work of the loop [@blelloch1990, on the up-sweep and the down-sweep], while doubling pays with a logarithm for its smaller span [@hillis1986]:
#
# $$ W_{\mathrm{doubling}}(L) = L \log_2 L - L + 1, \qquad S_{\mathrm{doubling}}(L) = \log_2 L . $$ (eq-doubling-cost)

# %%
lengths = [2**k for k in range(1, 11)]
counts = {}
for name, algorithm in algorithms.items():
    runs = [operations(algorithm, n) for n in lengths]
    counts[name] = [(len(run), max(result[1] for *_, result in run)) for run in runs]
predicted = {
    "loop": [(n - 1, n - 1) for n in lengths],
    "tree": [(2 * n - round(math.log2(n)) - 2, max(1, 2 * round(math.log2(n)) - 2)) for n in lengths],
    "doubling": [(n * round(math.log2(n)) - n + 1, round(math.log2(n))) for n in lengths],
}
pd.DataFrame(
    {
        name: {"work": c[-1][0], "span": c[-1][1], "as predicted at all lengths": c == predicted[name]}
        for name, c in counts.items()
    }
).T.rename_axis("scan, L = 1024")

# %% tags=["hide-input"]
#| label: fig-work-span
#| caption: >-
#|   Work and span over the length, counted. The tree has the work of the loop within a factor of two {eq}`eq-tree-cost`; doubling has the least span {eq}`eq-doubling-cost`.
#| alt: Two log-log plots; work grows linearly for loop and tree and faster for doubling, span grows linearly for the loop only.
_ = plots.save(drawings.work_and_span(lengths, counts), workspace.figures / "work_span.png")
print(
    f"at L = 1024 doubling does {counts['doubling'][-1][0] / counts['tree'][-1][0]:.1f} times the work of the tree"
)

# %% [markdown]
# The book's GPU kernel combines both: within a tile of 32 steps it combines pairs in parallel, and from tile to tile it hands the state on as the loop does. On a CPU with more sequences
# than cores the loop is best. [`diagonal_scan`](#ssmbook.ssm.diagonal_scan) chooses by the device. It gives the loop's states, in either direction, and takes a state to start from:

# %%
x_prev = torch.randn(1, P, dtype=torch.complex128)
checks = {
    "diagonal_scan = loop": torch.allclose(diagonal_scan(a, b), looped, rtol=0, atol=1e-10),
    "the same, from a state": torch.allclose(
        diagonal_scan(a, b, x_prev), scan(a, b, x_prev), rtol=0, atol=1e-10
    ),
}
pd.Series(checks, name="holds").to_frame()

# %% [markdown]
# A state that comes in must enter the *second* half of the first pair, $b_0 \leftarrow a_0 x_{-1} + b_0$. Multiplying it into $a_0$ instead has no effect at
# all, because by {eq}`eq-associative` $a_0$ is a factor of first halves only. {numref}`sec-published-carry` shows that the released code does just this.
#
# (sec-fft)=
# ## A convolution instead
#
# If $a$ and the other matrices are the same at every step, unrolling the recurrence gives a convolution with the fixed kernel {eq}`eq-kernel`,
# and convolutions have a fast algorithm. The Fourier transform of a convolution is the product of the transforms,
#
# $$ y = K * u = \mathcal F^{-1} \bigl( \mathcal F(K) \circ \mathcal F(u) \bigr) , $$ (eq-fft)
#
# which costs $O(L \log L)$ and is how S4 is trained [@gu2022s4, sec. 2.4]. One care must be taken: a discrete transform of
# length $L$ convolves in a *circle*, so that the tail of the kernel comes back at the start. Zeros behind the input, to a length of $2L$, prevent it.

# %%
modes = torch.tensor([0.995 * np.exp(0.20j), 0.98 * np.exp(0.05j)])
weights = torch.tensor([0.3 + 0.2j, 0.5 - 0.1j])
n = 256
K = (weights * modes ** torch.arange(n)[:, None]).sum(-1).real  # [L]
u = torch.zeros(n)
u[20:40], u[200:230] = 1.0, -1.0


def fft_convolution(K: torch.Tensor, u: torch.Tensor, length: int) -> torch.Tensor:
    return torch.fft.irfft(torch.fft.rfft(K, length) * torch.fft.rfft(u, length), length)[: len(u)]


recurrent = (scan(modes, u[None, :, None].to(modes.dtype).expand(1, n, 2))[0] * weights).sum(-1).real
circular, padded = fft_convolution(K, u, n), fft_convolution(K, u, 2 * n)
pd.Series(
    {
        "transforms of length L": float((circular - recurrent).abs().max()),
        "transforms of length 2L": float((padded - recurrent).abs().max()),
    },
    name="largest difference from the recurrence",
).round(6).to_frame()

# %% tags=["hide-input"]
#| label: fig-wrap-around
#| caption: >-
#|   Left, the kernel of two modes. Right, its convolution with two pulses by {eq}`eq-fft`: without zeros behind the input (red) the answer to the second pulse wraps around to the start.
#| alt: Left a decaying oscillation; right two curves that agree at the end and differ at the beginning.
_ = plots.save(
    drawings.wrap_around(padded.numpy(), circular.numpy(), K.numpy()), workspace.figures / "wrap_around.png"
)
print(
    f"largest error of the circular convolution: {float((circular - recurrent).abs().max()):.2f}, of outputs up to {float(recurrent.abs().max()):.2f}"
)

# %% [markdown]
# The convolution knows no state. Where a state $x_{-1}$ comes in, its decay is added to the output, as follows from unrolling {eq}`eq-scan-recurrence`,
#
# $$ y_k = (K * u)_k + \mathrm{Re}\bigl( C\, \bar\Lambda^{k+1} x_{-1} \bigr) , $$ (eq-carried-convolution)
#
# and the state that goes out is needed as a sum of its own. Nor can the convolution be used where $\bar\Lambda$ changes from step to step,
# as it does with a {term}`step_scale` for each step (irregular windows), or with the gates of the last section. The scan can do all of these, and is what this book uses throughout.
#
# (sec-siso-mimo)=
# ## One input or many
#
# S4 and S4D give *each feature* a system of its own with $N$ modes: single input, single output (SISO). Features meet only afterwards, in a matrix
# that mixes them. S4D's kernel for one feature is [@gu2022s4d, on the kernel as a Vandermonde product]
#
# $$ K_k = 2\, \mathrm{Re} \sum_{n=1}^{N/2} C_n\, \frac{e^{\Delta A_n} - 1}{A_n}\, e^{k \Delta A_n} , $$ (eq-s4d-kernel)
#
# a sum over one of each conjugate pair. S4 keeps the low-rank part of HiPPO as well, $A = \Lambda - p\,p^*$, for whose inverse Woodbury's identity leaves diagonal inverses only [@gu2022s4, sec. 3.2],
#
# $$ (\Lambda - p\,p^*)^{-1} = \Lambda^{-1} + \frac{\Lambda^{-1} p\, p^* \Lambda^{-1}}{1 - p^* \Lambda^{-1} p} , $$ (eq-woodbury)
#
# and computes its kernel in the frequency domain. S5 instead has *one* system for all features: many inputs, many outputs (MIMO), $P$ modes that all features write to and read from [@smith2023s5, sec. 3].

# %% tags=["hide-input"]
#| label: fig-siso-mimo
#| caption: >-
#|   Left, S4 and S4D: a system for each of H features, mixed afterwards. Right, S5: one system whose matrices B and C mix. Blue holds state, orange is learnt.
#| alt: Left, three separate boxes with states feed a mixing matrix; right, an input matrix, one box of modes and an output matrix.
_ = plots.save(drawings.siso_and_mimo(), workspace.figures / "siso_mimo.png")

# %% [markdown]
# What that means for memory and arithmetic of one step can be read from the layers. All have 64 features; S5 has $P = 64$ modes, S4 and S4D have $N = 64$ modes for each feature.

# %%
#| label: tbl-layers
#| tbl-cap: >-
#|   One step of four layers with 64 features: complex numbers of state, real operations, parameters. Counted from the layers, not quoted.
layers = {"S5": S5(64, 64), "S5, selective": SelectiveS5(64, 64), "S4D": S4D(64, 64), "S4": S4(64, 64)}
rows = {}
for name, layer in layers.items():
    with torch.no_grad():
        _, state = layer(torch.zeros(1, 2, 64))
    rows[name] = {
        "state": state.numel(),
        "operations": layer.step_flops(),
        "parameters": sum(p.numel() for p in layer.parameters()),
    }
pd.DataFrame(rows).T.rename_axis("layer")

# %% [markdown]
# S5's state is smaller by a factor of $N/2 = 32$. In a detector there is a state at every position of four stages, so that the factor is one of memory and of bandwidth.
#
# (sec-traffic)=
# ## Why memory traffic decides
#
# A processor does at most $R$ arithmetic operations per second and moves at most $\beta$ bytes per second. A program with $F$ operations and $Q$ bytes takes at least
#
# $$ T \ge \max \left( \frac{F}{R}, \frac{Q}{\beta} \right) , \qquad I = \frac FQ , $$ (eq-roofline)
#
# and which of the two it is depends on its intensity $I$ alone [@williams2009]: below the machine's balance $R / \beta$, memory decides. The scan's intensity follows from {eq}`eq-scan-recurrence`. Each element
# is read once as $b_k$ and written once as $x_k$, complex numbers of 8 bytes in single precision, for a complex product (6 operations) and a sum (2):
#
# $$ I_{\mathrm{scan}} = \frac{8}{8 + 8} = \tfrac12 , \qquad
#    I_{B u} = \frac{2\,H\,P}{4\,(H + P)}  = \frac H4 \text{ for } H = P , $$ (eq-intensity)
#
# where the product $Bu$ of a real $P \times H$ matrix with many vectors is given for comparison. Doubling goes through memory $\log_2 L$ times. If an algorithm keeps intermediate states
# on the chip and never writes $b$ to memory at all, its intensity is that of the products around it: this is what *fused* kernels are for.

# %%
balance = 10.0  # operations per byte; of the order of today's CPUs and GPUs in single precision
rounds = math.log2(1024)
intensity = {
    "scan by itself": 8 / 16,
    "scan, its own factor at each step": 8 / 24,
    "doubling, L = 1024, useful operations": 8 / (rounds * (4 * 8 + 2 * 8)),
    "product B u, H = P = 64": 2 * 64 * 64 / (4 * (64 + 64)),
}
pd.DataFrame(
    {
        "operations per byte": intensity,
        "share of the peak": {k: min(1, v / balance) for k, v in intensity.items()},
    }
).round(3)

# %% tags=["hide-input"]
#| label: fig-roofline
#| caption: >-
#|   The roofline {eq}`eq-roofline` of a machine with a balance of 10 operations per byte. All scans lie far down the slope: they run at the speed of memory. The matrix product reaches the roof.
#| alt: A log-log line that rises and becomes flat; three points low on the slope, one on the flat part.
_ = plots.save(drawings.roofline(intensity, balance), workspace.figures / "roofline.png")
print(
    f"a scan by itself can use {intensity['scan by itself'] / balance:.0%} of the arithmetic of such a machine"
)

# %% [markdown]
# (sec-measured)=
# ## Measured
#
# `python benchmarks/scan.py` measures the whole layer, forward and backward, at the shapes of the detector's stages and at long sequences, beside the public s5-pytorch and the same layer written with JAX's associative scan, which both scan by trees. "Limit" is the time of what no implementation can avoid: the matrix products, and
# two copies of the states. The numbers below are read from its committed results.

# %%
#| label: tbl-measured
#| tbl-cap: >-
#|   Forward + backward of an S5 layer on a CPU, ms; shapes are sequences × steps × features (= modes).
results = json.loads((book_root() / "benchmarks" / "results" / "scan_cpu.json").read_text())
rows = results["table"]
columns = {"limit": "limit", "ours": "ssmbook", "s5-pytorch": "s5-pytorch", "JAX, jit": "JAX, jit"}
table = pd.DataFrame(
    {
        " × ".join(map(str, row["shape"])): {
            new: row["layers"].get(old, {}).get("both") for old, new in columns.items()
        }
        for row in rows
    }
).T
table["over the limit"] = table["ssmbook"] / table["limit"]
print(f"{results['machine']}, {results['threads']} threads, torch {results['torch']}")
table.round(1)

# %% tags=["hide-input"]
#| label: fig-measured
#| caption: >-
#|   The same as bars, and the peak memory. Versions that keep all intermediate results of a tree for the gradients pay in both.
#| alt: Two bar charts on logarithmic axes; the bars of ssmbook are close to the limit, the others several times as high.
_ = plots.save(drawings.measured(rows), workspace.figures / "measured.png")
print(f"time over the limit: {table['over the limit'].min():.1f} to {table['over the limit'].max():.1f}")

# %% tags=["hide-input"]
#| label: fig-scan-growth
#| caption: >-
#|   Time and memory of one sequence over its length, forward and backward, with 64 features; dotted, in proportion to the length.
#| alt: Two log-log plots whose points rise less steeply than a dotted straight line and meet it at the longest sequence.
growth = json.loads((book_root() / "benchmarks" / "results" / "scan_growth.json").read_text())
growth = growth["table"] if isinstance(growth, dict) else growth
_ = plots.save(drawings.growth(growth), workspace.figures / "growth.png")
print(
    f"{growth[-1]['length'] / growth[0]['length']:.0f} times the length takes {growth[-1]['ms'] / growth[0]['ms']:.0f} times the time"
)

# %% [markdown]
# Time and memory grow no faster than the length: no term is quadratic. The layer is within a small factor of what memory allows, and
# the trees of {numref}`fig-scan-trees` matter only where one long sequence has to fill a large GPU.
#
# (sec-gates)=
# ## Where Mamba and LSTM stand
#
# Gates decide what the layers of this family can be computed with. An LSTM computes its factors from the input *and the previous output* [@hochreiter1997; @gers2000],
#
# $$ \begin{gathered} c_k = f_k \circ c_{k-1} + i_k \circ g_k, \quad h_k = o_k \circ \tanh c_k, \\ (f, i, o, g)_k = \phi\bigl( W [u_k; h_{k-1}] + b \bigr) , \end{gathered} $$ (eq-lstm)
#
# with $\phi$ the logistic function for $f$, $i$ and $o$ and tanh for $g$, so that a step is no affine map of its state. Composing two steps gives a function that no pair of numbers describes: {eq}`eq-combine` has no counterpart, and the steps have to be computed one after another (iterative solvers, which approach all steps at once, aside). RVT's ConvLSTM [@gehrig2023rvt] is of this kind.
#
# Mamba computes its factors from the *input alone*. As written in the paper, its discretisation is zero-order hold with a step of its own for each input [@gu2023mamba, eq. 4],
#
# $$ \begin{gathered} \bar A_k = e^{\Delta_k A}, \qquad \bar B_k = (\Delta_k A)^{-1} (e^{\Delta_k A} - 1)\, \Delta_k B_k, \\ \Delta_k = \mathrm{softplus}(s_k), \qquad s_k = w^\top u_k + \beta . \end{gathered} $$ (eq-mamba)
#
# (Its released code, and the book's `mamba` with it, take the simpler $\bar B_k = \Delta_k B_k$. In a step of another length than in training the state would then settle at another level; there `mamba` lets in the share of {eq}`eq-rates-lstm-step`, with $f = e^{\Delta_k A}$.) Step by step it is still affine in $x$, so the scan works, but there is no fixed kernel any more and the transform does not. With one mode, $A = -1$ and $B = 1$, this is a familiar gate [@gu2023mamba, theorem 1]:
#
# $$ x_k = (1 - g_k)\, x_{k-1} + g_k u_k, \qquad g_k = \sigma(s_k) , $$ (eq-mamba-gate)
#
# because $e^{-\mathrm{softplus}(s)} = 1 - \sigma(s)$. Checked in numbers, and with a scan against the loop:

# %%
s, inputs = torch.randn(1, 50, 1), torch.randn(1, 50, 1)
g, step = torch.sigmoid(s), torch.nn.functional.softplus(s)
gated = scan((1 - g).to(torch.complex128), (g * inputs).to(torch.complex128)).real
mamba = diagonal_scan(
    torch.exp(-step).to(torch.complex128), ((1 - torch.exp(-step)) * inputs).to(torch.complex128)
).real
print("equal:", torch.allclose(gated, mamba, rtol=0, atol=1e-12))

# %% tags=["hide-input"]
#| label: fig-gates
#| caption: >-
#|   One step of three layers. In S5 the factors are constant; in Mamba and in the book's selective S5 {eq}`eq-gate` they depend on the input; in an LSTM they depend on the state too (red), which is what rules out a scan.
#| alt: Three small block diagrams; only the last one has a red arrow from the state to the gates.
_ = plots.save(drawings.gates(), workspace.figures / "gates.png")

# %% [markdown]
# | layer | factors depend on | loop | scan | transform | another rate by `step_scale` |
# |---|---|---|---|---|---|
# | S4, S4D, S5 | nothing | yes | yes | yes | yes |
# | S5 with a `step_scale` for each step | the step | yes | yes | no | yes |
# | Mamba, selective S5 | the input | yes | yes | no | yes, as a factor on $\Delta_k$ (in Mamba, with the share) |
# | LSTM, ConvLSTM | input and state | yes | no | no | as a power of the forget gate, {eq}`eq-rates-lstm-step` |
#
# The last column is the one that this book is about, and [chapter 5](05_time_scale.ipynb) takes it up. Speed and the last column have causes that are akin: a scan needs a step that is affine in its state, and a step of another length one that is the solution of an equation in time.
#
# ## What was learnt
#
# Steps of a linear recurrence compose {eq}`eq-combine`, so that a scan needs only $O(\log L)$ steps in sequence at no more than twice the work. With constant factors the layer is also a convolution {eq}`eq-fft`.
# In practice neither decides: a scan does half an operation per byte and runs at the speed of memory. Gates that depend on the input keep the scan; gates that depend on the state lose it.
#
# ## Exercises
#
# :::{exercise} Not every recurrence
# :label: ex-affine
# Which of these recurrences have an associative combination of fixed size? (a) $x_k = \max(x_{k-1}, u_k)$; (b) $x_k = \tanh(a x_{k-1} + u_k)$; (c) $x_k = \max(a_k x_{k-1} + b_k, c_k)$ with $a_k > 0$.
# Write the operator where there is one, and check it with `tree_scan`.
# :::
#
# :::{solution} ex-affine
# :class: dropdown
# ```{literalinclude} solutions/04_scans.py
# :start-after: # %% ex-affine
# :end-before: # %% ex-lengths
# ```
# :::
#
# :::{exercise} Lengths that are no power of 2
# :label: ex-lengths
# Does `tree_scan` work for a length of 21, the detector's chunk on Gen1? Count its work and span, and compare with {eq}`eq-tree-cost` at 16 and 32.
# :::
#
# :::{solution} ex-lengths
# :class: dropdown
# ```{literalinclude} solutions/04_scans.py
# :start-after: # %% ex-lengths
# :end-before: # %% ex-padding
# ```
# :::
#
# :::{exercise} The least padding
# :label: ex-padding
# A kernel has $m$ taps and the input $L$ steps. How long must the transforms of {eq}`eq-fft` be at least for the first $L$ outputs to be right? Check the length just below.
# :::
#
# :::{solution} ex-padding
# :class: dropdown
# ```{literalinclude} solutions/04_scans.py
# :start-after: # %% ex-padding
# :end-before: # %% ex-carried
# ```
# :::
#
# :::{exercise} A convolution with a state
# :label: ex-carried
# Cut an input in two chunks, convolve each by transforms, and use {eq}`eq-carried-convolution` to make the second chunk right. What has to be computed besides the output?
# :::
#
# :::{solution} ex-carried
# :class: dropdown
# ```{literalinclude} solutions/04_scans.py
# :start-after: # %% ex-carried
# :end-before: # %% ex-woodbury
# ```
# :::
#
# :::{exercise} Woodbury
# :label: ex-woodbury
# Check {eq}`eq-woodbury` for the HiPPO matrix of size 8, with $\Lambda$ replaced by the normal part $S$ and $p$ from `hippo_legs`.
# :::
#
# :::{solution} ex-woodbury
# :class: dropdown
# ```{literalinclude} solutions/04_scans.py
# :start-after: # %% ex-woodbury
# ```
# :::
#
# ## Further reading
#
# @blelloch1990 is the classic on scans and reads like a textbook. @hillis1986 describe doubling. @gu2022s4 derive the kernel of S4 from {eq}`eq-woodbury`, @gu2022s4d simplify it to {eq}`eq-s4d-kernel`, and
# @smith2023s5 replace both by a scan. @gu2023mamba add gates and a fused kernel, and discuss memory traffic. @orvieto2023 rebuild the same layer from an ordinary recurrent network. @williams2009 introduce the roofline.

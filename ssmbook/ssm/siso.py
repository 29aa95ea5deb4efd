"""What S4D and S4 share: H systems side by side, each with one input and one output, and the output layer.

    x_k = Ā x_{k−1} + B̄ u_k,   y_k = 2 Re(C x_k) + D u_k

A sequence runs in chunks. Within a chunk the output is a convolution with K_l = 2 Re(C Ā^l B̄), plus
what the state x at its start still contributes, 2 Re(C Ā^{k+1} x); the state at its end is
Ā^L x + Σ_k Ā^{L−1−k} B̄ u_k. All are batched matrix products over the features; time and memory grow linearly
with the length of the sequence.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssmbook.products import linear
from ssmbook.ssm.kernels.planes import complex_of, from_planes, to_planes
from ssmbook.ssm.layer import StateSpaceLayer

CHUNK = 64  # steps: about where the convolution within a chunk costs as much as the state between chunks


class ChunkMaps(NamedTuple):
    """What chunks of up to L steps need; S = 2M reals are the planes of a state of M modes."""

    kernel: Tensor  # K, [H, L]
    observe: Tensor  # 2 Re(C Ā^{k+1} ·), [H, L, S]
    reach: Tensor  # Ā^k B̄, [H, L, S]


class System(Protocol):
    """The systems of a layer: parameters, and what the layer needs to know of them."""

    modes: int

    def maps(self, scale: Tensor, length: int) -> ChunkMaps:
        """The maps of chunks of up to ``length`` steps, with Δ · scale."""

    def carry(self, x: Tensor, scale: Tensor, length: int) -> Tensor:
        """Ā^length x, for states x, complex [N, H, M]."""

    def advance(self, x: Tensor, u: Tensor, scale: Tensor) -> Tensor:
        """Ā x + B̄ u, for x complex [N, H, M], u [N, H], scale [] or [N]."""

    def read(self, x: Tensor, scale: Tensor) -> Tensor:
        """2 Re(C x), [N, H]; a held mask depends on the step."""


def toeplitz(kernel: Tensor) -> Tensor:
    """Causal convolution as a matrix: kernel [H, L] → T [H, L, L] with T_kj = K_{k−j} for j ≤ k, else 0."""
    L = kernel.shape[-1]
    step = torch.arange(L, device=kernel.device)
    lag = step[:, None] - step
    return torch.where(lag >= 0, kernel[:, lag.clamp(min=0)], 0)


def run_chunks(u: Tensor, x: Tensor | None, system: System, scale: Tensor) -> tuple[Tensor, Tensor]:
    """u [N, L, H], x complex [N, H, M] or None → 2 Re(C x_k) [N, L, H] and the state after the last step."""
    maps = system.maps(scale, min(u.shape[1], CHUNK))
    T = toeplitz(maps.kernel)
    outputs = []
    for part in u.split(CHUNK, 1):
        n = part.shape[1]
        y = torch.einsum("njh,hkj->nkh", part, T[:, :n, :n])
        last = from_planes(torch.einsum("nkh,hks->nhs", part, maps.reach[:, :n].flip(1)))
        if x is not None:
            y = y + torch.einsum("nhs,hks->nkh", to_planes(x), maps.observe[:, :n])
            last = last + system.carry(x, scale, n)
        outputs.append(y)
        x = last
    return torch.cat(outputs, 1), last


def run_steps(u: Tensor, x: Tensor | None, system: System, scale: Tensor) -> tuple[Tensor, Tensor]:
    """`run_chunks` step by step, for step sizes that differ: scale [], [N] or [N, L]."""
    N, L, H = u.shape
    state = torch.zeros(N, H, system.modes, dtype=complex_of(u.dtype), device=u.device) if x is None else x
    outputs = []
    for k in range(L):
        now = scale[:, k] if scale.ndim == 2 else scale
        state = system.advance(state, u[:, k], now)
        outputs.append(system.read(state, now))
    return torch.stack(outputs, 1), state


class SISOLayer(StateSpaceLayer):
    """H single-input single-output systems: y = GLU(W GELU(K ∗ u + D ∘ u)); the base of `S4D` and `S4`."""

    def __init__(self, width: int, kernel: nn.Module, D: Tensor, linear: nn.Linear | nn.Conv1d):
        super().__init__()
        self.width = width
        self.kernel = kernel
        self.D = nn.Parameter(D)
        self.output_linear = nn.Sequential(linear)

    @property
    def linear(self) -> nn.Linear | nn.Conv1d:
        return self.output_linear[0]  # type: ignore[return-value]

    @property
    def system(self) -> System:
        return self.kernel  # type: ignore[return-value]

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of the complex state of one sequence: features, modes."""
        return self.width, self.system.modes

    def extra_repr(self) -> str:
        return f"width={self.width}, state_width={2 * self.system.modes}"

    def _run(self, u: Tensor, x0: Tensor | None, scale: float | Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(scale, Tensor):
            # filled on the device: a capture of a CUDA graph forbids copies to it
            scale = u.new_full((), scale)
        run = run_chunks if scale.ndim == 0 and u.shape[1] > 1 else run_steps
        y, state = run(u, x0, self.system, scale)
        return self._output(y + self.D * u), state

    def step_flops(self) -> int:
        """Operations of one step of one sequence: x = Ā x + B̄ u takes 10 H M, y = 2 Re(C x) + D ∘ u takes 4 H M + 2 H,
        and the output layer H → 2H 4 H²."""
        H, M = self.state_shape
        return 14 * H * M + 2 * H + 4 * H * H

    def _output(self, y: Tensor) -> Tensor:
        return F.glu(linear(F.gelu(y), self.linear.weight.flatten(1), self.linear.bias), -1)

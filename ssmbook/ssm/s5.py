"""S5: one diagonal, multi-input multi-output state-space layer (Smith et al. 2023, arXiv 2208.04933).

    dx/dt = Λ x + B u,   y = Re(C x) + D ∘ u                                  (eq. 1, diagonalised: §3)
    x_k = Λ̄ x_{k−1} + B̄ u_k,   y_k = Re(C x_k) + D ∘ u_k                     (eq. 2, discretised)

The state goes in and comes out, so that a sequence may arrive in chunks or step by step. In the code
released with "State Space Models for Event Cameras" (arXiv 2402.15584) the state that goes in has no effect.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssmbook.errors import InputError
from ssmbook.ssm.discretization import Discretization, discretize_planes
from ssmbook.ssm.discretization import discretize as discretize  # users import it from here
from ssmbook.ssm.h2 import h2_norm
from ssmbook.ssm.hippo import Start, blocks_spectrum
from ssmbook.ssm.inputs import Arrays, Scale, check_bandlimit, check_gain, copy_parameters
from ssmbook.ssm.kernels.dispatch import diagonal_ssm, scan_planes
from ssmbook.ssm.kernels.planes import from_planes, multiply_planes
from ssmbook.ssm.layer import HALF, Pieces, StateSpaceLayer
from ssmbook.ssm.real import RealS5

MIN_DECAY = 1e-4  # clip_eigs holds Re λ ≤ −MIN_DECAY
# Standard deviation, times √fan-in, of the normal that the published code truncates at ±2 σ. A LeCun start
# divides by this number, which is the spread that the truncation leaves; the published code multiplies by it.
PUBLISHED_SPREAD = 0.87962566103423978


def passes_band(Lambda: Tensor, step: Tensor, bandlimit: float) -> Tensor:
    """Which modes turn slowly enough for their samples: Δ |Im λ| / 2π < α/2, α = 1 being Nyquist's limit.

    Lambda: Λ, or Im Λ alone.
    """
    imag = Lambda.imag if Lambda.is_complex() else Lambda
    return step * imag.abs() / (2 * math.pi) < bandlimit / 2


class _Floor(torch.autograd.Function):
    """Re λ ≤ −MIN_DECAY. A mode that is held there gets the gradients that lead it back below, and no others."""

    generate_vmap_rule = True

    @staticmethod
    def forward(real: Tensor) -> Tensor:
        return real.clamp(max=-MIN_DECAY)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0] <= -MIN_DECAY)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (free,) = ctx.saved_tensors
        return torch.where(
            free | (gradient > 0), gradient, 0
        )  # descent lowers Re λ where the gradient is above 0


class S5(StateSpaceLayer):
    """The S5 layer with a carried state.

    Args:
        width: H, features of the input and of the output.
        state_width: P, complex modes (with ``conj_sym`` only P/2 of them are held).
        blocks: J; the start consists of J spectra of size P/J side by side. No effect after the start.
        start: the spectrum to start from: "legs" (HiPPO-LegS, as published), or "inv" or "lin" of S4D.
        discretization: "bilinear" or "zoh".
        bandlimit: α; modes with Δ |Im λ| / 2π ≥ α/2 do not reach the output. None: all do.
        bandlimit_mode: "held": at every call, with the step then in use, so that it follows training and
            step_scale; "once": columns of C are zero at the start and train freely afterwards, as published.
        conj_sym: hold one mode of each conjugate pair, y = 2 Re(C x) + D ∘ u.
        bidirectional: a second, reversed scan with its own half of C; whole sequences only.
        clip_eigs: hold Re λ ≤ −1e-4, so that no mode can grow; training can lead a held mode back below.
        state_gain: factor on C at the start; above 1 the state contributes more beside D ∘ u.

    Parameters: Lambda [P, 2], B [P, H, 2], C [H, P, 2] (bidirectional: [H, 2P, 2], the reversed half second),
    D [H], log_step [P]; a trailing 2 is (Re, Im), P is P/2 with ``conj_sym``. The start is the published one.
    """

    dynamics = ("Lambda", "B", "log_step")
    Lambda: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    log_step: Tensor

    def __init__(
        self,
        width: int,
        state_width: int,
        *,
        blocks: int = 1,
        start: Start = "legs",
        discretization: Discretization = "bilinear",
        bandlimit: float | None = None,
        bandlimit_mode: Literal["held", "once"] = "held",
        conj_sym: bool = False,
        bidirectional: bool = False,
        clip_eigs: bool = False,
        state_gain: float = 1.0,
    ):
        super().__init__()
        if width < 1 or state_width < 1:
            raise InputError(f"width and state_width must be at least 1, not {width} and {state_width}")
        if discretization not in ("bilinear", "zoh"):
            raise InputError(f'discretization must be "bilinear" or "zoh", not {discretization!r}')
        check_bandlimit(bandlimit, bandlimit_mode)
        check_gain(state_gain)
        self.width, self.state_width = width, state_width
        self.discretization: Discretization = discretization
        self.conj_sym = conj_sym
        self.bidirectional, self.clip_eigs = bidirectional, clip_eigs
        self.bandlimit = bandlimit if bandlimit_mode == "held" else None
        self._is_frozen = False
        self._frozen: tuple[float, _Frozen] | None = None  # of a frozen layer: a scale, and what it gave
        values = published_start(width, state_width, blocks, conj_sym, bidirectional, start)
        if bandlimit is not None and bandlimit_mode == "once":
            keep = passes_band(torch.view_as_complex(values["Lambda"]), values["log_step"].exp(), bandlimit)
            values["C"] *= keep.repeat(2 if bidirectional else 1)[:, None]
        values["C"] *= state_gain
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value.to(torch.get_default_dtype())))

    @property
    def modes(self) -> int:
        """Complex numbers in the state of one sequence."""
        return self.state_width // 2 if self.conj_sym else self.state_width

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of the complex state of one sequence."""
        return (self.modes,)

    def extra_repr(self) -> str:
        return f"width={self.width}, state_width={self.state_width}, discretization={self.discretization!r}"

    def freeze(self) -> None:
        """Declare that the parameters no longer change, for a layer that only runs, step by step.

        Calls without gradients then discretise once for each new step_scale. A later change of a parameter in place
        would have no effect on them; moving the layer (``.to``) and loading weights are noticed.
        """
        self._is_frozen, self._frozen = True, None
        self.requires_grad_(False)

    def _apply(self, *args: Any, **kwargs: Any) -> "S5":
        self._frozen = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._frozen = None
        super()._load_from_state_dict(*args, **kwargs)

    def load_published(self, arrays: Arrays) -> None:
        """Take parameters under the names of the published PyTorch layer, or of JAX S5 (Lambda_re, C1, …).

        Raises:
            InputError: a name is missing or unknown, or a shape differs.
        """
        tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
        if "Lambda_re" in tensors and "Lambda_im" in tensors:
            tensors["Lambda"] = torch.stack([tensors.pop("Lambda_re"), tensors.pop("Lambda_im")], -1)
        if "C1" in tensors and "C2" in tensors:
            tensors["C"] = torch.cat([tensors.pop("C1"), tensors.pop("C2")], 1)
        if "log_step" in tensors and tensors["log_step"].ndim == 2:
            tensors["log_step"] = tensors["log_step"].squeeze(-1)
        copy_parameters(self, tensors)
        self._frozen = None

    def forward(
        self,
        u: Tensor,
        state: Tensor | None = None,
        step_scale: Scale = 1.0,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """See `StateSpaceLayer.forward`; a bidirectional layer takes no state (InputError) and returns None."""
        if state is not None and self.bidirectional:
            raise InputError("a bidirectional layer takes no state: give it the whole sequence")
        y, last = super().forward(u, state, step_scale, lengths=lengths, resets=resets)
        return y, None if self.bidirectional else last

    def step(self, u: Tensor, state: Tensor | None = None, step_scale: Scale = 1.0) -> tuple[Tensor, Tensor]:
        """One step: u [N, H] → y [N, H] and the next state [N, P]; step_scale is a number or [N].

        Raises:
            InputError: as in the call, and for a bidirectional layer, which needs the whole sequence.
        """
        if self.bidirectional:
            raise InputError("a bidirectional layer cannot run step by step: give it the whole sequence")
        return super().step(u, state, step_scale)

    def real_step(self) -> nn.Module:
        """The step in real arithmetic, see `ssmbook.ssm.real`."""
        return RealS5(self)

    def step_flops(self) -> int:
        """Operations of one step of one sequence: x = Λ̄ x + B̄ u takes 8 P + 4 P H (a complex product and sum for each
        of the P modes, a real input for each of B̄'s 2 P real rows), y = Re(C x) + D ∘ u takes 4 P H + 2 H."""
        return 8 * self.modes + 8 * self.modes * self.width + 2 * self.width

    def eigenvalues(self) -> Tensor:
        """Λ, complex [P], as the layer uses it; InputError where it is stored in half precision."""
        if self.D.dtype in HALF:
            raise InputError(
                f"there are no complex numbers of {self.D.dtype} to compute with; use layer.float()"
            )
        return torch.complex(*self._eigenvalues())

    def _eigenvalues(self) -> tuple[Tensor, Tensor]:
        """Re Λ and Im Λ, [P]."""
        real, imag = self.Lambda.unbind(-1)
        return _Floor.apply(real) if self.clip_eigs else real, imag

    def h2_norm(self, omega_min: float) -> Tensor:
        """‖G‖ of the layer without D above ω_min, in radians per step at step_scale 1; differentiable.

        Modes that a held bandlimit keeps from the output do not count. See `ssmbook.ssm.h2.h2_norm`.

        Raises:
            InputError: ω_min < 0, some Re λ ≥ 0, or a bidirectional layer, which is not causal.
        """
        if self.bidirectional:
            raise InputError("the H2 norm is defined for a causal layer, not for a bidirectional one")
        Lambda, step = self.eigenvalues(), self.log_step.exp()
        B, C = torch.view_as_complex(self.B), torch.view_as_complex(self.C)
        if self.bandlimit is not None:
            C = C * passes_band(Lambda, step, self.bandlimit)
        return h2_norm(step * Lambda, step[:, None] * B, C * 2 if self.conj_sym else C, omega_min)

    def _run(
        self, u: Tensor, x0: Tensor | None, scale: float | Tensor, pieces: Pieces | None = None
    ) -> tuple[Tensor, Tensor]:
        if pieces is None and not (isinstance(scale, Tensor) and scale.ndim):
            return self._run_shared(u, x0, scale)
        scale = torch.as_tensor(scale, dtype=u.dtype, device=u.device)
        return self._run_varying(u, x0, scale if scale.ndim else scale.expand(len(u)), pieces)

    _run_pieces = _run

    def _run_shared(self, u: Tensor, x0: Tensor | None, scale: float | Tensor) -> tuple[Tensor, Tensor]:
        """One step size for all: u [N, L, H], x0 [N, P] → y [N, L, H], x_{L−1} [N, P]."""
        if self._is_frozen and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            if u.shape[1] == 1 and not self.bidirectional:
                return self._run_step(u, x0, scale)
            a, b, outputs = self._discretized(scale).planes
        else:
            a, b, outputs = self._planes(scale)
        y, last = diagonal_ssm(u, a, b, outputs[0], self.D, x0)
        for c in outputs[1:]:
            y = y + diagonal_ssm(u, a, b, c, torch.zeros_like(self.D), reverse=True)[0]
        return y, last

    def _run_step(self, u: Tensor, x0: Tensor | None, scale: float | Tensor) -> tuple[Tensor, Tensor]:
        """`_run_shared` of a single step of a frozen layer: two real products, and a complex one over the state.

        Here Re and Im of a mode lie side by side, so that a row of 2P reals is the complex state itself.
        """
        a, b, c = self._discretized(scale).step
        rows = u[:, 0]  # [N, H]
        x = torch.view_as_complex((rows @ b).view(len(rows), len(a), 2))  # [N, P]
        if x0 is not None:
            x = torch.addcmul(x, a, x0)
        y = torch.addmm(rows * self.D, torch.view_as_real(x).flatten(1), c)
        return y[:, None], x

    def _run_varying(
        self, u: Tensor, x0: Tensor | None, scale: Tensor, pieces: Pieces | None = None
    ) -> tuple[Tensor, Tensor]:
        """Step sizes that differ between sequences, scale [N], or between steps, [N, L]; or sequences in pieces."""
        real, imag = self._eigenvalues()
        step = scale[..., None] * self.log_step.exp()
        if scale.ndim == 1:
            step = step[:, None]  # [N, 1, P], or [N, L, P]
        a, gain = discretize_planes(real, imag, step, self.discretization)
        b = multiply_planes(gain, u @ torch.cat(self.B.unbind(-1)).T)  # [N, L, 2P]
        keep = 1.0 if self.bandlimit is None else passes_band(imag, step, self.bandlimit).repeat(1, 1, 2)
        outputs = self._output_planes()
        x = scan_planes(_cut(a, pieces), b, x0)
        y = (x * keep) @ outputs[0].T + self.D * u
        for c in outputs[1:]:
            y = y + (scan_planes(_cut(a, pieces, reverse=True), b, reverse=True) * keep) @ c.T
        return y, _last(from_planes(x), x0, pieces)

    def _planes(self, scale: float | Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The discretised layer as real matrices: Λ̄ [2P], B̄ [2P, H], and `_output_planes` behind the mask."""
        (real, imag), step = self._eigenvalues(), scale * self.log_step.exp()
        a, gain = discretize_planes(real, imag, step, self.discretization)
        B_bar = multiply_planes(gain, torch.cat(self.B.unbind(-1)).T).T.contiguous()  # [2P, H]
        outputs = self._output_planes()
        if self.bandlimit is not None:
            keep = passes_band(imag, step, self.bandlimit).repeat(2)  # [2P]
            outputs = [c * keep for c in outputs]
        return a, B_bar, outputs

    def _discretized(self, scale: float | Tensor) -> "_Frozen":
        """`_planes` of a frozen layer, kept until the scale changes; a scale that is a tensor may change unseen."""
        if isinstance(scale, Tensor):
            return _Frozen(*self._planes(scale))
        frozen = self._frozen  # read once: another thread may replace it
        if frozen is None or frozen[0] != scale:
            self._frozen = frozen = scale, _Frozen(*self._planes(scale))
        return frozen[1]

    def _output_planes(self) -> list[Tensor]:
        """[Re C, −Im C] [H, 2P], whose product with planes is Re(C x); a second one for the reversed scan."""
        C = self.C * 2 if self.conj_sym else self.C
        return [torch.cat([half[..., 0], -half[..., 1]], -1) for half in C.split(self.modes, 1)]


class _Frozen:
    """A discretised layer whose parameters do not change: as planes, and as single steps take it."""

    def __init__(self, a: Tensor, b: Tensor, outputs: list[Tensor]):
        self.planes = a, b, outputs
        pairs = torch.arange(len(a), device=a.device).view(2, -1).T.flatten()  # Re 0, Im 0, Re 1, Im 1, …
        # Λ̄ complex [P], B̄ [H, 2P], C [2P, H], contiguous
        self.step = from_planes(a), b[pairs].T.contiguous(), outputs[0].T[pairs].contiguous()


def _cut(a: Tensor, pieces: Pieces | None, reverse: bool = False) -> Tensor:
    """The transitions, a [N, 1, 2P] or [N, L, 2P], which are 0 where a new sequence begins."""
    if pieces is None:
        return a
    cuts = nn.functional.pad(pieces.resets[:, 1:], (0, 1)) if reverse else pieces.resets
    return a.expand(-1, cuts.shape[1], -1).masked_fill(cuts[..., None], 0)


def _last(x: Tensor, x0: Tensor | None, pieces: Pieces | None) -> Tensor:
    """The states [N, P] after the last step of each sequence, of all x [N, L, P]."""
    if pieces is None:
        return x[:, -1]
    start = torch.zeros_like(x[:, 0]) if x0 is None else x0
    return torch.cat([start[:, None], x], 1)[torch.arange(len(x), device=x.device), pieces.lengths]


def published_start(
    width: int,
    state_width: int,
    blocks: int = 1,
    conj_sym: bool = False,
    bidirectional: bool = False,
    start: Start = "legs",
) -> dict[str, Tensor]:
    """The published start, float32, complex stored as [..., 2]: Lambda, B = Vᴴ B₀, C = C₀ V, D, log_step.

    B₀ [P, H] real and C₀ [H, P] complex are normal, truncated at ±2 σ, which leaves each real number a
    variance of 0.599/P and 0.599/(H·P); D is uniform in [0, 1), log_step between log 1e-3 and log 1e-1.
    """
    H, P = width, state_width
    spectrum, vectors = blocks_spectrum(P, blocks, conj_sym, start)
    Lambda, V = torch.as_tensor(spectrum), torch.as_tensor(vectors)

    def truncated_normal(*shape: int, fan: int) -> Tensor:
        sigma = PUBLISHED_SPREAD / math.sqrt(fan)
        return nn.init.trunc_normal_(torch.empty(shape), std=sigma, a=-2 * sigma, b=2 * sigma)

    B = V.mH @ truncated_normal(P, H, fan=P).to(V.dtype)
    C_0 = [torch.view_as_complex(truncated_normal(H, P, 2, fan=H * P)) for _ in range(1 + bidirectional)]
    C = torch.cat([part.to(V.dtype) @ V for part in C_0], 1)
    log_step = torch.empty(len(Lambda)).uniform_(math.log(1e-3), math.log(1e-1))
    complex_parts = {"Lambda": Lambda, "B": B, "C": C}
    values = {
        name: torch.view_as_real(value.resolve_conj().contiguous()) for name, value in complex_parts.items()
    }
    return values | {"D": torch.rand(H), "log_step": log_step}

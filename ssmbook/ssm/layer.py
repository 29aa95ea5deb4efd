"""What the layers share: the call, its checks, sequences in pieces, and parameters of half precision."""

from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ssmbook.errors import InputError
from ssmbook.ssm.inputs import Scale, check_scale, check_sequence
from ssmbook.ssm.kernels.planes import complex_of

HALF = (torch.float16, torch.bfloat16)


class Pieces(NamedTuple):
    """Where sequences begin anew and end."""

    resets: Tensor  # bool [N, L]: the state before this step is zero
    lengths: Tensor  # int [N]: steps from here on are padding

    def inside(self) -> Tensor:
        """Bool [N, L]: which steps are of a sequence."""
        steps = torch.arange(self.resets.shape[1], device=self.resets.device)
        return steps < self.lengths[:, None]


class StateSpaceLayer(nn.Module):
    """The base of `S5`, `S4D`, `S4` and `S6`; a subclass has D, ``state_shape`` and `_run`."""

    D: Tensor
    width: int
    is_complex: ClassVar[bool] = True  # the state
    dynamics: ClassVar[tuple[str, ...]] = ()  # names of the parameters that `parameter_groups` sets apart

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of the state of one sequence."""
        raise TypeError("a subclass says what its state is")

    def forward(
        self,
        u: Tensor,
        state: Tensor | None = None,
        step_scale: Scale = 1.0,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run sequences, or the next chunk of each.

        Args:
            u: input [N, L, H] (a transposed view of [L, N, H] is as good), in the dtype of the parameters; under
                autocast it is cast to that. Where the parameters are float16 or bfloat16 all between u and y is
                computed in float32, the state too.
            state: [N, ``*state_shape``] from the call before; None starts from zero.
            step_scale: factor on Δ, above 0: a number, [N], or [N, L] for irregular windows; also [N, 1] and [1, L].
                Of N = L sequences, [N] could as well be one number for each step: give [N, 1] or [1, L].
            lengths: int [N], from 0 to L: the steps of each sequence; what follows is padding, whose output is 0.
                The state is that after the last step of each sequence.
            resets: bool [N, L]: where true, a new sequence begins; the state before that step is zero.

        Returns:
            y [N, L, H] and the state after the last step.

        Raises:
            InputError: shapes or dtypes that do not fit, a step_scale ≤ 0, a length outside 0 … L.
        """
        if torch.is_autocast_enabled(u.device.type):
            u = u.to(self.D.dtype)
        if u.dtype == self.D.dtype and u.dtype in HALF:
            return self._in_float32(u, state, step_scale, lengths=lengths, resets=resets)
        dtype = complex_of(self.D.dtype) if self.is_complex else self.D.dtype
        check_sequence(u, self.width, self.D.dtype, state, self.state_shape, dtype)
        with torch.autocast(u.device.type, enabled=False):
            scale = check_scale(step_scale, u)
            if lengths is None and resets is None:
                return self._run(u, state, scale)
            pieces = _pieces(u, lengths, resets)
            outside = ~pieces.inside()[..., None]
            y, last = self._run_pieces(u.masked_fill(outside, 0), state, scale, pieces)
            return y.masked_fill(outside, 0), last

    def step(self, u: Tensor, state: Tensor | None = None, step_scale: Scale = 1.0) -> tuple[Tensor, Tensor]:
        """One step of the recurrence: u [N, H] → y [N, H] and the next state; step_scale: a number or [N]."""
        if u.ndim != 2:
            raise InputError(f"a step takes u [N, {self.width}], not {list(u.shape)}")
        y, state = self(u[:, None], state, step_scale)
        return y[:, 0], state

    def real_step(self) -> Any:
        """One step as a module of real arithmetic, for exports, see `ssmbook.ssm.real`."""
        raise TypeError("a subclass has its own")

    def parameter_groups(self, learning_rate: float | None = None) -> list[dict[str, Any]]:
        """For an optimiser: Λ, B, Δ and their like without weight decay and with a learning rate of their own, then
        the others; see the function `parameter_groups`."""
        return parameter_groups(self, learning_rate)

    def _run(self, u: Tensor, x0: Tensor | None, scale: float | Tensor) -> tuple[Tensor, Tensor | None]:
        """The call with all that it was given checked; scale a number, [], [N] or [N, L]."""
        raise TypeError("a subclass says how it runs")

    def _run_pieces(
        self, u: Tensor, x0: Tensor | None, scale: float | Tensor, pieces: Pieces
    ) -> tuple[Tensor, Tensor | None]:
        """`_run` from one step to the next at which any sequence begins or ends."""
        N, L, _ = u.shape
        dtype = complex_of(u.dtype) if self.is_complex else u.dtype
        x = u.new_zeros(N, *self.state_shape, dtype=dtype) if x0 is None else x0
        begins = pieces.resets & pieces.inside()
        cuts = {0, L, *begins.any(0).nonzero()[:, 0].tolist(), *pieces.lengths.tolist()}
        outputs = []

        def select(mask: Tensor) -> Tensor:  # [N] → [N, 1, …], beside x
            return mask.reshape(N, *[1] * (x.ndim - 1))

        for start, stop in pairwise(sorted(cuts)):
            x = x.masked_fill(select(begins[:, start]), 0)
            part = scale[:, start:stop] if isinstance(scale, Tensor) and scale.ndim == 2 else scale
            y, last = self._run(u[:, start:stop], x, part)
            assert last is not None
            x = torch.where(select(pieces.lengths > start), last, x)
            outputs.append(y)
        return torch.cat(outputs, 1), x

    def _in_float32(
        self, u: Tensor, state: Tensor | None, step_scale: Scale, **pieces: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        parameters = {name: p.float() for name, p in self.named_parameters()}
        arguments = (u.float(), state, step_scale)
        y, state = torch.func.functional_call(self, parameters, arguments, pieces)
        return y.to(u.dtype), state


def _pieces(u: Tensor, lengths: Tensor | None, resets: Tensor | None) -> Pieces:
    """What was given, filled up; InputError for other shapes or dtypes, or lengths beyond 0 … L."""
    N, L, _ = u.shape
    if resets is None:
        resets = torch.zeros(N, L, dtype=torch.bool, device=u.device)
    if lengths is None:
        lengths = torch.full((N,), L, device=u.device)
    resets, lengths = torch.as_tensor(resets, device=u.device), torch.as_tensor(lengths, device=u.device)
    if tuple(resets.shape) != (N, L) or resets.dtype != torch.bool:
        raise InputError(f"resets must be bool [{N}, {L}], not {resets.dtype} {list(resets.shape)}")
    whole = not (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool)
    if tuple(lengths.shape) != (N,) or not whole:
        raise InputError(f"lengths must be integers [{N}], not {lengths.dtype} {list(lengths.shape)}")
    if not bool(((lengths >= 0) & (lengths <= L)).all()):
        raise InputError(f"lengths must be from 0 to {L}, not {int(lengths.min())} to {int(lengths.max())}")
    return Pieces(resets, lengths)


def parameter_groups(model: nn.Module, learning_rate: float | None = None) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: the state-space parameters without weight decay, then all others.

    Weight decay pulls Λ and log Δ towards values that mean nothing in particular, and time scales move with a smaller
    learning rate than weights; S4 (arXiv 2111.00396), S5 (arXiv 2208.04933) and Mamba train them in a group of their
    own.

    Args:
        model: a layer, or any network that holds some.
        learning_rate: of the state-space parameters; None leaves it to the optimiser.

    ``torch.optim.AdamW(parameter_groups(model, 1e-3), lr=4e-3, weight_decay=0.05)``. The state-space parameters are
    ``dynamics`` of each layer's class: those of A, B and Δ; of `S6` A_log, D and the bias of Δ, as in the published
    code, while the matrices that make B and Δ out of the input are weights like others.
    """
    special = {
        id(layer.get_parameter(name)): layer.get_parameter(name)
        for layer in model.modules()
        if isinstance(layer, StateSpaceLayer)
        for name, _ in layer.named_parameters()
        if name in layer.dynamics
    }
    own: dict[str, Any] = {"params": list(special.values()), "weight_decay": 0.0}
    if learning_rate is not None:
        own["lr"] = learning_rate
    return [own, {"params": [p for p in model.parameters() if id(p) not in special]}]

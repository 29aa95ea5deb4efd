"""A long-range task that needs no download, and two models for it that differ in their recurrence.

The delay task (Voelker et al. 2019, "Legendre Memory Units"; arXiv 2206.12037 calls it continuous copying): at every
step say what the input was d steps ago, y_k = u_{k−d}. The input is noise below a frequency, so that what
lies between cannot be guessed, and all of it must be held. Saying 0 has a mean squared error of 1.
"""

from __future__ import annotations

import time
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ssmbook.errors import InputError
from ssmbook.progress import progress_bar
from ssmbook.ssm import S5, SequenceLayer


def band_limited_noise(sequences: int, length: int, period: float, generator: torch.Generator) -> Tensor:
    """Noise [N, L] of variance 1 in all frequencies above 0 and up to one turn in ``period`` steps.

    Raises:
        InputError: a period above the length, which leaves no frequency, or not above 2, Nyquist's limit.
    """
    if not 2 < period <= length:
        raise InputError(f"a period must be above 2 steps and at most the length {length}, not {period}")
    count = int(length / period)
    parts = torch.randn(sequences, count, 2, generator=generator)
    spectrum = torch.zeros(sequences, length // 2 + 1, dtype=torch.complex64)
    spectrum[:, 1 : count + 1] = torch.view_as_complex(parts)
    return torch.fft.irfft(spectrum, length) * (length / (2 * count**0.5))


def delay_task(
    sequences: int, length: int, delay: int, period: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs u [N, L, 1] and the right answers [N, L − d] from step d on.

    Raises:
        InputError: a delay that is not between 1 and length − 1, or a period as in `band_limited_noise`.
    """
    if not 1 <= delay < length:
        raise InputError(f"the delay must be between 1 and {length - 1} steps, not {delay}")
    u = band_limited_noise(sequences, length, period, generator)
    return u[..., None], u[:, : length - delay]


class S5Stack(nn.Module):
    """Linear encoder, residual layers around S5, linear decoder; answers at every step. No mode can grow.

    Args:
        width: H, features of every layer.
        state_width: P, modes of every layer.
        depth: layers.
    """

    def __init__(self, width: int, state_width: int, depth: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, width)
        self.layers = nn.ModuleList(
            SequenceLayer(S5(width, state_width, conj_sym=True, clip_eigs=True), width) for _ in range(depth)
        )
        self.decoder = nn.Linear(width, 1)

    def forward(self, u: Tensor, states: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """u [N, L, 1] → answers [N, L] and the layers' states, which the next chunk takes."""
        h, last = self.encoder(u), []
        for layer, state in zip(self.layers, states or [None] * len(self.layers), strict=True):
            h, state = layer(h, state)
            last.append(state)
        return self.decoder(h)[..., 0], last


class LSTM(nn.Module):
    """One ``torch.nn.LSTM`` and a linear decoder, called like `S5Stack`."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.decoder = nn.Linear(hidden, 1)

    def forward(
        self, u: Tensor, states: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """u [N, L, 1] → answers [N, L] and the state."""
        h, states = self.lstm(u, states)
        return self.decoder(h)[..., 0], states


def parameter_count(model: nn.Module) -> int:
    """Numbers that training may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def train_delay(
    model: nn.Module,
    *,
    length: int,
    delay: int,
    period: float,
    batch_size: int,
    steps: int,
    learning_rate: float,
    burn_in: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Train on new sequences at every step; the same seed gives every model the same sequences.

    Adam; the learning rate rises to ``learning_rate`` over the first 15 % of the steps and falls to
    zero, both along a cosine; the gradient's norm is held to 1.

    Args:
        model: an ``S5Stack`` or an ``LSTM``.
        length, delay, period, batch_size: of a step's sequences, see ``delay_task``.
        steps, learning_rate: of the training.
        burn_in: maximum number of steps before each step's sequences, at random, which fill the state without gradient.
        seed: of the sequences.

    Returns:
        One row per step: ``loss`` (mean squared error of the answers from step d on) and ``ms`` that it took.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    # 0.15 · steps is never 1, at which OneCycleLR divides by zero.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=0.15, cycle_momentum=False
    )
    model.train()
    rows = []
    for _ in progress_bar(range(steps), desc=f"train {type(model).__name__}", unit="step"):
        past = int(torch.randint(burn_in + 1, (), generator=generator)) if burn_in else 0
        u, target = delay_task(batch_size, past + length, delay, period, generator)
        start = time.perf_counter()
        states = None
        if past:
            with torch.no_grad():
                _, states = model(u[:, :past])
        first = max(past, delay)  # that has an answer
        answers = model(u[:, past:], states)[0][:, first - past :]
        loss = (answers - target[:, first - delay :]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        rows.append((loss.item(), 1e3 * (time.perf_counter() - start)))
    return pd.DataFrame(rows, columns=["loss", "ms"]).rename_axis("step")


@torch.no_grad()
def run_in_chunks(model: nn.Module, u: Tensor, chunk: int) -> Tensor:
    """The model's answers [N, L] to u [N, L, 1], ``chunk`` steps at a time, the states carried."""
    model.eval()
    states, answers = None, []
    for part in u.split(chunk, 1):
        y, states = model(part, states)
        answers.append(y)
    return torch.cat(answers, 1)

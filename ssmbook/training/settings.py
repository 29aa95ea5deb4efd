"""The hyper-parameters of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ssmbook.errors import InputError, shown


@dataclass(frozen=True)
class Training:
    """Hyper-parameters; the defaults are those of the released code on Gen1 (facts of the paper's repository).

    Raises:
        InputError: a number is out of its range, or mixed_rates or freeze has none of its values. Precision, sampling
            and terms are looked at by ``train``.
    """

    steps: int = 400_000
    batch_size: int = 8  # chunks of one step, over all devices and accumulated batches
    accumulate: int = 1  # batches, one after another, that make a step
    sequence_length: int = 21
    learning_rate: float = 2e-4  # for batch 8; at another effective batch b: 2e-4 · √(b / 8)
    weight_decay: float = 0.0
    warmup: float = 0.005  # share of the steps in which the rate rises to its maximum, linearly
    clip: float = 1.0  # gradients are clipped by value
    augment: bool = True  # flip and zoom, as published
    mask_ratio: float = 0.0  # share of the first stage's tokens that a learnt vector replaces in training
    sampling: str = "mixed"  # half of each batch random chunks, half streams; or random, stream
    burn_in: int = (
        0  # maximum number of windows of its sequence's past run, without gradient, before a random chunk
    )
    # "true" or "sliding": train on steps of 5 to 200 Hz at random, of a stride of 50 ms, each with its own window or
    # with one of 50 ms, and have the time scale follow each step; "": steps of 50 ms. See labels.mixed_ends.
    mixed_rates: str = ""
    precision: str = "fp32"  # without TF32; or bf16, fp16
    checkpointing: bool = False  # keep less for the gradients and compute it again: see ``Detector``
    validate_every: int = 10_000  # steps
    save_every: int = 1_000  # steps between states from which a run goes on
    patience: int = 0  # validations without a better AP after which it stops; 0: it does not
    workers: int = 8
    seed: int = 0
    h2_weight: float = 0.0  # of the S5 layers' H2 norms above ω_min = πα in the loss, α the model's bandlimit
    freeze: str = ""  # "backbone": it stays as it is, bit for bit, and neck and head alone learn
    terms: Mapping[str, float] = field(
        default_factory=dict
    )  # weights of further terms, names of objective.TERMS

    def __post_init__(self) -> None:
        for least, names in (
            (1, ("steps", "batch_size", "accumulate", "sequence_length", "validate_every", "save_every")),
            (0, ("patience", "workers", "seed")),
        ):
            for name in names:
                if (value := getattr(self, name)) < least:
                    raise InputError(f"{name} is {value}; it must be at least {least}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate is {self.learning_rate}; it must be a number above 0")
        for name in ("weight_decay", "h2_weight"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise InputError(f"{name} is {value}; it must be a number, 0 or above")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"warmup is {self.warmup}; it is a share of the steps, from 0 to 1")
        if not self.clip > 0:
            raise InputError(f"clip is {self.clip}; it must be above 0, or inf: nothing is clipped")
        if not 0 <= self.mask_ratio < 1:
            raise InputError(f"mask_ratio is {self.mask_ratio}; it must be at least 0 and below 1")
        if self.mixed_rates not in ("", "true", "sliding"):
            raise InputError(
                f"mixed_rates is {shown(self.mixed_rates)}; it can be true or sliding, or empty: steps are equal"
            )
        if self.freeze not in ("", "backbone"):
            raise InputError(f"freeze is {shown(self.freeze)}; it can be backbone, or empty: all parts learn")

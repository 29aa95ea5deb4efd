"""What a profile is made of: variants of the network, arms, and the profile itself. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ssmbook.dataset import Sensor
from ssmbook.dataset.grid import BASE_HZ
from ssmbook.detector.recurrences.registry import REGISTRY
from ssmbook.errors import InputError
from ssmbook.events.simulate import Simulation
from ssmbook.training.settings import Training

RATES_HZ = (20.0, 40.0, 100.0, 200.0)


@dataclass(frozen=True)
class Variant:
    """A model that is compared with others: overrides of the profile's network and training.

    Args:
        recurrence: see ``Detector``.
        options: further arguments of ``Detector``.
        training: fields of ``Training`` that differ from the profile's, e.g. ``{"learning_rate": 4e-3}``.
        has_time_scale: whether ``step_scale`` has an effect, as the recurrence says of itself.
        rate_hz: at which it is trained, on windows of 50 ms; its time scale follows a rate in relation to this one.
    """

    recurrence: str
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    has_time_scale: bool = True
    rate_hz: float = BASE_HZ

    def __post_init__(self) -> None:
        if self.rate_hz != BASE_HZ and self.training.get("mixed_rates"):
            raise InputError(
                f"a model of mixed rates has no rate_hz of its own, {self.rate_hz:g}: leave one out"
            )


# The paper's two remedies against aliasing: the mask, here held in training and following the rate (in "s5" it acts
# once, at the start, as in the released code), and the H2 norm, which is defined for decaying modes only.
VARIANTS = {
    "s5": Variant("s5"),
    "s5-selective": Variant("s5-selective", {"state_gain": 10.0}),
    "convlstm": Variant("convlstm"),
    "none": Variant("none", has_time_scale=False),
    # What the gate and the louder state do alone: each without the other.
    "s5-gain-10": Variant("s5", {"state_gain": 10.0}),
    "s5-selective-gain-1": Variant("s5-selective"),
    "s5-held": Variant("s5", {"bandlimit_mode": "held"}),
    "s5-held-0.25": Variant("s5", {"bandlimit_mode": "held", "bandlimit": 0.25}),
    "s5-held-1": Variant("s5", {"bandlimit_mode": "held", "bandlimit": 1.0}),
    "s5-h2": Variant("s5", {"clip_eigs": True}, {"h2_weight": 1.0}),
    "s5-h2-0.1": Variant("s5", {"clip_eigs": True}, {"h2_weight": 0.1}),
    "s5-h2-10": Variant("s5", {"clip_eigs": True}, {"h2_weight": 10.0}),
    "s5-held-h2": Variant("s5", {"bandlimit_mode": "held", "clip_eigs": True}, {"h2_weight": 1.0}),
    "mamba": Variant("mamba"),
    "s4d": Variant("s4d"),
    "s4d-held": Variant("s4d", {"bandlimit": 0.5}),
    "s4": Variant("s4"),
    # Trained on steps of 5 to 200 Hz, each with a window of its own length: what the paper's "true" rate asks for.
    "s5-mixed": Variant("s5", training={"mixed_rates": "true"}),
    "s5-selective-mixed": Variant("s5-selective", {"state_gain": 10.0}, {"mixed_rates": "true"}),
    "convlstm-mixed": Variant("convlstm", training={"mixed_rates": "true"}),
    # Ten such windows have five labels on the average, thirty have twelve; ten windows of 50 ms have ten.
    "s5-mixed-30": Variant("s5", training={"mixed_rates": "true", "sequence_length": 30}),
    # All that a frame tells passes through what the time scale reaches.
    "s5-mixed-low-pass": Variant("s5", {"low_pass": True}, {"mixed_rates": "true"}),
    # Trained for longer than the study's 600 steps.
    "s5-selective-2000": Variant(
        "s5-selective", {"state_gain": 10.0}, {"steps": 2000, "validate_every": 1000}
    ),
    "s5-2000": Variant("s5", training={"steps": 2000, "validate_every": 1000}),
    "convlstm-2000": Variant("convlstm", training={"steps": 2000, "validate_every": 1000}),
    "s5-selective-8000": Variant(
        "s5-selective", {"state_gain": 10.0}, {"steps": 8000, "validate_every": 2000}
    ),
    # Trained at another rate: ten labels a chunk as at 20 Hz, and as many seconds of past before it.
    **{
        f"s5-selective-at-{rate}": Variant(
            "s5-selective",
            {"state_gain": 10.0},
            {"sequence_length": max(10, rate // 2), "burn_in": 2 * rate},
            rate_hz=float(rate),
        )
        for rate in (5, 10, 40, 200)
    },
}

#: The models of the study's main table.
MAIN = ("s5", "s5-selective", "convlstm", "none")
#: Those that are trained on steps of mixed rates.
MIXED = tuple(name for name, variant in VARIANTS.items() if variant.training.get("mixed_rates"))
#: Those that are trained for longer.
LONGER = tuple(name for name, variant in VARIANTS.items() if "steps" in variant.training)
#: Those that are trained at another rate than 20 Hz.
ELSEWHERE = tuple(name for name, variant in VARIANTS.items() if variant.rate_hz != BASE_HZ)


@dataclass(frozen=True)
class Arm:
    """One mode of running one trained model at other rates than it was trained at.

    Args:
        variant: of the model, a name of ``VARIANTS`` or of the profile's own.
        mode: ``"held"``: windows of 50/k ms, still one every 50 ms; ``"true"``: windows of 50/k ms, one every
            50/k ms; ``"sliding"``: windows of 50 ms, one every 50/k ms; ``"traces"``: a model of its own, trained on
            ``Traces``, which are read every 50/k ms.
        follow: the time scale follows the rate, ``step_scale = 1/k``, k how much faster than in training; else it
            stays 1.
        carry: ``"exact"``: the state goes from chunk to chunk; ``"published"``: every chunk starts from zero.
        rates_hz: the rates at which the arm is run.
        seeds: those of the profile with which it is run; all of them by default.
    """

    variant: str
    mode: str
    follow: bool = False
    carry: str = "exact"
    rates_hz: tuple[float, ...] = RATES_HZ
    seeds: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        scale = "step_scale 1/k" if self.follow else "step_scale 1"
        return f"{self.variant}, {self.mode}, {scale}, {self.carry} carry"


@dataclass(frozen=True)
class LongRange:
    """The delay task of the long-range chapter, and two models for it of about one size."""

    length: int = 1000
    delay: int = 500
    period: float = 100.0  # of the fastest wave in the input: 2 · 500 / 100 numbers are to be held
    batch_size: int = 8
    steps: int = 250
    learning_rate: float = 1e-2
    width: int = 16  # H, P and depth of the S5 stack: 9,809 parameters
    state_width: int = 128
    depth: int = 2
    hidden: int = 48  # of the LSTM: 4 · 48 · (1 + 48) + 8 · 48 + 49 = 9,841 parameters
    test_sequences: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Profile:
    """All that distinguishes one run of the book from another."""

    name: str
    sensor: Sensor | str
    model: str  # a preset of ssmbook.detector
    training: Training
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = ()  # of the runs of each variant; the training settings' own if empty
    simulation: Simulation | None = None  # None: real recordings, which lie in the data folder
    long_range: LongRange = LongRange()
    representation: str = "stacked_histogram"  # of the events, a name of ssmbook.events.REPRESENTATIONS
    representation_options: Mapping[str, Any] = field(default_factory=dict)  # its arguments
    data: str = ""  # the set's name in tables; the profile's if not given
    own_variants: Mapping[str, Variant] = field(default_factory=dict)  # besides VARIANTS

    @property
    def variants(self) -> tuple[str, ...]:
        """The models that the arms need, in order."""
        return tuple(dict.fromkeys(arm.variant for arm in self.arms))

    def variant(self, name: str) -> Variant:
        """The variant of that name, which may be that of a plugin's recurrence; an InputError that lists the names if
        there is none."""
        known = {**VARIANTS, **self.own_variants}
        if name not in known and name in REGISTRY:
            return Variant(name, has_time_scale=REGISTRY[name].has_time_scale)
        if name not in known:
            raise InputError(f"there is no model {name!r}; the models are {', '.join(known)}")
        return known[name]

"""The profiles: which data, which network, how long, which arms. Data only.

========== ===================== ==========================================================
profile    data                  for
========== ===================== ==========================================================
smoke      tiny simulated set    the committed notebooks, and their test
demo       simulated set         ``ssmbook reproduce``: what a newcomer runs
study      simulated set         the tables that the book shows: all variants, three seeds
gen1-*     Gen1, as distributed  GPU nodes, with papermill or the command line
gen4-*     1 Mpx ("gen4")        GPU nodes, with papermill or the command line
========== ===================== ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ssmbook.dataset import Sensor
from ssmbook.dataset.grid import BASE_HZ
from ssmbook.errors import InputError
from ssmbook.events.simulate import DEMO_SCENE, DEMO_SET, Simulation
from ssmbook.training.settings import Training

RATES_HZ = (20.0, 40.0, 100.0, 200.0)


@dataclass(frozen=True)
class Variant:
    """A model that is compared with others: the profile's network and training, with what is its own.

    Args:
        recurrence: see ``Detector``.
        options: further arguments of ``Detector``.
        h2_weight: see ``Training``; None: the profile's.
    """

    recurrence: str
    options: Mapping[str, Any] = field(default_factory=dict)
    h2_weight: float | None = None

    @property
    def has_time_scale(self) -> bool:
        """Whether ``step_scale`` has an effect."""
        return self.recurrence in ("s5", "s5-selective", "s4d", "s4")


VARIANTS = {
    "s5": Variant("s5"),
    # The paper's two remedies against aliasing: the mask, here held in training and following the rate, and the
    # norm, which is finite for decaying modes only.
    "s5-held": Variant("s5", {"bandlimit_mode": "held"}),
    "s5-h2": Variant("s5", {"clip_eigs": True}, h2_weight=1.0),
    "s5-selective": Variant("s5-selective"),
    "s4d": Variant("s4d"),
    "s4": Variant("s4"),
    "convlstm": Variant("convlstm"),
    "none": Variant("none"),
}


@dataclass(frozen=True)
class Arm:
    """One way to run one trained model faster than it was trained.

    Args:
        variant: of the model, a name of ``VARIANTS``.
        way: ``"held"``: windows of 50/k ms, still one every 50 ms; ``"true"``: windows of 50/k ms, one every
            50/k ms; ``"sliding"``: windows of 50 ms, one every 50/k ms.
        follow: the time scale follows the rate, ``step_scale = 1/k``; else it stays 1.
        carry: ``"exact"``: the state goes from chunk to chunk; ``"published"``: every chunk starts from zero.
        rates_hz: the rates at which the arm is run.
    """

    variant: str
    way: str
    follow: bool = False
    carry: str = "exact"
    rates_hz: tuple[float, ...] = RATES_HZ

    @property
    def name(self) -> str:
        scale = "step_scale 1/k" if self.follow else "step_scale 1"
        return f"{self.variant}, {self.way}, {scale}, {self.carry} carry"


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
    seeds: tuple[int, ...] = ()  # of the trainings of each variant; the training's own if empty
    simulation: Simulation | None = None  # None: real recordings, which lie in the data folder
    long_range: LongRange = LongRange()
    representation: str = "stacked_histogram"  # of the events, a name of ssmbook.events.REPRESENTATIONS

    @property
    def variants(self) -> tuple[str, ...]:
        """The models that the arms need, in order."""
        return tuple(dict.fromkeys(arm.variant for arm in self.arms))


DEMO_ARMS = (
    Arm("s5", "sliding", follow=True),
    Arm("s5", "sliding"),
    Arm("s5", "true", follow=True),
    Arm("s5", "true", carry="published", rates_hz=(BASE_HZ,)),
    Arm("convlstm", "sliding"),
    Arm("convlstm", "true"),
)


def all_arms(*variants: str) -> tuple[Arm, ...]:
    """Each of the three ways, with and without step_scale, with exact and published carry, where it differs."""
    return tuple(
        Arm(name, way, follow, carry)
        for name in variants
        for way in ("held", "true", "sliding")
        for follow in ((True, False) if VARIANTS[name].has_time_scale else (False,))
        for carry in (("exact", "published") if name != "none" else ("exact",))
    )


ALL_ARMS = all_arms("s5", "convlstm")

_GEN1 = Training()
# 2e-4 · √(12 / 8): the rule for another batch, at 1 Mpx's 12
_GEN4 = Training(batch_size=12, sequence_length=10, learning_rate=2e-4 * (12 / 8) ** 0.5)
_DEMO = Training(
    steps=500,
    batch_size=4,
    sequence_length=10,
    learning_rate=7e-3,  # the best validation AP of 2e-3, 4e-3, 7e-3 and 1.2e-2
    warmup=0.1,
    augment=False,
    sampling="random",
    validate_every=250,
    workers=0,
)

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            sensor=Sensor.simulated(width=64, height=64),
            model="sim-smoke",
            training=replace(_DEMO, steps=12, batch_size=2, sequence_length=5, validate_every=12),
            arms=DEMO_ARMS,
            simulation=Simulation(
                scene=replace(DEMO_SCENE, width=64, height=64, duration_s=1.0),
                sequences={"train": 3, "val": 1, "test": 2},
            ),
            long_range=LongRange(length=100, delay=50, period=25.0, steps=10, test_sequences=16),
        ),
        Profile(
            name="demo",
            sensor=Sensor.simulated(width=128, height=96),
            model="sim-tiny",
            training=_DEMO,
            arms=DEMO_ARMS,
            simulation=DEMO_SET,
        ),
        Profile(
            name="study",
            sensor=Sensor.simulated(width=128, height=96),
            model="sim-tiny",
            training=_DEMO,
            arms=all_arms(*VARIANTS),
            seeds=(0, 1, 2),
            simulation=DEMO_SET,
        ),
        Profile(name="gen1-small", sensor="gen1", model="gen1-small", training=_GEN1, arms=ALL_ARMS),
        Profile(name="gen1-base", sensor="gen1", model="gen1-base", training=_GEN1, arms=ALL_ARMS),
        Profile(name="gen4-small", sensor="gen4", model="gen4-small", training=_GEN4, arms=ALL_ARMS),
        Profile(name="gen4-base", sensor="gen4", model="gen4-base", training=_GEN4, arms=ALL_ARMS),
    )
}


def training_for(preset: str) -> Training:
    """How a network of ``ssmbook.detector.PRESETS`` is trained: as a profile trains it, or else its sensor's networks.

    The released hyper-parameters are the same for all sizes.
    """
    for profile in PROFILES.values():
        if preset == profile.model or preset.partition("-")[0] == profile.sensor:
            return profile.training
    raise InputError(
        f"no profile trains {preset!r}; they train {', '.join(p.model for p in PROFILES.values())}"
    )


def get_profile(name: str | Profile) -> Profile:
    """The profile of that name; an InputError that lists the names if there is none. A profile as it is."""
    if isinstance(name, Profile):
        return name
    if name not in PROFILES:
        raise InputError(f"there is no profile {name!r}; the profiles are {', '.join(PROFILES)}")
    return PROFILES[name]


def get_variant(name: str) -> Variant:
    """The variant of that name; an InputError that lists the names if there is none."""
    if name not in VARIANTS:
        raise InputError(f"there is no model {name!r}; the models are {', '.join(VARIANTS)}")
    return VARIANTS[name]

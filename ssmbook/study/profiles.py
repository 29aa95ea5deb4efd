"""The profiles: which data, which network, how long, which arms. Data only.

========== ===================== ==========================================================
profile    data                  for
========== ===================== ==========================================================
smoke      tiny simulated set    the committed notebooks, and their test
demo       simulated set         ``ssmbook reproduce``: what a newcomer runs
study      simulated set         the tables that the book shows: a set on which memory counts, all variants, three seeds
camera     simulated set         the network that ``ssmbook detect`` runs by default: all kinds of sensors and motions
gen1-*     Gen1, as distributed  GPU nodes, with papermill or the command line
gen4-*     1 Mpx ("gen4")        GPU nodes, with papermill or the command line
========== ===================== ==========================================================
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from ssmbook.dataset import Sensor
from ssmbook.dataset.grid import BASE_HZ
from ssmbook.errors import InputError, shown
from ssmbook.events.simulate import DEMO_SCENE, DETECTOR_SET, MEMORY_SET, Simulation
from ssmbook.study.arms import ELSEWHERE, LONGER, MAIN, MIXED, VARIANTS, Arm, LongRange, Profile
from ssmbook.study.profile_files import read_profile
from ssmbook.training.settings import Training

# The answer in short: the rate followed and not, the state carried and not, in two recurrences.
DEMO_ARMS = (
    Arm("s5-selective", "sliding", follow=True, rates_hz=(20.0, 40.0, 200.0)),
    Arm("s5-selective", "sliding", rates_hz=(20.0, 200.0)),
    Arm("s5-selective", "sliding", follow=True, carry="published", rates_hz=(BASE_HZ,)),
    Arm("convlstm", "sliding", follow=True, rates_hz=(20.0, 200.0)),
    Arm("convlstm", "sliding", rates_hz=(20.0, 40.0, 200.0)),
    Arm("convlstm", "sliding", carry="published", rates_hz=(BASE_HZ,)),
)

# Every kind of arm once, for the tests and for the outputs that the chapters are compared with.
SMOKE_ARMS = (
    Arm("s5", "sliding", follow=True),
    Arm("s5", "sliding"),
    Arm("s5", "true", follow=True),
    Arm("s5", "true", carry="published", rates_hz=(BASE_HZ,)),
    Arm("convlstm", "sliding"),
    Arm("convlstm", "true"),
)


def all_arms(*variants: str) -> tuple[Arm, ...]:
    """Each of the three modes, with and without step_scale, with exact and published carry, where it differs."""
    return tuple(
        Arm(name, mode, follow, carry)
        for name in variants
        for mode in ("held", "true", "sliding")
        for follow in ((True, False) if VARIANTS[name].has_time_scale else (False,))
        for carry in (("exact", "published") if name != "none" else ("exact",))
    )


def main_arms(variant: str, mode: str) -> tuple[Arm, ...]:
    """A model of the study's main table: the rates with step_scale following and not, and the published carry."""
    follows, rates_hz = VARIANTS[variant].has_time_scale, (5.0, 10.0, 20.0, 40.0, 100.0, 200.0)
    arms = [Arm(variant, mode, follows, rates_hz=rates_hz)]
    if follows:  # a ConvLSTM was published so, and is asked at every rate
        arms.append(
            Arm(variant, mode, rates_hz=rates_hz if variant == "convlstm" else (5.0, 20.0, 40.0, 200.0))
        )
    if variant != "none":
        arms.append(Arm(variant, mode, follows, "published", (20.0,)))
    return tuple(arms)


def side_arms(
    variant: str, mode: str = "sliding", rates_hz: tuple[float, ...] = (20.0, 200.0)
) -> tuple[Arm, ...]:
    """A question asked at a few rates alone, with step_scale following and not."""
    follows = VARIANTS[variant].has_time_scale
    return tuple(
        Arm(variant, mode, follow, rates_hz=rates_hz) for follow in ((True, False) if follows else (False,))
    )


OTHERS = tuple(name for name in VARIANTS if name not in {*MAIN, *MIXED, *LONGER, *ELSEWHERE})

# In order of weight, for a study that is broken off: what it has is then the most important part.
STUDY_ARMS = (
    *(arm for name in ("s5-selective", "convlstm", "s5") for arm in main_arms(name, "sliding")),
    *(arm for name in ("s5", "s5-selective", "convlstm") for arm in main_arms(name, "traces")),
    *(arm for mode in ("sliding", "traces") for arm in main_arms("none", mode)),
    # The other inputs of faster windows, for the sign of step_scale's effect.
    *(
        arm
        for name in ("s5", "s5-selective", "convlstm")
        for mode in ("held", "true")
        for arm in side_arms(name, mode)
    ),
    *(arm for name in OTHERS for arm in side_arms(name)),
    # 80 Hz for the paper's figure, and 1,000 Hz, which costs as much as all other rates together.
    *(Arm(name, "sliding", VARIANTS[name].has_time_scale, rates_hz=(80.0, 1000.0)) for name in MAIN),
    Arm("convlstm", "sliding", rates_hz=(80.0, 1000.0)),
    *(Arm(name, "sliding", True, "published", (200.0,)) for name in ("s5", "s5-selective")),
    *(Arm(name, "traces", True, rates_hz=(80.0, 1000.0)) for name in ("s5-selective", "s5")),
    # Trained for all rates, on windows as long as their steps and on traces.
    *(
        Arm(name, mode, VARIANTS[name].has_time_scale, rates_hz=(5.0, 10.0, 20.0, 40.0, 200.0))
        for mode in ("true", "traces")
        for name in MIXED
        if mode == "true" or name not in ("s5-mixed-30", "s5-mixed-low-pass")
    ),
    # When the detector is better, and what a model reaches that is trained at the rate at which it runs.
    *(
        replace(arm, seeds=(0,) if name == "s5-selective-8000" else ())
        for name in LONGER
        for arm in side_arms(name, rates_hz=(5.0, 20.0, 200.0))
    ),
    *(
        Arm(name, "sliding", True, rates_hz=(rate,), seeds=(0,) if rate == 200.0 else ())
        for name in ELSEWHERE
        for rate in (VARIANTS[name].rate_hz,)
    ),
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

# Chunks that begin in the middle of a sequence's past teach what to remember.
_MEMORY = replace(_DEMO, steps=600, validate_every=300, burn_in=40)

# Streams among the chunks teach a state that is carried, and flips and zooms more objects than the set holds.
_CAMERA = replace(
    _DEMO,
    steps=2400,
    sequence_length=8,
    learning_rate=5e-3,
    augment=True,
    sampling="mixed",
    validate_every=800,
    save_every=100,
)

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            sensor=Sensor.simulated(width=64, height=64),
            model="sim-smoke",
            training=replace(_DEMO, steps=12, batch_size=2, sequence_length=5, validate_every=12),
            arms=SMOKE_ARMS,
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
            training=_MEMORY,  # with fewer steps or less past the ConvLSTM learns too little to show what it forgets
            arms=DEMO_ARMS,
            simulation=MEMORY_SET,
            data="memory",
        ),
        Profile(
            name="study",
            sensor=Sensor.simulated(width=128, height=96),
            model="sim-tiny",
            training=_MEMORY,
            arms=STUDY_ARMS,
            seeds=(0, 1, 2),
            simulation=MEMORY_SET,
            data="memory",
        ),
        Profile(
            name="camera",
            sensor=Sensor.simulated(width=160, height=128),
            model="sim-tiny",
            training=_CAMERA,
            arms=(Arm("s5-selective", "sliding", follow=True, rates_hz=(20.0, 200.0)),),
            simulation=DETECTOR_SET,
        ),
        Profile(name="gen1-small", sensor="gen1", model="gen1-small", training=_GEN1, arms=ALL_ARMS),
        Profile(name="gen1-base", sensor="gen1", model="gen1-base", training=_GEN1, arms=ALL_ARMS),
        Profile(name="gen4-small", sensor="gen4", model="gen4-small", training=_GEN4, arms=ALL_ARMS),
        Profile(name="gen4-base", sensor="gen4", model="gen4-base", training=_GEN4, arms=ALL_ARMS),
    )
}


def published_training(sensor: str) -> Training | None:
    """How the released networks of a sensor were trained: the same hyper-parameters for all sizes; None for others."""
    return {"gen1": _GEN1, "gen4": _GEN4}.get(sensor)


def training_for(preset: str) -> Training:
    """How a network of ``ssmbook.detector.PRESETS`` is trained: as a profile does, or else its sensor's networks."""
    from ssmbook.detector.presets import preset_sensor  # with PyTorch, which a profile's name does not need

    for profile in PROFILES.values():
        if preset == profile.model:
            return profile.training
    training = published_training(preset_sensor(preset))
    if training is None:
        raise InputError(
            f"no profile trains {preset!r}; they train {', '.join(p.model for p in PROFILES.values())}"
        )
    return training


def get_profile(name: str | Profile) -> Profile:
    """The profile of that name or in that YAML file (``read_profile``); a profile as it is.

    Raises:
        InputError: there is none; the message has the nearest name, or all.
    """
    if isinstance(name, Profile):
        return name
    if name in PROFILES:
        return PROFILES[name]
    if name.endswith((".yaml", ".yml")):
        return read_profile(name, PROFILES)
    near = difflib.get_close_matches(name, PROFILES, 1)
    hint = f"is it {near[0]}?" if near else f"the profiles are {', '.join(PROFILES)}"
    raise InputError(f"there is no profile {shown(name)}; {hint} Or give the YAML file of one")

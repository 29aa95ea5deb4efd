"""Network sizes by name, as arguments of ``Detector``, and the rule that gives a sensor's.

Gen1 is 240 × 304, padded to 256 × 320; 1 Mpx ("gen4") is 360 × 640 once halved, padded to 384 × 640. The
partition is the input / 32 on Gen1 and / 64 on 1 Mpx: stage 4 is one group of 8 × 10, or four of 6 × 10.
"""

import math
from typing import Any

BASE = {"embed_dim": 64, "dim_head": 32, "fpn_depth": 0.67}  # widths 64, 128, 256, 512; head 128
SMALL = {"embed_dim": 48, "dim_head": 24, "fpn_depth": 0.33}  # widths 48, 96, 192, 384; head 96
TINY = {"embed_dim": 32, "dim_head": 32, "fpn_depth": 0.33}  # widths 32, 64, 128, 256; head 64

GEN1 = {"input_hw": (256, 320), "partition": (8, 10), "num_classes": 2}  # 256 / 32 = 8, 320 / 32 = 10
GEN4 = {"input_hw": (384, 640), "partition": (6, 10), "num_classes": 3}  # 384 / 64 = 6, 640 / 64 = 10

# RVT has the same sizes with recurrence="convlstm" (tiny is RVT's only).
PRESETS: dict[str, dict[str, Any]] = {
    "gen1-base": BASE | GEN1,  # 18,192,149 parameters
    "gen1-small": SMALL | GEN1,  # 9,677,205
    "gen1-tiny": TINY | GEN1,
    "gen4-base": BASE | GEN4,  # 18,192,536
    "gen4-small": SMALL | GEN4,
    "gen4-tiny": TINY | GEN4,
    # simulated sets: 96 / 32 = 3, 128 / 32 = 4
    "sim-tiny": {
        "embed_dim": 16,
        "dim_head": 16,
        "fpn_depth": 0.33,
        "input_hw": (96, 128),
        "partition": (3, 4),
        "num_classes": 2,
    },
    "sim-smoke": {
        "embed_dim": 8,
        "dim_head": 8,
        "fpn_depth": 0.33,
        "input_hw": (64, 64),
        "partition": (2, 2),
        "num_classes": 2,
    },
}

#: The presets of the book's own sets; no weights of theirs were released.
SIMULATED = {"sim-tiny", "sim-smoke"}

#: Whose frames the presets of released networks take.
SENSOR_SIZES = {"gen1": GEN1, "gen4": GEN4}


def preset_sensor(preset: str) -> str:
    """The name of the sensor whose frames a preset takes; empty for a simulated one's."""
    sizes = PRESETS.get(preset, {}).items()
    return next((sensor for sensor, own in SENSOR_SIZES.items() if own.items() <= sizes), "")


def input_sizes(height: int, width: int) -> dict[str, tuple[int, int]]:
    """``input_hw`` and ``partition`` for frames of any size, by the rule that gives the presets'.

    The input is the smallest multiple of 32 · k that holds the frame, and the partition is input / (32 · k), with the
    smallest k for which no side of it is above 10: k = 1 on Gen1, 2 on 1 Mpx.
    """
    k = max(1, math.ceil(max(height, width) / 320))
    partition = math.ceil(height / (32 * k)), math.ceil(width / (32 * k))
    return {"input_hw": (32 * k * partition[0], 32 * k * partition[1]), "partition": partition}

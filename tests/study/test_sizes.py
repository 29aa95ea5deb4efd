import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssmbook.detector import PRESETS, RECURRENCES, Detector
from ssmbook.ssm import S4, S4D, S5, S6, SelectiveS5
from ssmbook.study.sizes import frame_flops, sizes_table
from ssmbook.training import learning_rate_for


def counted(recurrence):
    return frame_flops(Detector(**{**PRESETS["sim-smoke"], "recurrence": recurrence}))


def operations(layer, N):
    """Additions and multiplications of one real step of N sequences; activations do not count."""

    def of_result(*shapes, out_shape, **options):
        return math.prod(out_shape)

    def of_argument(shape, *others, out_shape, **options):
        return math.prod(shape)

    aten = torch.ops.aten
    counts = dict.fromkeys((aten.add, aten.sub, aten.mul), of_result)
    state = torch.zeros(N, *layer.state_shape)
    with FlopCounterMode(display=False, custom_mapping={**counts, aten.sum: of_argument}) as counter:
        layer(torch.zeros(N, 1, 6), state, 1.0)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "layer",
    [S4D(6, 8), S4(6, 8), S4(6, 8, mode="diag"), S5(6, 10), SelectiveS5(6, 10), S6(6, 8)],
    ids=["S4D", "S4", "S4 diag", "S5", "selective S5", "S6"],
)
@torch.no_grad()
def test_layers_cost_what_their_real_steps_do(layer):
    """What one more sequence costs: it has no share in the discretisation. S5's step multiplies B u by Δ̂ (6 P), where
    the equation has B̄ u."""
    step = layer.real_step()
    extra = 6 * layer.modes if isinstance(layer, S5) else 0
    assert operations(step, 3) - operations(step, 2) == layer.step_flops() + extra


def per_pixel(cost):
    """Σ over the stages of pixels · cost(channels), for 64 × 64 and embed_dim 8."""
    return sum((64 // 2 ** (2 + i)) ** 2 * cost(8 * 2**i) for i in range(4))


def test_recurrences_cost_what_their_equations_say():
    """ConvLSTM: 4C × 2C products; S5, S4D: C → 2C and C → C, and B̄u, Cx and the scan; S4D: C → 2C once more."""
    none, lstm, s5, s4d = (counted(name) for name in ("none", "convlstm", "s5", "s4d"))
    assert lstm[0] - none[0] == per_pixel(lambda C: 2 * 4 * C * 2 * C)
    assert s5[0] - none[0] == per_pixel(lambda C: 6 * C * C + 8 * C * C + 10 * C)
    assert s4d[0] - none[0] == per_pixel(lambda C: 6 * C * C + 14 * C * 32 + 2 * C + 4 * C * C)
    assert none[1] == s4d[1] == lstm[1] == s5[1] > 0


def test_the_stem_and_the_head_are_counted():
    """The first convolution alone: 16 × 16 places, 8 channels, 20 · 7 · 7 products each."""
    assert counted("none")[0] > 2 * 16 * 16 * 8 * 20 * 49


def test_parameters_are_the_published():
    table = sizes_table(["gen1-small", "gen1-base", "gen4-base"], ["s5"])
    assert table["parameters"].tolist() == [9_677_205, 18_192_149, 18_192_536]
    assert table["backbone GFLOP"][0] == pytest.approx(3.8, rel=0.1)
    assert table["neck and head GFLOP"][0] == pytest.approx(1.8, rel=0.1)


def test_the_table_has_the_published_hyper_parameters():
    table = sizes_table(["gen1-tiny", "gen4-tiny"], ["convlstm"]).set_index("preset")
    columns = ["input", "partition", "embed_dim", "dim_head", "fpn_depth", "L", "batch"]
    assert table.loc["gen1-tiny", columns].tolist() == ["256 × 320", "8 × 10", 32, 32, 0.33, 21, 8]
    assert table.loc["gen4-tiny", columns].tolist() == ["384 × 640", "6 × 10", 32, 32, 0.33, 10, 12]
    for row in table.itertuples():
        assert row.learning_rate == learning_rate_for(row.batch)


def test_every_recurrence_has_a_row():
    table = sizes_table(["sim-smoke"])
    assert tuple(table["recurrence"]) == RECURRENCES
    assert table["L"].tolist() == [5] * len(RECURRENCES)

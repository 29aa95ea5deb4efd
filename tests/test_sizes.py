import pytest

from ssmbook.detector import PRESETS, Detector
from ssmbook.experiment.sizes import frame_flops, sizes_table


def counted(recurrence):
    return frame_flops(Detector(**{**PRESETS["sim-smoke"], "recurrence": recurrence}))


def per_pixel(cost):
    """Σ over the stages of pixels · cost(channels), for 64 × 64 and embed_dim 8."""
    return sum((64 // 2 ** (2 + i)) ** 2 * cost(8 * 2**i) for i in range(4))


def test_recurrences_cost_what_their_equations_say():
    """ConvLSTM: 4C × 2C products; S5: C → 2C and C → C, and B̄u, Cx and the scan."""
    none, lstm, s5 = (counted(name) for name in ("none", "convlstm", "s5"))
    assert lstm[0] - none[0] == per_pixel(lambda C: 2 * 4 * C * 2 * C)
    assert s5[0] - none[0] == per_pixel(lambda C: 6 * C * C + 8 * C * C + 10 * C)
    assert none[1] == lstm[1] == s5[1] > 0


def test_the_stem_and_the_head_are_counted():
    """The first convolution alone: 16 × 16 places, 8 channels, 20 · 7 · 7 products each."""
    assert counted("none")[0] > 2 * 16 * 16 * 8 * 20 * 49


def test_parameters_are_the_published():
    table = sizes_table(["gen1-small", "gen1-base", "gen4-base"], ["s5"])
    assert table["parameters"].tolist() == [9_677_205, 18_192_149, 18_192_536]
    assert table["backbone GFLOP"][0] == pytest.approx(3.8, rel=0.1)
    assert table["neck and head GFLOP"][0] == pytest.approx(1.8, rel=0.1)

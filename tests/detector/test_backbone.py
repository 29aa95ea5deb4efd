import pytest
import torch

from ssmbook.detector import RECURRENCES
from ssmbook.detector.backbone import Backbone
from ssmbook.detector.config import DetectorConfig


def make(recurrence="s5", mask_token=False, in_channels=3):
    torch.manual_seed(0)
    config = DetectorConfig(
        embed_dim=4,
        dim_head=2,
        fpn_depth=0,
        num_classes=1,
        input_hw=(32, 64),
        partition=(1, 2),
        in_channels=in_channels,
        recurrence=recurrence,
        mask_token=mask_token,
    )
    backbone = Backbone(config).double()
    for name, parameter in backbone.named_parameters():
        if "gamma" in name or "mask_token" in name:
            torch.nn.init.normal_(parameter)  # not near the identity, so that every part counts
    return backbone


def run(backbone, x, **kwargs):
    """x [L, B, C, H, W]."""
    return backbone(x.flatten(0, 1), x.shape[1], **kwargs)


def test_widths_double_and_strides_are_4_8_16_32():
    tokens, states = run(make(), torch.randn(2, 3, 3, 32, 64, dtype=torch.float64))
    assert [tuple(tokens[i].shape) for i in (1, 2, 3, 4)] == [
        (2, 3, 8, 16, 4),
        (2, 3, 4, 8, 8),
        (2, 3, 2, 4, 16),
        (2, 3, 1, 2, 32),
    ]
    assert [tuple(s.shape) for s in states] == [(3, 4, 8, 16), (3, 8, 4, 8), (3, 16, 2, 4), (3, 32, 1, 2)]


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_nothing_flows_backwards_in_time_or_between_slots(recurrence):
    backbone = make(recurrence)
    x = torch.randn(4, 2, 3, 32, 64, dtype=torch.float64)
    changed = x.clone()
    changed[2, 1] += torch.randn(3, 32, 64, dtype=torch.float64)
    before, after = run(backbone, x)[0], run(backbone, changed)[0]
    for i in (1, 2, 3, 4):
        moved = (before[i] - after[i]).abs().amax((2, 3, 4)) > 1e-12  # [L, B]
        assert moved[:, 0].tolist() == [False] * 4
        assert moved[:, 1].tolist() == [False, False, True, recurrence != "none"]


def test_masked_positions_take_the_learnt_vector():
    backbone = make(mask_token=True)
    x = torch.randn(2, 1, 3, 32, 64, dtype=torch.float64)
    mask = torch.ones(2, 1, 8, 16, dtype=torch.bool)
    a, b = run(backbone, x, token_mask=mask)[0], run(backbone, -x, token_mask=mask)[0]
    assert all(torch.equal(a[i], b[i]) for i in a)  # all masked: the input does not matter
    none, plain = run(backbone, x, token_mask=~mask)[0], run(backbone, x)[0]
    assert all(torch.equal(none[i], plain[i]) for i in plain)

    mask = torch.rand(2, 1, 8, 16) < 0.5
    stage = backbone.stages[0]
    stem = stage.norm(stage.downsample(x.flatten(0, 1)).permute(0, 2, 3, 1))
    stem[mask.flatten(0, 1)] = stage.mask_token
    expected = stage.recurrence(
        stage.grid(stage.window(stem)).flatten(1, 2)  # [L, N, C], as B = 1
    )[0]
    got = run(backbone, x, token_mask=mask)[0][1].flatten(1, 3)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_the_vector_exists_only_where_asked_for():
    names = {name for name, _ in make(mask_token=True).named_parameters()}
    assert names - {name for name, _ in make().named_parameters()} == {"stages.0.mask_token"}


def test_gradients_reach_the_past_through_the_state():
    backbone = make()
    x = torch.randn(2, 1, 3, 32, 64, dtype=torch.float64, requires_grad=True)
    _, states = run(backbone, x[:1])
    tokens, _ = run(backbone, x[1:], states=states)
    tokens[4].sum().backward()
    assert x.grad[0].abs().max() > 0

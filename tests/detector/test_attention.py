import pytest
import torch

from ssmbook.detector.attention import (
    AttentionBlock,
    SelfAttention,
    grid_merge,
    grid_partition,
    window_merge,
    window_partition,
)

SHAPES = [(1, 4, 6, 3, (2, 3)), (2, 6, 6, 5, (3, 2)), (3, 4, 4, 1, (4, 4)), (2, 3, 4, 2, (1, 1))]


@pytest.mark.parametrize(("N", "H", "W", "C", "size"), SHAPES)
@pytest.mark.parametrize(("split", "merge"), [(window_partition, window_merge), (grid_partition, grid_merge)])
def test_merge_is_the_inverse_of_partition(split, merge, N, H, W, C, size):
    x = torch.randn(N, H, W, C)
    groups = split(x, size)
    assert groups.shape == (N * H * W // (size[0] * size[1]), size[0] * size[1], C)
    assert torch.equal(merge(groups, size, (H, W)), x)


@pytest.mark.parametrize(("N", "H", "W", "C", "size"), SHAPES)
def test_partitions_hold_the_tokens_they_should(N, H, W, C, size):
    ph, pw = size
    gh, gw = H // ph, W // pw
    x = torch.arange(N * H * W).view(N, H, W, 1)
    windows = window_partition(x, size).view(N, gh, gw, ph, pw)
    grids = grid_partition(x, size).view(N, gh, gw, ph, pw)
    for i in range(gh):
        for j in range(gw):
            assert torch.equal(windows[:, i, j], x[:, i * ph : (i + 1) * ph, j * pw : (j + 1) * pw, 0])
            assert torch.equal(grids[:, i, j], x[:, i::gh, j::gw, 0])  # gh rows and gw columns apart


def test_attention_equals_the_formula_head_by_head():
    torch.manual_seed(0)
    C, d, T = 6, 2, 5
    attention = SelfAttention(C, d).double()
    x = torch.randn(3, T, C, dtype=torch.float64)
    qkv = x @ attention.qkv.weight.T + attention.qkv.bias
    heads = []
    for head in range(C // d):
        of_head = qkv[..., head * 3 * d : (head + 1) * 3 * d]
        q, k, v = of_head[..., :d], of_head[..., d : 2 * d], of_head[..., 2 * d :]
        scores = torch.einsum("gtd,gsd->gts", q, k) / d**0.5
        heads.append(torch.einsum("gts,gsd->gtd", scores.exp() / scores.exp().sum(-1, keepdim=True), v))
    expected = torch.cat(heads, -1) @ attention.out.weight.T + attention.out.bias
    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["window", "grid"])
def test_block_equals_its_two_lines_gradients_too(kind):
    torch.manual_seed(1)
    block = AttentionBlock(4, 2, (2, 3), kind).double()
    torch.nn.init.normal_(block.gamma1)
    torch.nn.init.normal_(block.gamma2)
    x = torch.randn(2, 4, 6, 4, dtype=torch.float64, requires_grad=True)
    split, merge = (window_partition, window_merge) if kind == "window" else (grid_partition, grid_merge)
    normed = x if kind == "window" else block.norm1(x)
    y = x + block.gamma1 * merge(block.attention(split(normed, (2, 3))), (2, 3), (4, 6))
    y = y + block.gamma2 * block.mlp(block.norm2(y))
    got, dy = block(x), torch.randn_like(y)
    torch.testing.assert_close(got, y, rtol=0, atol=1e-12)
    for a, b in zip(
        *(torch.autograd.grad(out, [x, *block.parameters()], dy) for out in (got, y)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_nothing_of_the_mlp_width_is_kept_for_the_gradients():
    block, x = AttentionBlock(8, 4, (2, 3), "window"), torch.randn(1, 4, 6, 8)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        block(x)
    assert x.numel() <= max(kept) < block.mlp[0](x).numel()


def test_block_starts_near_the_identity():
    x = torch.randn(1, 4, 6, 8)
    for kind in ("window", "grid"):
        change = (AttentionBlock(8, 4, (2, 3), kind)(x) - x).abs().max()
        assert 0 < change < 1e-3

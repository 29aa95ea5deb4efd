import pytest
import torch
import torch.nn.functional as F

from ssmbook.detector.neck import PAFPN, ConvBlock, CSPBlock, upsample


def randomise(module):
    """Statistics and scales as after training, so that BatchNorm is not the identity."""
    torch.manual_seed(0)
    for m in module.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.5, 1.5)
            torch.nn.init.normal_(m.bias)
            torch.nn.init.normal_(m.running_mean)
            torch.nn.init.uniform_(m.running_var, 0.5, 1.5)
    return module.double().eval()


def conv(block, x):
    """The equation: SiLU of BatchNorm (eps 1e-5) of the convolution, "same" padding."""
    weight, norm = block.conv.weight, block.norm
    y = F.conv2d(x, weight, stride=block.conv.stride, padding=weight.shape[-1] // 2)
    y = (y - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
    y = y * norm.weight[:, None, None] + norm.bias[:, None, None]
    return y * y.sigmoid()


def csp(block, x):
    deep = conv(block.deep, x)
    for narrow, wide in block.bottlenecks:
        deep = conv(wide, conv(narrow, deep))
    return conv(block.join, torch.cat([deep, conv(block.shallow, x)], 1))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_conv_block_equals_its_equation(kernel, stride):
    block = randomise(ConvBlock(3, 4, kernel, stride))
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), conv(block, x), rtol=0, atol=1e-12)
    assert block(x).shape == (2, 4, 6 // stride, 8 // stride)


def test_batch_norm_moves_by_a_tenth():
    block = ConvBlock(2, 3, 1)
    x = torch.randn(4, 2, 5, 5)
    y = block.conv(x)
    block.train()(x)
    torch.testing.assert_close(block.norm.running_mean, 0.1 * y.mean((0, 2, 3)))
    torch.testing.assert_close(block.norm.running_var, 0.9 + 0.1 * y.var((0, 2, 3)))


@pytest.mark.parametrize(("depth", "bottlenecks"), [(0.33, 1), (0.67, 2), (1.0, 3)])
def test_depth_counts_the_bottlenecks(depth, bottlenecks):
    neck = PAFPN((4, 8, 16), depth)
    blocks = [m for m in neck.modules() if isinstance(m, CSPBlock)]
    assert [len(block.bottlenecks) for block in blocks] == [bottlenecks] * 4


def test_upsampling_repeats_every_pixel():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(upsample(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("depth", [0.33, 0.67])
def test_pyramid_equals_its_equations(depth):
    neck = randomise(PAFPN((4, 8, 16), depth))
    x2, x3, x4 = (torch.randn(2, 4 << i, 8 >> i, 12 >> i, dtype=torch.float64) for i in range(3))
    f0 = conv(neck.reduce4, x4)
    p1 = csp(neck.down3, torch.cat([upsample(f0), x3], 1))
    f1 = conv(neck.reduce3, p1)
    o2 = csp(neck.down2, torch.cat([upsample(f1), x2], 1))
    o3 = csp(neck.up3, torch.cat([conv(neck.stride2, o2), f1], 1))
    o4 = csp(neck.up4, torch.cat([conv(neck.stride3, o3), f0], 1))
    for got, expected, x in zip(neck(x2, x3, x4), (o2, o3, o4), (x2, x3, x4), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
        assert got.shape == x.shape

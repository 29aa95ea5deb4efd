"""The neck: a path aggregation feature pyramid over stages 2, 3 and 4, built of cross-stage partial blocks.

Source: YOLOX (arXiv 2107.08430), whose PAFPN RVT and S5-ViT take over.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """Convolution without bias, "same" padding; BatchNorm (eps 1e-5, momentum 0.1); SiLU."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, (kernel - 1) // 2, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.activation = nn.SiLU()


class CSPBlock(nn.Module):
    """Two 1 × 1 convolutions to half the width, one followed by n bottlenecks; joined, and 1 × 1 again."""

    def __init__(self, in_channels: int, channels: int, bottlenecks: int) -> None:
        super().__init__()
        half = channels // 2
        self.deep = ConvBlock(in_channels, half, 1)
        self.shallow = ConvBlock(in_channels, half, 1)
        self.join = ConvBlock(2 * half, channels, 1)
        self.bottlenecks = nn.Sequential(
            *(nn.Sequential(ConvBlock(half, half, 1), ConvBlock(half, half, 3)) for _ in range(bottlenecks))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([self.bottlenecks(self.deep(x)), self.shallow(x)], 1))


def upsample(x: Tensor) -> Tensor:
    """Twice the size, every pixel repeated."""
    if torch.compiler.is_compiling():  # ONNX has no nearest-exact
        M, C, h, w = x.shape
        return x[:, :, :, None, :, None].expand(M, C, h, 2, w, 2).reshape(M, C, 2 * h, 2 * w)
    return F.interpolate(x, scale_factor=2.0, mode="nearest-exact")


class PAFPN(nn.Module):
    """Top down, then bottom up; the output widths are the input widths.

    Args:
        widths: (c₂, c₃, c₄), of the feature maps at strides 8, 16, 32.
        depth: each CSP block has round(3 · depth) bottlenecks.
    """

    def __init__(self, widths: tuple[int, int, int], depth: float) -> None:
        super().__init__()
        c2, c3, c4 = widths
        n = round(3 * depth)
        self.reduce4 = ConvBlock(c4, c3, 1)
        self.down3 = CSPBlock(2 * c3, c3, n)
        self.reduce3 = ConvBlock(c3, c2, 1)
        self.down2 = CSPBlock(2 * c2, c2, n)
        self.stride2 = ConvBlock(c2, c2, 3, stride=2)
        self.up3 = CSPBlock(2 * c2, c3, n)
        self.stride3 = ConvBlock(c3, c3, 3, stride=2)
        self.up4 = CSPBlock(2 * c3, c4, n)

    def forward(self, x2: Tensor, x3: Tensor, x4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps [M, C, h, w] of strides 8, 16, 32 → maps of the same shapes."""
        f4 = self.reduce4(x4)
        p3 = self.down3(torch.cat([upsample(f4), x3], 1))
        f3 = self.reduce3(p3)
        y2 = self.down2(torch.cat([upsample(f3), x2], 1))
        y3 = self.up3(torch.cat([self.stride2(y2), f3], 1))
        y4 = self.up4(torch.cat([self.stride3(y3), f4], 1))
        return y2, y3, y4

import torch

from ssmbook.ssm import S5, diagonal_scan
from ssmbook.ssm.plain import s5, scan

N, L, H, P = 3, 9, 4, 6


def complex_parts(layer):
    Lambda, B, C = (torch.view_as_complex(x) for x in (layer.Lambda, layer.B, layer.C))
    return Lambda, B, C, layer.D, layer.log_step


def test_scan_is_the_fast_one():
    torch.manual_seed(0)
    bu, x0 = torch.randn(N, L, P, dtype=torch.complex128), torch.randn(N, P, dtype=torch.complex128)
    for a in (torch.randn(P, dtype=torch.complex128), torch.randn(N, L, P, dtype=torch.complex128) / 2):
        for start in (None, x0):
            torch.testing.assert_close(
                diagonal_scan(a, bu, start), scan(a, bu, start), rtol=1e-11, atol=1e-11
            )


def test_s5_is_the_layer():
    torch.manual_seed(0)
    layer = S5(H, P).double()
    with torch.no_grad():
        layer.C.mul_(30)
    u, x0 = torch.randn(N, L, H, dtype=torch.float64), torch.randn(N, P, dtype=torch.complex128)
    for scale in (0.5, torch.rand(N, L, dtype=torch.float64) + 0.1):
        for ours, plain in zip(layer(u, x0, scale), s5(u, *complex_parts(layer), x0, scale), strict=True):
            torch.testing.assert_close(ours, plain, rtol=0, atol=1e-11)

"""The frequency response equals the spectrum of an impulse's response, run through the layer."""

import math

import pytest
import torch

from ssmbook.errors import InputError
from ssmbook.ssm import S5, frequency_response

LENGTH = 4096


def fast_layer(**options):
    """A layer whose response has died out well before LENGTH, with random B, C and steps."""
    torch.manual_seed(3)
    layer = S5(3, 8, **options).double()
    with torch.no_grad():
        layer.log_step.uniform_(math.log(0.03), math.log(0.9))
        layer.C.normal_()
    return layer


@pytest.mark.parametrize("step_scale", [1.0, 0.6])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"discretization": "zoh"},
        {"conj_sym": True},
        {"bandlimit": 0.4},
        {"bandlimit": 0.4, "bandlimit_mode": "once", "conj_sym": True, "blocks": 2},
    ],
)
def test_equals_the_spectrum_of_the_impulse_response(options, step_scale):
    layer = fast_layer(**options)
    impulses = torch.zeros(3, LENGTH, 3, dtype=torch.float64)  # one input feature each
    impulses[torch.arange(3), 0, torch.arange(3)] = 1
    with torch.no_grad():
        kernel = layer(impulses, step_scale=step_scale)[0] - layer.D * impulses  # [input, L, output]
        spectrum = torch.fft.rfft(kernel, dim=1).permute(1, 2, 0)  # [L/2 + 1, output, input]
        omega = torch.linspace(0, math.pi, LENGTH // 2 + 1, dtype=torch.float64)
        G = frequency_response(layer, omega, step_scale)
    assert spectrum.abs().max() > 0.1
    torch.testing.assert_close(G, spectrum, rtol=0, atol=1e-9)


def test_a_sine_comes_out_scaled_and_shifted():
    layer, omega = fast_layer(), torch.tensor(0.7, dtype=torch.float64)
    wave = torch.polar(torch.ones(LENGTH, dtype=torch.float64), omega * torch.arange(LENGTH))
    u = torch.zeros(1, LENGTH, 3, dtype=torch.float64)
    u[0, :, 1] = wave.real
    with torch.no_grad():
        last = (layer(u)[0] - layer.D * u)[0, -1]
        expected = (frequency_response(layer, omega)[:, 1] * wave[-1]).real
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-9)


def test_negative_frequencies_are_conjugate_and_gradients_flow():
    layer, omega = fast_layer(), torch.tensor([0.1, 2.0])
    torch.testing.assert_close(frequency_response(layer, -omega), frequency_response(layer, omega).conj())
    frequency_response(layer, omega).abs().square().sum().backward()
    assert all(layer.get_parameter(name).grad.abs().sum() > 0 for name in ("Lambda", "B", "C", "log_step"))


def test_what_has_no_response():
    omega = torch.tensor([0.5])
    with pytest.raises(InputError, match="causal"):
        frequency_response(S5(3, 4, bidirectional=True), omega)
    with pytest.raises(InputError, match="step_scale must be above 0"):
        frequency_response(S5(3, 4), omega, 0.0)
    with pytest.raises(InputError, match="within ±π"):
        frequency_response(S5(3, 4), torch.tensor([3.5]))
    with pytest.raises(InputError, match="within ±π"):
        frequency_response(S5(3, 4), torch.tensor([float("nan")]))

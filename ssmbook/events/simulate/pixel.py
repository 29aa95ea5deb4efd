"""The model of an event camera's pixels and of its readout: parameters, and those of cameras and simulators by name.

    ON at t_k if L(t_k) = L_ref + θ_on, OFF if L(t_k) = L_ref − θ_off; then L_ref ← L(t_k).

Source: Lichtsteiner et al., "A 128 × 128 120 dB 15 µs latency asynchronous temporal contrast vision sensor",
IEEE JSSC 2008, for the principle. The other effects are those of three simulators, each off unless it is asked for:

- ESIM (Rebecq et al., CoRL 2018): log intensity is linear between samples, thresholds differ from event to event;
- v2e (Hu et al., CVPR workshops 2021): thresholds and noise rates differ from pixel to pixel, a low-pass whose
  cutoff grows with intensity, leak events, shot noise that falls with intensity, a refractory time;
- IEBCS (Joubert et al., Frontiers in Neuroscience 2021): latency and its jitter, ON and OFF noise of different
  rates, an arbiter through which all events must go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ssmbook.errors import InputError

DARK = (
    20 / 255
)  # of white: what the cutoff frequency is proportional to besides intensity (v2e: 20 of 255 grey levels)
SHOT_AT_WHITE = 0.25  # shot noise of a white pixel relative to a black one (v2e)


@dataclass(frozen=True)
class PixelModel:
    """The sensor's pixels and its readout.

    Args:
        threshold: mean of θ_on in log intensity, and of θ_off unless that is given.
        spread: standard deviation of θ between pixels, relative to it; no θ is below 20 % of the mean.
        refractory_us: a crossing within this time after a pixel's last event moves its reference and emits nothing.
        noise_hz: events per second and pixel without a cause.
        hot_share, hot_hz: share of hot pixels, and their rate of causeless events.
        threshold_off: mean of θ_off; None: as ``threshold``.
        threshold_noise: standard deviation of θ from event to event, relative to it.
        cutoff_hz: of a first-order low-pass of log intensity, for a pixel that sees white. At intensity I it is
            cutoff_hz · (I / I_white + d) / (1 + d) with d = 20 / 255. 0: no low-pass.
        white: log intensity of white.
        leak_hz: ON events per second in still light, because the reference falls at leak_hz · θ_on.
        shot_hz: causeless events per second in the dark, half of them ON; they fall linearly with intensity to a
            quarter at white.
        rate_spread: standard deviation between pixels of log10 of the leak and shot noise rates.
        noise_on: share of ON among the events of ``noise_hz`` and ``hot_hz``.
        latency_us, jitter_us: mean and standard deviation of an event's delay; no delay is below 0.
        readout_hz: events per second that the arbiter reads out, one after another. A pixel that waits for its
            turn emits nothing else. 0: all at once.
    """

    threshold: float = 0.25
    spread: float = 0.05
    refractory_us: int = 500
    noise_hz: float = 0.3
    hot_share: float = 2e-4
    hot_hz: float = 100.0
    threshold_off: float | None = None
    threshold_noise: float = 0.0
    cutoff_hz: float = 0.0
    white: float = 1.0
    leak_hz: float = 0.0
    shot_hz: float = 0.0
    rate_spread: float = 0.0
    noise_on: float = 0.5
    latency_us: float = 0.0
    jitter_us: float = 0.0
    readout_hz: float = 0.0

    def __post_init__(self) -> None:
        for name in ("threshold", "threshold_off"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"pixel: {name} is {value}; it must be above 0")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"pixel: {name} is {getattr(self, name)}; it must be at least 0")
        for name in ("hot_share", "noise_on"):
            if getattr(self, name) > 1:
                raise InputError(f"pixel: {name} is {getattr(self, name)}; it must lie in 0..1")
        if not math.isfinite(self.white):
            raise InputError(f"pixel: white is {self.white}; it must be a finite log intensity")

    @property
    def thresholds(self) -> tuple[float, float]:
        """Means of θ_off and θ_on."""
        return self.threshold if self.threshold_off is None else self.threshold_off, self.threshold


_NOT_NEGATIVE = (
    *(
        "spread",
        "refractory_us",
        "noise_hz",
        "hot_share",
        "hot_hz",
        "threshold_noise",
        "cutoff_hz",
        "leak_hz",
    ),
    *("shot_hz", "rate_spread", "noise_on", "latency_us", "jitter_us", "readout_hz"),
)

_V2E = PixelModel(
    threshold=0.2,
    spread=0.15,
    cutoff_hz=300.0,
    leak_hz=0.01,
    shot_hz=0.001,
    rate_spread=0.1,
    refractory_us=500,
    noise_hz=0.0,
    hot_share=0.0,
)

#: Pixels by name, for the command line:
#:
#: - ``book``: those of the book's sets;
#: - ``v2e``: its defaults, θ = 0.2 ± 0.03, 300 Hz, leak 0.01 Hz, shot noise 0.001 Hz, refractory time 0.5 ms;
#: - ``esim``: the defaults of its program, θ = 1 ± 0.021 from event to event, refractory time 0.1 ms;
#: - ``iebcs``: those of its example for videos, θ = 0.3 ± 0.01, a time constant of 300 µs, latency 100 ± 10 µs,
#:   refractory time 0.1 ms, with its default noise, 0.1 Hz ON and 0.01 Hz OFF;
#: - ``davis346-bright``, ``davis346-dim``: v2e's pixel with the noise that was measured on a DAVIS346 in bright and
#:   in dim light, a leak of about 0.2 Hz and shot noise of about 10 Hz a pixel (Guo and Delbruck, "Low cost and
#:   latency event camera background activity denoising", IEEE TPAMI 2023), the cutoff in dim light lower, and the
#:   maximum of 12 million events per second that its maker states.
PIXELS = {
    "book": PixelModel(),
    "v2e": _V2E,
    "esim": PixelModel(
        threshold=1.0, spread=0.0, threshold_noise=0.021, refractory_us=100, noise_hz=0.0, hot_share=0.0
    ),
    "iebcs": PixelModel(
        threshold=0.3,
        spread=0.0,
        threshold_noise=0.01 / 0.3,
        cutoff_hz=1 / (2 * math.pi * 300e-6),
        noise_hz=0.11,
        noise_on=0.1 / 0.11,
        hot_share=0.0,
        latency_us=100.0,
        jitter_us=10.0,
        refractory_us=100,
    ),
    "davis346-bright": replace(_V2E, leak_hz=0.2, shot_hz=0.0, readout_hz=12e6),
    "davis346-dim": replace(_V2E, cutoff_hz=30.0, leak_hz=0.2, shot_hz=10.0, readout_hz=12e6),
}

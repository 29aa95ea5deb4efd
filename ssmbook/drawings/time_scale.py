"""Figures of the chapter on time scale, rates and aliasing."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssmbook import plots
from ssmbook.events import open_events
from ssmbook.ssm import S5, discretize, frequency_response
from ssmbook.ssm.s5 import Discretization, passes_band

MODES = ("held", "true", "sliding", "traces")
BASE_MS, BASE_HZ = 50.0, 20.0
Curve = tuple[torch.Tensor, torch.Tensor]


def mode_timeline(ratio: int = 4, length_ms: float = 150.0, event_ms: float = 62.0) -> Figure:
    """Windows and steps of training and of the four modes, and one event that some of them count."""
    short = BASE_MS / ratio
    rows: dict[str, tuple[float, float]] = {
        "training": (BASE_MS, BASE_MS),
        "held": (short, BASE_MS),
        "true": (short, short),
        "sliding": (BASE_MS, short),
        "traces": (0.0, short),
    }
    fig, axes = plt.subplots(len(rows), 1, figsize=(plots.WIDTH_IN, 3.9), sharex=True)
    for ax, (name, (window, stride)) in zip(axes, rows.items(), strict=True):
        colour = plots.MODE_COLOURS.get(name, plots.BLACK)
        ends = np.arange(stride if name != "held" else BASE_MS, length_ms + 1e-9, stride)
        if window:
            counted = _draw_windows(ax, ends, window, event_ms, colour)
            words = f"in {counted} frame{'s' if counted != 1 else ''}"
        else:
            t = np.linspace(event_ms, length_ms, 200)
            ax.plot(t, np.exp(-(t - event_ms) / 20), color=colour)
            ax.plot(
                ends,
                np.where(ends >= event_ms, np.exp(-np.maximum(ends - event_ms, 0) / 20), 0),
                "o",
                ms=3,
                color=colour,
            )
            words = "fades by itself"
        ax.axvline(event_ms, color="black", lw=0.9, ls="--")
        ax.set(yticks=[], ylim=(-0.25, 1.1), xlim=(0, length_ms + 18))
        ax.set_ylabel(name, rotation=0, ha="right", va="center")
        ax.text(length_ms + 17, 0.5, words, ha="right", va="center", fontsize=7)
        ax.spines["left"].set_visible(False)
    axes[-1].set_xlabel("time (ms); dashed: one event")
    return fig


def _draw_windows(ax: Axes, ends: np.ndarray, window: float, event_ms: float, colour: str) -> int:
    """Bars of windows in as many rows as overlap; how many hold the event."""
    layers = max(1, round(window / max(float(np.diff(ends).min()), 1e-9))) if len(ends) > 1 else 1
    height = 0.95 / layers
    counted = 0
    for i, end in enumerate(ends):
        holds = end - window <= event_ms < end
        counted += holds
        bar = [(max(0.0, end - window), end - max(0.0, end - window))]
        ax.broken_barh(bar, (i % layers * height, 0.8 * height), color=colour, alpha=0.85 if holds else 0.3)
    ax.plot(ends, np.full(len(ends), -0.13), "o", ms=3, color=colour)
    return counted


def setting_plane(predicted: pd.DataFrame) -> Figure:
    """ρ and a of each mode, following (filled) and not (open). Columns: two levels, the scale and ρ, a, area."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 3.4))
    line = np.array([1e-3, 1e4])
    for area in (1.0, float(predicted.xs("area", axis=1, level=1).to_numpy().min())):
        ax.loglog(line, area * line, color="lightgrey", lw=1, zorder=0)
        ax.text(2.2, 2.2 * area * 1.25, f"area {area:g}", fontsize=7, color=plots.GREY, rotation=25)
    offsets = {"held": (6, 6), "true": (6, -12), "sliding": (6, 6), "traces": (6, -12)}
    for scale in dict.fromkeys(predicted.columns.get_level_values(0)):
        follows = "1/k" in scale
        for mode, row in predicted[scale].iterrows():
            name = str(mode)
            size = 9 if name == "traces" else 6
            face = plots.MODE_COLOURS[name] if follows else "white"
            ax.plot(
                row["ρ"],
                row["a"],
                "s" if name == "traces" else "o",
                ms=size,
                color=plots.MODE_COLOURS[name],
                mfc=face,
                zorder=2 if size == 9 else 3,
            )
            ax.annotate(
                name,
                (row["ρ"], row["a"]),
                xytext=offsets[name],
                textcoords="offset points",
                fontsize=8,
                color=plots.MODE_COLOURS[name],
            )
    ax.axvline(1, color="black", lw=0.6, ls=":")
    ax.axhline(1, color="black", lw=0.6, ls=":")
    ax.set(xlabel="speed of the layer's clock, ρ", ylabel="height of the answer to an event, a")
    ax.set(xlim=(0.05, 30), ylim=(5e-3, 30))
    return fig


def window_fill(workspace: Any, windows_ms: tuple[float, ...]) -> pd.DataFrame:
    """Events of a window, share of pixels with any, and the mean count there; medians over one recording.

    Args:
        workspace: whose raw set's first training recording is read.
        windows_ms: lengths of the windows.
    """
    path = min((workspace.raw() / "train").glob("*_td*"))
    height, width = workspace.sensor.height, workspace.sensor.width
    with open_events(path) as recording:
        events = recording.read(recording.start_us, recording.end_us + 1)
    rows = []
    for window_ms in windows_ms:
        edges = np.arange(events.t[0], events.t[-1], 1000 * window_ms)
        cuts = np.searchsorted(events.t, edges)
        counts, filled = [], []
        for a, b in pairwise(cuts.tolist()):
            pixel = events.y[a:b].astype(np.int64) * width + events.x[a:b]
            counts.append(b - a)
            filled.append(len(np.unique(pixel)) / (height * width))
        events_median, share = float(np.median(counts)), float(np.median(filled))
        rows.append(
            (f"{window_ms:g} ms", events_median, share, events_median / max(share * height * width, 1))
        )
    names = ["window", "events", "share of pixels with an event", "events a pixel there"]
    return pd.DataFrame(rows, columns=names).set_index("window")


def end_to_end_panels(gain: Callable[[str, float], Curve], k: float) -> Figure:
    """Gain from events to output for each mode, following and not; ``gain(mode, step_scale)`` gives a curve."""
    fig, axes = plt.subplots(1, len(MODES), figsize=(plots.WIDTH_IN, 2.7), sharey=True)
    for ax, mode in zip(axes, MODES, strict=True):
        ax.loglog(*gain("trained", 1.0), color="lightgrey", lw=4)
        ax.loglog(*gain(mode, 1 / k), color=plots.MODE_COLOURS[mode], lw=1)
        ax.loglog(*gain(mode, 1.0), "--", color=plots.MODE_COLOURS[mode], lw=1)
        ax.set(title=mode, xlabel="frequency (Hz)", xlim=(0.03, 30), ylim=(2e-4, 4))
    axes[0].set_ylabel("gain, events → output")
    return fig


def aliasing(seen_hz: Callable[[Any, float, str], torch.Tensor], rate_hz: float) -> Figure:
    """A mode of 13 Hz at 20 Hz, and the frequency at which a mode is seen, at two rates with two rules."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH_IN, 2.8))
    t = torch.linspace(0, 0.5, 1000)
    decay, samples = torch.exp(-3 * t), torch.arange(11) / 20
    left.plot(t, decay * torch.cos(2 * math.pi * 13 * t), color=plots.GREY, lw=0.8, label="13 Hz")
    left.plot(t, decay * torch.cos(2 * math.pi * 7 * t), "--", color=plots.BLUE, lw=0.8, label="7 Hz")
    dots = torch.exp(-3 * samples) * torch.cos(2 * math.pi * 13 * samples)
    left.plot(samples, dots, "o", color=plots.BLUE, ms=4, label="samples at 20 Hz")
    left.set(xlabel="time (s)", ylabel="a mode", ylim=(-1.1, 1.7))
    hz = torch.linspace(0.01, 40, 500)
    for rate, colour in ((BASE_HZ, plots.BLUE), (rate_hz, plots.ORANGE)):
        for method, look in (("zoh", "-"), ("bilinear", "--")):
            right.plot(hz, seen_hz(hz, rate, method), look, color=colour, label=f"{method}, {rate:g} Hz")
    right.set(xlabel="frequency of the mode (Hz)", ylabel="frequency seen (Hz)", ylim=(0, 55))
    for ax in (left, right):
        ax.legend(frameon=False, fontsize=7)
    return fig


def masks(
    build: Callable[[float | None, str], S5], gain: Callable[[S5, float, float], Curve], rate_hz: float
) -> Figure:
    """How many modes pass the held and the one-off mask at α = 0.5, and the responses at two rates."""
    free, held, once = build(None, "held"), build(0.5, "held"), build(0.5, "once")
    Lambda, steps = free.eigenvalues().detach(), free.log_step.detach().exp()
    fig, axes = plt.subplots(1, 3, figsize=(plots.WIDTH_IN, 2.9))
    scales = torch.logspace(-2, 1, 200)
    kept = [int(passes_band(Lambda, scale * steps, 0.5).sum()) for scale in scales]
    at_start = int(passes_band(Lambda, steps, 0.5).sum())
    axes[0].axhline(len(Lambda), color=plots.GREY, label="no mask")
    axes[0].semilogx(scales, kept, color=plots.BLUE, label="held")
    axes[0].axhline(at_start, color=plots.ORANGE, ls="--", label="once, untrained")
    axes[0].set(xlabel="step_scale", ylabel="modes that reach the output", ylim=(0, len(Lambda) + 3))
    axes[0].legend(frameon=False, fontsize=7, loc="lower left")
    for ax, (rate, scale) in zip(axes[1:], ((BASE_HZ, 1.0), (rate_hz, BASE_HZ / rate_hz)), strict=True):
        for layer, colour, look in (
            (free, plots.GREY, "-"),
            (held, plots.BLUE, "-"),
            (once, plots.ORANGE, "--"),
        ):
            ax.loglog(*gain(layer, rate, scale), look, color=colour, lw=1)
        ax.axvline(rate / 4, color="black", ls=":", lw=0.8)
        ax.set(xlabel="frequency (Hz)", title=f"{rate:g} Hz, step_scale {scale:g}")
        ax.set(xlim=(0.1, rate_hz / 2), ylim=(2e-4, 0.4))
    axes[1].set_ylabel("$\\|G\\|_F$")
    return fig


def h2_curves(build: Callable[[float | None], S5]) -> Figure:
    """H2 norm above a frequency without a mask and with three."""
    fig, ax = plt.subplots(figsize=(plots.WIDTH_IN, 2.8))
    omegas = torch.logspace(-2, 1.5, 120)
    colours = {None: plots.GREY, 1.0: plots.GREEN, 0.5: plots.BLUE, 0.25: plots.RED}
    for alpha, colour in colours.items():
        layer = build(alpha)
        norms = [layer.h2_norm(float(omega)).item() for omega in omegas]
        ax.loglog(omegas, norms, color=colour, label="no mask" if alpha is None else f"α = {alpha:g}")
        if alpha is not None:
            ax.plot(math.pi * alpha, layer.h2_norm(math.pi * alpha).item(), "o", color=colour)
    ax.set(xlabel=r"$ω_{\mathrm{min}}$ (radians per step)", ylabel=r"H2 norm above $ω_{\mathrm{min}}$")
    ax.legend(frameon=False)
    return fig


def kernel_and_response(rate_hz: float, step_scale: float, alpha: float) -> Figure:
    """Kernel over time and gain over frequency of one small layer at a rate, under a scale and a held mask."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH_IN, 2.7))
    for rate, scale, limit, colour in (
        (BASE_HZ, 1.0, None, "lightgrey"),
        (rate_hz, step_scale, alpha, plots.BLUE),
    ):
        torch.manual_seed(1)
        layer = S5(width=1, state_width=16, bandlimit=limit).double()
        steps = round(2 * rate)
        impulse = torch.zeros(1, steps, 1, dtype=torch.float64)
        impulse[0, 0] = 1
        with torch.no_grad():
            y = (layer(impulse, step_scale=scale)[0] - layer.D * impulse)[0, :, 0]
            f = torch.logspace(-1, math.log10(rate / 2), 400, dtype=torch.float64)
            G = frequency_response(layer, 2 * math.pi * f / rate, scale).abs().flatten()
        width = 4 if colour == "lightgrey" else 1.2
        left.plot(
            torch.arange(steps) / rate, y * rate / BASE_HZ, color=colour, lw=width, label=f"{rate:.3g} Hz"
        )
        right.loglog(f, G, color=colour, lw=width)
    left.set(
        xlabel="time (s)", ylabel="kernel per 50 ms", title=f"step_scale {step_scale:.3g}, α {alpha:.3g}"
    )
    right.set(xlabel="frequency (Hz)", ylabel="gain |G|")
    left.legend(frameon=False)
    return fig


def step_decay(lengths_s: np.ndarray, decay: float = -0.5, step: float = 0.1) -> dict[str, np.ndarray]:
    """|Λ̄| after one step of each length, by rule; a window of training is 50 ms long."""
    scale = torch.as_tensor(lengths_s / (BASE_MS / 1000))[:, None]
    pole = torch.tensor([decay + 0j], dtype=torch.complex128)
    rules: tuple[Discretization, ...] = ("zoh", "bilinear")
    return {rule: discretize(pole, step * scale, rule)[0].abs()[:, 0].numpy() for rule in rules}

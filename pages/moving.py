"""Makes the data of the figures that move, and the still pictures that stand in for them: python pages/moving.py

One simulated drive, and one S5 layer as it starts; the page recomputes everything else in JavaScript.
"""

import base64
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from ssmbook import plots
from ssmbook.events import Events
from ssmbook.events.simulate import DEMO_SCENE, SimulatedSequence
from ssmbook.ssm import S5, frequency_response

OUT = Path(__file__).parent / "moving"
START_US, DURATION_US = 600_000, 800_000
BASE_HZ = 20  # the rate of training
RATES = (20, 200)


def drive() -> Events:
    """Events of a stretch of a simulated drive, times from 0."""
    sequence = SimulatedSequence(DEMO_SCENE, seed=3)
    events = Events.concatenate(list(sequence.events()))
    keep = slice(*np.searchsorted(events.t, [START_US, START_US + DURATION_US]))
    return Events(events.t[keep] - START_US, events.x[keep], events.y[keep], events.p[keep])


def layer() -> S5:
    """An S5 layer of one feature and 16 modes, as it starts."""
    torch.manual_seed(1)
    return S5(width=1, state_width=16).double()


def packed(array: np.ndarray, dtype: str) -> str:
    """Numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode()


def complex_list(values: torch.Tensor) -> list[list[float]]:
    """Complex numbers as pairs, for JSON."""
    return [[round(z.real, 9), round(z.imag, 9)] for z in values.flatten().tolist()]


def write_data(events: Events, model: S5) -> None:
    """``window.MOVING``: what the page computes with."""
    with torch.no_grad():
        values = {
            "Lambda": complex_list(model.eigenvalues()),
            "B": complex_list(torch.view_as_complex(model.B)),
            "C": complex_list(torch.view_as_complex(model.C)),
            "step": model.log_step.exp().tolist(),
        }
    recording = {"width": DEMO_SCENE.width, "height": DEMO_SCENE.height, "duration_us": DURATION_US}
    recording |= {"t": packed(events.t, "<u4"), "x": packed(events.x, "u1"), "y": packed(events.y, "u1")}
    recording |= {"p": packed(events.p, "u1")}
    data = {"recording": recording, "layer": values, "base_hz": BASE_HZ}
    (OUT / "data.js").write_text(f"window.MOVING = {json.dumps(data, separators=(',', ':'))};\n")


def draw_window(events: Events) -> None:
    """The same moment, seen through three windows."""
    end = 400_000
    fig, axes = plt.subplots(1, 3, figsize=(plots.WIDTH_IN, 2.1))
    for ax, ms in zip(axes, (50, 25, 5), strict=True):
        part = slice(*np.searchsorted(events.t, [end - 1000 * ms, end]))
        image = np.full((DEMO_SCENE.height, DEMO_SCENE.width, 3), 1.0)
        for polarity, colour in ((0, plots.BLUE), (1, plots.RED)):
            at = events.p[part] == polarity
            image[events.y[part][at], events.x[part][at]] = plt.matplotlib.colors.to_rgb(colour)
        ax.imshow(image, interpolation="nearest")
        ax.set(xticks=[], yticks=[], title=f"{ms} ms: {part.stop - part.start} events")
    fig.savefig(OUT / "window.png", dpi=160)


def draw_response(model: S5) -> None:
    """Kernel and frequency response at the rate of training and at ten times it, step_scale following."""
    fig, (left, right) = plt.subplots(1, 2)
    with torch.no_grad():
        for hz, colour in zip(RATES, (plots.GREY, plots.BLUE), strict=True):
            impulse = torch.zeros(1, 3 * hz, 1, dtype=torch.float64)
            impulse[0, 0] = 1
            y = model(impulse, step_scale=BASE_HZ / hz)[0] - model.D * impulse
            left.plot(torch.arange(3 * hz) / hz, y[0, :, 0] * hz / BASE_HZ, color=colour, label=f"{hz} Hz")
            f = torch.logspace(-1, np.log10(hz / 2), 400, dtype=torch.float64)
            G = frequency_response(model, 2 * np.pi * f / hz, step_scale=BASE_HZ / hz)
            right.loglog(f, G.abs().flatten(), color=colour, label=f"{hz} Hz")
    left.set(xlabel="time (s)", ylabel="kernel per 50 ms")
    right.set(xlabel="frequency (Hz)", ylabel="gain |G|")
    left.legend(frameon=False)
    fig.savefig(OUT / "response.png", dpi=160)


if __name__ == "__main__":
    plots.style()
    OUT.mkdir(exist_ok=True)
    events, model = drive(), layer()
    write_data(events, model)
    draw_window(events)
    draw_response(model)

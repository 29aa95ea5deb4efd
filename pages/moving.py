"""Makes the data of the figures that move, and the still pictures that stand in for them: python pages/moving.py

Two simulated drives, in one of which the only object stops, and one S5 layer as it starts; the page recomputes
everything else in JavaScript.
"""

import base64
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from ssmbook import plots
from ssmbook.events import Events
from ssmbook.events.simulate import DEMO_SCENE, MEMORY_SET, SimulatedSequence
from ssmbook.ssm import S5, frequency_response

OUT = Path(__file__).parent / "moving"
START_US, DURATION_US = 600_000, 800_000
BASE_HZ = 20  # the rate of training
RATES = (20, 200)
BEFORE_US, AFTER_US, BOX_US = 900_000, 1_500_000, 50_000  # around the stop, and between its boxes
STOPPING_SEED = 9  # one car, which stops in the middle of the picture
TAU_S = 1.0  # time constant of the still picture


def drive() -> Events:
    """Events of a stretch of a simulated drive, times from 0."""
    sequence = SimulatedSequence(DEMO_SCENE, seed=3)
    events = Events.concatenate(list(sequence.events()))
    keep = slice(*np.searchsorted(events.t, [START_US, START_US + DURATION_US]))
    return Events(events.t[keep] - START_US, events.x[keep], events.y[keep], events.p[keep])


def stopping() -> tuple[Events, np.ndarray]:
    """Events around the longest stop of a drive, times from 0, and its box every 50 ms: [n, 4] as x, y, w, h."""
    sequence = SimulatedSequence(MEMORY_SET.scene, seed=STOPPING_SEED)
    times = np.arange(0, round(1e6 * MEMORY_SET.scene.duration_s), BOX_US)
    boxes = [sequence.street.boxes_at(int(t)) for t in times]
    corners = np.array([[b[name][0] if len(b) else np.nan for name in "xywh"] for b in boxes])
    rests = np.append(np.abs(np.diff(corners[:, 0])) < 1e-6, False)
    starts = [i for i in range(1, len(rests)) if rests[i] and not rests[i - 1]]
    longest = max(starts, key=lambda i: int(np.argmin(rests[i:])))
    begin, end = times[longest] - BEFORE_US, times[longest] + AFTER_US
    events = Events.concatenate(list(sequence.events()))
    keep = slice(*np.searchsorted(events.t, [begin, end]))
    own = Events(events.t[keep] - begin, events.x[keep], events.y[keep], events.p[keep])
    return own, corners[(times >= begin) & (times <= end)]


def states(events: Events, hz: float, step_scale: float, tau_s: float, until_us: int) -> np.ndarray:
    """One mode at every pixel, [H, W], after all steps up to a time; it is given sliding windows of 50 ms."""
    kept = np.exp(-step_scale * 0.05 / tau_s)
    x = np.zeros((MEMORY_SET.scene.height, MEMORY_SET.scene.width))
    for step in range(1, int(until_us * hz / 1e6 + 1e-9) + 1):
        end = 1e6 * step / hz
        part = slice(*np.searchsorted(events.t, [end - 50_000, end]))
        frame = np.zeros_like(x)
        np.add.at(frame, (events.y[part], events.x[part]), 1)
        x = kept * x + (1 - kept) * frame
    return x


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


def recording_of(events: Events, duration_us: int) -> dict:
    """Events for the page."""
    recording = {"width": DEMO_SCENE.width, "height": DEMO_SCENE.height, "duration_us": duration_us}
    recording |= {"t": packed(events.t, "<u4"), "x": packed(events.x, "u1"), "y": packed(events.y, "u1")}
    return recording | {"p": packed(events.p, "u1")}


def write_data(events: Events, model: S5, stop: tuple[Events, np.ndarray]) -> None:
    """``window.MOVING``: what the page computes with."""
    with torch.no_grad():
        values = {
            "Lambda": complex_list(model.eigenvalues()),
            "B": complex_list(torch.view_as_complex(model.B)),
            "C": complex_list(torch.view_as_complex(model.C)),
            "step": model.log_step.exp().tolist(),
        }
    still, boxes = stop
    data = {
        "recording": recording_of(events, DURATION_US),
        "layer": values,
        "base_hz": BASE_HZ,
        "stop": recording_of(still, BEFORE_US + AFTER_US)
        | {"at_ms": BEFORE_US / 1000, "box_ms": BOX_US / 1000, "boxes": np.round(boxes, 1).tolist()},
    }
    (OUT / "data.js").write_text(f"window.MOVING = {json.dumps(data, separators=(',', ':'))};\n")


def draw_window(events: Events) -> None:
    """The same moment, seen through three windows."""
    end = 400_000
    fig, axes = plt.subplots(1, 3, figsize=(plots.WIDTH_IN, 2.1))
    for ax, ms in zip(axes, (50, 25, 5), strict=True):
        part = slice(*np.searchsorted(events.t, [end - 1000 * ms, end]))
        on, off = (np.zeros((DEMO_SCENE.height, DEMO_SCENE.width)) for _ in range(2))
        for polarity, counts in ((1, on), (0, off)):
            at = events.p[part] == polarity
            np.add.at(counts, (events.y[part][at], events.x[part][at]), 1)
        ax.imshow(plots.polarity_image(on, off), interpolation="nearest")
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


def draw_stop(events: Events, boxes: np.ndarray) -> None:
    """The state of one mode a second after the stop: at 20 Hz, and at 200 Hz following and not."""
    until = BEFORE_US + 1_000_000
    fig, axes = plt.subplots(1, 3, figsize=(plots.WIDTH_IN, 2.1))
    shown = (20, 1.0, "20 Hz"), (200, 0.1, "200 Hz, following"), (200, 1.0, "200 Hz, not following")
    most = np.quantile(states(events, 20, 1.0, TAU_S, BEFORE_US), 0.995)  # a few pixels are hot
    for ax, (hz, scale, title) in zip(axes, shown, strict=True):
        ax.imshow(states(events, hz, scale, TAU_S, until), cmap="Greys", vmin=0, vmax=most)
        x, y, w, h = boxes[until // BOX_US]
        ax.add_patch(plt.Rectangle((x, y), w, h, fill=False, ec=plots.ORANGE, ls="--", lw=1.4))
        ax.set(xticks=[], yticks=[], title=title)
    fig.savefig(OUT / "stop.png", dpi=160)


if __name__ == "__main__":
    plots.style()
    OUT.mkdir(exist_ok=True)
    events, model, stop = drive(), layer(), stopping()
    write_data(events, model, stop)
    draw_window(events)
    draw_response(model)
    draw_stop(*stop)

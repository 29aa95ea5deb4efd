"""One picture for each validation: detections over events, the parts of the loss, learning rate and speed."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ssmbook import plots
from ssmbook.dataset import Batch, Sensor
from ssmbook.events import Representation
from ssmbook.training.run_folder import read_metrics

SHOWN = 4  # frames
MIN_SCORE = 0.3  # of a detection that is drawn


class Panels:
    """Keeps the first labelled frames of a validation that hold a box, one of each batch, and draws them."""

    def __init__(self, sensor: Sensor, represent: Representation) -> None:
        self.sensor, self.represent = sensor, represent
        self.frames: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # events, truth, detections

    def push(self, batch: Batch, detections: list[np.ndarray]) -> None:
        """Take the last labelled frame of a batch and its detections."""
        if len(self.frames) < SHOWN and len(batch.frames):
            step, slot = batch.frames[-1].tolist()
            self.frames.append((batch.x[step, slot].cpu().numpy(), batch.labels[-1], detections[-1]))

    def write(self, path: Path, run: Path) -> Path:
        """Draw the frames over the metrics that the run has logged so far."""
        with plt.rc_context():
            plots.style()
            plt.rcParams["figure.constrained_layout.use"] = False  # finding places takes longer than drawing
            fig = Figure(figsize=(plots.WIDTH_IN, 4.4))  # of no backend, which a notebook has yet to choose
            self._draw_frames(fig)
            _draw_metrics(fig, run)
            plots.save(fig, path)
        return path

    def _draw_frames(self, fig: Figure) -> None:
        places = {"left": 0.01, "right": 0.99, "bottom": 0.5, "top": 0.95, "wspace": 0.04}
        axes = fig.subplots(1, SHOWN, squeeze=False, gridspec_kw=places)[0]
        for ax in axes[len(self.frames) :]:
            ax.set_axis_off()
        for ax, (events, truth, detected) in zip(axes, self.frames, strict=False):
            plots.show_frame(ax, events, f"{truth['t'][0] / 1e6:.2f} s", self.represent)
            plots.show_boxes(ax, truth, self.sensor.classes)
            plots.show_boxes(ax, detected[detected["class_confidence"] > MIN_SCORE], scores=True, dashed=True)


def _draw_metrics(fig: Figure, run: Path) -> None:
    metrics = read_metrics(run)
    places = {"left": 0.07, "right": 0.92, "bottom": 0.11, "top": 0.44, "wspace": 0.4}
    loss, score, rate = fig.subplots(1, 3, gridspec_kw=places)
    for name in ("iou_loss", "conf_loss", "cls_loss"):
        loss.plot(metrics[f"train/{name}"].dropna(), label=name.removesuffix("_loss"))
    loss.set(xlabel="step", ylabel="loss")
    loss.legend(frameon=False, fontsize=7)
    score.plot(100 * metrics["val/AP"].dropna(), "o-", clip_on=False)
    score.set(xlabel="step", ylabel="validation AP × 100", ylim=(0, max(1.0, score.get_ylim()[1])))
    rate.plot(metrics["train/learning_rate"].dropna())
    rate.set(xlabel="step", ylabel="learning rate")
    rate.ticklabel_format(axis="y", scilimits=(0, 0))
    speed = rate.twinx()
    speed.spines["right"].set_visible(True)
    speed.plot(metrics["windows_per_s"].dropna(), color=plots.GREY, ls=":")
    speed.set(ylabel="windows per second", ylim=(0, None))

"""Random sequences and a detector in which everything matters: what evaluations are compared on."""

import numpy as np
import torch
from training_set import SIZE

from ssmbook.dataset.labels import LabelPlan
from ssmbook.dataset.layout import write_sequence
from ssmbook.detector import PRESETS, Detector
from ssmbook.events import BOX_DTYPE

DT50 = "stacked_histogram_dt=50_nbins=10"


def random_sequence(folder, name, ends_us, seed):
    """A sequence of frames as the network's tests take them, every third window labelled."""
    rng = np.random.default_rng(seed)
    labelled = np.arange(2, len(ends_us), 3)
    boxes = np.zeros(len(labelled), BOX_DTYPE)
    boxes["t"] = ends_us[labelled]
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 8, 6, 20, 16
    plan = LabelPlan(boxes, np.arange(len(labelled)), boxes["t"], ends_us, labelled)
    frames = rng.integers(0, 3, (len(ends_us), 20, SIZE, SIZE)).astype(np.uint8)
    write_sequence(folder / name, DT50, plan, frames)


def busy_detector(recurrence="s5"):
    """A detector whose recurrence and attention matter and whose scores count, in float64."""
    torch.manual_seed(0)
    model = Detector(**{**PRESETS["sim-smoke"], "recurrence": recurrence}).double().eval()
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    for layer in (*model.head.class_out, *model.head.objectness_out):
        torch.nn.init.zeros_(layer.bias)
    return model

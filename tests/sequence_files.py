"""Small sequences whose windows and boxes say where they come from."""

import numpy as np

from ssmbook.dataset import find_sequences
from ssmbook.dataset.labels import LabelPlan
from ssmbook.dataset.layout import write_sequence
from ssmbook.events import BOX_DTYPE

NAME = "stacked_histogram_dt=50_nbins=1"
C, H, W = 2, 6, 8


def write(folder, number, label_frames, windows):
    """A sequence whose window i is filled with i + 1 and has as many boxes as ``label_frames[i]`` says.

    Boxes carry the number of their sequence as track_id.
    """
    frames = sorted(label_frames)
    boxes = np.zeros(sum(label_frames.values()), BOX_DTYPE)
    counts = [label_frames[i] for i in frames]
    boxes["t"] = np.repeat([1000 * (i + 1) for i in frames], counts)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = 1, 2, 3, 2
    boxes["class_id"] = np.arange(len(boxes)) % 2
    boxes["track_id"] = number
    plan = LabelPlan(
        boxes=boxes,
        first_box=np.cumsum([0, *counts])[:-1],
        frame_times_us=np.array([1000 * (i + 1) for i in frames]),
        window_ends_us=1000 * np.arange(1, windows + 1),
        window_of_frame=np.array(frames),
    )
    write_sequence(
        folder / f"seq{number}", NAME, plan, (np.full((C, H, W), i + 1, np.uint8) for i in range(windows))
    )


def write_some(folder):
    """Seven sequences of 3 to 40 windows with label frames here and there, the last window always one."""
    rng = np.random.default_rng(0)
    for number, windows in enumerate([12, 40, 3, 25, 7, 18, 33]):
        labelled = {int(i) for i in rng.choice(windows, size=max(1, windows // 4), replace=False)}
        write(folder, number, {i: int(rng.integers(1, 4)) for i in labelled | {windows - 1}}, windows)
    return find_sequences(folder)

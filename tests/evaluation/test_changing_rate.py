"""A rate that changes within a sequence: the time scale follows it window by window."""

import numpy as np
import pytest
import torch
from busy import busy_detector, random_sequence
from training_set import SENSOR

from ssmbook.dataset import EvaluationStreams, Sensor, find_sequences
from ssmbook.dataset.labels import plan_labels
from ssmbook.detector import nms
from ssmbook.evaluation import evaluate, to_boxes
from ssmbook.events import BOX_DTYPE

#: 20 Hz, 200 Hz, and 20 Hz again; neither change is at the border of a chunk of 4.
STEPS_US = np.array([50_000] * 6 + [5_000] * 11 + [50_000] * 2)
ENDS_US = 200_000 + np.cumsum(STEPS_US)


@torch.no_grad()
def one_by_one(model, sequence, scales):
    states, found = None, []
    for k, scale in enumerate(scales):
        frame = torch.from_numpy(sequence.frames(k, k + 1))[:, None]
        features, states = model.features(frame, states, float(scale))
        found += to_boxes(nms(model.predict(features), 0.001), [int(ENDS_US[k])])
    return found


@pytest.mark.parametrize("recurrence", ["s5", "s5-selective"])
def test_each_step_is_as_long_as_the_time_since_the_window_before(tmp_path, recurrence):
    (tmp_path / "test").mkdir()
    random_sequence(tmp_path / "test", "changing", ENDS_US, 0)
    (sequence,) = find_sequences(tmp_path / "test")
    model = busy_detector(recurrence)
    streams = EvaluationStreams([sequence], 4, 1)
    result = evaluate(model, streams, SENSOR, trained_us=50_000, every_step=True)
    scales = np.append(sequence.stride_us, STEPS_US[1:]) / 50_000  # the first window has the median stride
    wanted = one_by_one(model, sequence, scales)
    still = one_by_one(model, sequence, np.ones(len(scales)))
    found = result.steps["changing"].boxes
    assert result.steps["changing"].times_us.tolist() == ENDS_US.tolist()
    for own, boxes in zip(found, wanted, strict=True):
        assert len(own) == len(boxes)
        np.testing.assert_allclose(own["x"], boxes["x"], rtol=1e-5, atol=1e-4)
    assert any(
        len(a) != len(b) or not np.allclose(a["x"], b["x"], atol=1e-2)
        for a, b in zip(found, still, strict=True)
    )


def test_windows_come_as_often_as_labels_at_their_own_times():
    """A set with such windows is made from labels at 20 Hz, then 200 Hz."""
    boxes = np.zeros(len(ENDS_US), BOX_DTYPE)
    boxes["t"], boxes["w"], boxes["h"] = ENDS_US, 20, 20
    plan, _ = plan_labels(boxes, Sensor("test", 200, 150, ("a",), label_times="own"), 50_000)
    assert plan.window_ends_us[-len(ENDS_US) :].tolist() == ENDS_US.tolist()

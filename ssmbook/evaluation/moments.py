"""Streaming AP: at any moment, what is known by then is scored against what is there then.

Source: Li, Wang and Ramanan, Towards Streaming Perception (ECCV 2020, arXiv 2005.10420): the detections that
are scored at time t are the newest whose computation has ended by t. A detector that runs more often knows newer ones,
and pays for a latency in the same coin. Detections are not moved to the moment at which they are scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from ssmbook.dataset import Sensor, get_sensor
from ssmbook.dataset.jobs import find_jobs
from ssmbook.dataset.labels import crop_boxes, filter_boxes, read_labels
from ssmbook.errors import InputError
from ssmbook.evaluation.protocol import score_boxes
from ssmbook.evaluation.streaming import Evaluation, Steps
from ssmbook.events import BOX_DTYPE

GAP_US = (
    60_000  # labels of one object that lie further apart are not joined: it was out of sight between them
)
Latency = float | Mapping[str, np.ndarray]


def read_truth(raw_dir: str | Path, sensor: str | Sensor, split: str = "test") -> dict[str, np.ndarray]:
    """All boxes of a raw split that a detector is to find, by sequence, not only those of label frames.

    Returns:
        Sequence → ``BOX_DTYPE`` [N] in order of time, in pixels of the frames (halved where the sensor's are).
    """
    sensor = get_sensor(sensor)
    truth = {}
    for job in find_jobs(Path(raw_dir), (split,))[0]:
        boxes = filter_boxes(read_labels(job.boxes, sensor), sensor)
        if sensor.downsample:
            for name in "xywh":
                boxes[name] /= 2
            boxes = crop_boxes(boxes, *sensor.frame_size)
        truth[job.name] = boxes[np.argsort(boxes["t"], kind="stable")]
    return truth


def boxes_at(boxes: np.ndarray, times_us: np.ndarray) -> list[np.ndarray]:
    """The boxes of one sequence at any times: between two labels of an object they are interpolated linearly.

    Args:
        boxes [N]: labels; an object is a ``track_id`` of a class.
        times_us [T]: any times.

    Returns:
        T arrays of ``BOX_DTYPE``, ``t`` being the time; an object is absent before its first label, after its last and
        between labels more than 60 ms apart.

    Raises:
        InputError: see ``check_tracks``.
    """
    check_tracks(boxes)
    times_us = np.asarray(times_us, np.int64)
    rows = [np.zeros(0, BOX_DTYPE)]
    places = [np.zeros(0, np.int64)]
    for track in np.unique(boxes[["class_id", "track_id"]]):
        own = labels_of(boxes, track)
        after = own["t"].searchsorted(times_us)  # the first label at t or later
        inside = after < len(own)
        before = np.maximum(after - 1, 0)
        after = np.minimum(after, len(own) - 1)
        exact = inside & (own["t"][after] == times_us)
        gap = own["t"][after] - own["t"][before]
        there = np.flatnonzero(exact | (inside & (gap > 0) & (gap <= GAP_US)))
        a, b = own[before[there]], own[after[there]]
        share = np.where(exact[there], 1.0, (times_us[there] - a["t"]) / np.maximum(gap[there], 1))
        row = b.copy()
        row["t"] = times_us[there]
        for name in "xywh":
            row[name] = a[name] + share * (b[name].astype(np.float64) - a[name])
            row[name][exact[there]] = b[name][exact[there]]
        rows.append(row)
        places.append(there)
    place = np.concatenate(places)
    order = np.argsort(place, kind="stable")
    joined = np.concatenate(rows).astype(BOX_DTYPE)[order]  # concatenating drops the padding between fields
    starts = place[order].searchsorted(np.arange(len(times_us) + 1))
    return [joined[i:j] for i, j in pairwise(starts)]


def labels_of(boxes: np.ndarray, track: np.void) -> np.ndarray:
    """The labels of one object, which is a ``track_id`` of a class, in order of time."""
    own = boxes[(boxes["class_id"] == track["class_id"]) & (boxes["track_id"] == track["track_id"])]
    return own[np.argsort(own["t"], kind="stable")]


def check_tracks(boxes: np.ndarray, sequence: str = "") -> None:
    """Refuse labels of one sequence that do not tell their objects apart, as those of files without ``track_id``.

    Raises:
        InputError: several boxes of a class have the same ``track_id`` at the same time.
    """
    if len(boxes) < 2:
        return
    names = ["t", "class_id", "track_id"]
    rows = boxes[np.lexsort([boxes[name] for name in names])][names]
    again = np.flatnonzero(rows[1:] == rows[:-1])
    if len(again):
        t, class_id, track_id = rows[again[0]].tolist()
        raise InputError(
            f"{sequence or 'a sequence'}: several boxes of class id {class_id} have track_id {track_id} at {t} µs, so "
            "the labels have no track ids that tell objects apart; give them, or use what needs none: streaming_ap "
            "without every_ms, or ap_by_size"
        )


def known_us(
    ends_us: np.ndarray, latency_ms: float | np.ndarray = 0.0, compute_ms: float | np.ndarray = 0.0
) -> np.ndarray:
    """When the detections of each step are known: float64 [K] in µs.

        ready_k = max(end_k, ready_{k−1}) + compute_k,   known_k = ready_k + latency_k

    Args:
        ends_us [K]: where the steps' windows end.
        latency_ms: what passes without keeping anyone busy (a pipeline, a wire); a number, or [K] as it was measured.
        compute_ms: how long the machine is busy with a step; the next one waits for it, so one that cannot keep up
            falls back further and further.
    """
    ends = np.asarray(ends_us, np.float64)
    compute, latency = (np.broadcast_to(1000.0 * np.asarray(v), ends.shape) for v in (compute_ms, latency_ms))
    if (compute < 0).any() or (latency < 0).any():
        raise InputError("latency_ms and compute_ms must be at least 0")
    done = np.cumsum(compute)  # ready_k = done_k + max over j ≤ k of (end_j − done_{j−1})
    return done + np.maximum.accumulate(ends - (done - compute)) + latency


def streaming_evaluation(
    truth: Mapping[str, np.ndarray],
    steps: Mapping[str, Steps],
    sensor: str | Sensor,
    *,
    latency_ms: Latency = 0.0,
    compute_ms: Latency = 0.0,
    every_ms: float | None = None,
) -> Evaluation:
    """What is known at each moment as an ``Evaluation`` whose frames are the moments.

    So all that breaks an evaluation down (``ap_by_rest``, ``ap_by_speed``, ``ap_by_size``) breaks this one down. Before
    the first detections are known there are none. As in the protocol, moments without a box to find do not count.

    Args:
        truth: by sequence, ``BOX_DTYPE`` [N] of all times, see ``read_truth``.
        steps: by sequence, of ``evaluate(…, every_step=True).steps``. A sequence that is not there was not detected
            in: nothing is known.
        sensor: whose protocol; moments of the first ``eval_skip_us`` do not count.
        latency_ms, compute_ms: see ``known_us``; arrays by sequence where they were measured step by step.
        every_ms: score at this interval in ms from a sequence's first label to its last, boxes interpolated between
            labels, see ``boxes_at``; None: at each label time, with the boxes that are labelled then. Moments that
            coincide with all steps of a fast detector flatter it by half a step: choose one that divides no stride,
            e.g. 7.

    Raises:
        InputError: steps of a sequence that has no truth, or without a time of their own; a time below 0; with
            every_ms, labels without tracks, see ``check_tracks``.
    """
    sensor = get_sensor(sensor)
    if unknown := sorted(steps.keys() - truth.keys()):
        raise InputError(
            f"there are detections of {unknown[0]}, but no boxes to find; give those of the same split"
        )
    if every_ms is not None and not every_ms > 0:
        raise InputError(f"every_ms is {every_ms}; it must be above 0")
    nothing = Steps(np.zeros(0, np.int64), [])
    all_truth, all_detected, names = [], [], []
    for name in sorted(truth):
        boxes, own = truth[name], steps.get(name, nothing)
        boxes = boxes[np.argsort(boxes["t"], kind="stable")]
        times, starts = np.unique(boxes["t"], return_index=True)
        if every_ms is None:
            all_truth += np.split(boxes, starts)[1:]
        elif len(times):
            check_tracks(boxes, name)
            times = np.arange(times[0], times[-1] + 1, 1000 * every_ms).astype(np.int64)
            all_truth += boxes_at(boxes, times)
        known = known_us(own.times_us, *(of_sequence(v, name, own) for v in (latency_ms, compute_ms)))
        all_detected += newest(own, known, times)
        names += [name] * len(times)
    scores = score_boxes(all_truth, all_detected, sensor, sensor.downsample)
    height, width = sensor.frame_size
    return Evaluation(scores, all_truth, all_detected, names, height, width, sensor)


def streaming_ap(
    truth: Mapping[str, np.ndarray],
    steps: Mapping[str, Steps],
    sensor: str | Sensor,
    *,
    latency_ms: Latency = 0.0,
    compute_ms: Latency = 0.0,
    every_ms: float | None = None,
) -> dict[str, float]:
    """``AP`` and its kin of ``streaming_evaluation``."""
    options = {"latency_ms": latency_ms, "compute_ms": compute_ms, "every_ms": every_ms}
    return streaming_evaluation(truth, steps, sensor, **options).metrics  # type: ignore[arg-type]


def newest(steps: Steps, known: np.ndarray, times_us: np.ndarray) -> list[np.ndarray]:
    """The detections of the latest step that is known at each time [T], ``t`` being that time; none before the first.

    Args:
        known [K]: when each step's detections are known, not necessarily in order.
    """
    order = np.argsort(known, kind="stable")
    latest = np.maximum.accumulate(order)  # a step that is known after a later one is never the newest
    at = known[order].searchsorted(times_us, side="right") - 1
    detected = []
    for t, i in zip(times_us.tolist(), at.tolist(), strict=True):
        boxes = steps.boxes[latest[i]].copy() if i >= 0 else np.zeros(0, BOX_DTYPE)
        boxes["t"] = t
        detected.append(boxes)
    return detected


def of_sequence(value: Latency, name: str, steps: Steps) -> float | np.ndarray:
    """A time for all sequences, or that of the K steps of one of them [K]; 0 if it has none.

    Raises:
        InputError: there are steps, but no times of theirs.
    """
    if not isinstance(value, Mapping):
        return value
    if len(steps.times_us) == 0:
        return 0.0
    if name not in value:
        raise InputError(
            f"latency_ms or compute_ms has no times of {name}, which has {len(steps.times_us)} steps; give one for each"
        )
    return value[name]

"""Which boxes count, at which times they make label frames, and where the windows end.

All functions are pure. Boxes are structured arrays of ``BOX_DTYPE`` (t in µs; x, y, w, h in pixels), times
are int64 µs. The rules are those of the published preprocessing of Gen1 and 1 Mpx; the exact grid is ours.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ssmbook.dataset.sensor import Sensor
from ssmbook.errors import InputError, one_line, shown
from ssmbook.events.box_folders import is_voc, voc_boxes, yolo_boxes
from ssmbook.events.box_formats import coco_boxes
from ssmbook.events.boxes import read_boxes

FIRST_LABEL_US = 100_000  # label frames start here, so that there is something to see
JITTER_US = 2_000  # how far a label frame may lie from its grid, and a box from its label frame
AFTER_END_US = 100_000  # label frames later than this after the last event show nothing
LATE_START_US = 1_000_000  # a recording that starts before this counts from 0, as in the published sets
GRIDS = ("exact", "published", "mixed")
# Steps of the mixed grid in strides, with how often each is drawn: of 50 ms, 5 to 200 Hz.
MIXED_STEPS = {4.0: 0.05, 2.0: 0.1, 1.0: 0.4, 0.5: 0.15, 0.2: 0.15, 0.1: 0.15}
MIXED_LONGEST = 8  # strides for which a drawn step is kept at most
BOX_FILES = (
    "_bbox.npy",
    "_bbox.json",
    "_bbox",
)  # Prophesee's, COCO's, a folder of YOLO's or VOC's; the first one counts
MOST_WINDOWS = 20_000_000  # of one sequence: 11 days at 50 ms
NO_CLASS = 2**32 - 1  # of boxes that the sensor's class_map or drop_other_classes drops

# Why boxes are dropped, in the order in which it is asked.
OTHER_CLASS, OUTSIDE, SMALL, WIDE, EARLY, NO_EVENTS, SKIPPED, OFF_GRID = (
    "of another class",
    "outside the frame or empty",
    "too small",
    "too wide",
    "too early",
    "without events",
    "inside a long step",
    "off the grid",
)


@dataclass
class LabelCounts:
    """How many boxes were read and kept, and how many were dropped for which reason."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    #: Median time between box times, of each recording that has boxes off the grid.
    intervals_us: list[int] = field(default_factory=list)

    def add(self, other: LabelCounts) -> None:
        """Count the boxes of another recording too."""
        self.read += other.read
        self.kept += other.kept
        self.dropped.update(other.dropped)
        self.intervals_us += other.intervals_us

    def __str__(self) -> str:
        """For example ``36 boxes read, 30 kept; dropped: 4 too small, 2 off the grid``."""
        rows = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items() if count)
        return f"{self.read:,} boxes read, {self.kept:,} kept" + (f"; dropped: {rows}" if rows else "")

    def warning(self, sensor: Sensor) -> str:
        """What to do where more than a few boxes are off the grid that the sensor states; empty where few are."""
        off = self.dropped[OFF_GRID]
        if sensor.label_interval_ms is None or off <= MOST_OFF_GRID * (off + self.kept):
            return ""
        usual = (
            f" (theirs are about {np.median(self.intervals_us) / 1000:g} ms apart)"
            if self.intervals_us
            else ""
        )
        return (
            f"{off:,} of {off + self.kept:,} boxes are off the grid of {sensor.label_interval_ms:g} ms and were "
            f"dropped; set label_interval_ms to the time between label frames{usual}, or label_times: own in the "
            "sensor's YAML (--label-times own) to use all at their own times"
        )


MOST_OFF_GRID = 0.03  # share of boxes off the grid that no one need look at


@dataclass(frozen=True)
class LabelPlan:
    """The labels of one sequence, and the windows that lead to them.

    F label frames, T windows, N boxes:
        boxes [N]: the boxes at label frames, ordered by time, which is the label frame's.
        first_box [F]: index of each label frame's first box.
        frame_times_us [F]: times of the label frames.
        window_ends_us [T]: last instant of each window, increasing.
        window_of_frame [F]: the window that ends at each label frame.
    """

    boxes: np.ndarray
    first_box: np.ndarray
    frame_times_us: np.ndarray
    window_ends_us: np.ndarray
    window_of_frame: np.ndarray

    def steps_us(self, stride_us: int) -> np.ndarray:
        """[T]: from the end of the window before to that of each; of the first, the stride."""
        return np.diff(self.window_ends_us, prepend=self.window_ends_us[0] - stride_us)


def read_labels(path: Path, sensor: Sensor) -> np.ndarray:
    """The boxes of a recording as BOX_DTYPE [N], from a file whose name ends as one of ``BOX_FILES``.

    Classes are the sensor's, by its ``class_map`` or else by name, or by id where the file has no names.

    Raises:
        InputError: as ``read_boxes``, ``read_coco``, ``read_yolo`` and ``read_voc`` do; or a box is of a class that
            is not the sensor's, and the sensor drops no others.
    """
    interval = None if sensor.label_interval_ms is None else round(1000 * sensor.label_interval_ms)
    boxes: np.ndarray
    names: list[str] | None = None
    if path.suffix == ".json":
        boxes, names = coco_boxes(path)
    elif not path.is_dir():
        boxes = read_boxes(path)
    elif is_voc(path):
        boxes, names = voc_boxes(path, sensor.width, sensor.height, interval)
    else:
        boxes, names = yolo_boxes(path, sensor.width, sensor.height, interval)
    ids = boxes["class_id"].copy()
    for label in np.unique(boxes["class_id"]).tolist():
        named = names is not None and label < len(names)
        mapped = _class_of(names[label] if named and names is not None else label, sensor)
        if mapped == len(sensor.classes) and not sensor.drop_other_classes:
            what = (
                f"category {shown(names[label], 40)}" if named and names is not None else f"class id {label}"
            )
            raise InputError(
                f"{path}: {what} is not one of {one_line(', '.join(sensor.classes), 60)}; map it in the sensor's "
                "class_map, or set drop_other_classes"
            )
        ids[boxes["class_id"] == label] = NO_CLASS if mapped in (None, len(sensor.classes)) else mapped
    boxes["class_id"] = ids
    return boxes


def _class_of(label: str | int, sensor: Sensor) -> int | None:
    """The sensor's class of a file's name or id; None: dropped; the number of classes: none of them."""
    if isinstance(label, str) or any(key == str(label) for key, _ in sensor.class_map):
        return sensor.class_of(str(label))
    return min(label, len(sensor.classes))


def plan_labels(
    boxes: np.ndarray,
    sensor: Sensor,
    stride_us: int,
    grid: str = "exact",
    training: bool = False,
    start_us: int = 0,
    end_us: int | None = None,
    seed: int = 0,
) -> tuple[LabelPlan | None, LabelCounts]:
    """Filter the boxes of one recording and place its label frames and windows.

    Args:
        boxes: as read from the label file.
        stride_us: time between the ends of successive windows.
        grid: ``"exact"`` or ``"published"``, see ``window_ends``, or ``"mixed"``, see ``mixed_ends``.
        training: drop very wide boxes too, as the published training split does.
        start_us, end_us: stamps of the first and the last event; None: not known. From a second on, windows start
            where the events do; a recording that starts earlier counts from 0.
        seed: of the mixed grid's steps.

    Returns:
        The plan, None if no usable box is left (the sequence counts as without labels): none from 100 ms on, or, with
        own label times or a late start, after the recording's start; and what became of the boxes.
    """
    counts = LabelCounts(read=len(boxes))
    between = np.diff(np.unique(boxes["t"]))
    boxes = filter_boxes(boxes, sensor, training, counts.dropped)
    boxes = boxes[np.argsort(boxes["t"], kind="stable")]
    origin = start_us if start_us >= LATE_START_US else 0
    own = sensor.label_times == "own"
    first = max(origin + 1, 0 if own else FIRST_LABEL_US)
    last = np.iinfo(np.int64).max if end_us is None or grid == "published" else end_us + AFTER_END_US
    times = np.unique(boxes["t"])
    usable = times[times <= last]
    plan, skipped = None, 0
    if len(usable) and usable[-1] >= first:
        if own:
            frame_times, intervals = own_label_frames(usable[usable >= first])
        else:
            frame_times, intervals = find_label_frames(usable, label_interval_us(times, sensor), first)
        ends, window_of_frame = window_ends(frame_times, intervals, stride_us, grid, origin)
        if grid == "mixed":
            every = frame_times
            ends, window_of_frame = mixed_ends(ends, window_of_frame, seed)
            frame_times = ends[window_of_frame]
            if len(inside := np.setdiff1d(every, frame_times)):
                _, at = _at_frames(boxes["t"], inside, JITTER_US)
                skipped, boxes = int(at.sum()), boxes[~at]
        of_frame, at = _at_frames(boxes["t"], frame_times, 0 if grid == "published" else JITTER_US)
        kept = boxes[at]
        kept["t"] = frame_times[of_frame[at]]
        first_box = np.searchsorted(kept["t"], frame_times, side="left").astype(np.int64)
        plan = LabelPlan(kept, first_box, frame_times, ends, window_of_frame)
        boxes, counts.kept = boxes[~at], len(kept)
    counts.dropped[EARLY] += int((boxes["t"] < first).sum())
    counts.dropped[NO_EVENTS] += int((boxes["t"] > last).sum())
    counts.dropped[SKIPPED] += skipped
    counts.dropped[OFF_GRID] += int(((boxes["t"] >= first) & (boxes["t"] <= last)).sum())
    if counts.dropped[OFF_GRID] and len(between):
        counts.intervals_us.append(int(np.median(between)))
    return plan, counts


def _at_frames(times: np.ndarray, frame_times: np.ndarray, within_us: int) -> tuple[np.ndarray, np.ndarray]:
    """For times [N]: the nearest label frame, and whether it is so near."""
    after = np.searchsorted(frame_times, times).clip(0, len(frame_times) - 1)
    before = (after - 1).clip(0)
    nearer = np.abs(times - frame_times[before]) <= np.abs(times - frame_times[after])
    of_frame = np.where(nearer, before, after)
    return of_frame, np.abs(times - frame_times[of_frame]) <= within_us


def filter_boxes(
    boxes: np.ndarray, sensor: Sensor, training: bool = False, dropped: Counter[str] | None = None
) -> np.ndarray:
    """The boxes that count, cropped to the sensor, in the order that they came in.

    1. Class: one of the sensor's. 2. Crop: x, y, x + w, y + h each clipped to [0, size − 1]; empty boxes
    are dropped. 3. Size: w² + h² ≥ diagonal², w ≥ side and h ≥ side. 4. In training: w ≤ ⌊9 · width / 10⌋.
    ``dropped`` counts what is dropped by reason.
    """
    dropped = Counter() if dropped is None else dropped
    known = boxes["class_id"] < len(sensor.classes)
    other = boxes["class_id"][~known & (boxes["class_id"] != NO_CLASS)]
    if len(other) and not sensor.drop_other_classes:
        raise InputError(
            f"class id {other[0]} is not one of {', '.join(sensor.classes)}; set drop_other_classes"
        )
    of_class = boxes[known]
    cropped = crop_boxes(of_class, sensor.height, sensor.width)
    w, h = cropped["w"], cropped["h"]
    large = (w**2 + h**2 >= sensor.min_diagonal**2) & (w >= sensor.min_side) & (h >= sensor.min_side)
    kept = cropped[large]
    narrow = kept["w"] <= 9 * sensor.width // 10 if training else np.ones(len(kept), bool)
    counts = [len(boxes), len(of_class), len(cropped), len(kept), int(narrow.sum())]
    for reason, before, after in zip((OTHER_CLASS, OUTSIDE, SMALL, WIDE), counts, counts[1:], strict=False):
        dropped[reason] += before - after
    return kept[narrow]


def crop_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes with x, y, x + w, y + h each clipped to [0, size − 1]; those left empty are dropped."""
    x0, x1 = np.clip(boxes["x"], 0, width - 1), np.clip(boxes["x"] + boxes["w"], 0, width - 1)
    y0, y1 = np.clip(boxes["y"], 0, height - 1), np.clip(boxes["y"] + boxes["h"], 0, height - 1)
    cropped = boxes.copy()
    cropped["x"], cropped["y"], cropped["w"], cropped["h"] = x0, y0, x1 - x0, y1 - y0
    return cropped[(cropped["w"] > 0) & (cropped["h"] > 0)]


def label_interval_us(times: np.ndarray, sensor: Sensor) -> int:
    """The base interval between label frames.

    The sensor's, if it has one; else int(3m) or int(6m), where m is the median difference of the distinct
    box times [N] and must round to 30 or 60 Hz; 100 ms for a single time.
    """
    if sensor.label_interval_ms is not None:
        return round(1000 * sensor.label_interval_ms)
    if len(times) == 1:
        return 100_000
    median = float(np.median(np.diff(times)))
    every = {30: 3, 60: 6}.get(round(1e6 / median))
    if every is None:
        raise InputError(
            f"box times come at {1e6 / median:.1f} Hz, not 30 or 60; give the sensor's label interval "
            "(label_interval_ms), or label_times: own"
        )
    return int(every * median)


def find_label_frames(
    times: np.ndarray, interval_us: int, first_us: int = FIRST_LABEL_US
) -> tuple[np.ndarray, np.ndarray]:
    """Label frames among the distinct box times (increasing [N], the last at or after ``first_us``).

    The first is the first time ≥ ``first_us``. A later time is a label frame if its distance to the previous one
    is within 2,000 µs of n · interval, n = round(distance / interval) ≥ 1.

    Returns:
        The times of the label frames [F], and n between consecutive ones [F − 1].
    """
    candidates = times[times >= first_us].tolist()
    frames, intervals = [candidates[0]], []
    for t in candidates[1:]:
        distance = t - frames[-1]
        n = round(distance / interval_us)
        if n >= 1 and abs(distance - n * interval_us) <= JITTER_US:
            frames.append(t)
            intervals.append(n)
    return np.array(frames, dtype=np.int64), np.array(intervals, dtype=np.int64)


def own_label_frames(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label frames at all distinct box times (increasing [N]) that lie more than 2,000 µs after the one before.

    Returns:
        As ``find_label_frames``, with n = round(distance / 100 ms), at least 1.
    """
    frames = [int(times[0])]
    for t in times[1:].tolist():
        if t - frames[-1] > JITTER_US:
            frames.append(t)
    frame_times = np.array(frames, np.int64)
    return frame_times, np.maximum(np.rint(np.diff(frame_times) / 100_000), 1).astype(np.int64)


def window_ends(
    frame_times: np.ndarray, intervals: np.ndarray, stride_us: int, grid: str = "exact", origin_us: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Where windows end, so that one ends at each label frame.

    From the first label frame backwards in steps of the stride while > origin, the earliest of them dropped;
    then k equal steps between consecutive label frames. Exact grid: k = round(distance / stride), at least
    1. Published grid: k = n · ⌊100 ms / stride⌋; where a label interval is not 100 ms, as on Gen1, its
    windows are therefore not a stride apart.

    Args:
        frame_times [F], intervals [F − 1]: as ``find_label_frames`` gives them.
        origin_us: where the recording starts.

    Returns:
        window ends [T], and the index among them of each label frame [F]; both int64.
    """
    first, last = int(frame_times[0]), int(frame_times[-1])
    if last - origin_us > MOST_WINDOWS * stride_us:
        raise InputError(
            f"the last label is {(last - origin_us) / 3.6e9:.0f} hours after the recording's start at {origin_us} "
            "µs; count the times of events and boxes from the same moment"
        )
    if grid == "published":
        steps = intervals * (100_000 // stride_us)
    else:
        steps = np.array(
            [max(1, round(d / stride_us)) for d in np.diff(frame_times).tolist()], dtype=np.int64
        )
    before = list(range(first, origin_us, -stride_us))[1:-1][::-1]
    # Truncating linspace rather than exact division: the published grid is made so.
    between = [
        np.linspace(a, b, k + 1)[1:].astype(np.int64)
        for a, b, k in zip(frame_times[:-1], frame_times[1:], steps, strict=True)
    ]
    ends = np.concatenate([np.array([*before, first], dtype=np.int64), *between])
    return ends, len(before) + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)


def mixed_ends(ends: np.ndarray, window_of_frame: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact grid with steps of mixed lengths in place of equal ones, to train for all of their rates.

    A step of ``MIXED_STEPS`` is drawn by its probability and kept for 1 to ``MIXED_LONGEST`` strides, then the next: a
    stride is cut into equal steps, or several make one, inside which no window ends and no label counts.

    Args:
        ends [T], window_of_frame [F]: of the exact grid, see ``window_ends``.

    Returns:
        As ``window_ends``, of the label frames at which a window ends; the last window is always one.
    """
    rng = np.random.default_rng(seed)
    lengths, odds = list(MIXED_STEPS), list(MIXED_STEPS.values())
    mixed, at, i = [int(ends[0])], {0: 0}, 0  # at: exact window → its number now
    while i < len(ends) - 1:
        length, strides = float(rng.choice(lengths, p=odds)), int(rng.integers(1, MIXED_LONGEST + 1))
        together, parts = max(1, round(length)), max(1, round(1 / length))
        for _ in range(max(1, strides // together)):
            stop = min(i + together, len(ends) - 1)
            if stop > i:
                mixed += np.rint(np.linspace(ends[i], ends[stop], parts + 1)[1:]).astype(np.int64).tolist()
                i, at[stop] = stop, len(mixed) - 1
    kept = [at[window] for window in window_of_frame.tolist() if window in at]
    return np.array(mixed, np.int64), np.array(kept, np.int64)

"""One step at a time: events in, boxes out, in a memory that does not grow."""

from typing import TYPE_CHECKING

from ssmbook.lazy import lazily

if TYPE_CHECKING:
    from ssmbook.live.stream import Detections as Detections
    from ssmbook.live.stream import StreamingDetector as StreamingDetector
    from ssmbook.live.stream import detect_recording as detect_recording
    from ssmbook.live.timing import recorded_frames as recorded_frames
    from ssmbook.live.timing import synthetic_frames as synthetic_frames
    from ssmbook.live.timing import time_detector as time_detector
    from ssmbook.live.tracks import Tracker as Tracker
    from ssmbook.live.video import box_video as box_video

_HOMES = {
    "Detections": "stream",
    "StreamingDetector": "stream",
    "Tracker": "tracks",
    "box_video": "video",
    "detect_recording": "stream",
    "recorded_frames": "timing",
    "synthetic_frames": "timing",
    "time_detector": "timing",
}

__getattr__ = lazily(__name__, _HOMES)

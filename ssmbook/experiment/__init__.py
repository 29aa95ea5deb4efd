"""What a chapter or a GPU node runs: profiles, training, evaluation, rates, and their records."""

from ssmbook.experiment.evaluate import Evaluation, StreamingEvaluator, evaluate, evaluate_boxes, to_boxes
from ssmbook.experiment.presets import PROFILES, RATES_HZ, Arm, Profile, get_profile
from ssmbook.experiment.provenance import provenance, read_json, write_json
from ssmbook.experiment.rates import pivot, run_arms, step_scale, window_and_stride
from ssmbook.experiment.stream import Detections, StreamingDetector, detect_recording
from ssmbook.experiment.tables import PAPER_TABLE_1, write_table
from ssmbook.experiment.timing import recorded_frames, synthetic_frames, time_detector
from ssmbook.experiment.train import DetectionTraining, read_metrics, train
from ssmbook.experiment.workspace import Workspace

__all__ = [
    "PAPER_TABLE_1",
    "PROFILES",
    "RATES_HZ",
    "Arm",
    "DetectionTraining",
    "Detections",
    "Evaluation",
    "Profile",
    "StreamingDetector",
    "StreamingEvaluator",
    "Workspace",
    "detect_recording",
    "evaluate",
    "evaluate_boxes",
    "get_profile",
    "pivot",
    "provenance",
    "read_json",
    "read_metrics",
    "recorded_frames",
    "run_arms",
    "step_scale",
    "synthetic_frames",
    "time_detector",
    "to_boxes",
    "train",
    "window_and_stride",
    "write_json",
    "write_table",
]

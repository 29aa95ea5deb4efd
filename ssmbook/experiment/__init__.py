"""What a chapter or a GPU node runs: profiles, training, evaluation, rates, and their records."""

from ssmbook.experiment.box_files import save_boxes
from ssmbook.experiment.breakdown import ap_by_rest, ap_by_size, time_at_rest
from ssmbook.experiment.evaluate import Evaluation, StreamingEvaluator, evaluate, to_boxes
from ssmbook.experiment.evaluate_file import (
    checkpoint_sensor,
    evaluate_checkpoint,
    precision_table,
    score_table,
)
from ssmbook.experiment.module import DetectionTraining
from ssmbook.experiment.objective import learning_rate_for
from ssmbook.experiment.plan import plan
from ssmbook.experiment.presets import PROFILES, RATES_HZ, VARIANTS, Arm, Profile, Variant, get_profile
from ssmbook.experiment.protocol import Scores, evaluate_boxes, score_boxes
from ssmbook.experiment.provenance import provenance, read_json, write_json
from ssmbook.experiment.rates import pivot, run_arms, step_scale, window_and_stride
from ssmbook.experiment.run_folder import read_metrics
from ssmbook.experiment.sizes import sizes_table
from ssmbook.experiment.stream import Detections, StreamingDetector, detect_recording
from ssmbook.experiment.tables import PAPER_TABLE_1, write_table
from ssmbook.experiment.timing import recorded_frames, synthetic_frames, time_detector
from ssmbook.experiment.train import train
from ssmbook.experiment.video import box_video
from ssmbook.experiment.workspace import Workspace

__all__ = [
    "PAPER_TABLE_1",
    "PROFILES",
    "RATES_HZ",
    "VARIANTS",
    "Arm",
    "DetectionTraining",
    "Detections",
    "Evaluation",
    "Profile",
    "Scores",
    "StreamingDetector",
    "StreamingEvaluator",
    "Variant",
    "Workspace",
    "ap_by_rest",
    "ap_by_size",
    "box_video",
    "checkpoint_sensor",
    "detect_recording",
    "evaluate",
    "evaluate_boxes",
    "evaluate_checkpoint",
    "get_profile",
    "learning_rate_for",
    "pivot",
    "plan",
    "precision_table",
    "provenance",
    "read_json",
    "read_metrics",
    "recorded_frames",
    "run_arms",
    "save_boxes",
    "score_boxes",
    "score_table",
    "sizes_table",
    "step_scale",
    "synthetic_frames",
    "time_at_rest",
    "time_detector",
    "to_boxes",
    "train",
    "window_and_stride",
    "write_json",
    "write_table",
]

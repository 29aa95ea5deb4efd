"""Detections and boxes in, figures out: average precision, the protocol, streaming evaluation."""

from typing import TYPE_CHECKING

from ssmbook.lazy import lazily

if TYPE_CHECKING:
    from ssmbook.evaluation.box_files import save_boxes as save_boxes
    from ssmbook.evaluation.breakdown import ap_by_rest as ap_by_rest
    from ssmbook.evaluation.breakdown import ap_by_size as ap_by_size
    from ssmbook.evaluation.breakdown import time_at_rest as time_at_rest
    from ssmbook.evaluation.moments import read_truth as read_truth
    from ssmbook.evaluation.moments import streaming_ap as streaming_ap
    from ssmbook.evaluation.moments import streaming_evaluation as streaming_evaluation
    from ssmbook.evaluation.protocol import Scores as Scores
    from ssmbook.evaluation.protocol import evaluate_boxes as evaluate_boxes
    from ssmbook.evaluation.protocol import score_boxes as score_boxes
    from ssmbook.evaluation.streaming import Evaluation as Evaluation
    from ssmbook.evaluation.streaming import StreamingEvaluator as StreamingEvaluator
    from ssmbook.evaluation.streaming import evaluate as evaluate
    from ssmbook.evaluation.streaming import every_window as every_window
    from ssmbook.evaluation.streaming import to_boxes as to_boxes

_HOMES = {
    "Evaluation": "streaming",
    "Scores": "protocol",
    "StreamingEvaluator": "streaming",
    "ap_by_rest": "breakdown",
    "ap_by_size": "breakdown",
    "evaluate": "streaming",
    "every_window": "streaming",
    "evaluate_boxes": "protocol",
    "read_truth": "moments",
    "save_boxes": "box_files",
    "score_boxes": "protocol",
    "streaming_ap": "moments",
    "streaming_evaluation": "moments",
    "time_at_rest": "breakdown",
    "to_boxes": "streaming",
}

__getattr__ = lazily(__name__, _HOMES)

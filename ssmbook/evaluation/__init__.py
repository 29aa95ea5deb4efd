"""Detections and boxes in, figures out: average precision, the protocol, streaming evaluation."""

from typing import TYPE_CHECKING

from ssmbook.lazy import lazily

if TYPE_CHECKING:
    from ssmbook.evaluation.box_files import save_boxes as save_boxes
    from ssmbook.evaluation.breakdown import ap_by_rest as ap_by_rest
    from ssmbook.evaluation.breakdown import ap_by_size as ap_by_size
    from ssmbook.evaluation.breakdown import ap_by_speed as ap_by_speed
    from ssmbook.evaluation.breakdown import speeds as speeds
    from ssmbook.evaluation.breakdown import time_at_rest as time_at_rest
    from ssmbook.evaluation.delay import delay_table as delay_table
    from ssmbook.evaluation.delay import delays as delays
    from ssmbook.evaluation.delay import operating_point as operating_point
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
    "ap_by_speed": "breakdown",
    "delay_table": "delay",
    "delays": "delay",
    "evaluate": "streaming",
    "evaluate_boxes": "protocol",
    "every_window": "streaming",
    "operating_point": "delay",
    "read_truth": "moments",
    "save_boxes": "box_files",
    "score_boxes": "protocol",
    "speeds": "breakdown",
    "streaming_ap": "moments",
    "streaming_evaluation": "moments",
    "time_at_rest": "breakdown",
    "to_boxes": "streaming",
}

__getattr__ = lazily(__name__, _HOMES)

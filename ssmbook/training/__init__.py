"""How a detector learns: settings, objective, loop, and the folder of a run."""

from typing import TYPE_CHECKING

from ssmbook.lazy import lazily

if TYPE_CHECKING:
    from ssmbook.training.objective import TrainingStep as TrainingStep
    from ssmbook.training.objective import learning_rate_for as learning_rate_for
    from ssmbook.training.objective import optimizer_and_schedule as optimizer_and_schedule
    from ssmbook.training.provenance import provenance as provenance
    from ssmbook.training.run import train as train
    from ssmbook.training.run_folder import read_metrics as read_metrics
    from ssmbook.training.settings import Training as Training

_HOMES = {
    "Training": "settings",
    "TrainingStep": "objective",
    "learning_rate_for": "objective",
    "optimizer_and_schedule": "objective",
    "provenance": "provenance",
    "read_metrics": "run_folder",
    "train": "run",
}

__getattr__ = lazily(__name__, _HOMES)

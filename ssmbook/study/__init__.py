"""What the book compares: profiles, models, rates, and their tables."""

from typing import TYPE_CHECKING

from ssmbook.lazy import lazily

if TYPE_CHECKING:
    from ssmbook.study.arms import RATES_HZ as RATES_HZ
    from ssmbook.study.arms import VARIANTS as VARIANTS
    from ssmbook.study.arms import Arm as Arm
    from ssmbook.study.arms import Profile as Profile
    from ssmbook.study.arms import Variant as Variant
    from ssmbook.study.checkpoints import ap_by_precision as ap_by_precision
    from ssmbook.study.checkpoints import checkpoint_sensor as checkpoint_sensor
    from ssmbook.study.checkpoints import evaluate_checkpoint as evaluate_checkpoint
    from ssmbook.study.checkpoints import score_table as score_table
    from ssmbook.study.plan import plan_study as plan_study
    from ssmbook.study.profiles import PROFILES as PROFILES
    from ssmbook.study.profiles import get_profile as get_profile
    from ssmbook.study.rates import of_all_seeds as of_all_seeds
    from ssmbook.study.rates import pivot as pivot
    from ssmbook.study.rates import read_arms as read_arms
    from ssmbook.study.sizes import sizes_table as sizes_table
    from ssmbook.study.sweep import collect_arms as collect_arms
    from ssmbook.study.sweep import run_arms as run_arms
    from ssmbook.study.sweep import train_models as train_models
    from ssmbook.study.tables import PAPER_TABLE_1 as PAPER_TABLE_1
    from ssmbook.study.tables import QUOTED_RATES as QUOTED_RATES
    from ssmbook.study.tables import in_words as in_words
    from ssmbook.study.tables import write_table as write_table
    from ssmbook.study.workspace import Workspace as Workspace

_HOMES = {
    "Arm": "arms",
    "PAPER_TABLE_1": "tables",
    "PROFILES": "profiles",
    "Profile": "arms",
    "QUOTED_RATES": "tables",
    "RATES_HZ": "arms",
    "VARIANTS": "arms",
    "Variant": "arms",
    "Workspace": "workspace",
    "ap_by_precision": "checkpoints",
    "checkpoint_sensor": "checkpoints",
    "collect_arms": "sweep",
    "evaluate_checkpoint": "checkpoints",
    "get_profile": "profiles",
    "in_words": "tables",
    "of_all_seeds": "rates",
    "pivot": "rates",
    "plan_study": "plan",
    "read_arms": "rates",
    "run_arms": "sweep",
    "score_table": "checkpoints",
    "sizes_table": "sizes",
    "train_models": "sweep",
    "write_table": "tables",
}

__getattr__ = lazily(__name__, _HOMES)

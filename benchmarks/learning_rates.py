"""Whether a recurrence is behind for its learning rate: what each reaches by it, on the validation split.

    python benchmarks/learning_rates.py                  # one training for each: a quarter of an hour of a core each
    python benchmarks/learning_rates.py --variants convlstm --rates 7e-3 1.4e-2 --profile smoke --out results/rates.json

All have the study's set, steps and first seed. The profile's own rate is the run that the study has; what was trained
before is not trained again. The test split is not looked at.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import circumstances, write_results

from ssmbook.study import Workspace, get_profile
from ssmbook.training.run_folder import read_metrics


def measure(profile: str, variant: str, rate: float, data_dir: str = "") -> dict[str, Any]:
    """AP, AP_50 and AP_75 on the validation split at the end of a training at this learning rate."""
    usual = get_profile(profile)
    own = replace(usual, training=replace(usual.training, learning_rate=rate), seeds=())
    workspace = Workspace(own, data_dir)
    name = workspace.run(variant).name
    name += "" if rate == usual.training.learning_rate else f"_learning_rate={rate:g}"
    metrics = read_metrics(workspace.train(variant, accelerator="cpu", name=name).parent)
    return {
        "model": variant,
        "input": workspace.kind.name,
        "learning_rate": rate,
        **{name: float(metrics[f"val/{name}"].dropna().iloc[-1]) for name in ("AP", "AP_50", "AP_75")},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", default=["s5-selective", "s5", "convlstm"])
    parser.add_argument("--rates", type=float, nargs="+", default=[3.5e-3, 7e-3, 1.4e-2])
    parser.add_argument("--profile", default="study", help="whose set and training (default: study)")
    parser.add_argument("--data-dir", default="", help="where its data and runs lie")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "learning_rates.json")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for variant in options.variants:
        for rate in options.rates:
            rows.append(measure(options.profile, variant, rate, options.data_dir))
            print(f"{variant}, learning rate {rate:g}: validation AP {100 * rows[-1]['AP']:.1f}")
            write_results(options.out, {**circumstances("cpu"), "profile": options.profile, "rows": rows})


if __name__ == "__main__":
    main()

"""How long traces should last: what a detector reaches by the longest time constant of its input, and at which rates.

    python benchmarks/traces.py                          # one training for each: a quarter of an hour of a core each
    python benchmarks/traces.py --longest 10 20 --profile smoke --out results/traces.json

Each is selective S5 on the study's set with the same seed and steps; its input are the traces of 2.5 ms and of each
double of it up to the longest. The validation split decides; AP at other rates, with the time scale following, is of
the test split. What was computed before is not computed again.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import circumstances, write_results

from ssmbook.study import Arm, Workspace, get_profile, run_arms
from ssmbook.training.run_folder import read_metrics

SHORTEST_MS = 2.5
RATES_HZ = (5.0, 10.0, 20.0, 200.0)


def bank(longest_ms: float) -> list[float]:
    """Time constants from the shortest, each the double of the one before."""
    taus = [SHORTEST_MS]
    while 2 * taus[-1] <= longest_ms:
        taus.append(2 * taus[-1])
    return taus


def measure(profile: str, variant: str, taus_ms: list[float], data_dir: str = "") -> dict[str, Any]:
    """AP, AP_50 and AP_75 on the validation split at the end of a training on traces of these time constants, and
    AP on the label frames that all rates have, by rate in Hz."""
    own = replace(
        get_profile(profile), representation="traces", representation_options={"taus_ms": taus_ms}, seeds=()
    )
    workspace = Workspace(own, data_dir)
    metrics = read_metrics(workspace.train(variant, accelerator="cpu").parent)
    table = run_arms(workspace, (Arm(variant, "traces", follow=True, rates_hz=RATES_HZ),), device="cpu")
    return {
        "taus_ms": taus_ms,
        "channels": 2 * len(taus_ms),
        **{name: float(metrics[f"val/{name}"].dropna().iloc[-1]) for name in ("AP", "AP_50", "AP_75")},
        "rates": {f"{rate:g}": ap for rate, ap in zip(table["rate_hz"], table["AP_common"], strict=True)},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--longest", type=float, nargs="+", default=[5.0, 10.0, 20.0, 40.0], help="in ms")
    parser.add_argument("--profile", default="study", help="whose set and training (default: study)")
    parser.add_argument("--variant", default="s5-selective", help="the model (default: s5-selective)")
    parser.add_argument("--data-dir", default="", help="where its data and runs lie")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "traces.json")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    for longest in options.longest:
        rows.append(measure(options.profile, options.variant, bank(longest), options.data_dir))
        print(f"τ up to {longest:g} ms: validation AP {100 * rows[-1]['AP']:.1f}")
        write_results(
            options.out,
            {**circumstances("cpu"), "profile": options.profile, "variant": options.variant, "rows": rows},
        )


if __name__ == "__main__":
    main()

"""What the table of rates leaves open, asked of trained models of the study: what a higher rate is for, and what causes
the AP at it, input or state.

========================  ===================================================================================
table                     question
========================  ===================================================================================
``streaming.csv``         what is known at any moment, by rate and latency: streaming AP, of fast objects too
``delays.csv``            how long until an object is known, from its entry and from its start after rest
``causes.csv``            AP with input or state replaced: held at 20 Hz, empty, another sequence's, cut stage by stage
``memory.csv``            how long the layers remember, from their weights: ``time_constants``
========================  ===================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pandas as pd
import torch

from ssmbook.dataset.grid import BASE_HZ, BASE_MS
from ssmbook.detector.precision import exact_float32
from ssmbook.evaluation.breakdown import ap_by_rest, ap_by_speed
from ssmbook.evaluation.delay import delay_table, delays, operating_point
from ssmbook.evaluation.interventions import (
    CutState,
    HoldInput,
    HoldState,
    Intervention,
    NoEvents,
    OtherState,
)
from ssmbook.evaluation.moments import read_truth, streaming_evaluation
from ssmbook.evaluation.streaming import Evaluation, evaluate
from ssmbook.files import read_json, write_json
from ssmbook.study.answers import time_constants
from ssmbook.study.rates import REST_S
from ssmbook.study.tables import read_table, write_table
from ssmbook.study.workspace import Workspace
from ssmbook.training.provenance import fingerprint, provenance
from ssmbook.training.run_folder import MODEL

STREAMING_HZ = (10.0, 20.0, 40.0, 100.0, 200.0)
LATENCIES_MS = (0.0, 10.0, 25.0)
EVERY_MS = 7.0  # of the moments that are scored: it divides no stride
SPEEDS_PX_S = (0.0, 1.0, 30.0, 1e9)  # at rest, slow, fast
_PERIOD_US = round(1000 * BASE_MS)


def _cut(*stages: int) -> list[Intervention]:
    return [CutState(stages)]


#: The state of one stage from zero at each chunk, of none and of all; asked at the rate of training.
STAGES: dict[str, Callable[[], list[Intervention]]] = {
    "state of stages 1 to 4 carried": list,
    **{f"state of stage {i} from zero": partial(_cut, i) for i in (1, 2, 3, 4)},
    "state of stages 1 to 4 from zero": partial(_cut, 1, 2, 3, 4),
}
#: What replaces input or state, by name; a new one for each run, for they remember.
CAUSES: dict[str, Callable[[], list[Intervention]]] = {
    "as it is": list,
    "input of 20 Hz": lambda: [HoldInput(_PERIOD_US)],
    "state of 20 Hz": lambda: [HoldState(_PERIOD_US)],
    "no events": lambda: [NoEvents()],
    "state of another sequence": lambda: [OtherState()],
    **STAGES,
}


def streaming_rows(place: Workspace, variant: str, rate_hz: float) -> dict[str, list[dict[str, Any]]]:
    """Rows of ``streaming.csv`` and ``delays.csv`` for one model at one rate, input sliding, time scale following.

    The operating point of the delays is chosen on the validation split at the rate of training.
    """
    truth = read_truth(place.raw(), place.sensor)
    found = _evaluate(place, variant, rate_hz, every_step=True)
    threshold = operating_point(_evaluate(place, variant, BASE_HZ, "val"))
    rows: dict[str, list[dict[str, Any]]] = {"streaming": [], "delays": []}
    for latency in LATENCIES_MS:
        result = streaming_evaluation(truth, found.steps, place.sensor, latency_ms=latency, every_ms=EVERY_MS)
        speeds = ap_by_speed(result, SPEEDS_PX_S)
        row = {
            "rate_hz": rate_hz,
            "latency_ms": latency,
            "AP": result.metrics["AP"],
            "AP_50": result.metrics["AP_50"],
        }
        names = ("AP_rest", "AP_slow", "AP_fast")
        rows["streaming"].append(row | dict(zip(names, speeds["AP"], strict=True)))
        table = delay_table(delays(truth, found.steps, place.sensor, threshold, latency_ms=latency))
        named = {"rate_hz": rate_hz, "latency_ms": latency}
        rows["delays"] += [named | {"kind": str(kind)} | dict(part) for kind, part in table.iterrows()]
    return rows


def cause_rows(place: Workspace, variant: str, rate_hz: float, name: str) -> dict[str, list[dict[str, Any]]]:
    """A row of ``causes.csv``: AP, and AP of objects at rest, of one model at one rate with one thing replaced."""
    result = _evaluate(place, variant, rate_hz, intervene=CAUSES[name]())
    rest = ap_by_rest(result, REST_S)
    words = [f"AP_rest_{low:g}" for low in rest["from"]]
    row = {"rate_hz": rate_hz, "replaced": name, "AP": result.metrics["AP"], "AP_50": result.metrics["AP_50"]}
    return {"causes": [row | dict(zip(words, rest["AP"], strict=True))]}


def ask_weights(workspace: Workspace) -> None:
    """``memory.csv``'s rows of all models of a profile that are here; none is trained for them."""
    for seed in workspace.seeds:
        place = workspace.with_seed(seed)
        for variant in workspace.profile.variants:
            if (place.run(variant) / MODEL).exists():
                _kept(place, variant, ("memory",), partial(_memory_rows, place, variant))


def _memory_rows(place: Workspace, variant: str) -> dict[str, list[dict[str, Any]]]:
    rows = time_constants(place.model(variant)).to_dict("records")
    return {"memory": [{str(name): value for name, value in row.items()} for row in rows]}


def ask(
    place: Workspace, variant: str, rates_hz: Iterable[float] = STREAMING_HZ, causes: Iterable[str] = ()
) -> None:
    """Answer the questions of one model; what was answered before with the same weights is not asked again.

    A model that is not here, and whose answers stand in the committed table, is not trained for them.
    """
    if not (place.run(variant) / MODEL).exists() and _answered(place, variant):
        return
    exact_float32()
    for rate in rates_hz:
        _kept(place, variant, ("streaming", rate), partial(streaming_rows, place, variant, rate))
    for name in causes:
        rate = BASE_HZ if name in STAGES else 200.0
        _kept(place, variant, (name, rate), partial(cause_rows, place, variant, rate, name))


def _answered(place: Workspace, variant: str) -> bool:
    path = place.tables / "streaming.csv"
    if place.given or not path.exists():
        return False
    table = read_table(path)
    return bool(((table["model"] == variant) & (table["seed"] == place.profile.training.seed)).any())


def collect_answers(workspace: Workspace) -> dict[str, pd.DataFrame]:
    """The tables of all answers that lie beside the profile's models; rows of other models in them stay as they are."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for seed in workspace.seeds:
        place = workspace.with_seed(seed)
        for variant in workspace.profile.variants:
            for path in sorted((place.run(variant) / "questions").glob("*.json")):
                for name, rows in (read_json(path) or {}).get("rows", {}).items():
                    named = {"set": place.profile.data or place.profile.name, "model": variant, "seed": seed}
                    tables.setdefault(name, []).extend(named | row for row in rows)
    found = {}
    for name, rows in tables.items():
        table = pd.DataFrame(rows)
        keys = [
            key
            for key in ("model", "seed", "rate_hz", "latency_ms", "kind", "replaced", "stage")
            if key in table
        ]
        path = workspace.tables / f"{name}.csv"
        if path.exists():  # those of other machines
            table = pd.concat([read_table(path), table]).drop_duplicates(keys, keep="last")
        found[name] = table.sort_values(keys, kind="stable").reset_index(drop=True)
        write_table(path, found[name], profile=workspace.profile.name)
    return found


def _evaluate(
    place: Workspace,
    variant: str,
    rate_hz: float,
    split: str = "test",
    every_step: bool = False,
    intervene: list[Intervention] | None = None,
) -> Evaluation:
    streams = place.streams(split, BASE_MS, 1000 / rate_hz)
    follows = place.profile.variant(variant).has_time_scale
    result = evaluate(
        place.model(variant),
        streams,
        place.sensor,
        step_scale=BASE_HZ / rate_hz if follows else 1.0,
        every_step=every_step,
        intervene=intervene or [],
        progress=f"{variant} {rate_hz:g} Hz",
    )
    streams.close()
    return result


def _kept(place: Workspace, variant: str, question: tuple, answer: Callable[[], dict]) -> None:
    file = place.train(variant)
    weights = hashlib.sha256(file.read_bytes()).hexdigest()
    path = file.parent / "questions" / f"{fingerprint([weights, question])}.json"
    if read_json(path) is None:
        torch.manual_seed(0)
        write_json(path, {"rows": answer(), "provenance": provenance(question=question, weights=weights)})

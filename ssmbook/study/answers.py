"""What the tables of the study say, each question as one small table: for the chapters on rates and on memory.

All of them take whatever rows the tables of ``run_arms`` and of ``ssmbook.study.questions`` have, so that a study that
is not finished, or one with further arms, gives shorter or longer tables and no error. Values are × 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ssmbook.dataset.grid import BASE_HZ, BASE_MS
from ssmbook.ssm.discretization import discretize
from ssmbook.ssm.s5 import S5
from ssmbook.study.arms import ELSEWHERE, LONGER, VARIANTS
from ssmbook.study.rates import pivot
from ssmbook.study.tables import read_table
from ssmbook.study.workspace import Workspace

#: What a model is called in the chapters.
MODEL_NAMES = {
    "s5": "S5",
    "s5-selective": "selective S5",
    "s5-gain-10": "S5, state × 10",
    "s5-selective-gain-1": "selective S5, state × 1",
    "s5-held": "S5, held mask",
    "s5-held-0.25": "S5, held mask, α = 0.25",
    "s5-held-1": "S5, held mask, α = 1",
    "s5-h2": "S5, H2 norm",
    "s5-h2-0.1": "S5, H2 norm × 0.1",
    "s5-h2-10": "S5, H2 norm × 10",
    "s5-held-h2": "S5, held mask, H2 norm",
    "mamba": "Mamba's form",
    "s4d": "S4D",
    "s4d-held": "S4D, held mask",
    "s5-mixed": "S5, mixed rates",
    "s5-selective-mixed": "selective S5, mixed rates",
    "convlstm-mixed": "ConvLSTM, mixed rates",
    "s5-mixed-30": "S5, mixed rates, chunks of 30",
    "s5-mixed-low-pass": "S5, mixed rates, low-pass",
    "s5-selective-2000": "selective S5, 2,000 steps",
    "s5-selective-8000": "selective S5, 8,000 steps",
    "s5-2000": "S5, 2,000 steps",
    "convlstm-2000": "ConvLSTM, 2,000 steps",
    **{f"s5-selective-at-{rate}": f"selective S5, trained at {rate} Hz" for rate in (5, 10, 40, 200)},
    "s4": "S4",
    "convlstm": "ConvLSTM",
    "none": "no recurrence",
}


def read_if_there(workspace: Workspace, name: str) -> pd.DataFrame:
    """A committed table of a profile, or an empty one where nothing was computed."""
    path = Path(workspace.tables) / name
    return read_table(path) if path.exists() else pd.DataFrame()


def following(table: pd.DataFrame) -> pd.DataFrame:
    """Each model at its best: the rows whose time scale follows the rate, and all rows of a model's mode and carry that
    have none which follows."""
    arms = pd.MultiIndex.from_frame(table[["model", "mode", "carry"]])
    follows = (table["step_scale"] == "1/k").to_numpy()
    return table[follows | ~arms.isin(arms[follows])]


def by_rate(rates: pd.DataFrame, statistic: str = "mean") -> pd.DataFrame:
    """``pivot`` with the book's names: AP by model, mode, step_scale and carry, columns "5 Hz", …"""
    wide = pivot(rates, statistic=statistic).droplevel("input")
    return _named(wide.rename(columns=lambda rate: f"{rate:g} Hz").rename_axis(columns=None))


def one_for_all(rates: pd.DataFrame) -> pd.DataFrame:
    """AP_common of models trained at 20 Hz whose time scale follows, beside models trained at the rate itself, seed by
    seed, then averaged.

    Returns:
        A row for each rate and recurrence; columns "20 Hz", "own rate", "difference" and "seeds".
    """
    own = rates[(rates["carry"] == "exact") & (rates["mode"] == "sliding")].set_index("seed")
    rows = []
    for name in ELSEWHERE:
        rate = VARIANTS[name].rate_hz
        base = own[(own["model"] == name.rpartition("-at-")[0]) & (own["rate_hz"] == rate)]
        there = own[(own["model"] == name) & (own["rate_hz"] == rate)]
        both = pd.DataFrame({"20 Hz": following(base)["AP_common"], "own rate": there["AP_common"]}).dropna()
        if len(both):
            both = 100 * both.assign(difference=both["20 Hz"] - both["own rate"])
            model = base["model"].iloc[0]
            rows.append({"model": model, "rate": f"{rate:g} Hz", **both.mean(), "seeds": len(both)})
    return _named(pd.DataFrame(rows).set_index(["model", "rate"])) if rows else pd.DataFrame()


def trained_longer(table: pd.DataFrame) -> pd.DataFrame:
    """Of ``rates.csv`` or ``rest.csv`` the rows of models that were trained for longer, and those of the same models
    and seeds after the profile's steps, at the same rates: windows sliding, state carried."""
    own = table[(table["mode"] == "sliding") & (table["carry"] == "exact")]
    longer = own[own["model"].isin(LONGER)]
    trained = pd.MultiIndex.from_arrays(
        [longer["model"].map(lambda name: VARIANTS[name].recurrence), longer["seed"]]
    )
    usual = pd.MultiIndex.from_frame(own[["model", "seed"]]).isin(trained) & own["rate_hz"].isin(
        longer["rate_hz"]
    )
    return own[own["model"].isin(LONGER) | usual]


def changes(rates: pd.DataFrame, metric: str = "AP_common") -> pd.DataFrame:
    """A metric at the rate of training, and the difference to it at every other rate, seed by seed, then averaged.

    A difference is one of a network with itself: rows whose weights were not run at the rate of training are left out.

    Returns:
        A row for each model, mode and step_scale; columns "20 Hz", "Δ 5 Hz", …, and "seeds".
    """
    keys = ["model", "mode", "step_scale"]
    network = ["seed", *({"weights"} & set(rates))]
    wide = 100 * rates.pivot_table(index=[*keys, *network], columns="rate_hz", values=metric, sort=False)
    if BASE_HZ not in wide:
        return pd.DataFrame()
    wide = wide.dropna(subset=[BASE_HZ])
    others = [rate for rate in sorted(wide.columns) if rate != BASE_HZ]
    found = wide[others].sub(wide[BASE_HZ], axis=0).rename(columns=lambda rate: f"Δ {rate:g} Hz")
    found.insert(0, f"{BASE_HZ:g} Hz", wide[BASE_HZ])
    grouped = found.groupby(level=keys, sort=False)
    out = grouped.mean().dropna(axis="columns", how="all")
    out["seeds"] = found.reset_index("seed").groupby(level=keys, sort=False)["seed"].nunique()
    return _named(out.rename_axis(columns=None))


def effect_of_following(
    rates: pd.DataFrame, rest: pd.DataFrame, rate_hz: float, at_rest_s: float = 0.5
) -> pd.DataFrame:
    """What following the rate changes, mode by mode: AP with step_scale 1/k minus AP with 1, state carried.

    Args:
        rates, rest: tables of ``run_arms``.
        rate_hz: at which both were run.
        at_rest_s: where the bin of the resting objects begins.

    Returns:
        A row for each model and mode that was run both ways; columns "all", "moving" and "at rest".
    """
    parts = {
        "all": (rates, "AP"),
        "moving": (rest[rest["from"] == 0.0], "AP"),
        "at rest": (rest[rest["from"] == at_rest_s], "AP"),
    }
    columns = {}
    for name, (table, metric) in parts.items():
        own = table[(table["carry"] == "exact") & (table["rate_hz"] == rate_hz)]
        both = own.pivot_table(
            index=["model", "mode", "seed"], columns="step_scale", values=metric, sort=False
        )
        if {"1", "1/k"} <= set(both.columns):
            difference = (both["1/k"] - both["1"]).dropna()
            columns[name] = 100 * difference.groupby(level=["model", "mode"], sort=False).mean()
    return _named(pd.DataFrame(columns))


def worth_of_the_state(rates: pd.DataFrame) -> pd.DataFrame:
    """AP with the state carried, with every chunk from zero, and what that costs, where a model was run both ways."""
    own = following(rates[rates["mode"].isin(["sliding", "traces"])])
    both = own.pivot_table(
        index=["model", "mode", "rate_hz", "seed"], columns="carry", values="AP", sort=False
    )
    if not {"exact", "published"} <= set(both.columns):
        return pd.DataFrame()
    both = 100 * both.dropna()
    both["difference"] = both["exact"] - both["published"]
    grouped = both.groupby(level=["model", "mode", "rate_hz"], sort=False)
    out = grouped.mean()
    out["seeds"] = grouped.size()
    return _named(out.rename_axis(columns=None))


def at_training_rate(rates: pd.DataFrame) -> pd.DataFrame:
    """The metrics of COCO at the rate of training: a row for each model, mode and carry."""
    own = following(rates[(rates["rate_hz"] == BASE_HZ) & rates["mode"].isin(["sliding", "traces"])])
    metrics = [name for name in ("AP", "AP_50", "AP_75", "AP_S", "AP_M", "AP_L") if (own[name] >= 0).any()]
    grouped = own.groupby(["model", "mode", "carry"], sort=False)
    out = 100 * grouped[metrics].mean()
    out["seeds"] = grouped["seed"].nunique()
    return _named(out)


def by_time_at_rest(rest: pd.DataFrame, rate_hz: float = BASE_HZ, metric: str = "AP_50") -> pd.DataFrame:
    """A metric by seconds at rest: a row for each model, mode and carry, columns "moving", "0.1–0.5", …"""
    own = following(rest[(rest["rate_hz"] == rate_hz) & rest["mode"].isin(["sliding", "traces"])])
    words = {
        low: "moving" if low == 0 else f"> {low:g}" if high >= 60 else f"{low:g}–{high:g}"
        for low, high in zip(own["from"], own["to"], strict=True)
    }
    wide = own.pivot_table(index=["model", "mode", "carry"], columns="from", values=metric, sort=False)
    return _named(100 * wide.sort_index(axis=1).rename(columns=words).rename_axis(columns=None))


def side_by_side(
    rates: pd.DataFrame, rest: pd.DataFrame, models: Sequence[str], metric: str = "AP"
) -> pd.DataFrame:
    """Some models at the rate of training, in windows and with the state carried: a metric of all boxes ("all") and by
    seconds at rest, means over the seeds that all of them have, and the number of those ("seeds")."""
    rates, rest = (
        following(t[(t["rate_hz"] == BASE_HZ) & (t["mode"] == "sliding") & (t["carry"] == "exact")])
        for t in (rates, rest)
    )
    seeds = [set(rates.loc[rates["model"] == model, "seed"]) for model in models]
    common = set.intersection(*seeds)
    rates, rest = (t[t["model"].isin(models) & t["seed"].isin(common)] for t in (rates, rest))
    out = 100 * rates.groupby("model")[[metric]].mean().rename(columns={metric: "all"}).reindex(list(models))
    out = _named(out).join(by_time_at_rest(rest, metric=metric).droplevel(["mode", "carry"]))
    return out.assign(seeds=len(common))


def replaced(causes: pd.DataFrame, stages: bool = False) -> pd.DataFrame:
    """AP with something else in place of input or state; ``stages``: with one stage's state from zero instead."""
    if causes.empty:
        return causes
    own = causes[causes["replaced"].str.startswith("state of stage") == stages]
    columns = ["AP", *(name for name in own.columns if name.startswith("AP_rest_"))]
    grouped = own.groupby(["model", "rate_hz", "replaced"], sort=False)
    out = 100 * grouped[columns].mean()
    out.columns = ["AP", *(f"at rest from {name.removeprefix('AP_rest_')} s" for name in columns[1:])]
    out["seeds"] = grouped["seed"].nunique()
    return _named(out)


def time_constants(model: nn.Module, step_scale: float = 1.0) -> pd.DataFrame:
    """How long the S5 layers of a detector remember, computed from their weights.

    Args:
        model: a detector; its layers that are not S5 are passed over.
        step_scale: the factor on the step; a step then stands for so many times 50 ms.

    Returns:
        A row for each stage. modes; seconds_10, seconds_50, seconds_90: after how many seconds a mode has lost all but
        1/e of its state, as quantiles over the modes in % (of a gated layer at g = 1); beyond_half_turn: the modes that
        turn by more in one step; echo_50_ms, echo_1_s: what a unit input so long ago adds to the output, beside the 1
        of the direct path, ‖Re(C Λ̄ⁿ B̄)‖_F / √H.
    """
    rows: list[dict[str, Any]] = []
    step_ms = BASE_MS * step_scale
    for number, layer in enumerate((part for part in model.modules() if isinstance(part, S5)), 1):
        Lambda, step = layer.eigenvalues().detach(), step_scale * layer.log_step.detach().exp()
        kept, gain = discretize(Lambda, step, layer.discretization)
        seconds = (step_ms / 1000 / -kept.abs().clamp(max=1 - 1e-9).log()).numpy()
        row: dict[str, Any] = {"stage": number, "modes": len(Lambda)}
        row |= {f"seconds_{percent}": float(np.percentile(seconds, percent)) for percent in (10, 50, 90)}
        row["beyond_half_turn"] = int((step * Lambda.imag.abs() > np.pi).sum())
        B, C = (torch.view_as_complex(part.detach()) for part in (layer.B, layer.C))
        for name, ago_ms in (("echo_50_ms", 50.0), ("echo_1_s", 1000.0)):
            answer = ((C * kept ** round(ago_ms / step_ms)) @ (gain[:, None] * B)).real
            row[name] = float(answer.norm() * (2 if layer.conj_sym else 1) / layer.width**0.5)
        rows.append(row)
    return pd.DataFrame(rows)


def printed(table: pd.DataFrame, digits: int = 1) -> pd.DataFrame:
    """A table as it is shown: so many digits, whole numbers as they are, and – where nothing was computed."""

    def word(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        return "–" if np.isnan(value) else f"{value:.{digits}f}"

    return table.astype(object).map(word)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Models by the names that the book uses."""
    return table.rename(index=MODEL_NAMES, level="model") if len(table) else table

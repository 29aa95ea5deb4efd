"""The small tables that the chapters on rates and memory show: right on rows made by hand, and whole on any rows."""

import math

import pandas as pd
import pytest
import torch

from ssmbook.detector import Detector
from ssmbook.detector.presets import PRESETS
from ssmbook.ssm import S5
from ssmbook.study import VARIANTS, answers, of_all_seeds, pivot


def row(model, scale, rate, ap, seed=0, carry="exact", mode="sliding", **more):
    given = {"model": model, "step_scale": scale, "rate_hz": rate, "seed": seed, "carry": carry, "mode": mode}
    return given | {"AP": ap, "AP_common": ap, "AP_50": ap} | more


RATES = pd.DataFrame(
    [
        row("s5", "1/k", 20.0, 0.40),
        row("s5", "1/k", 200.0, 0.38),
        row("s5", "1", 20.0, 0.40),
        row("s5", "1", 200.0, 0.20),
        row("s5", "1/k", 20.0, 0.60, seed=1),  # a seed that has not been run at 200 Hz
        row("s5", "1/k", 20.0, 0.30, carry="published"),
        row("convlstm", "1", 20.0, 0.50),
        row("convlstm", "1", 200.0, 0.30),
    ]
)
REST = pd.DataFrame(
    [
        row("s5", scale, rate, ap, **{"from": low, "to": high})
        for (scale, rate, ap) in (("1/k", 20.0, 0.4), ("1/k", 200.0, 0.3), ("1", 200.0, 0.1))
        for low, high in ((0.0, 0.5), (0.5, 60.0))
    ]
)


def test_changes_are_taken_seed_by_seed():
    table = answers.changes(RATES[RATES["carry"] == "exact"])
    follows = table.loc[("S5", "sliding", "1/k")]
    assert follows["20 Hz"] == pytest.approx(50)
    assert follows["Δ 200 Hz"] == pytest.approx(-2)  # of the one seed that has both, not of the means
    assert table.loc[("ConvLSTM", "sliding", "1"), "Δ 200 Hz"] == pytest.approx(-20)


def test_a_change_is_one_of_a_network_with_itself():
    rates = RATES[RATES["carry"] == "exact"].assign(weights="first")
    other = rates[rates["rate_hz"] == 200.0].assign(rate_hz=80.0, weights="second", AP_common=0.9)
    table = answers.changes(pd.concat([rates, other]))
    pd.testing.assert_frame_equal(table, answers.changes(rates))
    again = answers.changes(pd.concat([rates, rates.assign(weights="second")]))
    pd.testing.assert_frame_equal(again, table)  # a seed that was trained twice is one


def test_a_rate_of_fewer_seeds_is_left_out_of_means():
    rates = RATES.assign(input="stacked_histogram")
    kept = of_all_seeds(rates)
    assert len(kept) == len(rates) - 1
    row = pivot(rates).loc[("s5", "stacked_histogram", "sliding", "1/k", "exact")]
    assert row[20.0] == pytest.approx(50)
    assert math.isnan(row[200.0])  # of the first seed alone: 38, no loss against it


def test_rates_are_shown_by_the_books_names():
    table = answers.by_rate(RATES.assign(input="stacked_histogram"))
    assert table.loc[("S5", "sliding", "1/k", "exact"), "20 Hz"] == pytest.approx(50)
    assert list(table.columns)[-1] == "200 Hz"


def test_one_model_beside_those_of_each_rate_seed_by_seed():
    base = {"mode": "sliding", "carry": "exact", "step_scale": "1/k", "rate_hz": 5.0}
    rows = [
        {**base, "model": "s5-selective", "seed": 0, "AP_common": 0.40},
        {**base, "model": "s5-selective", "seed": 1, "AP_common": 0.50},
        {**base, "model": "s5-selective", "seed": 1, "AP_common": 0.10, "step_scale": "1"},
        {**base, "model": "s5-selective-at-5", "seed": 1, "AP_common": 0.53},
        {**base, "model": "s5-selective-at-200", "seed": 1, "AP_common": 0.53, "rate_hz": 200.0},
    ]
    table = answers.one_for_all(pd.DataFrame(rows))
    assert table.index.tolist() == [("selective S5", "5 Hz")]
    assert table.iloc[0].to_dict() == pytest.approx(
        {"20 Hz": 50, "own rate": 53, "difference": -3, "seeds": 1}
    )
    assert answers.one_for_all(pd.DataFrame(rows[:3])).empty


def test_longer_training_stands_beside_the_same_seeds_and_rates():
    base = {"mode": "sliding", "carry": "exact", "step_scale": "1/k", "AP_common": 0.5}
    keys = ("model", "seed", "rate_hz")
    rows = [
        ("s5", 0, 20.0),
        ("s5", 1, 20.0),
        ("s5", 0, 200.0),
        ("s5", 0, 40.0),
        ("convlstm", 0, 20.0),
        ("s5-2000", 0, 20.0),
        ("s5-2000", 0, 200.0),
        ("convlstm", 1, 20.0),
        ("convlstm-2000", 1, 20.0),
    ]
    table = pd.DataFrame([{**base, **dict(zip(keys, row, strict=True))} for row in rows])
    kept = answers.trained_longer(table)
    assert [tuple(row) for row in kept[list(keys)].values.tolist()] == [
        ("s5", 0, 20.0),
        ("s5", 0, 200.0),
        ("s5-2000", 0, 20.0),
        ("s5-2000", 0, 200.0),
        ("convlstm", 1, 20.0),
        ("convlstm-2000", 1, 20.0),
    ]
    assert answers.trained_longer(table[:5]).empty


def test_effect_of_following():
    table = answers.effect_of_following(RATES, REST, 200.0)
    assert table.loc[("S5", "sliding")].to_dict() == pytest.approx({"all": 18, "moving": 20, "at rest": 20})


def test_worth_of_the_state_needs_both_carries():
    table = answers.worth_of_the_state(RATES)
    assert list(table.index) == [("S5", "sliding", 20.0)]
    assert table["difference"].item() == pytest.approx(10)


def test_by_time_at_rest_names_the_bins():
    table = answers.by_time_at_rest(REST)
    assert list(table.columns) == ["moving", "> 0.5"]
    assert table.loc[("S5", "sliding", "exact"), "> 0.5"] == pytest.approx(40)


def test_side_by_side_takes_the_seeds_that_all_have():
    more = pd.DataFrame(
        [row("s5-gain-10", "1/k", 20.0, 0.5), row("s5-gain-10", "1/k", 20.0, 0.9, carry="published")]
    )
    rest = REST.replace({"model": {"s5": "s5-gain-10"}})
    table = answers.side_by_side(pd.concat([RATES, more]), pd.concat([REST, rest]), ("s5", "s5-gain-10"))
    assert list(table.index) == ["S5", "S5, state × 10"]
    assert list(table.columns) == ["all", "moving", "> 0.5", "seeds"]
    assert table.loc["S5", "all"] == pytest.approx(40)  # its second seed is left out
    assert table.loc["S5, state × 10"].tolist() == pytest.approx([50, 40, 40, 1])
    assert answers.side_by_side(RATES, REST, ("s5",)).loc["S5", "all"] == pytest.approx(50)


def test_replaced_splits_stages_from_the_rest():
    causes = pd.DataFrame(
        [
            {"model": "s5", "rate_hz": 200.0, "replaced": name, "seed": 0, "AP": 0.3, "AP_rest_0.5": 0.1}
            for name in ("as it is", "state of stage 1 from zero")
        ]
    )
    assert list(answers.replaced(causes).index.get_level_values("replaced")) == ["as it is"]
    assert list(answers.replaced(causes, stages=True).columns) == ["AP", "at rest from 0.5 s", "seeds"]


def test_no_rows_give_empty_tables():
    empty = RATES.iloc[:0], REST.iloc[:0]
    for table in (
        answers.changes(empty[0]),
        answers.effect_of_following(*empty, 200.0),
        answers.worth_of_the_state(empty[0]),
        answers.by_time_at_rest(empty[1]),
        answers.replaced(pd.DataFrame()),
    ):
        assert table.empty


def test_time_constants_are_those_of_the_impulse_response():
    torch.manual_seed(0)
    layer = S5(4, 1)
    layer.Lambda.data = torch.tensor([[-0.5, 0.0]])
    layer.log_step.data = torch.tensor([math.log(0.1)])
    found = answers.time_constants(layer).iloc[0]
    assert found["seconds_50"] == pytest.approx(0.05 / (0.5 * 0.1), rel=1e-3)
    impulse = torch.zeros(4, 21, 4)
    impulse[torch.arange(4), 0, torch.arange(4)] = 1
    with torch.no_grad():
        answer = layer(impulse)[0] - layer.D * impulse  # [input, step, output]
    for name, step in (("echo_50_ms", 1), ("echo_1_s", 20)):
        assert found[name] == pytest.approx(float(answer[:, step].norm() / 2), rel=1e-4)


@pytest.mark.parametrize(("recurrence", "stages"), [("s5-selective", 4), ("convlstm", 0)])
def test_time_constants_have_a_row_for_each_stage_of_s5(recurrence, stages):
    model = Detector(**{**PRESETS["sim-smoke"], "recurrence": recurrence})
    assert len(answers.time_constants(model)) == stages


def test_at_training_rate_leaves_out_what_no_box_has():
    rates = RATES.assign(AP_75=RATES["AP"], AP_S=RATES["AP"], AP_M=RATES["AP"], AP_L=-1.0)
    table = answers.at_training_rate(rates)
    assert "AP_L" not in table
    assert table.loc[("S5", "sliding", "exact")].to_dict() == pytest.approx(
        {"AP": 50, "AP_50": 50, "AP_75": 50, "AP_S": 50, "AP_M": 50, "seeds": 2}
    )
    assert answers.at_training_rate(rates.iloc[:0]).empty


def test_every_model_of_the_study_has_a_name():
    assert set(answers.MODEL_NAMES) == set(VARIANTS)

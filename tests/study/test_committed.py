"""Results that stand in a profile's committed tables are not computed again, on this machine or another."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest
from training_set import SENSOR, TRAINING, make_set

from ssmbook.study import Profile, Workspace, collect_arms, read_arms, run_arms
from ssmbook.study.arms import Arm
from ssmbook.study.rates import REST_CSV, known_results, models_of, write_tables


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A profile of two variants whose data lie where its own do."""
    (tmp_path / "myst.yml").touch()  # the book's folder
    monkeypatch.chdir(tmp_path)
    make_set(tmp_path / "data" / "tiny")
    training = replace(TRAINING, steps=1, validate_every=1)
    arms = (
        Arm("s5", "sliding", follow=True, rates_hz=(20.0, 40.0)),
        Arm("s5", "sliding", rates_hz=(20.0,)),  # at the rate of training the same cell
        Arm("none", "sliding", rates_hz=(20.0,)),
    )
    return Workspace(Profile("tiny", SENSOR, "sim-smoke", training, arms), workers=1)


def test_committed_rows_serve_where_the_models_are_gone(study, monkeypatch):
    table = run_arms(study, progress=False)
    rest = read_arms(study, REST_CSV)
    pd.testing.assert_frame_equal(collect_arms(study), table)
    shutil.rmtree(study.folder / "runs")
    monkeypatch.setattr(Workspace, "train", None)
    again = run_arms(study, progress=False)
    pd.testing.assert_frame_equal(again, table, atol=1e-6, check_dtype=False)
    pd.testing.assert_frame_equal(read_arms(study, REST_CSV), rest)


def test_what_decides_a_cell_decides_whether_it_is_known(study):
    run_arms(study, progress=False)
    shutil.rmtree(study.folder / "runs")
    study.profile = replace(study.profile, training=replace(study.profile.training, learning_rate=0.5))
    table = read_arms(study)
    assert collect_arms(study).empty
    pd.testing.assert_frame_equal(read_arms(study), table)  # nothing is lost for want of something new


def test_rows_that_are_not_written_again_are_told(study, capsys):
    run_arms(study, progress=False)
    assert "left out" not in capsys.readouterr().err
    study.profile = replace(study.profile, arms=study.profile.arms[:2])
    assert set(collect_arms(study)["model"]) == {"s5"}
    assert "1 rows are not of this profile's models as they are now and are left out: none seed 0" in (
        capsys.readouterr().err
    )
    collect_arms(study)
    assert "left out" not in capsys.readouterr().err


def test_rows_of_several_trainings_of_a_model_are_told(study, capsys):
    """As two machines make them that share out its arms and round differently."""
    run_arms(study, progress=False)
    models = models_of(study)
    found = known_results(study, models)
    write_tables(study, models, found)
    assert "trained more than once" not in capsys.readouterr().err
    found[0][0]["weights"] = "another"
    write_tables(study, models, found)
    assert "trained more than once" in (told := capsys.readouterr().err)
    assert "(column weights): s5 on stacked_histogram seed 0" in told

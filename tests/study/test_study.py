"""The study: variants and seeds of one profile, means and spreads, its plan, and the H2 norm in training."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from training_set import SENSOR, TRAINING, make_set

from ssmbook import plots
from ssmbook.cli import main
from ssmbook.dataset import EventDataModule
from ssmbook.detector import PRESETS, Detector, TrainedOn, load_checkpoint
from ssmbook.detector.checkpoint import read_checkpoint
from ssmbook.detector.recurrences import REGISTRY, get_recurrence
from ssmbook.detector.recurrences.registry import options_of
from ssmbook.errors import InputError
from ssmbook.files import read_json
from ssmbook.study import Profile, Workspace, get_profile, pivot, plan_study, run_arms, workspace
from ssmbook.study.arms import VARIANTS, Arm, Variant
from ssmbook.study.profiles import all_arms
from ssmbook.study.rates import cells_of
from ssmbook.training import train
from ssmbook.training.objective import TrainingStep, recurrences
from ssmbook.training.settings import Training


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A profile of two variants with two seeds each, whose data are there, and its tables too."""
    (tmp_path / "myst.yml").touch()  # the book's folder
    monkeypatch.chdir(tmp_path)
    make_set(tmp_path)
    training = replace(TRAINING, steps=1, validate_every=1)
    arms = (
        Arm("s5-h2", "sliding", follow=True, rates_hz=(20.0, 40.0)),
        Arm("none", "sliding", rates_hz=(20.0, 40.0)),
    )
    return Workspace(Profile("tiny", SENSOR, "sim-smoke", training, arms, seeds=(0, 3)), tmp_path, workers=1)


def test_two_seeds_train_apart_and_the_table_has_both(study, monkeypatch):
    table = run_arms(study, progress=False)
    assert table[["seed", "model"]].drop_duplicates().values.tolist() == [
        [0, "s5-h2"],
        [0, "none"],
        [3, "s5-h2"],
        [3, "none"],
    ]
    assert (table["AP_common"] == table["AP"]).all()  # all rates of this profile meet all label frames
    runs = {path.name for path in (study.folder / "runs").iterdir()}
    assert runs == {"s5-h2", "none", "s5-h2_seed=3", "none_seed=3"}
    monkeypatch.setattr("ssmbook.training.run.train", None)  # and with it Lightning, for finished runs
    one, other = (load_checkpoint(study.with_seed(seed).train("s5-h2")) for seed in (0, 3))
    assert one.config["clip_eigs"]
    assert not torch.equal(
        one.backbone.stages[0].downsample.weight, other.backbone.stages[0].downsample.weight
    )
    monkeypatch.setattr(Detector, "features", None)  # nothing is computed again
    pd.testing.assert_frame_equal(run_arms(study, progress=False), table)


def test_a_variant_of_mixed_rates_trains_on_them_and_runs_at_all(study, monkeypatch):
    arms = (
        Arm("s5-mixed", "true", follow=True, rates_hz=(20.0, 200.0)),
        Arm("s5-mixed", "traces", follow=True, rates_hz=(200.0,)),
    )
    study.profile = replace(study.profile, arms=arms, seeds=())
    scales, forward = [], TrainingStep.forward

    def noted(self, x, frames, targets, states=None, step_scale=1.0):
        scales.append(step_scale)
        return forward(self, x, frames, targets, states, step_scale)

    monkeypatch.setattr(TrainingStep, "forward", noted)
    table = run_arms(study, progress=False)
    assert list(table["stride_ms"]) == [50, 5, 5]
    assert (study.folder / "sets" / "window=true_stride=mixed" / "train").is_dir()
    assert (study.folder / "sets" / "traces_stride=mixed" / "train").is_dir()
    assert len(scales) == 2, "a step of each of two models"
    assert all(scale.shape == (TRAINING.sequence_length, TRAINING.batch_size) for scale in scales)
    trained_on = TrainedOn.read(read_checkpoint(study.train("s5-mixed")), "")
    assert trained_on.stride_us == 50_000
    assert trained_on.rates_hz == (5, 10, 20, 40, 100, 200)

    def begin(data, training):
        model = Detector(**PRESETS["sim-smoke"])
        train(model, data, study.folder / "x", sensor=SENSOR, training=training)

    mixed = study.folder / "sets" / "window=true_stride=mixed"
    with pytest.raises(
        InputError, match=r"its steps are mixed, and nothing is validated on those; .* in raw"
    ):
        study.at(mixed).train("s5-mixed")
    for data, training, words in (
        (EventDataModule(study.folder / "set"), replace(TRAINING, mixed_rates="true"), "its steps are equal"),
        (EventDataModule(study.folder / "set", train_dir=mixed), TRAINING, "its steps are mixed"),
    ):
        with pytest.raises(InputError, match=words):
            begin(data, training)


def test_a_variant_trained_at_another_rate_runs_in_relation_to_it(study):
    """Its windows come at its own rate in training and in validation, and k is counted from there."""
    study.profile = replace(
        study.profile,
        own_variants={"fast": Variant("s5", rate_hz=40.0)},
        arms=(
            Arm("fast", "sliding", follow=True, rates_hz=(10.0, 40.0)),
            Arm("s5-h2", "sliding", follow=True, rates_hz=(40.0,), seeds=(3,)),
        ),
    )
    cells = cells_of(study)
    assert [(c.arm.variant, c.workspace.profile.training.seed, c.step_scale) for c in cells] == [
        ("fast", 0, 4.0),
        ("fast", 0, 1.0),
        ("fast", 3, 4.0),
        ("fast", 3, 1.0),
        ("s5-h2", 3, 0.5),
    ]
    own = replace(study.profile, own_variants={"fast": Variant("s5")})
    here, there = (
        {cell.fingerprint for cell in cells_of(Workspace(p, study.folder))} for p in (own, study.profile)
    )
    assert len(here & there) == 1, "the rate of training is a part of what decides a row"
    study.profile = replace(study.profile, arms=study.profile.arms[:1], seeds=())
    assert list(run_arms(study, progress=False)["stride_ms"]) == [100, 25]
    assert TrainedOn.read(read_checkpoint(study.train("fast")), "").stride_us == 25_000
    assert study.is_trained("fast")
    study.profile = replace(study.profile, own_variants={"fast": Variant("s5")})
    assert not study.is_trained("fast"), "its folder holds a run at another rate"
    study.profile = replace(study.profile, own_variants={"fast": Variant("s5", rate_hz=40.0)})
    data = study.data_module(variant="fast")
    assert next(iter(data.train_dataloader())) is not None
    assert data.stride_us == 25_000


def test_settings_of_a_variant_reach_its_data(study):
    variants = {"long": Variant("none", training={"sequence_length": 5})}
    study.profile = replace(study.profile, own_variants=variants)
    assert (study.data_module().sequence_length, study.data_module(variant="long").sequence_length) == (3, 5)


def test_pivot_takes_means_and_spreads_over_seeds(study):
    rows = [{**cell.row(), "AP": value} for cell, value in zip(cells_of(study), range(8), strict=True)]
    table = pd.DataFrame(rows).assign(AP=lambda t: t["AP"] / 100)
    assert pivot(table).values.tolist() == [[2, 3], [4, 5]]
    np.testing.assert_allclose(pivot(table, statistic="std"), 2.8)  # of two values 4 apart: 4 / √2
    assert pivot(table[table["seed"] == 0], statistic="std").isna().all(axis=None)
    (panel,) = plots.rate_panels(table).axes
    np.testing.assert_allclose([line.get_ydata() for line in panel.lines], [[2, 3], [4, 5]])


def test_the_study_has_all_that_it_compares():
    profile = get_profile("study")
    assert set(profile.variants) == set(VARIANTS)
    assert len(profile.seeds) == 3
    main = {
        (a.variant, a.mode): set(a.rates_hz)
        for a in profile.arms
        if a.follow and a.carry == "exact" and len(a.rates_hz) > 2
    }
    for model in ("s5", "s5-selective"):
        assert main[model, "sliding"] == main[model, "traces"] == {5, 10, 20, 40, 100, 200}
    assert {(arm.mode, arm.follow, arm.carry) for arm in all_arms("s4")} == {
        (mode, follow, carry)
        for mode in ("held", "true", "sliding")
        for follow in (True, False)
        for carry in ("exact", "published")
    }
    for name, variant in VARIANTS.items():
        assert variant.has_time_scale == get_recurrence(variant.recurrence).has_time_scale, name
    assert [arm.name for arm in all_arms("none")] == [
        f"none, {mode}, step_scale 1, exact carry" for mode in ("held", "true", "sliding")
    ]
    book = Workspace(profile)
    held, h2 = book.new_model("s5-held"), book.training("s5-h2")
    assert all(r.layer.bandlimit == 0.5 for r in recurrences(held))
    assert (h2.h2_weight, book.training("s5").h2_weight) == (1.0, 0.0)
    with pytest.raises(InputError, match="there is no model 'gru'"):
        book.new_model("gru")


def test_plan_counts_what_is_missing(study, tmp_path, capsys, monkeypatch):
    smoke = Workspace(replace(get_profile("smoke"), seeds=(0, 1)), tmp_path / "none")
    table = plan_study(smoke)
    assert table[["model", "seed"]].values.tolist() == [
        ["s5", 0],
        ["convlstm", 0],
        ["s5", 1],
        ["convlstm", 1],
    ]
    # 2 s of recordings: 20 Hz with both carries; 40, 100 and 200 Hz true, and sliding with and without step_scale
    assert table["windows"].tolist()[:2] == [2 * (2 * 20 + 3 * 340), 2 * (20 + 2 * 340)]
    assert (table["minutes"] > 0).all()
    monkeypatch.setattr("ssmbook.study.plan.measure", lambda *_: (0.1, 0.01))  # it was measured once
    monkeypatch.setattr(Workspace, "is_trained", lambda own, name: own.run(name).name == "s5")
    planned = plan_study(smoke)
    assert planned["minutes"].eq(0).tolist() == [True, False, False, False]
    training = smoke.profile.training
    smoke.profile = replace(smoke.profile, training=replace(training, burn_in=40))
    added = 60 * (plan_study(smoke)["minutes"] - planned["minutes"])[1:]
    np.testing.assert_allclose(added, training.steps * training.batch_size * 20 * 0.01)
    with pytest.raises(InputError, match="not simulated"):
        plan_study(study)
    assert main(["reproduce", "--profile", "smoke", "--data-dir", str(tmp_path), "--dry-run"]) == 0
    assert "min for training and evaluation" in capsys.readouterr().out


def test_no_two_variants_are_one_model():
    """By all that decides it: S4D with ``bandlimit_mode`` alone, for one, is S4D."""
    found = {}
    for name, variant in VARIANTS.items():
        options = {**options_of(variant.recurrence), **variant.options}
        decides = variant.recurrence, repr(sorted(options.items())), repr(variant.training), variant.rate_hz
        found.setdefault(decides, []).append(name)
    assert [names for names in found.values() if len(names) > 1] == []


def batch(model):
    x = torch.randint(0, 3, (2, 1, 20, *model.input_hw), dtype=torch.uint8)
    return x, torch.tensor([[1, 0]]), torch.tensor([[[0.0, 30, 30, 20, 20]]])


def test_the_h2_norm_joins_the_loss():
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"], clip_eigs=True).train()
    values = batch(model)
    plain, penalised = (TrainingStep(model, Training(h2_weight=weight))(*values)[0] for weight in (0.0, 3.0))
    norms = sum(float(r.h2_norm(math.pi * 0.5).detach()) for r in recurrences(model))
    assert len(recurrences(model)) == 4
    assert norms > 0
    assert float(penalised["h2_norm"]) == pytest.approx(norms)
    difference = penalised["loss"] - plain["loss"]
    assert difference.item() == pytest.approx(3 * norms, rel=1e-3)
    assert "h2_norm" not in plain


def test_training_with_the_h2_norm_lowers_it():
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"], clip_eigs=True).train()
    step, optimizer = TrainingStep(model, Training(h2_weight=1e3)), torch.optim.SGD(model.parameters(), 1e-6)
    values = batch(model)
    norms = []
    for _ in range(3):
        optimizer.zero_grad()
        losses, _ = step(*values)
        losses["loss"].backward()
        optimizer.step()
        norms.append(float(losses["h2_norm"]))
    assert norms[0] > norms[1] > norms[2]


@pytest.mark.parametrize(
    ("options", "weight"), [({}, -1.0), ({"bandlimit": None}, 1.0), ({"recurrence": "none"}, 1.0)]
)
def test_an_h2_weight_that_does_not_fit(options, weight):
    with pytest.raises(InputError, match="h2_weight is"):
        TrainingStep(Detector(**{**PRESETS["sim-smoke"], **options}), Training(h2_weight=weight))


class TestTheCommandTrain:
    """In a book of its own, on the raw set of ``study``."""

    def write_sensor(self, sensor):
        fields = {key: value for key, value in asdict(sensor).items() if key != "class_map"}
        text = yaml.safe_dump({**fields, "classes": list(sensor.classes)})
        Path("tiny_sensor.yaml").write_text(text, encoding="utf-8")

    @pytest.fixture
    def train(self, study, capsys):
        (study.folder / "tiny.yaml").write_text(
            "base: gen1-small\nmodel: sim-smoke\nsensor: tiny_sensor.yaml\n"
            "training: {steps: 1, batch_size: 2, sequence_length: 3, validate_every: 9, workers: 0}\n"
        )
        self.write_sensor(SENSOR)

        def call(*words, code=0):
            command = ["train", "--profile", "tiny.yaml", "--data-dir", str(study.folder), "--json", *words]
            assert main(command) == code
            out, err = capsys.readouterr()
            return json.loads(out) if code == 0 else err

        return call

    def test_what_is_asked_for_counts_before_what_a_variant_has_of_its_own(self, train):
        found = train("--recurrence", "s5-2000", "--steps", "2")
        assert Path(found["run"]).name == "s5-2000_steps=2"
        assert (found["step"], found["steps"]) == (2, 2)
        training = read_json(Path(found["run"]) / "provenance.json")["parameters"]["training"]
        assert training["validate_every"] == 1000  # the variant's

    def test_a_file_to_begin_from_decides_the_recurrence(self, train):
        first = Path(train("--recurrence", "none")["checkpoint"])
        tuned = Path(train("--init", str(first))["checkpoint"])
        assert tuned.parent.name == "none_init=none"  # the run's name, since each run has a model.ckpt
        assert load_checkpoint(tuned).config["recurrence"] == "none"
        error = train("--init", str(first), "--recurrence", "s5", code=1)
        assert "has the recurrence none, and the variant s5 s5; leave the variant out" in error

    def test_a_recurrence_of_ones_own_goes_by_its_name(self, train, monkeypatch):
        monkeypatch.setitem(REGISTRY, "mine", type("Mine", (REGISTRY["none"],), {}))
        assert Path(train("--recurrence", "mine")["run"]).name == "mine"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--seed", "-1"], "seed is -1; it must be at least 0"),
            (["--patience", "-1"], "patience is -1; it must be at least 0"),
            (["--learning-rate", "nan"], "learning_rate is nan; it must be a number above 0"),
            (["--accumulate", "0"], "accumulate is 0; it must be at least 1"),
            (["--mixed-rates", "held"], "mixed_rates is 'held'; it can be true or sliding, or empty"),
            (["--devices", "0"], "0 processes; at least 1 must train"),
            (["--accelerator", "foo"], "accelerator foo, devices 1: "),
        ],
    )
    def test_wrong_values_are_told_in_one_line(self, train, study, words, said):
        error = train(*words, code=1)
        assert said in error
        assert "Traceback" not in error
        assert not (study.folder / "runs").exists()

    def test_a_set_of_another_sensor_is_refused(self, train, study):
        self.write_sensor(replace(SENSOR, classes=("person", "car")))
        (study.folder / "set").rename(study.folder / "other")
        error = train("--data-dir", str(study.folder / "other"), code=1)
        assert "was made for another sensor (classes: ['car', 'pedestrian'] there, ['person', 'car']" in error


def test_nothing_is_simulated_beside_recordings_of_ones_own(study):
    before = sorted(study.folder.rglob("*"))
    with pytest.raises(InputError, match=r"raw: holds train\d_.*, which was not simulated; .* as gen1-small"):
        Workspace("smoke", study.folder).raw()
    assert [path for path in sorted(study.folder.rglob("*")) if path.suffix != ".lock"] == before


def test_a_mistyped_folder_of_data_is_refused_and_not_made(tmp_path, capsys):
    typo = str(tmp_path / "dtaa")
    (tmp_path / "data").mkdir()
    for command in (
        ["reproduce", "--profile", "smoke", "--data-dir", typo],
        ["train", "--profile", "smoke", "--data-dir", typo],
    ):
        assert main(command) == 1
        assert "dtaa: no such folder, for data and runs; is it" in capsys.readouterr().err
    with pytest.raises(InputError, match="dtaa: no such folder"):
        Workspace("smoke", typo).raw()  # as in a chapter under papermill
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_one_place_serves_wherever_a_chapter_runs_and_is_told_first(tmp_path, monkeypatch, capfd):
    """The book's own, from a folder outside it; else that of the book in which one is."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    workspace._tell_place.cache_clear()
    place = Workspace("smoke")
    assert (place.folder, place.tables) == (root / "data" / "smoke", root / "data" / "tables" / "smoke")
    Workspace("smoke")
    told = [f"data and runs: {place.folder}", f"tables: {place.tables}", f"figures: {place.figures}"]
    assert capfd.readouterr().err.splitlines() == told
    (tmp_path / "myst.yml").touch()
    assert Workspace("smoke").folder == tmp_path / "data" / "smoke"
    assert capfd.readouterr().err.startswith(f"data and runs: {tmp_path}")
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_two_folders_of_data_have_tables_of_their_own(tmp_path):
    folders = [tmp_path / "a" / "gen1", tmp_path / "b" / "gen1", ""]
    places = [Workspace("gen1-small", folder) for folder in folders]
    assert len({place.tables for place in places}) == len({place.figures for place in places}) == 3
    default = places[-1]
    assert Workspace("gen1-small", default.folder).tables == default.tables

"""Profiles from YAML files: what they override, what is refused, and a run of one."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from ssmbook import plots
from ssmbook.cli import main
from ssmbook.dataset import get_sensor
from ssmbook.detector import load_checkpoint
from ssmbook.detector.recurrences import REGISTRY, register
from ssmbook.errors import InputError
from ssmbook.events import open_events
from ssmbook.events.simulate import SETS
from ssmbook.live import StreamingDetector
from ssmbook.study import Workspace, get_profile
from ssmbook.study.arms import Arm, Variant
from ssmbook.study.profiles import PROFILES
from ssmbook.study.rates import cells_of
from ssmbook.study.sweep import run_arms
from ssmbook.training import Training, TrainingStep
from ssmbook.training.objective import TERMS
from tests.detector.test_recurrences import GRU

FULL = """
base: smoke
seeds: [3, 5]
representation: traces
simulation: memory
training: {steps: 7, learning_rate: 1}
variants:
  low-gain: {recurrence: s5, options: {state_gain: 3.0}, training: {learning_rate: 0.5}}
arms:
  - {variant: low-gain, mode: traces, follow: true, rates_hz: [20, 200]}
  - {variant: convlstm, mode: sliding, carry: published}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Where the smoke set is simulated by whoever needs it first."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def write(tmp_path):
    def file(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return file


def test_true_without_quotes_is_the_mode(write):
    text = """
base: smoke
seeds: [0, 1]
variants: {own: {recurrence: s5, training: {mixed_rates: true}, rate_hz: 20}}
arms: [{variant: own, mode: true, rates_hz: [20], seeds: [1]}]
"""
    profile = get_profile(write(text))
    assert profile.arms == (Arm("own", "true", rates_hz=(20.0,), seeds=(1,)),)
    assert profile.variant("own").training == {"mixed_rates": "true"}


def test_the_rehearsal_of_gen1_is_of_its_sensor():
    profile = get_profile(str(Path(__file__).parents[2] / "examples" / "gen1_rehearsal.yaml"))
    sensor, scene = get_sensor(profile.sensor), SETS["rehearsal"].scene
    assert (scene.width, scene.height) == (sensor.width, sensor.height)
    assert 1000 / scene.label_hz == sensor.label_interval_ms
    assert profile.model == "gen1-small"
    assert {arm.mode for arm in profile.arms} == {"held", "true", "sliding", "traces"}


def test_options_of_the_representation(write):
    text = "base: smoke\nrepresentation: traces\nrepresentation_options: {taus_ms: [5, 20]}"
    assert Workspace(get_profile(write(text))).represent.taus_ms == (5, 20)


def test_a_file_overrides_what_it_names(write):
    profile, base = get_profile(write(FULL)), PROFILES["smoke"]
    assert (profile.name, profile.seeds, profile.representation, profile.data) == (
        "mine",
        (3, 5),
        "traces",
        "memory",
    )
    assert profile.training == replace(base.training, steps=7, learning_rate=1.0)
    assert profile.arms == (
        Arm("low-gain", "traces", follow=True, rates_hz=(20.0, 200.0)),
        Arm("convlstm", "sliding", carry="published"),
    )
    assert profile.variant("low-gain") == Variant("s5", {"state_gain": 3.0}, {"learning_rate": 0.5})
    place = Workspace(profile)
    assert place.training("low-gain").learning_rate == 0.5
    assert place.new_model("low-gain").config["state_gain"] == 3.0
    assert len(cells_of(place)) == 2 * (2 + 4)
    assert get_profile(write("base: smoke")) == replace(base, name="mine")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: smke", "base is 'smke'; is it smoke?"),
        ("sed: [1]", "the file: key is 'sed'; is it seeds?"),
        ("- 1", "the file is [1]; it must map names to values"),
        ("seeds: 3", "seeds is 3; it must be a list"),
        ("seeds: [x]", "seeds is 'x'; it must be of type int"),
        ("training: {stps: 3}", "training: key is 'stps'; is it steps?"),
        ("training: {steps: many}", "training: steps is 'many'; it must be of type int"),
        ("training: {augment: 1}", "training: augment is 1; it must be of type bool"),
        ("variants: {a: {recurrence: convlsm}}", "variants: a: recurrence is 'convlsm'; is it convlstm?"),
        ("variants: {a: {recurrence: s5, weight: 1}}", "variants: a: key is 'weight'"),
        (
            "variants: {a: {recurrence: s5, options: {low_pas: true}}}",
            "variants: a: options: recurrence 's5' has no option 'low_pas'; its options are bandlimit, ",
        ),
        (
            "variants: {a: {recurrence: none, options: {bandlimit: 1}}}",
            "variants: a: options: recurrence 'none' has no",
        ),
        (
            "variants: {a: {recurrence: s5, options: {state_gain: much}}}",
            "state_gain must be a number above 0",
        ),
        (
            "variants: {a: {recurrence: s5, options: {bandlimit: '1'}}}",
            "variants: a: options: bandlimit must be a number above 0",
        ),
        ("arms: [{variant: s5, mode: slidng}]", "arms: 1: mode is 'slidng'; is it sliding?"),
        ("arms: [{variant: s55, mode: held}]", "arms: 1: variant is 's55'; is it s5?"),
        ("arms: [{variant: none, mode: held, follow: true}]", "none has no time scale"),
        ("arms: [{variant: s5, mode: held, rates_hz: [0]}]", "must lie between"),
        ("arms: []", "at least one entry"),
        ("arms: [{variant: s5, mode: held, seeds: [1.5]}]", "arms: 1: seeds is 1.5; it must be of type int"),
        (
            "seeds: [2, 3]\narms: [{variant: s5, mode: held, seeds: [2, 4]}]",
            "arms: 1: seeds has 4; the profile's are 2, 3",
        ),
        ("variants: {a: {recurrence: s5, rate_hz: 0}}", "variants: a: rate_hz is 0; a rate must lie between"),
        (
            "variants: {a: {recurrence: s5, rate_hz: 40, training: {mixed_rates: 'true'}}}",
            "variants: a: a model of mixed rates has no rate_hz of its own, 40",
        ),
        ("representation_options: [5]", "representation_options is [5]; it must map names to values"),
        ("simulation: memry", "simulation is 'memry'; is it memory?"),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_name(write, text, words):
    path = write(text)
    with pytest.raises(InputError) as error:
        get_profile(path)
    assert str(error.value).startswith(path)
    assert words in str(error.value)


def test_a_mistyped_profile_is_refused(capsys):
    assert main(["reproduce", "--profile", "stdy"]) == 1
    assert "there is no profile 'stdy'; is it study?" in capsys.readouterr().err
    assert main(["reproduce", "--profile", "none.yaml"]) == 1
    assert "none.yaml: no such file; give the YAML file of a profile" in capsys.readouterr().err


def test_the_page_s_ten_lines_run(data, tmp_path):
    """As they are printed, but on the smoke set, with one seed, rate and step: trained and in the table."""
    page = (Path(__file__).parents[2] / "pages" / "experiments.md").read_text()
    text = page.partition(":filename: low_gain.yaml\n")[2].partition("```")[0]
    assert 9 <= len(text.strip().splitlines()) <= 11
    (tmp_path / "low_gain.yaml").write_text(text)
    profile = get_profile(str(tmp_path / "low_gain.yaml"))
    assert (profile.seeds, profile.training.steps) == ((0, 1), 1000)
    short = {"base: demo": "base: smoke", "[0, 1]": "[1]", "steps: 1000": "steps: 1", "[20, 200]": "[20]"}
    for words, fewer in short.items():
        assert words in text
        text = text.replace(words, fewer)
    (tmp_path / "low_gain.yaml").write_text(text)
    place = Workspace(str(tmp_path / "low_gain.yaml"), data, workers=1)
    table = run_arms(place, place.profile.arms, progress=False)
    assert table[["model", "seed", "rate_hz"]].values.tolist() == [["low-gain", 1, 20.0]]
    trained = load_checkpoint(data / "runs" / "low-gain_seed=1" / "model.ckpt")
    assert (trained.config["recurrence"], trained.config["state_gain"]) == ("s5-selective", 3.0)


def test_a_term_of_the_loss_is_a_function_and_a_variant_that_names_it(write, monkeypatch):
    monkeypatch.setitem(
        TERMS, "size", lambda model, features, targets: model.neck.reduce4.conv.weight.square().sum()
    )
    profile = get_profile(
        write("base: smoke\nvariants: {a: {recurrence: none, training: {terms: {size: 0.5}}}}")
    )
    place = Workspace(profile)
    model, training = place.new_model("a"), place.training("a")
    values = torch.zeros(2, 1, 20, 64, 64), torch.tensor([[1, 0]]), torch.tensor([[[0.0, 20, 20, 16, 16]]])
    plain, with_term = (TrainingStep(model, each)(*values)[0] for each in (Training(), training))
    assert with_term["size"] > 0
    torch.testing.assert_close(with_term["loss"], plain["loss"] + 0.5 * with_term["size"])
    with_term["loss"].backward()
    with pytest.raises(
        InputError, match="loss term is 'sise'; it must be one of h2_norm, size; did you mean 'size'"
    ):
        TrainingStep(model, Training(terms={"sise": 1.0}))
    with pytest.raises(InputError, match="training: terms: size is 'much'; it must be of type float"):
        get_profile(write("training: {terms: {size: much}}"))


def test_a_recurrence_of_ones_own_is_trained_evaluated_run_live_and_drawn_by_its_name(data, tmp_path):
    register("gru")(GRU)
    try:
        (tmp_path / "mine.yaml").write_text(
            "base: smoke\ntraining: {steps: 1}\nvariants: {two: {recurrence: gru, options: {layers: 2}}}\n"
            "arms: [{variant: two, mode: sliding, rates_hz: [20]}]"
        )
        place = Workspace(str(tmp_path / "mine.yaml"), data, workers=1)
        assert not place.profile.variant("two").has_time_scale
        table = run_arms(place, place.profile.arms, progress=False)
        model = place.model("two")
        assert (model.config["recurrence"], model.config["layers"]) == ("gru", 2)
        recording = next((place.raw() / "test").glob("*_td*"))
        with open_events(recording) as file:
            windows = StreamingDetector(model, place.sensor).push(file.read(0, 200_000))
        assert [later.t_us - first.t_us for first, later in pairwise(windows)] == [50_000, 50_000]
        (panel,) = plots.rate_panels(table).axes
        assert [line.get_label() for line in panel.lines if not line.get_label().startswith("_")]
    finally:
        del REGISTRY["gru"]

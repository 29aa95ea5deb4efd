"""Every step is detected in, and interventions change what it is given: against plain loops over single windows."""

import numpy as np
import pytest
import torch
from busy import busy_detector, random_sequence
from training_set import SENSOR

from ssmbook.dataset import EvaluationStreams, find_sequences
from ssmbook.detector import nms
from ssmbook.errors import InputError
from ssmbook.evaluation import StreamingEvaluator, evaluate, every_window, to_boxes
from ssmbook.evaluation.interventions import CutState, HoldInput, HoldState, NoEvents, OtherState

FAST, SLOW, LENGTH = 10_000, 50_000, 4
ENDS = FAST * np.arange(1, 19)
OPTIONS = {"trained_us": SLOW}


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """Windows every 10 ms, to 180 ms; the last chunk of 4 is padded."""
    folder = tmp_path_factory.mktemp("fast") / "test"
    folder.mkdir()
    for seed, name in enumerate(("a", "b")):
        random_sequence(folder, name, ENDS, seed)
    return find_sequences(folder)


@pytest.fixture(scope="module")
def model():
    return busy_detector()


def frame(sequence, k):
    return torch.from_numpy(sequence.frames(k, k + 1))[:, None]


@torch.no_grad()
def loop(model, sequence, step):
    """Boxes of each window; ``step(k, states)`` gives features and the states that are carried on."""
    states, found = None, []
    for k in range(len(sequence)):
        features, states = step(k, states)
        found += to_boxes(nms(model.predict(features), 0.001), [int(ENDS[k])])
    return found


def check(result, sequences, wanted):
    for sequence in sequences:
        steps = result.steps[sequence.name]
        assert steps.times_us.tolist() == ENDS.tolist()
        boxes = wanted(sequence)
        assert sum(map(len, boxes)) > 50
        for found, expected in zip(steps.boxes, boxes, strict=True):
            assert len(found) == len(expected)
            for name in ("t", "x", "y", "w", "h", "class_id", "class_confidence"):
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-4)


def run(model, sequences, *interventions):
    return evaluate(
        model,
        EvaluationStreams(sequences, LENGTH, 2),
        SENSOR,
        intervene=interventions,
        every_step=True,
        **OPTIONS,
    )


def differ(one, other):
    return any(
        len(a) != len(b) or not np.allclose(a["x"], b["x"], atol=1e-3)
        for a, b in zip(one.steps["a"].boxes, other.steps["a"].boxes, strict=True)
    )


def test_every_window_is_detected_in_and_labelled_ones_are_scored_as_ever(model, sequences):
    result = run(model, sequences)
    check(
        result,
        sequences,
        lambda s: loop(model, s, lambda k, states: model.features(frame(s, k), states, 0.2)),
    )
    labelled = evaluate(model, EvaluationStreams(sequences, LENGTH, 2), SENSOR, **OPTIONS)
    assert labelled.sequences == result.sequences
    assert labelled.metrics == pytest.approx(result.metrics, nan_ok=True)
    for one, other in zip(labelled.detections, result.detections, strict=True):
        np.testing.assert_allclose(one["x"], other["x"], rtol=1e-5, atol=1e-4)
    assert labelled.steps["a"].times_us.tolist() == ENDS[2::3].tolist()


def test_an_intervention_that_changes_nothing_changes_nothing(model, sequences):
    result = run(model, sequences, lambda advance, step: advance(step))
    check(
        result,
        sequences,
        lambda s: loop(model, s, lambda k, states: model.features(frame(s, k), states, 0.2)),
    )


def test_a_held_input_is_that_of_the_last_tick(model, sequences):
    """Windows 0 to 3 end before the first tick, at 50 ms: they hold the first frame."""

    def wanted(s):
        held = lambda k: max((k + 1) // 5 * 5 - 1, 0)  # noqa: E731
        return loop(model, s, lambda k, states: model.features(frame(s, held(k)), states, 0.2))

    result = run(model, sequences, HoldInput(SLOW))
    check(result, sequences, wanted)
    assert differ(result, run(model, sequences))


def test_a_held_state_is_that_of_the_slow_detector_read_with_the_fast_input(model, sequences):
    def wanted(s):
        slow = {-1: None}  # the states after the ticks
        for k in range(4, len(s), 5):
            slow[k] = model.features(frame(s, k), slow[k - 5] if k > 4 else None, 1.0)[1]

        def step(k, _):
            last = k // 5 * 5 - 1 if (k + 1) % 5 else k - 5
            last = max(last, -1)
            return model.features(frame(s, k), slow[last], (k - last) * FAST / SLOW)

        with torch.no_grad():
            return loop(model, s, step)

    result = run(model, sequences, HoldState(SLOW))
    check(result, sequences, wanted)
    assert differ(result, run(model, sequences))


@pytest.mark.parametrize("recurrence", ["s5", "convlstm"])
def test_without_any_state_at_chunks_is_the_published_carry(sequences, recurrence):
    streams = EvaluationStreams(sequences, LENGTH, 2)
    model = busy_detector(recurrence)
    result = evaluate(model, streams, SENSOR, intervene=[CutState((1, 2, 3, 4))])
    model.carry = "published"
    published = evaluate(model, streams, SENSOR, every_step=True)
    check(result, sequences, lambda s: published.steps[s.name].boxes)


@pytest.mark.parametrize("every", ["chunk", "step"])
def test_one_stage_starts_from_zero(model, sequences, every):
    def wanted(s):
        def step(k, states):
            if states is not None and (every == "step" or k % LENGTH == 0):
                states = [torch.zeros_like(state) if i == 2 else state for i, state in enumerate(states)]
            return model.features(frame(s, k), states, 0.2)

        return loop(model, s, step)

    result = run(model, sequences, CutState([3], every))
    check(result, sequences, wanted)
    assert differ(result, run(model, sequences))


def test_the_state_of_another_sequence_is_read_and_the_own_is_carried(model, sequences):
    def states_of(s):
        states, after = None, []
        for k in range(len(s)):
            after.append(states)
            states = model.features(frame(s, k), states, 0.2)[1]
        return after

    def wanted(s):
        with torch.no_grad():
            others = states_of(next(other for other in sequences if other is not s))
        return loop(model, s, lambda k, _: model.features(frame(s, k), others[k], 0.2))

    result = run(model, sequences, OtherState())
    check(result, sequences, wanted)
    assert differ(result, run(model, sequences))


def test_no_events_are_frames_of_zeros(model, sequences):
    for period, kept in ((None, []), (SLOW, [4, 9, 14])):

        def wanted(s, kept=kept):
            x = lambda k: frame(s, k) * (k in kept)  # noqa: E731
            return loop(model, s, lambda k, states: model.features(x(k), states, 0.2))

        check(run(model, sequences, NoEvents(period)), sequences, wanted)


def test_interventions_nest_with_the_first_outermost(model, sequences):
    """The input is held, and what is held is emptied: nothing is left, whichever comes first."""
    empty = run(model, sequences, NoEvents())
    assert not differ(run(model, sequences, NoEvents(), HoldInput(SLOW)), empty)
    assert not differ(run(model, sequences, HoldInput(SLOW), NoEvents()), empty)
    order = []

    def note(name):
        def intervention(advance, step):
            order.append(name)
            return advance(step)

        return intervention

    run(model, sequences, note("outer"), note("inner"))
    assert order[:4] == ["outer", "inner"] * 2


def test_what_cannot_be_run_says_why(model, sequences):
    streams = EvaluationStreams(sequences, LENGTH, 1)
    with pytest.raises(InputError, match="batch_size of 2"):
        evaluate(model, streams, SENSOR, intervene=[OtherState()])
    with pytest.raises(InputError, match="every_window"):
        StreamingEvaluator(model, SENSOR, intervene=[NoEvents()]).push(streams[0])
    with pytest.raises(InputError, match="needs EvaluationStreams, not a list"):
        evaluate(model, list(streams), SENSOR, every_step=True)
    published = busy_detector()
    published.carry = "published"
    with pytest.raises(InputError, match="carry='exact'"):
        StreamingEvaluator(published, SENSOR, intervene=[NoEvents()]).push(next(every_window(streams)))
    with pytest.raises(InputError, match="stages of 1 to 4"):
        CutState([0])


def test_evaluation_leaves_each_module_in_its_mode_and_computes_fp32_without_tf32(sequences):
    torch.backends.cuda.matmul.allow_tf32 = True
    model = busy_detector().train()
    model.neck.eval()
    modes = [module.training for module in model.modules()]
    streams = EvaluationStreams(sequences, LENGTH, 2)
    evaluate(model, streams, SENSOR, **OPTIONS)
    assert [module.training for module in model.modules()] == modes
    assert not torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(InputError, match="precision is 'fp8'"):
        evaluate(model, streams, SENSOR, precision="fp8", **OPTIONS)
    assert [module.training for module in model.modules()] == modes

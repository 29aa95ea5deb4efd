import numpy as np
import pytest
import torch

from ssmbook.detector import PRESETS, RECURRENCES, Detector, detach_states, nms, reset_states
from ssmbook.detector.recurrences import map_states
from ssmbook.errors import InputError

SMOKE = PRESETS["sim-smoke"]


def make(**options):
    torch.manual_seed(0)
    model = Detector(**{**SMOKE, **options})
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            torch.nn.init.normal_(parameter)  # attention counts from the start
    return model.eval()


def counts(L, B, h=64, w=64):
    return torch.randint(0, 4, (L, B, 20, h, w), dtype=torch.uint8)


def assert_same(a, b, tolerance=1e-10):
    """Features or states, tensor by tensor."""
    found = [], []
    for tensors, part in zip(found, (a, b), strict=True):
        map_states(tensors.append, list(part.values()) if isinstance(part, dict) else part)
    assert len(found[0]) == len(found[1])
    for x, y in zip(*found, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance)


def in_chunks(model, x, sizes, **kwargs):
    states, parts = None, []
    for chunk in x.split(sizes):
        features, states = model.features(chunk, states, **kwargs)
        parts.append(features)
    return {i: torch.cat([p[i] for p in parts]) for i in parts[0]}, states


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("gen1-small", 9_677_205), ("gen1-base", 18_192_149), ("gen4-base", 18_192_536)],
)
def test_published_networks_have_their_parameter_counts(preset, parameters):
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        # Only shapes are wanted here, and S5's start takes eigenvalues, which the meta device has not.
        patch.setattr("ssmbook.detector.recurrences.s5.S5", MetaS5)
        model = Detector(**PRESETS[preset])
    assert sum(p.numel() for p in model.parameters()) == parameters


class MetaS5(torch.nn.Module):
    """The parameters of S5 by its definition."""

    def __init__(self, H, P, **_):
        super().__init__()
        shapes = {"Lambda": (P, 2), "B": (P, H, 2), "C": (H, P, 2), "D": (H,), "log_step": (P,)}
        for name, shape in shapes.items():
            self.register_parameter(name, torch.nn.Parameter(torch.empty(shape)))


def test_every_preset_divides_its_input():
    for name, preset in PRESETS.items():
        assert preset["embed_dim"] % preset["dim_head"] == 0, name
        for size, group in zip(preset["input_hw"], preset["partition"], strict=True):
            assert size % (32 * group) == 0, name


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_chunked_is_whole_is_step_by_step(recurrence):
    model = make(recurrence=recurrence).double()
    x = counts(6, 2)
    with torch.no_grad():
        whole = model.features(x)
        for sizes in ([2, 4], [1] * 6):
            parts = in_chunks(model, x, sizes)
            assert_same(parts[0], whole[0])
            assert_same(parts[1], whole[1])


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_every_validation_uses_the_weights_of_its_step(recurrence):
    """Also after the first one: a fused optimiser changes weights without a version that could be looked at."""
    model, x = make(recurrence=recurrence), counts(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for _ in range(2):
        reloaded = make(recurrence=recurrence)
        reloaded.load_state_dict(model.state_dict())
        with torch.no_grad():
            for chunk in (x, x[:1]):
                for ours, expected in zip(
                    model.eval().features(chunk), reloaded.features(chunk), strict=True
                ):
                    assert_same(ours, expected, 1e-6)
        features = model.train().features(x)[0]
        sum(f.square().mean() for f in features.values()).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("recurrence", ["s5", "convlstm"])
def test_published_carry_starts_every_chunk_from_zero(recurrence):
    exact, published = (make(recurrence=recurrence, carry=c).double() for c in ("exact", "published"))
    published.load_state_dict(exact.state_dict())
    x = counts(4, 1)
    with torch.no_grad():
        carried, last = in_chunks(published, x, [2, 2])
        alone = [exact.features(chunk) for chunk in x.split(2)]
        assert_same(carried, {i: torch.cat([features[i] for features, _ in alone]) for i in carried})
        assert_same(last, alone[1][1])
        in_effect, _ = in_chunks(exact, x, [2, 2])
        for i in carried:  # carried exactly, every stage sees the past
            assert (in_effect[i][2:] - carried[i][2:]).abs().max() > 1e-4
            assert torch.equal(in_effect[i][:2], carried[i][:2])


def test_states_are_laid_out_as_documented():
    x = counts(2, 3)
    with torch.no_grad():
        _, s5 = make().features(x)
        _, lstm = make(recurrence="convlstm").features(x)
        _, none = make(recurrence="none").features(x)
    shapes = [(3, 8, 16, 16), (3, 16, 8, 8), (3, 32, 4, 4), (3, 64, 2, 2)]
    assert [tuple(s.shape) for s in s5] == shapes
    assert all(s.is_complex() for s in s5)
    assert [(tuple(h.shape), tuple(c.shape)) for h, c in lstm] == [(s, s) for s in shapes]
    assert none == [None] * 4


def test_step_scale_is_a_number_per_slot_or_per_frame():
    model = make().double()
    x = counts(3, 2)
    with torch.no_grad():
        plain = model.features(x)[0]
        slow = model.features(x, step_scale=0.1)[0]
        assert (plain[1] - slow[1]).abs().max() > 1e-3
        per_slot = model.features(x, step_scale=torch.tensor([1.0, 0.1]).double())[0]
        per_frame = model.features(x, step_scale=torch.tensor([[1.0, 0.1]] * 3).double())[0]
    for scaled in (per_slot, per_frame):
        assert_same({i: scaled[i][:, 0] for i in plain}, {i: plain[i][:, 0] for i in plain})
        assert_same({i: scaled[i][:, 1] for i in plain}, {i: slow[i][:, 1] for i in plain})


def test_frames_are_padded_at_the_bottom_and_right():
    model = make()
    x = counts(1, 2, 50, 60)
    padded = torch.zeros(1, 2, 20, 64, 64)
    padded[..., :50, :60] = x
    with torch.no_grad():
        assert_same(model.features(x)[0], model.features(padded)[0], 0)
        assert_same(model.features(x)[0], model.features(x.float())[0], 0)


def test_frames_picks_the_labelled_ones():
    model = make()
    x = counts(3, 2)
    frames = torch.tensor([[2, 0], [0, 1], [2, 0]])
    with torch.no_grad():
        features, states = model.features(x)
        picked, same = model.features(x, frames=frames)
        assert_same(states, same, 0)
        for i, whole in features.items():
            assert torch.equal(picked[i], torch.stack([whole[2, 0], whole[0, 1], whole[2, 0]]))
        predictions = model.predict(features)
        assert predictions.shape == (3, 2, 64 + 16 + 4, 7)
        torch.testing.assert_close(model.predict(picked)[1], predictions[0, 1], rtol=0, atol=1e-4)
        none, _ = model.features(x, frames=torch.zeros(0, 2, dtype=torch.long))
        assert model.predict(none).shape == (0, 84, 7)


def test_a_slot_does_not_depend_on_its_batch():
    model = make().double()
    x = counts(2, 3)
    with torch.no_grad():
        assert_same({i: f[:, 1:2] for i, f in model.features(x)[0].items()}, model.features(x[:, 1:2])[0])


def test_reset_makes_a_slot_start_anew():
    model = make().double()
    x = counts(4, 2)
    with torch.no_grad():
        _, states = model.features(x[:2])
        features, _ = model.features(x[2:], reset_states(states, torch.tensor([True, False])))
        fresh, _ = model.features(x[2:])
        whole, _ = model.features(x)
    for i in features:
        torch.testing.assert_close(features[i][:, 0], fresh[i][:, 0], rtol=0, atol=1e-10)
        torch.testing.assert_close(features[i][:, 1], whole[i][2:, 1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("recurrence", ["s5", "convlstm"])
def test_gradients_pass_through_the_state_unless_detached(recurrence):
    model = make(recurrence=recurrence)
    x = counts(2, 1).float().requires_grad_()
    for cut in (False, True):
        _, states = model.features(x[:1])
        features, _ = model.features(x[1:], detach_states(states) if cut else states)
        (gradient,) = torch.autograd.grad(features[4].square().sum(), x)
        assert bool(gradient[0].any()) is not cut
        assert gradient[1].any()


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("part", [1, 3 * 16 * 16 * SMOKE["embed_dim"]])  # one frame at a time, three
def test_checkpointing_keeps_less_and_changes_nothing(recurrence, part, monkeypatch):
    monkeypatch.setattr("ssmbook.detector.backbone.PART", part)
    x, targets = counts(4, 2), torch.tensor([[[0.0, 20, 20, 16, 12]]] * 4).double()
    hidden = torch.rand(4, 2, 16, 16) < 0.3
    found = []
    for checkpointing in (False, True):
        model = make(recurrence=recurrence, checkpointing=checkpointing, mask_token=True).double()
        torch.nn.init.normal_(model.backbone.stages[0].mask_token)
        kept = {}

        def keep(tensor, kept=kept):
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            _, states = model.features(x[:1])
            features, _ = model.features(x, states, token_mask=hidden)
        losses = model.loss({i: f[:, 0] for i, f in features.items()}, targets)
        losses["loss"].backward()
        found.append(([p.grad for p in model.parameters()], sum(kept.values())))
    (plain, most), (again, least) = found
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert least < 0.6 * most  # the MLPs of the attention keep nothing either way


def test_a_few_steps_learn_one_frame():
    torch.manual_seed(0)
    model = Detector(**SMOKE)
    x = counts(1, 2)
    targets = torch.tensor([[[0.0, 20, 20, 16, 12]], [[1.0, 40, 44, 10, 24]]])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    seen = []
    for _ in range(40):
        features, _ = model.features(x, frames=torch.tensor([[0, 0], [0, 1]]))
        losses = model.loss(features, targets)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        seen.append(float(losses["loss"].detach()))
    assert list(losses) == ["loss", "iou_loss", "conf_loss", "cls_loss", "l1_loss", "num_fg"]
    assert seen[-1] < 0.75 * seen[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_half_precision_ends_at_the_head():
    model = make().train()
    x, targets = counts(2, 1), torch.tensor([[[0.0, 20, 20, 16, 12]]] * 2)
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            features, _ = model.features(x)
            losses.append(model.loss({i: f[:, 0] for i, f in features.items()}, targets)["loss"].detach())
            assert nms(model.predict(features), 0.0)[0].dtype == torch.float32
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_hw": (64, 80)}, r"\(64, 80\).*32"),
        ({"dim_head": 3}, "dim_head 3 does not divide embed_dim 8"),
        ({"carry": "none"}, "'none'"),
        ({"recurrence": "gru"}, "'gru'"),
        ({"recurrence": ["s5"]}, r"recurrence is \['s5'\]; it must be one of s5"),
        ({"clip_eigs": "false"}, "clip_eigs must be True or False, not 'false'"),
        ({"mask_token": "false"}, "mask_token must be True or False, not 'false'"),
        ({"bandlimit": "0.5"}, "bandlimit must be a number"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"partition": 2}, "partition must be a pair"),
        ({"input_hw": "64"}, "input_hw must be a pair"),
        ({"partition": (2, None)}, "partition must be a number"),
        ({"embed_dim": 8.5}, "embed_dim must be a whole number"),
        ({"embed_dim": 10**9}, "embed_dim is 1000000000"),
        ({"fpn_depth": None}, "fpn_depth must be a number"),
        ({"fpn_depth": 10**9}, "fpn_depth is"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(InputError, match=message):
        Detector(**{**SMOKE, **options})


def test_arguments_of_numpy_are_taken():
    other = {name: np.array(v) if isinstance(v, int | float | tuple) else v for name, v in SMOKE.items()}
    assert Detector(**other).config == Detector(**SMOKE).config


def test_inputs_that_do_not_fit():
    model = make()
    x = counts(2, 1)
    for bad in (x[0], x[:, :, :10], counts(1, 1, 65, 64), x[:0]):
        with pytest.raises(InputError, match="x must be"):
            model.features(bad)
    with pytest.raises(InputError, match="step_scale"):
        model.features(x, step_scale=torch.ones(3))
    for recurrence in ("s5", "convlstm"):
        for scale in (-1, 0.0, float("nan"), torch.tensor([[1.0], [0.0]])):
            with pytest.raises(InputError, match="step_scale must be above 0 and finite"):
                make(recurrence=recurrence).features(x, step_scale=scale)
    with pytest.raises(InputError, match="states must be a list of 4"):
        model.features(x, states=[None])
    with pytest.raises(InputError, match="mask_token=True"):
        model.features(x, token_mask=torch.ones(2, 1, 16, 16, dtype=torch.bool))
    with pytest.raises(InputError, match="token_mask must be"):
        make(mask_token=True).features(x, token_mask=torch.ones(2, 1, 8, 8, dtype=torch.bool))
    features, _ = model.features(x)
    with pytest.raises(InputError, match="targets"):
        model.loss(features, torch.zeros(2, 1, 5))
    frames = {i: f.flatten(0, 1) for i, f in features.items()}
    with pytest.raises(InputError, match="targets"):
        model.loss(frames, torch.zeros(3, 1, 5))
    for wrong in (-1, 2, float("nan")):
        targets = torch.tensor([[[wrong, 20.0, 20.0, 10.0, 10.0], [0.0, 9.0, 9.0, 8.0, 8.0]]] * 2)
        with pytest.raises(InputError, match=f"class {wrong}; the model has 2 classes"):
            model.loss(frames, targets)
    with pytest.raises(InputError, match="class 2; the model has 2 classes"):
        model.loss(frames, torch.tensor([[[2.0, 1, 1, 1, 1]]] * 2))


def test_states_of_other_models_are_refused():
    x, model = counts(2, 1), make()
    for other in (
        make(recurrence="convlstm"),
        make(embed_dim=16),
        make(recurrence="s4d"),
        make(low_pass=True),
    ):
        states = other.features(x)[1]
        with pytest.raises(
            InputError, match=r"the state of S5Block must be tensors \[B, ·, h, w\] of widths \[8\]"
        ):
            model.features(x, states)
        with pytest.raises(InputError, match=r"the state of .* must be tensors"):
            other.features(x, model.features(x)[1])
    for wrong in (1, "state", torch.zeros(8), (torch.zeros(1, 8, 16, 16),)):
        with pytest.raises(InputError, match="the state"):
            model.features(x, [wrong] * 4)


def test_frames_that_a_chunk_has_not_are_refused():
    model, x = make(), counts(2, 1)
    for frame in ([2, 0], [0, 1], [-1, 0]):
        with pytest.raises(InputError, match="l below 2 and b below 1"):
            model.features(x, frames=torch.tensor([frame]))
    for frames in (torch.zeros(2, dtype=torch.long), torch.zeros(1, 2)):
        with pytest.raises(InputError, match=r"frames must be integers \[M, 2\]"):
            model.features(x, frames=frames)


def test_one_frame_is_predicted_without_leading_axes():
    model = make()
    features = {i: f[0, 0] for i, f in model.features(counts(1, 1))[0].items()}
    expected = model.predict({i: f[None] for i, f in features.items()})[0]
    assert torch.equal(model.predict(features), expected)

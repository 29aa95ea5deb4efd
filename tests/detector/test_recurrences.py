"""What a recurrence must say of itself is enough: a GRU in this file and one registration."""

import math

import pytest
import torch
from torch import nn

from ssmbook.detector import PRESETS, RECURRENCES, Detector, load_checkpoint, save_checkpoint
from ssmbook.detector.recurrences import REGISTRY, Recurrence, make_recurrence, options_of, register
from ssmbook.errors import InputError
from ssmbook.live.export import step_and_arguments
from ssmbook.live.step import NetworkStep
from ssmbook.study.sizes import frame_flops

HW = (64, 64)


class GRU(Recurrence):
    def __init__(self, channels, *, layers=1):
        super().__init__()
        self.channels = channels
        self.cells = nn.ModuleList(nn.GRUCell(channels, channels) for _ in range(layers))

    def state_widths(self):
        return {f"_h{i}": self.channels for i in range(len(self.cells))}

    def forward(self, x, state=None, step_scale=1.0):
        state, outputs = list(state or [torch.zeros_like(x[0])] * len(self.cells)), []
        for x_t in x.unbind(0):
            for i, cell in enumerate(self.cells):
                x_t = state[i] = cell(x_t, state[i])
            outputs.append(x_t)
        return torch.stack(outputs), tuple(state)


@pytest.fixture
def gru():
    register("gru")(GRU)
    yield
    del REGISTRY["gru"]


def make(recurrence, **options):
    torch.manual_seed(0)
    return Detector(**{**PRESETS["sim-smoke"], "recurrence": recurrence, **options}).eval()


@pytest.mark.usefixtures("gru")
def test_a_recurrence_of_ones_own_trains_streams_exports_and_is_counted(tmp_path):
    model = make("gru", layers=2)
    x = torch.randint(0, 4, (3, 1, 20, *HW), dtype=torch.uint8)
    before = [p.detach().clone() for p in model.backbone.stages[1].recurrence.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    features, _ = model.train().features(x)
    targets = torch.tensor([[[0.0, 32, 32, 16, 16]]] * 3)
    model.loss({i: f.flatten(0, 1) for i, f in features.items()}, targets)["loss"].backward()
    optimizer.step()
    after = model.eval().backbone.stages[1].recurrence.parameters()
    assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))

    save_checkpoint(tmp_path / "model.ckpt", model)
    model = load_checkpoint(tmp_path / "model.ckpt").eval()
    assert model.config["layers"] == 2
    with torch.no_grad():
        expected = model.predict(model.features(x)[0])
    step = NetworkStep(model, HW)
    with torch.no_grad():
        program = torch.export.export(*step_and_arguments(model, HW)).module()
    states = [torch.zeros(1, 8 * 2**i, 16 >> i, 16 >> i) for i in range(4) for _ in range(2)]
    for frame, wanted in zip(x, expected, strict=True):
        torch.testing.assert_close(step(frame[0]), wanted[0], rtol=1e-4, atol=1e-4)
        predictions, *states = program(frame, *states)
        torch.testing.assert_close(predictions, wanted, rtol=1e-4, atol=1e-4)

    none = frame_flops(make("none"))[0]
    pixels = [(64 // 2 ** (2 + i)) ** 2 for i in range(4)]
    cost = sum(
        n * 2 * 2 * 2 * 3 * (8 * 2**i) ** 2 for i, n in enumerate(pixels)
    )  # 2 cells, 2 products C → 3C each
    assert frame_flops(model)[0] - none == cost


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_options_that_a_recurrence_has_not_are_refused(recurrence):
    known = options_of(recurrence)
    every = {"bandlimit": 0.25, "bandlimit_mode": "held", "clip_eigs": True, "state_gain": 10.0, "depth": 3}
    for name, value in every.items():
        if name in known:
            assert make(recurrence, **{name: value}).config[name] == value
        else:
            with pytest.raises(InputError, match=f"no option '{name}'; .*{', '.join(known) or 'no options'}"):
                make(recurrence, **{name: value})


def test_the_registry_has_the_library_s_recurrences():
    assert set(RECURRENCES) == set(REGISTRY)
    assert [n for n in RECURRENCES if REGISTRY[n].has_time_scale] == [
        "s5",
        "s5-selective",
        "s4d",
        "s4",
        "mamba",
        "convlstm",
    ]


def test_the_parameters_of_mamba_are_as_many_as_stated():
    for C in (16, 64, 200):
        counts = [sum(p.numel() for p in make_recurrence(n, C).layer.parameters()) for n in ("mamba", "s5")]
        assert counts == [C * (50 + 2 * math.ceil(C / 16)), 4 * C * (C + 1)]
    counts = [sum(p.numel() for p in make_recurrence(n, 64).parameters()) for n in ("mamba", "s5")]
    assert counts == [16_256, 29_184]


@pytest.mark.parametrize("recurrence", ["convlstm", "s4d", "none"])
def test_files_that_name_options_without_effect_load(tmp_path, recurrence):
    """As earlier versions wrote them: S5's options beside any recurrence."""
    model = make(recurrence)
    expected = dict(model.config)
    model.config |= {"bandlimit": 0.5, "bandlimit_mode": "held", "clip_eigs": True}
    save_checkpoint(tmp_path / "model.ckpt", model)
    assert load_checkpoint(tmp_path / "model.ckpt").config == expected


def test_another_recurrence_leaves_the_options_of_the_file(tmp_path):
    save_checkpoint(tmp_path / "model.ckpt", make("s5"))
    with pytest.raises(InputError, match="does not fit"):
        load_checkpoint(tmp_path / "model.ckpt", recurrence="convlstm")
    with pytest.raises(InputError, match="no option 'wings'"):
        load_checkpoint(tmp_path / "model.ckpt", wings=2)

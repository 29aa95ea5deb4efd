"""A checkpoint file is evaluated in one command; its boxes are files that other tools read."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from training_set import SENSOR, make_set

from ssmbook.cli import main
from ssmbook.dataset import EvaluationStreams, find_sequences
from ssmbook.detector import PRESETS, Detector, save_checkpoint
from ssmbook.errors import InputError
from ssmbook.evaluation import ap_by_rest, ap_by_size, save_boxes, time_at_rest
from ssmbook.evaluation.protocol import score_boxes
from ssmbook.evaluation.streaming import Evaluation, StreamingEvaluator
from ssmbook.events import BOX_DTYPE, read_boxes
from ssmbook.study import ap_by_precision, evaluate_checkpoint, score_table

MINI = {"embed_dim": 8, "dim_head": 8, "fpn_depth": 0.33, "num_classes": 2, "input_hw": (64, 96)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data"))


@pytest.fixture
def mini_preset(monkeypatch):
    """The small networks of the conformance checkpoints as a preset, on frames of the simulated sensor."""
    monkeypatch.setitem(PRESETS, "gen1-mini", {**MINI, "partition": (2, 3)})


@pytest.mark.parametrize(
    ("file", "carries"),
    [("s5vit_mini_gen1.ckpt", ["published", "exact"]), ("rvt_mini_gen1.ckpt", ["exact"])],
)
def test_released_checkpoints_evaluate_on_the_first_try(
    conformance, data_dir, mini_preset, file, carries, capsys, tmp_path
):
    sensor = tmp_path / "sensor.yaml"
    sensor.write_text("width: 64\nheight: 64\nclasses: [car, pedestrian]\n")
    arguments = ["evaluate", str(conformance(file)), "--data", str(data_dir), "--sensor", str(sensor)]
    assert main([*arguments, "--split", "val", "--save-boxes", str(tmp_path / "boxes")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "AP_50" in lines[0]
    assert "AP pedestrian" in lines[0]
    shown = [line.split()[:2] for line in lines[2 : 2 + 2 * len(carries)]]
    assert shown == [[carry, score] for carry in carries for score in ("class", "product")]
    assert sorted(path.name for path in (tmp_path / "boxes").iterdir()) == sorted(carries)
    names = {path.name for path in (tmp_path / "boxes" / "exact").iterdir()}
    assert names == {"val0_bbox.npy", "val1_bbox.npy", "ground_truth.json", "detections.json"}


def test_the_carry_makes_the_difference_that_the_model_makes(conformance, data_dir, mini_preset):
    path = conformance("s5vit_mini_gen1.ckpt")
    results = evaluate_checkpoint(
        path, data_dir, split="val", sensor=SENSOR, sequence_length=4, device="cpu", progress=False
    )
    assert {result.score for result in results.values()} == {"class"}  # as a released checkpoint is ranked
    exact, published = (results[way].detections for way in ("exact", "published"))
    assert any(not np.array_equal(a, b) for a, b in zip(exact, published, strict=True))


def test_both_scores_come_from_one_pass(conformance, data_dir, mini_preset):
    path = conformance("rvt_mini_gen1.ckpt")
    options = {"split": "val", "sensor": SENSOR, "device": "cpu", "progress": False}
    one = evaluate_checkpoint(path, data_dir, **options)["exact"]
    other = evaluate_checkpoint(path, data_dir, score="product", **options)["exact"]
    again = one.ranked_by("product")
    assert (one.score, other.score, again.score) == ("class", "product", "product")
    assert any(not np.array_equal(a, b) for a, b in zip(one.detections, other.detections, strict=True))
    for found, back in ((again, other), (again.ranked_by("class"), one)):
        assert found.metrics == pytest.approx(back.metrics, nan_ok=True, abs=0)
        for a, b in zip(found.detections, back.detections, strict=True):
            assert np.array_equal(a, b)
    table = score_table({"exact": one})
    assert table["score"].tolist() == ["class", "product"]
    assert table["AP"].tolist() == [100 * one.metrics["AP"], 100 * other.metrics["AP"]]
    assert score_table({("a", "exact"): other})["score"].tolist() == ["product"]
    with pytest.raises(InputError, match="'best'"):
        one.ranked_by("best")
    with pytest.raises(InputError, match="one score alone"):
        random_result().ranked_by("class")


def test_ours_are_ranked_by_the_product_in_whatever_form(data_dir, tmp_path):
    """A network of ours whose weights were saved alone is no released one."""
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"], recurrence="none")
    torch.save(model.state_dict(), tmp_path / "alone.pt")
    torch.save({"model": model.state_dict(), "config": {"lr": 0.1}}, tmp_path / "beside.pt")
    save_checkpoint(tmp_path / "whole.ckpt", model)
    options = {"split": "val", "sensor": SENSOR, "sequence_length": 21, "device": "cpu", "progress": False}
    found = [evaluate_checkpoint(path, data_dir, **options)["exact"] for path in sorted(tmp_path.iterdir())]
    assert [each.score for each in found] == ["product"] * 3
    assert len({str(each.metrics) for each in found}) == 1


def test_what_a_precision_costs_is_measured_on_the_same_weights(data_dir, tmp_path):
    """The named precision is autocast around the network, and finds other boxes than fp32."""
    torch.manual_seed(0)
    model = Detector(**PRESETS["sim-smoke"])
    for layer in (*model.head.class_out, *model.head.objectness_out):
        torch.nn.init.zeros_(layer.bias)  # scores around a quarter
    save_checkpoint(tmp_path / "a.ckpt", model, sensor=asdict(SENSOR), sequence_length=4)
    options = {"split": "val", "device": "cpu", "progress": False}
    table = ap_by_precision(tmp_path / "a.ckpt", data_dir, **options)
    assert table.index.tolist() == ["fp32", "bf16", "fp16"]
    assert (table["AP"] - table["AP"].iloc[0]).tolist() == table["AP − fp32"].tolist()

    found = {}
    for name in ("fp32", "bf16"):
        result = evaluate_checkpoint(tmp_path / "a.ckpt", data_dir, carry="exact", precision=name, **options)
        found[name] = np.concatenate(result["exact"].detections)
        assert 100 * result["exact"].metrics["AP"] == table.loc[name, "AP"]
    evaluator = StreamingEvaluator(model.eval(), SENSOR, score="product")  # the rule for our own checkpoints
    with torch.autocast("cpu", torch.bfloat16):
        for batch in EvaluationStreams(find_sequences(data_dir / "val"), 4, 8):
            evaluator.push(batch)
    np.testing.assert_array_equal(found["bf16"], np.concatenate(evaluator.result().detections))
    assert len(found["fp32"]) > 100
    assert found["fp32"]["x"].tolist() != found["bf16"]["x"].tolist()
    with pytest.raises(InputError, match=r"fp8.*fp32, bf16, fp16"):
        evaluate_checkpoint(tmp_path / "a.ckpt", data_dir, precision="fp8", **options)


def test_ours_know_their_sensor(data_dir, tmp_path):
    model = Detector(**PRESETS["sim-smoke"], recurrence="s4d")
    save_checkpoint(tmp_path / "a.ckpt", model, sensor=asdict(SENSOR), sequence_length=4)
    results = evaluate_checkpoint(tmp_path / "a.ckpt", data_dir, split="val", device="cpu", progress=False)
    assert list(results) == ["published", "exact"], "a state-space model"
    assert results["exact"].sensor == SENSOR
    save_checkpoint(tmp_path / "b.ckpt", model)
    with pytest.raises(InputError, match="sensor"):
        evaluate_checkpoint(tmp_path / "b.ckpt", data_dir, carry="exact", progress=False)
    with pytest.raises(InputError, match="2 classes, but sensor 'gen4' 3"):
        evaluate_checkpoint(tmp_path / "a.ckpt", data_dir, sensor="gen4", split="val", progress=False)
    late = replace(SENSOR, name="late", eval_skip_us=10**9)
    with pytest.raises(
        InputError, match=r"val: no box counts in evaluation; for sensor 'late' .*eval_skip_us"
    ):
        evaluate_checkpoint(tmp_path / "a.ckpt", data_dir, sensor=late, split="val", progress=False)
    small = Detector(**{**PRESETS["sim-smoke"], "input_hw": (32, 32), "partition": (1, 1)})
    save_checkpoint(tmp_path / "c.ckpt", small, sensor=asdict(SENSOR))
    with pytest.raises(InputError, match=r"frames are \(20, 64, 64\), but .*c.ckpt takes \(20, 32, 32\)"):
        evaluate_checkpoint(tmp_path / "c.ckpt", data_dir, carry="exact", split="val", progress=False)


def random_result(seed=0):
    """Two sequences with boxes of two classes, and detections near them."""
    rng = np.random.default_rng(seed)
    truth, found, names = [], [], []
    for name in ("one", "two"):
        for k in range(10):
            boxes = np.zeros(3, BOX_DTYPE)
            boxes["t"], boxes["track_id"], boxes["class_id"] = 600_000 + 50_000 * k, [1, 2, 3], [0, 1, 0]
            boxes["x"] = [5, 10 + 3 * k, 30]
            boxes["y"], boxes["w"], boxes["h"] = [5, 20, 30], [10, 20, 30], [12, 14, 30]
            near = boxes.copy()
            near["x"] += rng.normal(0, 2, 3)
            near["class_confidence"] = rng.uniform(0, 1, 3)
            truth.append(boxes)
            found.append(near)
            names.append(name)
    return Evaluation(score_boxes(truth, found, SENSOR), truth, found, names, 64, 64, SENSOR)


def test_saved_boxes_come_back_and_give_the_same_ap(tmp_path):
    result = random_result()
    save_boxes(result, tmp_path)
    saved = read_boxes(tmp_path / "two_bbox.npy")
    assert saved.tolist() == np.concatenate(result.detections[10:]).tolist()
    truth = COCO(str(tmp_path / "ground_truth.json"))
    scorer = COCOeval(truth, truth.loadRes(str(tmp_path / "detections.json")), "bbox")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    stats = np.where(scorer.stats[:6] > -1, scorer.stats[:6], np.nan)
    assert stats == pytest.approx(list(result.metrics.values()), abs=1e-6, nan_ok=True)
    images = json.loads((tmp_path / "ground_truth.json").read_text())["images"]
    assert [(i["sequence"], i["t_us"]) for i in images[:2]] == [("one", 600_000), ("one", 650_000)]


def test_time_at_rest_counts_from_the_last_movement():
    """Track 1 stands; track 2 goes 3 px a label; a creep of 0.4 px a label moves in every third."""
    result = random_result()
    rest = time_at_rest(result.ground_truth, result.sequences)
    for k in range(10):
        assert rest[k].tolist() == pytest.approx([0.05 * k, 0, 0.05 * k])
        assert rest[10 + k].tolist() == rest[k].tolist(), "another sequence is another object"
    creeping = [boxes[:1].copy() for boxes in result.ground_truth[:7]]
    for k, boxes in enumerate(creeping):
        boxes["x"] += 0.4 * k
    rest = time_at_rest(creeping, ["a"] * 7)
    assert np.concatenate(rest).tolist() == pytest.approx([0, 0.05, 0.1, 0, 0.05, 0.1, 0])


def test_kinds_of_boxes_cover_all_and_perfect_detections_have_ap_1():
    result = random_result()
    perfect = Evaluation(
        result.scores, result.ground_truth, result.ground_truth, result.sequences, 64, 64, SENSOR
    )
    by_rest = ap_by_rest(perfect, [0, 0.1, 0.3, np.inf])
    by_size = ap_by_size(perfect, [0, 20, 30, 100])
    assert by_rest["boxes"].sum() == by_size["boxes"].sum() == 60
    assert by_rest["AP"].tolist() == by_size["AP"].tolist() == pytest.approx([1, 1, 1])
    whole = ap_by_size(result, [0, 1000])
    assert whole["AP"][0] == pytest.approx(result.metrics["AP"])
    assert np.isnan(ap_by_size(result, [1000, 2000])["AP"][0])


def test_a_missed_kind_costs_only_its_own_ap():
    """Detections of moving objects alone: AP 1 among those that move, 0 among those at rest."""
    result = random_result()
    rest = time_at_rest(result.ground_truth, result.sequences)
    seen = [boxes[r == 0] for boxes, r in zip(result.ground_truth, rest, strict=True)]
    half = Evaluation(result.scores, result.ground_truth, seen, result.sequences, 64, 64, SENSOR)
    table = ap_by_rest(half, [0, 0.01, np.inf])
    assert table["AP"].tolist() == pytest.approx([1.0, 0.0])
    assert table["recall_50"].tolist() == pytest.approx([1.0, 0.0])


def test_a_state_of_a_foreign_shape_is_named(conformance, data_dir):
    with pytest.raises(InputError, match="embed_dim 8"):
        evaluate_checkpoint(conformance("s5vit_mini_gen1.ckpt"), data_dir, progress=False)

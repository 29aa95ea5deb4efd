"""The simulator: pixels that do what the equation says, streets that are drawn once, files that are whole."""

import json
import platform
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from ssmbook.dataset import Sensor
from ssmbook.dataset.labels import plan_labels
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, Events, open_events, read_boxes
from ssmbook.events.simulate import (
    CAMERA_SCENE,
    DEMO_SCENE,
    DETECTOR_SET,
    MEMORY_SCENE,
    MEMORY_SET,
    OCCLUSION_SCENE,
    PixelArray,
    PixelModel,
    Scene,
    SimulatedSequence,
    Simulation,
    Street,
    Variation,
    simulate_set,
)

QUIET = PixelModel(threshold=0.25, spread=0, refractory_us=0, noise_hz=0, hot_share=0)
TINY = replace(DEMO_SCENE, width=48, height=32, duration_s=0.3)


def one_pixel(pixel: PixelModel, start: float = 0.0) -> PixelArray:
    """A single pixel whose reference is exactly its level."""
    array = PixelArray(pixel, np.full((1, 1), start, np.float32), np.random.default_rng(0))
    array.reference[:] = start
    return array


def ramp(to: float) -> np.ndarray:
    return np.full((1, 1, 1), to, np.float32)


class TestPixel:
    @pytest.mark.parametrize(("sign", "polarity"), [(1, 1), (-1, 0)])
    def test_a_ramp_of_n_thresholds_gives_n_events_at_the_crossings(self, sign, polarity):
        events = one_pixel(QUIET).expose(ramp(sign * 1.1), 0, 1_100_000)  # 1 unit of log intensity per second
        assert events.t.tolist() == pytest.approx([250_000, 500_000, 750_000, 1_000_000], abs=1)
        assert events.p.tolist() == [polarity] * 4

    def test_small_steps_and_one_step_cross_alike(self):
        whole = one_pixel(QUIET).expose(ramp(1.1), 0, 1_100_000)
        steps = np.linspace(0.1, 1.1, 11, dtype=np.float32)[:, None, None]
        parts = one_pixel(QUIET).expose(steps, 0, 1_100_000)
        assert np.allclose(parts.t, whole.t, atol=2)

    def test_chunks_carry_level_and_reference(self):
        pixel = one_pixel(QUIET)
        chunks = [pixel.expose(ramp(0.1 * k), 100_000 * (k - 1), 100_000 * k) for k in range(1, 12)]
        assert sum(map(len, chunks)) == 4

    def test_there_and_back_gives_as_many_off_as_on(self):
        pixel = one_pixel(QUIET)
        up, down = pixel.expose(ramp(1.1), 0, 1000), pixel.expose(ramp(0.0), 1000, 2000)
        assert (up.p.sum(), len(up)) == (4, 4)
        assert (down.p.sum(), len(down)) == (0, 4)

    def test_a_pixel_rests_after_an_event(self):
        events = one_pixel(replace(QUIET, refractory_us=300_000)).expose(ramp(1.1), 0, 1_100_000)
        assert events.t.tolist() == pytest.approx([250_000, 750_000], abs=1)

    def test_a_still_picture_makes_no_event(self):
        still = np.random.default_rng(0).normal(size=(1, 8, 8)).astype(np.float32)
        array = PixelArray(QUIET, still[0], np.random.default_rng(1))
        assert len(array.expose(np.repeat(still, 20, 0), 0, 20_000)) == 0

    def test_noise_has_its_rate(self):
        noisy = replace(QUIET, noise_hz=5.0)
        array = PixelArray(noisy, np.zeros((40, 50), np.float32), np.random.default_rng(0))
        count = len(array.expose(np.zeros((1, 40, 50), np.float32), 0, 1_000_000))
        assert abs(count - 10_000) < 5 * 100  # five standard deviations of a Poisson count


class TestSequence:
    def test_the_seed_decides_events_and_boxes(self):
        one, two, other = (SimulatedSequence(TINY, seed=seed) for seed in (3, 3, 4))
        a, b, c = (Events.concatenate(list(s.events())) for s in (one, two, other))
        assert all(np.array_equal(getattr(a, k), getattr(b, k)) for k in "txyp")
        assert np.array_equal(one.boxes(), two.boxes())
        assert len(a) != len(c)

    def test_events_are_sorted_and_inside(self):
        events = Events.concatenate(list(SimulatedSequence(TINY, seed=1).events()))
        assert len(events) > 100
        assert (np.diff(events.t) >= 0).all()
        assert 0 <= events.t[0] <= events.t[-1] < TINY.duration_us
        assert events.x.max() < TINY.width
        assert events.y.max() < TINY.height
        assert set(np.unique(events.p)) == {0, 1}

    def test_moving_actors_make_events_inside_their_boxes(self):
        scene = replace(TINY, actors=(1, 1), stop_probability=0, background_speed=0, contrast=(1.0, 1.0))
        sequence = SimulatedSequence(scene, QUIET, seed=2)
        box = sequence.boxes()[0]
        first = next(sequence.events())
        inside = (abs(first.x - box["x"] - box["w"] / 2) < box["w"]) & (first.y >= box["y"] - 2)
        assert len(first) > 20
        assert inside.mean() > 0.95

    def test_boxes_are_at_label_stamps_inside_the_frame(self):
        for seed in range(20):
            boxes = SimulatedSequence(DEMO_SCENE, seed=seed).boxes()
            assert boxes.dtype == BOX_DTYPE
            assert set(boxes["t"]) <= set(range(50_000, 3_000_001, 50_000))
            assert (boxes["x"] >= 0).all()
            assert (boxes["x"] + boxes["w"] <= DEMO_SCENE.width - 1 + 1e-3).all()
            assert (boxes["y"] >= 0).all()
            assert (boxes["y"] + boxes["h"] <= DEMO_SCENE.height - 1 + 1e-3).all()

    def test_sizes_and_speeds_are_those_of_the_scene(self):
        for seed in range(50):
            for actor in Street(DEMO_SCENE, np.random.default_rng(seed)).actors:
                kind = "car" if actor.class_id == 0 else "pedestrian"
                heights = actor.geometry(np.linspace(0, 3, 50))[:, 2]
                least, most = getattr(DEMO_SCENE, f"{kind}_height")
                assert least - 1e-6 <= heights.min() <= heights.max() <= most + 1e-6
                slowest, fastest = getattr(DEMO_SCENE, f"{kind}_speed")
                assert slowest <= abs(actor.velocity) <= fastest

    def test_a_stopped_actor_keeps_its_box_and_moves_on(self):
        streets = (Street(DEMO_SCENE, np.random.default_rng(seed)) for seed in range(50))
        actors = [actor for street in streets for actor in street.actors]
        stopping = [actor for actor in actors if actor.stop_at + actor.stop_for < 2.0]
        assert 0.4 < sum(np.isfinite(actor.stop_at) for actor in actors) / len(actors) < 0.8
        for actor in stopping:
            t = np.linspace(actor.stop_at + 0.16, actor.stop_at + 0.15 + actor.stop_for, 5)
            assert np.ptp(actor.geometry(t)[:, 0]) < 1e-9
            assert abs(np.diff(actor.geometry(np.array([2.5, 3.0]))[:, 0])[0]) > 1

    def test_a_hidden_actor_has_no_box(self):
        street = Street(replace(DEMO_SCENE, actors=(1, 1)), np.random.default_rng(0))
        actor = replace(street.actors[0], velocity=0.0, x_start=60.0, growth=0.0)
        near = replace(actor, bottom=actor.bottom + 1, height_start=1.2 * actor.height_start)
        street.actors = [actor, near]
        assert street.boxes_at(50_000)["track_id"].tolist() == [1]
        street.actors = [actor, replace(near, x_start=400.0)]
        assert street.boxes_at(50_000)["track_id"].tolist() == [0]

    def test_rendering_is_smooth_in_time(self):
        frames = SimulatedSequence(DEMO_SCENE, seed=0).frames(np.arange(0, 20_000, 1000))
        assert (
            np.abs(np.diff(frames, axis=0)).max() < 0.25
        )  # no pixel jumps by a threshold within a millisecond


class TestMemory:
    STREETS = [Street(MEMORY_SCENE, np.random.default_rng(seed)) for seed in range(40)]  # noqa: RUF012

    def test_every_actor_stops_inside_the_frame(self):
        for street in self.STREETS:
            for k, actor in enumerate(street.actors):
                at_rest, braking = actor.stop_at + 0.2, 80 * 0.15 / 2
                assert 1.0 <= actor.stop_for <= 3.0
                assert abs(actor.geometry(np.array([at_rest]))[0, 0] - 64) <= 0.4 * 128 + braking
                if at_rest < MEMORY_SCENE.duration_s and len(street.actors) == 1:
                    assert k in street.boxes_at(round(1e6 * at_rest))["track_id"]

    def test_the_background_rests(self):
        for street in self.STREETS:
            assert np.ptp(street.background_x(np.linspace(0, 6, 50))) == 0

    def test_an_actor_at_rest_causes_no_event(self):
        sequence = SimulatedSequence(replace(MEMORY_SCENE, actors=(1, 1)), QUIET, seed=1)
        (actor,) = sequence.street.actors
        t = Events.concatenate(list(sequence.events())).t / 1e6
        stands, goes_on = actor.stop_at + 0.15, actor.stop_at + 0.15 + actor.stop_for
        assert not ((t > stands + 0.05) & (t < goes_on)).any()
        assert (t < actor.stop_at).sum() > 1000
        assert (t > goes_on).any()

    def test_dense_labels_hold_those_at_20_hz_and_a_sensor_of_20_hz_takes_them_alone(self, tmp_path):
        scene = replace(MEMORY_SCENE, duration_s=1.0)
        simulate_set(tmp_path, replace(MEMORY_SET, scene=scene, sequences={"test": 1}), progress=False)
        dense = read_boxes(tmp_path / "test" / "sim_test_0000_bbox.npy")
        assert np.diff(np.unique(dense["t"])).min() == 5_000
        sparse = dense[dense["t"] % 50_000 == 0]
        own = int(np.random.SeedSequence((0, 0, 0)).generate_state(1, np.uint64)[0])
        assert np.array_equal(sparse, SimulatedSequence(scene, seed=own).boxes())
        plan, _ = plan_labels(dense, Sensor.simulated(128, 96), 50_000)
        assert np.array_equal(plan.frame_times_us, np.unique(sparse["t"][sparse["t"] >= 100_000]))

    def test_no_scene_is_in_two_splits(self, tmp_path):
        splits = {"train": 2, "val": 2, "test": 2}
        simulate_set(tmp_path, replace(MEMORY_SET, scene=TINY, sequences=splits), progress=False)
        files = [path.read_bytes() for path in tmp_path.rglob("*_td.dat")]
        assert len(set(files)) == len(files) == 6


class TestOccluders:
    def test_what_passes_behind_a_pillar_loses_its_box_and_gets_it_back(self):
        scene = replace(OCCLUSION_SCENE, actors=(1, 1), stop_probability=0)
        street = Street(scene, np.random.default_rng(0))
        (actor,) = street.actors
        street.actors = [replace(actor, x_start=0.0, velocity=40.0, growth=0.0, aspect=0.5)]
        street.occluders = np.array([[50.0, 30.0, 0.0, 0.5]])
        seen = np.array([len(street.boxes_at(t)) for t in range(500_000, 3_000_001, 50_000)])
        x = 40.0 * np.arange(0.5, 3.001, 0.05)
        assert seen[x < 40].all()
        assert not seen[(x > 60) & (x < 70)].any()
        assert seen[(x > 90) & (x < 120)].all()

    def test_a_pillar_hides_what_is_behind_it(self):
        sequence = SimulatedSequence(OCCLUSION_SCENE, seed=3)
        sequence.street.occluders = np.array([[-10.0, 200.0, -5.0, 0.5]])
        assert (sequence.frames(np.array([0, 3_000_000])) == 0.5).all()

    def test_pillars_go_with_the_background_and_come_round_out_of_view(self):
        street = Street(replace(OCCLUSION_SCENE, background_speed=60.0), np.random.default_rng(1))
        t = np.linspace(0, 6, 6001)
        left, width = street.pillars(t)[:, 0, 0], street.occluders[0, 1]
        jumps = np.flatnonzero(np.abs(np.diff(left)) > 1)
        moved = np.delete(np.diff(left), jumps)
        assert np.allclose(moved, -np.delete(np.diff(street.background_x(t)), jumps))
        assert all(left[k] < -width + 1 or left[k] > 2 * 128 - width - 1 for k in jumps)


class TestVariation:
    DRAWN = [DETECTOR_SET.sequence("train", 0, i) for i in range(200)]  # noqa: RUF012

    def test_every_value_lies_in_its_range_and_fills_it(self):
        variation = DETECTOR_SET.variation
        for name in ("threshold", "spread", "noise_hz", "cutoff_hz", "leak_hz", "latency_us"):
            low, high = getattr(variation, name)
            values = np.array([getattr(pixel, name) for _, pixel, _ in self.DRAWN])
            assert low <= values.min() < values.max() <= high
            if name in ("noise_hz", "cutoff_hz"):
                values, low, high = np.log(values), np.log(low), np.log(high)
            assert values.min() < low + 0.05 * (high - low)
            assert values.mean() == pytest.approx((low + high) / 2, abs=0.1 * (high - low))

    def test_objects_scale_and_half_of_the_cameras_stand_still(self):
        sizes = np.array([scene.car_height[1] / CAMERA_SCENE.car_height[1] for scene, *_ in self.DRAWN])
        assert 0.7 <= sizes.min() < 0.75
        assert 1.9 < sizes.max() <= 2.0
        for scene, *_ in self.DRAWN:
            size = scene.car_height[0] / CAMERA_SCENE.car_height[0]
            assert scene.pedestrian_height[1] == pytest.approx(CAMERA_SCENE.pedestrian_height[1] * size)
            assert 0.69 * size <= scene.car_speed[1] / CAMERA_SCENE.car_speed[1] <= 2.51 * size
            assert scene.background_speed <= 150 * size
        still = np.mean([scene.background_speed == 0 for scene, *_ in self.DRAWN])
        assert 0.4 < still < 0.6

    def test_the_seed_decides_and_sequences_differ(self):
        assert DETECTOR_SET.sequence("train", 0, 3) == self.DRAWN[3]
        assert len({seed for *_, seed in self.DRAWN}) == 200
        assert replace(DETECTOR_SET, seed=1).sequence("train", 0, 3) != self.DRAWN[3]

    @pytest.mark.parametrize(
        "wrong", [{"noise_hz": (0.0, 1.0)}, {"speed": (2.0, 1.0)}, {"leak_hz": (-1.0, 1.0)}]
    )
    def test_a_wrong_range_is_named(self, wrong):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Variation(**wrong)


class TestSet:
    SEQUENCES = {"train": 2, "val": 1}  # noqa: RUF012

    def make(self, folder, workers=1, **changes):
        simulation = replace(Simulation(TINY, self.SEQUENCES), **changes)
        simulate_set(folder, simulation, workers=workers, progress=False)
        return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.*"))}

    def test_files_are_gen1s(self, tmp_path):
        files = self.make(tmp_path)
        assert len(files) == 2 * 3 + 1
        with open_events(tmp_path / "train" / "sim_train_0001_td.dat") as recording:
            assert (recording.width, recording.height) == (48, 32)
            assert len(recording) > 100
        assert read_boxes(tmp_path / "val" / "sim_val_0000_bbox.npy")["t"].max() <= 300_000

    def test_workers_change_no_byte(self, tmp_path):
        assert self.make(tmp_path / "one") == self.make(tmp_path / "two", workers=2)

    def test_a_killed_simulation_leaves_no_process_and_its_files_go_with_the_next(self, tmp_path):
        code = (
            "from dataclasses import replace\n"
            "from ssmbook.events.simulate import *\n"
            "if __name__ == '__main__':\n"
            "    scene = replace(DEMO_SCENE, width=48, height=32, duration_s=0.3)\n"
            f"    simulate_set({str(tmp_path)!r}, Simulation(scene, {{'train': 40, 'val': 1}}), workers=2)\n"
        )
        script = tmp_path / "script.py"
        script.write_text(code)
        run = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not list(tmp_path.glob("train/*_bbox.npy")) and time.monotonic() < until:
            time.sleep(0.01)
        workers = psutil.Process(run.pid).children(recursive=True)
        run.kill()
        run.wait()
        assert len(workers) >= 2
        assert not psutil.wait_procs(workers, timeout=10)[1]
        (tmp_path / "train" / f".sim_train_0039_td.dat.{run.pid}@{platform.node()}.tmp").write_bytes(b"cut")
        simulate_set(tmp_path, Simulation(TINY, {"train": 40, "val": 1}), progress=False)
        assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]
        other = tmp_path / "other"
        simulate_set(other, Simulation(TINY, {"train": 40, "val": 1}), progress=False)
        for path in other.rglob("*_*.*"):
            assert path.read_bytes() == (tmp_path / path.relative_to(other)).read_bytes()

    def test_what_is_missing_is_made_again_and_the_rest_kept(self, tmp_path):
        files = self.make(tmp_path)
        (tmp_path / "train" / "sim_train_0000_bbox.npy").unlink()  # as when it is stopped between the two
        (tmp_path / "train" / "sim_train_0001_td.dat").unlink()
        (tmp_path / "train" / "sim_train_0001_bbox.npy").unlink()
        kept = sorted(tmp_path.glob("*/*_td.dat"))
        before = [path.stat().st_mtime_ns for path in kept]
        assert self.make(tmp_path) == files
        assert [path.stat().st_mtime_ns for path in kept] == before

    def test_other_parameters_are_refused(self, tmp_path):
        self.make(tmp_path)
        with pytest.raises(InputError, match="other parameters"):
            self.make(tmp_path, seed=1)

    def test_a_record_without_arguments_that_came_later_means_their_defaults(self, tmp_path):
        files = self.make(tmp_path)
        record = tmp_path / "simulation.json"
        noted = json.loads(record.read_text())
        del noted["label_hz"], noted["scene"]["occluders"]
        record.write_text(json.dumps(noted))
        assert self.make(tmp_path).keys() == files.keys()
        with pytest.raises(InputError, match="other parameters"):
            self.make(tmp_path, scene=replace(TINY, occluders=(1, 1)))

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"scene": 1, "pixel": {}}', '{"scene": {"a": '])
    def test_a_damaged_record_is_named(self, tmp_path, text):
        (tmp_path / "simulation.json").write_text(text)
        with pytest.raises(InputError, match="does not say what the set was made with"):
            self.make(tmp_path)

    def test_existing_sets_keep_their_bytes(self, tmp_path):
        scene = replace(DEMO_SCENE, width=64, height=64, duration_s=1.0)
        simulate_set(tmp_path, Simulation(scene, {"train": 1}), progress=False)
        with open_events(tmp_path / "train" / "sim_train_0000_td.dat") as recording:
            events = recording.read(0, 2**40)
        boxes = read_boxes(tmp_path / "train" / "sim_train_0000_bbox.npy")
        assert (len(events), int(events.x.sum()), int(events.p.sum())) == (6478, 251906, 2996)
        assert (len(boxes), round(float(boxes["x"].sum()), 1)) == (20, 484.7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"width": 0}, "width is 0"), ({"car_speed": (5, 1)}, "car_speed"), ({"stop_probability": 2}, "0..1")],
)
def test_a_wrong_scene_is_named(wrong, message):
    with pytest.raises(InputError, match=message):
        Scene(**wrong)


def test_a_wrong_pixel_is_named():
    with pytest.raises(InputError, match="threshold is 0"):
        PixelModel(threshold=0)
    with pytest.raises(InputError, match="noise_hz is -1"):
        PixelModel(noise_hz=-1)

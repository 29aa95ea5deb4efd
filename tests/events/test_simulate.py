"""The simulator: pixels that do what the equation says, streets that are drawn once, files that are whole."""

from dataclasses import replace

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE, Events, open_events, read_boxes
from ssmbook.events.simulate import (
    DEMO_SCENE,
    PixelArray,
    PixelModel,
    Scene,
    SimulatedSequence,
    Street,
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


class TestSet:
    SEQUENCES = {"train": 2, "val": 1}  # noqa: RUF012

    def make(self, folder, **options):
        simulate_set(folder, TINY, sequences=self.SEQUENCES, progress=False, **options)
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

    def test_what_is_missing_is_made_again_and_the_rest_kept(self, tmp_path):
        files = self.make(tmp_path)
        (tmp_path / "train" / "sim_train_0000_bbox.npy").unlink()
        kept = tmp_path / "train" / "sim_train_0001_td.dat"
        before = kept.stat().st_mtime_ns
        assert self.make(tmp_path) == files
        assert kept.stat().st_mtime_ns == before

    def test_other_parameters_are_refused(self, tmp_path):
        self.make(tmp_path)
        with pytest.raises(InputError, match="other parameters"):
            self.make(tmp_path, seed=1)


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

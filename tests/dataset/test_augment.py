import numpy as np
import pytest
import torch

from ssmbook.dataset.augment import (
    Flip,
    Rotate,
    ZoomIn,
    ZoomOut,
    draw_stream_transforms,
    draw_transforms,
    move_frames,
)
from ssmbook.events import BOX_DTYPE

H, W = 96, 128


def make_boxes(*rows):
    """Boxes from rows x, y, w, h."""
    boxes = np.zeros(len(rows), BOX_DTYPE)
    for box, row in zip(boxes, rows, strict=True):
        box["x"], box["y"], box["w"], box["h"] = row
    return boxes


def draw(box, dtype=torch.uint8):
    """Frames [2, 3, H, W] in which the pixels of a box (with whole coordinates) are 5, the others 0."""
    x, y, w, h = (int(box[key]) for key in "xywh")
    frames = torch.zeros(2, 3, H, W, dtype=dtype)
    frames[..., y : y + h + 1, x : x + w + 1] = 5
    return frames


def edges(frames):
    """Left, top, right and bottom of what is not 0; the same in every frame and channel."""
    first = frames[0, 0]
    assert (frames == first).all()
    assert set(first.unique().tolist()) <= {0, 5}, "values are moved, never blended"
    rows, columns = first.nonzero(as_tuple=True)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()], float)


def label_edges(box):
    return np.array([box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]])


def random_box(rng):
    w, h = rng.integers(12, 60, size=2)
    return make_boxes((rng.integers(0, W - w), rng.integers(0, H - h), w, h))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_flip_moves_both_exactly(seed, dtype):
    box = random_box(np.random.default_rng(seed))
    moved = Flip().frames(draw(box[0], dtype))
    assert moved.dtype == dtype
    assert edges(moved).tolist() == label_edges(Flip().boxes(box, H, W)[0]).tolist()
    np.testing.assert_array_equal(Flip().boxes(Flip().boxes(box, H, W), H, W), box)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_a_drawn_box_stays_under_its_label(seed, dtype):
    """Pixels are points to boxes and areas to frames, and frames have whole windows: up to 2.5 px apart."""
    rng = np.random.default_rng(seed)
    box = random_box(rng)
    drawn = draw_transforms(rng, box, H, W)
    frames, moved = draw(box[0], dtype), box
    for transform in drawn:
        frames, moved = transform.frames(frames), transform.boxes(moved, H, W)
    assert frames.shape == (2, 3, H, W)
    assert frames.dtype == dtype
    assert len(moved) == 1, "zooming in keeps the box in view"
    assert abs(edges(frames) - label_edges(moved[0])).max() <= 2.5


@pytest.mark.parametrize("degrees", [-20, -3, 0, 7, 90])
def test_rotation_moves_both(degrees):
    box = make_boxes((50, 40, 20, 12))
    frames, moved = Rotate(degrees).frames(draw(box[0])), Rotate(degrees).boxes(box, H, W)
    assert abs(edges(frames) - label_edges(moved[0])).max() <= 1
    if degrees == 90:
        assert (moved["w"], moved["h"]) == pytest.approx((12, 20))


def test_zooming_in_shows_the_window_and_drops_what_left():
    frames = torch.arange(H * W, dtype=torch.float32).reshape(1, 1, H, W)
    zoom = ZoomIn(32, 24, 2.0)
    moved = zoom.frames(frames)
    assert torch.equal(moved[..., ::2, ::2], frames[..., 24 : 24 + H // 2, 32 : 32 + W // 2])
    assert torch.equal(moved[..., 1::2, 1::2], moved[..., ::2, ::2])
    boxes = zoom.boxes(make_boxes((40, 30, 10, 8), (0, 0, 32, 24), (90, 0, 30, 90)), H, W)
    assert [[float(b[key]) for key in "xywh"] for b in boxes] == [[16, 12, 20, 16], [116, 0, 10, 94]]


def test_zooming_out_shrinks_and_leaves_nothing_around():
    frames = torch.ones(1, 1, H, W, dtype=torch.uint8)
    zoom = ZoomOut(10, 20, 2.0)
    moved = zoom.frames(frames)
    assert moved.sum() == (H // 2) * (W // 2)
    assert moved[..., 20 : 20 + H // 2, 10 : 10 + W // 2].all()
    box = zoom.boxes(make_boxes((40, 30, 10, 8)), H, W)[0]
    assert [float(box[key]) for key in "xywh"] == [30, 35, 5, 4]


def test_draws_are_as_often_as_published():
    rng = np.random.default_rng(0)
    count = 4000
    drawn = [draw_transforms(rng, random_box(rng), H, W) for _ in range(count)]
    flat = [transform for transforms in drawn for transform in transforms]
    flips, ins, outs = ([t for t in flat if isinstance(t, kind)] for kind in (Flip, ZoomIn, ZoomOut))
    # Six standard deviations of a binomial count are below 0.05 · count.
    assert len(flips) == pytest.approx(0.5 * count, abs=0.05 * count)
    assert len(ins) == pytest.approx(0.64 * count, abs=0.05 * count)
    assert len(outs) == pytest.approx(0.16 * count, abs=0.05 * count)
    for zooms, most in ((ins, 1.5), (outs, 1.2)):
        factors = np.array([zoom.factor for zoom in zooms])
        assert 1 <= factors.min() < 1.01 < most - 0.01 < factors.max() <= most


def test_the_same_seed_draws_the_same():
    box = make_boxes((50, 40, 20, 12))
    a, b = (draw_transforms(np.random.default_rng(3), box, H, W) for _ in range(2))
    assert a == b


@pytest.mark.parametrize("seed", range(60))
def test_one_pass_moves_frames_as_the_transforms_do(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 70, size=2).tolist()
    boxes = make_boxes((2, 3, 8, 9))
    draw_some = [draw_transforms(rng, boxes, height, width), draw_stream_transforms(rng, height, width)]
    dtype = [np.uint8, np.int8][seed % 2]
    frames = rng.integers(0, 100, size=(2, 3, height, width)).astype(dtype)
    for transforms in (*draw_some, [*draw_some[0], *draw_some[1]]):
        moved = torch.from_numpy(frames)
        for transform in transforms:
            moved = transform.frames(moved)
        out = np.full((2, 2, 3, height, width), 77, dtype)
        move_frames(frames, transforms, out[:, 1])
        np.testing.assert_array_equal(out[:, 1], moved.numpy())
        assert (out[:, 0] == 77).all()


def test_streams_are_flipped_and_zoomed_out_half_of_the_time():
    rng = np.random.default_rng(0)
    count = 4000
    flat = [t for _ in range(count) for t in draw_stream_transforms(rng, H, W)]
    flips, outs = ([t for t in flat if isinstance(t, kind)] for kind in (Flip, ZoomOut))
    assert len(flips) + len(outs) == len(flat), "never in"
    assert len(flips) == pytest.approx(0.5 * count, abs=0.05 * count)
    assert len(outs) == pytest.approx(0.5 * count, abs=0.05 * count)
    factors = np.array([zoom.factor for zoom in outs])
    assert 1 <= factors.min() < 1.01 < 1.19 < factors.max() <= 1.2


@pytest.mark.parametrize("seed", range(20))
def test_a_drawn_box_stays_under_its_label_in_streams(seed):
    rng = np.random.default_rng(seed)
    box = random_box(rng)
    frames, moved = draw(box[0]), box
    for transform in draw_stream_transforms(rng, H, W):
        frames, moved = transform.frames(frames), transform.boxes(moved, H, W)
    assert abs(edges(frames) - label_edges(moved[0])).max() <= 2.5


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int32, np.float16, np.float32, np.float64]
)
def test_any_numbers_are_moved_as_they_are(seed, dtype):
    """Against numbered pixels, which the transforms move one after another."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 70, size=2).tolist()
    boxes = make_boxes((2, 3, 8, 9))
    transforms = [*draw_transforms(rng, boxes, height, width), *draw_stream_transforms(rng, height, width)]
    most = 120 if np.dtype(dtype).itemsize == 1 else 60_000
    frames = rng.uniform(0, most, (2, 3, height, width)).astype(dtype)
    frames[rng.random((2, 3, height)) < 0.3] = 0  # empty rows
    # Pixels are numbered from 1; 0 is from nowhere.
    number = 1 + torch.arange(height * width).reshape(1, 1, height, width).double()
    for transform in transforms:
        number = transform.frames(number)
    flat = np.concatenate([np.zeros((2, 3, 1), dtype), frames.reshape(2, 3, -1)], axis=-1)
    out = np.full((2, 3, height, width), 77, dtype)
    move_frames(frames, transforms, out)
    np.testing.assert_array_equal(out, flat[..., number[0, 0].long().numpy()])

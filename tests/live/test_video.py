"""Videos: every window once, at its time, with its boxes where they are."""

from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import read_frames
from PIL import Image, ImageColor

from ssmbook import plots
from ssmbook.dataset import Sensor
from ssmbook.errors import InputError
from ssmbook.events import BOX_DTYPE
from ssmbook.live import video
from ssmbook.live.drawing import GroundTruth, draw_window
from ssmbook.live.video import box_video

SENSOR = Sensor.simulated(61, 47)  # enlarged ten times, to 610 × 470


def frame(k):
    """One bright column of ON events, the k-th."""
    counts = np.zeros((20, 47, 61), np.uint8)
    counts[10, :, k] = 5
    return counts


def one_box():
    boxes = np.zeros(1, BOX_DTYPE)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"], boxes["class_confidence"] = 20, 10, 12, 15, 0.5
    return boxes


def write(path, count, windows_per_s=20, speed=1.0):
    with box_video(path, SENSOR, windows_per_s, speed) as show:
        for k in range(count):
            show(frame(k % 61), 50_000 * k, one_box())
            assert not path.exists()
    return path


def write_columns(path, count):
    with box_video(path, SENSOR, 20) as show:
        for k in range(count):
            show(frame(k), 50_000 * k, one_box())


def pictures(path):
    """All pictures [N, H, W, 3], and the length in seconds."""
    if path.suffix == ".mp4":
        reader = read_frames(str(path))
        about = next(reader)
        width, height = about["size"]
        raw = [np.frombuffer(picture, np.uint8).reshape(height, width, 3) for picture in reader]
        return np.stack(raw), len(raw) / about["fps"]
    found, ms = [], 0
    with Image.open(path) as file:
        for k in range(file.n_frames):
            file.seek(k)
            found.append(np.asarray(file.convert("RGB")))
            ms += file.info["duration"]
    return np.stack(found), ms / 1000


def assert_shows(picture, k, kind):
    """The picture of window k: GIFs have few colours here, so they are exact; mp4 blurs the colours."""
    wanted = np.asarray(draw_window(frame(k), 50_000 * k, one_box(), SENSOR.classes)).astype(int)
    error = np.abs(picture[: wanted.shape[0], : wanted.shape[1]] - wanted)
    assert error.max() <= 2 if kind == "gif" else error.mean() < 2
    other = np.asarray(draw_window(frame(k + 1), 50_000 * k, one_box(), SENSOR.classes)).astype(int)
    assert np.abs(picture[: other.shape[0], : other.shape[1]] - other).mean() > 3


@pytest.mark.parametrize("kind", ["gif", "mp4"])
@pytest.mark.parametrize(
    ("windows_per_s", "speed", "every", "fps"),
    [(20, 1.0, 1, 20), (20, 0.15, 1, 3), (200, 1.0, 4, 50), (40, 2.0, 2, 40)],
)
def test_a_video_shows_the_windows_at_their_times(tmp_path, kind, windows_per_s, speed, every, fps):
    found, seconds = pictures(write(tmp_path / f"a.{kind}", 13, windows_per_s, speed))
    shown = range(0, 13, every)
    assert len(found) == len(shown)
    assert seconds == pytest.approx(len(shown) / fps, abs=0.006)
    assert found.shape[1:] == (470, 610, 3)
    for picture, k in zip(found, shown, strict=True):
        assert_shows(picture, k, kind)
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{kind}"]


@pytest.mark.parametrize("kind", ["gif", "mp4"])
@pytest.mark.parametrize(("speed", "fps"), [(1, 10), (0.25, 20), (1, 30)])
def test_pictures_per_second_are_those_asked_for(tmp_path, kind, speed, fps):
    """40 windows of 50 ms; picture k shows the window during which it begins."""
    with box_video(tmp_path / f"a.{kind}", SENSOR, 20, speed, fps=fps) as show:
        for k in range(40):
            show(frame(k), 50_000 * k, one_box())
    found, seconds = pictures(tmp_path / f"a.{kind}")
    assert seconds == pytest.approx(2 / speed, abs=1 / fps)
    assert len(found) == round(2 / speed * fps)
    for i in range(0, len(found), 7):
        assert_shows(found[i], int(i * 20 * speed / fps + 1e-9), kind)


def test_ground_truth_is_dashed_for_a_quarter_of_a_second():
    boxes = np.concatenate([one_box()] * 3)
    boxes["t"], boxes["x"] = [1_000_000, 1_000_000, 2_000_000], [5, 20, 40]
    truth = GroundTruth(boxes[::-1])
    for t_us, wanted in (
        (999_999, []),
        (1_000_000, [5, 20]),
        (1_250_000, [5, 20]),
        (1_250_001, []),
        (2_100_000, [40]),
    ):
        assert sorted(truth.at(t_us)["x"].tolist()) == wanted
    picture = np.asarray(draw_window(frame(0), 0, one_box()[:0], SENSOR.classes, truth=one_box()))
    edge = (picture[100, 200:320] == ImageColor.getrgb(plots.CLASS_COLOURS[0])).all(-1)
    assert 0.4 < edge.mean() < 0.8


@pytest.mark.parametrize("palette", plots.PALETTES)
def test_palettes(palette):
    picture = np.asarray(draw_window(frame(3), 0, one_box()[:0], SENSOR.classes, palette=palette))
    ground, on, _ = (np.array(colour) * 255 for colour in plots.PALETTES[palette])
    assert np.abs(picture[200, 35] - on).max() <= 1
    assert np.abs(picture[200, 100] - ground).max() <= 1


def test_tracks_are_written_beside_classes():
    boxes = one_box()
    pictures = [np.asarray(draw_window(frame(0), 0, boxes, SENSOR.classes))]
    boxes["track_id"] = 7
    pictures.append(np.asarray(draw_window(frame(0), 0, boxes, SENSOR.classes)))
    assert (pictures[0] != pictures[1]).any()


def test_an_mp4_of_an_odd_size_is_padded(tmp_path):
    sensor = Sensor.simulated(601, 47)
    with box_video(tmp_path / "a.mp4", sensor, 20) as show:
        show(np.zeros((20, 47, 601), np.uint8), 0, one_box()[:0])
    assert pictures(tmp_path / "a.mp4")[0].shape == (1, 48, 602, 3)


def test_boxes_lie_where_they_are():
    """Edges in the class's colour at ten times the coordinates; what is outside is at the border."""
    boxes = np.concatenate([one_box()] * 2)
    boxes["class_id"] = 0, 7
    boxes["x"][1], boxes["w"][1] = 55, np.inf
    picture = np.asarray(draw_window(frame(0), 1_250_000, boxes, SENSOR.classes))
    first, other = (ImageColor.getrgb(plots.CLASS_COLOURS[c]) for c in (0, 7 % 3))
    for y, x in [(100, 250), (250, 320), (170, 200), (170, 320)]:
        assert tuple(picture[y, x]) == first
    assert tuple(picture[170, 260]) == (255, 255, 255)
    assert tuple(picture[170, 609]) == other
    assert np.abs(picture[:440, :10].astype(int) - [0, 76, 191]).max() <= 1  # the column of events, blue


def test_nothing_is_left_of_a_video_that_fails(tmp_path, monkeypatch):
    for kind in ("gif", "mp4"):
        with pytest.raises(IndexError):  # there is no column 61
            write_columns(tmp_path / f"a.{kind}", 62)
        with pytest.raises(InputError, match="no window"):
            write(tmp_path / f"a.{kind}", 0)
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no encoder for h264 >&2; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(InputError, match=r"a\.mp4: ffmpeg failed \(no encoder for h264\); or write a \.gif"):
        write(tmp_path / "a.mp4", 40)
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_mp4_on_a_full_disk_asks_for_room(tmp_path, monkeypatch):
    class OntoAFullDisk(video._MP4):
        def __init__(self, file, *others):
            super().__init__(file, *others)
            self.target = "/dev/full"

    monkeypatch.setattr(video, "_MP4", OntoAFullDisk)
    with pytest.raises(InputError, match=r"a\.mp4: cannot be written \(No space left on device\); make room"):
        write(tmp_path / "a.mp4", 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("windows_per_s", "speed", "fps"), [(20, 0.00005, None), (20, 1, 0.001)])
def test_a_gif_refuses_pictures_that_stay_too_long(tmp_path, windows_per_s, speed, fps):
    with (
        pytest.raises(
            InputError, match=r"a\.gif: a picture for 1000 s; a GIF shows one for 655\.35 s at most"
        ),
        box_video(tmp_path / "a.gif", SENSOR, windows_per_s, speed, fps=fps) as show,
    ):
        show(frame(0), 0, one_box())
    write(tmp_path / "a.gif", 1, speed=1 / 13_107)  # of 655.35 s
    with Image.open(tmp_path / "a.gif") as file:
        assert file.info["duration"] == 655_350


def test_mistakes_are_named(tmp_path, monkeypatch):
    for name, speed, words in (("a.avi", 1.0, r"\.gif or \.mp4"), ("a.gif", 0.0, "speed is 0.0")):
        with pytest.raises(InputError, match=words):
            write(tmp_path / name, 1, speed=speed)
    monkeypatch.setattr(video.shutil, "which", lambda name: None)
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs ffmpeg: pip install 'ssmbook\[video\]'; or write a \.gif"):
        write(tmp_path / "a.mp4", 1)
    assert not list(tmp_path.iterdir())

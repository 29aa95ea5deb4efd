"""Events of a video: what its frames say, and nothing where they say nothing."""

from dataclasses import replace

import numpy as np
import pytest

from ssmbook.cli import main
from ssmbook.errors import InputError
from ssmbook.events import Events, open_events
from ssmbook.events.simulate import PIXELS, PixelModel
from ssmbook.events.simulate.pixel import DARK
from ssmbook.events.simulate.video import Video, log_intensity, simulate_video

ffmpeg = pytest.importorskip("imageio_ffmpeg")
IDEAL = PixelModel(threshold=0.25, spread=0, refractory_us=0, noise_hz=0, hot_share=0)
WIDTH, HEIGHT, FPS = 64, 48, 250


def write_video(path, frames, fps=FPS):
    """Grey frames [T, H, W] without loss."""
    options = {
        "pix_fmt_in": "gray",
        "fps": fps,
        "codec": "ffv1",
        "macro_block_size": 1,
        "pix_fmt_out": "gray",
    }
    writer = ffmpeg.write_frames(str(path), frames.shape[:0:-1], **options)
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
    return path


def disc(frames=50, speed=1.0):
    """A bright disc on grey that goes to the right by ``speed`` px a frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    at = [np.hypot(x - 10 - speed * n, y - HEIGHT / 2) for n in range(frames)]
    return np.stack([80 + 150 * np.clip(8.5 - d, 0, 1) for d in at]).astype(np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "disc.mkv", disc())


def read(path):
    with open_events(path) as recording:
        return Events.concatenate(list(recording.blocks())), recording.width, recording.height


def test_frames_are_the_videos(video):
    with_ffmpeg = Video(video)
    assert (with_ffmpeg.width, with_ffmpeg.height, with_ffmpeg.fps) == (WIDTH, HEIGHT, FPS)
    assert np.array_equal(np.stack(list(with_ffmpeg)), disc())


def test_log_intensity_is_its_formula():
    grey = np.array([[0, 20], [128, 255]], np.uint8)
    expected = 1.5 + np.log((grey / 255 + DARK) / (1 + DARK))
    assert np.allclose(log_intensity(grey, 1.5), expected, atol=1e-6)
    assert log_intensity(grey, 1.5)[1, 1] == 1.5


def test_each_pixel_emits_as_many_events_as_thresholds_are_crossed(tmp_path):
    grey = np.full((40, HEIGHT, WIDTH), 50, np.uint8)
    grey[:, :, 30:] = np.linspace(50, 250, 40).astype(np.uint8)[:, None, None]
    path = write_video(tmp_path / "ramp.mkv", grey)
    simulate_video(path, tmp_path / "v.dat", IDEAL, progress=False)
    events, width, height = read(tmp_path / "v.dat")
    assert (width, height) == (WIDTH, HEIGHT)
    assert events.x.min() == 30  # nothing where nothing changes
    assert events.p.all()
    rise = np.log((250 / 255 + DARK) / (50 / 255 + DARK)) / 0.25  # 5.4 thresholds
    # References begin uniformly within half a threshold of the level: the mean of floor(rise − u) is rise − 1/2.
    assert len(events) / HEIGHT / (WIDTH - 30) == pytest.approx(rise - 0.5, rel=0.02)


def test_stamps_are_where_the_line_between_two_frames_crosses(tmp_path):
    grey = np.stack([np.full((HEIGHT, WIDTH), level, np.uint8) for level in (100, 100, 200, 200)])
    path = write_video(tmp_path / "jump.mkv", grey, fps=10)
    simulate_video(path, tmp_path / "v.npy", replace(IDEAL, threshold=0.05), progress=False)
    events, *_ = read(tmp_path / "v.npy")
    assert (events.t >= 100_000).all()
    assert (events.t < 200_000).all()  # between the second frame and the third
    counts = np.histogram(events.t, bins=5, range=(100_000, 200_000))[0]
    assert counts.std() < 0.15 * counts.mean()


@pytest.mark.parametrize("ending", ["dat", "raw", "h5", "npy", "csv"])
def test_every_format_holds_the_same(video, tmp_path, ending):
    result = simulate_video(video, tmp_path / f"v.{ending}", progress=False)
    reference = simulate_video(video, tmp_path / "again.dat", progress=False)
    ours, theirs = read(tmp_path / f"v.{ending}")[0], read(tmp_path / "again.dat")[0]
    assert all(np.array_equal(getattr(ours, k), getattr(theirs, k)) for k in "txyp")
    assert result == reference
    assert (result.frames, result.fps, result.events) == (50, FPS, len(ours))
    assert result.seconds == pytest.approx(49 / FPS)


def test_size_and_rate_may_be_others(video, tmp_path):
    result = simulate_video(video, tmp_path / "v.dat", PIXELS["v2e"], size=(32, 24), fps=1000, progress=False)
    events, width, height = read(tmp_path / "v.dat")
    assert (width, height, result.fps) == (32, 24, 1000)
    assert 40_000 < events.t.max() < 49_000


def test_seeds_differ_and_repeat(video, tmp_path):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_video(video, tmp_path / f"{name}.dat", seed=seed, progress=False)
        files.append((tmp_path / f"{name}.dat").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"no video at all" * 100, "reads no video"), (None, "no such file")],
)
def test_what_is_no_video_is_named(tmp_path, content, message):
    path = tmp_path / "v.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        simulate_video(path, tmp_path / "v.dat", progress=False)
    assert not (tmp_path / "v.dat").exists()


def test_a_video_of_one_frame_or_with_a_bad_rate_is_named(video, tmp_path):
    one = write_video(tmp_path / "one.mkv", disc(frames=1))
    with pytest.raises(InputError, match="has one frame"):
        simulate_video(one, tmp_path / "v.dat", progress=False)
    with pytest.raises(InputError, match="rate above 0"):
        Video(video, fps=float("nan"))
    with pytest.raises(InputError, match="scale them"):
        Video(video, size=(10**6, 2))
    assert not list(tmp_path.glob("*.dat"))


def test_a_playlist_reaches_no_address(tmp_path):
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError, match="reads no video"):
        simulate_video(path, tmp_path / "v.dat", progress=False)


class TestCommand:
    def test_writes_a_recording_and_warns_of_a_low_rate(self, tmp_path, capsys):
        slow = write_video(tmp_path / "slow.mkv", disc(frames=10), fps=30)
        out = tmp_path / "v.dat"
        assert (
            main(["simulate", str(slow), "--out", str(out), "--pixel", "v2e", "-p", "threshold", "0.3"]) == 0
        )
        said = capsys.readouterr()
        assert "30 frames per second" in said.err
        assert "10 frames" in said.out
        assert out.exists()
        assert main(["simulate", str(slow), "--out", str(out), "--fps", "480"]) == 0
        assert "warning" not in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nothing"], "the sets are"),
            (["nothing.mp4"], "no such file"),
            (["VIDEO", "--pixel", "x"], "davis346-dim"),
            (["VIDEO", "-p", "x", "1"], "refractory_us"),
            (["VIDEO", "-p", "threshold", "x"], "is no number"),
            (["VIDEO", "-p", "threshold", "0"], "above 0"),
            (["VIDEO", "--seed", "-1"], "--seed -1"),
            (["memory", "--fps", "3"], "for videos"),
            (["memory", "--workers", "0"], "--workers 0"),
        ],
    )
    def test_bad_input_is_one_line_and_2(self, video, tmp_path, capsys, arguments, message):
        arguments = [str(video) if word == "VIDEO" else word for word in arguments]
        assert main(["simulate", *arguments, "--out", str(tmp_path / "v.dat")]) == 1
        said = capsys.readouterr().err.strip().splitlines()
        assert message in said[-1]
        assert not (tmp_path / "v.dat").exists()

"""Downloads from a server on this machine that cuts connections, ignores ranges and changes its files."""

import errno
import re
import shutil
import tarfile
import threading
import zlib
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from download_server import Server, tar_of

from ssmbook.cli import main
from ssmbook.dataset import download, published
from ssmbook.dataset.download import Source, fetch, unpack
from ssmbook.dataset.published import download_checkpoints, download_set
from ssmbook.errors import InputError

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "WAIT_S", 0.0)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# One file


def test_a_file_comes_whole_and_is_checked(server, tmp_path):
    source = server.source("a.tar", CONTENT, zlib.crc32(CONTENT))
    path, crc32 = fetch(source, tmp_path / "new", progress=False)
    assert (path.read_bytes(), crc32) == (CONTENT, zlib.crc32(CONTENT))
    assert names(tmp_path / "new") == ["a.tar"]
    assert fetch(source, tmp_path / "new", progress=False) == (path, crc32)
    assert server.asked == [0], "what is there is not fetched again"


@pytest.mark.parametrize("date", [None, "Tue, 01 Sep 2026 10:00:00 GMT"])
def test_cut_connections_are_taken_up_where_they_broke(server, tmp_path, date):
    server.cut, server.cuts, server.date = 70_000, 4, date
    path, crc32 = fetch(server.source("a.tar", CONTENT), tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert crc32 == zlib.crc32(CONTENT)
    assert server.asked == [0, 70_000, 140_000, 210_000, 280_000]


def test_a_later_run_goes_on(server, tmp_path, monkeypatch):
    source = server.source("a.tar", CONTENT, zlib.crc32(CONTENT))
    part_of(source, server, tmp_path, monkeypatch)
    assert names(tmp_path) == ["a.tar.part", "a.tar.part.json"]
    path, _ = fetch(source, tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert server.asked == [0, 100_000]
    assert names(tmp_path) == ["a.tar"]


def interrupted_after(ask, count):
    """``_ask`` that works so often, and is then interrupted by the user."""
    left = iter(range(count))

    def asked(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        ask(*arguments)

    return asked


def part_of(source, server, folder, monkeypatch, size=100_000):
    """Leave the first bytes of a file in a folder, as an interrupted run does."""
    server.cut, server.cuts = size, 1
    with monkeypatch.context() as patch:
        patch.setattr(download, "_ask", interrupted_after(download._ask, 1))
        with pytest.raises(KeyboardInterrupt):
            fetch(source, folder, progress=False)
    assert (folder / f"{source.name}.part").read_bytes() == server.files[f"/{source.name}"][:size]


def test_a_server_that_ignores_ranges_starts_cleanly(server, tmp_path, monkeypatch):
    source = server.source("a.tar", CONTENT)
    part_of(source, server, tmp_path, monkeypatch)
    server.ranges = False
    path, crc32 = fetch(source, tmp_path, progress=False)
    assert (path.read_bytes(), crc32) == (CONTENT, zlib.crc32(CONTENT))
    assert server.asked == [0, 0]


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT[:200_000], CONTENT[:50_000]])
def test_a_changed_file_is_not_spliced(server, tmp_path, monkeypatch, content):
    source = server.source("a.ckpt", CONTENT)
    part_of(source, server, tmp_path, monkeypatch)
    server.source("a.ckpt", content)
    path, crc32 = fetch(source, tmp_path, progress=False)
    assert (path.read_bytes(), crc32) == (content, zlib.crc32(content))


def test_a_part_of_no_known_version_is_not_gone_on_with(server, tmp_path, monkeypatch):
    source = server.source("a.ckpt", CONTENT)
    server.etag = False
    part_of(source, server, tmp_path, monkeypatch)
    path, _ = fetch(source, tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert server.asked == [0, 0]


@pytest.mark.parametrize("record", [b"", b"[1]", b'{"url": 3}'])
def test_a_damaged_record_means_from_the_start(server, tmp_path, monkeypatch, record):
    source = server.source("a.ckpt", CONTENT)
    part_of(source, server, tmp_path, monkeypatch)
    (tmp_path / "a.ckpt.part.json").write_bytes(record)
    assert fetch(source, tmp_path, progress=False)[0].read_bytes() == CONTENT


def test_a_server_that_always_cuts_is_given_up(server, tmp_path):
    source = server.source("a.tar", CONTENT)
    server.cut = 0
    with pytest.raises(InputError, match=r"a\.tar: cannot be fetched .*; the same command goes on"):
        fetch(source, tmp_path, progress=False)
    assert len(server.asked) == download.ATTEMPTS
    server.ranges, server.cut = False, 1000  # bytes come, but never more of them
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch(source, tmp_path, progress=False)


def test_a_wrong_file_is_named_and_removed(server, tmp_path):
    source = server.source("a.tar", CONTENT, zlib.crc32(CONTENT) ^ 1)
    message = f"crc32 is {zlib.crc32(CONTENT):08x}, not {zlib.crc32(CONTENT) ^ 1:08x}"
    with pytest.raises(InputError, match=message):
        fetch(source, tmp_path, progress=False)
    assert not list(tmp_path.glob("a.tar*[!n]"))
    (tmp_path / "a.tar").write_bytes(b"of an earlier day")
    with pytest.raises(InputError, match="fetch it again"):
        fetch(source, tmp_path, progress=False)
    assert not (tmp_path / "a.tar").exists()


def test_a_missing_file_is_named(server, tmp_path):
    source = server.source("a.tar", CONTENT)
    server.files.clear()
    with pytest.raises(InputError, match=r"a\.tar: HTTP Error 404"):
        fetch(source, tmp_path, progress=False)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ((204, {}), "answers with status 204"),
        ((206, {"Content-Length": "3", "Content-Range": "bytes 0-2/9"}), "answers with status 206"),
        ((200, {"Content-Length": "-5"}), "states a length of '-5'"),
        ((200, {"Content-Length": "three"}), "states a length of 'three'"),
        ((200, {"Content-Length": "1" + "0" * 40}), "states a length of '1000"),
        ((200, {"Content-Length": "0"}), "sends an empty file"),
        (
            (302, {"Location": "ftp://127.0.0.1/a.tar"}),
            "redirects to 'ftp://127.0.0.1/a.tar', which is not https",
        ),
        ((302, {"Location": "file:///etc/passwd"}), "'file:///etc/passwd' is not allowed"),
        ((301, {"Location": "http://127.0.0.1:1/a.tar"}), "which is not https; it is not followed"),
    ],
)
def test_odd_answers_are_named_at_once(server, tmp_path, odd, message):
    source = server.source("a.tar", CONTENT)
    server.odd = odd
    with pytest.raises(InputError, match=re.escape(message)) as error:
        fetch(source, tmp_path, progress=False)
    assert source.url in str(error.value)
    assert not (tmp_path / "a.tar").exists()


@pytest.mark.parametrize(
    "url",
    [
        *("", "a.tar", "ftp://h/a.tar", "file:///etc/passwd", "https://h/", "https://h/..", "http:///a"),
        *("http://h:x/a", "https://h/a b", "https://h/a\x00b", "https://[/a", "https://h/a\nb"),
    ],
)
def test_bad_addresses_are_named(tmp_path, url):
    with pytest.raises(InputError, match="is no address of a file"):
        fetch(Source(url), tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_what_is_on_the_disk_is_checked(server, tmp_path, monkeypatch):
    """Another process has written into the part, as two runs without a lock would."""
    source = server.source("a.ckpt", CONTENT)
    complete = download._complete

    def scribble(part, bar):
        complete(part, bar)
        with open(part.path, "r+b") as file:
            file.write(b"scribbled")

    monkeypatch.setattr(download, "_complete", scribble)
    with pytest.raises(InputError, match="is not on the disk as it was fetched"):
        fetch(source, tmp_path, progress=False)
    monkeypatch.undo()
    assert fetch(source, tmp_path, progress=False)[0].read_bytes() == CONTENT


def test_two_runs_fetch_one_after_the_other(server, tmp_path):
    source = server.source("a.ckpt", CONTENT)
    server.cut, server.cuts = 20_000, 10  # so that one is at it while the other begins
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch(source, tmp_path, progress=False), range(4)))
    assert {crc32 for _, crc32 in found} == {zlib.crc32(CONTENT)}
    assert (tmp_path / "a.ckpt").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.ckpt"]
    assert sorted(server.asked) == [20_000 * i for i in range(11)], "it is fetched once"


# Archives


@pytest.mark.parametrize(
    "bad",
    [
        {"../out": b"x"},
        {"a/../../out": b"x"},
        {"/etc/out": b"x"},
        {"out": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}},
        {"out": {"type": tarfile.LNKTYPE, "linkname": "../secret"}},
        {"out": {"type": tarfile.FIFOTYPE}},
    ],
)
def test_no_member_leaves_its_folder(tmp_path, bad):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tar").write_bytes(tar_of({"a/good": b"x", **bad}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"member '{re.escape(next(iter(bad)))}' is a link or leads out"):
        unpack(tmp_path / "in/a.tar", tmp_path / "in/contents", progress=False)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [b"no tar", tar_of({"a": bytes(5000)})[:2000]])
def test_a_damaged_archive_is_named(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tar: is damaged or no tar"):
        unpack(tmp_path / "a.tar", tmp_path / "contents", progress=False)
    assert names(tmp_path) == ["a.tar"]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.tar").write_bytes(tar_of({"a": b"x"}))
    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(
        InputError, match=r"contents: cannot be written \(No space left on device\); make room"
    ):
        unpack(tmp_path / "a.tar", tmp_path / "contents", progress=False)
    assert names(tmp_path) == ["a.tar"]


# Sets


@pytest.fixture
def sets(server, monkeypatch):
    """Published sets of a few bytes on the local server."""
    preprocessed = tar_of({f"gen1/{split}/seq/x": split.encode() for split in ("train", "val", "test")})
    raws = {
        "train": tar_of({"train/a_bbox.npy": b"train"}),
        "val": tar_of({"a_bbox.npy": b"val", "b_bbox.npy": b"val"}),
        "test": tar_of({"gen1/test/a_bbox.npy": b"test"}),
    }
    monkeypatch.setattr(
        published, "PREPROCESSED", {"gen1": server.source("gen1.tar", preprocessed, zlib.crc32(preprocessed))}
    )
    monkeypatch.setattr(
        published,
        "RAW",
        {"gen1": {split: server.source(f"{split}.tar", tar, zlib.crc32(tar)) for split, tar in raws.items()}},
    )
    monkeypatch.setattr(published, "CHECKPOINTS", {"gen1_small": server.source("gen1_small.ckpt", CONTENT)})
    return server


def test_a_preprocessed_set_is_unpacked(sets, tmp_path):
    folders = download_set("gen1", tmp_path, progress=False)
    assert folders == [tmp_path / split for split in ("train", "val", "test")]
    assert [(folder / "seq/x").read_text() for folder in folders] == ["train", "val", "test"]
    assert names(tmp_path) == ["downloads.json", "test", "train", "val"]
    download_set("gen1", tmp_path, progress=False)
    assert sets.asked == [0], "what is there is not fetched again"


def test_splits_of_a_preprocessed_set_come_from_one_archive(sets, tmp_path):
    download_set("gen1", tmp_path, splits=["val"], progress=False)
    assert names(tmp_path) == ["downloads.json", "gen1.tar", "val"]
    download_set("gen1", tmp_path, progress=False)
    assert names(tmp_path) == ["downloads.json", "test", "train", "val"]
    assert sets.asked == [0]


def test_a_raw_set_is_unpacked_split_by_split(sets, tmp_path):
    folders = download_set("gen1", tmp_path, raw=True, progress=False)
    assert folders == [tmp_path / "raw" / split for split in ("train", "val", "test")]
    assert [(folder / "a_bbox.npy").read_text() for folder in folders] == ["train", "val", "test"]
    assert names(tmp_path / "raw") == ["test", "train", "val"]
    shutil.rmtree(tmp_path / "raw/val")
    download_set("gen1", tmp_path, raw=True, progress=False)
    assert names(tmp_path / "raw") == ["test", "train", "val"]
    assert len(sets.asked) == 4, "only what is missing"


def test_a_folder_in_the_way_is_left_alone(sets, tmp_path):
    (tmp_path / "val").mkdir()
    with pytest.raises(InputError, match="val: is there, but was not fetched by this command"):
        download_set("gen1", tmp_path, progress=False)
    assert sets.asked == []


def test_too_little_disk_space_is_refused_first(sets, tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(published.shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(InputError, match=r"needs 0\.0 GB, but 0\.0 GB are free"):
        download_set("gen1", tmp_path, progress=False)
    assert sets.asked == []
    assert "GB of disk needed" in capsys.readouterr().err


def test_another_archive_than_expected_is_named(sets, tmp_path):
    other = tar_of({"gen1/train/seq/x": b"x"})
    published.PREPROCESSED["gen1"] = sets.source("gen1.tar", other)
    with pytest.raises(InputError, match=r"gen1\.tar: has no folder val"):
        download_set("gen1", tmp_path, progress=False)


def test_checkpoints_say_their_crc32(sets, tmp_path):
    found = download_checkpoints(tmp_path, progress=False)
    assert found == {"gen1_small": (tmp_path / "gen1_small.ckpt", zlib.crc32(CONTENT))}


def test_checkpoints_are_checked_against_the_first_time(sets, tmp_path):
    download_checkpoints(tmp_path, progress=False)
    download_checkpoints(tmp_path, progress=False)
    assert sets.asked == [0]
    (tmp_path / "gen1_small.ckpt").write_bytes(CONTENT[::-1])
    with pytest.raises(InputError, match=f"not {zlib.crc32(CONTENT):08x} as stated"):
        download_checkpoints(tmp_path, progress=False)
    download_checkpoints(tmp_path, progress=False)
    assert (tmp_path / "gen1_small.ckpt").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "record", ["[]", "{", '{"val": 3}', '{"val": {"crc32": 5}}', '{"val": {}}', "[" * 99_999]
)
def test_a_damaged_record_of_downloads_is_named(sets, tmp_path, record):
    (tmp_path / "val").mkdir()
    (tmp_path / "downloads.json").write_text(record)
    with pytest.raises(InputError, match=r"downloads\.json: cannot be read"):
        download_set("gen1", tmp_path, progress=False)


def test_the_command(sets, tmp_path, capsys):
    assert main(["download", "gen1", "--split", "val", "test", "--to", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "a/val"), str(tmp_path / "a/test")]
    assert main(["download", "checkpoints", "--to", str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'b/gen1_small.ckpt'}: crc32 {zlib.crc32(CONTENT):08x}" in out
    assert "state none" in out
    assert main(["download", "gen1", "--split", "all", "--to", str(tmp_path / "c")]) == 1
    assert "split 'all' is unknown" in capsys.readouterr().err
    assert main(["download", "checkpoints", "--raw"]) == 1


def test_addresses_are_those_of_the_published_sets():
    for source in (*published.PREPROCESSED.values(), *published.CHECKPOINTS.values()):
        assert source.url.startswith("https://download.ifi.uzh.ch/rpg/")
    assert {source.crc32 for archives in published.RAW.values() for source in archives.values()} == {
        0x3D23BD30,
        0xCC802022,
        0xCDD4FD69,
        0xD677488A,
        0x72F13C3E,
        0x643E61EF,
    }

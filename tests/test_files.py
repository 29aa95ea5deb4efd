"""Files appear whole or not at all, folders are held by one process at a time, and the dead leave nothing."""

import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from ssmbook.errors import InputError, one_line, shown
from ssmbook.files import atomic_folder, atomic_write, existing_folder, lock, read_json, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    (tmp_path / "a").write_bytes(b"before")
    with suppress(KeyboardInterrupt), atomic_write(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_bytes() == b"before"
    with atomic_write(tmp_path / "a") as file:
        file.write(b"after")
        assert (tmp_path / "a").read_bytes() == b"before"
    assert (tmp_path / "a").read_bytes() == b"after"
    assert names(tmp_path) == ["a"]


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path):
    code = (
        "import os, sys; from ssmbook.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file: os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a[1]")])
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    (tmp_path / f".a[1].{os.getpid()}@elsewhere.tmp").touch()  # of another machine: it may be alive there
    with atomic_write(tmp_path / "a[1]") as file:
        file.write(b"x")
    assert names(tmp_path) == [f".a[1].{os.getpid()}@elsewhere.tmp", "a[1]"]


def test_threads_write_one_file_beside_each_other(tmp_path):
    def write(k):
        for _ in range(50):
            with atomic_write(tmp_path / "a") as file:
                file.write(b"%d" % k * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert (tmp_path / "a").read_bytes() in {b"%d" % k * 1000 for k in range(4)}
    assert names(tmp_path) == ["a"]


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / "a").write_bytes(b"before")
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link", "pipe"):
        with atomic_write(tmp_path / name) as file:
            file.write(b"after")
    assert os.read(reader, 9) == (tmp_path / "a").read_bytes() == b"after"
    os.close(reader)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link to the pipe").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(tmp_path / "link to the pipe") as file:
        file.write(b"again")
    assert os.read(reader, 9) == b"again"
    os.close(reader)
    code = (
        "from ssmbook.files import atomic_write\nwith atomic_write('/dev/stdout') as file: file.write(b'x')"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout == b"x"
    with atomic_write(os.devnull) as file:
        file.write(b"x")
    assert Path(os.devnull).is_char_device()
    assert names(tmp_path) == ["a", "link", "link to the pipe", "pipe"]


def test_what_the_system_refuses_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be written"), atomic_write(tmp_path / "no" / "a"):
        pass
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with (
            pytest.raises(InputError, match=r"a: cannot be written \(File too large\); make room"),
            atomic_write(tmp_path / "a") as file,
        ):
            file.write(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == []


def test_json_is_read_back(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"b": [1, None, "é"]})
    assert read_json(tmp_path / "new" / "a.json") == {"b": [1, None, "é"]}
    assert read_json(tmp_path / "none.json") is None
    for damaged in (b'{"b": [1', b"", b"\xff", b"[" * 100_000):
        (tmp_path / "damaged.json").write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged\.json: is no JSON .* remove it"):
            read_json(tmp_path / "damaged.json")


HOLD = """
import sys, time
from ssmbook.files import lock
with lock(sys.argv[1], "counts in it"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder, seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    return process


def test_who_comes_second_waits_and_says_for_whom(tmp_path, capfd):
    with hold(tmp_path / "new", 1.0) as process:
        start = time.monotonic()
        with lock(tmp_path / "new", "tests"):
            assert time.monotonic() - start > 0.3
        assert f"new: process {process.pid} on " in (said := capfd.readouterr().err)
        assert "counts in it; waiting for it" in said
    assert names(tmp_path / "new") == []


def test_a_lock_beside_a_folder_lets_it_be_renamed(tmp_path):
    with lock(tmp_path / "a", "tests", beside=True):
        assert names(tmp_path) == [".a.lock"]
        (tmp_path / "a").mkdir()
        (tmp_path / "a").rename(tmp_path / "b")
        with (
            pytest.raises(InputError, match=rf"a: process {os.getpid()} on .* tests; wait until"),
            lock(tmp_path / "a", "others", wait=False, beside=True),
        ):
            pass
    assert names(tmp_path) == ["b"]


def test_who_does_not_wait_is_told_who_holds_it(tmp_path):
    with hold(tmp_path, 60) as process:
        with (
            pytest.raises(InputError, match=rf"process {process.pid} on .* counts in it"),
            lock(tmp_path, "tests", wait=False),
        ):
            pass
        process.kill()
    with lock(tmp_path, "tests", wait=False):  # a lock ends with its process
        assert names(tmp_path) == [".lock"]
    assert names(tmp_path) == []


COUNT = """
import sys
from pathlib import Path
from ssmbook.files import lock
for _ in range(15):
    with lock(sys.argv[1], "counts"):
        file = Path(sys.argv[1], "count")
        n = int(file.read_text())
        file.write_text(str(n + 1))
"""


def test_no_two_are_inside_at_once(tmp_path):
    (tmp_path / "count").write_text("0")
    quiet = {"stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)], **quiet) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "45"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(InputError, match="a/b: cannot be written"), lock(tmp_path / "a" / "b", "tests"):
        pass

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"b: cannot be written .* make room"), lock(tmp_path / "b", "tests"):
        pass
    monkeypatch.undo()
    with lock(tmp_path / "b", "tests", wait=False):
        pass


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fill(refusal=None):
        with atomic_folder(tmp_path / "b") as folder:
            (folder / "x").touch()
            if refusal:
                raise refusal

    with pytest.raises(InputError, match="b: cannot be written"):
        fill(OSError(errno.ENOSPC, "No space left on device"))
    assert names(tmp_path) == []
    fill()
    assert names(tmp_path / "b") == ["x"]
    with pytest.raises(InputError, match="is there already"):
        fill()


def test_a_folder_that_a_killed_process_was_filling_goes_with_the_next(tmp_path):
    code = (
        "import os, sys; from ssmbook.files import atomic_folder\n"
        "with atomic_folder(sys.argv[1]) as folder: os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b")])
    assert len(names(tmp_path)) == 1
    with atomic_folder(tmp_path / "b") as folder:
        (folder / "x").touch()
    assert names(tmp_path) == ["b"]


def test_the_current_folder_is_no_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(InputError, match=r"^\.: is there already; give the name of a new folder"),
        atomic_folder("."),
    ):
        pass
    assert names(tmp_path) == []


# Messages


def test_a_message_is_one_line_that_prints():
    error = InputError("a\x1b[31m\nb\ud800é\x00")
    assert str(error) == "a\\x1b[31m\\nb\\ud800é\\x00"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    long = str(InputError("head" + "x" * 10_000_000 + "remedy"))
    assert len(long) == 1000
    assert long.startswith("headx")
    assert long.endswith("xremedy")


def test_values_are_shown_short():
    assert shown("ab\n") == "'ab\\n'"
    assert len(shown("x" * 10**7)) == 60
    assert shown(10**5000) == "a value of type int"
    nested = []
    for _ in range(10**5):
        nested = [nested]
    assert shown(nested) == "a value of type list"
    assert one_line("short", 60) == "short"


def test_a_folder_that_is_missing_is_named_with_what_it_may_be(tmp_path):
    (tmp_path / "gen1").mkdir()
    assert existing_folder(tmp_path / "gen1", "a set") == tmp_path / "gen1"
    with pytest.raises(InputError, match=r"gen2: no such folder, for a set; is it .*gen1\?"):
        existing_folder(tmp_path / "gen2", "a set")
    for name in ("other", "a\x00b", "x" * 5000, "no/where"):
        with pytest.raises(InputError, match="no such folder, for a set; mend the name"):
            existing_folder(tmp_path / name, "a set")
    assert names(tmp_path) == ["gen1"]

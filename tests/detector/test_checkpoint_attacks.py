"""Forged checkpoints: refused in one line, with little memory and in a moment; nothing of them is run."""

import struct
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from checkpoint_files import (
    call,
    group,
    integer,
    items,
    named,
    small_detector,
    storage,
    tensor,
    text,
    whole,
    write_archive,
)

from ssmbook.dataset import get_sensor
from ssmbook.detector import load_checkpoint
from ssmbook.detector.checkpoint_file import read_checkpoint
from ssmbook.detector.checkpoint_pickle import OPAQUE
from ssmbook.errors import InputError


def doubled(times):
    """A list that holds the one before twice, so many times: 2^times values in a few bytes."""
    lists = b"".join(b"](h%ch%ceq%c0" % (n, n, n + 1) for n in range(times))
    return b"]q\x000" + lists + b"h%c" % times


def rebuild(name, *arguments):
    return call(("torch._utils", name), *arguments)


REFUSED = {
    "nested deep": (items(a=b")" + b"\x85" * 200_000), "nested more than 100 deep"),
    "holds itself": (items(a=b"]q\x00h\x00a"), "nested more than 100 deep"),
    "doubled": (items(a=doubled(40)), "more often than any checkpoint"),
    "text of 2^62 bytes": (b"\x8d" + (1 << 62).to_bytes(8, "little") + b"a", "damaged or foreign"),
    "bytes of 4 GB": (b"B\xff\xff\xff\xffa", "damaged or foreign"),
    "number of 5,000 digits": (b"I" + b"9" * 5000 + b"\n", "damaged or foreign"),
    "a memo that is not there": (b"j\xff\xff\xff\x7f", "damaged or foreign"),
    "nothing on the stack": (b"0000", "damaged or foreign"),
    "no mark": (b"t", "damaged or foreign"),
    "an extension": (b"\x82\x01", "opcode EXT1"),
    "a buffer": (b"\x97", "opcode NEXT_BUFFER"),
    "a set of a dictionary's name": (b"\x8c\x01a\x8f\x93", "names a class by something"),
    "a call of nothing": (group() + group() + b"R", "wants to call a tuple"),
    "expanded": (items(a=tensor((1 << 40,), (0,))), "share memory.*clone"),
    "overlapping": (items(a=tensor((3, 3), (1, 1))), "share memory"),
    "beyond the storage": (items(a=tensor((5,), (1,))), "on a storage of 4 elements"),
    "offset beyond": (items(a=tensor((2,), (1,), 3)), "on a storage of 4 elements"),
    "negative": (items(a=tensor((-1,), (1,))), "no lengths"),
    "2^70 elements": (items(a=tensor((1 << 70,), (1,))), "no lengths"),
    "shorter than it says": (items(a=tensor((4,), (1,), on=storage(length=5))), "shorter than it says"),
    "missing storage": (items(a=tensor((4,), (1,), on=storage("7"))), "data/7 is missing"),
    "two types": (
        items(a=tensor((4,), (1,)), b=tensor((2,), (1,), on=storage(kind="DoubleStorage", length=2))),
        "of two types",
    ),
    "quantised storage": (items(a=storage(kind="QInt8Storage")), "unknown kind.*QInt8Storage"),
    "no storage": (
        items(a=call(("torch._utils", "_rebuild_tensor_v2"), b"N", integer(0), b")", b")")),
        "without",
    ),
    "sparse": (
        items(a=rebuild("_rebuild_sparse_tensor", b"N", b")")),
        "not a dense one.*_rebuild_sparse_tensor",
    ),
    "meta": (items(a=rebuild("_rebuild_meta_tensor_no_storage", b"N", b")")), "not a dense one"),
    "a subclass": (items(a=rebuild("_rebuild_from_type_v2", b"N", b")")), "not a dense one"),
    "a function": (items(a=call(("os", "system"), text("true"))), r"wants to call (os|posix)\.system"),
    "a builder as an object": (b"(" + named("builtins", "exec") + text("1") + b"o", r"call builtins\.exec"),
    "an instance": (b"(" + text("1") + b"ibuiltins\neval\n", r"call builtins\.eval"),
    "items of a tensor": (
        items(a=tensor((4,), (1,)) + integer(0) + integer(1) + b"s"),
        "sets items of a Tensor",
    ),
    "a list alone": (b"]", "holds a list"),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_forged_pickles_are_refused(tmp_path, attack):
    body, words = REFUSED[attack]
    path = write_archive(tmp_path / "forged.ckpt", whole(body))
    start = time.process_time()
    with pytest.raises(InputError, match=words) as error:
        read_checkpoint(path)
    assert time.process_time() - start < 3
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "body",
    [
        b"}r\xff\xff\xff\xff",  # a memo index of 4 GB
        b"}p99999999999\n",
        items(a=b"N") + b")" + b"\x85" * 200_000 + b"Ns",  # a key that would hash through 200,000 tuples
        items(a=b"N") + integer(1 << 10**6) + b"Ns",
        items(a=b"N") + items(items=integer(3), get=b"N") + b"b",  # attributes that hide methods
        items(a=named("os", "system") + items(__call__=b"N") + b"b"),  # attributes of a function's name
        items(a=b")\x81".join([named("subprocess", "Popen"), b""])),  # made without a call
    ],
)
def test_what_does_no_harm_is_left_out(tmp_path, body):
    content = read_checkpoint(write_archive(tmp_path / "odd.ckpt", whole(body)))
    assert set(content) <= {"a"}
    with pytest.raises(InputError, match="holds no weights"):
        load_checkpoint(tmp_path / "odd.ckpt")


def test_tensors_are_views_that_hold_what_the_file_does(tmp_path):
    data = struct.pack("<6f", *range(6))
    on = storage(length=6)
    body = items(
        rows=tensor((2, 3), (3, 1), on=on),
        turned=tensor((3, 2), (1, 3), on=on),
        part=tensor((2,), (2,), 1, on=on),
        number=tensor((), (), 5, on=on),
        empty=tensor((0, 1 << 60), (1, 1), on=on),
        settings=call(("my.library", "Settings"), integer(1)),
    )
    content = read_checkpoint(write_archive(tmp_path / "a.ckpt", whole(body), {"0": data}))
    assert content["rows"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert content["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert content["part"].tolist() == [1, 3]
    assert content["number"].item() == 5
    assert content["empty"].shape == (0, 1 << 60)
    assert content["settings"] is OPAQUE


def test_a_pickle_without_end_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("ssmbook.detector.checkpoint_pickle.MOST_OPCODES", 1000)
    with pytest.raises(InputError, match="more than 1,000 opcodes"):
        read_checkpoint(write_archive(tmp_path / "a.ckpt", whole(b"N0" * 1000)))
    monkeypatch.setattr("ssmbook.detector.checkpoint_pickle.MOST_TENSORS", 3)
    with pytest.raises(InputError, match="more than 3 tensors"):
        read_checkpoint(write_archive(tmp_path / "a.ckpt", whole(b"(" + tensor((4,), (1,)) * 4 + b"l")))


def test_a_zip_bomb_is_not_inflated(tmp_path):
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", whole(items(a=tensor((4,), (1,)))))
        archive.writestr("a/data/0", bytes(1 << 26))
    with pytest.raises(
        InputError, match=r"bomb\.ckpt: a/data\S+ in it is compressed, which PyTorch never does"
    ):
        read_checkpoint(path)


def test_members_that_share_their_bytes_are_refused(tmp_path):
    """A directory that names one member a hundred times: a hundred times the file's bytes."""
    path = write_archive(tmp_path / "a.ckpt", whole(b"}"), {"0": bytes(1000)})
    with zipfile.ZipFile(path, "a") as archive:
        member = archive.getinfo("a/data/0")
        archive.filelist += [member] * 100
        archive.writestr("a/end", "")
    with pytest.raises(InputError, match=r"a\.ckpt: what it holds is longer than the file itself"):
        read_checkpoint(path)


def test_another_byte_order_is_refused(tmp_path):
    path = write_archive(tmp_path / "a.ckpt", whole(b"}"))
    path.write_bytes(path.read_bytes().replace(b"little", b"bigger"))
    with pytest.raises(InputError, match="damaged"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", whole(b"}"))
        archive.writestr("a/byteorder", "big")
    with pytest.raises(InputError, match="another byte order"):
        read_checkpoint(path)


# Weights and configs


@pytest.fixture(scope="module")
def own():
    model = small_detector()
    return {"format": "ssmbook.detector", "config": model.config, "state_dict": model.state_dict()}


def refused(tmp_path, content, words):
    torch.save(content, tmp_path / "own.ckpt")
    with pytest.raises(InputError, match=words) as error:
        load_checkpoint(tmp_path / "own.ckpt")
    assert str(error.value).startswith(str(tmp_path / "own.ckpt"))


NORM = "backbone.stages.0.norm.weight"


@pytest.mark.parametrize(
    ("name", "weight", "words"),
    [
        (NORM, torch.ones(8, dtype=torch.complex64), rf"{NORM} \[8\] of torch.complex64, not \[8\]"),
        (NORM, torch.ones(8, dtype=torch.int64), r"\[8\] of integers, not \[8\]"),
        (NORM, torch.tensor(1.0), r"\[\], not \[8\]"),
        (NORM, torch.ones(8).to_sparse(), "not a dense one"),
        (NORM, torch.ones(8, device="meta"), "not a dense one"),
        (NORM, torch.ones(1).expand(8), "share memory"),
        ("backbone.stages.0.downsample.weight", torch.ones(8), "first or last layer"),
    ],
)
def test_weights_that_are_none(tmp_path, own, name, weight, words):
    refused(tmp_path, {**own, "state_dict": {**own["state_dict"], name: weight}}, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_hw": (10**9, 10**9)}, r"input_hw is \(1000000000, .*1 to 8192"),
        ({"input_hw": 10**9}, "input_hw must be a pair"),
        ({"input_hw": [64, "a"]}, "input_hw must be a number, not 'a'"),
        ({"partition": (10**9, 2)}, "1 to 8192"),
        ({"embed_dim": 4096, "dim_head": 4096}, "embed_dim 4096, but its weights have 8"),
        ({"embed_dim": 10**400}, "embed_dim .* but its weights have 8"),
        ({"embed_dim": torch.ones(3)}, r"embed_dim .*damaged"),
        ({"fpn_depth": 16.0}, "bottlenecks 48, but its weights have 0"),
        ({"fpn_depth": float("nan")}, "fpn_depth nan; the file is damaged"),
        ({"fpn_depth": "deep"}, "bottlenecks 'deep', but"),
        ({"dim_head": 10**400}, "dim_head must be a number"),
        ({"num_classes": 4000}, "num_classes 4000, but its weights have 2"),
        ({"in_channels": 4000}, "in_channels 4000, but its weights have 20"),
        ({"recurrence": ["s5"]}, r"its recurrence is \['s5'\]"),
        ({"carry": ["exact"]}, "carry"),
        ({"carry": [["exact"]]}, r"carry is \[\['exact'\]\]"),
        ({"mask_token": torch.ones(3)}, "mask_token .*damaged"),
        ({"recurrence": "s5", "bandlimit": "wide"}, "bandlimit must be a number .*not 'wide'"),
        ({"recurrence": "s4", "state_gain": "loud"}, "of another kind|state_gain"),
    ],
)
def test_configs_that_would_allocate_or_are_of_other_types(tmp_path, own, change, words):
    refused(tmp_path, {**own, "config": {**own["config"], **change}}, words)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"sensor": {"name": "x", "lens": "wide"}}, r"later version.*holds sensor\.lens"),
        ({"sensor": {3: 4}}, r"holds sensor\.3"),
        ({"sensor": {"name": "x"}}, "'trained_on' is damaged: .*missing"),
        ({"sensor": [1, 2]}, r"damaged: sensor is \[1, 2\]"),
        ({3: 1}, "later version: .* holds 3;"),
        ({"rates_hz": "fast"}, "rates_hz is 'fast'"),
        ({"rates_hz": (20.0, torch.ones(2))}, "rates_hz"),
        ({"stride_us": 10**400}, "stride_us"),
        ({"options": {3: 4}}, "options"),
        (
            {"sensor": asdict(get_sensor("gen1")), "options": {"a": 1}},
            "'trained_on' is damaged: .* has no option a",
        ),
        (
            {"sensor": asdict(get_sensor("gen1")), "options": {"bins": "x"}},
            "'trained_on' is damaged: .*wrong type",
        ),
        ([1], "is a list, not a record"),
    ],
)
def test_records_of_other_fields(tmp_path, own, record, words):
    refused(tmp_path, {**own, "trained_on": record}, words)


def test_forged_files_take_no_memory(tmp_path):
    """All of them, read in a process that may take 300 MB more than it has."""
    for number, (body, _) in enumerate(REFUSED.values()):
        write_archive(tmp_path / f"{number}.ckpt", whole(body))
    code = (
        "import resource, sys; from pathlib import Path; from ssmbook.detector.checkpoint_file import read_checkpoint\n"
        "pages = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (300 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages, pages))\n"
        "for path in Path(sys.argv[1]).iterdir():\n"
        "    try: read_checkpoint(path)\n"
        "    except ValueError as error: assert 'MemoryError' not in str(error), error\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(arguments, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

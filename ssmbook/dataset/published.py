"""The published sets and checkpoints: where they lie, and into which folders they come.

    <folder>/{train,val,test}          a preprocessed set
    <folder>/raw/{train,val,test}      a raw set
    <folder>/downloads.json            what came from where, with its crc32

Source: the addresses and crc32 that the authors of RVT and of S5-ViT state.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ssmbook.dataset.download import Source, bytes_to_fetch, fetch_alone, unpack
from ssmbook.dataset.layout import SPLITS
from ssmbook.errors import InputError
from ssmbook.files import atomic_write, lock

_RVT = "https://download.ifi.uzh.ch/rpg/RVT/datasets"
_ZUBIC = "https://download.ifi.uzh.ch/rpg/CVPR24_Zubic"


PREPROCESSED = {
    "gen1": Source(f"{_RVT}/preprocessed/gen1.tar", 0x5ACAB6F3),
    "gen4": Source(f"{_RVT}/preprocessed/gen4.tar", 0xC5EC7C38),
}
RAW = {
    "gen1": {
        "train": Source(f"{_RVT}/gen1_tar/train.tar", 0x3D23BD30),
        "val": Source(f"{_RVT}/gen1_tar/val.tar", 0xCC802022),
        "test": Source(f"{_RVT}/gen1_tar/test.tar", 0xCDD4FD69),
    },
    "gen4": {
        "train": Source(f"{_RVT}/gen4_tar/train.tar", 0xD677488A),
        "val": Source(f"{_RVT}/gen4_tar/val.tar", 0x72F13C3E),
        "test": Source(f"{_RVT}/gen4_tar/test.tar", 0x643E61EF),
    },
}
CHECKPOINTS = {
    name: Source(f"{_ZUBIC}/{name}.ckpt") for name in ("gen1_base", "gen1_small", "gen4_base", "gen4_small")
}

RECORD = "downloads.json"


def download_checkpoints(
    folder: str | os.PathLike[str], progress: bool = True
) -> dict[str, tuple[Path, int]]:
    """Fetch the released S5-ViT checkpoints: name → path and crc32.

    Their authors state no crc32. The one of the first time is kept in ``downloads.json``, and later ones are checked
    against it.
    """
    folder = Path(folder)
    fetched = {}
    with lock(folder, "downloads into it"):
        _check_space(list(CHECKPOINTS.values()), folder, unpacked=False)
        done = _read_record(folder)
        for name, source in CHECKPOINTS.items():
            known = done.get(source.name, {})
            crc32 = int(known["crc32"], 16) if known.get("url") == source.url else None
            fetched[name] = fetch_alone(replace(source, crc32=crc32), folder, progress)
            done[source.name] = {"url": source.url, "crc32": f"{fetched[name][1]:08x}"}
            _write_record(folder, done)
    return fetched


def download_set(
    name: str,
    folder: str | os.PathLike[str],
    raw: bool = False,
    splits: Sequence[str] = SPLITS,
    progress: bool = True,
) -> list[Path]:
    """Fetch and unpack a published set; what is there is left, and an interrupted download goes on.

    Args:
        name: ``"gen1"`` or ``"gen4"`` (1 Mpx).
        raw: the raw set, an archive for each split; otherwise the preprocessed one, a single archive.
        splits: which of them. The archive of a preprocessed set stays until all three are unpacked.

    Returns:
        The folders of the splits.

    Raises:
        InputError: an unknown name or split, too little disk space, a folder that is in the way, a server that
            refuses, another crc32, or an archive that is damaged or leads out of its folder.
    """
    if name not in PREPROCESSED:
        raise InputError(f"there is no set {name!r}; there are {', '.join(PREPROCESSED)}")
    for split in splits:
        if split not in SPLITS:
            raise InputError(f"split {split!r} is unknown; there are {', '.join(SPLITS)}")
    folder = Path(folder)
    with lock(folder, "downloads into it"):
        return _download_set(name, folder, raw, splits, progress)


def _download_set(name: str, folder: Path, raw: bool, splits: Sequence[str], progress: bool) -> list[Path]:
    """As ``download_set``, for one who holds the folder's lock."""
    targets = {split: folder / "raw" / split if raw else folder / split for split in splits}
    done = _read_record(folder)
    todo = [split for split, target in targets.items() if _key(target, folder) not in done]
    for split in todo:
        if targets[split].exists():
            raise InputError(
                f"{targets[split]}: is there, but was not fetched by this command; move it away first"
            )
    sources = {split: RAW[name][split] if raw else PREPROCESSED[name] for split in todo}
    _check_space(list(dict.fromkeys(sources.values())), folder, unpacked=True)
    for source in dict.fromkeys(sources.values()):
        archive, crc32 = fetch_alone(source, folder, progress)
        own = [split for split in todo if sources[split] == source]
        contents = folder / f".{source.name}.contents"
        shutil.rmtree(contents, ignore_errors=True)
        unpack(archive, contents, None if raw else set(own), progress)
        for split in own:
            root = _root(contents, split, archive)
            # Recorded first: what is recorded but not there counts as not done.
            done[_key(targets[split], folder)] = {"url": source.url, "crc32": f"{crc32:08x}"}
            _write_record(folder, done)
            targets[split].parent.mkdir(parents=True, exist_ok=True)
            os.replace(root, targets[split])
        shutil.rmtree(contents, ignore_errors=True)
        if raw or all(split in done for split in SPLITS):
            archive.unlink()
    return list(targets.values())


def _key(target: Path, folder: Path) -> str:
    return target.relative_to(folder).as_posix()


def _read_record(folder: Path) -> dict[str, dict[str, str]]:
    """What was fetched into a folder and is still there."""
    path = folder / RECORD
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        rows = {key: dict(row) for key, row in kept.items() if (folder / key).exists()}
        for row in rows.values():
            int(row["crc32"], 16)
        return rows
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); move it away") from None


def _write_record(folder: Path, done: dict[str, dict[str, str]]) -> None:
    with atomic_write(folder / RECORD) as file:
        file.write(f"{json.dumps(done, indent=2)}\n".encode())


def _root(contents: Path, split: str, archive: Path) -> Path:
    """The folder of a split in an archive: that of its name, or the innermost that is alone at its level."""
    root = contents
    while True:
        if (root / split).is_dir():
            return root / split
        inside = list(root.iterdir())
        if len(inside) != 1 or not inside[0].is_dir():
            break
        root = inside[0]
    if any((root / other).is_dir() for other in SPLITS) or not any(p.is_file() for p in root.iterdir()):
        raise InputError(f"{archive}: has no folder {split}; it is another archive than expected")
    return root


def _check_space(sources: list[Source], folder: Path, unpacked: bool) -> None:
    """Say how much disk space is needed and refuse where there is less.

    An archive is unpacked beside itself, to about its own size, and then removed: at most all contents and one
    archive are there.
    """
    if not sources:
        return
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [bytes_to_fetch(source, folder) for source in sources]
    lengths = [length for _, length in sizes]
    missing = sum(missing for missing, _ in sizes)
    here = sum(lengths) - missing
    needed = sum(lengths) + max(lengths) - here if unpacked else missing
    free = shutil.disk_usage(folder).free
    print(
        f"{folder}: {missing / 1e9:.1f} GB to fetch, {needed / 1e9:.1f} GB of disk needed, {free / 1e9:.1f} GB free",
        file=sys.stderr,
    )
    if needed > free:
        raise InputError(
            f"{folder}: needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; choose a folder on a larger disk"
        )

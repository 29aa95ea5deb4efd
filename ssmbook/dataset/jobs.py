"""Which sequences a raw folder holds: recordings, and the boxes beside them.

raw_dir/<split>/<sequence>_bbox.npy, _bbox.json (COCO) or folder _bbox (YOLO or Pascal VOC)
                beside  <sequence>_td.dat, or another of the names below
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ssmbook.dataset.labels import BOX_FILES
from ssmbook.dataset.layout import SPLITS
from ssmbook.errors import InputError, one_line

#: How recordings end, without case; the first that is there is read.
RECORDINGS = (
    *("_td.dat.h5", "_td.h5", "_td.dat", "_td.raw", ".raw", ".aedat4", "_td.npy"),
    *("_cd.dat.h5", "_cd.h5", "_cd.hdf5", "_cd.dat", "_cd.raw", "_cd.npy", "_cd.csv"),
    *(".dat.h5", ".h5", ".hdf5", ".dat", ".npy", ".aedat", ".npz", ".es", ".bag"),
)
#: Names that other files have too: taken as recordings where boxes of that name are beside them.
MAYBE = (".csv", ".txt", ".bin")

# Sequences of Gen1 that the published preprocessing leaves out.
BAD_SEQUENCES = frozenset(
    {
        "17-04-06_09-57-37_6344500000_6404500000",
        "17-04-13_19-17-27_976500000_1036500000",
        "17-04-06_15-14-36_1159500000_1219500000",
        "17-04-11_15-13-23_122500000_182500000",
    }
)


@dataclass(frozen=True)
class Job:
    """One sequence to make: its name and its raw files."""

    split: str
    name: str
    recording: Path
    boxes: Path

    def __str__(self) -> str:
        return f"{self.split}/{self.name}"

    def check_recording(self) -> None:
        """An InputError where no file has the name of a recording; it lists what is there."""
        if self.recording.exists():
            return
        there = sorted(
            p.name for p in self.recording.parent.glob("*") if p != self.boxes and p.name[0] != "."
        )
        near = [name for name in there if name.startswith(self.name)] or there
        listed = one_line(", ".join(near), 120) or "nothing else"
        raise InputError(
            f"{self.recording}: no such file; a recording of {self.name} is named so, or {self.name} with .dat, .h5, "
            f".hdf5, .npy, .raw, .aedat4, .csv or _cd before these; the folder has {listed}"
        )


def find_jobs(raw_dir: Path, splits: Sequence[str] = SPLITS) -> tuple[list[Job], list[str]]:
    """The sequences of a raw folder's splits, and the names of recordings that have no box file.

    The sequences of Gen1 that are known to be bad are left out.
    """
    jobs: list[Job] = []
    unlabelled: list[str] = []
    for split in splits:
        if split not in SPLITS:
            raise InputError(f"split {split!r} is unknown; there are {', '.join(SPLITS)}")
        names = {path.name for path in (raw_dir / split).glob("*") if not path.name.startswith(".")}
        boxes = {n.removesuffix(s): n for s in reversed(BOX_FILES) for n in names if n.endswith(s)}
        labelled = boxes.keys() - BAD_SEQUENCES
        recorded = _recordings(names - set(boxes.values()), labelled)
        for name in sorted(labelled):
            # Without a recording, the name that is missing is the one that the sets are distributed under.
            recording = recorded.get(name, f"{name}_td.dat")
            jobs.append(Job(split, name, raw_dir / split / recording, raw_dir / split / boxes[name]))
        unlabelled += [f"{split}/{name}" for name in sorted(recorded.keys() - labelled - BAD_SEQUENCES)]
    if not raw_dir.is_dir():
        raise InputError(f"{raw_dir}: no such folder; give a folder of raw sequences")
    if not jobs:
        wanted = ", ".join(f"*{suffix}" for suffix in BOX_FILES)
        raise InputError(f"{raw_dir}: has no {wanted} in {', '.join(splits)}; give a folder of raw sequences")
    return jobs, unlabelled


def _recordings(names: set[str], labelled: set[str]) -> dict[str, str]:
    """Sequence → file of its recording, the first by ``RECORDINGS``."""
    recorded: dict[str, str] = {}
    left = {name: name.lower() for name in sorted(names)}
    for suffix in (*RECORDINGS, *MAYBE):
        # "a_td.dat" ends in ".dat" too; it is met before, as a recording of "a".
        ends = [name for name, lower in left.items() if lower.endswith(suffix) and len(name) > len(suffix)]
        for name in ends:
            sequence = name[: -len(suffix)]
            if suffix not in MAYBE or sequence in labelled:
                del left[name]
                recorded.setdefault(sequence, name)
    return recorded

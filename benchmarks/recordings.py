"""What the network that comes along finds on real recordings: one command.

    python benchmarks/recordings.py ../shared/recordings

Each recording goes through ``ssmbook detect RECORDING``. Written are ``data/tables/recordings/found.csv``, which
chapter 11 shows, with its provenance, and ``figures/recordings/found.png``, the window of each with the most boxes. The
recordings are not part of this repository; the provenance has their hashes. Labelled boxes are those of PEDRo: people,
in five windows of 40 ms. They are too few for an AP; counted are those that a detected box covers with IoU ≥ 0.5, of
any class and of their own.
"""

import argparse
import contextlib
import hashlib
import io
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from defusedxml import ElementTree

from ssmbook import plots
from ssmbook.cli import main as ssmbook
from ssmbook.events import BOX_DTYPE, Events, open_events
from ssmbook.files import read_json
from ssmbook.live.default import DEFAULT, RECORD
from ssmbook.live.tracks import pairwise_iou
from ssmbook.study.tables import write_table
from ssmbook.study.workspace import book_root

RECORDINGS = {
    "driving_1mpx_gen41_evt3.raw": "street from a car",
    "sparklers_gen3_evt2.raw": "sparklers",
    "ncars_sample.dat": "one car, cut out",
    "dvxplorer_lite_person.aedat4": "head and shoulders",
}
PEDRO = "people outdoors"
PEDRO_SIZE = 346, 260
CLASSES = ("car", "pedestrian")


def detected(path: Path, folder: Path, options: list[str]) -> tuple[dict, pd.DataFrame]:
    """What the command says of a recording, and its boxes."""
    out, said = folder / f"{path.stem}.csv", io.StringIO()
    with contextlib.redirect_stdout(said):
        code = ssmbook(["detect", str(path), "--out", str(out), "--json", *options])
    assert code == 0, path
    return json.loads(said.getvalue()), pd.read_csv(out)


def row(path: Path, what: str, facts: dict, boxes: pd.DataFrame, size: tuple[int, int]) -> dict:
    return {
        "recording": path.stem,
        "shows": what,
        "width": size[0],
        "height": size[1],
        "ms": round(1000 * facts["recording_s"], 1),
        "windows": facts["windows"],
        "unlike training": facts["windows_unlike_training"],
        "cars": int((boxes["class"] == "car").sum()),
        "pedestrians": int((boxes["class"] == "pedestrian").sum()),
        "tracks": facts["tracks"],
        "best score": round(float(boxes["score"].max()), 2) if len(boxes) else np.nan,
    }


def people(path: Path) -> np.ndarray:
    """The labelled boxes of a Pascal VOC file."""
    found = ElementTree.parse(path).findall(".//bndbox")
    corners = np.array(
        [[float(box.findtext(k, "0")) for k in ("xmin", "ymin", "xmax", "ymax")] for box in found]
    )
    labels = np.zeros(len(found), BOX_DTYPE)
    labels["x"], labels["y"] = corners[:, 0], corners[:, 1]
    labels["w"], labels["h"] = (corners[:, 2:] - corners[:, :2]).T
    return labels


def hits(boxes: pd.DataFrame, labels: np.ndarray) -> dict:
    """How many labelled people a detection covers."""
    found = np.zeros(len(boxes), BOX_DTYPE)
    for name in "xywh":
        found[name] = boxes[name]
    covered = pairwise_iou(found, labels) >= 0.5
    own = covered & (boxes["class"] == "pedestrian").to_numpy()[:, None]
    return {"people": len(labels), "covered": int(covered.any(0).sum()), "as people": int(own.any(0).sum())}


def picture(
    path: Path, boxes: pd.DataFrame, size: tuple[int, int], window_us: int
) -> tuple[np.ndarray, list]:
    """The window with the most boxes, else the first, as RGB, and its boxes as (x, y, w, h, class)."""
    with open_events(path, *size) as recording:
        end = recording.start_us + window_us
        if len(boxes):
            end = int(boxes["t_us"].value_counts().idxmax())
        events: Events = recording.read(end - window_us, end + 1)
    counts = np.zeros((2, size[1], size[0]), int)
    np.add.at(counts, (events.p.astype(int), events.y.astype(int), events.x.astype(int)), 1)
    shown = boxes[boxes["t_us"] == end]
    rows = shown[["x", "y", "w", "h", "class"]].itertuples(index=False, name=None)
    return plots.polarity_image(counts[1], counts[0], "light"), list(rows)


def draw(pictures: list, out: Path) -> None:
    fig, axes = plt.subplots(3, 3, figsize=(plots.WIDTH_IN, 5.4))
    for ax, (title, image, boxes, labels) in zip(axes.flat, pictures, strict=True):
        ax.imshow(image, interpolation="nearest")
        for x, y, w, h, kind in boxes:
            colour = plots.CLASS_COLOURS[CLASSES.index(kind)]
            ax.add_patch(plt.Rectangle((x, y), w, h, fill=False, color=colour, lw=1.2))
        for label in labels:
            box = (label["x"], label["y"]), label["w"], label["h"]
            ax.add_patch(plt.Rectangle(*box, fill=False, color="black", lw=0.8, ls="--"))
        ax.set_title(title, fontsize=7)
        ax.set(xticks=[], yticks=[], xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    out.parent.mkdir(parents=True, exist_ok=True)
    fig.tight_layout()
    fig.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path)
    folder = parser.parse_args().recordings
    files = [(folder / name, what, []) for name, what in RECORDINGS.items()]
    size = "x".join(map(str, PEDRO_SIZE))
    files += [(path, PEDRO, ["--size", size]) for path in sorted((folder / "pedro/numpy").glob("*/*.npy"))]
    rows, pictures = [], []
    plots.style()
    with tempfile.TemporaryDirectory() as temporary:
        for path, what, options in files:
            facts, boxes = detected(path, Path(temporary), options)
            with open_events(path, *(PEDRO_SIZE if options else (None, None))) as recording:
                stated = recording.width, recording.height
                shape = recording.smallest_size() if None in stated else stated
            rows.append(row(path, what, facts, boxes, shape))
            labels = np.zeros(0, BOX_DTYPE)
            if what == PEDRO:
                labels = people(folder / "pedro/xml" / path.parent.name / f"{path.stem}.xml")
                rows[-1] |= hits(boxes, labels)
            window_us = round(1e6 * facts["recording_s"] / facts["windows"])
            pictures.append((path.stem[:24], *picture(path, boxes, shape, window_us), labels))
    root = book_root()
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path, *_ in files}
    table = pd.DataFrame(rows).astype(dict.fromkeys(("people", "covered", "as people"), "Int64"))
    write_table(
        root / "data/tables/recordings/found.csv",
        table,
        command="python benchmarks/recordings.py FOLDER",
        network=hashlib.sha256(DEFAULT.read_bytes()).hexdigest(),
        confidence=read_json(RECORD)["confidence"],
        recordings=hashes,
    )
    draw(pictures, root / "figures/recordings/found.png")
    print(table.to_string())


if __name__ == "__main__":
    main()

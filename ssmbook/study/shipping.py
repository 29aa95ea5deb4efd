"""The network that comes with the library, made from the run of the profile ``camera``.

    ssmbook train --profile camera --recurrence s5-selective
    python -m ssmbook.study.shipping

The first command simulates the set and trains; the second one writes ``camera.ckpt`` and ``camera.json`` beside it into
``ssmbook/live/networks``: where the weights come from, the validation AP, the score that separates best there, and the
highest of each statistic of ``ssmbook.live.default`` over the training windows, by which strange windows are told.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssmbook.dataset import find_sequences
from ssmbook.detector import load_checkpoint
from ssmbook.evaluation.streaming import Evaluation, evaluate
from ssmbook.events import Representation
from ssmbook.files import existing_file, read_json, write_json
from ssmbook.live.default import DEFAULT, RECORD, window_statistics
from ssmbook.live.tracks import pairwise_iou
from ssmbook.study.workspace import Workspace
from ssmbook.training.run_folder import MODEL, PROVENANCE

RECURRENCE = "s5-selective"
SCORES = tuple(k / 100 for k in range(5, 96, 5))


def ship(workspace: Workspace, recurrence: str = RECURRENCE, out: Path = DEFAULT) -> dict[str, Any]:
    """Copy a finished run's network to ``out`` and write its record beside it; returns the record.

    Args:
        workspace: of a simulated profile, with the run.
        recurrence: of the run.
        out: the checkpoint's new place; the record's has the ending .json.
    """
    run = existing_file(workspace.folder / "runs" / recurrence / MODEL, "a finished run")
    simulation = workspace.profile.simulation
    assert simulation is not None
    model = load_checkpoint(run)
    validation = evaluate(model, workspace.streams("val"), workspace.sensor, progress=None)
    confidence, f1 = best_score(validation)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run, out)
    trained = read_json(run.parent / PROVENANCE)
    record = {
        "command": f"ssmbook train --profile {workspace.profile.name} --recurrence {recurrence}",
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "recurrence": f"{recurrence} ({workspace.profile.model})",
        "classes": list(workspace.sensor.classes),
        "frame_hw": list(workspace.sensor.frame_size),
        "minutes": simulation.sequences["train"] * simulation.scene.duration_s / 60,
        "validation": {name: round(100 * value, 2) for name, value in validation.metrics.items()},
        "confidence": confidence,
        "validation_f1": round(f1, 3),
        "highest": highest_statistics(workspace.preprocessed() / "train", workspace.represent),
        "trained": trained,
    }
    write_json(out.with_suffix(".json"), record)
    return record


def highest_statistics(folder: Path, represent: Representation) -> dict[str, float]:
    """The highest of each statistic of a window, over all windows of the sequences in a folder."""
    highest: dict[str, float] = {}
    for sequence in find_sequences(folder):
        for k in range(len(sequence.timestamps_us)):
            found = window_statistics(*represent.polarities(sequence.frames(k, k + 1)[0]))
            highest = {name: max(value, highest.get(name, 0.0)) for name, value in found.items()}
        sequence.close()
    return {name: round(value, 4) for name, value in highest.items()}


def best_score(result: Evaluation, scores: Sequence[float] = SCORES, iou: float = 0.5) -> tuple[float, float]:
    """The minimum score with the highest F1 at an IoU, and that F1.

    Best first, a detection is right where its box overlaps a box of its class that none before it had.
    """
    right, score, boxes = [], [], 0
    for found, wanted in zip(result.detections, result.ground_truth, strict=True):
        found = found[np.argsort(-found["class_confidence"], kind="stable")]
        overlap = pairwise_iou(found, wanted)
        overlap[found["class_id"][:, None] != wanted["class_id"]] = 0
        free = np.ones(len(wanted), bool)
        for row in overlap:
            best = int(np.argmax(np.where(free, row, 0))) if len(row) else 0
            hit = bool(len(row) and free[best] and row[best] >= iou)
            if hit:
                free[best] = False
            right.append(hit)
        score += found["class_confidence"].tolist()
        boxes += len(wanted)
    hits, values = np.array(right, bool), np.array(score)
    f1 = [
        2 * np.count_nonzero(hits & (values >= s)) / max(int(np.count_nonzero(values >= s)) + boxes, 1)
        for s in scores
    ]
    k = int(np.argmax(f1))
    return scores[k], float(f1[k])


if __name__ == "__main__":
    made = ship(Workspace("camera"))
    print(f"{DEFAULT} and {RECORD.name}: validation AP {made['validation']['AP']}")

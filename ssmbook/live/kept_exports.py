"""Exported steps that are kept in the user's cache folder: an export takes some 20 s, and a camera does not wait."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import platformdirs

from ssmbook.detector.model import Detector
from ssmbook.errors import InputError
from ssmbook.files import atomic_write
from ssmbook.live.export import export_onnx

KEPT = 8  # files, those used last


@contextmanager
def kept_export(model: Detector, frame_hw: tuple[int, int]) -> Iterator[Path]:
    """A model's step as ONNX, with the step scale an input: of an earlier export, or made now and kept.

    An earlier one is of the same weights, size of frames, versions of the exporter and sources of this library. A
    block that finds it wrong removes it. Where the cache folder cannot be written, nothing is kept.

    Args:
        model, frame_hw: as of ``export_onnx``.

    Yields:
        The file, which may be gone after the block.

    Raises:
        InputError: as ``export_onnx`` does.
    """
    kept = platformdirs.user_cache_path("ssmbook") / "exports" / f"{_digest(model, frame_hw)}.onnx"
    if os.path.exists(kept):  # False, too, where the folder may not be looked into
        with suppress(OSError):
            os.utime(kept)
        yield kept
        return
    print(
        f"ssmbook: exporting the network for frames of {frame_hw[1]} × {frame_hw[0]} px, which takes a while; it is "
        f"kept for the next time",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory() as folder:
        made = export_onnx(model, Path(folder) / "step.onnx", frame_hw, step_scale=None)
        yield made
        with suppress(OSError, InputError):  # a full disk, or the block has removed it
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(kept) as file:
                file.write(made.read_bytes())
            by_use = sorted(kept.parent.glob("*.onnx"), key=lambda path: path.stat().st_mtime)
            for path in by_use[:-KEPT]:
                path.unlink(missing_ok=True)


def _digest(model: Detector, frame_hw: tuple[int, int]) -> str:
    """Of all that decides what an export holds."""
    package = Path(__file__).parents[1]
    about = [
        model.config,
        model.trained_on,
        frame_hw,
        version("torch"),
        version("onnx"),
        version("onnxscript"),
    ]
    digest = hashlib.sha256(repr(about).encode())
    for folder in ("detector", "ssm", "live"):
        for source in sorted((package / folder).rglob("*.py")):
            digest.update(source.read_bytes())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

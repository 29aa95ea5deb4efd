"""One export serves all tests that ask for the same network's."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ssmbook.live import export, kept_exports

export_onnx = export.export_onnx


@pytest.fixture(scope="session", autouse=True)
def exported_once(tmp_path_factory) -> Iterator[Callable[..., Path]]:
    """``export_onnx`` writes what it wrote before for the same weights and arguments, in whichever test process."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # in a folder beside those of the other processes
        folder = folder.parent
    (folder / "exports").mkdir(exist_ok=True)

    def once(model, path, *arguments, **options):
        options = {"batch": 1, "step_scale": 1.0, **options}
        digest = hashlib.sha256(repr((model.config, arguments, sorted(options.items()))).encode())
        for name, weight in model.state_dict().items():
            digest.update(name.encode() + weight.cpu().numpy().tobytes())
        kept = folder / "exports" / f"{digest.hexdigest()}.onnx"
        if not kept.exists():
            export_onnx(model, kept, *arguments, **options)
        return Path(shutil.copy(kept, export.onnx_file(path)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(export, "export_onnx", once)
        patch.setattr(kept_exports, "export_onnx", once)
        yield once

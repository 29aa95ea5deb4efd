"""One export serves all tests of a process that ask for the same network's."""

import hashlib
import shutil
from pathlib import Path

import pytest

from ssmbook.live import runtimes
from ssmbook.live.export import export_onnx


@pytest.fixture(scope="session", autouse=True)
def exported_once(tmp_path_factory):
    """The runtimes' ``export_onnx`` writes what it wrote before for the same weights and arguments."""
    folder = tmp_path_factory.mktemp("exports")

    def export(model, path, *arguments, **options):
        weights = hashlib.sha256(repr((model.config, arguments, sorted(options.items()))).encode())
        for name, weight in model.state_dict().items():
            weights.update(name.encode() + weight.cpu().numpy().tobytes())
        kept = folder / f"{weights.hexdigest()}.onnx"
        if not kept.exists():
            export_onnx(model, kept, *arguments, **options)
        return Path(shutil.copy(kept, path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtimes, "export_onnx", export)
        yield

"""Where tests find the outputs of the earlier implementations, and the real recordings."""

from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"
# Material that is kept beside the checkout, not in it; tests that need it skip where it is absent.
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def conformance():
    """``conformance(name)``: the path of a conformance file, from the checkout or from beside it."""

    def find(name: str) -> Path:
        for path in (DATA / name, SHARED / "conformance" / name):
            if path.exists():
                return path
        pytest.skip(f"{name} is in neither tests/data nor ../shared/conformance")

    return find


@pytest.fixture(scope="session")
def recordings():
    """``recordings(name)``: the path of a real recording that is kept beside the checkout."""

    def find(name: str) -> Path:
        path = SHARED / "recordings" / name
        if not path.exists():
            pytest.skip(f"{name} is not in ../shared/recordings")
        return path

    return find

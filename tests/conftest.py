"""Where tests find the outputs of the earlier implementations, the real recordings, and a browser."""

import shutil
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


@pytest.fixture(scope="module")
def chromium():
    """Chromium without a window (extra ``browser``); skips where there is none."""
    from ssmbook.cli.site import BROWSERS

    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()

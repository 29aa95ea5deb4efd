"""Chapters run without progress bars, whose text would be part of the outputs that are compared."""

import os

import pytest


@pytest.hookimpl(tryfirst=True)  # before the chapter's kernel starts, which inherits the environment
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.path.suffix == ".ipynb":
        os.environ["TQDM_DISABLE"] = "1"

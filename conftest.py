"""One thread a process, and chapters without progress bars, whose text would be part of the compared outputs."""

import gc
import os

# Set before torch and numba are imported: two test processes of one thread each use two cores better than one
# process of two threads, and do not wait for each other on a loaded machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The many processes that tests start find the library compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest

from ssmbook.processes import preload

preload("ssmbook.dataset.schedule")  # and with it torch, or workers would import it one by one

# The files that take longest are begun first, so that both test processes end together; those that start many
# processes of their own are kept apart.
LONG = (
    "12_scaling.ipynb",
    "test_kills.py",
    "test_train.py",
    "test_sweep.py",
    "test_site.py",
    "test_benchmarks.py",
    "test_fuzz.py",
    "09_rates.ipynb",
)
QUIET = os.environ.get("TQDM_DISABLE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def pytest_collection_finish() -> None:
    # The collector would walk over all that is imported again and again, a tenth of the time.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(tryfirst=True)  # before the chapter's kernel starts, which inherits the environment
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.path.suffix == ".ipynb":
        os.environ["TQDM_DISABLE"] = "1"
    elif QUIET is None:
        os.environ.pop("TQDM_DISABLE", None)

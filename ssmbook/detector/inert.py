"""Unpickling that runs nothing: tensors and plain containers come out, any other object is an empty stand-in.

``torch.load(path, pickle_module=inert, weights_only=False)`` reads what trainers write beside the weights
(settings, paths, schedules of other libraries) without importing those libraries: a class that the file names
is never looked up. A file that wants something called is refused with that thing's name.
"""

import collections
import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import Any

import torch

from ssmbook.errors import InputError

# All that is ever run for a file.
BUILDERS = {
    "collections.OrderedDict": collections.OrderedDict,
    "torch._utils._rebuild_tensor_v2": lambda *args: torch._utils._rebuild_tensor_v2(*args),
    "torch._utils._rebuild_parameter": lambda *args: torch._utils._rebuild_parameter(*args),
}
# Functions and standard classes that mere values are pickled with; they become stand-ins like any class.
VALUES = {
    "_codecs.encode",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.frozenset",
    "builtins.range",
    "builtins.set",
    "builtins.slice",
    "collections.Counter",
    "collections.defaultdict",
    "collections.deque",
    "copyreg._reconstructor",
    "decimal.Decimal",
    "fractions.Fraction",
    "functools.partial",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "torch.device",
    "uuid.UUID",
}
VALUE_MODULES = {"argparse", "datetime", "pathlib", "types"}


def is_value(source: str) -> bool:
    """Whether a call of this name in a pickle only makes a value: ours above, or another library's class.

    A class is told by its capital. Classes of the standard library count only where listed: some, such as
    subprocess.Popen, act when they are made.
    """
    module, _, name = source.rpartition(".")
    package = module.partition(".")[0]
    if source in VALUES or package in VALUE_MODULES:
        return True
    return name.lstrip("_")[:1].isupper() and package not in sys.stdlib_module_names


class StandIn(type):
    """The type of stand-ins: made without a call for NEWOBJ, and by one, if it is a value's, for REDUCE."""

    source: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not is_value(cls.source):
            raise InputError(f"the file wants to call {cls.source}; nothing in a checkpoint is ever run")
        return super().__call__()


class Inert:
    """In place of an object of another library: takes whatever its pickle says, and keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    add = extend = append


class Unpickler(pickle.Unpickler):
    """Knows the builders of tensors and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        # PyTorch writes the names of Python 2's standard library.
        source = ".".join(NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name)))
        return BUILDERS.get(source) or StandIn(name, (Inert,), {"source": source})

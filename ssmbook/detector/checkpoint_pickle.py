"""The pickle of a checkpoint, read by a small machine that runs nothing.

``pickletools`` of the standard library splits the pickle into opcodes and checks their lengths; the machine follows
them with containers, plain values and tensors alone. What trainers keep beside the weights (settings, paths, schedules
of other libraries) becomes ``OPAQUE``: a class that the file names is never looked up. A file that wants a function
called is refused with the function's name.
"""

from __future__ import annotations

import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssmbook.errors import InputError, one_line

# The last state of a run with 400 parameters takes 45,000 opcodes and 2,000 tensors, nested 7 deep.
MOST_OPCODES, MOST_TENSORS, DEEPEST = 2_000_000, 100_000, 100

# Functions and standard classes that mere values are pickled with; their values become opaque like any object.
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
    "torch.serialization._get_layout",
    "uuid.UUID",
}
VALUE_MODULES = {"argparse", "datetime", "pathlib", "types"}

_ARGUMENT = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}


@dataclass(frozen=True)
class Name:
    """A class or a function that the pickle names."""

    source: str


class Opaque:
    """In place of an object of another library, of which nothing is kept."""


OPAQUE = Opaque()


@dataclass(frozen=True, eq=False)
class Storage:
    """What tensors are views of: 1-D."""

    values: Tensor


def is_value(source: str) -> bool:
    """Whether a call of this name in a pickle only makes a value: those above, or another library's class.

    A class is recognised by its capital. Classes of the standard library count only where listed: some, such as
    subprocess.Popen, act when they are made.
    """
    module, _, name = source.rpartition(".")
    package = module.partition(".")[0]
    if source in VALUES or package in VALUE_MODULES:
        return True
    return name.lstrip("_")[:1].isupper() and package not in sys.stdlib_module_names


def read_pickle(data: bytes, storage: Callable[[Any], Storage]) -> Any:
    """What a pickle holds, as plain containers and values, tensors and ``OPAQUE``.

    Args:
        data: the pickle, of any protocol.
        storage: the storage of a persistent id of ``torch.save``.

    Raises:
        InputError: it wants something called, or goes beyond the limits of this module.
        Exception: of nearly any kind, over damaged bytes.
    """
    machine = _Machine(storage)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count >= MOST_OPCODES:
            raise InputError(f"its pickle has more than {MOST_OPCODES:,} opcodes; no checkpoint does")
        if opcode.name == "STOP":
            break
        machine.step(opcode.name, argument)
    value = machine.stack.pop()
    _check_nesting(value)
    return value


class _Machine:
    """The stack, the marks and the memo of a pickle."""

    def __init__(self, storage: Callable[[Any], Storage]) -> None:
        self.storage = storage
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}
        self.tensors = 0

    def step(self, name: str, argument: Any) -> None:
        """Follow one opcode."""
        stack = self.stack
        if name in _ARGUMENT:
            stack.append(argument)
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name == "MARK":
            self.marks.append(stack)
            self.stack = []
        elif name not in ("PROTO", "FRAME"):
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise InputError(f"its pickle holds the opcode {name}, which no checkpoint needs")
            method(argument)

    def _above_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.marks.pop()
        return values

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._above_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    # Containers

    def _tuple(self, _: Any) -> None:
        values = self._above_mark()
        self.stack.append(tuple(values))

    def _tuple1(self, _: Any) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def _tuple2(self, _: Any) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def _tuple3(self, _: Any) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def _list(self, _: Any) -> None:
        values = self._above_mark()
        self.stack.append(values)

    def _dict(self, _: Any) -> None:
        values = self._above_mark()
        self.stack.append({})
        _set(self.stack[-1], values)

    def _append(self, _: Any) -> None:
        value = self.stack.pop()
        _extend(self.stack[-1], [value])

    def _appends(self, _: Any) -> None:
        values = self._above_mark()
        _extend(self.stack[-1], values)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set(self.stack[-1], [key, value])

    def _setitems(self, _: Any) -> None:
        values = self._above_mark()
        _set(self.stack[-1], values)

    def _empty_set(self, _: Any) -> None:
        self.stack.append(OPAQUE)

    def _additems(self, _: Any) -> None:
        self._above_mark()

    def _frozenset(self, _: Any) -> None:
        self._above_mark()
        self.stack.append(OPAQUE)

    # Names, objects, tensors

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(_named(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_named(module, name))

    def _binpersid(self, _: Any) -> None:
        self.stack.append(self.storage(self.stack.pop()))

    def _reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        self.stack.append(self._called(called, arguments))

    def _obj(self, _: Any) -> None:
        called, *arguments = self._above_mark()
        self.stack.append(self._called(called, tuple(arguments)))

    def _inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = self._above_mark()
        self.stack.append(self._called(_named(module, name), tuple(arguments)))

    def _newobj(self, _: Any) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        plain = made == Name("collections.OrderedDict") and not arguments
        self.stack.append({} if plain else OPAQUE)

    def _newobj_ex(self, _: Any) -> None:
        del self.stack[-3:]
        self.stack.append(OPAQUE)

    def _build(self, _: Any) -> None:
        self.stack.pop()  # attributes: an opaque object keeps none, and a plain value has none

    def _called(self, called: Any, arguments: Any) -> Any:
        """What stands for the result of a call that the pickle wants."""
        source = called.source if isinstance(called, Name) else f"a {type(called).__name__}"
        if source == "collections.OrderedDict" and not arguments:
            return {}
        if source == "torch._utils._rebuild_tensor_v2":
            self.tensors += 1
            if self.tensors > MOST_TENSORS:
                raise InputError(f"it holds more than {MOST_TENSORS:,} tensors; no checkpoint does")
            return view(*arguments[:4])
        if source in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return arguments[0]
        if source.startswith("torch._utils._rebuild"):
            raise InputError(f"it holds a tensor that is not a dense one ({source}); save it as one")
        if is_value(source):
            return OPAQUE
        raise InputError(f"the file wants to call {one_line(source)}; nothing in a checkpoint is ever run")


def _named(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise InputError("its pickle names a class by something that is no name")
    # PyTorch writes the names of Python 2's standard library.
    return Name(".".join(NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))))


def _extend(into: Any, values: list[Any]) -> None:
    if isinstance(into, list):
        into.extend(values)
    elif into is not OPAQUE:
        raise InputError(f"its pickle appends to a {type(into).__name__}")


def _set(into: Any, values: list[Any]) -> None:
    """Keys and values in turn; items whose key is no plain value are left out."""
    if into is OPAQUE:
        return
    if not isinstance(into, dict) or len(values) % 2:
        raise InputError(f"its pickle sets items of a {type(into).__name__}")
    for key, value in zip(values[::2], values[1::2], strict=True):
        if _is_key(key):
            into[key] = value


def _is_key(key: Any) -> bool:
    """Whether a key hashes in a moment: nested tuples and integers of megabytes do not."""
    if isinstance(key, tuple):
        return len(key) <= 8 and not any(isinstance(k, tuple) for k in key) and all(map(_is_key, key))
    return isinstance(key, str | bytes | float | None) or (isinstance(key, int) and key.bit_length() < 64)


def view(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    """A tensor on a storage: dense, each element at a place of its own.

    Raises:
        InputError: it is not, as an expanded one, or reaches beyond the storage.
    """
    lists = isinstance(size, tuple | list) and isinstance(stride, tuple | list) and len(size) == len(stride)
    if not isinstance(storage, Storage) or not lists:
        raise InputError("it holds a tensor without a storage, a size or strides")
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in (offset, *size, *stride)):
        raise InputError("it holds a tensor whose offset, size or strides are no lengths")
    reach = 0  # of the dimensions so far, from the nearest elements to the furthest
    for step, length in sorted(zip(stride, size, strict=True)):
        if length > 1 and step <= reach:
            raise InputError(
                f"it holds a tensor of size {one_line(str(list(size)))} whose elements share memory; "
                "save it as a dense one, with .clone()"
            )
        reach += step * (length - 1) if length > 1 else 0
    if 0 not in size and offset + reach >= len(storage.values):
        raise InputError(
            f"it holds a tensor of size {one_line(str(list(size)))} on a storage of {len(storage.values)} elements; "
            "fetch or write it again"
        )
    return torch.as_strided(storage.values, tuple(size), tuple(stride), offset)


def _check_nesting(value: Any) -> None:
    """InputError where containers hold each other too deep, or in a circle: nothing that follows them would end."""
    level: list[Any] = [[value]]
    seen = 0
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for container in level:
            inner.extend(container.values() if isinstance(container, dict) else container)
            if seen + len(inner) > MOST_OPCODES:
                raise InputError("its containers hold each other more often than any checkpoint's")
        seen += len(inner)
        level = [each for each in inner if isinstance(each, dict | list | tuple)]
        if not level:
            return
    raise InputError(f"its containers are nested more than {DEEPEST} deep; no checkpoint's are")

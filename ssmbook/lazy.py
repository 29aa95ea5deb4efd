"""Imports put off until a name is asked for: packages stay cheap to import, and wrong names cheap to refuse."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from ssmbook.errors import InputError, shown

T = TypeVar("T")

#: Environment variable: Python files of one's own that register something, separated as in PATH.
PLUGINS = "SSMBOOK_PLUGINS"
_loaded: set[Path] = set()


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__``: each name comes from its module in the package, ``homes[name]``."""

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return get


def load_plugins() -> None:
    """Import the files that ``SSMBOOK_PLUGINS`` names, each once. Processes that are started inherit them.

    Raises:
        InputError: no such file, or its name is that of another module. What its own code raises goes through.
    """
    for name in filter(None, os.environ.get(PLUGINS, "").split(os.pathsep)):
        path = Path(name).expanduser().resolve()
        if path in _loaded:
            continue
        if path.suffix != ".py" or not path.is_file():
            raise InputError(
                f"{PLUGINS} names {shown(name)}, which is no Python file; give whole paths of such files"
            )
        _loaded.add(path)  # before it is imported: it may ask for names itself
        if str(path.parent) not in sys.path:  # by its name, so that what it defines can go to another process
            sys.path.append(str(path.parent))
        try:
            found = getattr(import_module(path.stem), "__file__", None)
        except BaseException:
            _loaded.discard(path)
            raise
        if found is None or Path(found).resolve() != path:
            _loaded.discard(path)
            raise InputError(
                f"{PLUGINS} names {path}, but {path.stem} is a module of Python here; rename the file"
            )


class Registry(MutableMapping[str, T]):
    """Things of one kind by name. The library's own are imported when they are first asked for, and plugins when a name
    is asked for that is not known yet.

    Args:
        kind: what they are, for messages.
        package: where the library's own lie.
        homes: by name, ``"module:attribute"`` in the package, in the order of the tables.
    """

    def __init__(self, kind: str, package: str, homes: Mapping[str, str]) -> None:
        self.kind, self._package = kind, package
        self._entries: dict[str, T | str] = dict(homes)

    def __getitem__(self, name: str) -> T:
        entry = self._entries[name]
        if isinstance(entry, str):
            module, attribute = entry.split(":")
            entry = getattr(import_module(f"{self._package}.{module}"), attribute)
            self._entries[name] = entry
        return entry

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            load_plugins()
        return name in self._entries

    def __setitem__(self, name: str, entry: T) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str) -> T:
        """The one of that name.

        Raises:
            InputError: there is none; the message lists the names and suggests the nearest.
        """
        if name not in self:
            near = difflib.get_close_matches(str(name), self, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{self.kind} is {name!r}; it must be one of {', '.join(self)}{hint}")
        return self[name]

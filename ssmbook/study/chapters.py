"""Runs the chapters with papermill."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import papermill
from jupytext.compare import NotebookDifference, compare_notebooks
from papermill.exceptions import PapermillExecutionError

from ssmbook.errors import InputError, shown
from ssmbook.files import existing_folder, write_json
from ssmbook.processes import run_calls, usable_cores
from ssmbook.study.profiles import PROFILES, get_profile
from ssmbook.study.workspace import Workspace, book_root
from ssmbook.training.provenance import provenance


def chapters() -> list[Path]:
    """The chapters' notebooks in reading order."""
    folder = book_root() / "notebooks"
    found = sorted(folder.glob("[0-9]*.ipynb"))
    if not found:
        raise InputError(f"no chapters in {folder}: run this inside a checkout of the book")
    return found


def select(chosen: Sequence[str]) -> list[Path]:
    """The chapters whose names start with one of ``chosen`` (``07``, ``07_training``); all if empty."""
    found = chapters()
    for name in chosen:
        if not any(path.stem.startswith(name) for path in found):
            raise InputError(
                f"there is no chapter {name!r}; there are {', '.join(path.stem for path in found)}"
            )
    return [path for path in found if not chosen or path.stem.startswith(tuple(chosen))]


def parameters_of(chapter: Path) -> dict[str, Any]:
    """The names in a chapter's ``parameters`` cell, each with its default, type and help as papermill reads them."""
    with contextlib.redirect_stderr(io.StringIO()):
        return papermill.inspect_notebook(str(chapter))


def reproduce(
    profile: str = "demo",
    chosen: Sequence[str] = (),
    data_dir: str = "",
    parameters: dict[str, Any] | None = None,
) -> list[Path]:
    """Execute the chapters in one profile; executed copies lie in ``<data>/book``.

    With ``workers`` above 1, as by default where results are made of simulated sets, chapters of one core run beside
    each other, so many at a time.

    Args:
        profile: a name of ``PROFILES``.
        chosen: beginnings of chapter names; all chapters if empty.
        data_dir: as in ``Workspace``.
        parameters: further notebook parameters; each must be known to at least one chosen chapter.

    Returns:
        The executed copies.

    Raises:
        InputError: for an unknown profile, chapter or parameter (before anything runs), and for a chapter that
            failed, with the cell and its error. What was written until then stays; chapters beside it are stopped.
    """
    described = get_profile(profile)
    if data_dir:
        existing_folder(data_dir, "data and runs")
    parameters = parameters or {}
    selected = select(chosen)
    known = {chapter: parameters_of(chapter) for chapter in selected}
    for name in parameters:
        if not any(name in names for names in known.values()):
            every = sorted({name for names in known.values() for name in names})
            raise InputError(f"no chapter has a parameter {name!r}; there are {', '.join(every)}")
    workspace = Workspace(profile, data_dir, representation=parameters.get("representation", ""))
    out = workspace.folder / "book"
    out.mkdir(parents=True, exist_ok=True)
    if described.simulation is not None and described.name != "smoke":  # real sets have workers of their own
        parameters = {"workers": usable_cores(), **parameters}
    given = {
        "profile": _absolute(profile),
        "data_dir": str(Path(data_dir).resolve()) if data_dir else "",
        **parameters,
    }
    runs = [
        _Run(
            f"[{number}/{len(selected)}] {chapter.stem}",
            chapter,
            out / chapter.name,
            {name: value for name, value in given.items() if name in known[chapter]},
        )
        for number, chapter in enumerate(selected, 1)
    ]
    if not str(workers := given.get("workers", 1)).isdecimal():
        raise InputError(f"workers is {shown(workers)}; it must be a whole number")
    workers, seconds = int(workers), {}
    for group in _groups(runs) if workers > 1 else [[run] for run in runs]:
        for number, result in run_calls(
            _execute_timed, [(run, len(group) > 1) for run in group], workers, None
        ):
            if isinstance(result, BaseException):
                raise result
            seconds[group[number].chapter.stem] = result
            done = {name: seconds[name] for run in runs if (name := run.chapter.stem) in seconds}
            write_json(out / "provenance.json", provenance(chapters=done, **given))
    return [run.copy for run in runs]


@dataclass(frozen=True)
class _Run:
    """A chapter that is to be run, the executed copy, and the parameters."""

    label: str
    chapter: Path
    copy: Path
    parameters: dict[str, Any]


def _groups(runs: Sequence[_Run]) -> list[list[_Run]]:
    """Chapters that run beside each other.

    One that shares its own work out to processes has all cores for itself. Of the others, those before the first such
    chapter come first, and the rest when all that they may read is there: those after the last, then those between.
    """
    alone = [i for i, run in enumerate(runs) if "workers" in run.parameters]
    first, last = (alone[0], alone[-1]) if alone else (len(runs), len(runs))
    between = [run for run in runs[first:last] if "workers" not in run.parameters]
    groups = [[*runs[:first]], *([runs[i]] for i in alone), [*runs[last + 1 :], *between]]
    return [group for group in groups if group]


def _execute_timed(run: _Run, beside_others: bool) -> float:
    """Execute a chapter; the seconds that it took."""
    print(run.label, file=sys.stderr, flush=True)
    start = time.monotonic()
    if beside_others:  # in a process of its own
        os.environ["OMP_NUM_THREADS"] = "1"
    _execute(run.chapter, run.copy, run.parameters)
    return round(time.monotonic() - start, 1)


def _absolute(profile: str) -> str:
    """A profile's YAML file as a chapter finds it, which runs in its own folder."""
    return profile if profile in PROFILES else str(Path(profile).resolve())


def _execute(chapter: Path, copy: Path, parameters: dict[str, Any]) -> Path:
    try:
        papermill.execute_notebook(
            str(chapter),
            str(copy),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(chapter.parent),
            progress_bar=False,
            request_save_on_cell_execute=False,  # whole copies, each time; every 30 s will do
            log_output=False,
            stderr_file=sys.stderr,  # warnings; progress bars go there by themselves
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel, which reports its own end as an error
        )
    except PapermillExecutionError as error:
        source = error.source.strip().splitlines()
        raise InputError(
            f"{chapter.stem} failed in cell {error.exec_count} ({source[0] if source else ''!r}): "
            f"{error.ename}: {error.evalue}. The executed copy with the traceback is {copy}"
        ) from error
    return copy


def outputs(workspace: Workspace) -> list[Path]:
    """The tables and figures that a profile's chapters have written."""
    return sorted([*workspace.tables.glob("*.csv"), *workspace.figures.glob("*.png")])


def refresh(chosen: Sequence[str] = ()) -> list[Path]:
    """Execute committed chapters with their own parameters (profile smoke); nbval compares against these outputs.

    Raises:
        InputError: a chapter and its text differ, and nothing was run; or a cell failed, and its chapter is as before.
    """
    selected = select(chosen)
    for chapter in selected:
        _check_paired(chapter)
    for chapter in selected:
        print(chapter.stem, file=sys.stderr, flush=True)
        copy = _execute(chapter, chapter.with_name(f".{chapter.name}"), {})
        copy.write_text(_without_traces(copy.read_text(encoding="utf-8")))
        os.replace(copy, chapter)
    return selected


def _check_paired(chapter: Path) -> None:
    text = chapter.with_suffix(".py")
    try:
        compare_notebooks(
            jupytext.read(text), jupytext.read(chapter), fmt="py:percent", compare_outputs=False
        )
    except NotebookDifference:
        raise InputError(
            f"{chapter}: its cells are not those of {text.name}; jupytext --sync {text} gives both what changed last"
        ) from None


def _without_traces(notebook: str) -> str:
    """A notebook's JSON without what papermill adds and what changes from run to run."""
    book = json.loads(notebook)
    kept = ("kernelspec", "language_info")
    book["metadata"] = {key: value for key, value in book["metadata"].items() if key in kept}
    for cell in book["cells"]:
        cell["metadata"] = {
            key: value for key, value in cell["metadata"].items() if key in ("tags", "label") and value
        }
        for output in cell.get("outputs", []):  # a widget without its kernel is an error; its picture stays
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"

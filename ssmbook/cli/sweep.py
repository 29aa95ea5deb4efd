"""Commands that share a study out and watch it: sweep, runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmbook.cli.values import print_facts
from ssmbook.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from ssmbook.study.workspace import Workspace

EXECUTORS = ("local", "dask", "slurm")
WATCH_S = 5  # between two looks

_EPILOG = """examples:
  ssmbook sweep study --workers 8                        eight processes of this machine, of one thread each
  ssmbook sweep mine.yaml --executor dask --scheduler tcp://node1:8786
  SBATCH_PARTITION=gpu ssmbook sweep gen1-base --data-dir /data/gen1 --executor slurm --workers 24
  ssmbook sweep gen1-base --data-dir /data/gen1 --dry-run
  ssmbook sweep study --status --watch
  ssmbook sweep study --collect /mnt/a/study /mnt/b/study

The same command again computes what is missing. It may run on several machines at once that share the data folder: each
model has a lock there, which outlives no process: on its own machine it is free at once when its process is dead,
elsewhere after five minutes without a heartbeat. A Dask cluster on SLURM, PBS or others is made by dask-jobqueue; give
its scheduler's address, and start its workers with one thread each.

exit codes: 0 all models are done (or submitted, or shown); 1 some failed, see --status; 2 a wrong command line;
130 interrupted, the same command goes on."""


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    command = commands.add_parser(
        "sweep",
        help="share the models of a profile out to processes, a Dask cluster or SLURM",
        description=_sweep.__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("profile", help="smoke, demo, study, gen1-small, … or the YAML file of one")
    add("--executor", choices=EXECUTORS, default="local", help="who computes (default: local)")
    add(
        "--workers",
        type=int,
        default=0,
        help="local: processes, of one thread each; slurm: tasks at a time (default: 1; slurm: all)",
    )
    add("--scheduler", default="", metavar="tcp://…", help="dask: the address of its scheduler")
    add("--data-dir", default="", help="where data and runs lie, on a shared disk (default: data/<profile>)")
    add("--device", default="", help="cpu, cuda, … (default: a GPU where there is one)")
    add("--logger", default="csv", help="of training runs, beside metrics.csv: tensorboard or wandb")
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--dry-run",
        action="store_true",
        help="say what it would take; slurm: write the script, do not submit it",
    )
    what.add_argument("--status", action="store_true", help="a table of the models and how far they are")
    what.add_argument(
        "--collect", nargs="*", metavar="FOLDER", help="write the tables of what these data folders hold, too"
    )
    what.add_argument(
        "--task", type=int, metavar="I", help="compute model number I alone, as an array's task"
    )
    add("--watch", action="store_true", help=f"with --status: again every {WATCH_S} s, until nothing runs")
    add("--json", action="store_true", help="print the result as JSON")
    command.set_defaults(run=_sweep, goes_on=True)

    command = commands.add_parser(
        "runs",
        help="list training runs with state, step, AP and seconds left",
        description=_runs.__doc__,
        epilog="Example: ssmbook runs data/demo",
    )
    command.add_argument(
        "folder",
        nargs="?",
        default="",
        help="a folder of runs, a data folder, or a folder of these (default: data of the book)",
    )
    command.add_argument("--json", action="store_true", help="print a list as JSON, an entry for each run")
    command.set_defaults(run=_runs)


def _sweep(options: argparse.Namespace) -> int:
    """Train and evaluate all models of a profile (variants and seeds), each at all of its rates. Models are independent
    of each other and are shared out, one at a time, to processes of this machine, to the workers of a Dask cluster, or
    to the tasks of a SLURM job array; a worker that dies costs its model only, which goes on where its training was
    saved. The tables are those of ssmbook reproduce."""
    from ssmbook.study.profiles import get_profile

    _check(options)
    get_profile(options.profile)  # a wrong name is refused before torch is imported
    from ssmbook.study.workspace import Workspace

    workspace = Workspace(options.profile, options.data_dir, logger=options.logger)
    if options.status:
        return _status(workspace, options)
    if options.collect is not None:
        return _collect(workspace, options)
    if options.dry_run and options.executor != "slurm":
        from ssmbook.cli.chapters import show_plan

        return show_plan(workspace, options.json)
    if options.executor == "slurm":
        return _submit(workspace, options)
    return _compute(workspace, options)


def _check(options: argparse.Namespace) -> None:
    if options.workers < 0:
        raise InputError(f"--workers {options.workers}; give 1 or more")
    if (options.executor == "dask") != bool(options.scheduler):
        raise InputError("--executor dask and --scheduler tcp://host:8786 go together; give both or neither")
    if options.watch and not options.status:
        raise InputError("--watch goes with --status")


def _compute(workspace: Workspace, options: argparse.Namespace) -> int:
    from ssmbook.study.sweep import ModelsFailed, run_arms, run_task

    failures: dict[str, str] = {}
    try:
        if options.task is not None:
            run_task(workspace, options.task, device=options.device)
        else:
            run_arms(
                workspace,
                device=options.device,
                workers=options.workers or 1,
                scheduler=options.scheduler,
            )
    except ModelsFailed as error:
        failures = error.failures
        for name, why in failures.items():
            print(f"failed: {name}: {why}", file=sys.stderr)
        print("the same command tries them again", file=sys.stderr)
    _report(workspace, options, {"failed": failures})
    return 1 if failures else 0


def _collect(workspace: Workspace, options: argparse.Namespace) -> int:
    from ssmbook.study.sweep import collect_arms

    table = collect_arms(workspace, options.collect)
    if table.empty:
        raise InputError(f"no model of {workspace.profile.name} is done in these folders; see --status")
    _report(workspace, options, {})
    return 0


def _report(workspace: Workspace, options: argparse.Namespace, facts: dict[str, Any]) -> None:
    """The tables that there are, and AP by arm and rate."""
    from ssmbook.study.rates import pivot, read_arms

    paths = [str(path) for path in sorted(workspace.tables.glob("r*.csv"))]
    if not paths:
        print_facts(options.json, {**facts, "tables": [], "rows": 0}, "no model is done")
        return
    table = read_arms(workspace)
    print_facts(
        options.json,
        {**facts, "tables": paths, "rows": len(table)},
        pivot(table).to_string(na_rep="–"),
        *paths,
    )


def _submit(workspace: Workspace, options: argparse.Namespace) -> int:
    from ssmbook.study.profiles import PROFILES
    from ssmbook.study.slurm import submit, write_script
    from ssmbook.study.sweep import status

    profile = options.profile if options.profile in PROFILES else str(Path(options.profile).resolve())
    states = status(workspace)["state"]
    tasks = [int(number) for number in states.index[~states.isin(["done", "running"])]]
    if not tasks:
        print_facts(options.json, {"tasks": []}, "nothing to submit: all models are done or running")
        return 0
    words = [profile, "--data-dir", str(workspace.folder)] if workspace.given else [profile]
    for name in ("device", "logger"):
        words += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    script = write_script(workspace, tasks, words, options.workers)
    answer = "not submitted" if options.dry_run else submit(script)
    print_facts(
        options.json,
        {"tasks": tasks, "script": str(script), "sbatch": answer},
        f"{script}: {len(tasks)} tasks; {answer}",
    )
    return 0


def _status(workspace: Workspace, options: argparse.Namespace) -> int:
    from ssmbook.study.sweep import status

    while True:
        table = status(workspace)
        if options.json:
            print(json.dumps(json.loads(table.to_json(orient="records"))), flush=True)
        else:
            clear = "\x1b[H\x1b[2J" if options.watch and sys.stdout.isatty() else ""
            print(f"{clear}{_shown(table)}", flush=True)
        if not options.watch or not (table["state"] == "running").any():
            return 0
        time.sleep(WATCH_S)


def _shown(table: pd.DataFrame) -> str:
    """The table of the states for people, and a line that counts them."""
    rows = []
    for row in table.to_dict("records"):
        state = (
            f"running on {row['host']} since {row['since']}" if row["state"] == "running" else row["state"]
        )
        rows.append(
            {
                "unit": row["unit"],
                "state": state,
                "step": f"{row['step']}/{row['steps']}",
                "cells": f"{row['cells']}/{row['of']}",
                "AP": "–" if row["AP"] is None or row["AP"] != row["AP"] else f"{row['AP']:.1f}",
                "left": left(row["seconds_left"]),
                "error": row["error"],
            }
        )
    import pandas as pd

    counts = table["state"].value_counts()
    counted = ", ".join(f"{counts[s]} {s}" for s in ("done", "running", "waiting", "failed") if s in counts)
    return f"{pd.DataFrame(rows).to_string(index=False)}\n{counted}"


def left(seconds: float | None) -> str:
    """A time for a table: 1:02:03, or a dash where it is not known."""
    if seconds is None or seconds != seconds:
        return "–"
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def _runs(options: argparse.Namespace) -> None:
    """List training runs: whether each is finished, training (and on which machine) or stopped, its step, the AP of its
    last validation, and the time that its remaining steps take at their present speed, validations aside."""
    from ssmbook.study.workspace import book_root
    from ssmbook.training.runs import find_runs

    folder = Path(options.folder) if options.folder else book_root() / "data"
    rows = [run.row() for run in find_runs(folder)]
    if options.json or not rows:
        print_facts(options.json, rows, f"{folder}: no training runs")
        return
    import pandas as pd

    table = pd.DataFrame(rows, dtype=object)
    table["step"] = [f"{row['step']}/{row['steps']}" for row in rows]
    table["AP"] = ["–" if row["AP"] is None else f"{row['AP']:.1f}" for row in rows]
    table["left"] = [left(row["seconds_left"]) for row in rows]
    print(table[["run", "state", "step", "AP", "left"]].to_string(index=False))

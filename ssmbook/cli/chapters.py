"""Commands that run the book: reproduce, refresh."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ssmbook.cli.values import literal, print_facts

if TYPE_CHECKING:
    from ssmbook.study.workspace import Workspace


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_reproduce(commands)
    _add_refresh(commands)


def _add_reproduce(commands: Any) -> None:
    command = commands.add_parser(
        "reproduce",
        help="run the chapters and regenerate the tables and figures",
        description=_reproduce.__doc__,
        epilog="Example: ssmbook reproduce 07 08 --profile smoke -p representation traces --data-dir /tmp/smoke",
    )
    command.add_argument(
        "chapters", nargs="*", help="beginnings of chapter names, e.g. 07 08; all by default"
    )
    command.add_argument(
        "--profile",
        default="demo",
        help="smoke, demo, study, gen1-small, … or the YAML file of one (default: demo)",
    )
    command.add_argument("--data-dir", default="", help="where data and runs lie (default: data/<profile>)")
    command.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a chapter's parameter, as in papermill; may be repeated",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="list models, training runs and evaluations, and estimate their time (of a real set also memory "
        "and disk)",
    )
    command.add_argument(
        "--logger",
        default="csv",
        help="of the chapters' training runs, beside metrics.csv: tensorboard or wandb",
    )
    command.add_argument("--json", action="store_true", help="print the chapters, tables and figures as JSON")
    command.set_defaults(run=_reproduce, goes_on=True)


def _add_refresh(commands: Any) -> None:
    command = commands.add_parser(
        "refresh",
        help="for authors: renew the committed chapters' outputs",
        description=_refresh.__doc__,
        epilog="Example: ssmbook refresh 03",
    )
    command.add_argument("chapters", nargs="*", help="beginnings of chapter names; all by default")
    command.add_argument("--json", action="store_true", help="print the chapters as JSON")
    command.set_defaults(run=_refresh)


def _reproduce(options: argparse.Namespace) -> int:
    """Run the chapters with papermill in one profile. What is done already is not done again: after an
    interruption the same command goes on. Executed copies lie in <data>/book; the tables and figures are
    listed at the end."""
    from textwrap import fill

    from ssmbook.study.profiles import get_profile

    get_profile(options.profile)  # a wrong name is refused before torch is imported
    from ssmbook.study.chapters import outputs, reproduce
    from ssmbook.study.rates import read_arms
    from ssmbook.study.summary import summary
    from ssmbook.study.workspace import Workspace

    parameters = {name: literal(value) for name, value in options.parameters}
    if options.logger != "csv":
        parameters["logger"] = options.logger
    workspace = Workspace(
        options.profile,
        options.data_dir,
        representation=parameters.get("representation", ""),
        logger=options.logger,
    )
    if options.dry_run:
        return show_plan(workspace, options.json)
    copies = reproduce(options.profile, options.chapters, options.data_dir, parameters)
    made = outputs(workspace)
    answer = summary(read_arms(workspace)) if (workspace.tables / "rates.csv").exists() else ""
    print_facts(
        options.json,
        {"chapters": [*map(str, copies)], "outputs": [*map(str, made)], "answer": answer},
        "Executed chapters:",
        *(f"  {path}" for path in copies),
        "Tables and figures:",
        *(f"  {path}" for path in made),
        *([fill(answer, 100)] if answer else []),
    )
    return 0


def show_plan(workspace: Workspace, as_json: bool) -> int:
    """Print what a profile still has to compute: measured here, or of a real set computed for 1, 8 and 64 nodes."""
    import json

    if workspace.profile.simulation is None:
        from ssmbook.study.forecast import forecast

        facts, lines = forecast(workspace).report()
        print_facts(as_json, facts, *lines)
        return 0
    from ssmbook.study.plan import plan_study

    table = plan_study(workspace)
    total = table["minutes"].sum()
    print_facts(
        as_json,
        json.loads(table.to_json(orient="records")),
        table.round(1).to_string(index=False),
        f"About {total:.0f} min for training and evaluation on this machine, as fast as it was just now.",
    )
    return 0


def _refresh(options: argparse.Namespace) -> None:
    """Execute the committed chapters in place, in the smoke profile."""
    from ssmbook.study.chapters import refresh

    paths = [str(path) for path in refresh(options.chapters)]
    print_facts(options.json, paths, *paths)

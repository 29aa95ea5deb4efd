"""Commands that train a detector and score it: train, evaluate."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmbook.cli.values import check_paths, listed, print_facts
from ssmbook.detector.recurrences.registry import RECURRENCES
from ssmbook.errors import InputError
from ssmbook.events.representations import REPRESENTATIONS, get_representation
from ssmbook.processes import is_first

if TYPE_CHECKING:
    from ssmbook.training.settings import Training


def add(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_train(commands)
    _add_evaluate(commands)


_SETTINGS: tuple[tuple[str, type, str], ...] = (
    ("steps", int, "optimiser steps"),
    ("batch_size", int, "chunks of one step, over all devices; the learning rate follows as √batch"),
    ("sequence_length", int, "windows of a chunk"),
    ("burn_in", int, "a random chunk starts after 0 to BURN_IN windows of its past, run without gradient"),
    (
        "mixed_rates",
        str,
        "true or sliding: steps of 5 to 200 Hz at random, the time scale follows each; windows as long as the step, or "
        "of 50 ms; empty: steps of 50 ms",
    ),
    ("accumulate", int, "batches, one after another, that make a step"),
    ("learning_rate", float, "the maximum of the cycle"),
    ("precision", str, "fp32 (without TF32), bf16 or fp16"),
    ("mask_ratio", float, "share of the tokens that a learnt vector replaces in training"),
    ("validate_every", int, "steps between validations"),
    (
        "patience",
        int,
        "stop after this number of validations without a better AP, 0: never; a run that it stopped goes on with more",
    ),
    ("workers", int, "processes that read"),
    ("seed", int, "of weights, order and augmentation"),
)


def _add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train a detector, on one device or many; the same command goes on after a stop",
        description=_train.__doc__,
        epilog="Example: ssmbook train --profile gen1-small --data-dir /data/gen1 --devices 4 --precision bf16",
    )
    add = command.add_argument
    add(
        "--profile",
        default="demo",
        help="data, network and hyper-parameters: demo, gen1-small, … (default: demo)",
    )
    add("--data-dir", default="", help="where data and runs lie (default: data/<profile>)")
    add(
        "--recurrence",
        default="",
        help=f"{listed(RECURRENCES)}; s5-held and s5-h2 are S5 with a held mask and with the "
        "H2 norm; one of your own where SSMBOOK_PLUGINS names its file (default: s5, or that of --init)",
    )
    add(
        "--init",
        default="",
        metavar="CKPT",
        help="fine-tune this checkpoint, ours or released; new class layer",
    )
    add(
        "--freeze",
        choices=("backbone",),
        default=None,
        help="with --init: the backbone keeps its weights; neck and head alone learn",
    )
    add(
        "--extend",
        action="store_true",
        help="go on with a run, ended or not, by --steps more in all, another --learning-rate, or both; from there on "
        "the rate is that of one cycle over all the steps",
    )
    add("--sensor", default="", help="another sensor than the profile's: the path of its YAML file")
    add(
        "--representation",
        default="",
        help=f"{listed(REPRESENTATIONS)} (default: the profile's)",
    )
    add("--name", default="", help="of the run's folder under runs/ (default: from the options)")
    add("--accelerator", default="auto", help="auto, cpu or gpu (default: auto)")
    add("--devices", type=int, default=1, help="processes on each node, a device each (default: 1)")
    add("--nodes", type=int, default=1, help="machines, each started by srun or torchrun (default: 1)")
    add("--logger", default="csv", help="beside metrics.csv: tensorboard or wandb")
    add(
        "--checkpointing",
        action="store_true",
        default=None,
        help="compute activations again for the gradients: half the memory, about a fifth more time",
    )
    for name, kind, words in _SETTINGS:
        add(f"--{name.replace('_', '-')}", type=kind, default=None, help=f"{words} (default: the profile's)")
    add("--json", action="store_true", help="print the checkpoint, the steps and AP as JSON")
    command.set_defaults(run=_train, goes_on=True)


def _add_evaluate(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="average precision of a checkpoint, ours or released, on a preprocessed set",
        description=_evaluate.__doc__,
        epilog="Example: ssmbook evaluate model.ckpt --data /data/gen1 --split val --save-boxes boxes --json",
    )
    add = command.add_argument
    add("checkpoint", help="ours (model.ckpt, best.ckpt, last.ckpt), S5-ViT's or RVT's")
    add("--data", required=True, help="the preprocessed set, with train/, val/ and test/")
    add("--preset", default="", help="network of a released checkpoint (default: found from its weights)")
    add("--carry", default="", help="exact or published (default: both for state-space models, else exact)")
    add("--split", default="test", help="test, val or train (default: test)")
    add(
        "--score",
        default="",
        help="what ranks detections: product (objectness times class score) or class, as published"
        " (default: product for our own checkpoints, class for released ones)",
    )
    add("--sensor", default="", help="gen1, gen4 or a YAML file (default: the checkpoint's)")
    add("--sequence-length", type=int, default=0, help="windows of a chunk (default: as in training)")
    add("--batch-size", type=int, default=8, help="sequences side by side (default: 8)")
    add(
        "--follow",
        nargs="?",
        type=float,
        const=True,
        default=False,
        metavar="MS",
        help="the time scale follows the set's windows and gaps, relative to one every MS ms in training "
        "(default: each step counts as one of training; MS: as the checkpoint states)",
    )
    add("--device", default="", help="cpu, cuda, … (default: a GPU where there is one)")
    add("--precision", default="fp32", help="fp32, as published, bf16 or fp16 (default: fp32)")
    add("--save-boxes", default="", metavar="DIR", help="write detections as Prophesee npy and COCO json")
    add("--json", action="store_true", help="print the table as JSON: a row for each carry")
    command.set_defaults(run=_evaluate)


def _train(options: argparse.Namespace) -> None:
    """Train a profile's detector. Stopped by a signal or killed, the same command goes on, and on a CPU it ends with
    the same weights bit for bit. Under srun or torchrun, --devices and --nodes say how many processes train together;
    the batch is shared by them, so that the result does not depend on their number. The run lies in
    <data>/runs/<name>: model.ckpt, best.ckpt, last.ckpt, metrics.csv and panels/."""
    from ssmbook.files import existing_folder
    from ssmbook.study.profiles import get_profile

    profile = get_profile(options.profile)  # a wrong name is refused before torch is imported
    if options.recurrence:
        profile.variant(options.recurrence)
    if options.representation:
        get_representation(options.representation)
    check_paths(options.init or None)
    if options.freeze and not options.init:
        raise InputError("--freeze needs --init CKPT: a backbone that has learnt nothing is of no use")

    from ssmbook.dataset import describe, find_sequences
    from ssmbook.detector.checkpoint import recurrence_of
    from ssmbook.study.workspace import Workspace
    from ssmbook.training.run_folder import existing_run
    from ssmbook.training.runs import describe_run

    model = options.recurrence or (recurrence_of(options.init) if options.init else "s5")
    variant = profile.variant(model)
    own = replace(profile.training, **variant.training)
    changed = _changed(options, own)
    name = options.name or _run_name(model, options, changed, own)
    if options.data_dir:
        existing_folder(options.data_dir, "data and runs")
    # What is asked for counts before what the variant has of its own.
    variant = replace(variant, training={**variant.training, **changed})
    profile = replace(
        profile,
        training=replace(profile.training, **changed),
        own_variants={**profile.own_variants, model: variant},
    )
    if options.sensor:
        profile = replace(profile, sensor=options.sensor)
    workspace = Workspace(
        profile, options.data_dir, representation=options.representation, logger=options.logger
    )
    if options.extend:
        existing_run(workspace.folder / "runs" / name)
    sets = workspace.preprocessed()
    if is_first():
        print(f"{sets / 'train'}: {describe(find_sequences(sets / 'train'))}", file=sys.stderr)
    path = workspace.train(
        model,
        options.accelerator,
        options.devices,
        options.nodes,
        options.init,
        name,
        "extend" if options.extend else "refuse" if options.name else "aside",
    )
    if not is_first():
        return
    run = describe_run(path.parent)
    print_facts(options.json, {"checkpoint": str(path), **(run.row() if run else {})}, str(path))


def _changed(options: argparse.Namespace, own: Training) -> dict[str, Any]:
    """The settings that the command line gives; the learning rate follows the batch where it is not among them."""
    names = [*(name for name, *_ in _SETTINGS), "checkpointing", "freeze"]
    changed = {name: value for name in names if (value := getattr(options, name)) is not None}
    if "batch_size" in changed:
        followed = own.learning_rate * (changed["batch_size"] / own.batch_size) ** 0.5
        changed.setdefault("learning_rate", followed)
    return changed


def _run_name(model: str, options: argparse.Namespace, changed: dict[str, Any], own: Training) -> str:
    """A run's folder: the variant's, as in the study, and what decides the weights and differs from the profile.

    An extension is of the run without what it changes.
    """
    from ssmbook.training.run_folder import EXTENDED, FREE

    left_out = FREE | EXTENDED if options.extend else FREE
    shown = [
        f"{name}={value}"
        for name, value in changed.items()
        if getattr(options, name) is not None and name not in left_out and value != getattr(own, name)
    ]
    if options.init:  # a run's model.ckpt goes by the run's name
        path = Path(options.init).absolute()
        shown.append(f"init={path.parent.name if path.stem in ('model', 'best', 'last') else path.stem}")
    shown += [f"{n}={Path(v).stem}" for n in ("sensor", "representation") if (v := getattr(options, n))]
    return "_".join([model, *shown])


def _evaluate(options: argparse.Namespace) -> None:
    """Average precision × 100 by the Prophesee protocol. The mAP that is published for S5-ViT was measured with
    chunks that each start from zero and detections ranked by class score alone: expect it in the row "published",
    "class". Our own checkpoints are ranked by objectness times class score, "product", which stands beside it. In the
    row "exact" the state is carried through each recording. The set's grid (windows of 50 ms, one every 50 ms, 125 ms,
    …) is found and shown; with --follow, the time scale follows it."""
    check_paths(options.checkpoint, options.data)
    from ssmbook.evaluation.box_files import save_boxes
    from ssmbook.study.checkpoints import describe_steps, evaluate_checkpoint, score_table

    split = Path(options.data) / options.split
    print(describe_steps(options.checkpoint, split, options.follow), file=sys.stderr)
    results = evaluate_checkpoint(
        options.checkpoint,
        options.data,
        preset=options.preset,
        carry=options.carry,
        split=options.split,
        score=options.score,
        sensor=options.sensor,
        sequence_length=options.sequence_length,
        batch_size=options.batch_size,
        follow=options.follow,
        device=options.device,
        precision=options.precision,
    )
    table = score_table(results)
    table.index.name = "carry"
    rows = json.loads(table.reset_index().to_json(orient="records"))  # NaN becomes null
    print_facts(options.json, rows, table.round(2).to_string(na_rep="–"))
    for carry, result in results.items():
        if options.save_boxes:
            save_boxes(result, Path(options.save_boxes) / carry)
            print(Path(options.save_boxes) / carry, file=sys.stderr if options.json else None)

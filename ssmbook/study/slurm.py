"""A sweep as a SLURM job array: a script whose tasks each run ``ssmbook sweep PROFILE --task I``."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from ssmbook.errors import InputError, one_line
from ssmbook.files import atomic_write
from ssmbook.study.workspace import Workspace

# Partition, account, time and whatever else a site asks for come from sbatch's own variables: SBATCH_PARTITION, …
SCRIPT = """#!/usr/bin/env bash
# Written by `ssmbook sweep --executor slurm`: one task for each model that is missing. A task that is stopped saves its
# state; the same command submits what is missing again. sbatch reads further options from SBATCH_PARTITION,
# SBATCH_ACCOUNT, SBATCH_TIMELIMIT, …
#SBATCH --job-name={name}
#SBATCH --array={array}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
{gpus}#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
#SBATCH --output="{log}"
set -euo pipefail
export OMP_NUM_THREADS=1
cd {cwd}
exec {command} --task "$SLURM_ARRAY_TASK_ID"
"""


def write_script(
    workspace: Workspace, tasks: Iterable[int], options: Sequence[str], at_once: int = 0
) -> Path:
    """Write ``<data>/sweep/<profile>.sh``, which runs from the present folder.

    Args:
        workspace: of the profile.
        tasks: numbers of its models, see ``run_task``.
        options: the words after ``ssmbook sweep``, without ``--task``.
        at_once: how many tasks may run at a time; 0: all.
    """
    folder, profile = workspace.folder / "sweep", workspace.profile
    folder.mkdir(parents=True, exist_ok=True)
    limit = f"%{at_once}" if at_once else ""
    text = SCRIPT.format(
        name=f"ssmbook-{profile.name}",
        array=f"{array_of(tasks)}{limit}",
        cpus=1 + profile.training.workers,
        gpus="" if profile.simulation is not None else "#SBATCH --gpus-per-task=1\n",
        log=folder / "%A_%a.log",
        cwd=shlex.quote(str(Path.cwd())),
        command=shlex.join([sys.executable, "-m", "ssmbook", "sweep", *options]),
    )
    with atomic_write(path := folder / f"{profile.name}.sh") as file:
        file.write(text.encode())
    return path


def submit(script: Path) -> str:
    """Hand a script to ``sbatch``; returns what it answers.

    Raises:
        InputError: there is no ``sbatch``, or it refuses.
    """
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise InputError(
            f"there is no sbatch on this machine; the script is {script}: submit it where there is"
        )
    done = subprocess.run([sbatch, str(script)], capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"sbatch refused {script}: {one_line(done.stderr.strip(), 300)}")
    return done.stdout.strip()


def array_of(tasks: Iterable[int]) -> str:
    """Numbers as SLURM writes them: 0, 1, 2, 5 → ``0-2,5``."""
    parts = []
    for _, run in groupby(enumerate(sorted(tasks)), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        parts.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return ",".join(parts)

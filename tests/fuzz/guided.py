"""Coverage-guided: libFuzzer keeps and changes what reaches new branches (extra ``fuzz``: atheris).

Nothing is compiled in its process, so that the branches of the kernels count and an index out of bounds raises. It is a
process of its own, which the library is imported into with its branches counted, and which libFuzzer ends.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
_LONGEST = 1 << 16  # bytes of an input
_SECONDS, _MEGABYTES = 20, 3000  # for an input, which is slower than where it is compiled


@dataclass
class Guided:
    """What came of the inputs of one format."""

    format: str
    inputs: int = 0
    seeds: int = 0  # branches that whole files reach
    branches: int = 0  # that were reached in the end
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def row(self):
        counts = f"{self.inputs:,} | {self.seeds:,} | {self.branches:,} | {len(self.faults):,}"
        return f"| {self.format} | {counts} | {self.seconds:.0f} |"


def fuzz_guided(format, inputs, seed=0):
    """Read ``inputs`` files that libFuzzer makes of whole ones."""
    found = Guided(format)
    places = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": places}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        command = [sys.executable, "-m", "fuzz.guided", format, folder, str(inputs), str(seed)]
        run = subprocess.run(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        faults = Path(folder) / "faults"
        found.faults = faults.read_text().splitlines() if faults.exists() else []
        for path in Path(folder).glob("*-*"):  # what ended it: crash-…, oom-…, timeout-…
            found.faults.append(f"the bytes of {shutil.copy(path, Path.cwd())}")
    reached = [int(count) for count in re.findall(r"\b(?:INITED|DONE) +cov: (\d+)", run.stdout)]
    done = re.search(r"Done (\d+) runs in (\d+) second", run.stdout)
    if done is None or run.returncode:
        found.faults.append(f"it ended with {run.returncode}: {run.stdout[-1500:]}")
    else:
        found.inputs, found.seconds = int(done[1]), float(done[2])
        found.seeds, found.branches = reached[0], reached[-1]
    return found


def main():
    import atheris

    format, folder, inputs, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    corpus = folder / "corpus"
    corpus.mkdir()
    with atheris.instrument_imports(include=["ssmbook"]):
        from fuzz.mutate import ending, seeds
        from fuzz.run import outcome

        path = folder / f"input{ending(format)}"
        for number, content in enumerate(seeds(format)):
            (corpus / str(number)).write_bytes(content)
            path.write_bytes(content)
            outcome(path, content, format)  # imports what only reading does

    def read(data):
        path.write_bytes(data)
        words = outcome(path, data, format)
        if words.startswith("fault"):
            with open(folder / "faults", "a", encoding="utf-8") as file:
                file.write(f"{words} | {data[:200]!r}".replace("\n", " | ")[:2000] + "\n")

    limits = {"runs": inputs, "max_len": _LONGEST, "timeout": _SECONDS, "rss_limit_mb": _MEGABYTES}
    limits |= {"seed": seed + 1, "len_control": 0, "artifact_prefix": f"{folder}/"}
    atheris.Setup([sys.argv[0], str(corpus), *(f"-{name}={value}" for name, value in limits.items())], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

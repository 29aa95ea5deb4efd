"""``python -m tests.fuzz FORMAT --inputs N``"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reports import put

from fuzz.guided import fuzz_guided
from fuzz.mutate import FORMATS, mutated
from fuzz.run import fuzz


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("format", choices=(*FORMATS, "all"))
    parser.add_argument("--inputs", type=int, default=2000, help="mutated files a format (default: 2000)")
    parser.add_argument(
        "--guided",
        action="store_true",
        help="inputs that libFuzzer makes, which keeps what reaches new branches",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    parser.add_argument("--only", type=int, help="write the bytes of this input to a file, and read nothing")
    parser.add_argument("--out", default="input", help="that file (default: input)")
    parser.add_argument(
        "--report", type=Path, help="also write the table into this file, between its markers"
    )
    options = parser.parse_args()
    if options.only is not None:
        Path(options.out).write_bytes(mutated(options.format, options.seed, options.only))
        return 0
    columns = "branches of whole files | branches" if options.guided else "gave events | refused"
    table = [f"| format | inputs | {columns} | faults | s |", "|---|---|---|---|---|---|"]
    print("\n".join(table))
    failed = False
    for format in FORMATS if options.format == "all" else (options.format,):
        found = (fuzz_guided if options.guided else fuzz)(format, options.inputs, options.seed)
        table.append(found.row())
        print(table[-1], flush=True)
        for fault in found.faults[:5]:
            print(f"    {fault}", file=sys.stderr)
        failed = failed or bool(found.faults)
    if options.report:
        put(options.report, "guided" if options.guided else "fuzz", table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

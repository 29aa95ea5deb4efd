"""Writes the answer of the study's committed tables between two markers: README.md has its gist::

python theme/answer.py            # --check: exit code 1 where they say something else
"""

import sys
import textwrap
from pathlib import Path

from ssmbook.study.rates import REST_CSV, read_arms
from ssmbook.study.summary import summary
from ssmbook.study.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
README, CONCLUSION = ROOT / "README.md", ROOT / "pages" / "conclusion.md"
START, END = "<!-- answer: begin -->", "<!-- answer: end -->"


def filled(text: str, answer: str) -> str:
    """A text with the answer between its markers."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{textwrap.fill(answer, 120)}\n{END}{after}"


def main() -> int:
    study = Workspace("study")
    rates, rest = read_arms(study), read_arms(study, REST_CSV)
    gist = rates[rates["model"].isin(("s5-selective", "convlstm")) & (rates["mode"] == "sliding")]
    answers = {README: summary(gist, rest), CONCLUSION: summary(rates, rest)}
    stale = {
        path: text
        for path, text in answers.items()
        if filled(path.read_text(encoding="utf-8"), text) != path.read_text(encoding="utf-8")
    }
    for path, answer in stale.items():
        if "--check" in sys.argv:
            print(f"{path}: does not say what the tables do; run python theme/answer.py", file=sys.stderr)
        else:
            path.write_text(filled(path.read_text(encoding="utf-8"), answer))
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())

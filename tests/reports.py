"""Tables of long commands in tests/README.md: rows that were not made this time stay."""

from pathlib import Path


def put(path: Path, name: str, table: list[str]) -> None:
    """Put a table, its two lines of head first, between the markers of that name; a row's first cell names it."""
    before, mark, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name}: begin -->")
    old, end, after = rest.partition(f"<!-- {name}: end -->")
    if not mark or not end:
        raise SystemExit(
            f"{path} has no place for the table: <!-- {name}: begin --> and <!-- {name}: end -->"
        )
    head, new = table[:2], {row.split(" | ")[0]: row for row in table[2:]}
    rows = {row.split(" | ")[0]: row for row in old.strip().splitlines()[2:]} | new
    path.write_text(
        f"{before}{mark}\n" + "\n".join([*head, *rows.values()]) + f"\n{end}{after}", encoding="utf-8"
    )
